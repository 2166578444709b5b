"""Which pieces of which sound are transcribed, who speaks in each, and where each stands on the video's timeline.

Each microphone is a file of its own. Speech that no microphone has is taken from the video, in which everybody is
heard, and nobody is named for it. So nothing is lost because a microphone was not recorded, or not from the beginning.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Final, Literal
from uuid import UUID

import anyio.to_thread

from app.errors import Conflict
from app.media import sound
from app.media.alignment import Alignment, align, cover, place
from app.media.child import Container, MediaRefused
from app.media.sound import Cut, SoundFrames, Span
from app.media.turns import FRAME_MS, LOUDNESS, SPEECH, loudest
from app.transcripts.assembling import UNKNOWN_VOICE, Voice

Medium = Literal["VIDEO", "MICROPHONE", "SPEAKERS"]

_MEASURED_ERROR_MS: Final = 300
_UNMEASURED_ERROR_MS: Final = 1_000
_STRANGER_STEPS: Final = 12
"""9 dB: by so much the video is louder than usual where somebody speaks into no part's microphone."""

_SOFT_STEPS: Final = 12
"""9 dB: by so much a microphone hears such a person softer than those who speak into it."""
"""How wrong a part's place may be: for so long around a part's speech nothing is taken from the video."""


@dataclass(frozen=True)
class Sound:
    """A file that may be transcribed. `late_ms` is how much later than the video it begins, by what LiveKit reported.

    `voices` are whose its channels are: one for a microphone, whatever its channels; two where the doctor and the
    patient were routed to a channel each; none where nobody knows.
    """

    id: UUID
    medium: Medium
    object_key: str = field(repr=False)
    size_bytes: int
    late_ms: int
    voices: tuple[Voice, ...]

    @property
    def container(self) -> Container:
        """By the name that was given to the file."""
        return "ogg" if self.object_key.endswith(".ogg") else "mp4"


@dataclass(frozen=True)
class PlannedPiece:
    """A span of a sound, whose voice it is, and how much later than the video its sound begins."""

    sound: UUID
    span: Span
    voice: Voice
    late_ms: int


@dataclass(frozen=True)
class PiecePlan:
    """All pieces, in order of their sounds and, within each, of start. `unused_tracks` as in `app.media.sound.Plan`."""

    pieces: tuple[PlannedPiece, ...]
    unused_tracks: int


Listen = Callable[[Sound], Awaitable[SoundFrames]]


async def plan_pieces(sounds: Sequence[Sound], listen: Listen, cut: Cut) -> PiecePlan:
    """The plan of a recording. `sounds` has the video, and the parts beside it that are to be transcribed.

    If a part cannot be decoded, the video is transcribed in place of all parts. Raises what `listen` raises, but for a
    sound that is refused while another one is not, and Conflict (sound_not_decodable) if nothing was found and a track
    could not be decoded.
    """
    refusals: dict[UUID, MediaRefused] = {}
    listened: dict[UUID, SoundFrames] = {}
    for one in sounds:
        try:
            listened[one.id] = await listen(one)
        except MediaRefused as refusal:
            refusals[one.id] = refusal
    if not listened:
        raise next(iter(refusals.values()))
    plan = await anyio.to_thread.run_sync(_plan, sounds, listened, cut)
    if plan.unused_tracks and not plan.pieces:
        raise Conflict("sound_not_decodable")
    return plan


