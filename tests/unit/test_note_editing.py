"""Tests of note drafts: composition from insights, edits of a section, flags and their resolutions, and storage."""

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import AppError, Conflict, InvalidInput, NotFound
from app.insights.drafts import NoteDraft, Section
from app.insights.model import Citation, Flag, Line
from app.insights.numbered import NumberedLine, TimedCitation
from app.notes.draft_format import format_draft, parse_draft
from app.notes.editing import (
    LineChecker,
    LineEdit,
    compose_draft,
    edit_section,
    keep_flag,
    replace_section,
)
from app.notes.model import (
    EMPTY_DRAFT,
    MAX_LINE_CHARACTERS,
    MAX_LINES,
    Draft,
    DraftLine,
    LineAuthor,
    RemovedFlag,
    Resolution,
    Writer,
)
from app.transcripts.model import Speaker, Turn

TURNS = tuple(
    Turn(number, number * 5000, number * 5000 + 4000, speaker, text)
    for number, (speaker, text) in enumerate(
        [
            (Speaker.DOCTOR, "How long have you had the headaches?"),
            (Speaker.PATIENT, "For two weeks, on the left side of my head."),
            (Speaker.DOCTOR, "Take ibuprofen, 400 mg, twice a day."),
        ]
    )
)
QUOTED = Citation(2, "Take ibuprofen, 400 mg, twice a day.")
NOTE = NoteDraft(
    subjective=(
        Line("Headaches for two weeks.", (Citation(1, "For two weeks, on the left side of my head."),)),
        Line("Headache on the right side.", (Citation(1, "on the left side of my head"),)),
    ),
    plan=(Line("Ibuprofen 600 mg twice a day.", (QUOTED,)),),
)
CHECKER = LineChecker(TURNS)


def compose(note: NoteDraft, **given: Any) -> Draft:
    """Return the draft of these lines, which are numbered from 1."""
    numbers = count(1)
    return compose_draft(
        {
            section: [
                NumberedLine(
                    next(numbers),
                    line.text,
                    tuple(TimedCitation(one.turn_number, 0, 1, one.quote) for one in line.citations),
                )
                for line in lines
            ]
            for section, lines in note.sections
        },
        **given,
    )


def flags_of(draft: Draft, number: int) -> dict[Flag, Resolution | None]:
    (line,) = (line for line in draft.lines if line.number == number)
    return {one.flag: one.resolution for one in CHECKER.check(line).flags}


def test_draft_has_the_lines_of_the_insights_with_their_flags() -> None:
    draft = compose(NOTE, generation=3, writer=Writer("resguardo", "resguardo-extract"))
    assert [(line.number, line.text) for line in draft.lines] == [
        (1, "Headaches for two weeks."),
        (2, "Headache on the right side."),
        (3, "Ibuprofen 600 mg twice a day."),
    ]
    assert {line.author for line in draft.lines} == {LineAuthor.WRITER}
    assert flags_of(draft, 2) == {Flag.SIDE: None}
    assert flags_of(draft, 3) == {Flag.NUMBER: None}
    assert CHECKER.has_open_flags(draft)


def test_dismissed_lines_are_not_in_the_draft_and_the_others_keep_their_numbers() -> None:
    draft = compose(NOTE, dismissed={2})
    assert [line.number for line in draft.lines] == [1, 3]


def test_unchanged_line_keeps_its_citations_with_or_without_its_number() -> None:
    draft = compose(NOTE)
    for edits in (
        [LineEdit("Headache on the right side.", 2), LineEdit("Headaches for two weeks.", 1)],
        [LineEdit(" Headache on  the right side."), LineEdit("Headaches for two weeks.")],
    ):
        edited = edit_section(draft, Section.S, edits, CHECKER)
        assert [line.number for line in edited.of(Section.S)] == [2, 1]
        assert [line.citations for line in edited.of(Section.S)] == [
            NOTE.subjective[1].citations,
            NOTE.subjective[0].citations,
        ]
        assert edited.removed == ()
        assert edited.of(Section.P) == draft.of(Section.P)


