"""Tests of note drafts and of their signature: reading, editing, flags, concurrent changes, refusals and addenda."""

import hashlib
import time
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest

from app.insights.drafts import NoteDraft, Section
from app.notes.note_format import NoteKind, QuotesKept, format_note
from tests.api import documents
from tests.api.deleting import destroy_recording
from tests.api.drafting import SUGGESTED, read_signed, store_suggestions, texts_of
from tests.api.harness import Answer, ApiHarness, Case, Person
from tests.api.shown import named_in
from tests.api.speaking import SAID, store_transcript

pytestmark = pytest.mark.anyio

RIGHT = [{"number": 2, "text": "Ibuprofen 400 mg twice a day."}, {"number": 3, "text": "Take ibuprofen."}]


@pytest.fixture
async def drafted(harness: ApiHarness, case: Case) -> UUID:
    """Return a READY recording with a transcript and READY insights."""
    recording = await harness.recording(case)
    transcript = await store_transcript(harness, recording)
    await store_suggestions(harness, recording, transcript)
    return recording


async def _draft(person: Person, recording: UUID) -> Any:
    return await person.ask(documents.NOTE_DRAFT, id=str(recording))


async def _edit(person: Person, recording: UUID, version: int, lines: object, section: str = "P") -> Answer:
    return await person.send(
        documents.EDIT_NOTE, id=str(recording), version=version, lines=lines, section=section
    )


async def _sign(person: Person, recording: UUID, version: int) -> Answer:
    return await person.send(documents.SIGN_NOTE, id=str(recording), version=version)


def _line(draft: Any, number: int) -> Any:
    return next(line for one in draft["sections"] for line in one["lines"] if line["number"] == number)


async def test_draft_shows_the_lines_of_the_insights_with_quotes_flags_and_coverage(
    harness: ApiHarness, doctor: Person, case: Case, drafted: UUID
) -> None:
    answer = await doctor.send(documents.NOTE_DRAFT, id=str(drafted))
    draft = answer.value
    assert [one["section"] for one in draft["sections"]] == ["S", "O", "A", "P"]
    assert texts_of(draft) == {
        "S": ["Headaches for two weeks."],
        "P": ["Ibuprofen 600 mg twice a day.", "Take ibuprofen."],
    }
    assert (draft["version"], draft["isSigned"], draft["isStale"], draft["hasOpenFlags"]) == (
        1,
        False,
        False,
        True,
    )
    wrong = _line(draft, 2)
    assert (wrong["author"], wrong["flags"]) == ("WRITER", [{"flag": "NUMBER", "resolution": None}])
    assert wrong["citations"] == [
        {"turnNumber": 2, "startSeconds": 10.0, "endSeconds": 14.0, "quote": SAID[2][1]}
    ]
    assert draft["uncitedTurns"] == []
    assert draft["coverage"]["unknownSpeakerCount"] == 0
    assert draft["writer"] == {"vendor": "resguardo", "model": "resguardo-extract"}
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("note_draft.read", "ALLOWED")
    assert named_in(row) == {
        "recording": {str(drafted)},
        "consultation": {case.id},
        "patient": {case.patient_id},
    }


async def test_draft_without_insights_is_empty_and_lists_what_no_line_cites(
    doctor: Person, recording: UUID
) -> None:
    draft = await _draft(doctor, recording)
    assert (texts_of(draft), draft["version"], draft["writer"]) == ({}, 0, None)
    assert {turn["turnNumber"] for turn in draft["uncitedTurns"]} == {1, 2}
    assert "DOSE" in draft["uncitedTurns"][-1]["kinds"]


