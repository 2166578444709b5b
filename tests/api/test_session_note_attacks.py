"""Tests of attacks on session notes: destructions, holds and other tabs in the middle of a write, and full lists."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.session_notes import store
from app.session_notes.encryption import encrypt_text
from app.session_notes.model import MAX_NOTE_CHARACTERS, NoteKind
from tests.api import documents
from tests.api.deleting import destroy_recording
from tests.api.harness import Answer, ApiHarness, Case, Person
from tests.api.holding import PLACE_HOLD, on_patient
from tests.api.noting import data_key, store_note

pytestmark = pytest.mark.anyio

SECRET = "Zolpidemex"


@pytest.fixture
async def case(harness: ApiHarness) -> Case:
    """Return a consultation in which every participant has consented."""
    made = await harness.case()
    await made.consent()
    return made


def _between(
    monkeypatch: pytest.MonkeyPatch, function: str, work: Callable[[], Awaitable[object]]
) -> list[asyncio.Task[Any]]:
    """Start `work` when the API calls this function of the store, and give it a second before the API goes on."""
    original, tasks = getattr(store, function), list[asyncio.Task[Any]]()

    async def paused(*values: Any, **named: Any) -> Any:
        tasks.append(asyncio.ensure_future(work()))
        await asyncio.wait(tasks, timeout=1)
        return await original(*values, **named)

    monkeypatch.setattr(store, function, paused)
    return tasks


async def _rows_of(harness: ApiHarness, recording: UUID) -> int:
    (row,) = await harness.rows(
        "select (select count(*) from private.session_notes where recording_id = %s)"
        " + (select count(*) from private.recording_keys where recording_id = %s) as rows",
        recording,
        recording,
    )
    return int(row["rows"])


@pytest.mark.parametrize("status", ["READY", "FAILED"])
async def test_destruction_during_a_write_leaves_no_note_and_no_key(
    harness: ApiHarness, case: Case, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await harness.recording(case, status)
    tasks = _between(monkeypatch, "add_note", lambda: destroy_recording(harness, recording))
    answer = await case.doctor.send(documents.WRITE_SESSION_NOTE, recordingId=str(recording), text=SECRET)
    assert "errors" not in answer.body or answer.error.code == "CONFLICT"
    await asyncio.gather(*tasks)
    await harness.services.destroyer.run_once()
    (row,) = await harness.rows("select status from resguardo.recordings where id = %s", recording)
    assert row["status"] == "DELETED"
    assert await _rows_of(harness, recording) == 0


async def test_destruction_during_an_edit_leaves_no_version(
    harness: ApiHarness, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await harness.recording(case)
    note = await store_note(harness, recording)
    tasks = _between(monkeypatch, "change_note", lambda: destroy_recording(harness, recording))
    await case.doctor.send(documents.EDIT_SESSION_NOTE, id=str(note), text=SECRET)
    await asyncio.gather(*tasks)
    await harness.services.destroyer.run_once()
    assert await _rows_of(harness, recording) == 0
    rows = await harness.rows(
        "select 1 from private.session_note_versions where recording_id = %s", recording
    )
    assert rows == []


async def test_destruction_before_the_edit_is_refused_or_finds_nothing(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    note = await store_note(harness, recording)
    answers, _ = await asyncio.gather(
        asyncio.gather(
            *(
                case.doctor.send(documents.EDIT_SESSION_NOTE, id=str(note), text=f"{SECRET} {number}")
                for number in range(5)
            )
        ),
        destroy_recording(harness, recording),
    )
    reasons = {one.error.reason for one in answers if "errors" in one.body}
    assert reasons <= {
        "session_note_changed",
        "recording_being_deleted",
        "recording_deleted",
        "session_note_not_found",
    }
    await harness.services.destroyer.run_once()
    assert await _rows_of(harness, recording) == 0


async def test_hold_that_is_placed_during_a_deletion_waits_for_it(
    harness: ApiHarness, case: Case, officer: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion either finishes before the hold is placed, or is refused."""
    note = await store_note(harness, await harness.recording(case, "RECORDING"))
    tasks = _between(
        monkeypatch, "delete_note", lambda: officer.send(PLACE_HOLD, hold=on_patient(case.patient_id))
    )
    answer = await case.doctor.send(documents.DELETE_SESSION_NOTE, id=str(note))
    placed: list[Answer] = await asyncio.gather(*tasks)
    assert placed[0].data
    (deleted,) = await harness.rows(
        "select max(recorded_at) as moment from audit.events where action = 'session_note.delete' and request_id = %s",
        answer.request_id,
    )
    (held,) = await harness.rows(
        "select max(recorded_at) as moment from audit.events where action = 'hold.place' and request_id = %s",
        placed[0].request_id,
    )
    assert answer.value["isDeleted"] is True
    assert deleted["moment"] < held["moment"]