def test_edited_line_keeps_its_citations_and_is_checked_again() -> None:
    draft = compose(NOTE)
    right = edit_section(draft, Section.P, [LineEdit("Ibuprofen 400 mg twice a day.", 3)], CHECKER)
    (line,) = right.of(Section.P)
    assert (line.citations, line.author) == ((QUOTED,), LineAuthor.DOCTOR)
    assert flags_of(right, 3) == {Flag.NUMBER: Resolution.CHANGED}
    wrong = edit_section(right, Section.P, [LineEdit("Ibuprofen 800 mg twice a day.", 3)], CHECKER)
    assert flags_of(wrong, 3) == {Flag.NUMBER: None}
    assert not CHECKER.has_open_flags(right.with_section(Section.S, ())), (
        "a changed flag needs no other resolution"
    )


def test_new_line_has_no_citation_and_no_flag() -> None:
    edited = edit_section(EMPTY_DRAFT, Section.O, [LineEdit("BP 190/110, left arm.")], CHECKER)
    (line,) = edited.of(Section.O)
    assert (line.number, line.citations, line.author) == (1, (), LineAuthor.DOCTOR)
    assert not CHECKER.has_open_flags(edited)


def test_removed_line_leaves_its_flags_resolved_as_removed() -> None:
    edited = edit_section(compose(NOTE), Section.S, [LineEdit("Headaches for two weeks.", 1)], CHECKER)
    assert edited.removed == (RemovedFlag(Section.S, Flag.SIDE),)
    assert edited.next_number == 4


def test_kept_flag_stays_kept_until_the_line_changes() -> None:
    draft = keep_flag(compose(NOTE), 3, Flag.NUMBER, CHECKER)
    assert flags_of(draft, 3) == {Flag.NUMBER: Resolution.KEPT}
    same = edit_section(draft, Section.P, [LineEdit("Ibuprofen 600 mg twice a day.")], CHECKER)
    assert flags_of(same, 3) == {Flag.NUMBER: Resolution.KEPT}
    changed = edit_section(draft, Section.P, [LineEdit("Ibuprofen 600 mg three times.", 3)], CHECKER)
    assert flags_of(changed, 3)[Flag.NUMBER] is None
    assert keep_flag(draft, 3, Flag.NUMBER, CHECKER) == draft


def test_flag_that_the_line_does_not_have_is_not_kept() -> None:
    draft = compose(NOTE)
    with pytest.raises(Conflict) as gone:
        keep_flag(draft, 3, Flag.SIDE, CHECKER)
    with pytest.raises(NotFound) as unknown:
        keep_flag(draft, 9, Flag.SIDE, CHECKER)
    assert (gone.value.reason, unknown.value.reason) == ("note_flag_gone", "note_line_unknown")


def test_quote_that_a_correction_took_from_the_transcript_flags_its_line() -> None:
    corrected = LineChecker((*TURNS[:2], Turn(2, 10_000, 14_000, Speaker.DOCTOR, "Take nothing at all.")))
    draft = compose(NoteDraft(plan=(Line("Take ibuprofen, 400 mg, twice a day.", (QUOTED,)),)))
    assert not CHECKER.has_open_flags(draft)
    assert corrected.flags_of(draft.lines[0]) == {Flag.WEAK_SUPPORT}
    assert LineChecker(()).flags_of(draft.lines[0]) == {Flag.WEAK_SUPPORT}


