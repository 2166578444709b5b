"""Tests of the afterlife of signed notes: a note outlives its recording for its own term, obeys holds, and is destroyed
on time with a signed certificate, even if the process dies.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from app.certificates.model import Certificate, Ground, SurvivingNote
from app.certificates.signing import check
from app.deletions.destroyer import DestructionReport
from app.errors import UpstreamFailed
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.retention_harness import DAY, SIGNER, START, ClockedStorage, RetentionHarness, opened
from tests.practice import TERMS

pytestmark = pytest.mark.anyio
TERM = 2555 * DAY
ONE, NONE = DestructionReport(destroyed=1, failed=0), DestructionReport(destroyed=0, failed=0)


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[RetentionHarness]:
    async with opened(database, emptied_store) as harness:
        await harness.adopt()
        yield harness


async def status(harness: RetentionHarness, note: UUID) -> tuple[str, int, int]:
    """Return the status of a note, how many ciphertexts it has, and how many keys its patient has."""
    [row] = await harness.rows(
        "select n.status, (select count(*) from private.signed_note_texts as t where t.note_id = n.id) as texts,"
        " (select count(*) from private.patient_keys as k where k.patient_id = n.patient_id) as keys"
        " from resguardo.signed_notes as n where n.id = %s",
        note,
    )
    return row["status"], row["texts"], row["keys"]


async def certificates(harness: RetentionHarness, note: UUID) -> list[Certificate]:
    """Return all stored certificates of a note, after checking the signature of each."""
    rows = await harness.rows(
        "select document from resguardo.note_certificates where note_id = %s order by number", note
    )
    return [check(row["document"].encode(), SIGNER.public_key) for row in rows]


async def test_note_outlives_its_recording_whose_certificate_names_it_with_its_quotes(
    harness: RetentionHarness,
) -> None:
    recording, bare = await harness.recording(), await harness.recording()
    note = await harness.signed_note(recording, quotes=3)
    await harness.move_to(START + 91 * DAY)
    assert await harness.destroyer().run_once() == DestructionReport(destroyed=2, failed=0)
    assert await harness.note_destroyer().run_once() == NONE
    assert await status(harness, note) == ("KEPT", 1, 1)
    query = "select document from resguardo.certificates where recording_id = %s"
    of_recording = check((await harness.value(query, recording)).encode(), SIGNER.public_key)
    assert of_recording.surviving_notes == (SurvivingNote(note, ("ab" * 32,), 3, START + TERM),)
    assert check((await harness.value(query, bare)).encode(), SIGNER.public_key).surviving_notes == ()


async def test_note_is_destroyed_on_time_with_its_key_and_a_certificate(harness: RetentionHarness) -> None:
    note = await harness.signed_note(await harness.recording())
    wrapped = await harness.value("select wrapped_key from private.patient_keys")
    await harness.move_to(START + TERM - timedelta(seconds=1))
    assert await harness.note_destroyer().run_once() == NONE
    await harness.move_to(START + TERM)
    assert await harness.note_destroyer().run_once() == ONE
    assert await status(harness, note) == ("DESTROYED", 0, 0)
    (certificate,) = await certificates(harness, note)
    assert (certificate.subject_id, certificate.ground, certificate.objects) == (note, Ground.RETENTION, ())
    assert certificate.policy is not None
    assert (certificate.policy.term_days, certificate.policy.due_at) == (TERM.days, START + TERM)
    assert [(one.kind, one.wrapped_key_sha256) for one in certificate.keys] == [
        ("patient", hashlib.sha256(wrapped).hexdigest())
    ]
    assert [(one.table, one.rows) for one in certificate.text_rows_cleared] == [("signed_note_texts", 1)]
    assert certificate.backups_until == (harness.time + 35 * DAY).date()
    assert await harness.keys_under(f"ledger/{note}/") == [f"ledger/{note}/1.json"]
    reasons = "select array_agg(reason order by recorded_at) from audit.events where action = 'note.destroy'"
    assert await harness.value(reasons) == ["begun", "proven"]
    assert await harness.note_destroyer().run_once() == NONE


async def test_key_of_a_patient_is_destroyed_with_the_last_note_alone(harness: RetentionHarness) -> None:
    patient = await harness.patient()
    first = await harness.signed_note(await harness.recording(await harness.consultation(patient)))
    await harness.move_to(START + DAY)
    second = await harness.signed_note(await harness.recording(await harness.consultation(patient)))
    await harness.move_to(START + TERM)
    assert await harness.note_destroyer().run_once() == ONE
    assert (await certificates(harness, first))[0].keys == ()
    assert await status(harness, second) == ("KEPT", 1, 1)
    await harness.move_to(START + TERM + DAY)
    assert await harness.note_destroyer().run_once() == ONE
    assert await status(harness, second) == ("DESTROYED", 0, 0)
    assert len((await certificates(harness, second))[0].keys) == 1


@pytest.mark.parametrize("scope", ["consultation", "patient", "signed", "recorded", "request"])
async def test_law_7_held_note_is_not_destroyed_until_the_release(
    harness: RetentionHarness, scope: str
) -> None:
    recording = await harness.recording()
    consultation = await harness.value(
        "select consultation_id from resguardo.recordings where id = %s", recording
    )
    patient = await harness.patient_of(recording)
    await harness.move_to(START + 5 * DAY)
    note = await harness.signed_note(recording)
    signed = harness.time
    hold: UUID | None = None
    match scope:
        case "consultation":
            hold = await harness.hold(consultation_id=consultation)
        case "patient":
            hold = await harness.hold(patient_id=patient)
        case "signed":
            hold = await harness.hold(recorded_since=signed, recorded_until=signed + DAY)
        case "recorded":
            hold = await harness.hold(recorded_since=START, recorded_until=START + DAY)
    if hold is None:
        harness.practice.access_request(patient, harness.doctor, received_on=date(2033, 12, 1))
    assert await harness.value("select array(select n.id from private.held_notes() as n (id))") == [note]
    await harness.move_to(signed + TERM + 40 * DAY)
    assert await harness.note_destroyer().run_once() == NONE
    assert await status(harness, note) == ("KEPT", 1, 1)
    if hold is None:
        await harness.rows("update resguardo.access_requests set status = 'WITHDRAWN'")
    else:
        await harness.release(hold)
    assert await harness.note_destroyer().run_once() == ONE


async def test_hold_on_another_time_does_not_keep_a_note(harness: RetentionHarness) -> None:
    await harness.signed_note(await harness.recording())
    await harness.hold(recorded_since=START + DAY, recorded_until=START + 2 * DAY)
    assert await harness.value("select array(select n.id from private.held_notes() as n (id))") == []
    await harness.move_to(START + TERM)
    assert await harness.note_destroyer().run_once() == ONE


@pytest.mark.parametrize("is_born_known", [True, False])
async def test_note_on_a_minor_is_kept_until_the_birthday(
    harness: RetentionHarness, is_born_known: bool
) -> None:
    minors = (
        """update resguardo.retention_policies set terms = terms || '{"minors": {"until_age_years": 18}}'"""
    )
    await harness.rows(minors)
    recording = await harness.recording()
    patient = await harness.patient_of(recording)
    birthday = "update resguardo.patients set birth_date = '2024-01-02' where id = %s"
    if is_born_known:
        await harness.rows(birthday, patient)
    note = await harness.signed_note(recording)
    if not is_born_known:
        await harness.rows("select private.give_birth_date(%s, '2024-01-02')", patient)
    await harness.move_to(START + TERM)
    assert await harness.note_destroyer().run_once() == NONE
    due = await harness.value("select due_at from resguardo.signed_notes where id = %s", note)
    assert due.date() == date(2042, 1, 2)
    await harness.move_to(due)
    assert await harness.note_destroyer().run_once() == ONE


async def test_note_keeps_the_term_of_its_kind_and_follows_a_policy_for_existing_records(
    harness: RetentionHarness,
) -> None:
    consultation = await harness.consultation(kind="psychotherapy")
    note = await harness.signed_note(await harness.recording(consultation))
    query = "select due_at from resguardo.signed_notes where id = %s"
    assert await harness.value(query, note) == START + TERM
    terms: dict[str, Any] = {**TERMS, "kinds": {"psychotherapy": {"signed_note_days": 4000}}}
    policy = "select private.propose_policy(%s, %s, 'source', %s::jsonb)"
    for name, applies, days in (("later", False, TERM.days), ("all", True, 4000)):
        made = await harness.value(
            policy, name, "ab" * 32, json.dumps({**terms, "applies_to_existing": applies})
        )
        await harness.rows("select private.activate_policy(%s)", made)
        assert await harness.value(query, note) == START + timedelta(days=days)


async def test_note_signed_without_a_policy_is_kept_until_a_policy_is_in_force(
    database: Database, emptied_store: ObjectStore
) -> None:
    async with opened(database, emptied_store) as harness:
        note = await harness.signed_note(await harness.recording())
        await harness.move_to(START + 10 * TERM)
        assert await harness.note_destroyer().run_once() == NONE
        await harness.adopt()
        await harness.rows("select private.date_signed_notes(null, null)")
        assert await harness.note_destroyer().run_once() == ONE
        assert await status(harness, note) == ("DESTROYED", 0, 0)


class DeadLedger(ClockedStorage):
    """An object store that refuses new ledger entries."""

    async def put_new(self, key: str, content: bytes, content_type: str) -> bool:
        raise UpstreamFailed("storage_unreachable")


async def test_destruction_that_was_cut_short_gets_the_same_certificate_later(
    harness: RetentionHarness,
) -> None:
    note = await harness.signed_note(await harness.recording())
    await harness.move_to(START + TERM)
    dead = DeadLedger.__new__(DeadLedger)
    dead.__dict__ = harness.storage.__dict__
    assert await harness.note_destroyer(dead).run_once() == DestructionReport(destroyed=0, failed=1)
    assert await status(harness, note) == ("DESTROYING", 0, 0)
    assert await harness.note_destroyer().run_once() == NONE
    await harness.move_to(START + TERM + timedelta(hours=1))
    assert await harness.note_destroyer().run_once() == ONE
    (certificate,) = await certificates(harness, note)
    assert (certificate.destroyed_at, len(certificate.keys)) == (START + TERM, 1)


async def test_restored_note_is_destroyed_again_with_the_next_number(harness: RetentionHarness) -> None:
    note = await harness.signed_note(await harness.recording())
    keys = await harness.rows("select patient_id, wrapped_key, root_key_id from private.patient_keys")
    await harness.move_to(START + TERM)
    assert await harness.note_destroyer().run_once() == ONE
    await harness.rows("delete from resguardo.note_certificates")
    await harness.rows("delete from private.note_destructions")
    await harness.rows("update resguardo.signed_notes set status = 'KEPT'")
    [key] = keys
    await harness.rows(
        "insert into private.patient_keys (patient_id, wrapped_key, root_key_id) values (%s, %s, %s)",
        *key.values(),
    )
    await harness.rows(
        "insert into private.signed_note_texts (note_id, version, ciphertext) values (%s, 1, %s)",
        note,
        bytes(40),
    )
    report = await harness.restore_check().run(repeat=False)
    assert (report.undone, report.repeated, report.notes, report.is_clean) == ([note], [], {note}, False)
    hold = await harness.hold(patient_id=await harness.value("select patient_id from resguardo.signed_notes"))
    assert (await harness.restore_check().run(repeat=True)).held == [note]
    await harness.release(hold)
    report = await harness.restore_check().run(repeat=True)
    assert (report.repeated, report.is_clean, report.unknown) == ([note], True, [])
    assert await harness.note_destroyer().run_once() == ONE
    first, second = await certificates(harness, note)
    assert (first.number, second.number, second.ground) == (1, 2, Ground.RESTORE)
    assert second.repeats is not None
    assert await status(harness, note) == ("DESTROYED", 0, 0)
    assert (await harness.restore_check().run(repeat=True)).undone == []


async def test_copy_with_a_due_note_ends_before_the_note_is_destroyed(harness: RetentionHarness) -> None:
    recording = await harness.recording()
    note = await harness.signed_note(recording)
    await harness.move_to(START + TERM - DAY)
    request = harness.practice.access_request(
        await harness.patient_of(recording),
        harness.doctor,
        received_on=harness.time.date(),
        status="FULFILLED",
        fulfilled_at=harness.time,
        export_status="READY",
    )
    await harness.rows(
        "insert into private.access_exports (request_id, object_key, recording_ids, note_ids, files, ready_at,"
        " expires_at) values (%s, %s, '{}', %s, 1, private.now(), private.now() + interval '30 days')",
        request,
        f"exports/{request}/copy.zip",
        [note],
    )
    await harness.move_to(START + TERM)
    assert await harness.note_destroyer().run_once() == NONE
    ended = await harness.rows("select e.request_id from private.ended_exports() as e")
    assert [row["request_id"] for row in ended] == [request]
    await harness.rows("select private.expire_export(%s, %s)", request, f"exports/{request}/copy.zip")
    assert await harness.note_destroyer().run_once() == ONE


async def test_preview_of_a_policy_counts_the_notes_and_the_held_ones_by_month(
    harness: RetentionHarness,
) -> None:
    recordings = [await harness.recording() for _ in range(3)]
    for recording in recordings:
        await harness.signed_note(recording)
    consultation = await harness.value(
        "select consultation_id from resguardo.recordings where id = %s", recordings[0]
    )
    await harness.hold(consultation_id=consultation)
    terms = TERMS | {"default": {"recording_days": 30, "signed_note_days": 400}, "applies_to_existing": True}
    policy = await harness.value(
        "insert into resguardo.retention_policies (name, sha256, source, terms, shortens)"
        " values ('shorter', repeat('a', 64), '', %s, true) returning id",
        Jsonb(terms),
    )
    effects = await harness.rows(
        "select month, recordings, held, notes, held_notes, earliest_due_at from private.policy_effects(%s) as e",
        policy,
    )
    due = START + 400 * DAY
    assert [tuple(one.values()) for one in effects] == [
        (date(2027, 1, 1), 3, 1, 0, 0, START + 30 * DAY),
        (due.date().replace(day=1), 0, 0, 3, 1, None),
    ]
    await harness.rows("select private.activate_policy(%s)", policy)
    dates = await harness.rows("select distinct due_at from resguardo.signed_notes")
    assert [one["due_at"] for one in dates] == [due], "the preview equals the effect"
