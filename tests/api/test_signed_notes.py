"""Tests that only the doctor who signed a note reads it, that each read writes an audit row, and that altered bytes are
reported and never shown as valid.
"""

import hashlib
import io
from base64 import b64decode
from datetime import date
from typing import Any, LiteralString
from uuid import UUID

import pypdf
import pytest
from psycopg.types.json import Jsonb

from app.certificates.pdf import read_attachment
from app.certificates.signing import CertificateSigner, check
from app.notes.note_format import format_note
from app.notes.signed_store import version_field
from app.texts import redisclosure_notice
from tests.api import documents
from tests.api.deleting import destroy_recording
from tests.api.harness import ApiHarness, Case, Person
from tests.api.holding import PLACE_HOLD, hold_input
from tests.api.shown import named_in, shown_in
from tests.api.signing import PLAN, QUOTE, make_note, sign
from tests.integration.winzip import read_archive
from tests.practice import TERMS

pytestmark = pytest.mark.anyio


async def read(person: Person, recording: UUID) -> dict[str, Any]:
    """Return the only signed note on a recording."""
    answer = await person.ask(documents.SIGNED_NOTES, filter={"recordingId": str(recording)})
    (edge,) = answer["edges"]
    found: dict[str, Any] = edge["node"]
    return found


async def test_doctor_reads_the_note_with_its_addendum_after_an_audit_row(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    first = await sign(harness, case.doctor, recording)
    second = await sign(
        harness, case.doctor, recording, version=2, previous=first.sha256, plan="Sin alergias."
    )
    answer = await case.doctor.send(documents.SIGNED_NOTES, filter={"recordingId": str(recording)})
    (edge,) = answer.data["signedNotes"]["edges"]
    note = edge["node"]
    assert [(one["number"], one["sha256"], one["problem"]) for one in note["versions"]] == [
        (1, first.sha256, None),
        (2, second.sha256, None),
    ]
    for one in note["versions"]:
        assert hashlib.sha256(one["json"].encode()).hexdigest() == one["sha256"]
    assert note["versions"][0]["plan"] == [{"text": PLAN, "isWrittenByModel": False, "quotes": []}]
    (line,) = note["versions"][0]["subjective"]
    assert line["isWrittenByModel"] is True
    assert [(one["quote"], one["startSeconds"], one["speaker"]) for one in line["quotes"]] == [
        (QUOTE, 12.0, "PATIENT")
    ]
    assert (note["versions"][1]["addendum"], note["versions"][1]["plan"]) == (["Sin alergias."], [])
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["row_count"], row["digest"]) == (
        "note.read",
        "ALLOWED",
        1,
        None,
    )
    assert named_in(row) == shown_in(answer)
    assert (row["patient_ids"], row["consultation_ids"]) == ([UUID(case.patient_id)], [UUID(case.id)])
    assert "unregistered" not in row["fields"]


async def test_notes_of_a_patient_are_read_in_pages_newest_first(harness: ApiHarness, case: Case) -> None:
    signed = [
        str((await sign(harness, case.doctor, await harness.recording(case))).note_id) for _ in range(3)
    ]
    seen: list[str] = []
    after = None
    while True:
        found = await case.doctor.ask(
            documents.SIGNED_NOTES, filter={"patient": {"id": case.patient_id}}, first=2, after=after
        )
        seen += [edge["node"]["id"] for edge in found["edges"]]
        after = found["pageInfo"]["endCursor"]
        if not found["pageInfo"]["hasNextPage"]:
            break
    assert seen == signed[::-1]
    everything = await case.doctor.ask(documents.SIGNED_NOTES)
    assert {edge["node"]["id"] for edge in everything["edges"]} >= set(signed)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("update private.signed_note_texts set ciphertext = ciphertext || 'x'::bytea", "FIELD_UNREADABLE"),
        (
            "update resguardo.signed_note_versions set sha256 = encode(sha256('x'), 'hex')",
            "SIGNED_NOTE_ALTERED",
        ),
        ("update resguardo.signed_note_versions set quote_count = 5", "SIGNED_NOTE_ALTERED"),
        ("update private.patient_keys set root_key_id = root_key_id || '-other'", "ROOT_KEY_UNKNOWN"),
    ],
)
async def test_altered_note_is_reported_and_not_shown(
    harness: ApiHarness, case: Case, change: LiteralString, code: str
) -> None:
    recording = await harness.recording(case)
    note = await sign(harness, case.doctor, recording)
    table = "patient_id = %s" if "patient_keys" in change else "note_id = %s"
    await harness.rows(
        f"{change} where {table}", UUID(case.patient_id) if "patient_id" in table else note.note_id
    )
    (version,) = (await read(case.doctor, recording))["versions"]
    assert version["problem"]["code"] == code
    assert version["json"] is None
    assert [version[name] for name in ("subjective", "objective", "assessment", "plan", "addendum")] == [
        []
    ] * 5
    found = await case.doctor.ask(documents.SIGNED_NOTE_PDF, filter={"recordingId": str(recording)})
    document = b64decode(found["edges"][0]["node"]["pdfBase64"])
    pages = "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(document)).pages)
    assert "cannot be shown" in " ".join(pages.split())
    assert "Paracetamol" not in pages
    if "patient_keys" in change:  # other tests rotate the keys of this database
        await harness.rows(
            "update private.patient_keys set root_key_id = replace(root_key_id, '-other', '')"
            " where patient_id = %s returning patient_id",
            UUID(case.patient_id),
        )


