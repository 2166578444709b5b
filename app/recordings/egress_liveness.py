"""Decides whether a running egress is dead. An egress is dead if its recorder does not answer, or if the egress is
missing from LiveKit.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.errors import AppError
from app.integrations.livekit.client import EgressSnapshot, LiveKit, ParticipantSnapshot
from app.recordings.model import Recording, RecordingStatus
from app.recordings.reconcile_report import ReconcileReport
from app.recordings.room_watch import is_recorder

MISSES: Final = 3
"""The number of consecutive passes in which an egress must be missing before it counts as dead."""

UNLISTED: Final = timedelta(seconds=40)
"""How long LiveKit must not list the egress."""

RECORDER_GONE: Final = timedelta(minutes=5)
"""How long the recorder's room must be gone, or the recorder must be gone from its room."""

RECORDER_SILENT: Final = timedelta(seconds=60)
"""How long the recording process must not answer while LiveKit's server has no connection to it."""

ASKED_AT_ONCE: Final = 20
"""The number of recorders that are asked at once. A dead recorder takes 6 s."""


@dataclass(frozen=True)
class _MissingEgress:
    """Since when an egress has been missing in LiveKit, and in how many passes of the reconciler it was missing."""

    since: datetime
    passes: int


class EgressLiveness:
    """Observes egresses over several passes of the reconciler. A worker that becomes the leader does not get the
    former leader's observations, so it detects a dead egress later.
    """

    def __init__(self, livekit: LiveKit) -> None:
        self._livekit = livekit
        self._missing: dict[UUID, _MissingEgress] = {}
        self._shows_recorders = False

    def forget(self) -> None:
        """Clear the observations of earlier passes, for a process that has just become the leader."""
        self._missing = {}

    def keep_only(self, unfinished: set[UUID]) -> None:
        """Delete the observations about recordings that have ended."""
        self._missing = {key: value for key, value in self._missing.items() if key in unfinished}

    async def ask_recorders(
        self, unfinished: list[Recording], listed: dict[str, EgressSnapshot], report: ReconcileReport
    ) -> dict[UUID, bool | None]:
        """Return for each recording with a running egress whether its recorder lives, or None if LiveKit does not
        say.
        """
        turns = asyncio.Semaphore(ASKED_AT_ONCE)

        async def ask(recording: Recording, egress: EgressSnapshot) -> bool | None:
            async with turns, report.log_errors(str(recording.id)):
                return await self._is_alive(recording, egress)
            return None

        begun = (RecordingStatus.RECORDING, RecordingStatus.STOPPING)
        asked = {
            one.id: ask(one, listed[one.egress_id])
            for one in unfinished
            if one.status in begun and one.egress_id in listed and not listed[one.egress_id].is_over
        }
        return dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))

    async def _is_alive(self, recording: Recording, egress: EgressSnapshot) -> bool | None:
        """Ask the recorder of an egress whether it lives. If the recorder does not answer, ask LiveKit's server
        whether the recorder is connected to the room. The recorder of an egress that is ending refuses to answer.
        Instead of asking the recorder, the worker therefore sends an ending egress a second stop request, which has
        no effect on the egress.
        """
        if egress.status == "ending":
            answers = await self._accepts_stop(egress.egress_id)
        else:
            answers = await self._livekit.recorder_answers(egress.egress_id)
        if answers is not False:
            return answers
        return await self._livekit.is_connected(recording.room_name, egress.egress_id)

    async def _accepts_stop(self, egress_id: str) -> bool | None:
        try:
            return await self._livekit.stop_egress(egress_id) == "stopping"
        except AppError:
            return None

    def is_missing(
        self,
        recording: Recording,
        egress: EgressSnapshot | None,
        people: list[ParticipantSnapshot],
        *,
        is_alive: bool | None,
        is_room_listed: bool,
    ) -> bool:
        """Return whether the egress of a recording is missing in this pass of the reconciler.

        An egress is missing if its recorder is known to be dead, and not missing if its recorder is known to live.
        If LiveKit does not say whether the recorder lives, an egress is missing if LiveKit does not list it. In the
        same case, a running egress is missing if its room is gone or its recorder is not in the room. The absence
        of a recorder counts only if this LiveKit server has listed a recorder in a room before. An egress whose
        recorder is in the room is not missing, unless the recorder is known to be dead. If LiveKit lists an egress
        as ending, its recorder may have left the room to upload the file. An egress that LiveKit lists as ending is
        therefore not missing, and only the recording's deadline ends the recording.
        """
        is_there = any(is_recorder(one) and one.identity == recording.egress_id for one in people)
        self._shows_recorders = self._shows_recorders or is_there
        is_absent = self._shows_recorders and recording.status in (
            RecordingStatus.RECORDING,
            RecordingStatus.STOPPING,
        )
        is_listed = egress is not None and (
            egress.is_over or egress.status == "ending" or (is_room_listed and not is_absent)
        )
        return not (is_alive if is_alive is not None else is_there or is_listed)

    def is_dead(self, recording_id: UUID, *, is_silent: bool, is_listed: bool, now: datetime) -> bool:
        """Count one more reconciler pass in which the egress is missing. Return whether the egress has been missing
        in enough passes, and for long enough, to count as dead. `is_silent` says that the egress's recorder gives
        no sign of life, and `is_listed` that LiveKit lists the egress.
        """
        known = self._missing.get(recording_id, _MissingEgress(now, 0))
        missing = replace(known, passes=known.passes + 1)
        self._missing[recording_id] = missing
        patience = RECORDER_SILENT if is_silent else RECORDER_GONE if is_listed else UNLISTED
        return missing.passes >= MISSES and now - missing.since >= patience

    def mark_present(self, recording_id: UUID) -> None:
        """Delete the count of passes in which an egress was missing, because the egress is there again."""
        self._missing.pop(recording_id, None)
