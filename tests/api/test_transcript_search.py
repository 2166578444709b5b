"""Tests of the transcript search. Every search writes an audit row, and finds only the caller's own transcripts,
with the text of the latest corrections.
"""

import threading
from dataclasses import replace
from uuid import UUID

import anyio
import httpx
import pytest
from pydantic import SecretStr

from app.keys import service as keys
from app.keys.keyring import Keyring, new_key_line
from app.postgres.quotas import load_quotas
from app.transcripts import encryption
from app.transcripts.encryption import DecryptedTranscript
from app.transcripts.model import Speaker
from app.transcripts.search import service as search_service
from app.transcripts.store import EncryptedTranscript
from tests.api import documents
from tests.api.harness import ROOT_KEYS, Answer, ApiHarness, Person
from tests.api.shown import named_in, shown_in
from tests.api.speaking import store_transcript

pytestmark = pytest.mark.anyio

_MIB = 1 << 20


async def _send(person: Person, query: str, **where: object) -> Answer:
    return await person.send(documents.TRANSCRIPT_SEARCH, query=query, filter=where)


async def _found(person: Person, query: str, **where: object) -> list[str]:
    answer = await _send(person, query, **where)
    return [hit["recording"]["id"] for hit in answer.data["transcriptSearch"]["hits"]]


async def _own(harness: ApiHarness, doctor: Person, *said: str) -> UUID:
    """Return a new recording of the given doctor, whose transcript consists of the given texts."""
    made = await harness.recording(await harness.case(doctor))
    await store_transcript(harness, made, tuple((Speaker.PATIENT, text) for text in said))
    return made


@pytest.mark.parametrize("has_key", [True, False])
async def test_search_that_finds_nothing_writes_an_audit_row(
    harness: ApiHarness, doctor: Person, recording: UUID, has_key: bool
) -> None:
    kept = await harness.rows("select wrapped_key, root_key_id from private.word_index_key")
    if not has_key:  # A practice without any transcript has no key
        await harness.rows("delete from private.word_index_key")
    try:
        answer = await _send(doctor, "nobody-said-this" if has_key else "headache")
    finally:
        if not has_key:
            restore = "insert into private.word_index_key (wrapped_key, root_key_id) values (%s, %s)"
            await harness.rows(restore, *kept[0].values())
    assert answer.data["transcriptSearch"] == {"hits": [], "isCut": False, "unreadableCount": 0}
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("transcript.search", "ALLOWED")
    assert [one for named in row["entities"] for one in named["ids"]] == []
    assert row["row_count"] == 0