async def test_hidden_absent_and_unfinished_recordings_have_no_draft(
    harness: ApiHarness, case: Case, other_doctor: Person, drafted: UUID
) -> None:
    failed = await harness.recording(case, "FAILED")
    for person, recording, outcome in (
        (other_doctor, drafted, "DENIED"),
        (other_doctor, uuid4(), "ABSENT"),
        (case.doctor, failed, "ALLOWED"),
    ):
        for document, action, given in (
            (documents.NOTE_DRAFT, "note_draft.read", {}),
            (documents.EDIT_NOTE, "note_draft.edit", {"version": 1, "lines": []}),
            (documents.KEEP_NOTE_FLAG, "note_draft.keep_flag", {"version": 1, "line": 2}),
        ):
            answer = await person.send(document, id=str(recording), **given)
            assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "note_draft_not_found")
            (row,) = await harness.audit(answer.request_id)
            assert (row["action"], row["outcome"], row["row_count"]) == (action, outcome, 0)


async def test_edit_is_stored_and_its_flags_are_checked_again(
    harness: ApiHarness, doctor: Person, drafted: UUID
) -> None:
    answer = await _edit(doctor, drafted, 1, [*RIGHT, {"text": "Come back in two weeks."}])
    edited = answer.value
    assert edited == await _draft(doctor, drafted)
    assert (edited["version"], edited["hasOpenFlags"]) == (2, False)
    assert texts_of(edited)["P"][0] == "Ibuprofen 400 mg twice a day."
    assert texts_of(edited)["S"] == ["Headaches for two weeks."]
    changed, new = _line(edited, 2), _line(edited, 4)
    assert (changed["author"], changed["flags"]) == ("DOCTOR", [{"flag": "NUMBER", "resolution": "CHANGED"}])
    assert len(changed["citations"]) == 1
    assert (new["author"], new["citations"], new["flags"]) == ("DOCTOR", [], [])
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["operation"], row["outcome"]) == ("note_draft.edit", "U", "ALLOWED")
    stored = await harness.rows("select ciphertext from private.note_drafts where recording_id = %s", drafted)
    assert b"buprofen" not in stored[0]["ciphertext"]


async def test_repeated_edit_changes_nothing_and_a_stale_one_is_refused(
    doctor: Person, drafted: UUID
) -> None:
    first = (await _edit(doctor, drafted, 1, RIGHT)).value
    assert (await _edit(doctor, drafted, 1, RIGHT)).value == first
    stale = await _edit(doctor, drafted, 1, [{"text": "Something else."}])
    assert (stale.error.code, stale.error.reason) == ("CONFLICT", "note_draft_changed")
    assert await _draft(doctor, drafted) == first


async def test_stale_edit_shows_the_newest_draft_besides_its_refusal(
    harness: ApiHarness, doctor: Person, drafted: UUID
) -> None:
    newest = (await _edit(doctor, drafted, 1, RIGHT)).value
    given = {"id": str(drafted), "version": 1, "lines": [{"text": "Something else."}]}
    answer = await doctor.send(documents.EDIT_NOTE_OR_SHOW_NEWEST, **given)
    assert answer.error.reason == "note_draft_changed"
    assert answer.body["errors"][0]["path"] == ["editNote", "section"]
    assert answer.body["data"]["editNote"] == {"section": None, "noteDraft": newest}
    assert [(row["action"], row["outcome"]) for row in await harness.audit(answer.request_id)] == [
        ("note_draft.edit", "FAILED"),
        ("note_draft.read", "ALLOWED"),
    ]
    edited = await doctor.send(documents.EDIT_NOTE_OR_SHOW_NEWEST, **given | {"version": 2})
    assert edited.data["editNote"]["section"]["lines"] == [{"text": "Something else."}]


async def test_draft_follows_newer_insights_until_the_doctor_changes_it(
    harness: ApiHarness, doctor: Person, case: Case
) -> None:
    recording = await harness.recording(case)
    transcript = await store_transcript(harness, recording)
    await store_suggestions(harness, recording, transcript)
    await store_suggestions(
        harness, recording, transcript, NoteDraft(subjective=SUGGESTED.subjective), generation=2
    )
    assert (await _draft(doctor, recording))["version"] == 2
    assert (await _edit(doctor, recording, 1, [{"text": "x"}])).error.reason == "note_draft_changed"
    edited = (await _edit(doctor, recording, 2, [{"text": "Rest."}])).value
    await store_suggestions(harness, recording, transcript, generation=3)
    assert await _draft(doctor, recording) == edited


