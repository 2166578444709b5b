"""Tests of the turns on the video's timeline and of the steps of a transcription. No turn may be lost, and no sound
may be transcribed twice.
"""

import unicodedata
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import AppError, UpstreamFailed
from app.integrations.speech.answers import Figures, SpeechAnswer, SpeechSegment
from app.media.sound_plans import Span
from app.transcripts.corrections import Rewording, apply_corrections, make_attribution
from app.transcripts.model import MAX_TURN_CHARACTERS, Speaker, Transcript, Turn
from app.transcripts.transcript_format import (
    format_chunk,
    format_transcript,
    parse_chunk,
    parse_transcript,
    parse_turn,
    read_normalized_words,
    sort_by_start,
)
from app.transcripts.transcription import assembly
from app.transcripts.transcription.assembly import (
    MAX_LABELS,
    UNKNOWN_VOICE,
    TranscribedChunk,
    Voice,
    assemble_transcript,
    replace_retried_turns,
)
from tests.unit.transcripts import any_text, transcript

times = st.integers(-5_000, 50_000)
segments = st.builds(SpeechSegment, times, times, any_text, st.none() | st.sampled_from(["A", "B", " "]))
spans = st.builds(
    lambda channel, start, length: Span(channel, start, start + length),
    st.sampled_from([None, 0, 1]),
    st.integers(0, 40_000),
    st.integers(1, 20_000),
)
DOCTOR, PATIENT = Voice(0, Speaker.DOCTOR, UUID(int=1)), Voice(1, Speaker.PATIENT, UUID(int=2))
INTERPRETER = Voice(2, Speaker.INTERPRETER, UUID(int=3))
COMPANION, OTHER_COMPANION = (Voice(n, Speaker.COMPANION, UUID(int=n + 1)) for n in (3, 4))
VOICES = {None: UNKNOWN_VOICE, 0: DOCTOR, 1: PATIENT, 2: INTERPRETER, 3: COMPANION, 4: OTHER_COMPANION}
chunks = st.builds(
    TranscribedChunk,
    spans,
    st.builds(SpeechAnswer, st.lists(segments, max_size=4).map(tuple), st.sampled_from([None, "en", "es"])),
    st.sampled_from(list(VOICES.values())),
)


def _chunk(
    label: int | None,
    start_ms: int,
    end_ms: int,
    *said: SpeechSegment,
    language: str | None = None,
    late_ms: int = 0,
) -> TranscribedChunk:
    return TranscribedChunk(
        Span(None, start_ms, end_ms), SpeechAnswer(said, language), VOICES[label], late_ms
    )


def test_turn_takes_its_time_from_the_span_and_its_speaker_from_the_voice() -> None:
    assembled = assemble_transcript([
        _chunk(1, 4_000, 6_000, SpeechSegment(0, 2_000, " I have\na headache. ")),
        _chunk(0, 1_000, 3_000, SpeechSegment(500, 1_500, "What brings you in?")),
    ])  # fmt: skip
    assert [
        (turn.number, turn.start_ms, turn.end_ms, turn.speaker, turn.label, turn.text)
        for turn in assembled.turns
    ] == [
        (0, 1_500, 2_500, Speaker.DOCTOR, 0, "What brings you in?"),
        (1, 4_000, 6_000, Speaker.PATIENT, 1, "I have a headache."),
    ]


def test_simultaneous_speech_is_two_turns_doctor_first() -> None:
    assembled = assemble_transcript([
        _chunk(1, 0, 2_000, SpeechSegment(0, 2_000, "Sorry")), _chunk(0, 0, 3_000, SpeechSegment(0, 3_000, "Please"))
    ])  # fmt: skip
    assert [turn.speaker for turn in assembled.turns] == [Speaker.DOCTOR, Speaker.PATIENT]
    assert assembled.turns[0].end_ms > assembled.turns[1].start_ms


def test_voices_of_different_chunks_stay_distinct() -> None:
    said = (
        SpeechSegment(0, 1, "one", "A"),
        SpeechSegment(2, 3, "two", "B"),
        SpeechSegment(4, 5, "three", "A"),
    )
    assembled = assemble_transcript([_chunk(None, 0, 10, *said), _chunk(None, 20, 30, *said)])
    assert [turn.label for turn in assembled.turns] == [2, 3, 2, 4, 5, 4]
    assert {turn.speaker for turn in assembled.turns} == {Speaker.UNKNOWN}


