"""Tests of the project's law 1 (audit rows) and law 8 (no PHI in logs) in the API."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import httpx
import pytest

from app.session_notes.model import NoteKind
from app.transcripts.model import Speaker
from tests.api import documents
from tests.api.drafting import store_suggestions
from tests.api.harness import (
    ADDRESS,
    LIVEKIT_SECRET,
    ApiHarness,
    Case,
    Person,
    consent_input,
    consultation_input,
    ids_of,
)
from tests.api.noting import store_note
from tests.api.shown import named_in, shown_in
from tests.api.signing import sign
from tests.api.speaking import store_transcript
from tests.api.writing_insights import store_insights

pytestmark = pytest.mark.anyio

CONSULTATION_FIELDS = [
    "conductedBy.id",
    "consents.decision",
    "consents.id",
    "consents.participant.id",
    "consents.recordedAt",
    "consents.recordedBy.id",
    "consents.representative.name",
    "consents.representative.relationship",
    "consents.source",
    "consents.textLanguage",
    "consents.textSha256",
    "consents.textVersion",
    "createdAt",
    "doctor.id",
    "externalId",
    "id",
    "isTranscribed",
    "kind",
    "label",
    "language",
    "participants.guestRole",
    "participants.hasConsented",
    "participants.id",
    "participants.joinedAt",
    "participants.kind",
    "participants.mustConsent",
    "patient.externalId",
    "patient.id",
    "patientExternalId",
    "recordsAutomatically",
    "recordsSpeakersSeparately",
    "roomName",
    "scheduledAt",
    "sensitivity",
]
CONSENT_FIELDS = [
    "decision",
    "id",
    "participant.id",
    "recordedAt",
    "recordedBy.id",
    "representative.name",
    "representative.relationship",
    "source",
    "textLanguage",
    "textSha256",
    "textVersion",
]
RECORDING_FIELDS = [
    "consultation.externalId",
    "consultation.id",
    "consultation.kind",
    "consultation.scheduledAt",
    "consultation.sensitivity",
    "createdAt",
    "deletion.id",
    "deletion.status",
    "durationSeconds",
    "egressId",
    "endedAt",
    "id",
    "insights.attempt",
    "insights.dismissedCount",
    "insights.droppedCount",
    "insights.isRefreshed",
    "insights.partCount",
    "insights.partsDone",
    "insights.problem.code",
    "insights.problem.message",
    "insights.status",
    "insights.writtenAt",
    "isHeld",
    "isInterrupted",
    "isTruncated",
    "mediaFiles.durationSeconds",
    "mediaFiles.id",
    "mediaFiles.isInterrupted",
    "mediaFiles.isTruncated",
    "mediaFiles.kind",
    "mediaFiles.participant.guestRole",
    "mediaFiles.participant.id",
    "mediaFiles.participant.kind",
    "mediaFiles.problem.code",
    "mediaFiles.problem.message",
    "mediaFiles.sha256",
    "mediaFiles.sizeBytes",
    "mediaFiles.startedAt",
    "mediaFiles.status",
    "mediaFiles.trackSid",
    "problem.code",
    "problem.message",
    "retentionEndsAt",
    "roomName",
    "roomSid",
    "sha256",
    "sizeBytes",
    "source",
    "startedAt",
    "status",
    "topics",
    "transcription.attempt",
    "transcription.chunkCount",
    "transcription.chunksDone",
    "transcription.isRetried",
    "transcription.languageCode",
    "transcription.problem.code",
    "transcription.problem.message",
    "transcription.status",
    "transcription.unintelligibleCount",
    "transcription.unusedTrackCount",
    "updatedAt",
]
NOTE_FIELDS = [
    "consultation.externalId",
    "consultation.id",
    "consultation.patient.externalId",
    "consultation.patient.id",
    "id",
    "isIncomplete",
    "kind",
    "lines.author.id",
    "lines.changedAt",
    "lines.changedBy.id",
    "lines.id",
    "lines.recording.id",
    "lines.startSeconds",
    "lines.text",
    "lines.version",
    "lines.writtenAt",
]
TRANSCRIPT_FIELDS = [
    "corrections.correctedAt",
    "corrections.correctedBy.id",
    "corrections.speaker",
    "corrections.text",
    "corrections.turnNumber",
    "fullText",
    "id",
    "languageCode",
    "recording.consultation.externalId",
    "recording.consultation.id",
    "recording.consultation.patient.externalId",
    "recording.consultation.patient.id",
    "recording.id",
    "turns.confidence",
    "turns.endSeconds",
    "turns.isUncertain",
    "turns.isUnintelligible",
    "turns.number",
    "turns.originalText",
    "turns.participant.guestRole",
    "turns.participant.id",
    "turns.participant.kind",
    "turns.speaker",
    "turns.startSeconds",
    "turns.text",
    "wordCount",
]
CITED = ("citations.endSeconds", "citations.quote", "citations.startSeconds", "citations.turnNumber", "flags")
INSIGHTS_FIELDS = sorted(
    [
        *(f"actionItems.{name}" for name in (*CITED, "number", "text", "when", "who")),
        *(f"chapters.{name}" for name in (*CITED, "number", "startSeconds", "title")),
        *(
            f"highlights.{name}"
            for name in (*CITED, "endSeconds", "number", "reason", "startSeconds", "text")
        ),
        *(f"keyPoints.{name}" for name in (*CITED, "number", "text")),
        *(f"noteLines.{name}" for name in (*CITED, "number", "section", "text")),
        *(f"summary.{name}" for name in (*CITED, "number", "text")),
        *(f"topics.{name}" for name in (*CITED, "name", "number")),
        *(f"uncitedTurns.{name}" for name in ("kinds", "quotes", "turnNumber")),
        "coverage.coveredSeconds",
        "coverage.isInterrupted",
        "coverage.isTruncated",
        "coverage.unintelligibleCount",
        "coverage.unknownSpeakerCount",
        "coverage.unusedTrackCount",
        "dismissedCount",
        "droppedCount",
        "generationNumber",
        "id",
        "isRefreshed",
        "isStale",
        "languageCode",
        "recording.consultation.externalId",
        "recording.consultation.id",
        "recording.consultation.patient.externalId",
        "recording.consultation.patient.id",
        "recording.id",
        "writer.model",
        "writer.vendor",
        "writtenAt",
    ]
)
ANSWER_FIELDS = sorted(
    [
        *(f"lines.{name}" for name in (*CITED, "text")),
        *(name for name in INSIGHTS_FIELDS if name.startswith(("coverage.", "writer."))),
        "droppedCount",
        "message",
        "status",
    ]
)
HIT_FIELDS = [
    "endSeconds",
    "isUncertain",
    "participant.guestRole",
    "participant.id",
    "participant.kind",
    "recording.consultation.id",
    "recording.consultation.patient.externalId",
    "recording.consultation.patient.id",
    "recording.consultation.scheduledAt",
    "recording.id",
    "snippet.isMatch",
    "snippet.text",
    "speaker",
    "startSeconds",
    "turnNumber",
]
VIEWER_FIELDS = ["assuranceLevel", "patient.externalId", "patient.id", "role", "user.id"]
ROOM_FIELDS = [
    "consultation.externalId",
    "consultation.id",
    "createdAt",
    "name",
    "participantCount",
    "sid",
]
PARTICIPANT_FIELDS = [
    "guestRole",
    "hasConsented",
    "id",
    "joinToken.expiresAt",
    "joinToken.expiresInSeconds",
    "joinToken.roomName",
    "joinToken.token",
    "joinToken.url",
    "joinedAt",
    "kind",
    "mustConsent",
]


@dataclass(frozen=True)
class Read:
    """A root field that returns PHI, and the expected content of the one audit row that it writes."""

    document: str
    action: str
    operation: str
    entity_type: str
    fields: list[str]
    unseen: tuple[str, ...] = ()
    """The types of the entities that the audit row names although the answer does not show their ids."""

    def besides(self, case: Case, recording: str, transcript: str) -> dict[str, set[str]]:
        ids = {
            "consultation": {case.id},
            "participant": {case.participant("DOCTOR"), case.participant("PATIENT")},
            "recording": {recording},
            "room": {case.id},
            "transcript": {transcript},
        }
        return {entity_type: ids[entity_type] for entity_type in self.unseen}


DRAFT_FIELDS = [
    "coverage.coveredSeconds",
    "coverage.isInterrupted",
    "coverage.isTruncated",
    "coverage.unintelligibleCount",
    "coverage.unknownSpeakerCount",
    "coverage.unusedTrackCount",
    "hasOpenFlags",
    "id",
    "isSigned",
    "isStale",
    "recording.consultation.id",
    "recording.consultation.patient.externalId",
    "recording.consultation.patient.id",
    "recording.id",
    "sections.isBeingWritten",
    "sections.lines.author",
    "sections.lines.citations.endSeconds",
    "sections.lines.citations.quote",
    "sections.lines.citations.startSeconds",
    "sections.lines.citations.turnNumber",
    "sections.lines.flags.flag",
    "sections.lines.flags.resolution",
    "sections.lines.number",
    "sections.lines.text",
    "sections.problem.code",
    "sections.problem.message",
    "sections.section",
    "uncitedTurns.kinds",
    "uncitedTurns.quotes",
    "uncitedTurns.turnNumber",
    "version",
    "writer.model",
    "writer.vendor",
]
_SIGNED_LINE_FIELDS = [
    "isWrittenByModel",
    "quotes.endSeconds",
    "quotes.quote",
    "quotes.speaker",
    "quotes.startSeconds",
    "quotes.turnNumber",
    "text",
]
SIGNED_NOTE_FIELDS = [
    "id",
    "isDestroyed",
    "recording.consultation.id",
    "recording.consultation.patient.id",
    "recording.id",
    "retentionEndsAt",
    "signedAt",
    "versions.addendum",
    *[f"versions.assessment.{one}" for one in _SIGNED_LINE_FIELDS],
    "versions.json",
    "versions.number",
    *[f"versions.objective.{one}" for one in _SIGNED_LINE_FIELDS],
    *[f"versions.plan.{one}" for one in _SIGNED_LINE_FIELDS],
    "versions.problem.code",
    "versions.problem.message",
    "versions.quoteCount",
    "versions.sha256",
    "versions.signedAt",
    *[f"versions.subjective.{one}" for one in _SIGNED_LINE_FIELDS],
]
OF_DRAFTS = ("noteDraft", "editNote", "keepNoteFlag", "regenerateSection")
READS = {
    "viewer": Read(documents.VIEWER, "viewer.read", "R", "patient", VIEWER_FIELDS),
    "consultation": Read(
        documents.CONSULTATION, "consultation.read", "R", "consultation", CONSULTATION_FIELDS
    ),
    "consultations": Read(
        documents.CONSULTATIONS, "consultation.list", "R", "consultation", CONSULTATION_FIELDS
    ),
    "registerConsultation": Read(
        documents.REGISTER, "consultation.register", "C", "consultation", CONSULTATION_FIELDS
    ),
    "recording": Read(documents.RECORDING, "recording.read", "R", "recording", RECORDING_FIELDS),
    "recordings": Read(documents.RECORDINGS, "recording.list", "R", "recording", RECORDING_FIELDS),
    "stopRecording": Read(documents.STOP, "recording.stop", "U", "recording", RECORDING_FIELDS),
    "activeRooms": Read(documents.ACTIVE_ROOMS, "rooms.list", "R", "room", ROOM_FIELDS, ("room",)),
    "recordConsent": Read(documents.RECORD_CONSENT, "consent.give", "C", "consent", CONSENT_FIELDS),
    "withdrawConsent": Read(documents.WITHDRAW_CONSENT, "consent.withdraw", "C", "consent", CONSENT_FIELDS),
    "joinConsultation": Read(documents.JOIN, "consultation.join", "E", "participant", PARTICIPANT_FIELDS),
    "issueDownloadUrl": Read(
        documents.ISSUE_URL, "recording.issue_url", "R", "recording", ["object"], ("recording",)
    ),
    "transcript": Read(documents.TRANSCRIPT, "transcript.read", "R", "recording", TRANSCRIPT_FIELDS),
    "transcriptSearch": Read(documents.TRANSCRIPT_SEARCH, "transcript.search", "R", "recording", HIT_FIELDS),
    "correctTranscript": Read(
        documents.CORRECT_TRANSCRIPT, "transcript.correct", "U", "recording", TRANSCRIPT_FIELDS
    ),
    "attributeTurn": Read(
        documents.ATTRIBUTE_TURN, "transcript.correct", "U", "recording", TRANSCRIPT_FIELDS, ("participant",)
    ),
    "sessionNotes": Read(documents.SESSION_NOTES, "session_note.read", "R", "consultation", NOTE_FIELDS),
    "writeSessionNote": Read(
        documents.WRITE_SESSION_NOTE, "session_note.write", "C", "consultation", NOTE_FIELDS
    ),
    "editSessionNote": Read(
        documents.EDIT_SESSION_NOTE, "session_note.edit", "U", "consultation", NOTE_FIELDS
    ),
    "psychotherapyNotes": Read(
        documents.PSYCHOTHERAPY_NOTES, "psychotherapy_note.read", "R", "consultation", NOTE_FIELDS
    ),
    "writePsychotherapyNote": Read(
        documents.WRITE_PSYCHOTHERAPY_NOTE, "psychotherapy_note.write", "C", "consultation", NOTE_FIELDS
    ),
    "editPsychotherapyNote": Read(
        documents.EDIT_PSYCHOTHERAPY_NOTE, "psychotherapy_note.edit", "U", "consultation", NOTE_FIELDS
    ),
    "noteDraft": Read(documents.NOTE_DRAFT, "note_draft.read", "R", "recording", DRAFT_FIELDS),
    "editNote": Read(documents.EDIT_NOTE, "note_draft.edit", "U", "recording", DRAFT_FIELDS),
    "keepNoteFlag": Read(documents.KEEP_NOTE_FLAG, "note_draft.keep_flag", "U", "recording", DRAFT_FIELDS),
    "regenerateSection": Read(
        documents.REGENERATE_SECTION, "note_draft.rewrite", "U", "recording", DRAFT_FIELDS
    ),
    "signedNotes": Read(documents.SIGNED_NOTES, "note.read", "R", "signed_note", SIGNED_NOTE_FIELDS),
    "retryTranscription": Read(
        documents.RETRY_TRANSCRIPTION, "transcript.retry", "U", "recording", RECORDING_FIELDS
    ),
    "insights": Read(documents.INSIGHTS, "insights.read", "R", "recording", INSIGHTS_FIELDS),
    "dismissInsight": Read(documents.DISMISS_INSIGHT, "insights.dismiss", "U", "recording", INSIGHTS_FIELDS),
    "retryInsights": Read(documents.RETRY_INSIGHTS, "insights.retry", "U", "recording", RECORDING_FIELDS),
    "refreshInsights": Read(
        documents.REFRESH_INSIGHTS, "insights.refresh", "U", "recording", RECORDING_FIELDS
    ),
    "askTranscript": Read(
        documents.ASK_TRANSCRIPT,
        "transcript.ask",
        "R",
        "recording",
        ANSWER_FIELDS,
        ("recording", "transcript"),
    ),
    "editConsultationLabel": Read(
        documents.SET_LABEL, "consultation.set_label", "U", "consultation", CONSULTATION_FIELDS
    ),
    "switchTranscription": Read(
        documents.SWITCH_TRANSCRIPTION,
        "consultation.switch_transcription",
        "U",
        "consultation",
        CONSULTATION_FIELDS,
    ),
    "issueSubtitleUrls": Read(
        documents.ISSUE_SUBTITLE_URLS, "transcript.issue_url", "R", "recording", ["text"], ("recording",)
    ),
}

FAIL_TRANSCRIPTION: LiteralString = (
    "update resguardo.transcripts set status = 'FAILED', error = 'speech_busy' where recording_id = %s"
)

INSIGHT_STATES: dict[str, LiteralString] = {
    "insights": "select %s",
    "dismissInsight": "select %s",
    "retryInsights": (
        "update resguardo.insights set status = 'FAILED', error = 'insights_unusable' where recording_id = %s"
    ),
    "refreshInsights": "update resguardo.insights set status = 'STALE' where recording_id = %s",
}
"""The root fields that need insights, each with the change of the insights that it needs."""


@pytest.mark.parametrize("field", READS)
async def test_law_1_read_writes_one_complete_audit_row(harness: ApiHarness, field: str) -> None:
    case, read = await harness.case(), READS[field]
    await case.consent()
    recording = str(await harness.recording(case))
    doctor, patient = (UUID(case.participant(kind)) for kind in ("DOCTOR", "PATIENT"))
    transcript = await store_transcript(harness, UUID(recording), microphones=[doctor, patient, doctor])
    if field in OF_DRAFTS:
        await store_suggestions(harness, UUID(recording), transcript)
    if field in INSIGHT_STATES:
        await store_insights(harness, UUID(recording), transcript)
        await harness.rows(INSIGHT_STATES[field], recording)
    if field == "retryTranscription":
        await harness.rows(FAIL_TRANSCRIPTION, recording)
    if (
        field == "editConsultationLabel"
    ):  # the first label makes a data key, which has an audit row of its own
        await case.doctor.ask(documents.SET_LABEL, consultationId=case.id, label="Knee")
    note = await _store_note(harness, case, field, UUID(recording))
    await case.doctor.ask(documents.JOIN, consultationId=case.id)
    if field == "activeRooms":
        harness.livekit.rooms.admit(case.consultation["roomName"], "somebody")
    person = case.patient if field == "viewer" else case.doctor
    variables = _variables(case, field, recording)
    if note is not None and field.startswith("edit"):
        variables = {"id": str(note), "text": "Sleeps badly."}
    answer = await person.send(read.document, **variables)
    assert answer.data
    (row,) = await harness.audit(answer.request_id)
    is_doctor = person is case.doctor
    policy = (await harness.rows("select private.policy_version() as version"))[0]["version"]
    (stored,) = await harness.rows(
        "select id::text as id from resguardo.transcripts where recording_id = %s", recording
    )
    assert named_in(row) == shown_in(answer) | read.besides(case, recording, stored["id"])
    assert row["entities"][0]["type"] == read.entity_type
    assert len(row["salt"]) == 16
    besides = ("id", "recorded_at", "byte_count", "entities", "salt")
    assert {name: _plain(row[name]) for name in row if name not in besides} == {
        "actor_id": str(person.user_id),
        "actor_role": "clinician" if is_doctor else "patient",
        "session_fingerprint": person.fingerprint,
        "aal": "aal2" if is_doctor else "aal1",
        "action": read.action,
        "operation": read.operation,
        "outcome": "ALLOWED",
        "reason": None,
        "purpose": "TREATMENT" if is_doctor else "PATIENT_REQUEST",
        "basis": "treating_clinician" if is_doctor else "self",
        "patient_ids": [case.patient_id],
        "consultation_ids": [] if field == "viewer" else [case.id],
        "fields": read.fields,
        "row_count": 1,
        "request_id": answer.request_id,
        "address": ADDRESS,
        "policy_version": policy,
        "digest": None,
        "occurred_at": None,
        "canonical_version": 1,
    }


async def _store_note(harness: ApiHarness, case: Case, field: str, recording: UUID) -> UUID | None:
    """Store the note that a root field reads, and return its id if it is a session or psychotherapy note."""
    if field == "signedNotes":
        await sign(harness, case.doctor, recording)
    elif field in ("sessionNotes", "editSessionNote"):
        return await store_note(harness, recording)
    elif field in ("psychotherapyNotes", "editPsychotherapyNote"):
        return await store_note(harness, recording, kind=NoteKind.PSYCHOTHERAPY)
    return None


def _variables(case: Case, field: str, recording: str) -> dict[str, object]:
    given: dict[str, dict[str, object]] = {
        "consultation": {"id": case.id},
        "recording": {"id": recording},
        "stopRecording": {"recordingId": recording},
        "registerConsultation": {"consultation": {**case.registration}},
        "recordConsent": {"consent": consent_input(case.participant("DOCTOR"))},
        "withdrawConsent": {"participantId": case.participant("DOCTOR")},
        "joinConsultation": {"consultationId": case.id},
        "issueDownloadUrl": {"recordingId": recording, "purposeOfUse": "TREATMENT"},
        "transcriptSearch": {"query": "pills"},
        "editConsultationLabel": {"consultationId": case.id, "label": "Knee, second visit"},
        "switchTranscription": {"consultationId": case.id, "isTranscribed": False},
        "correctTranscript": {"id": recording, "turn": 0, "text": "Good evening."},
        **{name: {"id": case.id} for name in ("sessionNotes", "psychotherapyNotes")},
        **{
            name: {"recordingId": recording, "text": "Sleeps badly."}
            for name in ("writeSessionNote", "writePsychotherapyNote")
        },
        **{
            name: {"id": recording}
            for name in ("transcript", "attributeTurn", "issueSubtitleUrls", "retryTranscription")
        },
        **{name: {"id": recording} for name in ("insights", "retryInsights", "refreshInsights")},
        "dismissInsight": {"id": recording, "line": 3},
        "askTranscript": {"id": recording, "question": "Which pills?"},
    }
    if field in OF_DRAFTS:
        return {"id": recording, "version": 1, "line": 2, "lines": [{"text": "Rest."}]}
    return given.get(field, {})


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, int) else str(value)


async def test_law_1_audit_row_names_the_selected_fields_of_fragments_and_aliases(
    harness: ApiHarness, case: Case
) -> None:
    document = """
      query ($id: ID!) { consultation(by: {id: $id}) { ...seen when: scheduledAt ... on Consultation { kind } } }
      fragment seen on Consultation { __typename id participants { kind } }
    """
    answer = await case.doctor.send(document, id=case.id)
    assert answer.data
    (row,) = await harness.audit(answer.request_id)
    assert row["fields"] == ["id", "kind", "participants.kind", "scheduledAt"]


async def test_law_1_start_and_storage_read_each_write_an_audit_row(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    started = await case.doctor.send(documents.START, consultationId=case.id)
    assert started.data
    moved, row = await harness.audit(started.request_id)
    assert (moved["action"], row["action"]) == ("recording.transition", "recording.start")
    assert row["entities"][0] == {"type": "recording", "ids": [started.value["id"]]}
    assert row["fields"] == RECORDING_FIELDS
    looked = await case.doctor.send(documents.STORED_OBJECT, id=str(await harness.recording(case)))
    assert looked.data
    rows = await harness.audit(looked.request_id)
    assert [row["action"] for row in rows] == ["recording.read_storage"]
    assert {row["outcome"] for row in rows} == {"ALLOWED"}


async def test_law_1_reading_subtitles_writes_an_audit_row_of_the_doctor(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    await store_transcript(harness, recording)
    urls = await case.doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    read = await harness.http.get(urls["webvtt"])
    assert read.status_code == 200
    (row,) = await harness.rows(
        "select actor_id, session_fingerprint, outcome from audit.events"
        " where action = 'transcript.read' and entities -> 0 -> 'ids' = to_jsonb(array[%s::uuid])",
        recording,
    )
    assert (row["actor_id"], row["session_fingerprint"]) == (case.doctor.user_id, case.doctor.fingerprint)
    assert row["outcome"] == "ALLOWED"


async def test_law_1_join_of_a_guest_writes_an_audit_row_without_an_actor(
    harness: ApiHarness, case: Case
) -> None:
    guest = await case.doctor.ask(documents.INVITE, consultationId=case.id, role="STUDENT")
    answer = await harness.stranger().send(documents.JOIN_AS_GUEST, invitation=guest["invitation"]["secret"])
    assert answer.data
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["actor_id"]) == ("guest.join", "ALLOWED", None)
    assert [str(one) for one in ids_of(row)] == [guest["participant"]["id"]]
    assert [str(one) for one in row["patient_ids"]] == [case.patient_id]


OF_THE_TEST = "httpx HTTP Request: GET http://api.test/subtitles/"
"""The log line of the test's own HTTP client, which contains the URL."""


