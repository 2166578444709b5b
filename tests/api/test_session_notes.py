"""Tests of session notes and psychotherapy notes: who reads and writes them, what happens to them with their recording,
and what each call writes to the audit log.
"""

import asyncio
import json
import unicodedata
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from app.http.websocket_sessions import SocketLimits
from app.keys.keyring import Keyring
from app.keys.service import make_recording_key
from app.main import create_app
from app.session_notes.encryption import decrypt_text, encrypt_text
from app.session_notes.model import MAX_NOTE_CHARACTERS, NoteKind
from tests.api import documents
from tests.api.deleting import destroy_recording, request_deletion
from tests.api.harness import Answer, ApiHarness, Case, Person
from tests.api.holding import place_hold
from tests.api.noting import SAID, data_key, store_note
from tests.api.requesting import REQUEST_ACCESS
from tests.api.shown import named_in, shown_in
from tests.api.socket_client import ORIGIN, open_socket, serve_app

pytestmark = pytest.mark.anyio

LIVE = ("REQUESTED", "STARTING", "RECORDING", "STOPPING", "VERIFYING", "READY", "FAILED", "ABORTED", "LOST")
TABLES = ("session_notes", "session_note_versions", "psychotherapy_notes", "psychotherapy_note_versions")


@pytest.fixture
async def case(harness: ApiHarness) -> Case:
    """Return a consultation in which every participant has consented."""
    made = await harness.case()
    await made.consent()
    return made


@pytest.fixture
async def recording(harness: ApiHarness, case: Case) -> UUID:
    """Return a recording that is running, without a data key."""
    return await harness.recording(case, "RECORDING")


async def _write(person: Person, recording: UUID, text: str = SAID, **given: object) -> Any:
    return await person.ask(documents.WRITE_SESSION_NOTE, recordingId=str(recording), text=text, **given)


async def _texts(person: Person, case: Case) -> list[str]:
    read = await person.ask(documents.SESSION_NOTES, id=case.id)
    return [line["text"] for line in read["lines"]]


async def _count(harness: ApiHarness, recording: UUID) -> int:
    """Return the number of rows that the tables of notes have of a recording."""
    (row,) = await harness.rows(
        "select count(*) as rows from ("
        "select recording_id from private.session_notes"
        " union all select recording_id from private.session_note_versions"
        " union all select recording_id from private.psychotherapy_notes"
        " union all select recording_id from private.psychotherapy_note_versions) as n where n.recording_id = %s",
        recording,
    )
    return int(row["rows"])


@pytest.mark.parametrize("status", LIVE)
async def test_doctor_writes_on_a_recording_of_every_status(
    harness: ApiHarness, case: Case, status: str
) -> None:
    recording = await harness.recording(case, status)
    written = await _write(case.doctor, recording, "Sleeps  badly.\u00a0", startSeconds=12.3454)
    note = written["sessionNote"]
    assert (note["text"], note["startSeconds"], note["version"]) == ("Sleeps badly.", 12.345, 1)
    assert note["recording"] == {"id": str(recording)}
    assert note["author"] == note["changedBy"] == {"id": str(case.doctor.user_id)}
    assert note["writtenAt"] == note["changedAt"]
    assert written["sessionNotes"]["lines"] == [note]
    assert await case.doctor.ask(documents.SESSION_NOTES, id=case.id) == written["sessionNotes"]


