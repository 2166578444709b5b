"""From heard pieces to a transcript on our own timeline. Pure, no I/O.

The vendor's times are believed inside the piece that was sent and nowhere else: they are clamped into its span. Nor
is a vendor's speaker believed from one piece to the next: each request names its voices anew, so `A` of one piece
may be `B` of another, and taking them for one would put a patient's words into the doctor's mouth.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.errors import UpstreamFailed
from app.integrations.speech_answers import Heard, HeardSegment
from app.media.sound import Span
from app.texts.plain import plain
from app.transcripts.model import MAX_TURN_CHARACTERS, Speaker, Transcript, Turn

MAX_CHARACTERS: Final = 2_000_000
MAX_TURNS: Final = 50_000
"""Twelve hours of two people who talk without a pause stay below both."""

MAX_LABELS: Final = 256
_OF_CHANNEL: Final = (Speaker.DOCTOR, Speaker.PATIENT)


@dataclass(frozen=True)
class Piece:
    """What was heard in one span of a recording."""

    span: Span
    heard: Heard


def assembled(pieces: Sequence[Piece], *, late_ms: int = 0, is_of_two: bool = True) -> Transcript:
    """The transcript: a turn for each segment that has words or is unintelligible, in order of start, then of channel.

    `late_ms` is how much later than the recording its sound begins; what was said before the recording did is at its
    beginning. Where the channels are not of two (`is_of_two`), nobody knows who speaks until a doctor says so, voice
    by voice. People who speak at once stay two turns. Raises UpstreamFailed (speech_nonsense) for more than anybody can
    say.
    """
    voices = _Voices()
    drafts = [
        (
            start_ms,
            _rank(piece.span.channel),
            end_ms,
            replace(segment, text=text),
            voices.label(number, piece, segment),
        )
        for number, piece in enumerate(pieces)
        for segment in piece.heard.segments
        for start_ms, end_ms in (_within(piece.span, segment),)
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
            max(0, start_ms + late_ms),
            max(0, end_ms + late_ms),
            _speaker(label) if is_of_two else Speaker.UNKNOWN,
            said.text,
            label,
            said.is_unintelligible,
            said.is_uncertain,
            said.figures,
        )
        for number, (start_ms, _, end_ms, said, label) in enumerate(drafts)
    )
    return Transcript(tuple(turns), _language(pieces))


def without_words(span: Span) -> Piece:
    """The piece of a span that the speech service could not make out: one unintelligible segment over all of it."""
    segment = HeardSegment(0, span.end_ms - span.start_ms, "", is_unintelligible=True)
    return Piece(span, Heard((segment,)))


def turn_of_piece(transcript: Transcript, piece: Piece, *, late_ms: int, taken: Collection[int]) -> int:
    """The number of the turn that `assembled` made of a piece `without_words`, of those that are not taken."""
    times = (max(0, piece.span.start_ms + late_ms), max(0, piece.span.end_ms + late_ms))
    return next(
        turn.number
        for turn in transcript.turns
        if turn.is_unintelligible
        and (turn.start_ms, turn.end_ms) == times
        and turn.label == piece.span.channel
        and turn.number not in taken
    )


def retried(before: Transcript, replaced: Mapping[int, Transcript], reworded: Collection[int]) -> Transcript:
    """The transcript, where each of these turns is replaced by the turns of its piece, transcribed again.

    No turn changes its number: the first turn of a piece takes the number of the turn that it replaces, the others have
    the numbers after the last. If a doctor has reworded the turn, it takes all words of the piece, and the doctor's
    words stay on top of them.
    """
    turns = list(before.turns)
    next_label = 1 + max(
        (turn.label for turn in turns if turn.label is not None), default=len(_OF_CHANNEL) - 1
    )
    for number, heard in replaced.items():
        new = [_relabelled(turn, max(len(_OF_CHANNEL), next_label)) for turn in heard.turns]
        next_label = max((1 + turn.label for turn in new if turn.label is not None), default=next_label)
        first, *others = new or [replace(turns[number], text="", is_unintelligible=False)]
        if number in reworded and others:
            text = " ".join(turn.text for turn in new if turn.text)
            first = replace(
                first, end_ms=max(turn.end_ms for turn in new), text=text, is_unintelligible=not text
            )
            others = []
        turns[number] = replace(first, number=number)
        turns += [replace(turn, number=len(turns) + place) for place, turn in enumerate(others)]
    return replace(before, turns=tuple(turns))


def _relabelled(turn: Turn, first: int) -> Turn:
    """The turn with a label from `first` on if a vendor told its voice apart, as no earlier answer did."""
    if turn.label is None or turn.label < len(_OF_CHANNEL):
        return turn
    label = first + turn.label - len(_OF_CHANNEL)
    return replace(turn, label=label if label < MAX_LABELS else None)


class _Voices:
    """The small integers of a recording's voices: 0 and 1 are channels, then as they come, then no more."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], int] = {}

    def label(self, number: int, piece: Piece, segment: HeardSegment) -> int | None:
        if piece.span.channel is not None:
            return piece.span.channel
        voice = segment.speaker
        if voice is None or not voice.strip():
            return None
        label = self._known.get((number, voice), len(_OF_CHANNEL) + len(self._known))
        if label >= MAX_LABELS:
            return None
        self._known[number, voice] = label
        return label


def _speaker(label: int | None) -> Speaker:
    return _OF_CHANNEL[label] if label is not None and label < len(_OF_CHANNEL) else Speaker.UNKNOWN


def _rank(channel: int | None) -> int:
    return len(_OF_CHANNEL) if channel is None else channel


def _within(span: Span, segment: HeardSegment) -> tuple[int, int]:
    start_ms = min(max(span.start_ms + segment.start_ms, span.start_ms), span.end_ms)
    end_ms = min(span.start_ms + segment.end_ms, span.end_ms)
    return start_ms, max(start_ms, end_ms)


def _language(pieces: Iterable[Piece]) -> str | None:
    counted = Counter(piece.heard.language for piece in pieces if piece.heard.segments)
    del counted[None]
    return max(counted, key=counted.__getitem__, default=None)