class _Kept(logging.Handler):
    """A log handler that stores every log record as printed text, with the arguments and the traceback of the
    record.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record) + repr(record.args))


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Yield the log lines of the project's loggers at the level DEBUG and of all libraries at the level INFO."""
    kept, levels = _Kept(), {"app": logging.DEBUG, "graphql_schema": logging.DEBUG}
    levels |= dict.fromkeys(("psycopg", "procrastinate", "httpx", "botocore", "strawberry"), logging.INFO)
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger().addHandler(kept)
    yield kept.lines
    logging.getLogger().removeHandler(kept)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


async def test_law_8_logs_jobs_and_errors_contain_only_ids(harness: ApiHarness, logged: list[str]) -> None:
    doctor, other = await harness.clinician(), await harness.clinician()
    case = await harness.case(doctor)
    secrets = [
        str(case.registration["externalId"]),
        str(case.registration["patientExternalId"]),
        f"{doctor.user_id}@example.org",
        "Rosa Quispe",
        documents.SHOWN["textSha256"],
        *(str(person.token) for person in (doctor, other, case.patient)),
        LIVEKIT_SECRET,
        harness.store.recorder.secret_access_key,
        harness.store.reader.secret_access_key,
    ]
    said = await _whole_flow(harness, case, other, secrets)
    jobs = await harness.rows("select args::text as args, lock, queueing_lock from jobs.procrastinate_jobs")
    assert logged, "nothing was logged: the test hears nothing"
    for where, texts in {
        "logs": [line for line in logged if not line.startswith(OF_THE_TEST)],
        "errors": said,
        "jobs": [json.dumps(job) for job in jobs],
    }.items():
        for secret in secrets:
            assert not [text[:80] for text in texts if secret in text], f"{where} say {secret[:12]}..."


