"""WebVTT and SRT of a transcript. Pure, no I/O.

Whatever was said is text and stays text: it cannot end a cue, begin another, set a time, open a tag or speak in
another's name. WebVTT is W3C's (w3c/webvtt, index.bs, checked 2026-11-21): a cue's text has no `-->` and no blank
line, `&` and `<` are escaped, a voice is `<v Name>`, cues stand in order of start and end after it. SRT has no
standard and no escapes: what players take for a tag (`<i>`, `{\\an8}`) is written with look-alikes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.texts.plain import plain
from app.transcripts.model import Speaker, Turn

LINE_CHARACTERS: Final = 42
LINES: Final = 2

_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_LOOK_ALIKES: Final = str.maketrans({"<": "\u2039", ">": "\u203a", "{": "(", "}": ")", "\\": "/"})


@dataclass(frozen=True)
class _Cue:
    start_ms: int
    end_ms: int
    speaker: Speaker
    lines: tuple[str, ...]


def webvtt(turns: Sequence[Turn], labels: Mapping[Speaker, str]) -> str:
    """The turns as WebVTT, each cue in the voice of its speaker by the caller's labels; no label, no voice."""
    voices = {
        speaker: plain(label).translate(_ESCAPES).replace("--", "-&#45;") for speaker, label in labels.items()
    }
    cues = _ordered(cue for turn in turns for cue in _cues(turn, ""))
    return "WEBVTT\n\n" + "".join(f"{_times(cue, '.')}\n{_spoken(cue, voices)}\n\n" for cue in cues)


def srt(turns: Sequence[Turn], labels: Mapping[Speaker, str]) -> str:
    """The turns as SRT, numbered from 1; each cue begins with the caller's label of its speaker, if it has one."""
    names = {speaker: plain(label) for speaker, label in labels.items()}
    cues = _ordered(cue for turn in turns for cue in _cues(turn, names.get(turn.speaker, "")))
    return "".join(
        f"{number}\n{_times(cue, ',')}\n{chr(10).join(cue.lines).translate(_LOOK_ALIKES)}\n\n"
        for number, cue in enumerate(cues, start=1)
    )


def _spoken(cue: _Cue, voices: Mapping[Speaker, str]) -> str:
    words = "\n".join(line.translate(_ESCAPES) for line in cue.lines)
    voice = voices.get(cue.speaker)
    return f"<v {voice}>{words}</v>" if voice else words


def _ordered(cues: Iterator[_Cue]) -> list[_Cue]:
    return sorted(cues, key=lambda cue: cue.start_ms)


def _cues(turn: Turn, name: str) -> Iterator[_Cue]:
    """The cues of a turn: its time is divided among them by characters, a millisecond each at the least."""
    prefix = f"{name}: " if name else ""
    blocks = _blocks(plain(turn.text), prefix)
    sizes = [sum(map(len, block)) - len(prefix) for block in blocks]
    start_ms, total, done = max(0, turn.start_ms), sum(sizes), 0
    span_ms = max(0, turn.end_ms - start_ms)
    for block, size in zip(blocks, sizes, strict=True):
        done += size
        end_ms = max(start_ms + 1, max(0, turn.start_ms) + span_ms * done // total)
        yield _Cue(start_ms, end_ms, turn.speaker, block)
        start_ms = end_ms


def _blocks(text: str, prefix: str) -> list[tuple[str, ...]]:
    """The text in blocks of at most two lines, each block begun by the prefix."""
    room = max(1, LINE_CHARACTERS - len(prefix))
    words = [word[at : at + room] for word in text.split() for at in range(0, len(word), room)]
    blocks: list[tuple[str, ...]] = []
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= LINE_CHARACTERS:
            lines[-1] += f" {word}"
        elif 0 < len(lines) < LINES:
            lines.append(word)
        else:
            blocks.append(tuple(lines))
            lines = [f"{prefix}{word}"]
    return [block for block in (*blocks, tuple(lines)) if block]


def _times(cue: _Cue, point: str) -> str:
    return f"{_time(cue.start_ms, point)} --> {_time(cue.end_ms, point)}"


def _time(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
