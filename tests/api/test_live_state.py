"""Tests of the subscriptions `consultationChanged` and `recordingsChanged` over real sockets: the present state that
they send first, the changes that follow, and who may subscribe.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest

from app.main import create_app
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, ids_of
from tests.api.shown import named_in, shown_by
from tests.api.socket_client import ORIGIN, Socket, open_socket, serve_app
from tests.api.test_speaker_sounds import Sounds
from tests.api.test_subscriptions import KILL_LISTENERS

pytestmark = pytest.mark.anyio

_TOUCH: LiteralString = "update resguardo.recordings set duration_seconds = %s where id = %s"


@pytest.fixture(scope="module")
async def api(harness: ApiHarness) -> AsyncIterator[str]:
    settings = harness.settings.model_copy(update={"allowed_origins": (ORIGIN,)})
    async with serve_app(create_app(settings)) as url:
        yield url


@pytest.fixture
async def case(harness: ApiHarness) -> Case:
    return await harness.case()


@asynccontextmanager
async def _watching(url: str, person: Person, document: str, **variables: str) -> AsyncIterator[Socket]:
    async with open_socket(url) as client:
        await client.init(person)
        await client.subscribe(document, **variables)
        yield client


def _consultation(url: str, case: Case, person: Person | None = None) -> Any:
    return _watching(url, person or case.doctor, documents.CONSULTATION_CHANGED, consultationId=case.id)


def _library(url: str, person: Person) -> Any:
    return _watching(url, person, documents.RECORDINGS_CHANGED)


async def _touch(harness: ApiHarness, *recordings: UUID, seconds: float = 7) -> None:
    for recording in recordings:
        await harness.rows(_TOUCH, seconds, recording)


async def _present(client: Socket, count: int) -> list[str]:
    """Return the ids of the present state, and require that no other message follows."""
    ids = [(await client.event())["id"] for _ in range(count)]
    await client.require_no_message()
    return ids


async def _pages(harness: ApiHarness, person: Person) -> int:
    (row,) = await harness.rows(
        "select coalesce(sum(used), 0)::int as used from private.usage where meter = 'pages' and person_id = %s",
        person.user_id,
    )
    return int(row["used"])


async def _until(client: Socket, is_awaited: Callable[[Any], bool]) -> Any:
    """Return the first event that the function accepts. A read that sees two changes sends the same state twice."""
    while not is_awaited(told := await client.event()):
        pass
    return told


async def test_consultation_is_sent_at_first_and_after_each_consent_join_and_guest(
    harness: ApiHarness, case: Case, api: str
) -> None:
    pages = await _pages(harness, case.doctor)
    async with _consultation(api, case) as client:
        first = await client.event()
        assert (first["id"], first["consents"]) == (case.id, [])
        assert await _pages(harness, case.doctor) == pages + 1
        await case.consent()
        await _until(client, lambda told: len(told["consents"]) == 2)
        await case.patient.ask(documents.JOIN, consultationId=case.id)
        told = await _until(client, lambda told: any(one["joinedAt"] for one in told["participants"]))
        assert {one["kind"] for one in told["participants"] if one["joinedAt"]} == {"PATIENT"}
        assert [one["hasConsented"] for one in told["participants"]] == [True, True]
        await case.doctor.ask(documents.INVITE, consultationId=case.id, role="INTERPRETER")
        told = await _until(client, lambda told: len(told["participants"]) == 3)
        assert [one["guestRole"] for one in told["participants"] if one["guestRole"]] == ["INTERPRETER"]
        await case.doctor.ask(documents.WITHDRAW_CONSENT, participantId=case.participant("DOCTOR"))
        await _until(client, lambda told: told["consents"][-1]["decision"] == "WITHDRAWN")
        await case.doctor.send(documents.SWITCH_TRANSCRIPTION, consultationId=case.id, isTranscribed=False)
        await _until(client, lambda told: told["isTranscribed"] is False)
        await client.require_no_message()
        rows = await harness.audit(client.request_id)
    assert {(row["action"], row["outcome"], row["actor_id"]) for row in rows} == {
        ("consultation.watch", "ALLOWED", case.doctor.user_id)
    }
    assert all(row["consultation_ids"] == [UUID(case.id)] for row in rows)


async def test_changes_of_a_recording_its_transcription_and_its_deletion_are_sent_with_the_consultation(
    harness: ApiHarness, case: Case, api: str
) -> None:
    await case.consent()
    async with _consultation(api, case) as client:
        await client.event()
        recording = await harness.recording(case, "VERIFYING")
        assert (await client.event())["id"] == case.id
        await harness.rows("update resguardo.recordings set status = 'READY' where id = %s", recording)
        await client.event()
        await harness.rows(
            "update resguardo.transcripts set status = 'RUNNING', chunks_total = 2 where recording_id = %s",
            recording,
        )
        await client.event()
        await case.doctor.ask(documents.DELETE_RECORDING, id=str(recording), reason="OTHER")
        await client.event()
        await case.doctor.ask(documents.UNDO_DELETION, recordingId=str(recording))
        await client.event()
        await client.require_no_message()


async def test_changes_of_another_consultation_are_not_sent(
    harness: ApiHarness, case: Case, api: str
) -> None:
    other = await harness.case(case.doctor)
    async with _consultation(api, case) as client:
        await client.event()
        await other.consent()
        await harness.recording(other)
        await client.require_no_message()


async def test_library_begins_with_the_25_recordings_that_changed_last(
    harness: ApiHarness, case: Case, api: str
) -> None:
    await case.consent()
    pages = await _pages(harness, case.doctor)
    recordings = [await harness.recording(case, "VERIFYING") for _ in range(28)]
    await _touch(harness, *reversed(recordings))
    async with _library(api, case.doctor) as client:
        assert await _present(client, 25) == [str(one) for one in reversed(recordings[:25])]
        rows = await harness.audit(client.request_id)
        assert await _pages(harness, case.doctor) == pages + 1
    (row,) = rows
    assert (row["action"], row["outcome"], row["row_count"]) == ("recording.watch", "ALLOWED", 25)
    assert {one["type"]: {UUID(each) for each in one["ids"]} for one in row["entities"] if one["ids"]} == {
        "recording": set(recordings[:25]),
        "consultation": {UUID(case.id)},
    }
    assert row["patient_ids"] == [UUID(case.patient_id)]
    assert "consultation.externalId" in row["fields"]


async def test_change_of_sound_transcription_or_deletion_is_a_change_of_its_recording(
    harness: ApiHarness, case: Case, api: str
) -> None:
    await case.consent()
    with_sound, transcribed, deleted, *others = [await harness.recording(case) for _ in range(30)]
    sounds = Sounds(harness, case, with_sound)
    made = [await sounds.add(case.participant("DOCTOR"), "VERIFYING") for _ in range(30)]
    await harness.rows(
        "insert into resguardo.transcripts (recording_id, consultation_id, doctor_id, patient_id, status)"
        " select r.id, r.consultation_id, r.doctor_id, r.patient_id, 'PENDING' from resguardo.recordings as r"
        " where r.id = %s",
        transcribed,
    )
    await case.doctor.ask(documents.DELETE_RECORDING, id=str(deleted), reason="OTHER")
    await harness.rows("update resguardo.recordings set status = 'FAILED' where id = any(%s)", made)
    async with _library(api, case.doctor) as client:
        ids = await _present(client, 25)
        assert ids[-3:] == [str(transcribed), str(deleted), str(with_sound)]
        assert len(set(ids)) == 25
        await harness.rows(
            "update resguardo.transcripts set status = 'RUNNING', chunks_total = 2 where recording_id = %s",
            transcribed,
        )
        assert (await client.event())["transcription"]["status"] == "RUNNING"
        await case.doctor.ask(documents.UNDO_DELETION, recordingId=str(deleted))
        assert (await client.event())["id"] == str(deleted)
        await client.require_no_message()
    assert str(others[0]) not in ids


async def test_progress_of_insights_is_a_change_of_their_recording(
    harness: ApiHarness, case: Case, api: str
) -> None:
    await case.consent()
    written, *_ = [await harness.recording(case) for _ in range(26)]
    await harness.rows(
        "insert into resguardo.insights (recording_id, consultation_id, doctor_id, patient_id, status)"
        " select r.id, r.consultation_id, r.doctor_id, r.patient_id, 'PENDING' from resguardo.recordings as r"
        " where r.id = %s",
        written,
    )
    async with _library(api, case.doctor) as client:
        assert (await _present(client, 25))[-1] == str(written)
        for change in (
            "status = 'RUNNING', part_count = 2",
            "parts_done = 1",
            "status = 'READY', parts_done = 2",
            "status = 'STALE', is_refreshed = true",
            "dismissed_count = 1",
        ):
            await harness.rows(f"update resguardo.insights set {change} where recording_id = %s", written)  # noqa: S608
            assert (await client.event())["id"] == str(written)
        await harness.rows("update resguardo.insights set run = run + 1 where recording_id = %s", written)
        await client.require_no_message()


async def test_every_recording_that_changes_later_is_sent_even_an_old_one(
    harness: ApiHarness, case: Case, api: str
) -> None:
    await case.consent()
    oldest, *_ = [await harness.recording(case, "VERIFYING") for _ in range(26)]
    other = await harness.recording(await harness.case(), "VERIFYING")
    async with _library(api, case.doctor) as client:
        assert str(oldest) not in await _present(client, 25)
        await _touch(harness, other, oldest)
        told = await client.event()
        assert (told["id"], told["durationSeconds"]) == (str(oldest), 7)
        another = await harness.case(case.doctor)
        await another.consent()
        started = await case.doctor.ask(documents.START, consultationId=another.id)
        assert await client.event() == started
        await client.require_no_message()


async def test_each_later_change_of_the_library_writes_one_audit_row(
    harness: ApiHarness, case: Case, api: str
) -> None:
    await case.consent()
    recordings = [await harness.recording(case, "VERIFYING") for _ in range(3)]
    async with _library(api, case.doctor) as client:
        await _present(client, 3)
        for seconds, recording in enumerate(recordings, start=1):
            await _touch(harness, recording, seconds=seconds)
            event = await client.event()
            assert event["id"] == str(recording)
        _, *later = await harness.audit(client.request_id)
        assert [(named_in(row)["recording"], row["row_count"]) for row in later] == [
            ({str(one)}, 1) for one in recordings
        ]
        assert named_in(later[-1]) == shown_by(documents.RECORDINGS_CHANGED, {"recordingsChanged": event})
        await harness.rows(
            "update resguardo.recordings set duration_seconds = 99 where id = any(%s)", recordings
        )
        assert {(await client.event())["id"] for _ in recordings} == {str(one) for one in recordings}
        together = (await harness.audit(client.request_id))[4:]
        assert {one for row in together for one in named_in(row)["recording"]} == {
            str(one) for one in recordings
        }
        assert {row["outcome"] for row in together} == {"ALLOWED"}


async def test_library_without_recordings_is_audited_and_sends_the_first_one(
    harness: ApiHarness, case: Case, api: str
) -> None:
    await case.consent()
    async with _library(api, case.doctor) as client:
        async with asyncio.timeout(20):
            while not await harness.audit(client.request_id):  # noqa: ASYNC110 - Postgres tells nobody
                await asyncio.sleep(0.01)
        recording = await harness.recording(case, "REQUESTED")
        event = await client.event()
        assert event["id"] == str(recording)
        first, second = await harness.audit(client.request_id)
    assert (first["outcome"], ids_of(first), first["row_count"]) == ("ALLOWED", [], 0)
    assert named_in(second) == shown_by(documents.RECORDINGS_CHANGED, {"recordingsChanged": event})


async def test_resubscribing_sends_what_changed_meanwhile(harness: ApiHarness, case: Case, api: str) -> None:
    await case.consent()
    recordings = [await harness.recording(case, "VERIFYING") for _ in range(3)]
    async with _library(api, case.doctor) as client:
        await _present(client, 3)
    await _touch(harness, recordings[0], seconds=9)
    async with _library(api, case.doctor) as client:
        present = [await client.event() for _ in range(3)]
    assert (present[-1]["id"], present[-1]["durationSeconds"]) == (str(recordings[0]), 9)


async def test_changes_during_a_lost_database_connection_are_sent_once_after_reconnecting(
    harness: ApiHarness, case: Case, api: str
) -> None:
    await case.consent()
    recordings = [await harness.recording(case, "VERIFYING") for _ in range(40)]
    async with _library(api, case.doctor) as client, _consultation(api, case) as page:
        await _present(client, 25)
        await page.event()
        assert await harness.rows(KILL_LISTENERS)
        await _touch(harness, *recordings[:30])
        told = [(await client.event())["id"] for _ in range(30)]
        assert set(told) == {str(one) for one in recordings[:30]}
        assert (await page.event())["id"] == case.id


async def test_forged_notification_sends_only_what_the_doctor_may_see(
    harness: ApiHarness, case: Case, other_doctor: Person, api: str
) -> None:
    await case.consent()
    recording = await harness.recording(case, "VERIFYING")
    theirs = await harness.recording(await harness.case(other_doctor))
    async with _library(api, case.doctor) as client, _consultation(api, case) as page:
        await _present(client, 1)
        await page.event()
        for payload in (
            f"{case.id} {case.doctor.user_id}",
            f"{case.id} {case.doctor.user_id} {theirs} {uuid4()} {recording}",
            f"{uuid4()} {case.doctor.user_id} not-an-id",
        ):
            await harness.rows("select pg_notify('resguardo_changes', %s)", payload)
        await _touch(harness, recording)
        assert (await client.event())["durationSeconds"] == 7
        assert (await page.event())["id"] == case.id
        await client.require_no_message()
        await page.require_no_message()
        rows = await harness.audit(client.request_id)
    assert {row["outcome"] for row in rows} == {"ALLOWED"}
    assert theirs not in {one for row in rows for one in ids_of(row)}


@pytest.mark.parametrize("document", [documents.CONSULTATION_CHANGED, documents.RECORDINGS_CHANGED])
@pytest.mark.parametrize("role", ["patient", "compliance"])
async def test_other_roles_may_not_subscribe(
    case: Case, officer: Person, api: str, document: str, role: str
) -> None:
    person = case.patient if role == "patient" else officer
    variables = {"consultationId": case.id} if "$consultationId" in document else {}
    async with _watching(api, person, document, **variables) as client:
        extensions = (await client.error())["extensions"]
        assert (extensions["code"], extensions["reason"]) == ("FORBIDDEN", "WRONG_ROLE")


async def test_hidden_and_unknown_consultations_get_the_same_answer(
    harness: ApiHarness, case: Case, other_doctor: Person, api: str
) -> None:
    async with open_socket(api) as client:
        await client.init(other_doctor)
        errors = []
        for wanted in (case.id, str(uuid4())):
            await client.subscribe(documents.CONSULTATION_CHANGED, consultationId=wanted)
            errors.append(await client.error())
        rows = await harness.audit(client.request_id)
    assert errors[0] == errors[1]
    assert errors[0]["extensions"]["reason"] == "CONSULTATION_NOT_FOUND"
    assert [(row["action"], row["outcome"]) for row in rows] == [
        ("consultation.watch", "DENIED"),
        ("consultation.watch", "ABSENT"),
    ]


@pytest.mark.parametrize("document", [documents.CONSULTATION_CHANGED, documents.RECORDINGS_CHANGED])
async def test_change_after_the_session_ended_is_not_sent_and_ends_the_connection(
    harness: ApiHarness, case: Case, api: str, document: str
) -> None:
    await case.consent()
    recording = await harness.recording(case, "VERIFYING")
    variables = {"consultationId": case.id} if "$consultationId" in document else {}
    async with _watching(api, case.doctor, document, **variables) as client:
        await client.event()
        await harness.end_session(case.doctor)
        await _touch(harness, recording)
        assert (await client.error())["extensions"]["reason"] == "SESSION_OVER"
        assert await client.wait_for_close() == (4401, "SESSION_OVER")


@pytest.mark.parametrize("document", [documents.CONSULTATION_CHANGED, documents.RECORDINGS_CHANGED])
async def test_subscribing_counts_against_the_quota_of_pages(
    harness: ApiHarness, case: Case, api: str, document: str
) -> None:
    await harness.spend(case.doctor, "pages", 1200)
    variables = {"consultationId": case.id} if "$consultationId" in document else {}
    async with _watching(api, case.doctor, document, **variables) as client:
        assert (await client.error())["extensions"]["reason"] == "QUOTA_PAGES"