async def test_note_that_somebody_with_the_keys_replaced_is_not_valid(
    harness: ApiHarness, case: Case
) -> None:
    """The attacker has the database and the root keys, and stores another note with its hash. Only the audit log still
    has the hash of the signed file.
    """
    recording = await harness.recording(case)
    note = await sign(harness, case.doctor, recording)
    patient = UUID(case.patient_id)
    forged = format_note(
        make_note(
            recording, UUID(case.id), patient, case.doctor.user_id, note.signed_at, plan="Oxycodone 80 mg."
        )
    )
    (key,) = await harness.rows(
        "select wrapped_key, root_key_id from private.patient_keys where patient_id = %s", patient
    )
    unwrapped = harness.worker_settings.keyring.unwrap(key["wrapped_key"], key["root_key_id"])
    await harness.rows(
        "update private.signed_note_texts set ciphertext = %s where note_id = %s",
        unwrapped.encrypt(version_field(note.note_id, 1, patient), forged),
        note.note_id,
    )
    await harness.rows(
        "update resguardo.signed_note_versions set sha256 = %s where note_id = %s",
        hashlib.sha256(forged).hexdigest(),
        note.note_id,
    )
    (version,) = (await read(case.doctor, recording))["versions"]
    assert (version["problem"]["code"], version["json"]) == ("SIGNED_NOTE_ALTERED", None)


