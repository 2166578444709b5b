"""Formats and parses the stored form of a transcript, a transcribed chunk and a correction, before encryption. Pure.

The stored transcript, the stored chunk and the stored correction are each compact JSON with a version. The parser
is strict: it raises an error for an unknown version, an unknown structure or a number out of order. No error
contains text of the transcript. In the stored form of a transcript, the normalized words come before the JSON, with
one line for each turn. A search reads the normalized words of each candidate transcript, but parses the JSON only
for the transcripts that match.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from app.errors import Conflict, NotFound
from app.integrations.speech.answers import Figures, SpeechAnswer, SpeechSegment
from app.media.sound_plans import Span
from app.transcripts.corrections import Attribution, Correction, Rewording
from app.transcripts.model import Speaker, Transcript, Turn
from app.transcripts.search.normalization import normalize_text
from app.transcripts.transcription.assembly import TranscribedChunk, Voice

TRANSCRIPT_FORMAT: Final = 2
CHUNK_FORMAT: Final = 2
CORRECTION_FORMAT: Final = 1
NORMALIZATION_VERSION: Final = 4
"""The version of the normalized words, which changes with their format and with the rules of `normalization`."""

ALIAS_MARK: Final = "|"

_HEADER: Final = re.compile(rb"words (\d{1,9}) (\d{1,9})\n")


def format_transcript(transcript: Transcript) -> bytes:
    """Return the stored form of a transcript: a header line with the length of the normalized words, the normalized
    words, and the transcript as JSON.

    The JSON has one line for each turn, in the order of the turns' numbers.
    """
    normalized = format_normalized_words(turn.text for turn in transcript.turns)
    first = _format_json({"transcript": TRANSCRIPT_FORMAT, "language": transcript.language, "turns": []})
    rows = b",\n".join(_format_json(_turn_row(turn)) for turn in transcript.turns)
    header = b"words %d %d\n" % (NORMALIZATION_VERSION, len(normalized))
    return header + normalized + first.removesuffix(b"]}") + b"\n" + rows + b"\n]}"


def parse_transcript(stored: bytes) -> Transcript:
    """Return the transcript. Raises Conflict (transcript_format_unknown, transcript_malformed)."""
    read = _parse_json(stored[_find_normalized_words(stored).stop :], "transcript", TRANSCRIPT_FORMAT)
    try:
        match read:
            case {"language": str() | None as language, "turns": list(rows)} if len(read) == 3:
                return Transcript(
                    tuple(_parse_turn_row(number, row) for number, row in enumerate(rows)), language
                )
    except ValueError:
        pass
    raise Conflict("transcript_malformed")


def parse_turn(stored: bytes, number: int, corrections: Sequence[Correction] = ()) -> Turn:
    """Return one turn of a transcript with its latest correction, without parsing the transcript's other turns.

    Raises NotFound (turn_unknown) and Conflict (transcript_format_unknown, transcript_malformed).
    """
    rows = stored[_find_normalized_words(stored).stop :].split(b"\n")[1:-1]
    if not 0 <= number < len(rows):
        raise NotFound("turn_unknown")
    try:
        turn = _parse_turn_row(number, json.loads(rows[number].removesuffix(b",")))
    except (ValueError, RecursionError):
        raise Conflict("transcript_malformed") from None
    for correction in corrections:
        turn = correction.applied(turn)
    return turn


def format_normalized_words(texts: Iterable[str]) -> bytes:
    """Return the normalized words of some turns, for `matches.match_transcript`. Each turn is one line, in which
    each word stands between single spaces.

    The line of a turn ends with the aliases of the turn's words. A special character, which no phrase contains,
    precedes each alias.
    """
    return b"".join(_format_line(text) for text in texts)


def read_normalized_words(stored: bytes, corrections: Sequence[Correction] = ()) -> bytes:
    """Return the normalized words of a transcript, with its corrections applied in order.

    Raises Conflict (transcript_format_unknown, transcript_malformed). If a correction is of an unknown turn, the
    function raises NotFound (turn_unknown).
    """
    normalized = stored[_find_normalized_words(stored)]
    if not corrections:
        return normalized
    lines = normalized.splitlines(keepends=True)
    for correction in corrections:
        if not 0 <= correction.turn_number < len(lines):
            raise NotFound("turn_unknown")
        if isinstance(correction, Rewording):
            lines[correction.turn_number] = _format_line(correction.text)
    return b"".join(lines)


def sort_by_start(stored: bytes, numbers: Sequence[int]) -> list[int]:
    """Return the numbers of the turns, in order of the turns' start."""
    rows = stored[_find_normalized_words(stored).stop :].split(b"\n")[1:-1]
    return sorted(numbers, key=lambda number: int(rows[number][1 : rows[number].index(b",")]))


