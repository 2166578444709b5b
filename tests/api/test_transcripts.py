"""Tests that only the recording's doctor can read, search and correct a transcript. Each access to a transcript
writes an audit row.
"""

from base64 import b64encode
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from app.errors import Conflict
from app.integrations.speech.answers import Figures
from app.postgres.database import Transaction
from app.transcripts import store
from app.transcripts.model import Speaker
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, consent_input
from tests.api.shown import named_in, shown_in
from tests.api.speaking import SAID, UNCERTAIN, store_transcript

pytestmark = pytest.mark.anyio


async def search(person: Person, query: str, **where: object) -> list[str]:
    found = await person.ask(documents.TRANSCRIPT_SEARCH, query=query, filter=where)
    return [hit["recording"]["id"] for hit in found["hits"]]


def _id_of(shown: dict[str, str] | None) -> str | None:
    return None if shown is None else shown["id"]


async def test_doctor_reads_the_transcript_after_an_audit_row(
    harness: ApiHarness, doctor: Person, case: Case, recording: UUID
) -> None:
    answer = await doctor.send(documents.TRANSCRIPT, id=str(recording))
    read = answer.data["transcript"]
    assert [(turn["speaker"], turn["text"]) for turn in read["turns"]] == [(who, text) for who, text in SAID]
    assert [(turn["startSeconds"], turn["endSeconds"]) for turn in read["turns"]][1] == (5.0, 9.0)
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("transcript.read", "ALLOWED")
    doctors, patients = case.participant("DOCTOR"), case.participant("PATIENT")
    assert named_in(row) == {
        "recording": {str(recording)},
        "transcript": {read["id"]},
        "consultation": {case.id},
        "patient": {case.patient_id},
        "participant": {doctors, patients},  # the audit row precedes the decryption, which tells who speaks
    }
    assert (row["consultation_ids"], row["patient_ids"]) == ([UUID(case.id)], [UUID(case.patient_id)])


