"""Tests of the module that checks the untrusted answers of a speech model. The module either returns the whole
answer with all values within limits, or refuses the answer with an error that contains none of its text.
"""

import json
import traceback
import unicodedata
from contextlib import suppress
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput, UpstreamFailed
from app.integrations.speech.answers import Figures, SpeechAnswer, SpeechSegment, parse_answer, strip_markers
from app.integrations.speech.flac import duration_ms
from app.settings import SpeechApi

TIMED = (SpeechApi.VERBOSE_JSON, SpeechApi.DIARIZED_JSON)
SECRET = "metformin-that-nobody-may-see"
CHUNK_MS = 10_000

texts = st.text(max_size=30)
times = st.one_of(st.floats(0, 12), st.floats(), st.integers(-1, 10**20), texts, st.none(), st.booleans())
segments = st.lists(
    st.dictionaries(st.sampled_from(["start", "end", "text", "speaker", "id"]), st.one_of(times, texts)),
    max_size=30,
)
honest = st.lists(
    st.builds(
        lambda start, length, text, speaker: {
            "start": start,
            "end": start + length,
            "text": text,
            "speaker": speaker,
        },
        st.floats(0, 11),
        st.floats(0, 29),
        texts,
        st.one_of(st.none(), texts),
    ),
    max_size=8,
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
)
answers = st.one_of(
    anything,
    st.fixed_dictionaries(
        {"text": st.one_of(texts, anything)},
        optional={"segments": st.one_of(segments, honest, anything), "language": st.one_of(texts, anything)},
    ),
)


def _parse(answer: Any, api: SpeechApi = SpeechApi.VERBOSE_JSON, length_ms: int = CHUNK_MS) -> SpeechAnswer:
    return parse_answer(json.dumps(answer).encode(), api, length_ms)


def _segment(start: float, end: float, text: str = "words", **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text, **more}


def _said(*segments: dict[str, Any]) -> dict[str, Any]:
    return {"text": "words", "segments": list(segments)}


def _require_sane_or_refused(body: bytes, api: SpeechApi) -> None:
    try:
        parsed = parse_answer(body, api, CHUNK_MS)
    except UpstreamFailed:
        return
    _require_sane(parsed)


def _require_sane(parsed: SpeechAnswer) -> None:
    starts = [one.start_ms for one in parsed.segments]
    assert starts == sorted(starts)
    for one in parsed.segments:
        assert 0 <= one.start_ms <= one.end_ms <= CHUNK_MS
        assert one.text
        assert one.text == strip_markers(one.text)
        assert one.speaker is None or 0 < len(one.speaker) <= 64


@given(body=st.binary(max_size=200), api=st.sampled_from(SpeechApi))
def test_any_bytes_are_parsed_or_refused(body: bytes, api: SpeechApi) -> None:
    _require_sane_or_refused(body, api)


@given(answer=answers, api=st.sampled_from(SpeechApi))
def test_any_json_is_parsed_or_refused(answer: Any, api: SpeechApi) -> None:
    _require_sane_or_refused(json.dumps(answer).encode(), api)


@given(text=st.text())
def test_text_is_one_line_in_nfc_without_control_characters(text: str) -> None:
    line = strip_markers(text)
    assert not [one for one in line if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp")]
    assert unicodedata.is_normalized("NFC", line)
    assert strip_markers(line) == line


def test_text_keeps_every_visible_character() -> None:
    assert (
        strip_markers("  Tome 2 tabletas\r\n cada 8 horas\u2028\u202e\x00.\ufeff")
        == "Tome 2 tabletas cada 8 horas ."
    )
    assert strip_markers("Man\u0303ana \u0001\u0301") == "Mañana \u0301"


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a non-joiner that keeps letters apart
        "\u0915\u094d\u200d\u0937",  # Devanagari, with a joiner
        "\U0001f469\u200d\u2695\ufe0f",  # The emoji of a doctor
        "\u0600\u0661\u0662",  # An Arabic number sign, which is a visible formatting character
    ],
)
@pytest.mark.parametrize("api", list(SpeechApi))
def test_characters_that_a_script_needs_are_kept(text: str, api: SpeechApi) -> None:
    parsed = _parse({"text": f"{text} a", "segments": [_segment(0, 1, f"{text} a")]}, api)
    assert parsed.segments[0].text == unicodedata.normalize("NFC", f"{text} a")


