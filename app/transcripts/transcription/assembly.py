"""Assembles transcribed chunks into a transcript on the video's timeline, and labels the voices. Pure.

The times of a chunk's segments are limited to the span of the chunk. The module uses the speaker labels of the
speech service only within one chunk, because the service numbers the voices anew in each request. The voice `A` of
one chunk may be the voice `B` of another chunk. If the module treated a service's label as the same voice in all
chunks, the transcript could attribute the patient's words to the doctor.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from app.errors import UpstreamFailed
from app.integrations.speech.answers import SpeechAnswer, SpeechSegment
from app.media.sound_plans import Span
from app.texts.unsafe_characters import remove_unsafe_characters
from app.transcripts.model import MAX_TURN_CHARACTERS, Speaker, Transcript, Turn

MAX_CHARACTERS: Final = 2_000_000
MAX_TURNS: Final = 50_000
"""Twelve hours of two people who talk without a pause stay below both limits."""

MAX_LABELS: Final = 256
_FIRST_LABEL: Final = 2
"""The first label of a voice that the service distinguished. 0 and 1 are the doctor and the patient."""


@dataclass(frozen=True)
class Voice:
    """The voice of a chunk, known by the microphone or the channel that recorded it. All sound of one voice has the
    same `label`. `label` is None if only the speech service can distinguish voices. `participant_id` is the
    participant to whom the microphone belongs.
    """

    label: int | None = None
    speaker: Speaker = Speaker.UNKNOWN
    participant_id: UUID | None = None


UNKNOWN_VOICE: Final = Voice()


@dataclass(frozen=True)
class TranscribedChunk:
    """A transcribed chunk: the speech service's answer for one span of a sound file, the voice, and how much later
    than the video the sound file begins.
    """

    span: Span
    answer: SpeechAnswer
    voice: Voice = UNKNOWN_VOICE
    late_ms: int = 0


def assemble_transcript(chunks: Sequence[TranscribedChunk], *, first_label: int = _FIRST_LABEL) -> Transcript:
    """Return the transcript: one turn for each segment that has text or is unintelligible, in order of start and
    then of voice.

    If somebody spoke before the video began, the turn is placed at the beginning of the video. Voices that only the
    speech service distinguished get labels from `first_label` on. The labels from `first_label` on are higher than
    the labels of voices that a microphone or a channel identifies. If two people speak at once, the transcript has
    a turn for each of them. Raises UpstreamFailed (speech_nonsense) for more text than anyone can speak.
    """
    labels = (chunk.voice.label for chunk in chunks if chunk.voice.label is not None)
    voices = _Voices(max(first_label, 1 + max(labels, default=0)))
    drafts = [
        (turn.start_ms, MAX_LABELS if chunk.voice.label is None else chunk.voice.label, turn)
        for number, chunk in enumerate(chunks)
        for turn in _make_turns(number, chunk, voices)
    ]
    turns = [turn for _, _, turn in sorted(drafts, key=lambda draft: draft[:2])]
    if (
        len(turns) > MAX_TURNS
        or sum(len(turn.text) for turn in turns) > MAX_CHARACTERS
        or any(len(turn.text) > MAX_TURN_CHARACTERS for turn in turns)
    ):
        raise UpstreamFailed("speech_nonsense")
    numbered = (replace(turn, number=number) for number, turn in enumerate(turns))
    return Transcript(tuple(numbered), _most_common_language(chunks))


def unintelligible_answer(span: Span) -> SpeechAnswer:
    """Return the answer to store for a span that the speech service could not transcribe: one unintelligible
    segment.
    """
    return SpeechAnswer((SpeechSegment(0, span.end_ms - span.start_ms, "", is_unintelligible=True),))


def find_turn_of_chunk(transcript: Transcript, chunk: TranscribedChunk, *, taken: Collection[int]) -> int:
    """Return the number of the turn that `assemble_transcript` made from an unintelligible chunk. The function
    ignores the turns whose numbers are in `taken`.
    """
    times = _video_times(chunk, chunk.answer.segments[0])
    return next(
        turn.number
        for turn in transcript.turns
        if turn.is_unintelligible
        and (turn.start_ms, turn.end_ms) == times
        and turn.label == chunk.voice.label
        and turn.number not in taken
    )


def replace_retried_turns(
    before: Transcript, replaced: Mapping[int, TranscribedChunk], reworded: Collection[int]
) -> Transcript:
    """Return the transcript after a retry. The turns of each chunk that was transcribed again replace the chunk's
    unintelligible turn in `replaced`.

    The turns that the transcript already has keep their numbers. The first new turn of a chunk takes the number of
    the replaced turn, and the other new turns take the next free numbers. If a doctor has corrected the text of an
    unintelligible turn, all text of the chunk becomes one turn, and the doctor's correction still applies to this
    turn.
    """
    turns = list(before.turns)
    labels = [turn.label for turn in turns if turn.label is not None]
    for number, chunk in replaced.items():
        new = assemble_transcript([chunk], first_label=1 + max(labels, default=_FIRST_LABEL - 1)).turns
        labels += [turn.label for turn in new if turn.label is not None]
        first, *others = new or (replace(turns[number], text="", is_unintelligible=False),)
        if number in reworded and others:
            text = " ".join(turn.text for turn in new if turn.text)
            first = replace(
                first, end_ms=max(turn.end_ms for turn in new), text=text, is_unintelligible=not text
            )
            others = []
        turns[number] = replace(first, number=number)
        turns += [replace(turn, number=len(turns) + place) for place, turn in enumerate(others)]
    return replace(before, turns=tuple(turns))


class _Voices:
    """Assigns small integers to the voices that the speech service distinguished, in order of appearance."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._known: dict[tuple[int, str], int] = {}

    def label(self, number: int, chunk: TranscribedChunk, segment: SpeechSegment) -> int | None:
        if chunk.voice.label is not None:
            return chunk.voice.label
        voice = segment.speaker
        if voice is None or not voice.strip():
            return None
        label = self._known.get((number, voice), self._first + len(self._known))
        if label >= MAX_LABELS:
            return None
        self._known[number, voice] = label
        return label


def _make_turns(number: int, chunk: TranscribedChunk, voices: _Voices) -> Iterator[Turn]:
    """Yield the turns that the speech in one chunk forms; `number` is the number of the chunk. Each turn has the
    number 0 until all turns of the transcript have been sorted.
    """
    for segment in chunk.answer.segments:
        text = remove_unsafe_characters(segment.text)
        if text or segment.is_unintelligible:
            start_ms, end_ms = _video_times(chunk, segment)
            yield Turn(
                0,
                start_ms,
                end_ms,
                chunk.voice.speaker,
                text,
                voices.label(number, chunk, segment),
                segment.is_unintelligible,
                segment.is_uncertain,
                segment.figures,
                chunk.voice.participant_id,
            )


def _video_times(chunk: TranscribedChunk, segment: SpeechSegment) -> tuple[int, int]:
    """Convert the times of a segment to the video's timeline, and return them, limited to the span of the segment's
    chunk.
    """
    span = chunk.span
    start_ms = min(max(span.start_ms + segment.start_ms, span.start_ms), span.end_ms)
    end_ms = max(start_ms, min(span.start_ms + segment.end_ms, span.end_ms))
    return max(0, start_ms + chunk.late_ms), max(0, end_ms + chunk.late_ms)


def _most_common_language(chunks: Iterable[TranscribedChunk]) -> str | None:
    counted = Counter(chunk.answer.language for chunk in chunks if chunk.answer.segments)
    del counted[None]
    return max(counted, key=counted.__getitem__, default=None)
