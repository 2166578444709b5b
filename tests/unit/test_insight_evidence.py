"""The verification of quotes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.insights.evidence import find_speaker, has_evidence, verify_lines
from app.insights.model import Citation, Line
from app.transcripts.model import Speaker
from tests.unit.dialogues import dialogue

TURNS = dialogue(
    "D: Any allergies?",
    "P: No.",
    "P: Well, um, I do n't take uh five hundred milligrams of Metformin, twice a day.",
    "D: Tómese el ibuprofeno, eh, cada ocho horas.",
    "D: And do you have any fever?",
    "P: Mm-hmm.",
    "?: It hurts on the left side.",
)


def line(*citations: tuple[int, str]) -> Line:
    return Line("A line", tuple(Citation(*each) for each in citations))


@pytest.mark.parametrize(
    "citation",
    [
        (2, "five hundred milligrams of metformin"),
        (2, "  FIVE   hundred, milligrams! of Metformin "),
        (2, "I don't take five hundred"),
        (2, "I don\u2019t take um five uh hundred"),
        (3, "el ibuprofeno cada ocho horas"),
        (6, "on the left"),
    ],
)
def test_quote_in_its_turn_is_evidence(citation: tuple[int, str]) -> None:
    assert has_evidence(line(citation), TURNS)


@pytest.mark.parametrize(
    "citation",
    [
        (2, "fifty milligrams of metformin"),
        (2, "hundred five milligrams of"),
        (2, "ive hundred milligrams of"),
        (2, "take of metformin twice"),
        (3, "five hundred milligrams of metformin"),
        (2, "metformin twice"),
        (2, ""),
        (2, "..."),
        (2, "um uh"),
        (1, "No."),
        (-1, "on the left"),
        (7, "on the left"),
        (10**9, "on the left"),
    ],
)
def test_altered_short_or_misplaced_quote_is_no_evidence(citation: tuple[int, str]) -> None:
    assert not has_evidence(line(citation), TURNS)


def test_short_answer_is_evidence_only_with_its_question() -> None:
    assert has_evidence(line((0, "any allergies?"), (1, "no")), TURNS) is False  # the question is too short
    longer = dialogue("D: Do you have any allergies?", "P: No.", "P: No.")
    assert has_evidence(line((0, "do you have any allergies"), (1, "no")), longer)
    assert has_evidence(line((1, "no"), (0, "do you have any allergies")), longer)
    assert not has_evidence(line((0, "do you have any allergies"), (2, "no")), longer)
    assert has_evidence(line((4, "do you have any fever"), (5, "mm-hmm")), TURNS)


def test_answer_of_the_same_speaker_needs_three_words() -> None:
    turns = dialogue("D: Do you have any allergies?", "D: No.")
    assert not has_evidence(line((0, "do you have any allergies"), (1, "no")), turns)


def test_line_without_citation_or_text_is_dropped_and_counted() -> None:
    kept = line((6, "hurts on the left"))
    verified = verify_lines([line(), kept, Line(" ", kept.citations), line((0, "hurts on the left"))], TURNS)
    assert verified.lines == (kept,)
    assert verified.dropped_count == 3


def test_one_altered_quote_drops_the_line() -> None:
    assert not has_evidence(line((6, "hurts on the left"), (6, "hurts on the right")), TURNS)


def test_speaker_of_a_line_is_unknown_if_turns_differ() -> None:
    assert find_speaker(line((0, "any"), (3, "el")), TURNS) is Speaker.DOCTOR
    assert find_speaker(line((0, "any"), (1, "no")), TURNS) is Speaker.UNKNOWN
    assert find_speaker(line((6, "it")), TURNS) is Speaker.UNKNOWN


def test_repr_hides_what_was_said() -> None:
    assert "left" not in repr(line((6, "hurts on the left")))


@given(st.lists(st.tuples(st.integers(), st.text()), max_size=4), st.text())
def test_any_citation_is_judged_without_an_error(citations: list[tuple[int, str]], text: str) -> None:
    given_line = Line(text, tuple(Citation(*each) for each in citations))
    verified = verify_lines([given_line], TURNS)
    assert len(verified.lines) + verified.dropped_count == 1
