"""The rows of egresses, including ended ones, and the answers of ListEgress."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    EncodedFileOutput,
    ListEgressRequest,
    ListEgressResponse,
)

from devstack.livekit.media import Media
from devstack.livekit.requests import SoundEncoding, Sources
from devstack.livekit.twirp import TwirpError, from_a_service

ENDED: Final = EgressStatus.EGRESS_COMPLETE
"""The first status of an ended egress."""


@dataclass(slots=True)
class Sound:
    """The state of a sound recording. `voices` names the two channels of the stand-in's sound that become the left
    and the right channel of the file.

    Times are nanoseconds of the machine's clock. `muted_ns` is the time from which the source sends no more sound,
    or None if it sends sound until the recording's end. `is_stopped` says whether a client stopped the recording;
    if so, the file ends with some silence.
    """

    sources: Sources
    encoding: SoundEncoding
    voices: tuple[int | None, int | None] = (None, None)
    muted_ns: int | None = None
    is_stopped: bool = False


@dataclass(slots=True)
class Recording:
    """One egress: the information that ListEgress may show, the file to upload, and the internal state.

    `media` is the file of a room recording. For a sound recording, the stand-in writes the file when the recording
    ends. `zero_ns` is the time at which the file begins, by the machine's clock, or None before it is ACTIVE.
    `is_alternating` says whether tracks are put on the file's left and right channel in turn.
    """

    info: EgressInfo
    output: EncodedFileOutput
    media: Media
    sound: Sound | None = None
    is_alternating: bool = False
    publishing: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    is_dead: bool = False
    has_joined: bool = False
    is_forgotten: bool = False
    limit_seconds: float | None = None
    is_limited: bool = False
    zero_ns: int | None = None

    @property
    def is_alive(self) -> bool:
        """Return whether a process still records or uploads this egress."""
        return self.info.status < ENDED and not self.is_dead


def refused_in_status(recording: Recording, action: str) -> TwirpError:
    """Return LiveKit's refusal of an action that the status of the egress does not allow. `action` is a participle."""
    name = EgressStatus.Name(recording.info.status)
    return TwirpError("failed_precondition", f"egress with status {name} cannot be {action}")


class Rows:
    """The egresses by id. As in LiveKit, ListEgress returns the egresses in a random order.

    With `page_size`, ListEgress answers in pages, as LiveKit Cloud does; None returns all at once, as
    livekit-server does (`pkg/service/ioservice.go`, read 2026-11-21).
    """

    page_size: int | None = None

    def __init__(self) -> None:
        self._recordings: dict[str, Recording] = {}

    def add(self, recording: Recording) -> None:
        self._recordings[recording.info.egress_id] = recording

    def of_room(self, name: str) -> Sequence[Recording]:
        return [one for one in self._recordings.values() if one.info.room_name == name]

    def answers(self, egress_id: str) -> bool:
        """Return whether a process still records or uploads this egress."""
        found = self._recordings.get(egress_id)
        return found is not None and found.is_alive

    def running_now(self) -> Sequence[Recording]:
        """Return the egresses that have not ended, including dead ones."""
        return [one for one in self._recordings.values() if one.info.status < ENDED]

    def answer(self, request: ListEgressRequest) -> ListEgressResponse:
        """Answer ListEgress. Raises TwirpError `not_found` for an unknown id, as LiveKit does. For an unknown room,
        the answer contains no egresses.
        """
        if request.egress_id:
            return ListEgressResponse(items=[self.row(request.egress_id).info])
        found = [
            one.info
            for one in self._recordings.values()
            if not one.is_forgotten
            and request.room_name in ("", one.info.room_name)
            and (not request.active or one.info.status < ENDED)
        ]
        if self.page_size is None:
            random.shuffle(found)
        return self._page(found, int(request.page_token.token or 0))

    def row(self, egress_id: str) -> Recording:
        """Return the egress. Raises TwirpError `not_found` if the egress is unknown, or if the stand-in was ordered
        to forget it.
        """
        recording = self._recordings.get(egress_id)
        if recording is None or recording.is_forgotten:
            raise from_a_service("not_found", "egress does not exist")
        return recording

    def running(self, egress_id: str) -> Recording:
        """Return the egress with this id, which must not have ended. The stand-in asks the node that runs the
        egress first, and uses the stored row only if no node answers.

        Raises TwirpError `not_found`, `failed_precondition`.
        """
        recording = self._recordings.get(egress_id) or self.row(egress_id)
        if recording.info.status >= ENDED:
            raise refused_in_status(self.row(egress_id), "stopped")
        return recording

    def _page(self, found: Sequence[EgressInfo], start: int) -> ListEgressResponse:
        end = len(found) if self.page_size is None else start + self.page_size
        answer = ListEgressResponse(items=found[start:end])
        if end < len(found):
            answer.next_page_token.token = str(end)
        return answer
