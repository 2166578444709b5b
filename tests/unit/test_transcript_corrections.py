"""Tests that corrections of a transcript are append-only, ordered, and plain text. The tests also cover the form in
which transcripts and corrections are stored, before its encryption.
"""

import json
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import AppError, Conflict, InvalidInput
from app.integrations.speech.answers import SpeechAnswer, SpeechSegment
from app.media.sound_plans import Span
from app.texts.unsafe_characters import has_unsafe_characters, remove_unsafe_characters
from app.transcripts.corrections import (
    Attribution,
    Correction,
    Rewording,
    apply_corrections,
    check_text,
    make_attribution,
    make_rewording,
)
from app.transcripts.model import MAX_TURN_CHARACTERS, Speaker, Transcript, Turn
from app.transcripts.search.normalization import normalize
from app.transcripts.transcript_format import (
    ALIAS_MARK,
    CHUNK_FORMAT,
    NORMALIZATION_VERSION,
    TRANSCRIPT_FORMAT,
    format_chunk,
    format_correction,
    format_transcript,
    parse_chunk,
    parse_correction,
    parse_transcript,
    parse_turn,
    read_normalized_words,
)
from app.transcripts.transcription.assembly import TranscribedChunk, Voice
from tests.unit.transcripts import any_text, hostile_text, transcript

_HEADER = b"words %d 0\n" % NORMALIZATION_VERSION

HEARD = transcript("I take 15 mg.", "Since when?")
transcripts = st.lists(hostile_text.map(remove_unsafe_characters).filter(bool), max_size=6).map(
    lambda texts: transcript(*texts)
)


def test_corrections_apply_in_order_to_the_original_text() -> None:
    first = make_rewording(HEARD, [], 0, "I take 50 mg.")
    assert first is not None
    second = make_rewording(HEARD, [first], 0, "I take  50 mg daily.")
    assert second is not None
    assert [first.version, second.version] == [1, 2]
    assert apply_corrections(HEARD, [first]).turns[0].text == "I take 50 mg."
    now = apply_corrections(HEARD, [first, second])
    assert [turn.text for turn in now.turns] == ["I take 50 mg daily.", "Since when?"]
    assert HEARD.turns[0].text == "I take 15 mg."
    assert [turn.start_ms for turn in now.turns] == [turn.start_ms for turn in HEARD.turns]


@pytest.mark.parametrize("versions", [[2], [1, 1], [1, 3]])
def test_correction_out_of_order_is_refused(versions: list[int]) -> None:
    with pytest.raises(Conflict) as refused:
        apply_corrections(HEARD, [Rewording(0, version, "x") for version in versions])
    assert refused.value.reason == "correction_order"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "correction_empty"),
        (" \u200b\u00ad ", "correction_empty"),
        ("a\nb", "correction_characters"),
        ("a\x00b", "correction_characters"),
        ("a\u202eb", "correction_characters"),
        ("a\u2028b", "correction_characters"),
        ("a\ud83d", "correction_characters"),
        ("x" * (MAX_TURN_CHARACTERS + 1), "correction_too_long"),
    ],
)
def test_invalid_correction_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make_rewording(HEARD, [], 0, text)
    assert refused.value.reason == reason


