"""Corrections are append-only, ordered, plain text. The tests also cover the bytes that are encrypted."""

import json
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import AppError, Conflict, InvalidInput
from app.integrations.speech.answers import Heard, HeardSegment
from app.media.sound import Span
from app.texts.unsafe_characters import has_unsafe_characters, remove_unsafe_characters
from app.transcripts.corrections import (
    Attribution,
    Correction,
    Rewording,
    attributed,
    checked,
    corrected,
    reworded,
)
from app.transcripts.model import MAX_TURN_CHARACTERS, Speaker, Transcript, Turn
from app.transcripts.search.normalization import fold
from app.transcripts.transcript_format import (
    ALIAS_MARK,
    PIECE_FORMAT,
    TRANSCRIPT_FORMAT,
    WORDS_FORMAT,
    correction_bytes,
    correction_of,
    piece_bytes,
    piece_of,
    transcript_bytes,
    transcript_of,
    turn_of,
    words_of,
)
from app.transcripts.transcription.assembly import Piece, Voice
from tests.unit.transcripts import any_text, hostile_text, transcript

_HEADER = b"words %d 0\n" % WORDS_FORMAT

HEARD = transcript("I take 15 mg.", "Since when?")
transcripts = st.lists(hostile_text.map(remove_unsafe_characters).filter(bool), max_size=6).map(
    lambda texts: transcript(*texts)
)


def test_corrections_apply_in_order_over_what_was_heard() -> None:
    first = reworded(HEARD, [], 0, "I take 50 mg.")
    assert first is not None
    second = reworded(HEARD, [first], 0, "I take  50 mg daily.")
    assert second is not None
    assert [first.version, second.version] == [1, 2]
    assert corrected(HEARD, [first]).turns[0].text == "I take 50 mg."
    now = corrected(HEARD, [first, second])
    assert [turn.text for turn in now.turns] == ["I take 50 mg daily.", "Since when?"]
    assert HEARD.turns[0].text == "I take 15 mg."
    assert [turn.start_ms for turn in now.turns] == [turn.start_ms for turn in HEARD.turns]


@pytest.mark.parametrize("versions", [[2], [1, 1], [1, 3]])
def test_correction_out_of_its_place_is_refused(versions: list[int]) -> None:
    with pytest.raises(Conflict) as refused:
        corrected(HEARD, [Rewording(0, version, "x") for version in versions])
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
def test_correction_that_cannot_stand_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        reworded(HEARD, [], 0, text)
    assert refused.value.reason == reason