def test_voice_is_unknown_if_the_service_reports_none_or_too_many() -> None:
    many = [SpeechSegment(n, n + 1, "word", f"voice {n}") for n in range(MAX_LABELS + 5)]
    labels = [turn.label for turn in assemble_transcript([_chunk(None, 0, 10_000, *many)]).turns]
    assert max(label for label in labels if label is not None) == MAX_LABELS - 1
    assert labels[-1] is None
    assert assemble_transcript([_chunk(None, 0, 9, SpeechSegment(0, 9, "word"))]).turns[0].label is None


@given(st.lists(chunks, max_size=6))
def test_any_answer_stays_within_its_span_and_in_order(transcribed: list[TranscribedChunk]) -> None:
    made = assemble_transcript(transcribed)
    assert [turn.number for turn in made.turns] == list(range(len(made.turns)))
    starts = [turn.start_ms for turn in made.turns]
    assert starts == sorted(starts)
    for turn in made.turns:
        assert turn.text
        assert "\n" not in turn.text
        assert any(
            chunk.span.start_ms <= turn.start_ms <= turn.end_ms <= chunk.span.end_ms for chunk in transcribed
        )


@given(st.lists(chunks, max_size=6))
def test_every_letter_of_an_answer_is_kept(transcribed: list[TranscribedChunk]) -> None:
    def letters(text: str) -> int:
        parted = unicodedata.normalize("NFD", text)
        return sum(character.isascii() and character.isalnum() for character in parted)

    said = sum(letters(segment.text) for chunk in transcribed for segment in chunk.answer.segments)
    assert sum(letters(turn.text) for turn in assemble_transcript(transcribed).turns) == said


@pytest.mark.parametrize("count", ["MAX_TURNS", "MAX_CHARACTERS"])
def test_text_longer_than_anybody_can_speak_is_refused(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, count, 3)
    said = [SpeechSegment(0, 1, "a")] * 3
    assert len(assemble_transcript([_chunk(0, 0, 9, *said)]).turns) == 3
    with pytest.raises(UpstreamFailed) as refused:
        assemble_transcript([_chunk(0, 0, 9, *said, SpeechSegment(0, 1, "a"))])
    assert refused.value.reason == "speech_nonsense"


def test_endless_turn_is_refused() -> None:
    with pytest.raises(UpstreamFailed):
        assemble_transcript([_chunk(0, 0, 9, SpeechSegment(0, 1, "a" * (MAX_TURN_CHARACTERS + 1)))])


def test_language_is_the_most_frequent_one_of_chunks_with_text() -> None:
    said = SpeechSegment(0, 1, "hola")
    languages = [("es", (said,)), (None, (said,)), ("en", ()), ("en", ()), ("es", (said,)), ("en", (said,))]
    transcribed = [_chunk(0, 0, 9, *words, language=language) for language, words in languages]
    assert assemble_transcript(transcribed).language == "es"
    assert assemble_transcript([_chunk(0, 0, 9, said)]).language is None


def test_text_is_in_no_repr() -> None:
    made = transcript("headache")
    segment = _chunk(0, 0, 9, SpeechSegment(0, 1, "headache", "headache"))
    assert "headache" not in repr(made) + repr(made.turns[0]) + repr(segment)


def test_unknown_turn_is_not_found() -> None:
    for number in (-1, 2):
        with pytest.raises(AppError) as refused:
            transcript("a", "b").turn(number)
        assert refused.value.reason == "turn_unknown"


LOST = SpeechSegment(0, 900, "", is_unintelligible=True)


def test_unintelligible_segment_is_a_turn_without_text_in_its_voice() -> None:
    assembled = assemble_transcript(
        [_chunk(1, 2_000, 2_900, LOST), _chunk(0, 0, 900, SpeechSegment(0, 900, "Hello."))]
    )
    assert assembled.turns[1] == Turn(
        1,
        2_000,
        2_900,
        Speaker.PATIENT,
        "",
        1,
        is_unintelligible=True,
        participant_id=PATIENT.participant_id,
    )
    assert parse_transcript(format_transcript(assembled)) == assembled
    assert read_normalized_words(format_transcript(assembled)).count(b"\n") == 2


