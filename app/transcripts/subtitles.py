"""Writes WebVTT and SRT of a transcript. Pure.

Transcribed text stays text: no text can end a cue, begin another cue, set a time, open a tag or change the
speaker's name. WebVTT is W3C's (w3c/webvtt, index.bs, checked 2026-11-21): the text of a cue has no `-->` and no
blank line, `&` and `<` are escaped, a voice is `<v Name>`, and cues are ordered by start. SRT has no standard and
no escapes, so text that players read as a tag (`<i>`, `{\\an8}`) is written with look-alike characters.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final
from uuid import UUID

from app.texts.unsafe_characters import remove_unsafe_characters
from app.transcripts.model import Speaker, Turn
from app.transcripts.subtitle_cues import Block, divide_text, reading_ms

_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_LOOK_ALIKES: Final = str.maketrans({"<": "\u2039", ">": "\u203a", "{": "(", "}": ")", "\\": "/"})


_Voice = tuple[Speaker, UUID | None]


@dataclass(frozen=True)
class _Cue:
    start_ms: int
    end_ms: int
    voice: _Voice
    lines: Block


def webvtt(turns: Sequence[Turn], labels: Mapping[Speaker, str]) -> str:
    """Return the turns as WebVTT. A cue's voice is the caller's label of its speaker; a speaker without a label has
    no voice.
    """
    voices = {
        voice: name.translate(_ESCAPES).replace("--", "-&#45;")
        for voice, name in _names(turns, labels).items()
    }
    cues = _cues(turns, {})
    return "WEBVTT\n\n" + "".join(f"{_times(cue, '.')}\n{_spoken(cue, voices)}\n\n" for cue in cues)


def srt(turns: Sequence[Turn], labels: Mapping[Speaker, str]) -> str:
    """Return the turns as SRT, with cues numbered from 1. A cue begins with the caller's label of its speaker, if
    the speaker has a label.
    """
    cues = _cues(turns, _names(turns, labels))
    return "".join(
        f"{number}\n{_times(cue, ',')}\n{chr(10).join(cue.lines).translate(_LOOK_ALIKES)}\n\n"
        for number, cue in enumerate(cues, start=1)
    )


def _names(turns: Sequence[Turn], labels: Mapping[Speaker, str]) -> dict[_Voice, str]:
    """Return the name of each labelled voice. The names have numbers if several participants have the same role."""
    known = dict.fromkeys(_voice(turn) for turn in turns if turn.participant_id)
    of_role: dict[Speaker, list[_Voice]] = {}
    for voice in known:
        of_role.setdefault(voice[0], []).append(voice)
    names: dict[_Voice, str] = {
        (speaker, None): remove_unsafe_characters(label) for speaker, label in labels.items()
    }
    for speaker, voices in of_role.items():
        if speaker in labels:
            for number, voice in enumerate(voices, start=1):
                names[voice] = names[speaker, None] + (f" {number}" if len(voices) > 1 else "")
    return names


def _voice(turn: Turn) -> _Voice:
    return turn.speaker, turn.participant_id


def _spoken(cue: _Cue, voices: Mapping[_Voice, str]) -> str:
    words = "\n".join(line.translate(_ESCAPES) for line in cue.lines)
    voice = voices.get(cue.voice)
    return f"<v {voice}>{words}</v>" if voice else words


def _cues(turns: Sequence[Turn], names: Mapping[_Voice, str]) -> list[_Cue]:
    """Return the cues of all turns in order of start, each beginning with its speaker's name if there is one."""
    spans = sorted(
        ((max(0, turn.start_ms), max(0, turn.start_ms, turn.end_ms), turn) for turn in turns),
        key=lambda span: span[0],
    )
    cues: list[_Cue] = []
    for at, (start_ms, end_ms, turn) in enumerate(spans):
        name = names.get(_voice(turn), "")
        cues += _turn_cues(turn, start_ms, end_ms, _latest_end_ms(spans, at), f"{name}: " if name else "")
    return sorted(cues, key=lambda cue: cue.start_ms)


def _latest_end_ms(spans: Sequence[tuple[int, int, Turn]], at: int) -> int | None:
    """Return the time at which the cues of a turn must have ended, or None if the time is not limited. The limit is
    the start of the next turn of any speaker, but at least the end of this turn. A turn within this turn does not
    limit its cues, because a player shows both at once. If another turn begins during this turn and ends after it,
    the limit is the end of this turn.
    """
    start_ms, end_ms, _ = spans[at]
    for later in range(at + 1, len(spans)):
        other_start_ms, other_end_ms, _ = spans[later]
        if other_end_ms >= end_ms and other_start_ms > start_ms:
            return max(end_ms, other_start_ms)
    return None


def _turn_cues(
    turn: Turn, start_ms: int, end_ms: int, latest_end_ms: int | None, prefix: str
) -> Iterator[_Cue]:
    """Yield the cues of a turn without gaps, each at least one millisecond long.

    Each cue is shown for its reading time, if the time up to the limit suffices for all cues.
    """
    available_ms = None if latest_end_ms is None else latest_end_ms - start_ms
    blocks = divide_text(remove_unsafe_characters(turn.text), prefix, available_ms)
    needed = list(accumulate(map(reading_ms, blocks), initial=0))
    if available_ms is None:
        available_ms = max(end_ms - start_ms, needed[-1])
    if needed[-1] <= available_ms:
        ends = _readable_ends(blocks, needed, len(prefix), end_ms - start_ms)
    else:
        ends = [available_ms * each // needed[-1] for each in needed[1:]]
    begin = 0
    for block, end in zip(blocks, ends, strict=True):
        end = max(begin + 1, end)
        yield _Cue(start_ms + begin, start_ms + end, _voice(turn), block)
        begin = end


def _readable_ends(
    blocks: Sequence[Block], needed: Sequence[int], prefix_length: int, spoken_ms: int
) -> list[int]:
    """Return the end of each cue, counted from the turn's start. A cue ends by its share of the characters; the
    ends are moved so that every cue can be read. `needed` contains the time that the first 0, 1, 2 ... cues need.
    All cues together take the time of the speech, or the time that they need if it is longer.
    """
    spoken = list(accumulate(sum(map(len, block)) - prefix_length for block in blocks))
    whole_ms = max(spoken_ms, needed[-1])
    ends = [0]
    for at, characters in enumerate(spoken):
        earliest = ends[-1] + needed[at + 1] - needed[at]
        latest = whole_ms - (needed[-1] - needed[at + 1])
        ends.append(min(latest, max(earliest, spoken_ms * characters // spoken[-1])))
    return ends[1:]


def _times(cue: _Cue, point: str) -> str:
    return f"{_time(cue.start_ms, point)} --> {_time(cue.end_ms, point)}"


def _time(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
