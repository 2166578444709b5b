"""Tests that the blockers of a consultation are exactly the reasons why `startRecording` would refuse it."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import product
from typing import Any, LiteralString
from uuid import UUID

import httpx
import pytest

from tests.api import documents
from tests.api.harness import ApiHarness, Person

pytestmark = pytest.mark.anyio

_STATEMENTS: tuple[tuple[str, ...], ...] = (
    (),
    ("GIVEN",),
    ("WITHDRAWN",),
    ("GIVEN", "WITHDRAWN"),
    ("WITHDRAWN", "GIVEN"),
)
_RECORDINGS = ("none", "REQUESTED", "STARTING", "RECORDING", "STOPPING", "VERIFYING", "LOST", "live sound")
_BLOCKERS: LiteralString = (
    "select b.reason, b.participant_id from private.recording_blockers(%s) as b order by 1, 2"
)


@dataclass(frozen=True)
class Situation:
    """The facts of a consultation on which it depends whether a recording can start. The tuples contain statements
    of a participant, oldest first. `guest` is None if nobody was invited.
    """

    doctor: tuple[str, ...] = ("GIVEN",)
    patient: tuple[str, ...] = ("GIVEN",)
    guest: tuple[str, ...] | None = None
    has_guest_joined: bool = False
    recording: str = "none"
    records_speakers: bool = False
    has_routes: bool = False


_PLAIN = (
    Situation(),
    *(Situation(doctor=one) for one in _STATEMENTS),
    *(Situation(patient=one) for one in _STATEMENTS),
    *(Situation(guest=one, has_guest_joined=joined) for one, joined in product(_STATEMENTS, (True, False))),
    *(Situation(recording=one) for one in _RECORDINGS),
    *(
        Situation(guest=("GIVEN",), records_speakers=records, has_routes=routes)
        for records, routes in product((True, False), repeat=2)
    ),
    Situation(records_speakers=True, has_routes=True),
)


def _random_situations(count: int) -> list[Situation]:
    """Return situations in which several facts may refuse the start at once, always the same ones."""
    drawn = random.Random(20261130)  # noqa: S311 - picks test cases
    return [
        Situation(
            drawn.choice(_STATEMENTS),
            drawn.choice(_STATEMENTS),
            drawn.choice((None, *_STATEMENTS)),
            drawn.random() < 0.5,
            drawn.choice(_RECORDINGS),
            drawn.random() < 0.5,
            drawn.random() < 0.5,
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
async def routing(harness: ApiHarness) -> AsyncIterator[httpx.AsyncClient]:
    """Yield the client of an API whose LiveKit routes each speaker to a channel."""
    async with harness.another_api(livekit_egress_routes=True) as http:
        yield http


@pytest.fixture(scope="module")
async def starter(harness: ApiHarness) -> Person:
    """Return the doctor who starts the recordings of all situations."""
    return await harness.clinician()


def _build(harness: ApiHarness, doctor: Person, wanted: Situation) -> tuple[UUID, dict[str, UUID]]:
    """Insert a consultation in this situation. Return its id and its participants by kind."""
    practice = harness.practice
    consultation = practice.consultation(doctor.user_id, separate_speakers=wanted.records_speakers)
    statements = {"DOCTOR": wanted.doctor, "PATIENT": wanted.patient}
    columns: dict[str, Any] = {}
    if wanted.guest is not None:
        statements["GUEST"] = wanted.guest
        columns = {
            "guest_role": "INTERPRETER",
            "joined_at": practice.now() if wanted.has_guest_joined else None,
        }
    people = {
        kind: practice.participant(consultation, kind, **(columns if kind == "GUEST" else {}))
        for kind in statements
    }
    start = practice.now() - timedelta(hours=1)
    if wanted.recording != "none":
        is_sound = wanted.recording == "live sound"
        with practice.without_triggers():
            video = practice.recording(consultation, "VERIFYING" if is_sound else wanted.recording)
            if is_sound:
                practice.recording(
                    consultation,
                    "RECORDING",
                    medium="MICROPHONE",
                    video_id=video,
                    participant_id=people["DOCTOR"],
                )
    for kind, decisions in statements.items():
        for place, decision in enumerate(decisions):
            practice.consent(people[kind], decision, recorded_at=start + timedelta(minutes=place))
    return consultation, people


def _expected(wanted: Situation, people: dict[str, UUID]) -> set[tuple[str, UUID | None]]:
    """Return the blockers of a situation, by the words of the rules."""
    expected: set[tuple[str, UUID | None]] = set()
    for kind, decisions in (("DOCTOR", wanted.doctor), ("PATIENT", wanted.patient), ("GUEST", wanted.guest)):
        if decisions is None or (kind == "GUEST" and not wanted.has_guest_joined):
            continue
        if not decisions:
            expected.add(("CONSENT_MISSING", people[kind]))
        elif decisions[-1] == "WITHDRAWN":
            expected.add(("CONSENT_WITHDRAWN", people[kind]))
    if wanted.recording in ("REQUESTED", "STARTING", "RECORDING", "STOPPING"):
        expected.add(("RECORDING_IN_PROGRESS", None))
    if wanted.guest is not None and wanted.records_speakers and wanted.has_routes:
        expected.add(("SPEAKERS_WITH_GUESTS", people["GUEST"]))
    return expected


@pytest.mark.parametrize("wanted", [*_PLAIN, *_random_situations(40)], ids=str)
async def test_recording_starts_exactly_if_nothing_blocks_it(
    harness: ApiHarness, starter: Person, routing: httpx.AsyncClient, wanted: Situation
) -> None:
    consultation, people = _build(harness, starter, wanted)
    person = replace(starter, http=routing) if wanted.has_routes else starter
    blockers = {
        (row["reason"], row["participant_id"])
        for row in await harness.rows(_BLOCKERS, consultation)
        if wanted.has_routes or row["reason"] != "SPEAKERS_WITH_GUESTS"
    }
    assert blockers == _expected(wanted, people)
    answer = await person.send(documents.START, consultationId=str(consultation))
    if blockers:
        reasons = {reason for reason, _ in blockers}
        if "RECORDING_IN_PROGRESS" in reasons:
            assert answer.error.reason == "live_recording_exists"
        elif reasons & {"CONSENT_MISSING", "CONSENT_WITHDRAWN"}:
            assert answer.error.reason == "consent_missing"
        else:
            assert answer.error.reason == "speakers_with_guests"
    else:
        assert "errors" not in answer.body