def _retried(*said: SpeechSegment, reworded: tuple[int, ...] = ()) -> Transcript:
    """Return a transcript of three turns. The second turn was unintelligible, and was transcribed again with the
    given result. `reworded` contains the numbers of the turns that a doctor has corrected.
    """
    before = assemble_transcript([
        _chunk(0, 0, 900, SpeechSegment(0, 900, "one")),
        _chunk(1, 1_000, 9_900, LOST),
        _chunk(0, 10_000, 10_900, SpeechSegment(0, 900, "two")),
    ])  # fmt: skip
    return replace_retried_turns(before, {1: _chunk(1, 1_000, 9_900, *said)}, reworded)


def test_retried_chunk_of_several_turns_renumbers_no_other_turn() -> None:
    said = (SpeechSegment(0, 1_000, "a"), SpeechSegment(2_000, 3_000, "b"), SpeechSegment(4_000, 5_000, "c"))
    now = _retried(*said)
    assert [(turn.number, turn.text) for turn in now.turns] == list(enumerate(["one", "a", "two", "b", "c"]))
    assert [turn.text for turn in now.in_order] == ["one", "a", "b", "c", "two"]
    assert {turn.speaker for turn in now.turns if turn.text in "abc"} == {Speaker.PATIENT}
    assert parse_transcript(format_transcript(now)) == now
    assert sort_by_start(format_transcript(now), [0, 1, 2, 3, 4]) == [0, 1, 3, 4, 2]


def test_retried_chunk_without_speech_leaves_an_empty_turn_that_is_not_shown() -> None:
    now = _retried()
    assert [turn.number for turn in now.turns] == [0, 1, 2]
    assert [turn.text for turn in now.in_order] == ["one", "two"]
    assert parse_transcript(format_transcript(now)) == now


def test_correction_of_a_retried_turn_replaces_the_text_of_its_chunk() -> None:
    now = _retried(SpeechSegment(0, 1_000, "a"), SpeechSegment(2_000, 3_000, "b"), reworded=(1,))
    assert [turn.text for turn in now.turns] == ["one", "a b", "two"]
    shown = apply_corrections(now, [Rewording(1, 1, "forty milligrams")])
    assert [turn.text for turn in shown.in_order] == ["one", "forty milligrams", "two"]


def test_correction_of_an_unintelligible_turn_gives_it_text() -> None:
    assembled = assemble_transcript([_chunk(1, 0, 900, LOST)])
    turn = apply_corrections(assembled, [Rewording(0, 1, "no")]).turns[0]
    assert (turn.text, turn.is_unintelligible) == ("no", False)


def test_uncertain_segment_is_an_uncertain_turn_until_a_doctor_corrects_it() -> None:
    figures = Figures(-1.2, 0.1, 1.5)
    said = SpeechSegment(0, 900, "Thank you.", figures=figures, is_uncertain=True)
    chunk = _chunk(1, 0, 900, said)
    assert parse_chunk(format_chunk(chunk)) == chunk
    assembled = assemble_transcript([chunk])
    assert assembled.turns[0] == Turn(
        0,
        0,
        900,
        Speaker.PATIENT,
        "Thank you.",
        1,
        is_uncertain=True,
        figures=figures,
        participant_id=PATIENT.participant_id,
    )
    stored = format_transcript(assembled)
    assert parse_transcript(stored) == assembled
    assert parse_turn(stored, 0).is_uncertain
    rewording = Rewording(0, 1, "Forty.")
    assert not apply_corrections(assembled, [rewording]).turns[0].is_uncertain
    assert not parse_turn(stored, 0, [rewording]).is_uncertain


@pytest.mark.parametrize(("logprob", "confidence"), [(0.0, 1.0), (-0.6931, 0.5), (0.2, 1.0), (-9999.0, 0.0)])
def test_confidence_is_the_mean_probability_of_the_tokens(logprob: float, confidence: float) -> None:
    said = transcript("Forty.").turns[0]
    assert replace(said, figures=Figures(logprob)).confidence == pytest.approx(confidence, abs=1e-4)


def test_turn_without_a_figure_or_without_words_of_the_service_has_no_confidence() -> None:
    said = replace(transcript("Forty.").turns[0], figures=Figures(-0.1))
    assert transcript("Forty.").turns[0].confidence is None
    assert replace(said, text="", is_unintelligible=True).confidence is None
    assert Rewording(0, 1, "Fourteen.").applied(said).confidence is None
    assert said.confidence is not None