def test_correction_is_normalized_and_has_a_maximum_length() -> None:
    assert check_text("man\u0303ana") == "mañana"
    assert check_text("x" * MAX_TURN_CHARACTERS) == "x" * MAX_TURN_CHARACTERS
    with pytest.raises(InvalidInput, match="correction_too_long"):
        check_text("\U0001d160" * (MAX_TURN_CHARACTERS // 2))


@pytest.mark.parametrize("text", ["man\u0303ana", " mañana  "])
def test_correction_with_the_present_text_is_none(text: str) -> None:
    assert make_rewording(HEARD, [Rewording(1, 1, "mañana")], 1, text) is None


@pytest.mark.parametrize("expected", ["mañana", "man\u0303ana", " mañana  "])
def test_correction_of_the_expected_text_is_made(expected: str) -> None:
    made = make_rewording(HEARD, [Rewording(1, 1, "mañana")], 1, "tarde", expected_text=expected)
    assert made == Rewording(1, 2, "tarde")


@pytest.mark.parametrize("expected", ["Since when?", "Mañana", "", "x" * (MAX_TURN_CHARACTERS + 1)])
def test_correction_of_another_text_than_the_expected_is_refused(expected: str) -> None:
    with pytest.raises(Conflict) as refused:
        make_rewording(HEARD, [Rewording(1, 1, "mañana")], 1, "tarde", expected_text=expected)
    assert (refused.value.reason, refused.value.detail) == ("turn_changed", {})
    assert make_rewording(HEARD, [Rewording(1, 1, "mañana")], 1, "mañana", expected_text=expected) is None


def test_correction_of_an_unknown_turn_is_not_found() -> None:
    for number in (-1, 2):
        with pytest.raises(AppError) as refused:
            make_rewording(HEARD, [], number, "x")
        assert refused.value.reason == "turn_unknown"


def test_text_is_in_no_repr() -> None:
    assert "headache" not in repr(Rewording(0, 1, "headache"))


@given(hostile_text)
def test_removed_unsafe_characters_leave_clean_text(text: str) -> None:
    line = remove_unsafe_characters(text)
    assert not has_unsafe_characters(line)
    assert line == line.strip()
    assert "  " not in line
    assert remove_unsafe_characters(line) == line
    line.encode()


@given(transcripts)
def test_transcript_is_read_back_as_it_was(made: Transcript) -> None:
    stored = format_transcript(made)
    assert parse_transcript(stored) == made
    assert [parse_turn(stored, turn.number) for turn in made.turns] == list(made.turns)
    lines = read_normalized_words(stored).decode().split("\n")[:-1]
    assert [line.split(f"{ALIAS_MARK} ")[0] for line in lines] == [
        " " + "".join(f"{word} " for word in normalize(turn.text)) for turn in made.turns
    ]


@given(transcripts.filter(lambda made: made.turns), hostile_text.map(remove_unsafe_characters).filter(bool))
def test_corrected_bytes_are_those_of_the_corrected_transcript(made: Transcript, text: str) -> None:
    last = len(made.turns) - 1
    corrections = [Rewording(last, 1, "something else"), Rewording(last, 2, text)]
    now, stored = apply_corrections(made, corrections), format_transcript(made)
    assert read_normalized_words(stored, corrections) == read_normalized_words(format_transcript(now))
    assert [parse_turn(stored, turn.number, corrections) for turn in now.turns] == list(now.turns)


@pytest.mark.parametrize("number", [-1, 2])
def test_unknown_turn_is_not_found_in_the_stored_form(number: int) -> None:
    stored = format_transcript(HEARD)
    for ask in (
        lambda: parse_turn(stored, number),
        lambda: read_normalized_words(stored, [Rewording(number, 1, "x")]),
    ):
        with pytest.raises(AppError) as refused:
            ask()
        assert refused.value.reason == "turn_unknown"


@given(any_text, st.none() | any_text, st.integers(-9, 10**12))
def test_chunk_is_read_back_except_half_surrogate_pairs(text: str, voice: str | None, at: int) -> None:
    def encodable(words: str) -> str:
        return words.encode("utf-8", errors="replace").decode()

    spoken = Voice(3, Speaker.COMPANION, uuid4())
    said = SpeechSegment(at, at + 1, text, voice)
    chunk = TranscribedChunk(Span(None, 3, 5, 2), SpeechAnswer((said,), "es"), spoken, -90)
    whole = SpeechSegment(at, at + 1, encodable(text), None if voice is None else encodable(voice))
    assert parse_chunk(format_chunk(chunk)) == TranscribedChunk(
        chunk.span, SpeechAnswer((whole,), "es"), spoken, -90
    )


def test_correction_is_read_back_as_it_was() -> None:
    correction = Rewording(3, 2, 'mañana "<\\>')
    assert parse_correction(format_correction(correction)) == correction


_ROW = [0, 5, "DOCTOR", None, "secret", False, False, [None, None, None], None]


def _with_json(**changes: object) -> bytes:
    read = {"transcript": TRANSCRIPT_FORMAT, "language": None, "turns": [_ROW]} | changes
    return _HEADER + json.dumps(read).encode()


def _with_row(place: int, value: object) -> bytes:
    return _with_json(turns=[[*_ROW[:place], value, *_ROW[place + 1 :]]])


def test_bytes_of_the_right_shape_are_read() -> None:
    assert parse_transcript(_with_json()).turns[0].text == "secret"


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        _HEADER,
        _HEADER + b"[]",
        _HEADER + b"null",
        _HEADER + b"[" * 100_000,
        b"words %d 999999999\n{}" % NORMALIZATION_VERSION,
        b"words x\n{}",
        b"\xff",
        _with_json(turns=None),
        _with_json(turns=[_ROW[:-1]]),
        _with_json(turns=[[*_ROW, None]]),
        _with_row(0, 6),
        _with_row(0, -5),
        _with_row(0, True),
        _with_row(0, 0.5),
        _with_row(2, "NURSE"),
        _with_row(3, -1),
        _with_row(3, "A"),
        _with_row(5, True),
        _with_row(7, [None, None]),
        _with_row(8, "secret"),
        _with_row(8, 7),
        _with_json(turns=["secret"]),
        _with_json(language=3),
        _with_json(more="secret"),
        _with_json(transcript=True),
        _with_json(transcript="1"),
    ],
)
def test_bytes_of_another_shape_are_refused_without_their_text(stored: bytes) -> None:
    with pytest.raises(Conflict) as refused:
        parse_transcript(stored)
    assert refused.value.reason == "transcript_malformed"
    assert "secret" not in repr(refused.value) + repr(refused.value.detail)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize(
    "stored",
    [_with_json(transcript=1), _with_json(transcript=3), b"words %d 0\n{}" % (NORMALIZATION_VERSION + 1)],
)
def test_bytes_of_another_version_are_refused(stored: bytes) -> None:
    with pytest.raises(Conflict) as refused:
        parse_transcript(stored)
    assert refused.value.reason == "transcript_format_unknown"