def test_correction_is_composed_and_as_long_as_a_turn_may_be() -> None:
    assert checked("man\u0303ana") == "mañana"
    assert checked("x" * MAX_TURN_CHARACTERS) == "x" * MAX_TURN_CHARACTERS
    with pytest.raises(InvalidInput, match="correction_too_long"):
        checked("\U0001d160" * (MAX_TURN_CHARACTERS // 2))


@pytest.mark.parametrize("text", ["man\u0303ana", " mañana  "])
def test_correction_that_says_what_is_there_is_none(text: str) -> None:
    assert reworded(HEARD, [Rewording(1, 1, "mañana")], 1, text) is None


def test_correction_of_no_turn_is_not_found() -> None:
    for number in (-1, 2):
        with pytest.raises(AppError) as refused:
            reworded(HEARD, [], number, "x")
        assert refused.value.reason == "turn_unknown"


def test_words_are_in_no_repr() -> None:
    assert "headache" not in repr(Rewording(0, 1, "headache"))


@given(hostile_text)
def test_plain_text_steers_nothing_and_stays_as_it_is(text: str) -> None:
    line = remove_unsafe_characters(text)
    assert not has_unsafe_characters(line)
    assert line == line.strip()
    assert "  " not in line
    assert remove_unsafe_characters(line) == line
    line.encode()


@given(transcripts)
def test_transcript_is_read_back_as_it_was(made: Transcript) -> None:
    stored = transcript_bytes(made)
    assert transcript_of(stored) == made
    assert [turn_of(stored, turn.number) for turn in made.turns] == list(made.turns)
    lines = words_of(stored).decode().split("\n")[:-1]
    assert [line.split(f"{ALIAS_MARK} ")[0] for line in lines] == [
        " " + "".join(f"{word} " for word in fold(turn.text)) for turn in made.turns
    ]


@given(transcripts.filter(lambda made: made.turns), hostile_text.map(remove_unsafe_characters).filter(bool))
def test_corrected_bytes_are_those_of_the_corrected_transcript(made: Transcript, text: str) -> None:
    last = len(made.turns) - 1
    corrections = [Rewording(last, 1, "something else"), Rewording(last, 2, text)]
    now, stored = corrected(made, corrections), transcript_bytes(made)
    assert words_of(stored, corrections) == words_of(transcript_bytes(now))
    assert [turn_of(stored, turn.number, corrections) for turn in now.turns] == list(now.turns)


@pytest.mark.parametrize("number", [-1, 2])
def test_what_is_of_no_turn_is_not_found_in_the_bytes(number: int) -> None:
    stored = transcript_bytes(HEARD)
    for ask in (lambda: turn_of(stored, number), lambda: words_of(stored, [Rewording(number, 1, "x")])):
        with pytest.raises(AppError) as refused:
            ask()
        assert refused.value.reason == "turn_unknown"


@given(any_text, st.none() | any_text, st.integers(-9, 10**12))
def test_piece_is_read_back_as_it_was_but_for_halves_of_pairs(text: str, voice: str | None, at: int) -> None:
    def encodable(words: str) -> str:
        return words.encode("utf-8", errors="replace").decode()

    spoken = Voice(3, Speaker.COMPANION, uuid4())
    said = HeardSegment(at, at + 1, text, voice)
    piece = Piece(Span(None, 3, 5, 2), Heard((said,), "es"), spoken, -90)
    whole = HeardSegment(at, at + 1, encodable(text), None if voice is None else encodable(voice))
    assert piece_of(piece_bytes(piece)) == Piece(piece.span, Heard((whole,), "es"), spoken, -90)


def test_correction_is_read_back_as_it_was() -> None:
    correction = Rewording(3, 2, 'mañana "<\\>')
    assert correction_of(correction_bytes(correction)) == correction


_ROW = [0, 5, "DOCTOR", None, "secret", False, False, [None, None, None], None]


def _with_json(**changes: object) -> bytes:
    read = {"transcript": TRANSCRIPT_FORMAT, "language": None, "turns": [_ROW]} | changes
    return _HEADER + json.dumps(read).encode()


def _with_row(place: int, value: object) -> bytes:
    return _with_json(turns=[[*_ROW[:place], value, *_ROW[place + 1 :]]])


def test_bytes_of_the_right_shape_are_read() -> None:
    assert transcript_of(_with_json()).turns[0].text == "secret"


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        _HEADER,
        _HEADER + b"[]",
        _HEADER + b"null",
        _HEADER + b"[" * 100_000,
        b"words %d 999999999\n{}" % WORDS_FORMAT,
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
def test_bytes_of_another_shape_are_refused_without_a_word_of_them(stored: bytes) -> None:
    with pytest.raises(Conflict) as refused:
        transcript_of(stored)
    assert refused.value.reason == "transcript_malformed"
    assert "secret" not in repr(refused.value) + repr(refused.value.detail)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize(
    "stored", [_with_json(transcript=1), _with_json(transcript=3), b"words %d 0\n{}" % (WORDS_FORMAT + 1)]
)
def test_bytes_of_another_version_are_refused(stored: bytes) -> None:
    with pytest.raises(Conflict) as refused:
        transcript_of(stored)
    assert refused.value.reason == "transcript_format_unknown"


_PIECE: dict[str, object] = {
    "piece": PIECE_FORMAT,
    "span": [None, 0, 1, 0],
    "voice": [0, "DOCTOR", None],
    "late_ms": 0,
    "language": None,
    "segments": [],
}


def test_piece_of_the_right_shape_is_read() -> None:
    assert piece_of(json.dumps(_PIECE).encode()).heard == Heard(())


@pytest.mark.parametrize(
    "read",
    [
        _PIECE | {"span": [None, 2, 0, 0]},
        _PIECE | {"span": [None, 0, True, 0]},
        _PIECE | {"span": [None, 0, 1]},
        _PIECE | {"span": [None, 0, 1, -1]},
        _PIECE | {"voice": [0, "NURSE", None]},
        _PIECE | {"voice": [-1, "DOCTOR", None]},
        _PIECE | {"voice": [0, "DOCTOR", "secret"]},
        _PIECE | {"late_ms": 0.5},
        _PIECE | {"segments": [[0, 1, "x"]]},
        _PIECE | {"more": "secret"},
        {name: _PIECE[name] for name in _PIECE if name != "segments"},
        {"transcript": 2} | {name: _PIECE[name] for name in _PIECE if name != "piece"},
    ],
)
def test_piece_of_another_shape_is_refused(read: dict[str, object]) -> None:
    with pytest.raises(Conflict) as refused:
        piece_of(json.dumps(read).encode())
    assert refused.value.reason == "transcript_malformed"


@pytest.mark.parametrize(
    "of", [[0, 0, "x"], [-1, 1, "x"], [0, 1, ""], [0, 1], [True, 1, "x"], [0, 1, "x", 2], None]
)
def test_correction_of_another_shape_is_refused(of: object) -> None:
    with pytest.raises(Conflict) as refused:
        correction_of(json.dumps({"correction": 1, "of": of}).encode())
    assert refused.value.reason == "transcript_malformed"


def test_turn_that_was_tampered_with_is_refused() -> None:
    stored = transcript_bytes(Transcript((Turn(0, 0, 1, HEARD.turns[0].speaker, "secret"),)))
    with pytest.raises(Conflict):
        turn_of(stored.replace(b'"DOCTOR"', b'"NURSE"'), 0)


def test_attribution_gives_a_voice_to_a_speaker_wherever_it_speaks() -> None:
    heard = transcript("a", "b", "c")
    voice = heard.turns[0].label
    made = attributed(heard, [], 0, Speaker.INTERPRETER, only_this_turn=False)
    assert made is not None
    assert made == Attribution(0, voice, Speaker.INTERPRETER)
    for turn, before in zip(corrected(heard, [made]).turns, heard.turns, strict=True):
        assert turn.speaker is (Speaker.INTERPRETER if before.label == voice else before.speaker)
        assert turn.text == before.text
    assert attributed(heard, [made], 0, Speaker.INTERPRETER, only_this_turn=False) is None
    assert correction_of(correction_bytes(made)) == made


def test_attribution_of_a_turn_without_a_voice_is_of_that_turn_alone() -> None:
    turns = tuple(Turn(n, n, n + 1, Speaker.UNKNOWN, "a") for n in range(3))
    heard = Transcript(turns)
    made = attributed(heard, [], 1, Speaker.DOCTOR, only_this_turn=False)
    assert made is not None
    now = [turn.speaker for turn in corrected(heard, [made]).turns]
    assert now == [Speaker.UNKNOWN, Speaker.DOCTOR, Speaker.UNKNOWN]
    assert correction_of(correction_bytes(made)) == made


def test_rewording_and_attribution_stand_beside_each_other() -> None:
    heard = transcript("a", "b")
    stored = transcript_bytes(heard)
    made: list[Correction] = [
        Rewording(0, 1, "x"),
        Attribution(0, heard.turns[0].label, Speaker.STUDENT),
        Rewording(0, 2, "y"),
    ]
    turn = corrected(heard, made).turns[0]
    assert (turn.text, turn.speaker) == ("y", Speaker.STUDENT)
    assert turn_of(stored, 0, made) == turn
    assert words_of(stored, made) == words_of(transcript_bytes(corrected(heard, made)))


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
        correction_of(json.dumps({"correction": 1, "of": of}).encode())
    assert refused.value.reason == "transcript_malformed"
