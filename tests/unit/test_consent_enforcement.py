"""Tests of the reasons for which Resguardo may not record the people who are in a room."""

from uuid import UUID

import pytest

from app.consents.model import ParticipantConsent
from app.recordings.consent_enforcement import find_objection_to_recording

PEOPLE = [UUID(int=number) for number in range(3)]


def _consents(**said: str) -> list[ParticipantConsent]:
    return [
        ParticipantConsent(
            PEOPLE[number],
            kind.upper(),
            None,
            is_required=True,
            is_given=word == "given",
            is_withdrawn=word == "withdrawn",
        )
        for number, (kind, word) in enumerate(said.items())
    ]


@pytest.mark.parametrize(
    ("doctor", "patient", "in_room", "reason"),
    [
        ("given", "given", (0, 1), None),
        ("given", "withdrawn", (0, 1), "consent_withdrawn"),
        ("given", "withdrawn", (0,), "consent_withdrawn"),
        ("given", "never", (0, 1), "consent_missing"),
        ("never", "withdrawn", (0, 1), "consent_withdrawn"),
        ("given", "withdrawn", (0, 1, 2), "unknown_participant"),
        ("given", "given", (0, 2), "unknown_participant"),
    ],
)
def test_objection_names_a_stranger_first_and_a_withdrawal_before_a_consent_never_given(
    doctor: str, patient: str, in_room: tuple[int, ...], reason: str | None
) -> None:
    identities = [str(PEOPLE[number]) for number in in_room]
    assert find_objection_to_recording(_consents(doctor=doctor, patient=patient), identities) == reason