_CHUNK: dict[str, object] = {
    "chunk": CHUNK_FORMAT,
    "span": [None, 0, 1, 0],
    "voice": [0, "DOCTOR", None],
    "late_ms": 0,
    "language": None,
    "segments": [],
}


def test_chunk_of_the_right_shape_is_read() -> None:
    assert parse_chunk(json.dumps(_CHUNK).encode()).answer == SpeechAnswer(())


@pytest.mark.parametrize(
    "read",
    [
        _CHUNK | {"span": [None, 2, 0, 0]},
        _CHUNK | {"span": [None, 0, True, 0]},
        _CHUNK | {"span": [None, 0, 1]},
        _CHUNK | {"span": [None, 0, 1, -1]},
        _CHUNK | {"voice": [0, "NURSE", None]},
        _CHUNK | {"voice": [-1, "DOCTOR", None]},
        _CHUNK | {"voice": [0, "DOCTOR", "secret"]},
        _CHUNK | {"late_ms": 0.5},
        _CHUNK | {"segments": [[0, 1, "x"]]},
        _CHUNK | {"more": "secret"},
        {name: _CHUNK[name] for name in _CHUNK if name != "segments"},
        {"transcript": 2} | {name: _CHUNK[name] for name in _CHUNK if name != "chunk"},
    ],
)
def test_chunk_of_another_shape_is_refused(read: dict[str, object]) -> None:
    with pytest.raises(Conflict) as refused:
        parse_chunk(json.dumps(read).encode())
    assert refused.value.reason == "transcript_malformed"


@pytest.mark.parametrize(
    "of", [[0, 0, "x"], [-1, 1, "x"], [0, 1, ""], [0, 1], [True, 1, "x"], [0, 1, "x", 2], None]
)
def test_correction_of_another_shape_is_refused(of: object) -> None:
    with pytest.raises(Conflict) as refused:
        parse_correction(json.dumps({"correction": 1, "of": of}).encode())
    assert refused.value.reason == "transcript_malformed"


def test_altered_turn_is_refused() -> None:
    stored = format_transcript(Transcript((Turn(0, 0, 1, HEARD.turns[0].speaker, "secret"),)))
    with pytest.raises(Conflict):
        parse_turn(stored.replace(b'"DOCTOR"', b'"NURSE"'), 0)


def test_attribution_names_the_speaker_of_all_turns_of_a_voice() -> None:
    original = transcript("a", "b", "c")
    voice = original.turns[0].label
    made = make_attribution(original, [], 0, Speaker.INTERPRETER, only_this_turn=False)
    assert made is not None
    assert made == Attribution(0, voice, Speaker.INTERPRETER)
    for turn, before in zip(apply_corrections(original, [made]).turns, original.turns, strict=True):
        assert turn.speaker is (Speaker.INTERPRETER if before.label == voice else before.speaker)
        assert turn.text == before.text
    assert make_attribution(original, [made], 0, Speaker.INTERPRETER, only_this_turn=False) is None
    assert parse_correction(format_correction(made)) == made


def test_attribution_of_a_turn_without_a_label_applies_to_that_turn_alone() -> None:
    turns = tuple(Turn(n, n, n + 1, Speaker.UNKNOWN, "a") for n in range(3))
    original = Transcript(turns)
    made = make_attribution(original, [], 1, Speaker.DOCTOR, only_this_turn=False)
    assert made is not None
    now = [turn.speaker for turn in apply_corrections(original, [made]).turns]
    assert now == [Speaker.UNKNOWN, Speaker.DOCTOR, Speaker.UNKNOWN]
    assert parse_correction(format_correction(made)) == made


def test_rewording_and_attribution_are_independent() -> None:
    original = transcript("a", "b")
    stored = format_transcript(original)
    made: list[Correction] = [
        Rewording(0, 1, "x"),
        Attribution(0, original.turns[0].label, Speaker.STUDENT),
        Rewording(0, 2, "y"),
    ]
    turn = apply_corrections(original, made).turns[0]
    assert (turn.text, turn.speaker) == ("y", Speaker.STUDENT)
    assert parse_turn(stored, 0, made) == turn
    assert read_normalized_words(stored, made) == read_normalized_words(
        format_transcript(apply_corrections(original, made))
    )


@pytest.mark.parametrize(
    "of",
    [
        [0, 1, {"speaker": "NOBODY"}],
        [0, -1, {"speaker": "DOCTOR"}],
        [0, True, {"speaker": "DOCTOR"}],
        [0, 1, {}],
    ],
)
def test_attribution_of_another_shape_is_refused(of: list[object]) -> None:
    with pytest.raises(Conflict) as refused:
        parse_correction(json.dumps({"correction": 1, "of": of}).encode())
    assert refused.value.reason == "transcript_malformed"