@dataclass(frozen=True)
class _Part:
    """A part that can be transcribed, and where it stands on the video's timeline, wrong by at most `error_ms`."""

    sound: Sound
    listened: SoundFrames
    frames: bytes = field(repr=False)
    alignment: Alignment
    error_ms: int

    def late_ms(self, span: Span) -> int:
        """How much later than the video the part begins, as measured at this span."""
        return self.alignment.late_ms_at((span.start_ms + span.end_ms) // 2)


def _plan(sounds: Sequence[Sound], listened: Mapping[UUID, SoundFrames], cut: Cut) -> PiecePlan:
    video = next(one for one in sounds if one.medium == "VIDEO")
    beside = [one for one in sounds if one is not video]
    usable = [one for one in beside if one.id in listened and _is_usable(listened[one.id])]
    heard = listened.get(video.id)
    whole = heard if heard is not None and _is_usable(heard) else None
    lost = len(beside) - len(usable)
    if not usable or (lost and whole):
        of_video = tuple(_pieces_of_video(video, heard, cut)) if heard else ()
        return PiecePlan(of_video, (0 if whole else lost) + (heard.unused_tracks if heard else 0))
    parts = _align_parts(usable, listened, whole)
    own = {part.sound.id: _spans(part, parts, cut) for part in parts}
    pieces: list[PlannedPiece] = []
    if whole:
        strangers = _strangers(own, parts, loudest(list(whole.used.values())))
        own = {one: tuple(span for span in own[one] if span not in strangers[one]) for one in own}
        pieces += _pieces_of_nobody(video, whole, parts, strangers)
    pieces += [
        PlannedPiece(part.sound.id, span, _voice(part.sound, span), part.late_ms(span))
        for part in parts
        for span in own[part.sound.id]
    ]
    return PiecePlan(tuple(pieces), lost + sum(part.listened.unused_tracks for part in parts))


def _is_usable(listened: SoundFrames) -> bool:
    """Whether there is sound, and nobody can have spoken on a track that could not be decoded alone."""
    has_speech = any(_has_speech(frames) for frames in listened.used.values())
    return bool(listened.used) and (has_speech or not listened.unused_tracks)


def _has_speech(frames: bytes) -> bool:
    return max(frames, default=0) >= SPEECH


def _align_parts(
    sounds: Sequence[Sound], listened: Mapping[UUID, SoundFrames], whole: SoundFrames | None
) -> list[_Part]:
    """The parts on the video's timeline.

    LiveKit reports when microphones begin well, and when the video begins badly: what was measured of other parts is
    true of a part of which nothing could be measured.
    """
    frames = {one.id: loudest(list(listened[one.id].used.values())) for one in sounds}
    of_video = loudest(list(whole.used.values())) if whole else b""
    measured = {one.id: align(frames[one.id], of_video, one.late_ms) for one in sounds}
    errors = [found.late_ms - one.late_ms for one in sounds if (found := measured[one.id])]
    usual = round(median(errors)) if errors else 0
    return [
        _Part(
            one,
            listened[one.id],
            frames[one.id],
            measured[one.id] or Alignment(((0, one.late_ms + usual),)),
            _MEASURED_ERROR_MS if errors else _UNMEASURED_ERROR_MS,
        )
        for one in sounds
    ]


def _spans(part: _Part, parts: Sequence[_Part], cut: Cut) -> tuple[Span, ...]:
    if part.sound.medium == "MICROPHONE":
        return sound.plan_microphone(part.listened, _others(part, parts)).spans
    return sound.plan_file(part.listened, cut).spans


def _strangers(
    spans: Mapping[UUID, Sequence[Span]], parts: Sequence[_Part], video: bytes
) -> dict[UUID, set[Span]]:
    """The spans in which a part hears somebody whose own microphone was not recorded.

    There the video is louder than all parts together, by more than is usual in this recording and in the part, and the
    parts are softer than usual. The lower quartile of the differences is usual, and the upper one of the loudness:
    strangers make the first larger and the second smaller.
    """
    placed_parts = (place(part.frames, part.alignment.late_ms, len(video)) for part in parts)
    together = loudest([bytes(len(video)), *placed_parts])
    compared = {
        (part.sound.id, span): _compare(part, span, video, together)
        for part in parts
        for span in spans[part.sound.id]
    }
    everything = [pair for found in compared.values() for pair in found]
    loudness = _quartile((loud for loud, _ in everything), 3)
    difference = _quartile((louder for _, louder in everything), 1)
    usual = {
        one: max(
            difference, _quartile((louder for span in spans[one] for _, louder in compared[one, span]), 1)
        )
        for one in spans
    }

    def is_stranger(one: UUID, span: Span) -> bool:
        found = compared[one, span]
        return (
            bool(found)
            and fmean(loud for loud, _ in found) <= loudness - _SOFT_STEPS
            and fmean(louder for _, louder in found) >= usual[one] + _STRANGER_STEPS
        )

    return {one: {span for span in spans[one] if is_stranger(one, span)} for one in spans}


def _quartile(values: Iterable[int], number: int) -> int:
    ordered = sorted(values)
    return ordered[len(ordered) * number // 4] if ordered else 0


def _compare(part: _Part, span: Span, video: bytes, together: bytes) -> list[tuple[int, int]]:
    """How loud all parts together are, and by how much the video is louder, in each frame with speech in both."""
    late = round(part.late_ms(span) / FRAME_MS)
    first, last = span.start_ms // FRAME_MS, min(-(-span.end_ms // FRAME_MS), len(part.frames))
    return [
        (loud := together[number + late] & LOUDNESS, (video[number + late] & LOUDNESS) - loud)
        for number in range(max(first, -late), min(last, len(video) - late))
        if part.frames[number] & video[number + late] & SPEECH
    ]


def _others(part: _Part, parts: Sequence[_Part]) -> bytes:
    """The microphones of the other participants, on the part's own timeline."""
    return loudest(
        [
            bytes(len(part.frames)),
            *(
                place(other.frames, other.alignment.late_ms - part.alignment.late_ms, len(part.frames))
                for other in parts
                if other.sound.voices != part.sound.voices
            ),
        ]
    )


def _voice(one: Sound, span: Span) -> Voice:
    if one.medium == "MICROPHONE":
        return one.voices[0]
    if span.channel is not None and span.channel < len(one.voices):
        return one.voices[span.channel]
    return Voice(span.channel)


def _pieces_of_video(video: Sound, listened: SoundFrames, cut: Cut) -> Iterator[PlannedPiece]:
    for span in sound.plan_file(listened, cut).spans:
        yield PlannedPiece(video.id, span, _voice(video, span), 0)


def _pieces_of_nobody(
    video: Sound, listened: SoundFrames, parts: Sequence[_Part], strangers: Mapping[UUID, set[Span]]
) -> Iterator[PlannedPiece]:
    """The speech of the video that no part has, or only as a stranger's."""
    covered = bytearray(len(listened.channels[0]))
    for part in parts:
        own = bytearray(part.frames)
        for span in strangers[part.sound.id]:
            heard = slice(span.start_ms // FRAME_MS, -(-span.end_ms // FRAME_MS))
            own[heard] = bytes(frame & LOUDNESS for frame in own[heard])
        cover(covered, bytes(own), part.alignment, part.error_ms)
    rest = sound.silence_speech(listened, bytes(covered))
    if any(_has_speech(frames) for frames in rest.used.values()):
        for span in sound.plan_file(rest, Cut.TURNS).spans:
            yield PlannedPiece(video.id, span, UNKNOWN_VOICE, 0)