@pytest.mark.parametrize(
    "text",
    [
        "[BLANK_AUDIO]",
        " [BLANK_AUDIO] [BLANK_AUDIO]",
        "[Music]",
        "[MÚSICA]",
        "(wind blowing)",
        "(Risas)",
        "*coughs*",
        "\u266a \u266a",
        "<|nospeech|>",
        "[ Silence ]...",
        "...",
        "-",
    ],
)
@pytest.mark.parametrize("api", list(SpeechApi))
def test_marker_is_no_turn(text: str, api: SpeechApi) -> None:
    assert _parse({"text": text, "segments": [_segment(0, 1, text)]}, api) == SpeechAnswer(())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Yes. [BLANK_AUDIO]", "Yes."),
        ("<|en|> Good morning.", "Good morning."),
        ("(no)", "(no)"),
        ("[Sí.]", "[Sí.]"),
        ("(50 mg)", "(50 mg)"),
        ("Twice a day (with food).", "Twice a day (with food)."),
        ("The [second] one", "The [second] one"),
    ],
)
def test_text_beside_a_marker_is_kept(text: str, kept: str) -> None:
    assert _parse(_said(_segment(0, 1, text))).segments[0].text == kept


def test_letters_with_many_marks_are_accepted() -> None:
    said = "Z" + "\u0315\u0300" * 15
    assert _parse(_said(_segment(0, 1, said))).segments[0].text == unicodedata.normalize("NFC", said)


def test_text_without_times_is_one_segment_over_the_whole_chunk() -> None:
    answer = {"text": " Good morning. ", "languages": [{"code": "en"}], "usage": {"type": "tokens"}}
    assert _parse(answer, SpeechApi.TEXT) == SpeechAnswer(
        (SpeechSegment(0, CHUNK_MS, "Good morning."),), "en"
    )


@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
@pytest.mark.parametrize("api", list(SpeechApi))
def test_answer_without_speech_has_no_segment(api: SpeechApi, text: str) -> None:
    assert _parse({"text": text, "segments": [], "languages": []}, api) == SpeechAnswer(())
    assert _parse({"text": text, "segments": None, "languages": None}, api) == SpeechAnswer(())


def test_times_a_little_outside_are_moved_to_the_edge_of_the_chunk() -> None:
    parsed = _parse(_said(_segment(9.5, 10.6), _segment(10.9, 40), _segment(10.2, 11)))
    assert [(one.start_ms, one.end_ms) for one in parsed.segments] == [(9500, 10_000)] + [
        (10_000, 10_000)
    ] * 2


def test_segments_are_sorted_where_speakers_overlap() -> None:
    said = _said(_segment(2, 4, "b", speaker="B"), _segment(1.5, 3, "a", speaker=" A\n"))
    assert _parse(said, SpeechApi.DIARIZED_JSON).segments == (
        SpeechSegment(1500, 3000, "a", "A"),
        SpeechSegment(2000, 4000, "b", "B"),
    )


ODD: dict[str, tuple[list[dict[str, Any]], list[tuple[int, int]]]] = {
    "ends before it starts": ([_segment(2, 1), _segment(5, 6)], [(2000, 5000), (5000, 6000)]),
    "starts before the chunk": ([_segment(-0.1, 1)], [(0, 1000)]),
    "starts long before the chunk": ([_segment(-30, 1), _segment(5, 6)], [(0, 5000), (5000, 6000)]),
    "starts after the chunk": (
        [_segment(1, 2), _segment(99, 100), _segment(5, 6)],
        [(1000, 2000), (2000, 5000), (5000, 6000)],
    ),
    "ends after the chunk": ([_segment(1, 400)], [(1000, 10_000)]),
    "goes back": (
        [_segment(5, 6), _segment(2, 3), _segment(7, 8)],
        [(0, 2000), (2000, 3000), (7000, 8000)],
    ),
    "goes forth and back": (
        [_segment(1, 2), _segment(9, 9.5), _segment(3, 4), _segment(5, 6)],
        [(1000, 2000), (2000, 3000), (3000, 4000), (5000, 6000)],
    ),
    "no number": ([{**_segment(0, 1), "start": "0"}, _segment(3, 4)], [(0, 3000), (3000, 4000)]),
    "a truth value": ([_segment(True, 1), _segment(3, 4)], [(0, 3000), (3000, 4000)]),
    "nothing": ([{"text": "words"}, _segment(3, 4)], [(0, 3000), (3000, 4000)]),
    "not a number": ([_segment(float("nan"), 1), _segment(3, 4)], [(0, 3000), (3000, 4000)]),
    "without an end": ([_segment(0, float("inf")), _segment(3, 4)], [(0, 3000), (3000, 4000)]),
    "all odd": ([_segment(-50, 1), _segment(-60, 1)], [(0, 10_000), (0, 10_000)]),
}