def test_section_written_anew_leaves_the_other_sections_and_gets_new_numbers() -> None:
    draft = edit_section(compose(NOTE), Section.O, [LineEdit("Afebrile.")], CHECKER)
    again = replace_section(
        draft, Section.P, [Line("Take ibuprofen.", (QUOTED,))], CHECKER, writer=Writer("v", "m")
    )
    assert [again.of(section) for section in (Section.S, Section.O, Section.A)] == [
        draft.of(section) for section in (Section.S, Section.O, Section.A)
    ]
    (line,) = again.of(Section.P)
    assert (line.number, line.author, again.next_number) == (5, LineAuthor.WRITER, 6)
    assert again.removed == (RemovedFlag(Section.P, Flag.NUMBER),)


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ([LineEdit("")], "note_line_empty"),
        ([LineEdit(" \u200b ")], "note_line_empty"),
        ([LineEdit("two\nlines")], "note_line_characters"),
        ([LineEdit("\u202egm 004")], "note_line_characters"),
        ([LineEdit("\ud800")], "note_line_characters"),
        ([LineEdit("a\x00b")], "note_line_characters"),
        ([LineEdit("x" * (MAX_LINE_CHARACTERS + 1))], "note_line_too_long"),
        ([LineEdit("x")] * (MAX_LINES + 1), "note_too_many_lines"),
        ([LineEdit("x", 1), LineEdit("y", 1)], "note_line_twice"),
        ([LineEdit("x", 3)], "note_line_unknown"),
    ],
)
def test_bad_edits_are_refused(edits: list[LineEdit], reason: str) -> None:
    with pytest.raises((InvalidInput, NotFound)) as caught:
        edit_section(compose(NOTE), Section.S, edits, CHECKER)
    assert caught.value.reason == reason


def test_long_line_of_the_writer_may_be_sent_back_unchanged() -> None:
    text = "pain " * MAX_LINE_CHARACTERS
    draft = compose(NoteDraft(subjective=(Line(text, (QUOTED,)),)))
    edited = edit_section(draft, Section.S, [LineEdit(text.strip(), 1)], CHECKER)
    assert edited.of(Section.S) == draft.of(Section.S)


def test_longest_edits_are_accepted() -> None:
    edits = [LineEdit("x" * MAX_LINE_CHARACTERS)] * MAX_LINES
    assert len(edit_section(EMPTY_DRAFT, Section.A, edits, CHECKER).of(Section.A)) == MAX_LINES


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
FLAGS = st.frozensets(st.sampled_from(Flag), max_size=3)
LINES = st.builds(
    DraftLine,
    st.integers(1, 500),
    TEXTS,
    st.lists(st.builds(Citation, st.integers(0, 5000), TEXTS), max_size=3).map(tuple),
    st.sampled_from(LineAuthor),
    FLAGS,
    FLAGS,
)
DRAFTS = st.builds(
    Draft,
    st.fixed_dictionaries({section: st.lists(LINES, max_size=3).map(tuple) for section in Section}),
    st.integers(1, 500),
    st.lists(st.builds(RemovedFlag, st.sampled_from(Section), st.sampled_from(Flag)), max_size=3).map(tuple),
    st.none() | st.integers(0, 99),
    st.none() | st.builds(Writer, TEXTS, TEXTS),
)


@given(DRAFTS)
def test_stored_draft_is_read_as_it_was(draft: Draft) -> None:
    assert parse_draft(format_draft(draft)) == draft


@given(
    DRAFTS, st.lists(st.builds(LineEdit, st.text(max_size=20), st.none() | st.integers(-1, 9)), max_size=4)
)
def test_any_edit_leaves_the_other_sections_and_never_repeats_a_number(
    draft: Draft, edits: list[LineEdit]
) -> None:
    try:
        edited = edit_section(draft, Section.S, edits, CHECKER)
    except AppError:
        return
    assert [edited.of(section) for section in list(Section)[1:]] == [
        draft.of(section) for section in list(Section)[1:]
    ]
    assert len(edited.of(Section.S)) == len(edits)
    known = {text: line for line in draft.of(Section.S) if (text := line.text)}
    for line in edited.of(Section.S):
        assert not line.citations or line.text in known or line.author is LineAuthor.DOCTOR


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"[]",
        b'{"draft":true}',
        b'{"draft":1}',
        b"\xff",
        b'{"draft":1,"sections":{"S":[["x"]],"O":[],"A":[],"P":[]},"next":1,"removed":[],"generation":null,"writer":null}',
        json.dumps({"draft": 2}).encode(),
    ],
)
def test_malformed_drafts_are_refused(stored: bytes) -> None:
    with pytest.raises(Conflict) as caught:
        parse_draft(stored)
    assert caught.value.reason in {"note_draft_malformed", "note_draft_format_unknown"}


def test_repr_of_a_draft_has_no_text() -> None:
    assert "buprofen" not in repr(compose(NOTE))
    assert "secret" not in repr(LineEdit("secret"))