def test_full_text_has_a_line_for_each_turn_with_words_in_order_of_start() -> None:
    said = transcript("Forty milligrams,", "", "\u2014 \u00bfde verdad?")
    last = replace(said.turns[0], start_ms=60_000, end_ms=61_000)
    shown = replace(said, turns=(last, replace(said.turns[1], is_unintelligible=True), said.turns[2]))
    assert shown.full_text == "\u2014 \u00bfde verdad?\nForty milligrams,"
    assert shown.word_count == 4
    assert (Transcript(()).full_text, Transcript(()).word_count) == ("", 0)


def test_all_sound_of_a_participant_is_one_voice_and_two_guests_of_one_role_are_two() -> None:
    def said(text: str) -> SpeechSegment:
        return SpeechSegment(0, 900, text)

    assembled = assemble_transcript([
        _chunk(1, 0, 900, said("before the cable fell out"), late_ms=1_000),
        _chunk(1, 0, 900, said("and after"), late_ms=61_000),
        _chunk(3, 0, 900, said("I am his wife"), late_ms=3_000),
        _chunk(4, 0, 900, said("and I his sister"), late_ms=5_000),
        _chunk(None, 20_000, 20_900, said("hello?")),
    ])  # fmt: skip
    assert [(turn.start_ms, turn.speaker, turn.label, turn.participant_id) for turn in assembled.turns] == [
        (1_000, Speaker.PATIENT, 1, PATIENT.participant_id),
        (3_000, Speaker.COMPANION, 3, COMPANION.participant_id),
        (5_000, Speaker.COMPANION, 4, OTHER_COMPANION.participant_id),
        (20_000, Speaker.UNKNOWN, None, None),
        (61_000, Speaker.PATIENT, 1, PATIENT.participant_id),
    ]
    assert parse_transcript(format_transcript(assembled)) == assembled
    named = make_attribution(assembled, (), 0, Speaker.REPRESENTATIVE, only_this_turn=False)
    assert named is not None
    shown = apply_corrections(assembled, [named])
    assert [(turn.speaker, turn.participant_id) for turn in shown.turns if turn.label == 1] == [
        (Speaker.REPRESENTATIVE, None)
    ] * 2
    assert parse_turn(format_transcript(assembled), 4, [named]) == shown.turns[4]


def test_voice_of_a_guest_stays_the_guests_in_a_chunk_that_is_transcribed_again() -> None:
    before = assemble_transcript(
        [_chunk(0, 0, 900, SpeechSegment(0, 900, "one")), _chunk(3, 1_000, 1_900, LOST)]
    )
    now = replace_retried_turns(before, {1: _chunk(3, 1_000, 1_900, SpeechSegment(0, 900, "two"))}, ())
    assert [(turn.label, turn.speaker) for turn in now.turns] == [(0, Speaker.DOCTOR), (3, Speaker.COMPANION)]


def test_voices_of_a_retried_chunk_get_new_labels() -> None:
    before = assemble_transcript(
        [_chunk(None, 0, 900, SpeechSegment(0, 900, "one", "A")), _chunk(None, 1_000, 1_900, LOST)]
    )
    now = replace_retried_turns(
        before, {1: _chunk(None, 1_000, 1_900, SpeechSegment(0, 900, "two", "A"))}, ()
    )
    assert [turn.label for turn in now.turns] == [2, 3]


@pytest.mark.parametrize("late_ms", [-5_000, -500])
def test_speech_from_before_the_video_began_is_placed_at_its_beginning(late_ms: int) -> None:
    (turn,) = assemble_transcript([_chunk(1, 0, 900, SpeechSegment(0, 900, "hello"), late_ms=late_ms)]).turns
    assert (turn.start_ms, turn.end_ms) == (0, max(0, 900 + late_ms))


def test_unknown_format_of_a_transcript_has_its_own_reason() -> None:
    stored = format_transcript(transcript("a"))
    for version in (1, 3):
        other = stored.replace(b'"transcript":2', b'"transcript":%d' % version)
        with pytest.raises(AppError) as refused:
            parse_transcript(other)
        assert (refused.value.reason, refused.value.detail) == (
            "transcript_format_unknown",
            {"version": version},
        )
    with pytest.raises(AppError) as refused:
        parse_chunk(format_chunk(_chunk(0, 0, 9)).replace(b'"chunk":2', b'"chunk":1'))
    assert refused.value.reason == "transcript_format_unknown"