async def test_search_finds_words_only_in_the_callers_recordings(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    other = await harness.clinician()
    theirs = await _own(harness, other, "My headaches are worse.")
    answer = await _send(other, "headache")
    assert [hit["recording"]["id"] for hit in answer.data["transcriptSearch"]["hits"]] == [str(theirs)]
    (row,) = await harness.audit(answer.request_id)
    assert named_in(row) == shown_in(answer)
    assert await _found(other, "headache", consultation={"id": await _consultation(harness, recording)}) == []


async def _consultation(harness: ApiHarness, recording: UUID) -> str:
    (row,) = await harness.rows("select consultation_id from resguardo.recordings where id = %s", recording)
    return str(row["consultation_id"])


@pytest.mark.parametrize("within", ["consultation", "recordingId"])
async def test_search_in_one_recording_or_consultation_returns_every_matching_turn_in_order(
    harness: ApiHarness, doctor: Person, within: str
) -> None:
    recording = await _own(
        harness, doctor, "My knee hurts.", "Only there.", "Both knees, and the elbow.", "My elbow."
    )
    await _own(harness, doctor, "A knee and an elbow.")
    consultation = {"id": await _consultation(harness, recording)}
    where = {within: consultation if within == "consultation" else str(recording)}
    hits = (await _send(doctor, "elbow knee", **where)).data["transcriptSearch"]["hits"]
    assert [(hit["recording"]["id"], hit["turnNumber"]) for hit in hits] == [
        (str(recording), turn) for turn in (0, 2, 3)
    ]
    assert await _found(doctor, "elbow wrist", **where) == []
    few = await doctor.ask(documents.TRANSCRIPT_SEARCH, query="knee", filter=where, first=1)
    assert [hit["turnNumber"] for hit in few["hits"]] == [0]


async def test_search_finds_spanish_by_accents_and_plurals(harness: ApiHarness, doctor: Person) -> None:
    recording = str(await _own(harness, doctor, "Tengo náuseas y dolores crónicos desde el último año."))
    for query in ("nausea", "DOLOR CRONICO", '"dolor crónico"', "años último"):
        assert await _found(doctor, query) == [recording], query
    for query in ("ano", '"crónicos dolores"'):
        assert await _found(doctor, query) == [], query


async def test_phrase_is_found_in_the_corrected_text(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    await doctor.ask(
        documents.CORRECT_TRANSCRIPT, id=str(recording), turn=2, text="Take paracetamol, 500 mg, twice a day."
    )
    for query in ('"take paracetamol"', '"500 mg twice"', '"twice a day" headache', "pill paracetamol"):
        assert await _found(doctor, query) == [str(recording)], query
    for query in ('"take ibuprofen"', '"400 mg"', "ibuprofen"):
        assert await _found(doctor, query) == [], query
    (hit,) = (await _send(doctor, "paracetamol")).data["transcriptSearch"]["hits"]
    assert "paracetamol" in [part["text"] for part in hit["snippet"] if part["isMatch"]]


async def test_search_reports_that_it_left_out_older_recordings(
    harness: ApiHarness, doctor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = await _own(harness, doctor, "A gallstone."), await _own(harness, doctor, "Gallstones.")
    times = {older: "2026-01-01", newer: "2026-02-01"}
    for recording, day in times.items():
        await harness.rows(
            "update resguardo.consultations set scheduled_at = %s::timestamptz"
            " where id = (select consultation_id from resguardo.recordings where id = %s)",
            day,
            recording,
        )
    everything = (await _send(doctor, "gallstone")).data["transcriptSearch"]
    assert ({hit["recording"]["id"] for hit in everything["hits"]}, everything["isCut"]) == (
        {str(older), str(newer)},
        False,
    )
    monkeypatch.setattr(search_service, "MAX_CANDIDATES", 1)
    cut = (await _send(doctor, "gallstone")).data["transcriptSearch"]
    assert ([hit["recording"]["id"] for hit in cut["hits"]], cut["isCut"]) == ([str(newer)], True)


async def test_search_reads_no_more_than_memory_allows(harness: ApiHarness, doctor: Person) -> None:
    newer, older = await _own(harness, doctor, "A bunion."), await _own(harness, doctor, "Bunions.")
    await harness.rows(
        "update resguardo.consultations set scheduled_at = '2026-01-01'"
        " where id = (select consultation_id from resguardo.recordings where id = %s)",
        older,
    )
    await harness.rows(
        "update private.transcript_texts set ciphertext = ciphertext || convert_to(repeat('x', %s), 'UTF8')"
        " where recording_id = %s",
        40 * _MIB,
        older,
    )
    found = (await _send(doctor, "bunion")).data["transcriptSearch"]
    assert ([hit["recording"]["id"] for hit in found["hits"]], found["isCut"]) == ([str(newer)], True)
    await harness.rows("delete from private.transcript_texts where recording_id = %s", older)


async def test_many_concurrent_searches_are_all_answered(doctor: Person, recording: UUID) -> None:
    answers: list[list[str]] = []

    async def search() -> None:
        answers.append(await _found(doctor, "headache"))

    async with anyio.create_task_group() as group:
        for _ in range(3 * search_service.MAX_SEARCHES):
            group.start_soon(search)
    assert answers == [[str(recording)]] * (3 * search_service.MAX_SEARCHES)


async def test_transcripts_are_decrypted_in_a_thread(
    doctor: Person, recording: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def decrypt(keyring: Keyring, encrypted: EncryptedTranscript) -> DecryptedTranscript:
        threads.append(threading.get_ident())
        return encryption.decrypt_transcript(keyring, encrypted)

    monkeypatch.setattr(search_service, "decrypt_transcript", decrypt)
    assert await _found(doctor, "headache") == [str(recording)]
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ('"' * 10_000, "search_too_long"),
        ("a" * 201, "search_too_long"),
        ('"' * 200, "search_empty"),
        ("?!… -- %_'\\;", "search_empty"),
        ("\u202e\u2067\u200f", "search_empty"),
        ("\U0001f9e0\U0001f48a", "search_empty"),
        (" ".join(f"w{letter}" for letter in "abcdefghijk"), "search_too_many_terms"),
    ],
)
async def test_query_that_cannot_be_searched_is_refused(doctor: Person, query: str, reason: str) -> None:
    answer = await _send(doctor, query)
    assert (answer.error.code, answer.error.reason) == ("INVALID_INPUT", reason)


async def test_query_of_a_megabyte_is_refused_before_it_is_read(doctor: Person) -> None:
    answer = await _send(doctor, "a" * 1_000_000)
    assert answer.error.code == "PAYLOAD_TOO_LARGE"


@pytest.mark.parametrize(
    "query",
    [
        "head\x00ache",
        "headache'; drop table x; --",
        "%",
        "headache\u202e \U0001f9e0",
        "\u0635\u062f\u0627\u0639",
        "a\u0301" * 100,
        "1a" * 100,
        "\ufdfa" * 200,
    ],
)
async def test_unusual_query_is_answered(
    harness: ApiHarness, doctor: Person, recording: UUID, query: str
) -> None:
    answer = await _send(doctor, query)
    if answer.body.get("errors"):
        assert answer.error.code == "INVALID_INPUT"
    else:
        hits = answer.data["transcriptSearch"]["hits"]
        assert [hit["recording"]["id"] for hit in hits] == (
            [str(recording)] if query.startswith("headache\u202e") else []
        )


async def _damage(harness: ApiHarness, recording: UUID) -> None:
    await harness.rows(
        "update private.transcript_texts set ciphertext = ciphertext || 'x'::bytea where recording_id = %s",
        recording,
    )


async def test_damaged_transcript_is_left_out_and_reported(
    harness: ApiHarness, doctor: Person, recording: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = await _own(harness, doctor, "Another headache.")
    await _damage(harness, damaged)
    answer = await _send(doctor, "headache")
    found = answer.data["transcriptSearch"]
    assert ([hit["recording"]["id"] for hit in found["hits"]], found["unreadableCount"]) == (
        [str(recording)],
        1,
    )
    (row,) = await harness.audit(answer.request_id)
    assert named_in(row)["recording"] == {str(recording), str(damaged)}
    (alert,) = await harness.rows(
        "select * from resguardo.alerts where kind = 'TRANSCRIPT_UNREADABLE' and closed_at is null"
    )
    assert (alert["entity_type"], alert["entity_ids"]) == ("transcript", [damaged])
    told = [one.getMessage() for one in caplog.records if one.name == "app.transcripts.search.service"]
    assert told == [f"transcript cannot be decrypted: recording={damaged} field_unreadable"]
    assert (await _send(doctor, "pills")).data["transcriptSearch"]["unreadableCount"] == 0


@pytest.mark.parametrize("is_within", [True, False])
async def test_unreadable_transcripts_raise_an_error_instead_of_an_empty_result(
    harness: ApiHarness, doctor: Person, is_within: bool
) -> None:
    damaged = await _own(harness, doctor, "An embolism.")
    await _damage(harness, damaged)
    where = {"consultation": {"id": await _consultation(harness, damaged)}} if is_within else {}
    answer = await _send(doctor, "embolism", **where)
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "field_unreadable")
    (row,) = await harness.audit(answer.request_id)
    assert (row["outcome"], row["entities"]) == ("ALLOWED", [{"type": "recording", "ids": [str(damaged)]}])
    assert await _found(await harness.clinician(), "embolism") == []


async def test_reading_and_searching_count_against_the_hourly_quota_of_pages(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    urls = await doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    await harness.spend(doctor, "pages", load_quotas().pages)
    for document, given in (
        (documents.TRANSCRIPT_SEARCH, {"query": "headache"}),
        (documents.TRANSCRIPT, {"id": str(recording)}),
        (documents.CORRECT_TRANSCRIPT, {"id": str(recording), "turn": 0, "text": "No."}),
    ):
        answer = await doctor.send(document, **given)
        assert (answer.error.code, answer.error.reason) == ("RATE_LIMITED", "quota_pages")
        assert answer.error.message == "You have reached the hourly limit of pages. Please try again later."
        (row,) = await harness.audit(answer.request_id)
        assert (row["outcome"], row["reason"]) == ("DENIED", "quota_pages")
    assert (await harness.http.get(urls["webvtt"])).status_code == 429


async def test_transcript_of_a_recording_to_be_destroyed_is_not_returned(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    """After a request to delete a recording, the API neither returns nor finds its transcript until the request is
    undone.
    """
    urls = await doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    given = {"id": str(recording), "turn": 0, "text": "Nothing."}
    await doctor.ask(documents.DELETE_RECORDING, id=str(recording), reason="OTHER")
    for document, variables in (
        (documents.TRANSCRIPT, {"id": str(recording)}),
        (documents.CORRECT_TRANSCRIPT, given),
        (documents.ISSUE_SUBTITLE_URLS, {"id": str(recording)}),
    ):
        answer = await doctor.send(document, **variables)
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "recording_being_deleted")
        (row,) = await harness.audit(answer.request_id)
        assert (row["outcome"], row["reason"]) == ("FAILED", "recording_being_deleted")
    assert (await harness.http.get(urls["webvtt"])).status_code == 409
    assert await _found(doctor, "headache") == []
    await doctor.ask(documents.UNDO_DELETION, recordingId=str(recording))
    assert await _found(doctor, "headache") == [str(recording)]
    assert (await harness.http.get(urls["webvtt"])).status_code == 200


@pytest.mark.parametrize("stops_after", [0, 1, 2, 3])
async def test_transcript_is_found_read_and_corrected_after_a_rotation_was_killed_at_any_step(
    harness: ApiHarness, doctor: Person, stops_after: int
) -> None:
    """During the rotation, the API has the old and the new root key; at the end, it has only the new root key."""
    recordings = [await _own(harness, doctor, "An aneurysm.", "Number none.") for _ in range(3)]
    line, asked = new_key_line(f"newer-{stops_after}"), 0

    async def all_is_there(http: httpx.AsyncClient) -> None:
        nonlocal asked
        asked += 1
        person, text = replace(doctor, http=http), f"Aneurysm number {asked}."
        assert set(await _found(person, "aneurysm")) == {str(one) for one in recordings}
        for recording in recordings:
            given = {"id": str(recording), "turn": 1, "text": text}
            assert (await person.ask(documents.CORRECT_TRANSCRIPT, **given))["turns"][1]["text"] == text
            assert (await person.ask(documents.TRANSCRIPT, id=str(recording)))["turns"][1]["text"] == text
        assert set(await _found(person, f'"number {asked}"')) == {str(one) for one in recordings}
        assert await _found(person, f'"number {asked - 1}"') == []

    def killed(done: int, total: int) -> None:
        if done >= stops_after:
            raise KeyboardInterrupt

    newer = Keyring.parse(f"{line},{ROOT_KEYS}")
    try:
        async with harness.another_api(root_keys=SecretStr(f"{ROOT_KEYS},{line}")) as http:
            await all_is_there(http)
            with pytest.raises(KeyboardInterrupt):
                await keys.rotate(harness.services.database, newer, batch=1, on_progress=killed)
            await all_is_there(http)
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(_found, replace(doctor, http=http), "aneurysm")
                group.start_soon(all_is_there, http)
                assert (await keys.rotate(harness.services.database, newer, batch=1)).is_complete
            await all_is_there(http)
        async with harness.another_api(root_keys=SecretStr(line)) as http:
            await all_is_there(http)
    finally:
        back = Keyring.parse(f"{ROOT_KEYS},{line}")
        assert (await keys.rotate(harness.services.database, back)).is_complete


@pytest.mark.parametrize(
    ("where", "finds"),
    [
        ({"scheduledDuring": {"from": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59Z"}}, True),
        ({"scheduledDuring": {"from": "0001-01-01T00:00:00+14:00"}}, True),
        ({"scheduledDuring": {"until": "9999-12-31T23:59:59-14:00"}}, True),
        ({"scheduledDuring": {}}, True),
        ({"scheduledDuring": {"from": "2030-01-01T00:00:00Z", "until": "2020-01-01T00:00:00Z"}}, False),
        ({"consultation": {"id": "00000000-0000-0000-0000-000000000000"}}, False),
        ({"patient": {"id": "00000000-0000-0000-0000-000000000000"}}, False),
        ({"consultation": {"externalId": ""}}, False),
        ({"patient": {"externalId": "x" * 1000}}, False),
    ],
)
async def test_filter_with_extreme_values_is_answered(
    doctor: Person, recording: UUID, where: dict[str, str], finds: bool
) -> None:
    assert await _found(doctor, "headache", **where) == ([str(recording)] if finds else [])


async def test_search_reveals_nothing_about_other_doctors_transcripts(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    """The API gives byte-for-byte equal answers in three cases: only transcripts of other doctors contain the text,
    only a sensitive recording of the caller contains the text, or no transcript contains the text.
    """
    others = await _own(harness, await harness.clinician(), "A sarcoidosis.")
    case = await harness.case(doctor, sensitivity="SUBSTANCE_USE", isTranscribed=True)
    sensitive = await harness.recording(case)
    await store_transcript(harness, sensitive, ((Speaker.PATIENT, "A pancreatitis."),))
    hidden = await _consultation(harness, others)
    in_hidden = {"consultation": {"id": hidden}}
    answers = [
        (where, await _send(doctor, query, **where))
        for query in ("sarcoidosis", "pancreatitis", "nephrolithiasis")
        for where in ({}, in_hidden, {"consultation": {"id": case.id}})
    ]
    assert len({answer.response.text for _, answer in answers}) == 1
    for where, answer in answers:
        (row,) = await harness.audit(answer.request_id)
        named = [UUID(hidden)] if where == in_hidden else []
        assert row["outcome"] == ("DENIED" if named else "ALLOWED")
        shown = [one for of_type in row["entities"] for one in of_type["ids"]]
        assert (shown, row["consultation_ids"]) == ([str(one) for one in named], named)
        assert len(row["patient_ids"]) == len(named)