async def test_dismissed_line_is_not_in_the_draft(harness: ApiHarness, doctor: Person, drafted: UUID) -> None:
    await harness.rows(
        "insert into private.insight_dismissals (recording_id, generation, line_number, dismissed_by)"
        " values (%s, 1, 2, %s)",
        drafted,
        doctor.user_id,
    )
    assert texts_of(await _draft(doctor, drafted))["P"] == ["Take ibuprofen."]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([{"text": ""}], "note_line_empty"),
        ([{"text": "a\nb"}], "note_line_characters"),
        ([{"text": "\u202egm 004"}], "note_line_characters"),
        ([{"text": "x" * 2001}], "note_line_too_long"),
        ([{"text": "x"}] * 101, "note_too_many_lines"),
        ([{"text": "x", "number": 2}, {"text": "y", "number": 2}], "note_line_twice"),
        ([{"text": "x", "number": 1}], "note_line_unknown"),
    ],
)
async def test_bad_lines_are_refused(doctor: Person, drafted: UUID, lines: object, reason: str) -> None:
    answer = await _edit(doctor, drafted, 1, lines)
    assert answer.error.reason == reason
    assert (await _draft(doctor, drafted))["version"] == 1


async def test_concurrent_edits_lose_nothing(doctor: Person, drafted: UUID) -> None:
    answers: list[Answer] = []

    async def edit(text: str) -> None:
        answers.append(await _edit(doctor, drafted, 1, [{"text": text}]))

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(edit, f"Line {number} of the plan.")
    kept = [answer for answer in answers if "errors" not in answer.body]
    assert len(kept) == 1
    assert {answer.error.reason for answer in answers if answer not in kept} == {"note_draft_changed"}
    assert await _draft(doctor, drafted) == kept[0].value


async def test_note_is_signed_after_its_flags_are_resolved(
    harness: ApiHarness, doctor: Person, case: Case, drafted: UUID
) -> None:
    assert (await _sign(doctor, drafted, 1)).error.reason == "note_flags_open"
    kept = await doctor.ask(documents.KEEP_NOTE_FLAG, id=str(drafted), line=2, version=1)
    assert _line(kept, 2)["flags"] == [{"flag": "NUMBER", "resolution": "KEPT"}]
    removed = (await _edit(doctor, drafted, 2, [], "S")).value
    answer = await _sign(doctor, drafted, removed["version"])
    signed = answer.value["noteDraft"]
    assert (signed["isSigned"], texts_of(signed)) == (True, texts_of(removed))
    ((note, sha256),) = await read_signed(harness, drafted)
    assert (answer.value["signature"]["version"], answer.value["signature"]["sha256"]) == (1, sha256)
    assert hashlib.sha256(format_note(note)).hexdigest() == sha256
    assert (note.kind, note.version, note.previous_sha256) == (NoteKind.NOTE, 1, None)
    assert (note.recording_id, str(note.consultation_id), str(note.patient_id), note.author_id) == (
        drafted,
        case.id,
        case.patient_id,
        doctor.user_id,
    )
    assert note.recording_sha256 == hashlib.sha256(b"recorded").hexdigest()
    wrong, right = note.sections[Section.P]
    assert [(one.flag, one.resolution) for one in wrong.flags] == [("NUMBER", "KEPT")]
    assert [(one.turn_number, one.start_ms, one.end_ms, one.quote) for one in right.citations] == [
        (2, 10_000, 14_000, "Take ibuprofen, 400 mg")
    ]
    assert note.coverage is not None
    assert (note.coverage.insights, note.coverage.transcript) == ("READY", "READY")
    assert note.coverage.uncited_turns == (1,)
    made_key, row = await harness.audit(answer.request_id)
    assert made_key["action"] == "patient.make_key"
    assert (row["action"], row["outcome"], row["digest"]) == ("note.sign", "ALLOWED", sha256)


