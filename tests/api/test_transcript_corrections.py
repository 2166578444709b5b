"""Tests of attacks on corrections of transcripts. Each correction writes an audit row, no concurrent correction is
lost, and the size of a text is limited.
"""

import threading
from uuid import UUID, uuid4

import anyio
import pytest

from app.keys.keyring import Keyring
from app.postgres.database import Transaction
from app.transcripts import encryption, store
from app.transcripts.model import MAX_TURN_CHARACTERS, Transcript
from app.transcripts.search import word_index
from app.transcripts.search.word_index import IndexKey
from tests.api import documents
from tests.api.harness import Answer, ApiHarness, Person
from tests.api.shown import named_in, shown_in
from tests.api.speaking import SAID

pytestmark = pytest.mark.anyio


async def _correct(person: Person, recording: UUID, turn: int, text: str) -> Answer:
    return await person.send(documents.CORRECT_TRANSCRIPT, id=str(recording), turn=turn, text=text)


@pytest.mark.parametrize("document", [documents.CORRECT_TRANSCRIPT, documents.ATTRIBUTE_TURN])
async def test_correction_to_the_present_text_changes_nothing_and_writes_an_audit_row(
    harness: ApiHarness, doctor: Person, recording: UUID, document: str
) -> None:
    """A correction that changes nothing writes the audit row of a read, because the answer contains the turn's
    text.
    """
    given = {"text": SAID[0][1]} if document == documents.CORRECT_TRANSCRIPT else {"speaker": "DOCTOR"}
    before = await doctor.ask(documents.TRANSCRIPT, id=str(recording))
    answer = await doctor.send(document, id=str(recording), turn=0, **given)
    assert answer.value == before
    assert before["corrections"] == []
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("transcript.correct", "ALLOWED")
    assert {"turns.text", "corrections.text", "recording.consultation.externalId"} <= set(row["fields"])
    assert shown_in(answer).items() <= named_in(row).items()


async def test_repeated_correction_after_a_lost_answer_is_stored_once(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    answers = [await _correct(doctor, recording, 0, "Good\u00a0evening.  ") for _ in range(3)]
    assert [answer.value for answer in answers] == [answers[0].value] * 3
    assert len(answers[0].value["corrections"]) == 1
    rows = [await harness.audit(answer.request_id) for answer in answers]
    assert [[row["outcome"] for row in of_one] for of_one in rows] == [["ALLOWED"]] * 3


async def test_correction_of_the_expected_text_is_made_and_repeating_it_changes_nothing(
    doctor: Person, recording: UUID
) -> None:
    correction = {"turn": 0, "text": "Good evening.", "expectedText": SAID[0][1]}
    answers = [
        await doctor.ask(documents.CORRECT_TRANSCRIPT, id=str(recording), **correction) for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert [one["text"] for one in answers[0]["corrections"]] == ["Good evening."]


@pytest.mark.parametrize("expected", ["Good night.", "", SAID[1][1]])
async def test_correction_of_another_text_than_the_expected_is_refused(
    harness: ApiHarness, doctor: Person, recording: UUID, expected: str
) -> None:
    answer = await doctor.send(
        documents.CORRECT_TRANSCRIPT, id=str(recording), turn=0, text="Good evening.", expectedText=expected
    )
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "turn_changed")
    assert "Read the transcript again" in answer.error.message
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["reason"]) == ("transcript.correct", "FAILED", "turn_changed")
    read = await doctor.ask(documents.TRANSCRIPT, id=str(recording))
    assert (read["corrections"], read["turns"][0]["text"]) == ([], SAID[0][1])


