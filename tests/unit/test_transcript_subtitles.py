"""Subtitles read back by parsers of their own: the same words, by the same speakers, and nothing else."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.texts.plain import plain
from app.transcripts.model import Speaker, Turn
from app.transcripts.subtitles import srt, webvtt
from tests.unit.transcripts import hostile_text, turn

ENGLISH = {Speaker.DOCTOR: "Doctor", Speaker.PATIENT: "Patient", Speaker.UNKNOWN: "Speaker"}
SPANISH = {Speaker.DOCTOR: "Médica", Speaker.PATIENT: "Paciente", Speaker.UNKNOWN: "Persona"}
LOOK_ALIKES = str.maketrans({"<": "\u2039", ">": "\u203a", "{": "(", "}": ")", "\\": "/"})
VTT_TIMES = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})")
SRT_TIMES = re.compile(VTT_TIMES.pattern.replace(r"\.", ","))

turns_of_any_text = st.lists(
    st.tuples(
        hostile_text, st.integers(0, 400_000_000), st.integers(0, 60_000), st.sampled_from(list(ENGLISH))
    ),
    max_size=4,
).map(
    lambda rows: [
        turn(number, text, start_ms=start, end_ms=start + length, speaker=speaker)
        for number, (text, start, length, speaker) in enumerate(sorted(rows, key=lambda row: row[1]))
    ]
)


@dataclass(frozen=True)
class Read:
    """A cue as a player has it."""

    start_ms: int
    end_ms: int
    voice: str
    lines: list[str]


def _milliseconds(hours: str, minutes: str, seconds: str, thousandths: str) -> int:
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(thousandths)


def _blocks(text: str) -> Iterator[list[str]]:
    """Runs of lines that are not empty, as both formats part them; CR, LF and CRLF end a line."""
    block: list[str] = []
    for line in [*re.split("\r\n|\n|\r", text), ""]:
        if line:
            block.append(line)
        elif block:
            yield block
            block = []


def _times(pattern: re.Pattern[str], line: str) -> tuple[int, int]:
    found = pattern.fullmatch(line)
    assert found, "a line of times"
    return _milliseconds(*found.groups()[:4]), _milliseconds(*found.groups()[4:])


def _read_webvtt(text: str) -> list[Read]:
    assert text.encode("utf-8").startswith(b"WEBVTT\n\n")
    cues = []
    for times, *lines in list(_blocks(text))[1:]:
        assert not any("-->" in line for line in lines)
        said = re.fullmatch(r"<v ([^<>\n]+)>([^<>]*)</v>|([^<>]*)", "\n".join(lines))
        assert said, "one voice, and no other tag"
        assert not re.search(r"&(?!amp;|lt;|gt;|#45;)", said[0])
        shown = html.unescape(said[2] if said[1] else said[3])
        cues.append(Read(*_times(VTT_TIMES, times), html.unescape(said[1] or ""), shown.split("\n")))
    return cues


def _read_srt(text: str) -> list[Read]:
    text.encode("utf-8")
    cues = []
    for place, (number, times, *lines) in enumerate(_blocks(text), start=1):
        assert number == str(place)
        assert not any(re.search(r"-->|[<>{}\\]", line) for line in lines)
        voice, _, first = lines[0].partition(": ")
        cues.append(Read(*_times(SRT_TIMES, times), voice, [first, *lines[1:]]))
    return cues


def _letters(text: str) -> str:
    return "".join(text.split())


def _by_speaker(cues: list[Read]) -> dict[str, str]:
    said: dict[str, str] = {}
    for cue in cues:
        said[cue.voice] = said.get(cue.voice, "") + _letters("".join(cue.lines))
    return said


def _said(turns: list[Turn], labels: dict[Speaker, str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for each in turns:
        if letters := _letters(plain(each.text)):
            said[labels[each.speaker]] = said.get(labels[each.speaker], "") + letters
    return said


def _one_after_another(turns: list[Turn]) -> list[Turn]:
    """With so much time between them that no cue of one stands after those of the next."""
    return [
        replace(each, start_ms=each.number * 90_000, end_ms=each.number * 90_000 + 60_000) for each in turns
    ]


@given(turns_of_any_text)
def test_webvtt_reads_back_the_same_words_of_the_same_speakers(turns: list[Turn]) -> None:
    apart = _one_after_another(turns)
    assert _by_speaker(_read_webvtt(webvtt(apart, SPANISH))) == _said(apart, SPANISH)


@given(turns_of_any_text)
def test_srt_reads_back_the_same_words_of_the_same_speakers(turns: list[Turn]) -> None:
    apart = _one_after_another(turns)
    said = {who: words.translate(LOOK_ALIKES) for who, words in _said(apart, ENGLISH).items()}
    assert _by_speaker(_read_srt(srt(apart, ENGLISH))) == said


@given(turns_of_any_text)
def test_cues_are_short_and_in_order_whatever_the_turns(turns: list[Turn]) -> None:
    for cues in (_read_webvtt(webvtt(turns, ENGLISH)), _read_srt(srt(turns, ENGLISH))):
        starts = [cue.start_ms for cue in cues]
        assert starts == sorted(starts)
        assert len(cues) >= sum(1 for each in turns if plain(each.text))
        for cue in cues:
            assert cue.start_ms < cue.end_ms
            assert 1 <= len(cue.lines) <= 2
            assert all(1 <= len(line) <= 42 for line in cue.lines)


@given(hostile_text, hostile_text)
def test_label_of_any_text_injects_nothing(label: str, text: str) -> None:
    labels = {Speaker.DOCTOR: label}
    for cue in _read_webvtt(webvtt([turn(0, text)], labels)):
        assert cue.voice == plain(label)
    srt_lines = [line for block in _blocks(srt([turn(0, text)], labels)) for line in block[2:]]
    assert not any(re.search(r"-->|[<>{}\\]", line) for line in srt_lines)


@given(
    st.lists(st.sampled_from(["word", "mañana", "a", "<i>", "x" * 42]), min_size=1, max_size=60),
    st.integers(100, 60_000),
)
def test_long_turn_is_divided_by_characters_without_gaps(words: list[str], length: int) -> None:
    cues = _read_webvtt(webvtt([turn(0, " ".join(words), start_ms=500, end_ms=500 + length)], ENGLISH))
    assert [word for cue in cues for line in cue.lines for word in line.split(" ")] == words
    assert cues[0].start_ms == 500
    assert cues[-1].end_ms == 500 + length
    assert [cue.end_ms for cue in cues[:-1]] == [cue.start_ms for cue in cues[1:]]
    sizes = [sum(map(len, cue.lines)) for cue in cues]
    for cue, size in zip(cues, sizes, strict=True):
        assert abs((cue.end_ms - cue.start_ms) - length * size / sum(sizes)) <= 1


def test_webvtt_is_as_players_know_it() -> None:
    fine = "Yes, that is fine. Thank you for seeing me today."
    turns = [
        turn(0, "Is it < 3 & > 1 -->\n\nno?", start_ms=1000, end_ms=9666),
        turn(1, fine, start_ms=3_600_000, end_ms=3_602_779, speaker=Speaker.PATIENT),
    ]
    assert webvtt(turns, ENGLISH) == (
        "WEBVTT\n\n"
        "00:00:01.000 --> 00:00:09.666\n<v Doctor>Is it &lt; 3 &amp; &gt; 1 --&gt; no?</v>\n\n"
        "01:00:00.000 --> 01:00:02.779\n<v Patient>Yes, that is fine. Thank you for seeing me\ntoday.</v>\n\n"
    )


def test_srt_is_as_players_know_it() -> None:
    worse = "Me duele la cabeza desde hace dos semanas y por la mañana es peor, mucho peor que antes."
    turns = [
        turn(0, "{\\an8}<b>Hola</b> -->\n\n2", start_ms=1000, end_ms=9666),
        turn(1, worse, speaker=Speaker.PATIENT),
    ]
    assert srt(turns, SPANISH) == (
        "1\n00:00:01,000 --> 00:00:09,666\nMédica: (/an8)\u2039b\u203aHola\u2039/b\u203a --\u203a 2\n\n"
        "2\n00:00:06,000 --> 00:00:10,127\nPaciente: Me duele la cabeza desde hace\n"
        "dos semanas y por la mañana es peor, mucho\n\n"
        "3\n00:00:10,127 --> 00:00:11,000\nPaciente: peor que antes.\n\n"
    )


def test_nothing_said_is_an_empty_file() -> None:
    assert webvtt([], ENGLISH) == "WEBVTT\n\n"
    assert srt([], ENGLISH) == ""
    assert webvtt([turn(0, "\u202e \x00")], ENGLISH) == "WEBVTT\n\n"


@pytest.mark.parametrize("labels", [{}, {Speaker.DOCTOR: ""}, {Speaker.DOCTOR: "\n"}])
def test_speaker_without_a_label_has_no_voice(labels: dict[Speaker, str]) -> None:
    assert webvtt([turn(0, "Hi", start_ms=0, end_ms=1)], labels).endswith("00:00:00.001\nHi\n\n")
    assert srt([turn(0, "Hi", start_ms=0, end_ms=1)], labels).endswith("00:00:00,001\nHi\n\n")


def test_marks_that_turn_text_around_are_gone_and_letters_of_other_scripts_stay() -> None:
    shown = webvtt([turn(0, "\u202eشقيقة\u2066 صداع\u2069 ok")], ENGLISH)
    assert "شقيقة صداع ok" in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f]", shown)


def test_label_that_ends_in_hyphens_makes_no_arrow() -> None:
    written = webvtt([turn(0, "yes")], {Speaker.DOCTOR: "Ann --"})
    assert written.count("-->") == 1
    assert [cue.voice for cue in _read_webvtt(written)] == ["Ann --"]