async def test_signed_note_is_signed_once_and_not_edited_any_more(
    harness: ApiHarness, doctor: Person, drafted: UUID
) -> None:
    await _edit(doctor, drafted, 1, RIGHT)
    first = await _sign(doctor, drafted, 2)
    again = await _sign(doctor, drafted, 2)
    assert first.value == again.value
    assert first.value["noteDraft"] == await _draft(doctor, drafted)
    assert (await _sign(doctor, drafted, 3)).error.reason == "note_signed"
    for refused in (
        await _edit(doctor, drafted, 3, [{"text": "Later."}]),
        await doctor.send(documents.REGENERATE_SECTION, id=str(drafted), version=3),
    ):
        assert (refused.error.code, refused.error.reason) == ("CONFLICT", "note_signed")
    assert len(await read_signed(harness, drafted)) == 1


async def test_concurrent_signatures_make_one_signed_note(
    harness: ApiHarness, doctor: Person, drafted: UUID
) -> None:
    await _edit(doctor, drafted, 1, RIGHT)
    answers: list[Answer] = []

    async def sign() -> None:
        answers.append(await _sign(doctor, drafted, 2))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(sign)
    assert len({str(answer.value) for answer in answers}) == 1
    assert len(await read_signed(harness, drafted)) == 1


async def test_signature_needs_a_recent_totp_code_and_a_line(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    stale = await harness.with_session(doctor, totp_at=time.time() - 3600 * 24)
    answer = await _sign(stale, recording, 0)
    assert (answer.error.code, answer.error.reason) == ("FORBIDDEN", "totp_stale")
    assert (await _sign(doctor, recording, 0)).error.reason == "note_empty"
    assert (await _sign(doctor, recording, 7)).error.reason == "note_draft_changed"
    await _edit(doctor, recording, 0, [{"text": "Rest."}])
    assert (await _sign(doctor, recording, 1)).value["noteDraft"]["isSigned"]
    ((note, _),) = await read_signed(harness, recording)
    assert (note.writer, note.quote_count) == (None, 0)


async def test_stale_draft_is_signed_as_stale_after_its_lost_quote_is_resolved(
    harness: ApiHarness, doctor: Person, drafted: UUID
) -> None:
    await _edit(doctor, drafted, 1, RIGHT)
    await doctor.ask(documents.CORRECT_TRANSCRIPT, id=str(drafted), turn=1, text="For three weeks.")
    draft = await _draft(doctor, drafted)
    assert (draft["isStale"], draft["hasOpenFlags"]) == (True, True)
    assert _line(draft, 1)["flags"] == [{"flag": "WEAK_SUPPORT", "resolution": None}]
    assert (await _sign(doctor, drafted, 2)).error.reason == "note_flags_open"
    await _edit(doctor, drafted, 2, [{"text": "Headaches for three weeks."}], "S")
    assert (await _sign(doctor, drafted, 3)).value["noteDraft"]["isSigned"]
    ((note, _),) = await read_signed(harness, drafted)
    assert note.coverage is not None
    assert note.coverage.insights == "STALE"
    assert [(one.section, one.flag) for one in note.removed] == [(Section.S, "WEAK_SUPPORT")]


async def test_note_signed_after_a_withdrawn_consent_keeps_no_quotes(
    harness: ApiHarness, doctor: Person, case: Case, drafted: UUID
) -> None:
    await case.consent()
    await _edit(doctor, drafted, 1, RIGHT)
    await case.patient.ask(documents.WITHDRAW_CONSENT, participantId=case.participant("PATIENT"))
    assert (await _sign(doctor, drafted, 2)).value["noteDraft"]["isSigned"]
    ((note, _),) = await read_signed(harness, drafted)
    assert note.coverage is not None
    assert (note.coverage.quotes, note.quote_count) == (QuotesKept.NOT_PERMITTED, 0)
    assert b"For two weeks, and" not in format_note(note)


async def test_draft_cannot_be_signed_while_its_recording_is_being_deleted(
    doctor: Person, drafted: UUID
) -> None:
    await _edit(doctor, drafted, 1, RIGHT)
    await doctor.ask(documents.DELETE_RECORDING, id=str(drafted), reason="PATIENT_ASKED")
    for answer in (
        await _sign(doctor, drafted, 2),
        await _edit(doctor, drafted, 2, []),
        await doctor.send(documents.NOTE_DRAFT, id=str(drafted)),
    ):
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "recording_being_deleted")