async def test_text_is_stored_only_in_encrypted_form(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    note = (await _write(case.doctor, recording, "Zolpidemex"))["sessionNote"]
    await case.doctor.ask(documents.EDIT_SESSION_NOTE, id=note["id"], text="Zolpidemex twice")
    with psycopg.connect(harness.database.superuser_url) as connection:
        for table in TABLES:
            (dump,) = connection.execute(
                sql.SQL("select string_agg(t::text, '') from private.{} as t").format(sql.Identifier(table))
            ).fetchone() or ("",)
            assert "Zolpidemex" not in (dump or "")
            assert b"Zolpidemex".hex() not in (dump or "")
    (row,) = await harness.rows(
        "select n.ciphertext, k.wrapped_key, k.root_key_id from private.session_notes as n"
        " join private.recording_keys as k using (recording_id) where n.id = %s",
        note["id"],
    )
    key = harness.worker_settings.keyring.unwrap(row["wrapped_key"], row["root_key_id"])
    text = decrypt_text(key, NoteKind.SESSION, recording, UUID(note["id"]), 2, row["ciphertext"])
    assert text == "Zolpidemex twice"


async def test_recording_keeps_the_key_of_its_first_note_when_it_becomes_ready(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case, "RECORDING")
    await _write(case.doctor, recording)
    (before,) = await harness.rows("select * from private.recording_keys where recording_id = %s", recording)
    ready = await harness.recording(case)
    await _write(case.doctor, ready)
    assert await _texts(case.doctor, case) == [SAID, SAID]
    async with harness.services.database.as_service("tests") as tx:
        assert not await make_recording_key(tx, harness.worker_settings.keyring, ready)
    (after,) = await harness.rows("select * from private.recording_keys where recording_id = %s", recording)
    assert before == after


async def test_first_note_writes_the_audit_row_of_the_key(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    answers = [
        await case.doctor.send(documents.WRITE_SESSION_NOTE, recordingId=str(recording), text=text)
        for text in ("One.", "Two.")
    ]
    rows = [await harness.audit(answer.request_id) for answer in answers]
    assert [[row["action"] for row in of_one] for of_one in rows] == [
        ["recording.make_key", "session_note.write"],
        ["session_note.write"],
    ]
    assert shown_in(answers[1]).items() <= named_in(rows[1][0]).items()


async def test_answer_that_shows_one_line_opens_only_this_line(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    await _write(case.doctor, recording, "One.")
    answer = await case.doctor.send(
        'mutation ($id: ID!) { writeSessionNote(input: {recordingId: $id, text: "Two."})'
        " { sessionNote { id text } } }",
        id=str(recording),
    )
    (row,) = await harness.audit(answer.request_id)
    assert named_in(row)["session_note"] == {answer.value["id"]}
    assert row["fields"] == ["lines.id", "lines.text"]


async def test_two_recordings_have_their_own_keys_and_one_list(harness: ApiHarness, case: Case) -> None:
    first, second = [await harness.recording(case, status) for status in ("READY", "RECORDING")]
    for recording, text in ((first, "One."), (second, "Two."), (first, "Three.")):
        await _write(case.doctor, recording, text)
    read = await case.doctor.ask(documents.SESSION_NOTES, id=case.id)
    assert [(line["text"], line["recording"]["id"]) for line in read["lines"]] == [
        ("One.", str(first)),
        ("Two.", str(second)),
        ("Three.", str(first)),
    ]
    (keys,) = await harness.rows(
        "select count(distinct wrapped_key) as keys from private.recording_keys where recording_id = any(%s)",
        [first, second],
    )
    assert keys["keys"] == 2


# ---- what a text may be


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "session_note_empty"),
        ("\u200b \u00ad", "session_note_empty"),
        ("two\nlines", "session_note_characters"),
        ("tab\there", "session_note_characters"),
        ("nul\0", "session_note_characters"),
        ("\u202eevil", "session_note_characters"),
        ("a\u2028b", "session_note_characters"),
        ("x" * (MAX_NOTE_CHARACTERS + 1), "session_note_too_long"),
        ("\ufdfa" * MAX_NOTE_CHARACTERS + "x", "session_note_too_long"),
    ],
)
async def test_bad_text_is_refused(
    harness: ApiHarness, case: Case, recording: UUID, text: str, reason: str
) -> None:
    refused = await case.doctor.refused(documents.WRITE_SESSION_NOTE, recordingId=str(recording), text=text)
    assert refused == ("INVALID_INPUT", reason)
    note = await store_note(harness, recording)
    refused = await case.doctor.refused(documents.EDIT_SESSION_NOTE, id=str(note), text=text)
    assert refused == ("INVALID_INPUT", reason)


@pytest.mark.parametrize(
    "text",
    [
        "👩‍⚕️ says 👍🏽, 🇲🇽",
        "¿Alergias? Sí: penicilina",
        "שלום, مرحبا",
        "\U0001d4b3" * MAX_NOTE_CHARACTERS,
        "e\u0301",
    ],
)
async def test_every_language_and_emoji_is_kept(case: Case, recording: UUID, text: str) -> None:
    written = await _write(case.doctor, recording, text)
    assert written["sessionNote"]["text"] == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("start", [-0.001, 86_400.001, 1e300])