@pytest.mark.parametrize("name", ODD)
def test_implausible_time_of_a_segment_is_repaired(name: str) -> None:
    said, times = ODD[name]
    parsed = _parse(_said(*({**one, "text": f"words {number}"} for number, one in enumerate(said))))
    assert [one.text for one in parsed.segments] == [f"words {number}" for number in range(len(said))]
    assert [(one.start_ms, one.end_ms) for one in parsed.segments] == times


def test_segment_without_text_and_speaker_without_a_name_are_ignored() -> None:
    parsed = _parse(
        _said(
            {**_segment(0, 1), "text": None}, _segment(1, 2, "a", speaker="A" * 65), _segment(2, 3, speaker=7)
        )
    )
    assert [(one.text, one.speaker) for one in parsed.segments] == [("a", None), ("words", None)]


@pytest.mark.parametrize(
    "answer",
    [
        _said({**_segment(0, 1), "text": None}),
        _said(_segment(0, 1, "x" * 701)),
        _said(*[_segment(1, 2, "x" * 30)] * 24),
        _said(*[_segment(1, 2, "")] * 31),
        _said(_segment(0, 1, " "), _segment(1, 2, "")),
        _said(_segment(0, 1, "a" + "\u0315\u0300" * 16)),
        _said(_segment(0, 1, "a" + "\u0f73" * 31)),
        _said(_segment(0, 1, "a" + "\u0315\u200b\u0300\u200b" * 16)),
        {**_said(_segment(0, 1)), "text": "x" * 701},
        {"text": "words, but no segments"},
        {"text": "words, but no segments", "segments": []},
        {"segments": []},
        [_segment(0, 1)],
        "words",
        None,
    ],
)
def test_impossible_answer_is_nonsense(answer: Any) -> None:
    with pytest.raises(UpstreamFailed) as failure:
        _parse(answer)
    assert failure.value.reason == "speech_nonsense"


@pytest.mark.parametrize(
    "answer",
    [
        b'{"text":"a\xcc\x95%b","segments":[]}' % ("\u0315\u0300".encode() * 40_000),
        b'{"text":"","segments":[%b{}]}' % (b"{}," * 1_300_000),
        b'{"text":"","segments":[%b1]}' % (b"1," * 2_000_000),
        b'{"text":"","languages":[%b{}]}' % (b"{}," * 1_300_000),
        b'{"text":"","segments":[%b{}]}' % (b'{"start":0,"end":0,"text":""},' * 130_000),
    ],
    ids=["marks", "objects", "numbers", "languages", "segments"],
)
def test_nonsense_of_any_size_costs_little_time(answer: bytes) -> None:
    """The parsing of an answer must be fast, because the same worker must also enforce withdrawn consents in time."""
    began = process_time()
    for api in (SpeechApi.TEXT, SpeechApi.VERBOSE_JSON):
        with suppress(UpstreamFailed):
            parse_answer(answer, api, 800_000)
    assert process_time() - began < 1


@pytest.mark.parametrize("characters", [700, 701])
def test_text_longer_than_anybody_can_speak_is_refused(characters: int) -> None:
    said = "".join(chr(0x4E00 + number) for number in range(characters))
    answer = {"text": said}
    if characters == 700:
        assert _parse(answer, SpeechApi.TEXT).segments[0].text == said
        return
    with pytest.raises(UpstreamFailed):
        _parse(answer, SpeechApi.TEXT)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"text": SECRET})[:-2],
        json.dumps({"text": [SECRET], "segments": SECRET}),
        json.dumps({**_said(_segment(99, 100, SECRET)), "text": SECRET * 20}),
        f"<p>{SECRET}",
    ],
)
@pytest.mark.parametrize("api", list(SpeechApi))
def test_refusal_repeats_no_word(body: str, api: SpeechApi) -> None:
    with pytest.raises(UpstreamFailed) as failure:
        parse_answer(body.encode(), api, 1000)
    assert failure.value.__context__ is None
    assert SECRET not in "".join(traceback.format_exception(failure.value))