async def test_addendum_is_a_new_signed_version(harness: ApiHarness, doctor: Person, drafted: UUID) -> None:
    given = {"id": str(drafted), "lines": ["The patient called: no fever."]}
    assert await doctor.refused(documents.ADD_ADDENDUM, **given) == ("CONFLICT", "note_not_signed")
    await _edit(doctor, drafted, 1, RIGHT)
    await _sign(doctor, drafted, 2)
    first = await doctor.send(documents.ADD_ADDENDUM, **given, idempotencyKey="a")
    assert first.value == (await doctor.send(documents.ADD_ADDENDUM, **given, idempotencyKey="a")).value
    await doctor.ask(documents.ADD_ADDENDUM, **given, idempotencyKey="b")
    assert first.value == (await doctor.send(documents.ADD_ADDENDUM, **given, idempotencyKey="a")).value
    (note, sha256), (second, second_sha256), (third, _) = await read_signed(harness, drafted)
    assert (note.kind, second.kind, third.kind) == (NoteKind.NOTE, NoteKind.ADDENDUM, NoteKind.ADDENDUM)
    assert (second.version, second.previous_sha256, third.previous_sha256) == (2, sha256, second_sha256)
    assert (second.addendum, second.author_id) == (tuple(given["lines"]), doctor.user_id)
    assert (first.value["version"], first.value["sha256"]) == (2, second_sha256)
    (row,) = await harness.audit(first.request_id)
    assert (row["action"], row["outcome"], row["digest"]) == ("note.add_addendum", "ALLOWED", second_sha256)


async def test_repeated_addendum_writes_an_audit_row_that_names_no_new_signature(
    harness: ApiHarness, doctor: Person, case: Case, drafted: UUID
) -> None:
    await _edit(doctor, drafted, 1, RIGHT)
    await _sign(doctor, drafted, 2)
    given = {"id": str(drafted), "lines": ["No fever."], "idempotencyKey": "a"}
    first, again = [await doctor.send(documents.ADD_ADDENDUM, **given) for _ in range(2)]
    assert first.value == again.value
    (row,), (repeated,) = [await harness.audit(one.request_id) for one in (first, again)]
    assert (row["reason"], row["digest"]) == (None, first.value["sha256"])
    assert (repeated["reason"], repeated["digest"], repeated["byte_count"]) == ("repeated", None, None)
    for name in ("action", "outcome", "actor_id", "entities", "patient_ids", "consultation_ids", "fields"):
        assert repeated[name] == row[name], name
    assert len(await read_signed(harness, drafted)) == 2
    reused = await doctor.send(documents.ADD_ADDENDUM, **given | {"lines": ["Fever."]})
    assert reused.error.reason == "idempotency_key_reused"
    assert len(await read_signed(harness, drafted)) == 2