async def test_time_outside_every_recording_is_refused(case: Case, recording: UUID, start: float) -> None:
    refused = await case.doctor.refused(
        documents.WRITE_SESSION_NOTE, recordingId=str(recording), text=SAID, startSeconds=start
    )
    assert refused == ("INVALID_INPUT", "session_note_time")


async def test_time_after_the_end_of_an_ended_recording_is_refused(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case, "VERIFYING")
    await harness.rows("update resguardo.recordings set duration_seconds = 60 where id = %s", recording)
    assert (await _write(case.doctor, recording, startSeconds=60))["sessionNote"]["startSeconds"] == 60
    refused = await case.doctor.refused(
        documents.WRITE_SESSION_NOTE, recordingId=str(recording), text=SAID, startSeconds=60.1
    )
    assert refused == ("INVALID_INPUT", "session_note_time")


async def test_line_keeps_its_time_after_the_recording_ended_earlier(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case, "VERIFYING")
    note = (await _write(case.doctor, recording, startSeconds=1.001))["sessionNote"]
    assert note["startSeconds"] == 1.001
    await harness.rows("update resguardo.recordings set duration_seconds = 1 where id = %s", recording)
    edited = await case.doctor.ask(
        documents.EDIT_SESSION_NOTE, id=note["id"], text="Two.", startSeconds=1.001
    )
    assert (edited["sessionNote"]["text"], edited["sessionNote"]["startSeconds"]) == ("Two.", 1.001)
    refused = await case.doctor.refused(
        documents.EDIT_SESSION_NOTE, id=note["id"], text="Two.", startSeconds=1.002, basedOnVersion=2
    )
    assert refused == ("INVALID_INPUT", "session_note_time")


async def test_consultation_has_at_most_1000_notes(harness: ApiHarness, case: Case, recording: UUID) -> None:
    key = str(uuid4())
    await harness.rows(
        "insert into private.session_notes (id, recording_id, consultation_id, author_id, ciphertext, changed_by)"
        " select gen_random_uuid(), r.id, r.consultation_id, r.doctor_id, decode(repeat('00', 40), 'hex'), r.doctor_id"
        " from resguardo.recordings as r, generate_series(1, 999) where r.id = %s",
        recording,
    )
    document = (
        'mutation ($id: ID!, $key: String) { writeSessionNote(input: {recordingId: $id, text: "Last.",'
        " idempotencyKey: $key}) { sessionNote { id } } }"
    )
    last = await case.doctor.ask(document, id=str(recording), key=key)
    assert await case.doctor.refused(document, id=str(recording)) == ("CONFLICT", "session_notes_full")
    assert await case.doctor.ask(document, id=str(recording), key=key) == last
    other = await harness.recording(case)
    assert await case.doctor.refused(document, id=str(other)) == ("CONFLICT", "session_notes_full")
    await case.doctor.ask(documents.WRITE_PSYCHOTHERAPY_NOTE, recordingId=str(other), text=SAID)


# ---- versions


