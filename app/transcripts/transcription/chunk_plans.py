"""Plans which chunks of which sound file are transcribed, who speaks in each chunk, and where each chunk is on the
video's timeline.

A recording may have a separate sound file for each microphone. If no microphone's file contains some speech, the
module takes this speech from the video, which contains everyone, and its speaker is UNKNOWN. No speech is lost if a
microphone was not recorded, or was recorded only after the beginning, because the module then takes the speech from
the video.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Final, Literal
from uuid import UUID

import anyio.to_thread

from app.errors import Conflict
from app.media import sound_plans
from app.media.alignment import Alignment, align, mark_covered, shift_frames
from app.media.child_process import Container, MediaRefused
from app.media.sound_plans import Cut, SoundFrames, Span
from app.media.turns import FRAME_MS, LOUDNESS, SPEECH, merge_loudest
from app.transcripts.transcription.assembly import UNKNOWN_VOICE, Voice

Medium = Literal["VIDEO", "MICROPHONE", "SPEAKERS"]

_MEASURED_ERROR_MS: Final = 300
_UNMEASURED_ERROR_MS: Final = 1_000
"""The possible error of a part's place: within this time around a part's speech, nothing is taken from the video."""

_STRANGER_STEPS: Final = 12
"""9 dB: if the video is louder than usual by this much, a person without a recorded microphone is speaking."""

_SOFT_STEPS: Final = 12
"""9 dB: a microphone records a person who is not its owner softer than its owner by this much."""


@dataclass(frozen=True)
class Sound:
    """A sound file or video of a recording that may be transcribed. `late_ms` is how much later than the video the
    file begins, according to the times that LiveKit reported. `voices` are the owners of the file's channels: one
    owner for a microphone, and two if the doctor and the patient were each recorded on a separate channel. If the
    owners are unknown, `voices` is empty.
    """

    id: UUID
    medium: Medium
    object_key: str = field(repr=False)
    size_bytes: int
    late_ms: int
    voices: tuple[Voice, ...]

    @property
    def container(self) -> Container:
        """Return the container format of a sound file, which the ending of its object key shows."""
        return "ogg" if self.object_key.endswith(".ogg") else "mp4"


@dataclass(frozen=True)
class PlannedChunk:
    """A chunk to transcribe: a span of a sound file, its voice, and how much later than the video the sound file
    begins.
    """

    sound: UUID
    span: Span
    voice: Voice
    late_ms: int


@dataclass(frozen=True)
class ChunkPlan:
    """The plan for a recording: all chunks, ordered by their sound file and then by their start. `unused_tracks`
    has the same meaning as in `app.media.sound_plans.Plan`.
    """

    chunks: tuple[PlannedChunk, ...]
    unused_tracks: int


MeasureSound = Callable[[Sound], Awaitable[SoundFrames]]


async def plan_chunks(sounds: Sequence[Sound], measure: MeasureSound, cut: Cut) -> ChunkPlan:
    """Plan the chunks of a recording, and return the plan. `sounds` contains the video and its parts (the separate
    files of microphones) that are to be transcribed.

    If a part cannot be decoded, the video is transcribed in place of all parts. If `measure` refuses only some of
    the sound files, the plan uses the files that it does not refuse. If `measure` raises an error other than a
    refusal of the sound file, the function does not catch it. Raises Conflict (sound_not_decodable) if a track
    could not be decoded, and no speech was found in the other tracks.
    """
    refusals: dict[UUID, MediaRefused] = {}
    sound_frames: dict[UUID, SoundFrames] = {}
    for one in sounds:
        try:
            sound_frames[one.id] = await measure(one)
        except MediaRefused as refusal:
            refusals[one.id] = refusal
    if not sound_frames:
        raise next(iter(refusals.values()))
    plan = await anyio.to_thread.run_sync(_plan, sounds, sound_frames, cut)
    if plan.unused_tracks and not plan.chunks:
        raise Conflict("sound_not_decodable")
    return plan


@dataclass(frozen=True)
class _Part:
    """A part (the file of one or two microphones) that can be transcribed, and its position on the video's
    timeline. The error of the position is at most `error_ms`.
    """

    sound: Sound
    sound_frames: SoundFrames
    frames: bytes = field(repr=False)
    alignment: Alignment
    error_ms: int

    def late_ms(self, span: Span) -> int:
        """Return how much later than the video this part begins, as measured at the time of the given span."""
        return self.alignment.late_ms_at((span.start_ms + span.end_ms) // 2)


def _plan(sounds: Sequence[Sound], sound_frames: Mapping[UUID, SoundFrames], cut: Cut) -> ChunkPlan:
    video = next(one for one in sounds if one.medium == "VIDEO")
    beside = [one for one in sounds if one is not video]
    usable = [one for one in beside if one.id in sound_frames and _is_usable(sound_frames[one.id])]
    video_frames = sound_frames.get(video.id)
    whole = video_frames if video_frames is not None and _is_usable(video_frames) else None
    unusable = len(beside) - len(usable)
    if not usable or (unusable and whole):
        of_video = tuple(_chunks_of_video(video, video_frames, cut)) if video_frames else ()
        return ChunkPlan(
            of_video, (0 if whole else unusable) + (video_frames.unused_tracks if video_frames else 0)
        )
    parts = _align_parts(usable, sound_frames, whole)
    own = {part.sound.id: _spans(part, parts, cut) for part in parts}
    chunks: list[PlannedChunk] = []
    if whole:
        strangers = _find_strangers(own, parts, merge_loudest(list(whole.used.values())))
        own = {one: tuple(span for span in own[one] if span not in strangers[one]) for one in own}
        chunks += _chunks_of_unrecorded_people(video, whole, parts, strangers)
    chunks += [
        PlannedChunk(part.sound.id, span, _voice(part.sound, span), part.late_ms(span))
        for part in parts
        for span in own[part.sound.id]
    ]
    return ChunkPlan(tuple(chunks), unusable + sum(part.sound_frames.unused_tracks for part in parts))


def _is_usable(sound_frames: SoundFrames) -> bool:
    """Return whether the file has sound that can be transcribed. If only a track that could not be decoded may
    contain speech, the file is not usable.
    """
    has_speech = any(_has_speech(frames) for frames in sound_frames.used.values())
    return bool(sound_frames.used) and (has_speech or not sound_frames.unused_tracks)


def _has_speech(frames: bytes) -> bool:
    return max(frames, default=0) >= SPEECH


def _align_parts(
    sounds: Sequence[Sound], sound_frames: Mapping[UUID, SoundFrames], whole: SoundFrames | None
) -> list[_Part]:
    """Find the position of each part on the video's timeline, and return the parts with their positions. LiveKit
    reports the start time of a microphone's file accurately, and the start time of the video inaccurately. If the
    position of a part could not be measured, the function corrects the reported position by the usual error of the
    other parts.
    """
    frames = {one.id: merge_loudest(list(sound_frames[one.id].used.values())) for one in sounds}
    of_video = merge_loudest(list(whole.used.values())) if whole else b""
    measured = {one.id: align(frames[one.id], of_video, one.late_ms) for one in sounds}
    errors = [found.late_ms - one.late_ms for one in sounds if (found := measured[one.id])]
    usual = round(median(errors)) if errors else 0
    return [
        _Part(
            one,
            sound_frames[one.id],
            frames[one.id],
            measured[one.id] or Alignment(((0, one.late_ms + usual),)),
            _MEASURED_ERROR_MS if errors else _UNMEASURED_ERROR_MS,
        )
        for one in sounds
    ]


def _spans(part: _Part, parts: Sequence[_Part], cut: Cut) -> tuple[Span, ...]:
    if part.sound.medium == "MICROPHONE":
        return sound_plans.plan_microphone(part.sound_frames, _merge_other_microphones(part, parts)).spans
    return sound_plans.plan_file(part.sound_frames, cut).spans


def _find_strangers(
    spans: Mapping[UUID, Sequence[Span]], parts: Sequence[_Part], video: bytes
) -> dict[UUID, set[Span]]:
    """Return, for each part, the spans with speech of a stranger: a person whose own microphone was not recorded.
    While a stranger speaks, the video is louder than the microphones' files together, by more than is usual in this
    recording and in this microphone's file. While a stranger speaks, the recorded microphones are also softer than
    usual. The usual difference between the loudness of the video and of the microphones is the lower quartile of
    all differences, because strangers' speech increases the difference. The usual loudness of the microphones is
    the upper quartile of their loudness, because microphones are softer while a stranger speaks.
    """
    placed_parts = (shift_frames(part.frames, part.alignment.late_ms, len(video)) for part in parts)
    together = merge_loudest([bytes(len(video)), *placed_parts])
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
    """For each frame of the span in which both the part and the video have speech, return the loudness of all parts
    together, and how much louder the video is.
    """
    late = round(part.late_ms(span) / FRAME_MS)
    first, last = span.start_ms // FRAME_MS, min(-(-span.end_ms // FRAME_MS), len(part.frames))
    return [
        (loud := together[number + late] & LOUDNESS, (video[number + late] & LOUDNESS) - loud)
        for number in range(max(first, -late), min(last, len(video) - late))
        if part.frames[number] & video[number + late] & SPEECH
    ]


def _merge_other_microphones(part: _Part, parts: Sequence[_Part]) -> bytes:
    """Return the merged loudness of the other participants' microphones, on the timeline of this part."""
    return merge_loudest(
        [
            bytes(len(part.frames)),
            *(
                shift_frames(other.frames, other.alignment.late_ms - part.alignment.late_ms, len(part.frames))
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


def _chunks_of_video(video: Sound, sound_frames: SoundFrames, cut: Cut) -> Iterator[PlannedChunk]:
    for span in sound_plans.plan_file(sound_frames, cut).spans:
        yield PlannedChunk(video.id, span, _voice(video, span), 0)


def _chunks_of_unrecorded_people(
    video: Sound, sound_frames: SoundFrames, parts: Sequence[_Part], strangers: Mapping[UUID, set[Span]]
) -> Iterator[PlannedChunk]:
    """Yield chunks of the video: the speech that no part contains, and the speech of people whose own microphone
    was not recorded.
    """
    covered = bytearray(len(sound_frames.channels[0]))
    for part in parts:
        own = bytearray(part.frames)
        for span in strangers[part.sound.id]:
            stretch = slice(span.start_ms // FRAME_MS, -(-span.end_ms // FRAME_MS))
            own[stretch] = bytes(frame & LOUDNESS for frame in own[stretch])
        mark_covered(covered, bytes(own), part.alignment, part.error_ms)
    rest = sound_plans.silence_speech(sound_frames, bytes(covered))
    if any(_has_speech(frames) for frames in rest.used.values()):
        for span in sound_plans.plan_file(rest, Cut.TURNS).spans:
            yield PlannedChunk(video.id, span, UNKNOWN_VOICE, 0)