async def test_addendum_is_added_after_the_recording_was_destroyed(
    harness: ApiHarness, doctor: Person, other_doctor: Person, drafted: UUID
) -> None:
    await _edit(doctor, drafted, 1, RIGHT)
    signed = (await _sign(doctor, drafted, 2)).value["signature"]
    await destroy_recording(harness, drafted)
    refused = await doctor.send(documents.NOTE_DRAFT, id=str(drafted))
    assert (refused.error.code, refused.error.reason) == ("CONFLICT", "recording_deleted")
    given = {"id": str(drafted), "lines": ["Read the letter of the hospital."], "idempotencyKey": "later"}
    hidden = await other_doctor.send(documents.ADD_ADDENDUM, **given)
    assert (hidden.error.code, hidden.error.reason) == ("NOT_FOUND", "signed_note_not_found")
    (row,) = await harness.audit(hidden.request_id)
    assert (row["action"], row["outcome"]) == ("note.add_addendum", "DENIED")
    first, again = [await doctor.send(documents.ADD_ADDENDUM, **given) for _ in range(2)]
    assert (first.value, first.value["version"]) == (again.value, 2)
    (note, sha256), (addendum, second) = await read_signed(harness, drafted)
    assert (sha256, second) == (signed["sha256"], first.value["sha256"])
    assert (addendum.previous_sha256, addendum.addendum) == (sha256, tuple(given["lines"]))
    assert note.quote_count > 0, "the quotes outlive the recording"
    (row,) = await harness.audit(first.request_id)
    assert (row["action"], row["outcome"], row["digest"]) == ("note.add_addendum", "ALLOWED", second)
    read = await doctor.ask(documents.SIGNED_NOTES, filter={"recordingId": str(drafted)})
    ((shown,),) = [[edge["node"] for edge in read["edges"]]]
    assert [(one["number"], one["problem"]) for one in shown["versions"]] == [(1, None), (2, None)]


async def test_note_of_a_destroyed_recording_without_a_signed_note_gets_no_addendum(
    harness: ApiHarness, doctor: Person, drafted: UUID
) -> None:
    await destroy_recording(harness, drafted)
    given = {"id": str(drafted), "lines": ["Too late."]}
    assert await doctor.refused(documents.ADD_ADDENDUM, **given) == ("CONFLICT", "note_not_signed")
    assert await doctor.refused(documents.SIGN_NOTE, id=str(drafted), version=1) == (
        "CONFLICT",
        "recording_deleted",
    )
    assert await read_signed(harness, drafted) == []


async def test_addendum_needs_the_doctor_of_the_note_and_a_recent_totp_code(
    harness: ApiHarness, doctor: Person, other_doctor: Person, drafted: UUID
) -> None:
    await _edit(doctor, drafted, 1, RIGHT)
    await _sign(doctor, drafted, 2)
    given = {"id": str(drafted), "lines": ["Not mine."]}
    answer = await other_doctor.send(documents.ADD_ADDENDUM, **given)
    assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "signed_note_not_found")
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("note.add_addendum", "DENIED")
    stale = await harness.with_session(doctor, totp_at=time.time() - 3600 * 24)
    assert await stale.refused(documents.ADD_ADDENDUM, **given) == ("FORBIDDEN", "totp_stale")
    for lines in ([], ["a\nb"], [""]):
        answer = await doctor.send(documents.ADD_ADDENDUM, id=str(drafted), lines=lines)
        assert answer.error.code == "INVALID_INPUT"
    assert len(await read_signed(harness, drafted)) == 1


async def test_concurrent_addenda_all_become_versions_or_conflicts(
    harness: ApiHarness, doctor: Person, drafted: UUID
) -> None:
    await _edit(doctor, drafted, 1, RIGHT)
    await _sign(doctor, drafted, 2)
    answers: list[Answer] = []

    async def add(number: int) -> None:
        given = {"id": str(drafted), "lines": [f"Addendum {number}."]}
        answers.append(await doctor.send(documents.ADD_ADDENDUM, **given))

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(add, number)
    kept = [answer for answer in answers if "errors" not in answer.body]
    assert len(await read_signed(harness, drafted)) == 1 + len(kept) > 1