def format_chunk(chunk: TranscribedChunk) -> bytes:
    """Return the transcribed chunk as JSON."""
    span, answer = chunk.span, chunk.answer
    written = {
        "chunk": CHUNK_FORMAT,
        "span": [span.channel, span.start_ms, span.end_ms, span.source],
        "voice": [chunk.voice.label, chunk.voice.speaker.value, _id_row(chunk.voice.participant_id)],
        "late_ms": chunk.late_ms,
        "language": answer.language,
        "segments": [_segment_row(each) for each in answer.segments],
    }
    return _format_json(written)


def parse_chunk(stored: bytes) -> TranscribedChunk:
    """Return the transcribed chunk. Raises Conflict (transcript_format_unknown, transcript_malformed)."""
    read = _parse_json(stored, "chunk", CHUNK_FORMAT)
    try:
        match read:
            case {
                "span": span,
                "voice": voice,
                "late_ms": int(late_ms),
                "language": str() | None as language,
                "segments": list(rows),
            } if len(read) == 6:
                answer = SpeechAnswer(tuple(_parse_segment(row) for row in rows), language)
                return TranscribedChunk(_parse_span(span), answer, _parse_voice(voice), late_ms)
    except ValueError:
        pass
    raise Conflict("transcript_malformed")


def format_correction(correction: Correction) -> bytes:
    """Return the correction as JSON."""
    written: list[object]
    if isinstance(correction, Rewording):
        written = [correction.turn_number, correction.version, correction.text]
    else:
        written = [correction.turn_number, correction.label, {"speaker": correction.speaker.value}]
    return _format_json({"correction": CORRECTION_FORMAT, "of": written})


def parse_correction(stored: bytes) -> Correction:
    """Return the correction. Raises Conflict (transcript_format_unknown, transcript_malformed)."""
    read = _parse_json(stored, "correction", CORRECTION_FORMAT)
    try:
        match read:
            case {"of": [int(turn_number), int(version), str(text)]} if len(read) == 2 and version and text:
                _require_whole(turn_number, version)
                return Rewording(turn_number, version, text)
            case {"of": [int(turn_number), int() | None as label, {"speaker": str(speaker)}]} if (
                len(read) == 2
            ):
                _require_whole(turn_number, label)
                return Attribution(turn_number, label, Speaker(speaker))
    except ValueError:
        pass
    raise Conflict("transcript_malformed")


def _find_normalized_words(stored: bytes) -> slice:
    header = _HEADER.match(stored)
    if header is None:
        raise Conflict("transcript_malformed")
    if int(header[1]) != NORMALIZATION_VERSION:
        raise Conflict("transcript_format_unknown", version=int(header[1]))
    return slice(header.end(), header.end() + int(header[2]))


def _format_line(text: str) -> bytes:
    read = normalize_text(text)
    said = "".join(f"{word.normalized} " for word in read.words)
    aliases = "".join(f"{ALIAS_MARK} {word} " for word in sorted({word.normalized for word in read.aliases}))
    return f" {said}{aliases}\n".encode()