async def test_full_list_of_the_longest_lines_is_read_in_time(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case, "RECORDING")
    key = await data_key(harness, recording)
    text = "\U0001f9e0" * MAX_NOTE_CHARACTERS
    ids = [uuid4() for _ in range(1000)]
    sealed = [encrypt_text(key, NoteKind.SESSION, recording, one, 1, text) for one in ids]
    await harness.rows(
        "insert into private.session_notes (id, recording_id, consultation_id, author_id, ciphertext, changed_by)"
        " select n.id, r.id, r.consultation_id, r.doctor_id, n.ciphertext, r.doctor_id"
        " from resguardo.recordings as r, unnest(%s::uuid[], %s::bytea[]) as n (id, ciphertext) where r.id = %s",
        ids,
        sealed,
        recording,
    )
    began = time.monotonic()
    read = await case.doctor.ask(documents.SESSION_NOTES, id=case.id)
    print(f"1,000 lines of 2,000 emoji in {time.monotonic() - began:.2f} s")  # noqa: T201 - measured, not asserted
    assert [line["text"] for line in read["lines"]] == [text] * 1000


async def test_no_text_reaches_a_log_an_error_or_a_repr(
    harness: ApiHarness, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="app")
    recording = await harness.recording(case, "RECORDING")
    written = await case.doctor.ask(documents.WRITE_SESSION_NOTE, recordingId=str(recording), text=SECRET)
    note = written["sessionNote"]["id"]
    answers = [
        await case.doctor.send(documents.EDIT_SESSION_NOTE, id=note, text=f"{SECRET} more", basedOnVersion=7),
        await case.doctor.send(documents.EDIT_SESSION_NOTE, id=note, text=f"{SECRET}\u202e"),
        await case.doctor.send(documents.WRITE_SESSION_NOTE, recordingId="x", text=SECRET),
    ]
    assert all(SECRET not in str(answer.body["errors"]) for answer in answers)
    assert SECRET not in caplog.text
    rows = await harness.rows(
        "select t::text as row from audit.events as t where t::text like %s", f"%{SECRET}%"
    )
    assert rows == []


async def test_ended_session_and_suspended_doctor_write_nothing(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case, "RECORDING")
    ended = await harness.with_session(case.doctor)
    await harness.end_session(ended)
    weak = await harness.with_session(case.doctor, aal="aal1")
    for person, code in ((ended, "UNAUTHENTICATED"), (weak, "FORBIDDEN"), (case.patient, "FORBIDDEN")):
        for document, given in (
            (documents.WRITE_SESSION_NOTE, {"recordingId": str(recording), "text": SECRET}),
            (documents.WRITE_PSYCHOTHERAPY_NOTE, {"recordingId": str(recording), "text": SECRET}),
            (documents.SESSION_NOTES, {"id": case.id}),
            (documents.PSYCHOTHERAPY_NOTES, {"id": case.id}),
        ):
            assert (await person.send(document, **given)).error.code == code
    assert await _rows_of(harness, recording) == 0


@pytest.mark.parametrize("document", [documents.WRITE_SESSION_NOTE, documents.WRITE_PSYCHOTHERAPY_NOTE])
async def test_note_that_cannot_be_stored_leaves_no_key_and_frees_its_idempotency_key(
    harness: ApiHarness, case: Case, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, key = await harness.recording(case, "RECORDING"), str(uuid4())
    given = {"recordingId": str(recording), "text": SECRET, "idempotencyKey": key}

    async def dying(*_: object) -> None:
        raise RuntimeError("the process dies here")

    with monkeypatch.context() as broken:
        broken.setattr(store, "add_note", dying)
        assert (await case.doctor.send(document, **given)).error.code == "INTERNAL"
    assert await _rows_of(harness, recording) == 0
    first = await case.doctor.ask(document, **given)
    assert await case.doctor.ask(document, **given) == first
