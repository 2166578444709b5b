"""Tests of subtitles. Independent parsers read the written WebVTT and SRT files. The parsers must find exactly the
words of the transcript, with the right speakers.
"""

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.texts.unsafe_characters import remove_unsafe_characters
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
    """A subtitle cue in the form in which a player parses it."""

    start_ms: int
    end_ms: int
    voice: str
    lines: list[str]


def _milliseconds(hours: str, minutes: str, seconds: str, thousandths: str) -> int:
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(thousandths)


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield the blocks of a WebVTT or SRT file: the groups of lines that empty lines separate. In a subtitle file,
    each of CR, LF and CRLF ends a line.
    """
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
        if letters := _letters(remove_unsafe_characters(each.text)):
            said[labels[each.speaker]] = said.get(labels[each.speaker], "") + letters
    return said


def _one_after_another(turns: list[Turn]) -> list[Turn]:
    """Return the turns, moved so far apart in time that all cues of one turn end before the next turn begins."""
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
def test_cues_of_any_turns_are_short_and_in_order(turns: list[Turn]) -> None:
    for cues in (_read_webvtt(webvtt(turns, ENGLISH)), _read_srt(srt(turns, ENGLISH))):
        starts = [cue.start_ms for cue in cues]
        assert starts == sorted(starts)
        assert len(cues) >= sum(1 for each in turns if remove_unsafe_characters(each.text))
        for cue in cues:
            assert cue.start_ms < cue.end_ms
            assert 1 <= len(cue.lines) <= 2
            assert all(1 <= len(line) <= 42 for line in cue.lines)


@given(hostile_text, hostile_text)
def test_label_with_any_text_injects_nothing(label: str, text: str) -> None:
    labels = {Speaker.DOCTOR: label}
    for cue in _read_webvtt(webvtt([turn(0, text)], labels)):
        assert cue.voice == remove_unsafe_characters(label)
    srt_lines = [line for block in _blocks(srt([turn(0, text)], labels)) for line in block[2:]]
    assert not any(re.search(r"-->|[<>{}\\]", line) for line in srt_lines)


@given(
    st.lists(st.sampled_from(["word", "mañana", "a", "<i>", "x" * 42]), min_size=1, max_size=60),
    st.integers(100, 60_000),
)
def test_long_turn_is_divided_without_gaps_and_without_loss(words: list[str], length: int) -> None:
    turns = [turn(0, " ".join(words), start_ms=500, end_ms=500 + length)]
    cues = _read_webvtt(webvtt(turns, ENGLISH))
    assert [word for cue in cues for line in cue.lines for word in line.split(" ")] == words
    assert cues[0].start_ms == 500
    assert cues[-1].end_ms >= 500 + length
    assert [cue.end_ms for cue in cues[:-1]] == [cue.start_ms for cue in cues[1:]]


def _shown(cue: Read, voice: str) -> int:
    """Return how many characters of a cue a viewer sees, counting the line break as one."""
    return len("\n".join([f"{voice}: {cue.lines[0]}" if voice else cue.lines[0], *cue.lines[1:]]))


def _divisions_fit(words: list[str], prefix: int) -> bool:
    """Return whether the words fit into two lines of 42 characters, of which the first begins with a prefix of
    `prefix` characters.
    """
    return any(
        prefix + len(" ".join(words[:at])) <= 42 and len(" ".join(words[at:])) <= 42
        for at in range(1, len(words) + 1)
    )


def _least(words: list[str], prefix: int, cost: Callable[[list[str], bool], int]) -> int:
    """Try all ways to divide the words into cues that fit, and return the lowest total cost."""
    least = [0] * (len(words) + 1)
    for first in reversed(range(len(words))):
        least[first] = min(
            cost(words[first:after], after == len(words)) + least[after]
            for after in range(first + 1, len(words) + 1)
            if _divisions_fit(words[first:after], prefix)
        )
    return least[0]


spoken_words = st.lists(
    st.sampled_from(
        ["no", "I", "have", "headache.", "well,", "milligrams", "mañana", "Why?", "it...", "yes!", "acetaminophen", "a"]
    ),
    min_size=1,
    max_size=45,
)  # fmt: skip


@given(
    st.lists(st.tuples(spoken_words, st.integers(100, 9000), st.integers(0, 9000)), min_size=1, max_size=5)
)
def test_cues_can_be_read_if_the_time_suffices(
    rows: list[tuple[list[str], int, int]],
) -> None:
    turns, now = [], 0
    for number, (words, length, pause) in enumerate(rows):
        speaker = list(ENGLISH)[number % 2]
        turns.append(turn(number, " ".join(words), start_ms=now, end_ms=now + length, speaker=speaker))
        now += length + pause
    for has_names, cues in (
        (False, _read_webvtt(webvtt(turns, ENGLISH))),
        (True, _read_srt(srt(turns, ENGLISH))),
    ):
        for each, following in zip_longest(turns, turns[1:]):
            until = following.start_ms if following else 10**9
            of_turn = [cue for cue in cues if each.start_ms <= cue.start_ms < until]
            voice = ENGLISH[each.speaker] if has_names else ""
            prefix = len(f"{voice}: ") if voice else 0

            def reading(words: list[str], _: bool, prefix: int = prefix) -> int:
                return max(700, 50 * (prefix + len(" ".join(words))) + 1)

            assert of_turn[0].start_ms == each.start_ms
            if _least(each.text.split(), prefix, reading) <= until - each.start_ms:
                for cue in of_turn:
                    assert cue.end_ms - cue.start_ms >= 700
                    assert _shown(cue, voice) * 1000 < 20 * (cue.end_ms - cue.start_ms)
                assert of_turn[-1].end_ms <= until


@given(spoken_words)
def test_cues_have_the_cheapest_division(words: list[str]) -> None:
    def cost(cue: list[str], is_last: bool) -> int:
        return 1000 * (len(cue) <= 2) + (not is_last and cue[-1][-1] not in ".,?!")

    turns = [turn(0, " ".join(words), start_ms=0, end_ms=600_000)]
    for prefix, cues in (
        (0, _read_webvtt(webvtt(turns, ENGLISH))),
        (len("Doctor: "), _read_srt(srt(turns, ENGLISH))),
    ):
        divided = [" ".join(cue.lines).split() for cue in cues]
        assert sum(cost(cue, cue is divided[-1]) for cue in divided) == _least(words, prefix, cost)


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 60), st.integers(1, 20)),
        min_size=1,
        max_size=len(Speaker),
    )
)
def test_lengthened_cue_never_meets_a_turn_that_its_turn_did_not_meet(
    rows: list[tuple[int, int, int]],
) -> None:
    names = {speaker: speaker.value for speaker in Speaker}
    turns = [
        turn(number, "word " * words, start_ms=500 * start, end_ms=500 * (start + length), speaker=speaker)
        for number, ((start, length, words), speaker) in enumerate(zip(sorted(rows), Speaker, strict=False))
    ]
    ends: dict[str, int] = {}
    for cue in _read_webvtt(webvtt(turns, names)):
        ends[cue.voice] = cue.end_ms
    for one in turns:
        assert ends[one.speaker.value] >= one.end_ms
        assert all(
            ends[one.speaker.value] <= other.start_ms for other in turns if other.start_ms >= one.end_ms
        )


def _cue_texts(text: str) -> list[str]:
    turns = [turn(0, text, start_ms=0, end_ms=100 * len(text))]
    return [" ".join(cue.lines) for cue in _read_webvtt(webvtt(turns, {}))]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("I have slept badly since the beginning of March.", "It is always my left arm that hurts at night."),
        ("I have slept badly since the beginning of March,", "and it is always my left arm that hurts at night."),
        ("The tablets are from the pharmacy in town,", "and you go on with them as Dr. Smith told you last week."),
        ("You take it in the evening before you go to sleep:", "never more than 1.5 mg in one day for an adult."),
        ("Please come back to see me next week on Tuesday", "morning at 8: 30 with all of your tablets and the list"),
        ("I took all the tablets at 10 p.m. after food,", "and it was even worse in the middle of the night"),
        ("I took all of the tablets at 10 p.m.", "Then it was even worse in the middle of the night"),
        ("Me duele la cabeza desde hace dos semanas.", "¿Es peor por la mañana o por la noche, señora López?"),
        ("Me duele la cabeza desde hace dos semanas más", "y la Dra. García me dijo que tomara paracetamol diario"),
        ("Me duele la cabeza desde hace dos semanas", "¿y no le parece que es peor cuando está en la cama?"),
        ("He told me that I \u201cshould stop with all of it.\u201d", "Then I began to feel a lot worse than before."),
        ("I stopped (as he had told me to do last week)", "with all of the tablets for the blood pressure"),
        ("I thought that it would go away by itself...", "and then it came back in the middle of the night"),
        ("yes. it hurts. it is worse in the mornings now.", "i took four of the pills and it did not help"),
    ],
)  # fmt: skip
def test_cue_ends_at_a_natural_pause(first: str, second: str) -> None:
    assert _cue_texts(f"{first} {second}") == [first, second]


@pytest.mark.parametrize(
    "tied",
    ["Dr. Smith", "Dra. García", "1.5 mg", "500 mg", "8: 30", "1. 5", "No. 5",
      "e.g. aspirin", "approx. five", "( so", "¿ qué", "yes ...", "it !"],
)  # fmt: skip
@pytest.mark.parametrize("before", range(9, 22))
def test_cue_never_ends_inside_a_name_or_a_number(tied: str, before: int) -> None:
    text = f"{'abcd ' * before}{tied} {'efgh ' * 20}".strip()
    cues = _cue_texts(text)
    assert " ".join(cues) == text
    assert any(tied in cue for cue in cues)


@pytest.mark.parametrize(
    "text",
    [
        "我头疼已经有两个星期了，早上起来的时候特别严重。中午就好了，晚上又开始疼。医生说要吃五百毫克的药，每天三次，我已经吃了一个星期。没有什么效果，真的很难受，不知道怎么办才好，所以今天来看看。",  # noqa: RUF001 -- wide marks are what is tested
        "ผมปวดหัวมาสองสัปดาห์แล้วครับตอนเช้าจะปวดมากเป็นพิเศษแล้วก็ดีขึ้นตอนเที่ยงแต่ตอนกลางคืนก็ปวดอีกหมอบอกให้กินยาห้าร้อยมิลลิกรัม",
        "\U0001f44d\U0001f3fd" * 60,
        "e\u0328\u0301" * 90,
    ],
)
def test_text_without_spaces_is_divided_between_whole_letters(text: str) -> None:
    cues = _read_webvtt(webvtt([turn(0, text)], {}))
    lines = [line for cue in cues for line in cue.lines]
    assert "".join(lines) == remove_unsafe_characters(text)
    assert all(len(line) <= 42 for line in lines)
    for line in lines:
        assert not re.match("[\u0e30-\u0e3a\u0e45-\u0e4e\u0300-\u036f\U0001f3fb-\U0001f3ff]", line)
        assert not re.search("[\u0e40-\u0e44]$", line)
    if "\u3002" in text:
        assert all(cue.lines[-1][-1] in "\u3002\uff0c" for cue in cues)


def test_short_answer_is_shown_until_the_next_turn_at_most() -> None:
    turns = [
        turn(0, "No.", start_ms=1000, end_ms=1200),
        turn(1, "No.", start_ms=5000, end_ms=5200, speaker=Speaker.PATIENT),
        turn(2, "Why?", start_ms=5400, end_ms=5500),
        turn(3, "No.", start_ms=9000, end_ms=9900, speaker=Speaker.PATIENT),
    ]
    shown = [(cue.start_ms, cue.end_ms) for cue in _read_webvtt(webvtt(turns, ENGLISH))]
    assert shown == [(1000, 1700), (5000, 5400), (5400, 6100), (9000, 9900)]


def test_answer_within_another_turn_is_shown_long_enough_beside_it() -> None:
    turns = [
        turn(0, "I slept badly all through the week.", start_ms=0, end_ms=5000),
        turn(1, "Yes.", start_ms=2000, end_ms=2200, speaker=Speaker.PATIENT),
        turn(2, "And now?", start_ms=5000, end_ms=6000),
    ]
    shown = [(cue.start_ms, cue.end_ms) for cue in _read_webvtt(webvtt(turns, ENGLISH))]
    assert shown == [(0, 5000), (2000, 2700), (5000, 6000)]


def test_fast_speech_divides_its_time_by_the_need_of_each_cue() -> None:
    text = "I have slept badly since the beginning of March. " * 4
    turns = [turn(0, text, start_ms=0, end_ms=4000), turn(1, "Yes.", start_ms=4000, end_ms=5000)]
    cues = [cue for cue in _read_webvtt(webvtt(turns, ENGLISH)) if cue.start_ms < 4000]
    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [
        (0, 1000),
        (1000, 2000),
        (2000, 3000),
        (3000, 4000),
    ]


def test_webvtt_has_the_standard_format() -> None:
    fine = "Yes, that is fine. Thank you for seeing me today."
    turns = [
        turn(0, "Is it < 3 & > 1 -->\n\nno?", start_ms=1000, end_ms=9666),
        turn(1, fine, start_ms=3_600_000, end_ms=3_602_779, speaker=Speaker.PATIENT),
    ]
    assert webvtt(turns, ENGLISH) == (
        "WEBVTT\n\n"
        "00:00:01.000 --> 00:00:09.666\n<v Doctor>Is it &lt; 3 &amp; &gt; 1 --&gt; no?</v>\n\n"
        "01:00:00.000 --> 01:00:02.779\n<v Patient>Yes, that is fine.\nThank you for seeing me today.</v>\n\n"
    )


def test_srt_has_the_usual_format() -> None:
    worse = "Me duele la cabeza desde hace dos semanas y por la mañana es peor, mucho peor que antes."
    turns = [
        turn(0, "{\\an8}<b>Hola</b> -->\n\n2", start_ms=1000, end_ms=9666),
        turn(1, worse, speaker=Speaker.PATIENT),
    ]
    assert srt(turns, SPANISH) == (
        "1\n00:00:01,000 --> 00:00:09,666\nMédica: (/an8)\u2039b\u203aHola\u2039/b\u203a --\u203a 2\n\n"
        "2\n00:00:06,000 --> 00:00:09,801\nPaciente: Me duele la cabeza desde hace\n"
        "dos semanas y por la mañana es peor,\n\n"
        "3\n00:00:09,801 --> 00:00:11,352\nPaciente: mucho peor que antes.\n\n"
    )


def test_transcript_without_turns_is_an_empty_file() -> None:
    assert webvtt([], ENGLISH) == "WEBVTT\n\n"
    assert srt([], ENGLISH) == ""
    assert webvtt([turn(0, "\u202e \x00")], ENGLISH) == "WEBVTT\n\n"


@pytest.mark.parametrize("labels", [{}, {Speaker.DOCTOR: ""}, {Speaker.DOCTOR: "\n"}])
def test_speaker_without_a_label_has_no_voice(labels: dict[Speaker, str]) -> None:
    assert webvtt([turn(0, "Hi", start_ms=0, end_ms=900)], labels).endswith("00:00:00.900\nHi\n\n")
    assert srt([turn(0, "Hi", start_ms=0, end_ms=900)], labels).endswith("00:00:00,900\nHi\n\n")


def test_bidirectional_controls_are_removed_and_other_scripts_kept() -> None:
    shown = webvtt([turn(0, "\u202eشقيقة\u2066 صداع\u2069 ok")], ENGLISH)
    assert "شقيقة صداع ok" in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f]", shown)


def test_label_that_ends_in_hyphens_makes_no_arrow() -> None:
    written = webvtt([turn(0, "yes")], {Speaker.DOCTOR: "Ann --"})
    assert written.count("-->") == 1
    assert [cue.voice for cue in _read_webvtt(written)] == ["Ann --"]