async def _whole_flow(harness: ApiHarness, case: Case, other: Person, secrets: list[str]) -> list[str]:
    """Run one consultation from consent to download, and cause every refusal that is possible on the way. Return
    the bodies of the API's answers that contain an error.
    """
    doctor, patient = case.doctor, case.patient
    parent = {"relationship": "PARENT", "name": "Rosa Quispe"}
    given = consent_input(case.participant("PATIENT"), representative=parent)
    await patient.ask(documents.RECORD_CONSENT, consent=given)
    await doctor.ask(documents.RECORD_CONSENT, consent=consent_input(case.participant("DOCTOR")))
    for person in (doctor, patient):
        token = (await person.ask(documents.JOIN, consultationId=case.id))["joinToken"]["token"]
        secrets.append(token)
        async with httpx.AsyncClient(trust_env=False) as http:
            await http.post(f"{harness.livekit_url}/stand-in/join", json={"token": token})
    started = await doctor.ask(documents.START, consultationId=case.id)
    secrets.append(f"keep/{case.id}")
    await harness.until(doctor, started["id"], "RECORDING")
    await doctor.ask(documents.STOP, recordingId=started["id"])
    await harness.until(doctor, started["id"], "READY")
    asked = {"recordingId": started["id"], "purposeOfUse": "TREATMENT"}
    url = (await doctor.ask(documents.ISSUE_URL, **asked))["url"]
    secrets += [url, url.split("X-Amz-Signature=")[1][:64]]
    taken = consultation_input(externalId=case.consultation["externalId"])
    await store_transcript(
        harness, UUID(started["id"]), ((Speaker.PATIENT, "Rosa Quispe, sixteen pills of Zolpidemex."),)
    )
    await doctor.ask(documents.TRANSCRIPT, id=started["id"])
    assert (await doctor.ask(documents.TRANSCRIPT_SEARCH, query="zolpidemex", filter=None))["hits"]
    subtitles = (await doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=started["id"]))["webvtt"]
    assert "Zolpidemex" in (await harness.http.get(subtitles)).text
    secrets += ["Zolpidemex", "zolpidemex", subtitles.removesuffix(".vtt").rpartition("/")[2]]
    answers = [
        await other.send(documents.TRANSCRIPT, id=started["id"]),
        await other.send(documents.CORRECT_TRANSCRIPT, id=started["id"], turn=0, text="Zolpidemex"),
        await doctor.send(documents.CORRECT_TRANSCRIPT, id=started["id"], turn=0, text="Zolpidemex\0"),
        await doctor.send(documents.CORRECT_TRANSCRIPT, id=started["id"], turn=9, text="Zolpidemex"),
        await doctor.send(documents.TRANSCRIPT_SEARCH, query="Zolpidemex " * 200, filter=None),
        await other.send(documents.REGISTER, consultation=taken),
        await other.send(
            documents.CONSULTATION_BY_EXTERNAL_ID, externalId=str(case.registration["externalId"])
        ),
        await other.send(documents.ISSUE_URL, **asked),
        await doctor.send(documents.CONSULTATION, id=str(case.registration["externalId"])),
        await doctor.send(documents.REGISTER, consultation={**case.registration} | {"kind": "Rosa Quispe"}),
        await doctor.send(
            documents.REGISTER, consultation={**case.registration} | {"scheduledAt": "Rosa Quispe"}
        ),
        await doctor.send(documents.CONSULTATIONS, after=str(case.registration["externalId"])),
        await patient.send(documents.RECORDING, id=started["id"]),
        await doctor.send(documents.RECORD_CONSENT, consent=given | {"textVersion": "Rosa Quispe"}),
        await doctor.send(
            documents.RECORD_CONSENT,
            consent=given | {"representative": parent | {"relationship": "Rosa Quispe"}},
        ),
        await doctor.send(
            documents.WITHDRAW_CONSENT,
            participantId=case.participant("PATIENT"),
            representative=parent | {"name": "Rosa Quispe\0"},
        ),
    ]
    assert all("errors" in answer.body for answer in answers)
    return [answer.response.text for answer in answers]