async def test_concurrent_corrections_of_one_expected_text_make_one(doctor: Person, recording: UUID) -> None:
    answers: list[Answer] = []

    async def correct(text: str) -> None:
        answers.append(
            await doctor.send(
                documents.CORRECT_TRANSCRIPT,
                id=str(recording),
                turn=0,
                text=text,
                expectedText=SAID[0][1],
            )
        )

    async with anyio.create_task_group() as group:
        for letter in "abcd":
            group.start_soon(correct, f"Version {letter} of it.")
    refused = [answer.error.reason for answer in answers if "errors" in answer.body]
    assert refused == ["turn_changed"] * 3
    read = await doctor.ask(documents.TRANSCRIPT, id=str(recording))
    assert len(read["corrections"]) == 1


async def test_naming_the_present_speaker_of_a_voice_changes_nothing(doctor: Person, recording: UUID) -> None:
    named = {"id": str(recording), "turn": 0, "speaker": "INTERPRETER"}
    first = await doctor.ask(documents.ATTRIBUTE_TURN, **named)
    assert await doctor.ask(documents.ATTRIBUTE_TURN, **named) == first
    assert await doctor.ask(documents.ATTRIBUTE_TURN, **named, onlyThisTurn=True) == first
    assert len(first["corrections"]) == 1


@pytest.mark.parametrize("document", [documents.CORRECT_TRANSCRIPT, documents.ATTRIBUTE_TURN])
async def test_repeated_correction_with_one_key_changes_nothing_after_a_later_one(
    harness: ApiHarness, doctor: Person, recording: UUID, document: str
) -> None:
    is_text = document == documents.CORRECT_TRANSCRIPT
    first, later = (
        ({"text": "Good evening.", "expectedText": SAID[0][1]}, {"text": "Good night."})
        if is_text
        else ({"speaker": "INTERPRETER"}, {"speaker": "PATIENT"})
    )
    key, about = str(uuid4()), {"id": str(recording), "turn": 0}
    await doctor.ask(document, **about, **first, idempotencyKey=key)
    corrected = await doctor.ask(document, **about, **later, idempotencyKey=str(uuid4()))
    answer = await doctor.send(document, **about, **first, idempotencyKey=key)
    (repeated,) = answer.data.values()
    assert repeated["transcript"] == corrected
    assert len(corrected["corrections"]) == 2
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("transcript.correct", "ALLOWED")
    for other in (later, first | {"turn": 1}):
        refused = await doctor.refused(document, **about | other, idempotencyKey=key)
        assert refused == ("CONFLICT", "idempotency_key_reused")
    bad = await doctor.refused(document, **about, **first, idempotencyKey="")
    assert bad == ("INVALID_INPUT", "bad_idempotency_key")


async def test_key_of_a_correction_of_an_unknown_turn_can_be_used_again(
    doctor: Person, recording: UUID
) -> None:
    key = str(uuid4())
    for turn, refused in ((99, True), (0, False), (0, False)):
        answer = await doctor.send(
            documents.CORRECT_TRANSCRIPT, id=str(recording), turn=turn, text="Hello.", idempotencyKey=key
        )
        assert ("errors" in answer.body) == refused
    read = await doctor.ask(documents.TRANSCRIPT, id=str(recording))
    assert [one["text"] for one in read["corrections"]] == ["Hello."]


async def test_concurrent_corrections_with_one_key_make_one(doctor: Person, recording: UUID) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(
                lambda: doctor.ask(
                    documents.ATTRIBUTE_TURN, id=str(recording), speaker="INTERPRETER", idempotencyKey="one"
                )
            )
    read = await doctor.ask(documents.TRANSCRIPT, id=str(recording))
    assert len(read["corrections"]) == 1