async def test_pdf_shows_accents_and_carries_the_signed_file(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    await sign(harness, case.doctor, recording)
    version = (await read(case.doctor, recording))["versions"][0]
    answer = await case.doctor.send(
        documents.SIGNED_NOTE_PDF, in_language="es", filter={"recordingId": str(recording)}
    )
    document = b64decode(answer.data["signedNotes"]["edges"][0]["node"]["pdfBase64"])
    reader = pypdf.PdfReader(io.BytesIO(document))
    text = " ".join("".join(page.extract_text() for page in reader.pages).split())
    for shown in (PLAN, QUOTE, "Nota firmada", "Evaluación", version["sha256"], "0:12, paciente"):
        assert shown in text, shown
    assert reader.attachments["note-1.json"] == [version["json"].encode()]


@pytest.mark.parametrize("plan", ["服药", "Paracetamol \U0001f48a", "\u03b1-bloqueante"])
async def test_pdf_of_a_note_that_the_font_cannot_print_is_refused(
    harness: ApiHarness, case: Case, plan: str
) -> None:
    recording = await harness.recording(case)
    await sign(harness, case.doctor, recording, plan=plan)
    assert (await read(case.doctor, recording))["versions"][0]["plan"][0]["text"] == plan
    refused = await case.doctor.send(documents.SIGNED_NOTE_PDF, filter={"recordingId": str(recording)})
    assert (refused.error.code, refused.error.reason) == ("CONFLICT", "signed_note_unprintable")


async def test_another_doctor_sees_no_note_and_nobody_else_may_ask(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    await sign(harness, case.doctor, recording)
    for wanted in ({"recordingId": str(recording)}, {"patient": {"id": case.patient_id}}):
        answer = await (await harness.clinician()).send(documents.SIGNED_NOTES, filter=wanted)
        assert answer.data["signedNotes"]["edges"] == []
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"], row["patient_ids"]) == (
            "note.read",
            "DENIED",
            [UUID(case.patient_id)],
        )
    for person in (await harness.staff("compliance"), case.patient):
        assert (await person.refused(documents.SIGNED_NOTES, filter={"recordingId": str(recording)}))[
            0
        ] == "FORBIDDEN"


async def test_doctor_and_compliance_read_the_certificate_of_a_destroyed_note(
    harness: ApiHarness, case: Case, officer: Person, other_doctor: Person
) -> None:
    recording = await harness.recording(case)
    note = await sign(harness, case.doctor, recording)
    given = {"recordingId": str(recording)}
    for person in (case.doctor, officer):
        assert (await person.ask(documents.SIGNED_NOTE_CERTIFICATES, **given))["edges"] == []
    await _destroy(harness, note.note_id)
    seed = harness.worker_settings.certificate_signing_key.get_secret_value()
    key = CertificateSigner.from_seed(seed).public_key
    for person in (case.doctor, officer):
        answer = await person.send(documents.SIGNED_NOTE_CERTIFICATES, **given)
        (edge,) = answer.data["signedNoteCertificates"]["edges"]
        found = edge["node"]
        assert found["number"] == 1
        assert check(found["json"].encode(), key).signed_note_id == note.note_id
        assert hashlib.sha256(found["json"].encode()).hexdigest() == found["sha256"]
        assert read_attachment(b64decode(found["pdfBase64"])) == found["json"].encode()
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"]) == ("certificate.read", "ALLOWED")
        assert row["entities"] == [{"type": "recording", "ids": [str(recording)]}]
        assert (row["patient_ids"], row["consultation_ids"]) == ([UUID(case.patient_id)], [UUID(case.id)])
        assert row["fields"] == ["destroyedAt", "json", "number", "pdfBase64", "sha256"]
    denied = await other_doctor.send(documents.SIGNED_NOTE_CERTIFICATES, **given)
    assert (denied.error.code, denied.error.reason) == ("NOT_FOUND", "certificate_not_found")
    (row,) = await harness.audit(denied.request_id)
    assert row["outcome"] == "DENIED"


async def test_hold_counts_the_signed_notes_that_it_covers(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    recordings = [await harness.recording(case) for _ in range(3)]
    notes = [await sign(harness, case.doctor, one) for one in recordings[:2]]
    await sign(harness, (other := await harness.case()).doctor, await harness.recording(other))
    await destroy_recording(harness, recordings[0])
    scopes: list[dict[str, object]] = [
        {"patient": {"id": case.patient_id}},
        {"consultation": {"id": case.id}},
    ]
    for scope in scopes:
        answer = await officer.send(PLACE_HOLD, hold=hold_input(scope))
        assert answer.value["coveredRecordingCount"] == 2, "one recording is destroyed"
        assert answer.value["coveredSignedNoteCount"] == len(notes), "its note is not"
        (row,) = await harness.audit(answer.request_id)
        assert "coveredSignedNoteCount" in row["fields"]


async def test_destroyed_note_says_so(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    note = await sign(harness, case.doctor, recording)
    await _destroy(harness, note.note_id)
    found = await read(case.doctor, recording)
    assert found["isDestroyed"] is True
    assert found["versions"][0]["problem"]["code"] == "SIGNED_NOTE_DESTROYED"


async def _destroy(harness: ApiHarness, note_id: UUID) -> None:
    """Destroy a signed note whose term is over, as the worker does."""
    policy = (
        "insert into resguardo.retention_policies (name, sha256, source, terms, shortens)"
        " values (%s, %s, '', %s, false) returning id"
    )
    (made,) = await harness.rows(policy, f"of-{note_id}", "ab" * 32, Jsonb(TERMS))
    due = "update resguardo.signed_notes set due_at = now() - interval '1 hour', retention_policy = %s where id = %s"
    await harness.rows(due, made["id"], note_id)
    assert (await harness.services.note_destroyer.run_once()).destroyed >= 1


async def test_copy_for_an_access_request_contains_and_counts_the_signed_notes(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case, "FAILED")
    note = await sign(harness, case.doctor, recording)
    request = harness.practice.access_request(
        UUID(case.patient_id), case.doctor.user_id, received_on=date(2026, 11, 20), status="APPROVED"
    )
    await harness.services.exports.export(request)
    (copy,) = await harness.rows(
        "select e.object_key, e.secret, e.note_ids, a.export_notes, a.status from private.access_exports as e"
        " join resguardo.access_requests as a on a.id = e.request_id where e.request_id = %s",
        request,
    )
    assert (copy["note_ids"], copy["export_notes"], copy["status"]) == ([note.note_id], 1, "FULFILLED")
    archive = await harness.bucket.get_small(copy["object_key"], 10_000_000)
    assert archive is not None
    files = read_archive(archive, copy["secret"])
    (signed,) = [content for name, content in files.items() if name.endswith("_signed-note-1.json")]
    assert hashlib.sha256(signed).hexdigest() == note.sha256
    for language, word in (("en", "Assessment"), ("es", "Evaluación")):
        (pdf,) = [content for name, content in files.items() if name.endswith(f"_signed-note-{language}.pdf")]
        pages = "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages)
        assert word in pages
        assert "Paracetamol" in pages
    reads = await harness.rows(
        "select actor_role, patient_ids from audit.events where action = 'note.read' and basis = %s"
        " and entities -> 0 -> 'ids' ? %s",
        "export_access_request",
        str(note.note_id),
    )
    assert [(row["actor_role"], row["patient_ids"]) for row in reads] == [
        ("resguardo_worker", [UUID(case.patient_id)])
    ]


@pytest.mark.parametrize("sensitivity", ["ORDINARY", "SUBSTANCE_USE"])
async def test_notice_stands_in_the_pdf_of_a_note_about_substance_use(
    harness: ApiHarness, sensitivity: str
) -> None:
    case = await harness.case(sensitivity=sensitivity, isTranscribed=True)
    recording = await harness.recording(case)
    await sign(harness, case.doctor, recording)
    found = await case.doctor.ask(documents.SIGNED_NOTE_PDF, filter={"recordingId": str(recording)})
    document = b64decode(found["edges"][0]["node"]["pdfBase64"])
    pages = " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(document)).pages)
    assert (redisclosure_notice("en") in " ".join(pages.split())) == (sensitivity == "SUBSTANCE_USE")