async def test_transcript_has_its_whole_text_its_words_and_no_confidence_that_nobody_gave(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    read = await doctor.ask(documents.TRANSCRIPT, id=str(recording))
    assert read["fullText"].splitlines() == [text for _, text in SAID]
    assert read["wordCount"] == sum(len(text.split()) for _, text in SAID)
    assert [turn["confidence"] for turn in read["turns"]] == [None] * 3


async def test_confidence_of_a_turn_is_what_the_speech_service_gave_until_a_doctor_corrects_it(
    harness: ApiHarness, doctor: Person, case: Case
) -> None:
    made = await harness.recording(case)
    await store_transcript(harness, made, figures=Figures(-0.6931471805599453))
    read = await doctor.ask(documents.TRANSCRIPT, id=str(made))
    assert [turn["confidence"] for turn in read["turns"]] == pytest.approx([0.5] * 3)
    changed = await doctor.ask(documents.CORRECT_TRANSCRIPT, id=str(made), turn=1, text="Three weeks.")
    assert changed["turns"][1]["confidence"] is None
    assert changed["fullText"].splitlines()[1] == "Three weeks."
    named = await doctor.ask(documents.ATTRIBUTE_TURN, id=str(made), turn=0, speaker="COMPANION")
    assert named["turns"][0]["confidence"] == pytest.approx(0.5)


async def test_transcript_keeps_its_own_id_when_it_is_corrected(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    (row,) = await harness.rows("select id from resguardo.transcripts where recording_id = %s", recording)
    read = await doctor.ask(documents.TRANSCRIPT, id=str(recording))
    corrected = await doctor.ask(documents.CORRECT_TRANSCRIPT, id=str(recording), turn=0, text="Good day.")
    assert [read["id"], corrected["id"]] == [str(row["id"])] * 2
    assert row["id"] != recording


async def test_hidden_and_absent_transcripts_get_the_same_answer(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    other, without_words = await harness.clinician(), await harness.recording(case)
    for person, wanted, outcome in (
        (other, recording, "DENIED"),
        (other, uuid4(), "ABSENT"),
        (case.doctor, without_words, "ALLOWED"),
    ):
        answer = await person.send(documents.TRANSCRIPT, id=str(wanted))
        assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "transcript_not_found")
        (row,) = await harness.audit(answer.request_id)
        assert (row["outcome"], row["row_count"]) == (outcome, 0)


async def test_search_finds_all_forms_of_words_and_phrases(doctor: Person, recording: UUID) -> None:
    for query in ("headache", "HEADACHES pill", '"400 mg"', '"two weeks" ibuprofen'):
        assert await search(doctor, query) == [str(recording)], query
    for query in ("aspirin", '"weeks two"', "headache aspirin"):
        assert await search(doctor, query) == [], query


async def test_search_returns_the_turn_and_its_time(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    answer = await doctor.send(documents.TRANSCRIPT_SEARCH, query="ibuprofen", filter=None)
    (hit,) = answer.data["transcriptSearch"]["hits"]
    assert (hit["turnNumber"], hit["startSeconds"], hit["speaker"]) == (2, 10.0, "DOCTOR")
    assert [part for part in hit["snippet"] if part["isMatch"]] == [{"text": "ibuprofen", "isMatch": True}]
    assert "".join(part["text"] for part in hit["snippet"]) == SAID[2][1]
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], named_in(row)) == ("transcript.search", shown_in(answer))
    assert named_in(row).keys() == {"recording", "consultation", "patient"}


async def test_search_covers_only_the_callers_recordings(harness: ApiHarness, recording: UUID) -> None:
    assert await search(await harness.clinician(), "headache") == []


async def test_sensitive_consultations_are_found_only_on_request(harness: ApiHarness, doctor: Person) -> None:
    case = await harness.case(doctor, sensitivity="PSYCHOTHERAPY", isTranscribed=True)
    recording = await harness.recording(case)
    await store_transcript(harness, recording)
    assert await search(doctor, "headache") == []
    assert await search(doctor, "headache", includeSensitive=True) == [str(recording)]


async def test_correction_is_read_and_found_and_the_original_text_is_kept(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    changed = await doctor.ask(
        documents.CORRECT_TRANSCRIPT, id=str(recording), turn=2, text="Take paracetamol, 500 mg."
    )
    assert [turn["originalText"] for turn in changed["turns"]] == [None, None, SAID[2][1]]
    assert changed["turns"][2]["text"] == "Take paracetamol, 500 mg."
    (made,) = changed["corrections"]
    assert (made["turnNumber"], made["text"], made["speaker"]) == (2, "Take paracetamol, 500 mg.", None)
    assert made["correctedBy"] == {"id": str(doctor.user_id)}
    assert await search(doctor, "paracetamol") == [str(recording)]
    assert await search(doctor, "ibuprofen") == []
    (kept,) = await harness.rows(
        "select count(*) as many from private.transcript_corrections where recording_id = %s", recording
    )
    assert kept["many"] == 1


@pytest.mark.parametrize(
    ("turn", "text", "refusal"),
    [
        (2, "  ", ("INVALID_INPUT", "correction_empty")),
        (2, "a\x07b", ("INVALID_INPUT", "correction_characters")),
        (2, "x" * 30_001, ("INVALID_INPUT", "correction_too_long")),
        (3, "nobody said this", ("NOT_FOUND", "turn_unknown")),
        (-1, "nor this", ("NOT_FOUND", "turn_unknown")),
    ],
)
async def test_impossible_correction_is_refused(
    doctor: Person, recording: UUID, turn: int, text: str, refusal: tuple[str, str]
) -> None:
    assert (
        await doctor.refused(documents.CORRECT_TRANSCRIPT, id=str(recording), turn=turn, text=text) == refusal
    )


async def test_turn_is_attributed_alone_if_its_voice_is_shared(doctor: Person, recording: UUID) -> None:
    given: dict[str, Any] = {"id": str(recording), "turn": 2, "speaker": "INTERPRETER", "onlyThisTurn": True}
    changed = await doctor.ask(documents.ATTRIBUTE_TURN, **given)
    assert [turn["speaker"] for turn in changed["turns"]] == ["DOCTOR", "PATIENT", "INTERPRETER"]
    assert await doctor.ask(documents.ATTRIBUTE_TURN, **given) == changed
    await doctor.ask(documents.ATTRIBUTE_TURN, id=str(recording), turn=0, speaker="COMPANION")
    read = await doctor.ask(documents.TRANSCRIPT, id=str(recording))
    assert [turn["speaker"] for turn in read["turns"]] == ["COMPANION", "PATIENT", "COMPANION"]


async def test_attribution_names_all_turns_of_the_voice(doctor: Person, recording: UUID) -> None:
    given: dict[str, Any] = {"id": str(recording), "turn": 0, "speaker": "INTERPRETER"}
    changed = await doctor.ask(documents.ATTRIBUTE_TURN, **given)
    assert [turn["speaker"] for turn in changed["turns"]] == ["INTERPRETER", "PATIENT", "INTERPRETER"]
    (made,) = changed["corrections"]
    assert (made["turnNumber"], made["text"], made["speaker"]) == (0, None, "INTERPRETER")
    assert await search(doctor, "ibuprofen") == [str(recording)]
    found = await doctor.ask(documents.TRANSCRIPT_SEARCH, query="ibuprofen", filter=None)
    assert found["hits"][0]["speaker"] == "INTERPRETER"
    urls = await doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    assert urls["webvtt"]
    assert await doctor.ask(documents.ATTRIBUTE_TURN, **given) == changed


async def test_two_guests_of_one_role_stay_apart_in_transcript_search_and_subtitles(
    harness: ApiHarness, doctor: Person, case: Case
) -> None:
    made = await harness.recording(case)
    turns = [(Speaker.COMPANION, "He fell on Monday."), (Speaker.COMPANION, "No, on Tuesday.")]
    said = ((Speaker.DOCTOR, "When did he fall?"), *turns, (Speaker.COMPANION, "Monday, I am sure."))
    guests = [
        (await doctor.ask(documents.INVITE, consultationId=case.id, role="COMPANION"))["participant"]["id"]
        for _ in range(3)
    ]
    doctors, (mother, father, _) = case.participant("DOCTOR"), guests
    microphones = [UUID(one) for one in (doctors, mother, father, mother)]
    await store_transcript(harness, made, said, microphones=microphones)
    answer = await doctor.send(documents.TRANSCRIPT, id=str(made))
    read = answer.value
    assert [(turn["speaker"], _id_of(turn["participant"])) for turn in read["turns"]] == [
        ("DOCTOR", doctors),
        ("COMPANION", mother),
        ("COMPANION", father),
        ("COMPANION", mother),
    ]
    assert read["turns"][1]["participant"] == {"id": mother, "kind": "GUEST", "guestRole": "COMPANION"}
    (row,) = await harness.audit(answer.request_id)
    assert named_in(row)["participant"] == {*guests, doctors, case.participant("PATIENT")}
    found = await doctor.ask(documents.TRANSCRIPT_SEARCH, query="tuesday", filter=None)
    assert [(hit["speaker"], _id_of(hit["participant"])) for hit in found["hits"]] == [("COMPANION", father)]
    urls = await doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(made))
    webvtt = (await harness.http.get(urls["webvtt"])).text
    names = ["Doctor", "Companion 1", "Companion 2", "Companion 1"]
    assert [line[3 : line.index(">")] for line in webvtt.splitlines() if line.startswith("<v ")] == names
    srt = (await harness.http.get(urls["srt"], headers={"Accept-Language": "es"})).text
    assert "Acompañante 2: No, on Tuesday." in srt
    changed = await doctor.ask(documents.ATTRIBUTE_TURN, id=str(made), turn=1, speaker="REPRESENTATIVE")
    assert [(turn["speaker"], _id_of(turn["participant"])) for turn in changed["turns"]] == [
        ("DOCTOR", doctors),
        ("REPRESENTATIVE", None),
        ("COMPANION", father),
        ("REPRESENTATIVE", None),
    ]
    webvtt = (await harness.http.get(urls["webvtt"])).text
    assert "<v Companion>No, on Tuesday.</v>" in webvtt


async def test_only_a_failed_transcription_is_retried(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    refusal = ("CONFLICT", "transcription_not_failed")
    assert await doctor.refused(documents.RETRY_TRANSCRIPTION, id=str(recording)) == refusal
    failed = (
        "update resguardo.transcripts set status = 'FAILED', error = 'speech_busy' where recording_id = %s"
    )
    await harness.rows(failed, recording)
    retried = await doctor.ask(documents.RETRY_TRANSCRIPTION, id=str(recording))
    assert retried == await doctor.ask(documents.RECORDING, id=str(recording))
    shown = retried["transcription"]
    assert (shown["status"], shown["attempt"], shown["problem"]) == ("PENDING", 2, None)


async def test_finished_transcript_is_read_found_and_corrected_after_a_withdrawal(
    harness: ApiHarness, doctor: Person, case: Case, recording: UUID
) -> None:
    await case.consent()
    await case.patient.ask(documents.WITHDRAW_CONSENT, participantId=case.participant("PATIENT"))
    read = await doctor.ask(documents.TRANSCRIPT, id=str(recording))
    assert [turn["text"] for turn in read["turns"]] == [text for _, text in SAID]
    assert await search(doctor, "ibuprofen") == [str(recording)]
    urls = await doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    assert (await harness.http.get(urls["webvtt"])).status_code == 200
    given: dict[str, Any] = {"id": str(recording), "turn": 2, "text": "Take paracetamol."}
    changed = await doctor.ask(documents.CORRECT_TRANSCRIPT, **given)
    assert changed["turns"][2]["text"] == "Take paracetamol."


@pytest.mark.parametrize(
    ("language", "words"), [("en", "consented again"), ("es", "de nuevo su consentimiento")]
)
async def test_transcription_ended_by_a_withdrawal_has_its_reason_and_is_retried_after_a_new_consent(
    harness: ApiHarness, doctor: Person, case: Case, language: str, words: str
) -> None:
    await case.consent()
    made = str(harness.practice.transcript(await harness.recording(case), "PENDING"))
    patient = case.participant("PATIENT")
    await case.patient.ask(documents.WITHDRAW_CONSENT, participantId=patient)
    await harness.services.transcriber.transcribe(UUID(made))
    shown = (await doctor.send(documents.RECORDING, in_language=language, id=made)).data["recording"]
    assert shown["transcription"]["status"] == "OFF"
    assert shown["transcription"]["problem"]["code"] == "CONSENT_WITHDRAWN"
    assert words in shown["transcription"]["problem"]["message"]
    refusal = ("CONFLICT", "transcription_consent_withdrawn")
    assert await doctor.refused(documents.RETRY_TRANSCRIPTION, id=made) == refusal
    await case.patient.ask(documents.RECORD_CONSENT, consent=consent_input(patient))
    assert (await doctor.ask(documents.RETRY_TRANSCRIPTION, id=made))["id"] == made
    shown = await doctor.ask(documents.RECORDING, id=made)
    assert (shown["transcription"]["status"], shown["transcription"]["problem"]) == ("PENDING", None)


async def test_only_the_doctor_switches_transcription(
    harness: ApiHarness, doctor: Person, case: Case
) -> None:
    given: dict[str, Any] = {"consultationId": case.id, "isTranscribed": False}
    switched = await doctor.ask(documents.SWITCH_TRANSCRIPTION, **given)
    assert (switched["id"], switched["isTranscribed"]) == (case.id, False)
    other = await harness.clinician()
    assert (await other.refused(documents.SWITCH_TRANSCRIPTION, **given))[0] == "NOT_FOUND"


async def test_consultation_shows_whether_it_is_transcribed(harness: ApiHarness, doctor: Person) -> None:
    for said, is_transcribed in (
        ({}, True),
        ({"sensitivity": "PSYCHOTHERAPY"}, False),
        ({"sensitivity": "SUBSTANCE_USE", "isTranscribed": True}, True),
        ({"isTranscribed": False}, False),
    ):
        case = await harness.case(doctor, **said)
        shown = await doctor.ask(documents.CONSULTATION, id=case.id)
        assert shown["isTranscribed"] is is_transcribed
        given = {"consultationId": case.id, "isTranscribed": not is_transcribed}
        await doctor.ask(documents.SWITCH_TRANSCRIPTION, **given)
        shown = await doctor.ask(documents.CONSULTATION, id=case.id)
        assert shown["isTranscribed"] is not is_transcribed


async def test_subtitle_link_works_until_the_session_ends(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    urls = await doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    answer = await harness.http.get(urls["webvtt"])
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/vtt")
    assert answer.text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:04.000\n<v Doctor>Good morning.")
    srt = await harness.http.get(urls["srt"], headers={"Accept-Language": "es"})
    assert srt.text.startswith("1\n00:00:00,000 --> 00:00:04,000\nMédico: Good morning.")
    await harness.end_session(doctor)
    assert (await harness.http.get(urls["webvtt"])).status_code == 401
    assert (await harness.http.get(f"/subtitles/{'0' * 64}.vtt")).status_code == 404
    assert (await harness.http.get("/subtitles/x.vtt")).status_code == 404


async def test_recording_of_another_doctor_has_no_subtitle_link(harness: ApiHarness, recording: UUID) -> None:
    other = await harness.clinician()
    refusal = ("NOT_FOUND", "transcript_not_found")
    assert await other.refused(documents.ISSUE_SUBTITLE_URLS, id=str(recording)) == refusal


@pytest.mark.parametrize(("name", "reason"), [("tests-1", "root_key_wrong"), ("tests-2", "root_key_missing")])
async def test_api_does_not_start_without_the_root_keys_of_transcripts(
    harness: ApiHarness, recording: UUID, name: str, reason: str
) -> None:
    keys = SecretStr(f"{name}:{b64encode(b'another root key, of just as many'[:32]).decode()}")
    with pytest.raises(Conflict, match=reason):
        async with harness.another_api(root_keys=keys):
            pass


@pytest.mark.parametrize("field", ["transcript", "transcriptSearch", "correctTranscript"])
async def test_transcript_is_not_returned_if_its_audit_row_was_not_committed(
    harness: ApiHarness, doctor: Person, recording: UUID, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test ends the API's database session after the API has read the transcript and before the API commits."""
    last = {
        "transcript": "open_transcript",
        "transcriptSearch": "search",
        "correctTranscript": "store_correction",
    }
    through = getattr(store, last[field])

    async def lost(tx: Transaction, *given: Any, **named: Any) -> Any:
        told = await through(tx, *given, **named)
        ended = await harness.rows(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database()"
            " and application_name = 'resguardo-api' and state = 'idle in transaction'"
        )
        assert ended
        return told

    monkeypatch.setattr(store, last[field], lost)
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "transcript": (documents.TRANSCRIPT, {"id": str(recording)}),
        "transcriptSearch": (documents.TRANSCRIPT_SEARCH, {"query": "headache"}),
        "correctTranscript": (documents.CORRECT_TRANSCRIPT, {"id": str(recording), "turn": 0, "text": "No."}),
    }
    document, given = asked[field]
    answer = await doctor.send(document, **given)
    assert (answer.error.code, answer.error.reason) == ("UPSTREAM_FAILED", "database_unavailable")
    assert answer.body["data"] == {field: None}
    assert "headache" not in answer.response.text
    assert await harness.audit(answer.request_id) == []
    (kept,) = await harness.rows(
        "select count(*) as many from private.transcript_corrections where recording_id = %s", recording
    )
    assert kept["many"] == 0


async def test_unintelligible_turn_is_marked_counted_never_found_and_can_be_retried(
    harness: ApiHarness, doctor: Person, case: Case
) -> None:
    made = await harness.recording(case)
    await store_transcript(harness, made, ((Speaker.DOCTOR, "Does it hurt?"), (Speaker.PATIENT, "")))
    read = await doctor.ask(documents.TRANSCRIPT, id=str(made))
    assert [(turn["text"], turn["isUnintelligible"]) for turn in read["turns"]] == [
        ("Does it hurt?", False),
        ("", True),
    ]
    shown = (await doctor.ask(documents.RECORDING, id=str(made)))["transcription"]
    assert (shown["status"], shown["unintelligibleCount"], shown["isRetried"]) == ("READY", 1, False)
    assert await search(doctor, "unintelligible", recordingId=str(made)) == []
    assert await search(doctor, "hurt", recordingId=str(made)) == [str(made)]
    urls = await doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(made))
    for language, words in (("en", "[unintelligible]"), ("es", "[ininteligible]")):
        for form in ("webvtt", "srt"):
            answer = await harness.http.get(urls[form], headers={"Accept-Language": language})
            assert answer.text.count(words) == 1
    refusal = ("CONFLICT", "transcription_not_failed")
    assert await doctor.refused(documents.RETRY_TRANSCRIPTION, id=str(made)) == refusal
    await harness.rows(
        "insert into private.transcript_chunks"
        " (recording_id, number, sound, start_ms, end_ms, answer, is_unintelligible, turn)"
        " values (%s, 0, %s, 0, 1, '', true, 1)",
        made,
        made,
    )
    await harness.rows(
        "update resguardo.transcripts set chunks_total = 1, chunks_done = 1 where recording_id = %s", made
    )
    assert (await doctor.ask(documents.RETRY_TRANSCRIPTION, id=str(made)))["transcription"]["isRetried"]
    shown = (await doctor.ask(documents.RECORDING, id=str(made)))["transcription"]
    assert (shown["status"], shown["isRetried"], shown["chunksDone"]) == ("READY", True, 0)
    assert (await doctor.ask(documents.TRANSCRIPT, id=str(made)))["turns"] == read["turns"]
    assert await doctor.refused(documents.RETRY_TRANSCRIPTION, id=str(made)) == refusal


async def test_uncertain_text_is_marked_in_transcript_search_and_subtitles_until_it_is_corrected(
    harness: ApiHarness, doctor: Person, case: Case
) -> None:
    made = await harness.recording(case)
    said = ((Speaker.DOCTOR, "Take fifteen."), (Speaker.PATIENT, f"{UNCERTAIN}Fifty, thank you."))
    await store_transcript(harness, made, said)
    urls = await doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(made))

    async def marked() -> list[bool]:
        read = await doctor.ask(documents.TRANSCRIPT, id=str(made))
        return [turn["isUncertain"] for turn in read["turns"]]

    async def found(query: str) -> list[bool]:
        hits = await doctor.ask(documents.TRANSCRIPT_SEARCH, query=query, filter={"recordingId": str(made)})
        return [hit["isUncertain"] for hit in hits["hits"]]

    assert await marked() == [False, True]
    assert (await found("fifteen"), await found("fifty")) == ([False], [True])
    for language, words in (("en", "[uncertain] Fifty,"), ("es", "[dudoso] Fifty,")):
        for form in ("webvtt", "srt"):
            answer = await harness.http.get(urls[form], headers={"Accept-Language": language})
            assert answer.text.count(words) == 1
    await doctor.ask(documents.CORRECT_TRANSCRIPT, id=str(made), turn=1, text="Fifty, I said.")
    assert await marked() == [False, False]
    assert await found("fifty") == [False]
    assert "[uncertain]" not in (await harness.http.get(urls["webvtt"])).text
