"""Writes turns as the text that a language model reads, one turn a line, and reads that text again. Pure.

A line is `t12 [190.25-195.0] PATIENT: text`, with the times in seconds. The speaker UNKNOWN is followed by the number
of the voice if it is known, as in `UNKNOWN#2`. `PATIENT/uncertain` marks speech that the speech service may have
misheard, and `PATIENT/unintelligible` speech without a text. Line breaks and control characters in the text are
escaped, so that no speech can look like a line of another turn.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from app.transcripts.model import Speaker, Turn

_LINE: Final = re.compile(
    r"t(?P<number>\d+) \[(?P<start>\d+\.\d{3})-(?P<end>\d+\.\d{3})\] (?P<speaker>[A-Z]+)(?:#(?P<label>\d+))?"
    r"(?P<mark>/uncertain|/unintelligible)?: (?P<text>.*)"
)
_TURN_ID: Final = re.compile(r"t(0|[1-9]\d{0,8})")
_ESCAPED: Final = re.compile(r"\\(?:\\|u([0-9a-f]{4}))")
_UNSAFE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


def format_turns(turns: Iterable[Turn]) -> str:
    """Return the turns as lines, in the given order."""
    return "\n".join(_format_turn(turn) for turn in turns)


def parse_turns(text: str) -> tuple[Turn, ...]:
    """Return the turns of a text that `format_turns` wrote. Raises ValueError if a line is not of that form.

    A turn has its number, times, speaker, text and marks. Only an UNKNOWN voice keeps its label.
    """
    return tuple(_parse_line(line) for line in text.split("\n") if line)


def turn_id(number: int) -> str:
    """Return the name by which a model cites the turn."""
    return f"t{number}"


def parse_turn_id(text: str) -> int | None:
    """Return the number of the turn with the name, or None if the name is malformed."""
    match = _TURN_ID.fullmatch(text)
    return int(match[1]) if match else None


def _format_turn(turn: Turn) -> str:
    speaker = turn.speaker.value
    if turn.speaker is Speaker.UNKNOWN and turn.label is not None:
        speaker += f"#{turn.label}"
    if turn.is_unintelligible:
        speaker += "/unintelligible"
    elif turn.is_uncertain:
        speaker += "/uncertain"
    times = f"{_seconds(turn.start_ms)}-{_seconds(turn.end_ms)}"
    return f"{turn_id(turn.number)} [{times}] {speaker}: {_escape(turn.text)}"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"


def _milliseconds(seconds: str) -> int:
    whole, _, part = seconds.partition(".")
    return int(whole) * 1000 + int(part)


def _escape(text: str) -> str:
    return "".join(_escape_character(char) for char in text)


def _escape_character(char: str) -> str:
    if char == "\\":
        return "\\\\"
    return f"\\u{ord(char):04x}" if unicodedata.category(char) in _UNSAFE else char


def _parse_line(line: str) -> Turn:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("a line of the transcript is malformed")
    return Turn(
        int(match["number"]),
        _milliseconds(match["start"]),
        _milliseconds(match["end"]),
        Speaker(match["speaker"]),
        _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)) if escaped[1] else "\\", match["text"]),
        label=int(match["label"]) if match["label"] else None,
        is_unintelligible=match["mark"] == "/unintelligible",
        is_uncertain=match["mark"] == "/uncertain",
    )