def test_repr_repeats_no_word() -> None:
    parsed = _parse(_said(_segment(0, 1, SECRET, speaker=SECRET)), SpeechApi.DIARIZED_JSON)
    assert parsed.segments[0].text == parsed.segments[0].speaker == SECRET
    assert SECRET not in repr(parsed)


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ("english", "en"),
        ("Spanish", "es"),
        ("es", "es"),
        ("spa", "spa"),
        ("gibberish", None),
        ("", None),
        (None, None),
    ],
)
def test_language_is_a_code_or_unknown(named: str | None, code: str | None) -> None:
    assert _parse({**_said(), "text": "", "language": named}).language == code


@pytest.mark.parametrize("length", range(26))
def test_truncated_flac_header_is_refused(length: int) -> None:
    header = b"fLaC\x80\x00\x00\x22" + bytes(10) + (16_000 << 44 | 32_000).to_bytes(8, "big")
    assert duration_ms(header) == 2000
    with pytest.raises(InvalidInput):
        duration_ms(header[:length])


@given(header=st.binary(max_size=60))
def test_duration_of_any_bytes_is_returned_or_refused(header: bytes) -> None:
    for flac in (header, b"fLaC\x00\x00\x00\x22" + header):
        with suppress(InvalidInput):
            assert duration_ms(flac) >= 0


@pytest.mark.parametrize(
    "marker",
    ["[inaudible]", "[unintelligible]", "(speaking in foreign language)", "[ininteligible]", "[INAUDIBLE 00:12]",
     "(speaks Spanish)", "*mumbles*", "[FOREIGN]", "[no se entiende]", "[Speaking Quechua] (coughs)",
     "<|unintelligible|>"],
)  # fmt: skip
@pytest.mark.parametrize("api", list(SpeechApi))
def test_marker_of_unintelligible_speech_is_an_unintelligible_segment(api: SpeechApi, marker: str) -> None:
    answer = {"text": marker} | (
        {} if api is SpeechApi.TEXT else {"segments": [{"start": 1.0, "end": 2.0, "text": marker}]}
    )
    (segment,) = parse_answer(json.dumps(answer).encode(), api, 4000).segments
    assert (segment.text, segment.is_unintelligible) == ("", True)


@pytest.mark.parametrize("marker", ["[BLANK_AUDIO]", "(music)", "*coughs*", "[silence]"])
def test_marker_of_no_speech_is_no_segment(marker: str) -> None:
    assert parse_answer(json.dumps({"text": marker}).encode(), SpeechApi.TEXT, 4000).segments == ()


def test_marker_within_text_is_kept() -> None:
    assert strip_markers("Take [INAUDIBLE] milligrams.") == "Take [INAUDIBLE] milligrams."


LOOPS = [
    "no, " * 30,
    "Thank you very much. " * 8,
    "No! no? NO. " * 9,
    "nonononononononono" * 6,
    "sí que no, " * 14,
]


@pytest.mark.parametrize("loop", LOOPS)
def test_loop_longer_than_the_sound_is_nonsense(loop: str) -> None:
    with pytest.raises(UpstreamFailed, match="speech_nonsense"):
        parse_answer(json.dumps({"text": f"Well, {loop}"}).encode(), SpeechApi.TEXT, 1700)


@pytest.mark.parametrize("said", ["no " * 12, "No, no, no, no, no, no, no, no, no, no, no, no.", "yes. " * 8])
def test_word_that_somebody_repeats_quickly_is_no_loop(said: str) -> None:
    (segment,) = parse_answer(json.dumps({"text": said}).encode(), SpeechApi.TEXT, 2200).segments
    assert segment.text == said.strip()


@pytest.mark.parametrize("loop", LOOPS)
def test_looped_segment_alone_is_unintelligible(loop: str) -> None:
    segments = [
        {"start": 0.0, "end": 2.0, "text": "Good morning."},
        {"start": 2.0, "end": 2.4, "text": loop},
        {"start": 20.0, "end": 22.0, "text": "And now?"},
    ]
    answer = {"text": "", "segments": segments}
    parsed = parse_answer(json.dumps(answer).encode(), SpeechApi.VERBOSE_JSON, 30_000)
    shown = [(one.text, one.is_unintelligible) for one in parsed.segments]
    assert shown == [("Good morning.", False), ("", True), ("And now?", False)]