async def test_invalid_text_is_refused_before_the_transcript_is_read(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    await harness.rows(
        "update private.transcript_texts set ciphertext = ciphertext || 'x'::bytea where recording_id = %s",
        recording,
    )
    for text, reason in (
        (" ", "correction_empty"),
        ("a\x00b", "correction_characters"),
        ("x" * (MAX_TURN_CHARACTERS + 1), "correction_too_long"),
    ):
        answer = await _correct(doctor, recording, 0, text)
        assert (answer.error.code, answer.error.reason) == ("INVALID_INPUT", reason)


@pytest.mark.parametrize("character", ["x", '"', "\u00e9", "\u4e2d", "\U0001f9e0"])
async def test_longest_correction_is_stored_in_every_script(
    doctor: Person, recording: UUID, character: str
) -> None:
    text = character * MAX_TURN_CHARACTERS
    answer = await _correct(doctor, recording, 1, text)
    assert answer.value["turns"][1]["text"] == text


async def test_size_of_a_correction_is_measured_after_normalization(doctor: Person, recording: UUID) -> None:
    answer = await _correct(doctor, recording, 1, "\U0001d160" * MAX_TURN_CHARACTERS)
    assert answer.error.reason == "correction_too_long"


async def test_concurrent_corrections_are_all_stored(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    texts = [f"Version {letter} of it." for letter in "abcdef"]

    async with anyio.create_task_group() as group:
        for text in texts:
            group.start_soon(_correct, doctor, recording, 1, text)
    read = await doctor.ask(documents.TRANSCRIPT, id=str(recording))
    kept = [one["text"] for one in read["corrections"]]
    assert sorted(kept) == texts
    assert read["turns"][1]["text"] == kept[-1]
    numbers = await harness.rows(
        "select number from private.transcript_corrections where recording_id = %s order by 1", recording
    )
    assert [row["number"] for row in numbers] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("swap", ["older in the place of the newer", "each in the other's place"])
async def test_correction_moved_to_another_row_cannot_be_decrypted(
    harness: ApiHarness, doctor: Person, recording: UUID, swap: str
) -> None:
    for text in ("Take 500 mg.", "Take 50 mg."):
        assert (await _correct(doctor, recording, 2, text)).data
    older, newer = (1, 2)
    await harness.rows(
        "update private.transcript_corrections as c set ciphertext = o.ciphertext"
        " from private.transcript_corrections as o"
        " where c.recording_id = %s and o.recording_id = c.recording_id and o.number <> c.number"
        " and (c.number = %s or %s)",
        recording,
        newer,
        swap.startswith("each"),
    )
    for answer in (
        await doctor.send(documents.TRANSCRIPT, id=str(recording)),
        await _correct(doctor, recording, older, "Anything."),
    ):
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "field_unreadable")
        (row,) = await harness.audit(answer.request_id)
        assert named_in(row)["recording"] == {str(recording)}


async def test_correction_is_computed_in_a_thread(
    doctor: Person, recording: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correction normalizes and hashes the whole transcript in a thread. For the transcript of a recording of
    twelve hours, a correction takes 0.2 s.
    """
    threads: list[int] = []

    def hash_transcript(key: IndexKey, transcript: Transcript) -> frozenset[int]:
        threads.append(threading.get_ident())
        return word_index.hash_transcript(key, transcript)

    monkeypatch.setattr(encryption, "hash_transcript", hash_transcript)
    assert (await _correct(doctor, recording, 0, "Good evening.")).data
    assert threads
    assert threading.get_ident() not in threads


async def test_correction_is_refused_if_a_deletion_is_requested_meanwhile(
    harness: ApiHarness, doctor: Person, recording: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the recording's deletion is requested after the API has decrypted the transcript, the correction fails."""
    through = store.read_index_key

    async def index_key(tx: Transaction, keyring: Keyring) -> IndexKey | None:
        await doctor.ask(documents.DELETE_RECORDING, id=str(recording), reason="OTHER")
        return await through(tx, keyring)

    monkeypatch.setattr(store, "read_index_key", index_key)
    answer = await _correct(doctor, recording, 1, "Nothing.")
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "transcript_changed")
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("transcript.correct", "FAILED")
    monkeypatch.undo()
    await doctor.ask(documents.UNDO_DELETION, recordingId=str(recording))
    read = await doctor.ask(documents.TRANSCRIPT, id=str(recording))
    assert (read["corrections"], read["turns"][1]["text"]) == ([], SAID[1][1])
