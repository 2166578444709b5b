"""Writes the subtitles of a transcript as WebVTT and as SRT. Pure.

Transcribed text cannot change the structure of the file: it cannot end or begin a cue, set a time, open a tag, or
change the speaker's name. The W3C defines WebVTT (w3c/webvtt, index.bs, checked 2026-11-21). The text of a cue has
no `-->` and no blank line, and `&` and `<` are escaped. A voice is written `<v Name>`, and cues are ordered by
start. The SRT format has no standard and no escapes. The module therefore writes text that players would read as a
tag (`<i>`, `{\\an8}`) with look-alike characters.
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


def webvtt(turns: Sequence[Turn], labels: Mapping[Speaker, str], *, notice: str | None = None) -> str:
    """Return the turns of a transcript as WebVTT. The WebVTT voice of a cue is the label that the caller gave for the
    speaker. If the speaker has no label, the cue has no voice. The notice is one line without `-->`, in a comment
    before the cues. SRT has no comments.
    """
    voices = {
        voice: name.translate(_ESCAPES).replace("--", "-&#45;")
        for voice, name in _names(turns, labels).items()
    }
    cues = _cues(turns, {})
    comment = f"NOTE\n{notice}\n\n" if notice else ""
    return f"WEBVTT\n\n{comment}" + "".join(f"{_times(cue, '.')}\n{_spoken(cue, voices)}\n\n" for cue in cues)


def srt(turns: Sequence[Turn], labels: Mapping[Speaker, str]) -> str:
    """Return the turns as SRT, with cues numbered from 1. If the caller gave a label for the speaker of a cue, the
    cue begins with this label.
    """
    cues = _cues(turns, _names(turns, labels))
    return "".join(
        f"{number}\n{_times(cue, ',')}\n{chr(10).join(cue.lines).translate(_LOOK_ALIKES)}\n\n"
        for number, cue in enumerate(cues, start=1)
    )


def _names(turns: Sequence[Turn], labels: Mapping[Speaker, str]) -> dict[_Voice, str]:
    """Return the name that the subtitles show for each labelled voice. If several participants have the same role,
    their names get numbers.
    """
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
    """Return the time by which the last cue of a turn must end, or None if there is no such limit. The cues of a
    turn must end when the next turn of any speaker starts, but need never end before their own turn ends. If a
    second turn lies entirely within a turn, it does not limit the cues of the longer turn, because a player shows
    both at once. If a second turn begins during a turn and ends after it, the first turn's cues must end when the
    first turn ends.
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
    """Yield the cues of a turn, each at least one millisecond long, without gaps between them.

    If the time until the turn's cues must end is long enough, each cue is shown at least for its reading time.
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
    """Return the time at which each cue ends, counted from the start of the turn. Each cue first gets a share of
    the turn's time in proportion to its characters. The function then moves the ends of the cues so that a viewer
    can read every cue. `needed` contains the times that a viewer needs to read the first 0, 1, 2 ... cues. All cues
    of a turn together last as long as the speech, or as long as a viewer needs to read them if that is longer.
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