@pytest.mark.parametrize(
    ("logprob", "is_uncertain"),
    [(-0.3, False), (-0.95, False), (-0.951, True), (-7, True), (None, False), ("-3", False), (True, False)],
)
def test_segment_below_the_threshold_is_uncertain_and_keeps_its_figures(
    logprob: object, is_uncertain: bool
) -> None:
    figures = {"avg_logprob": logprob, "no_speech_prob": 0.7, "compression_ratio": 2}
    answer = {"text": "", "segments": [{"start": 0.0, "end": 2.0, "text": "Thank you.", **figures}]}
    (segment,) = _parse(answer, SpeechApi.VERBOSE_JSON).segments
    assert (segment.text, segment.is_uncertain) == ("Thank you.", is_uncertain)
    kept = float(logprob) if isinstance(logprob, float | int) and logprob is not True else None
    assert segment.figures == Figures(kept, 0.7, 2.0)


@pytest.mark.parametrize(("no_speech", "is_uncertain"), [(0.9, False), (0.91, True), (1, True), ("1", False)])
def test_segment_with_a_high_no_speech_probability_is_uncertain(
    no_speech: object, is_uncertain: bool
) -> None:
    figures = {"avg_logprob": -0.7, "no_speech_prob": no_speech}
    answer = {"text": "", "segments": [{"start": 0.0, "end": 2.0, "text": "You", **figures}]}
    (segment,) = _parse(answer, SpeechApi.VERBOSE_JSON).segments
    assert (segment.text, segment.is_uncertain) == ("You", is_uncertain)


def test_threshold_belongs_to_the_model() -> None:
    segment = {"start": 0.0, "end": 2.0, "text": "Thank you.", "avg_logprob": -0.5}
    answer = json.dumps({"text": "", "segments": [segment]}).encode()
    for threshold, is_uncertain in ((-0.4, True), (-100, False)):
        parsed = parse_answer(answer, SpeechApi.VERBOSE_JSON, 2000, uncertain_logprob=threshold)
        assert parsed.segments[0].is_uncertain is is_uncertain


@pytest.mark.parametrize(
    ("logprobs", "mean"),
    [([-1.0, -2.0], -1.5), ([-0.1], -0.1), ([], None), (["x"], None), ([-1.0, None], -1.0), (None, None)],
)
def test_log_probabilities_become_the_figure_of_a_text(
    logprobs: list[Any] | None, mean: float | None
) -> None:
    given = None if logprobs is None else [{"token": "a", "logprob": one} for one in logprobs]
    (segment,) = _parse({"text": "Take two.", "logprobs": given}, SpeechApi.TEXT).segments
    assert segment.figures == Figures(mean)
    assert segment.is_uncertain is (mean is not None and mean < -0.95)


@pytest.mark.parametrize("figure", ["NaN", "-Infinity", "-1e9", "-9999.0"])
def test_log_probability_that_is_no_number_or_too_low_is_uncertain(figure: str) -> None:
    segment = f'{{"text": "", "segments": [{{"start": 0, "end": 2, "text": "Take two.", "avg_logprob": {figure}}}]}}'
    text = f'{{"text": "Take two.", "logprobs": [{{"logprob": -0.1}}, {{"logprob": {figure}}}]}}'
    for answer, api in ((segment, SpeechApi.VERBOSE_JSON), (text, SpeechApi.TEXT)):
        (parsed,) = parse_answer(answer.encode(), api, 3000).segments
        assert (parsed.text, parsed.is_uncertain) == ("Take two.", True)
        assert parsed.figures.avg_logprob is not None
        assert parsed.figures.avg_logprob >= -9999


@pytest.mark.parametrize("logprobs", [["a"], {"a": 1}, "x", [[]], [{"logprob": 1e99}], 3])
def test_invalid_log_probabilities_are_left_out_and_the_text_is_kept(logprobs: object) -> None:
    (segment,) = _parse({"text": "Take two.", "logprobs": logprobs}, SpeechApi.TEXT).segments
    assert (segment.text, segment.figures) == ("Take two.", Figures())
