"""From heard pieces to a transcript on our own timeline. Pure, no I/O.

The vendor's times are believed inside the piece that was sent and nowhere else: they are clamped into its span. Nor
is a vendor's speaker believed from one piece to the next: each request names its voices anew, so `A` of one piece
may be `B` of another, and taking them for one would put a patient's words into the doctor's mouth.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from app.errors import UpstreamFailed
from app.integrations.speech_answers import Heard, HeardSegment
from app.media.sound import Span
from app.texts.plain import plain
from app.transcripts.model import MAX_TURN_CHARACTERS, Speaker, Transcript, Turn

MAX_CHARACTERS: Final = 2_000_000
MAX_TURNS: Final = 50_000
"""Twelve hours of two people who talk without a pause stay below both."""

MAX_LABELS: Final = 256
_FIRST_LABEL: Final = 2
"""The first label of a voice that a vendor told apart: 0 and 1 are the doctor's and the patient's."""


@dataclass(frozen=True)
class Voice:
    """Whose voice a piece has, by where it was recorded.

    `label` is the same for all sound of one voice; None if only the vendor may tell voices apart. `participant_id` is
    whose microphone it was.
    """

    label: int | None = None
    speaker: Speaker = Speaker.UNKNOWN
    participant_id: UUID | None = None


UNKNOWN_VOICE: Final = Voice()


@dataclass(frozen=True)
class Piece:
    """What was heard in one span of a sound, whose voice it is, and how much later than the video the sound begins."""

    span: Span
    heard: Heard
    voice: Voice = UNKNOWN_VOICE
    late_ms: int = 0


def assembled(pieces: Sequence[Piece], *, first_label: int = _FIRST_LABEL) -> Transcript:
    """The transcript: a turn for each segment that has words or is unintelligible, in order of start, then of voice.

    What was said before the video began is at its beginning. Voices that a vendor tells apart have labels from
    `first_label` on, and after those of the pieces. People who speak at once stay two turns. Raises UpstreamFailed
    (speech_nonsense) for more than anybody can say.
    """
    labels = (piece.voice.label for piece in pieces if piece.voice.label is not None)
    voices = _Voices(max(first_label, 1 + max(labels, default=0)))
    drafts = [
        (
            start_ms,
            MAX_LABELS if piece.voice.label is None else piece.voice.label,
            end_ms,
            replace(segment, text=text),
            voices.label(number, piece, segment),
            piece.voice,
        )
        for number, piece in enumerate(pieces)
        for segment in piece.heard.segments
        for start_ms, end_ms in (_within(piece, segment),)
        if (text := plain(segment.text)) or segment.is_unintelligible
    ]
    if len(drafts) > MAX_TURNS or sum(len(draft[3].text) for draft in drafts) > MAX_CHARACTERS:
        raise UpstreamFailed("speech_nonsense")
    if any(len(draft[3].text) > MAX_TURN_CHARACTERS for draft in drafts):
        raise UpstreamFailed("speech_nonsense")
    drafts.sort(key=lambda draft: draft[:2])
    turns = (
        Turn(
            number,
            start_ms,
            end_ms,
            voice.speaker,
            said.text,
            label,
            said.is_unintelligible,
            said.is_uncertain,
            said.figures,
            voice.participant_id,
        )
        for number, (start_ms, _, end_ms, said, label, voice) in enumerate(drafts)
    )
    return Transcript(tuple(turns), _language(pieces))


def without_words(span: Span) -> Heard:
    """What is kept of a span that the speech service could not make out: one unintelligible segment over all of it."""
    return Heard((HeardSegment(0, span.end_ms - span.start_ms, "", is_unintelligible=True),))


def turn_of_piece(transcript: Transcript, piece: Piece, *, taken: Collection[int]) -> int:
    """The number of the turn that `assembled` made of a piece `without_words`, of those that are not taken."""
    times = _within(piece, piece.heard.segments[0])
    return next(
        turn.number
        for turn in transcript.turns
        if turn.is_unintelligible
        and (turn.start_ms, turn.end_ms) == times
        and turn.label == piece.voice.label
        and turn.number not in taken
    )


def retried(before: Transcript, replaced: Mapping[int, Piece], reworded: Collection[int]) -> Transcript:
    """The transcript, where each of these turns is replaced by the turns of its piece, transcribed again.

    No turn changes its number: the first turn of a piece takes the number of the turn that it replaces, the others have
    the numbers after the last. If a doctor has reworded the turn, it takes all words of the piece, and the doctor's
    words stay on top of them.
    """
    turns = list(before.turns)
    labels = [turn.label for turn in turns if turn.label is not None]
    for number, piece in replaced.items():
        new = assembled([piece], first_label=1 + max(labels, default=_FIRST_LABEL - 1)).turns
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
    """The small integers of the voices that a vendor told apart: as they come, then no more."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._known: dict[tuple[int, str], int] = {}

    def label(self, number: int, piece: Piece, segment: HeardSegment) -> int | None:
        if piece.voice.label is not None:
            return piece.voice.label
        voice = segment.speaker
        if voice is None or not voice.strip():
            return None
        label = self._known.get((number, voice), self._first + len(self._known))
        if label >= MAX_LABELS:
            return None
        self._known[number, voice] = label
        return label


def _within(piece: Piece, segment: HeardSegment) -> tuple[int, int]:
    """The segment's times on the video's timeline, within its span."""
    span = piece.span
    start_ms = min(max(span.start_ms + segment.start_ms, span.start_ms), span.end_ms)
    end_ms = max(start_ms, min(span.start_ms + segment.end_ms, span.end_ms))
    return max(0, start_ms + piece.late_ms), max(0, end_ms + piece.late_ms)


def _language(pieces: Iterable[Piece]) -> str | None:
    counted = Counter(piece.heard.language for piece in pieces if piece.heard.segments)
    del counted[None]
    return max(counted, key=counted.__getitem__, default=None)
