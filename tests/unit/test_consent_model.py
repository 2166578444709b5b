"""Tests of which participants must consent to a recording, and of which consent is valid."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.consents.model import (
    Consent,
    Decision,
    ParticipantConsent,
    ShownText,
    Source,
    require_any,
    require_everyone,
)
from app.errors import Conflict, MissingConsent


def _consent(
    kind: str, *, given: bool, required: bool = True, guest: str | None = None
) -> ParticipantConsent:
    return ParticipantConsent(
        UUID(int=1), kind, guest, is_required=required, is_given=given, is_withdrawn=False
    )


def _word(decision: Decision, source: Source = Source.SELF) -> Consent:
    return Consent(
        id=UUID(int=1),
        consultation_id=UUID(int=2),
        participant_id=UUID(int=3),
        participant_kind="PATIENT",
        decision=decision,
        source=source,
        recorded_by=UUID(int=4),
        representative_relationship=None,
        representative_name=None,
        text_version="2026-11",
        text_language="en",
        text_sha256="ab" * 32,
        recorded_at=datetime(2026, 11, 21, tzinfo=UTC),
    )


def test_everyone_who_must_consents() -> None:
    require_everyone([_consent("DOCTOR", given=True), _consent("PATIENT", given=True)])


def test_missing_consents_are_named_by_participant_and_role() -> None:
    participants = [
        _consent("PATIENT", given=False),
        _consent("DOCTOR", given=True),
        _consent("GUEST", given=False, guest="INTERPRETER"),
    ]
    with pytest.raises(Conflict, match="consent_missing") as refusal:
        require_everyone(participants)
    missing = refusal.value.detail["missing"]
    assert missing == (
        MissingConsent(participants[2].participant_id, "INTERPRETER"),
        MissingConsent(participants[0].participant_id, "PATIENT"),
    )


def test_guest_who_never_joined_need_not_consent() -> None:
    require_everyone([_consent("GUEST", given=False, required=False, guest="STUDENT")])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=6))
def test_one_missing_consent_is_enough_to_refuse(flags: list[tuple[bool, bool]]) -> None:
    participants = [_consent("PATIENT", required=required, given=is_given) for required, is_given in flags]
    if any(required and not is_given for required, is_given in flags):
        with pytest.raises(Conflict, match="consent_missing"):
            require_everyone(participants)
    else:
        require_everyone(participants)


def test_newest_consent_decision_counts() -> None:
    history = [_word(Decision.GIVEN), _word(Decision.WITHDRAWN)]
    assert require_any(history) is history[-1]


def test_withdrawal_without_a_decision_is_refused() -> None:
    with pytest.raises(Conflict, match="no_consent_to_withdraw"):
        require_any([])


def test_consent_decision_contains_the_shown_text() -> None:
    assert _word(Decision.GIVEN).shown == ShownText("2026-11", "en", "ab" * 32)