def _format_json(value: object) -> bytes:
    """Return the value as JSON in UTF-8. If the text contains half of a surrogate pair, as a vendor's JSON may, the
    function replaces it by `?`.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", errors="replace")


def _parse_json(stored: bytes, kind: str, version: int) -> dict[str, object]:
    try:
        read = json.loads(stored.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Conflict("transcript_malformed") from None
    if not isinstance(read, dict) or not _is_whole(read.get(kind)):
        raise Conflict("transcript_malformed")
    if read[kind] != version:
        raise Conflict("transcript_format_unknown", version=read[kind])
    return read


def _turn_row(turn: Turn) -> list[object]:
    times_and_voice = [turn.start_ms, turn.end_ms, turn.speaker.value, turn.label]
    return [
        *times_and_voice,
        turn.text,
        turn.is_unintelligible,
        turn.is_uncertain,
        _figures_row(turn.figures),
        _id_row(turn.participant_id),
    ]


def _parse_turn_row(number: int, row: object) -> Turn:
    match row:
        case [
            int(start_ms),
            int(end_ms),
            str(speaker),
            int() | None as label,
            str(text),
            bool(is_unintelligible),
            bool(is_uncertain),
            figures,
            str() | None as participant_id,
        ] if not (text and is_unintelligible):
            _require_time(start_ms, end_ms)
            _require_whole(label)
            return Turn(
                number,
                start_ms,
                end_ms,
                Speaker(speaker),
                text,
                label,
                is_unintelligible,
                is_uncertain,
                _parse_figures(figures),
                _parse_id(participant_id),
            )
    raise ValueError("no turn")


def _parse_span(row: object) -> Span:
    match row:
        case [int() | None as channel, int(start_ms), int(end_ms), int(source)]:
            _require_time(start_ms, end_ms)
            _require_whole(channel, source)
            return Span(channel, start_ms, end_ms, source)
    raise ValueError("no span")


def _parse_voice(row: object) -> Voice:
    match row:
        case [int() | None as label, str(speaker), str() | None as participant_id]:
            _require_whole(label)
            return Voice(label, Speaker(speaker), _parse_id(participant_id))
    raise ValueError("no voice")


def _id_row(participant_id: UUID | None) -> str | None:
    return None if participant_id is None else str(participant_id)


def _parse_id(row: str | None) -> UUID | None:
    return None if row is None else UUID(row)


def _segment_row(segment: SpeechSegment) -> list[object]:
    times_and_words = [segment.start_ms, segment.end_ms, segment.text, segment.speaker]
    flags = [segment.is_unintelligible, segment.is_uncertain]
    return [*times_and_words, *flags, _figures_row(segment.figures)]


def _figures_row(figures: Figures) -> list[object]:
    return [figures.avg_logprob, figures.no_speech_prob, figures.compression_ratio]


def _parse_figures(row: object) -> Figures:
    match row:
        case [float() | None as logprob, float() | None as no_speech, float() | None as ratio]:
            return Figures(logprob, no_speech, ratio)
    raise ValueError("no figures")


def _parse_segment(row: object) -> SpeechSegment:
    match row:
        case [
            int(start_ms),
            int(end_ms),
            str(text),
            str() | None as speaker,
            bool(is_unintelligible),
            bool(is_uncertain),
            figures,
        ]:
            return SpeechSegment(
                start_ms, end_ms, text, speaker, is_unintelligible, _parse_figures(figures), is_uncertain
            )
    raise ValueError("no segment")


def _require_whole(*numbers: int | None) -> None:
    if not all(number is None or _is_whole(number) for number in numbers):
        raise ValueError("no whole number")


def _require_time(start_ms: int, end_ms: int) -> None:
    _require_whole(start_ms, end_ms)
    if end_ms < start_ms:
        raise ValueError("it ends before it starts")


def _is_whole(number: object) -> bool:
    return type(number) is int and number >= 0
