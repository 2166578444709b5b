"""Why no recording of a consultation can start now. Pure. `private.recording_blockers` in the database returns the
blockers, so the service that starts recordings and the API that shows blockers decide by the same rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.consents.model import require_nobody_missing
from app.errors import Conflict, MissingConsent


class BlockerReason(StrEnum):
    """Why no recording of a consultation can start."""

    CONSENT_MISSING = "CONSENT_MISSING"
    CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"
    RECORDING_IN_PROGRESS = "RECORDING_IN_PROGRESS"
    SPEAKERS_WITH_GUESTS = "SPEAKERS_WITH_GUESTS"

    def applies(self, *, has_routes: bool) -> bool:
        """Return whether the reason applies. Guests matter only if LiveKit routes the doctor and the patient to the
        two channels of one sound recording.
        """
        return has_routes or self is not BlockerReason.SPEAKERS_WITH_GUESTS


@dataclass(frozen=True)
class Blocker:
    """Why no recording of a consultation can start. `role` is the role of the participant, and `recording_id` is the
    recording that is in progress.
    """

    reason: BlockerReason
    participant_id: UUID | None
    role: str | None
    recording_id: UUID | None


_OF_CONSENT: Final = frozenset((BlockerReason.CONSENT_MISSING, BlockerReason.CONSENT_WITHDRAWN))


def require_startable(blockers: Iterable[Blocker], *, has_routes: bool) -> None:
    """Raise Conflict (live_recording_exists, with its id), Conflict (consent_missing, with the participants) or
    Conflict (speakers_with_guests) if a blocker applies.
    """
    applying = [one for one in blockers if one.reason.applies(has_routes=has_routes)]
    for blocker in applying:
        if blocker.reason is BlockerReason.RECORDING_IN_PROGRESS:
            raise Conflict("live_recording_exists", recording_id=str(blocker.recording_id))
    require_nobody_missing(
        MissingConsent(one.participant_id, one.role)
        for one in applying
        if one.reason in _OF_CONSENT and one.role
    )
    if applying:
        raise Conflict("speakers_with_guests")