async def test_edit_makes_a_version_and_keeps_the_earlier_one(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    note = (await _write(case.doctor, recording, "One.", startSeconds=5))["sessionNote"]
    edited = await case.doctor.ask(documents.EDIT_SESSION_NOTE, id=note["id"], text="Two.")
    changed = {"text": "Two.", "version": 2, "startSeconds": None}
    assert edited["sessionNote"] == note | changed | {"changedAt": edited["sessionNote"]["changedAt"]}
    assert edited["sessionNotes"]["lines"] == [edited["sessionNote"]]
    rows = await harness.rows(
        "select version, start_ms from private.session_note_versions where note_id = %s", note["id"]
    )
    assert [(row["version"], row["start_ms"]) for row in rows] == [(1, 5000)]


async def test_stale_edit_is_refused_and_shows_the_newest_notes(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    note = (await _write(case.doctor, recording, "One."))["sessionNote"]
    newest = await case.doctor.ask(documents.EDIT_SESSION_NOTE, id=note["id"], text="Two.")
    answer = await case.doctor.send(documents.EDIT_SESSION_NOTE, id=note["id"], text="Three.")
    assert answer.body["data"]["editSessionNote"] == {
        "sessionNote": None,
        "sessionNotes": newest["sessionNotes"],
    }
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "session_note_changed")
    assert answer.body["errors"][0]["path"] == ["editSessionNote", "sessionNote"]
    assert "Two." not in json.dumps(answer.body["errors"])
    rows = await harness.audit(answer.request_id)
    assert [(row["action"], row["outcome"], row["reason"]) for row in rows] == [
        ("session_note.edit", "FAILED", "session_note_changed"),
        ("session_note.read", "ALLOWED", None),
    ]
    assert named_in(rows[0]) == {"session_note": {note["id"]}}
    assert rows[0]["patient_ids"] == [UUID(case.patient_id)]


@pytest.mark.parametrize("payload", ["sessionNote { id text }", "sessionNotes { lines { text } }"])
async def test_stale_edit_is_an_error_whatever_the_client_selects(
    case: Case, recording: UUID, payload: str
) -> None:
    note = (await _write(case.doctor, recording, "One."))["sessionNote"]
    await case.doctor.ask(documents.EDIT_SESSION_NOTE, id=note["id"], text="Two.")
    document = (
        'mutation ($id: ID!) { editSessionNote(input: {sessionNoteId: $id, text: "Three.", basedOnVersion: 1})'
        f" {{ {payload} }} }}"
    )
    answer = await case.doctor.send(document, id=note["id"])
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "session_note_changed")
    assert answer.body["data"] == {"editSessionNote": None}


async def test_of_concurrent_edits_one_is_made_and_the_others_show_it(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    note = (await _write(case.doctor, recording, "One."))["sessionNote"]
    answers: list[Answer] = await asyncio.gather(
        *(
            case.doctor.send(documents.EDIT_SESSION_NOTE, id=note["id"], text=f"Tab {letter}.")
            for letter in "abcd"
        )
    )
    (made,) = [answer.value for answer in answers if "errors" not in answer.body]
    refused = [answer for answer in answers if "errors" in answer.body]
    assert [answer.error.reason for answer in refused] == ["session_note_changed"] * 3
    for answer in refused:
        assert answer.body["data"]["editSessionNote"]["sessionNotes"] == made["sessionNotes"]
    assert await _texts(case.doctor, case) == [made["sessionNote"]["text"]]


async def test_repeated_edit_after_a_lost_answer_changes_nothing(case: Case, recording: UUID) -> None:
    note = (await _write(case.doctor, recording, "One."))["sessionNote"]
    answers = [
        await case.doctor.ask(documents.EDIT_SESSION_NOTE, id=note["id"], text="Two.") for _ in range(3)
    ]
    assert answers == [answers[0]] * 3
    assert answers[0]["sessionNote"]["version"] == 2


async def test_note_has_at_most_1000_versions(harness: ApiHarness, case: Case, recording: UUID) -> None:
    note = await store_note(harness, recording)
    await harness.rows("update private.session_notes set version = 999 where id = %s", note)
    key = await data_key(harness, recording)
    await harness.rows(
        "update private.session_notes set ciphertext = %s where id = %s",
        encrypt_text(key, NoteKind.SESSION, recording, note, 999, SAID),
        note,
    )
    edit = {"id": str(note), "basedOnVersion": 999}
    assert (await case.doctor.ask(documents.EDIT_SESSION_NOTE, text="A.", **edit))["sessionNote"][
        "version"
    ] == 1000
    edit["basedOnVersion"] = 1000
    refused = await case.doctor.refused(documents.EDIT_SESSION_NOTE, text="B.", **edit)
    assert refused == ("CONFLICT", "session_note_versions_full")


@pytest.mark.parametrize("version", [0, -1, 2, 2**31 - 1])
async def test_edit_of_a_version_that_does_not_exist_is_refused(
    case: Case, recording: UUID, version: int
) -> None:
    note = (await _write(case.doctor, recording, "One."))["sessionNote"]
    for document, given in (
        (documents.EDIT_SESSION_NOTE, {"text": "Two."}),
        (documents.DELETE_SESSION_NOTE, {}),
    ):
        answer = await case.doctor.send(document, id=note["id"], basedOnVersion=version, **given)
        assert answer.error.reason == "session_note_changed"
    assert await _texts(case.doctor, case) == ["One."]


async def test_repeated_call_with_one_key_writes_one_note(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    key = str(uuid4())
    first, second = [await _write(case.doctor, recording, idempotencyKey=key) for _ in range(2)]
    assert first == second
    assert len(first["sessionNotes"]["lines"]) == 1
    given = {"recordingId": str(recording), "idempotencyKey": key}
    for other in ({"text": "Another."}, {"text": SAID, "startSeconds": 1}):
        refused = await case.doctor.refused(documents.WRITE_SESSION_NOTE, **given, **other)
        assert refused == ("CONFLICT", "idempotency_key_reused")
    await case.doctor.ask(documents.DELETE_SESSION_NOTE, id=first["sessionNote"]["id"])
    third = await _write(case.doctor, recording, idempotencyKey=key)
    assert (third["sessionNote"], third["sessionNotes"]["lines"]) == (None, [])


async def test_concurrent_calls_with_one_key_write_one_note(case: Case, recording: UUID) -> None:
    key = str(uuid4())
    written = await asyncio.gather(*(_write(case.doctor, recording, idempotencyKey=key) for _ in range(4)))
    assert len({one["sessionNote"]["id"] for one in written}) == 1
    assert await _texts(case.doctor, case) == [SAID]


async def test_concurrent_first_notes_share_one_key(harness: ApiHarness, case: Case, recording: UUID) -> None:
    await asyncio.gather(*(_write(case.doctor, recording, f"Note {number}.") for number in range(8)))
    assert sorted(await _texts(case.doctor, case)) == [f"Note {number}." for number in range(8)]


# ---- deletion of a note


async def test_deleted_note_leaves_no_version(harness: ApiHarness, case: Case, recording: UUID) -> None:
    note = (await _write(case.doctor, recording, "One."))["sessionNote"]
    await case.doctor.ask(documents.EDIT_SESSION_NOTE, id=note["id"], text="Two.")
    stale = await case.doctor.send(documents.DELETE_SESSION_NOTE, id=note["id"])
    assert stale.error.reason == "session_note_changed"
    newest = stale.body["data"]["deleteSessionNote"]
    assert (newest["isDeleted"], [line["text"] for line in newest["sessionNotes"]["lines"]]) == (
        None,
        ["Two."],
    )
    answer = await case.doctor.send(documents.DELETE_SESSION_NOTE, id=note["id"], basedOnVersion=2)
    assert answer.value["isDeleted"] is True
    assert answer.value["sessionNotes"]["lines"] == []
    assert await _count(harness, recording) == 0
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["operation"], row["outcome"]) == ("session_note.delete", "D", "ALLOWED")
    assert named_in(row)["session_note"] == {note["id"]}
    refused = await case.doctor.refused(documents.DELETE_SESSION_NOTE, id=note["id"], basedOnVersion=2)
    assert refused == ("NOT_FOUND", "session_note_not_found")


async def test_note_under_a_hold_is_not_deleted_and_its_versions_stay(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    note = (await _write(case.doctor, recording, "One."))["sessionNote"]
    await place_hold(harness, case)
    refused = await case.doctor.refused(documents.DELETE_SESSION_NOTE, id=note["id"])
    assert refused == ("CONFLICT", "recording_held")
    await case.doctor.ask(documents.EDIT_SESSION_NOTE, id=note["id"], text="Two.")
    assert await _count(harness, recording) == 2


async def test_note_is_not_deleted_while_an_access_request_is_open(case: Case, recording: UUID) -> None:
    note = (await _write(case.doctor, recording, "One."))["sessionNote"]
    await case.patient.ask(REQUEST_ACCESS, request={})
    refused = await case.doctor.refused(documents.DELETE_SESSION_NOTE, id=note["id"])
    assert refused == ("CONFLICT", "recording_held")


# ---- who may


@pytest.mark.parametrize(
    ("document", "given"),
    [
        (documents.EDIT_SESSION_NOTE, {"text": "Mine."}),
        (documents.DELETE_SESSION_NOTE, {}),
        (documents.EDIT_PSYCHOTHERAPY_NOTE, {"text": "Mine."}),
        (documents.DELETE_PSYCHOTHERAPY_NOTE, {}),
    ],
)
async def test_another_doctor_cannot_tell_a_note_from_none(
    harness: ApiHarness, recording: UUID, other_doctor: Person, document: str, given: dict[str, object]
) -> None:
    kind = NoteKind.PSYCHOTHERAPY if "Psychotherapy" in document else NoteKind.SESSION
    note = await store_note(harness, recording, kind=kind)
    answers = [await other_doctor.send(document, id=str(one), **given) for one in (note, uuid4())]
    assert [(one.error.code, one.error.reason) for one in answers] == [
        ("NOT_FOUND", "session_note_not_found")
    ] * 2
    assert answers[0].error.message == answers[1].error.message
    rows = [row for answer in answers for row in await harness.audit(answer.request_id)]
    assert [row["outcome"] for row in rows] == ["DENIED", "ABSENT"]
    assert named_in(rows[0]) == {"session_note": {str(note)}}


async def test_another_doctor_reads_and_writes_nothing(
    harness: ApiHarness, case: Case, recording: UUID, other_doctor: Person
) -> None:
    await store_note(harness, recording)
    for document, given, reason in (
        (documents.SESSION_NOTES, {"id": case.id}, "consultation_not_found"),
        (documents.PSYCHOTHERAPY_NOTES, {"id": case.id}, "consultation_not_found"),
        (documents.WRITE_SESSION_NOTE, {"recordingId": str(recording), "text": "x"}, "recording_not_found"),
        (
            documents.WRITE_PSYCHOTHERAPY_NOTE,
            {"recordingId": str(recording), "text": "x"},
            "recording_not_found",
        ),
    ):
        answer = await other_doctor.send(document, **given)
        assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", reason)
        (row,) = await harness.audit(answer.request_id)
        assert row["outcome"] == "DENIED"
        assert row["patient_ids"] == [UUID(case.patient_id)]
    assert await _texts(case.doctor, case) == [SAID]


async def test_sound_of_a_recording_takes_no_note(harness: ApiHarness, case: Case) -> None:
    video = await harness.recording(case)
    sound = uuid4()
    harness.practice.recording(UUID(case.id), "READY", sound, medium="SPEAKERS", video_id=video)
    refused = await case.doctor.refused(documents.WRITE_SESSION_NOTE, recordingId=str(sound), text="x")
    assert refused == ("NOT_FOUND", "recording_not_found")


async def test_notes_are_read_against_the_quota_of_pages(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    note = (await _write(case.doctor, recording))["sessionNote"]
    await harness.spend(case.doctor, "pages", 10_000)
    for document, given in (
        (documents.SESSION_NOTES, {"id": case.id}),
        (documents.WRITE_SESSION_NOTE, {"recordingId": str(recording), "text": "x"}),
        (documents.EDIT_SESSION_NOTE, {"id": note["id"], "text": "x"}),
        (documents.DELETE_SESSION_NOTE, {"id": note["id"]}),
    ):
        assert await case.doctor.refused(document, **given) == ("RATE_LIMITED", "quota_pages")


# ---- psychotherapy notes


async def test_psychotherapy_notes_are_kept_apart(harness: ApiHarness, case: Case, recording: UUID) -> None:
    await _write(case.doctor, recording, "Ordinary.")
    answer = await case.doctor.send(
        documents.WRITE_PSYCHOTHERAPY_NOTE, recordingId=str(recording), text="Apart.", startSeconds=3
    )
    note = answer.value["psychotherapyNote"]
    (row,) = await harness.audit(answer.request_id)
    assert row["action"] == "psychotherapy_note.write"
    edited = await case.doctor.ask(documents.EDIT_PSYCHOTHERAPY_NOTE, id=note["id"], text="Still apart.")
    assert edited["psychotherapyNote"]["version"] == 2
    ordinary = await case.doctor.ask(documents.SESSION_NOTES, id=case.id)
    apart = await case.doctor.ask(documents.PSYCHOTHERAPY_NOTES, id=case.id)
    assert ([line["text"] for line in ordinary["lines"]], ordinary["kind"]) == (["Ordinary."], "SESSION")
    assert ([line["text"] for line in apart["lines"]], apart["kind"]) == (["Still apart."], "PSYCHOTHERAPY")
    assert ordinary["id"] != apart["id"]
    for document, given in (
        (documents.EDIT_SESSION_NOTE, {"text": "x"}),
        (documents.DELETE_SESSION_NOTE, {}),
    ):
        refused = await case.doctor.refused(document, id=note["id"], basedOnVersion=2, **given)
        assert refused == ("NOT_FOUND", "session_note_not_found")
    stale = await case.doctor.send(documents.EDIT_PSYCHOTHERAPY_NOTE, id=note["id"], text="Stale.")
    assert stale.body["data"]["editPsychotherapyNote"]["psychotherapyNotes"] == apart
    deleted = await case.doctor.ask(documents.DELETE_PSYCHOTHERAPY_NOTE, id=note["id"], basedOnVersion=2)
    assert (deleted["isDeleted"], deleted["psychotherapyNotes"]["lines"]) == (True, [])


# ---- with the recording


async def test_notes_are_hidden_while_the_deletion_of_their_recording_is_requested(
    harness: ApiHarness, case: Case
) -> None:
    kept, going = await harness.recording(case, "RECORDING"), await harness.recording(case)
    await _write(case.doctor, kept, "Kept.")
    note = (await _write(case.doctor, going, "Going."))["sessionNote"]
    await request_deletion(harness, going)
    read = await case.doctor.ask(documents.SESSION_NOTES, id=case.id)
    assert ([line["text"] for line in read["lines"]], read["isIncomplete"]) == (["Kept."], True)
    for document, given in (
        (documents.WRITE_SESSION_NOTE, {"recordingId": str(going), "text": "x"}),
        (documents.EDIT_SESSION_NOTE, {"id": note["id"], "text": "x"}),
        (documents.DELETE_SESSION_NOTE, {"id": note["id"]}),
    ):
        assert await case.doctor.refused(document, **given) == ("CONFLICT", "recording_being_deleted")
    await case.doctor.ask(documents.UNDO_DELETION, recordingId=str(going))
    read = await case.doctor.ask(documents.SESSION_NOTES, id=case.id)
    assert ([line["text"] for line in read["lines"]], read["isIncomplete"]) == (["Kept.", "Going."], False)


async def test_destruction_deletes_the_notes_and_its_certificate_counts_them(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    note = (await _write(case.doctor, recording, "One."))["sessionNote"]
    await case.doctor.ask(documents.EDIT_SESSION_NOTE, id=note["id"], text="Two.")
    await case.doctor.ask(documents.WRITE_PSYCHOTHERAPY_NOTE, recordingId=str(recording), text="Apart.")
    await destroy_recording(harness, recording)
    assert await _count(harness, recording) == 0
    certificates = await case.doctor.ask(documents.DELETION_CERTIFICATES, recordingId=str(recording))
    signed = json.loads(certificates["edges"][0]["node"]["json"])
    assert signed["certificate"]["text_rows_cleared"] == [
        {"table": "session_note_versions", "rows": 1},
        {"table": "session_notes", "rows": 1},
        {"table": "psychotherapy_notes", "rows": 1},
    ]
    assert len(signed["certificate"]["keys"]) == 1
    for document in (documents.SESSION_NOTES, documents.PSYCHOTHERAPY_NOTES):
        read = await case.doctor.ask(document, id=case.id)
        assert (read["lines"], read["isIncomplete"]) == ([], False)
    refused = await case.doctor.refused(documents.WRITE_SESSION_NOTE, recordingId=str(recording), text="x")
    assert refused == ("CONFLICT", "recording_deleted")
    refused = await case.doctor.refused(documents.EDIT_SESSION_NOTE, id=note["id"], text="x")
    assert refused == ("NOT_FOUND", "session_note_not_found")


@pytest.mark.parametrize("status", ["FAILED", "ABORTED"])
async def test_notes_on_a_recording_that_never_became_ready_die_with_it(
    harness: ApiHarness, case: Case, status: str
) -> None:
    recording = await harness.recording(case, status)
    await _write(case.doctor, recording)
    await destroy_recording(harness, recording)
    assert await _count(harness, recording) == 0
    rows = await harness.rows("select 1 from private.recording_keys where recording_id = %s", recording)
    assert rows == []


async def test_note_of_a_wrong_key_is_an_error_and_shows_nothing(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    note = await store_note(harness, recording)
    other = await store_note(harness, recording, text="Another.")
    await harness.rows(
        "update private.session_notes set ciphertext = (select ciphertext from private.session_notes where id = %s)"
        " where id = %s",
        other,
        note,
    )
    assert await case.doctor.refused(documents.SESSION_NOTES, id=case.id) == ("CONFLICT", "field_unreadable")


@pytest.mark.parametrize(("keys", "is_written"), [(("unknown",), False), (("unknown", "tests-1"), True)])
async def test_note_gets_a_data_key_of_a_registered_root_key(
    harness: ApiHarness,
    case: Case,
    recording: UUID,
    keys: tuple[str, ...],
    is_written: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """During a rotation, the API has a new root key before the worker registers it."""
    known = harness.worker_settings.keyring._keys
    other = Keyring({name: known.get(name, bytes(range(32))) for name in keys})
    offered = other.offer_data_key()
    monkeypatch.setattr(Keyring, "offer_data_key", lambda _: offered)
    answer = await case.doctor.send(documents.WRITE_SESSION_NOTE, recordingId=str(recording), text="x")
    if not is_written:
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "root_key_unknown")
    else:
        assert answer.value["sessionNote"]["text"] == "x"


# ---- live


@pytest.fixture(scope="module")
async def api(harness: ApiHarness) -> AsyncIterator[str]:
    settings = harness.settings.model_copy(update={"allowed_origins": (ORIGIN,)})
    async with serve_app(create_app(settings)) as url:
        yield url


@pytest.fixture(scope="module")
async def watchless(harness: ApiHarness) -> AsyncIterator[str]:
    """Yield the URL of an API that checks a session only before it sends an event."""
    settings = harness.settings.model_copy(update={"allowed_origins": (ORIGIN,)})
    limits = SocketLimits(recheck_seconds=3600)
    async with serve_app(create_app(settings, socket_limits=limits)) as url:
        yield url


async def test_subscriber_receives_the_notes_and_then_every_change(
    harness: ApiHarness, case: Case, recording: UUID, api: str
) -> None:
    async with open_socket(api) as client:
        await client.init(case.doctor)
        await client.subscribe(documents.SESSION_NOTES_CHANGED, consultationId=case.id)
        assert (await client.event())["lines"] == []
        written = await _write(case.doctor, recording, "One.")
        assert await client.event() == written["sessionNotes"]
        note = written["sessionNote"]["id"]
        edited = await case.doctor.ask(documents.EDIT_SESSION_NOTE, id=note, text="Two.")
        assert await client.event() == edited["sessionNotes"]
        await harness.rows("update resguardo.recordings set updated_at = now() where id = %s", recording)
        await case.doctor.ask(documents.WRITE_PSYCHOTHERAPY_NOTE, recordingId=str(recording), text="Apart.")
        await client.require_no_message()
        await case.doctor.ask(documents.DELETE_SESSION_NOTE, id=note, basedOnVersion=2)
        assert (await client.event())["lines"] == []
        rows = await harness.audit(client.request_id)
    assert [(row["action"], row["outcome"]) for row in rows] == [("session_note.watch", "ALLOWED")] * 4
    assert "lines.text" in rows[0]["fields"]


async def test_subscription_to_the_notes_of_another_doctor_is_refused(
    case: Case, other_doctor: Person, api: str
) -> None:
    async with open_socket(api) as client:
        await client.init(other_doctor)
        await client.subscribe(documents.SESSION_NOTES_CHANGED, consultationId=case.id)
        error = await client.error()
    assert error["extensions"]["reason"] == "CONSULTATION_NOT_FOUND"


async def test_subscription_ends_with_the_session(
    harness: ApiHarness, case: Case, recording: UUID, watchless: str
) -> None:
    person = await harness.with_session(case.doctor)
    async with open_socket(watchless) as client:
        await client.init(person)
        await client.subscribe(documents.SESSION_NOTES_CHANGED, consultationId=case.id)
        assert (await client.event())["lines"] == []
        await harness.end_session(person)
        await _write(case.doctor, recording, "Not for an ended session.")
        assert (await client.error())["extensions"]["reason"] == "SESSION_OVER"
        assert await client.wait_for_close() == (4401, "SESSION_OVER")
