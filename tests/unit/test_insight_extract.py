"""The extractive writer quotes verbatim, in English and Spanish, and attributes nothing to an unknown speaker."""

import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.insights.drafts import HighlightReason, Insights, Responsible
from app.insights.evidence import verify_lines
from app.insights.extract.clauses import split_clauses
from app.insights.extract.highlights import MAX_HIGHLIGHTS, MAX_MOMENT_MS
from app.insights.extract.insights import MAX_SUMMARY_WORDS, extract_insights
from app.insights.flags.checker import flag_lines
from app.insights.model import Citation, Line
from app.transcripts.model import Speaker, Turn

D, P, U = Speaker.DOCTOR, Speaker.PATIENT, Speaker.UNKNOWN

ENGLISH = (
    (D, "Good morning. What brings you in today?"),
    (P, "Well, I have had a bad headache on the left side for three days."),
    (D, "Okay. Have you had any fever or vomiting?"),
    (P, "No."),
    (D, "Are you allergic to any medication?"),
    (P, "Yes, to penicillin. It gave me a rash."),
    (
        D,
        "All right. Let me take a look at you. Your blood pressure is 150 over 90. I do not see any swelling.",
    ),
    (D, "So I think you have a migraine. I'm going to prescribe ibuprofen 600 mg three times a day."),
    (D, "I want you to rest and to call me if it gets worse. Come back in two weeks."),
    (P, "Okay, I'll make an appointment tomorrow."),
)
SPANISH = (
    (D, "Buenos días, señora. ¿Qué la trae por aquí hoy?"),
    (P, "Pues tengo un dolor de cabeza muy fuerte desde hace tres días."),
    (D, "¿Ha tenido fiebre o vómitos?"),
    (P, "No."),
    (D, "¿Es alérgica a algún medicamento?"),
    (P, "Sí, a la penicilina."),
    (D, "Vale. Voy a explorarla. La tensión está en 150 sobre 90. No veo rigidez en el cuello."),
    (D, "Creo que se trata de una migraña. Le voy a recetar ibuprofeno de 600 miligramos cada ocho horas."),
    (D, "Quiero que descanse y que beba mucha agua. Vuelva en dos semanas si no mejora."),
)
_WORDS = (
    "no",
    "pain",
    "?",
    ".",
    ",",
    "...",
    "okay",
    "i",
    "have",
    "you",
    "fever",
    "dolor",
    "¿",
    "tengo",
    "5",
    "mg",
    "%",
    "um",
)


def turns_of(spoken: tuple[tuple[Speaker, str], ...] | list[tuple[Speaker, str]]) -> list[Turn]:
    return [
        Turn(number, number * 8_000, number * 8_000 + 7_000, speaker, text)
        for number, (speaker, text) in enumerate(spoken)
    ]


def citations_of(insights: Insights) -> Iterator[Citation]:
    for line in lines_of(insights):
        yield from line.citations
    yield from (topic.citation for topic in insights.topics)
    yield from (chapter.citation for chapter in insights.chapters)


def lines_of(insights: Insights) -> Iterator[Line]:
    yield from (*insights.note.lines, *insights.summary, *insights.key_points)
    yield from (item.line for item in insights.action_items)
    yield from (highlight.line for highlight in insights.highlights)


def texts(lines: tuple[Line, ...]) -> str:
    return "\n".join(line.text for line in lines)


def require_verbatim(insights: Insights, turns: list[Turn]) -> None:
    said = {turn.number: turn.text for turn in turns}
    assert all(each.quote and each.quote in said[each.turn_number] for each in citations_of(insights))
    for line in lines_of(insights):
        assert line.text == " ".join(each.quote for each in line.citations)
    assert verify_lines(lines_of(insights), turns).dropped_count == 0


@pytest.mark.parametrize("spoken", [ENGLISH, SPANISH, ENGLISH + SPANISH])
def test_each_line_is_a_quote_with_its_turn(spoken: tuple[tuple[Speaker, str], ...]) -> None:
    turns = turns_of(spoken)
    insights = extract_insights(turns)
    require_verbatim(insights, turns)
    assert insights.summary
    assert insights.key_points
    assert insights.topics
    assert all(lines for _, lines in insights.note.sections)


@pytest.mark.parametrize("spoken", [ENGLISH, SPANISH])
def test_no_line_has_a_flag(spoken: tuple[tuple[Speaker, str], ...]) -> None:
    turns = turns_of(spoken)
    flagged = flag_lines(lines_of(extract_insights(turns)), turns)
    assert flagged
    assert not any(each.flags for each in flagged)


@given(
    st.lists(
        st.tuples(st.sampled_from(Speaker), st.lists(st.sampled_from(_WORDS), max_size=30).map(" ".join)),
        max_size=12,
    )
)
def test_lines_are_quotes_for_any_speech(spoken: list[tuple[Speaker, str]]) -> None:
    turns = turns_of(spoken)
    insights = extract_insights(turns)
    require_verbatim(insights, turns)
    assert sum(len(line.text.split()) for line in insights.summary) <= MAX_SUMMARY_WORDS


@given(st.text(max_size=300))
def test_lines_are_quotes_for_any_text(text: str) -> None:
    turns = turns_of([(D, text), (P, text)])
    require_verbatim(extract_insights(turns), turns)


def test_the_same_turns_give_the_same_insights() -> None:
    assert extract_insights(turns_of(ENGLISH)) == extract_insights(turns_of(ENGLISH))


def test_the_summary_has_at_most_120_words() -> None:
    insights = extract_insights(turns_of(ENGLISH * 20))
    assert sum(len(line.text.split()) for line in insights.summary) <= MAX_SUMMARY_WORDS


def test_sections_follow_the_consultation_in_english() -> None:
    note = extract_insights(turns_of(ENGLISH)).note
    assert "headache on the left side for three days" in texts(note.subjective)
    assert "blood pressure is 150 over 90" in texts(note.objective)
    assert "you have a migraine" in texts(note.assessment)
    assert "prescribe ibuprofen 600 mg three times a day" in texts(note.plan)


def test_sections_follow_the_consultation_in_spanish() -> None:
    note = extract_insights(turns_of(SPANISH), "es").note
    assert "dolor de cabeza muy fuerte" in texts(note.subjective)
    assert "La tensión está en 150 sobre 90" in texts(note.objective)
    assert "se trata de una migraña" in texts(note.assessment)
    assert "ibuprofeno de 600 miligramos cada ocho horas" in texts(note.plan)


def test_a_question_is_quoted_with_its_answer_only() -> None:
    note = extract_insights(turns_of(ENGLISH)).note
    fever = next(line for line in note.lines if "fever" in line.text)
    assert fever.citations == (Citation(2, "Have you had any fever or vomiting?"), Citation(3, "No."[:-1]))
    unanswered = extract_insights(turns_of([(D, "Have you had any fever or vomiting?")])).note
    assert unanswered.lines == ()


def test_a_short_question_is_quoted_with_the_words_before_it() -> None:
    note = extract_insights(turns_of([(D, "Any cough? Any fever?"), (P, "No.")])).note
    assert texts(note.lines) == "Any cough? Any fever? No"


def test_an_answer_keeps_its_yes() -> None:
    note = extract_insights(
        turns_of([(D, "Do you have pain in your knee?"), (P, "Um, yeah, when I walk.")])
    ).note
    assert texts(note.lines) == "Do you have pain in your knee? yeah, when I walk"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "i do not think that it is the heart or that you have covid because it is just a cold",
            "i do not think that it is the heart",
        ),
        (
            "it is about one fifty i'm sorry one twenty over fifty right now in the office today",
            "i'm sorry one twenty over fifty",
        ),
    ],
)
def test_a_clause_keeps_the_words_that_change_its_meaning(text: str, kept: str) -> None:
    assert any(
        kept in clause.text and len(clause.text) > len(kept)
        for clause in split_clauses(turns_of([(D, text)]))
    )


def test_action_items_name_who_and_when() -> None:
    items = {item.line.text: item for item in extract_insights(turns_of(ENGLISH)).action_items}
    prescribed = next(item for text, item in items.items() if "ibuprofen" in text)
    returns = next(item for text, item in items.items() if "Come back" in text)
    booked = next(item for text, item in items.items() if "appointment" in text)
    assert (prescribed.who, prescribed.when) == (Responsible.DOCTOR, "three times a day")
    assert (returns.who, returns.when) == (Responsible.PATIENT, "in two weeks")
    assert (booked.who, booked.when) == (Responsible.PATIENT, "tomorrow")


def test_nothing_is_attributed_to_an_unknown_speaker() -> None:
    insights = extract_insights(turns_of([(U, text) for _, text in ENGLISH]))
    assert insights.action_items
    assert all(item.who is None for item in insights.action_items)
    assert all(each.reason is not HighlightReason.SYMPTOM for each in insights.highlights)


def test_each_turn_is_read_in_its_own_language() -> None:
    languages = {
        clause.turn_number: clause.language for clause in split_clauses(turns_of(ENGLISH + SPANISH), "en")
    }
    assert languages[1] == "en"
    assert languages[len(ENGLISH) + 1] == "es"


def test_an_allergy_is_in_the_note() -> None:
    assert "penicillin" in texts(extract_insights(turns_of(ENGLISH)).note.lines)
    assert "penicilina" in texts(extract_insights(turns_of(SPANISH)).note.lines)


@pytest.mark.parametrize("spoken", [[], [(D, "")], [(D, "  ")], [(P, "... ?")]])
def test_without_speech_the_insights_are_empty(spoken: list[tuple[Speaker, str]]) -> None:
    assert extract_insights(turns_of(spoken)) == Insights()


def test_one_turn_is_quoted() -> None:
    insights = extract_insights(turns_of([(P, "I have a headache")]))
    assert texts(insights.note.subjective) == texts(insights.summary) == "I have a headache"
    assert [chapter.start_ms for chapter in insights.chapters] == [0]


def test_highlights_are_short_and_do_not_overlap() -> None:
    highlights = extract_insights(turns_of(ENGLISH * 10)).highlights
    assert 0 < len(highlights) <= MAX_HIGHLIGHTS
    assert all(0 < each.end_ms - each.start_ms <= MAX_MOMENT_MS for each in highlights)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(highlights))


def test_chapters_begin_with_turns_in_order() -> None:
    turns = turns_of(ENGLISH * 10)
    starts = [chapter.start_ms for chapter in extract_insights(turns).chapters]
    assert len(starts) > 1
    assert starts == sorted(set(starts))
    assert starts[0] == 0


def test_5000_turns_cost_about_ten_times_500() -> None:
    def seconds(count: int) -> float:
        turns = turns_of(
            [(speaker, f"{text} {number % 97}") for number in range(count // 10) for speaker, text in ENGLISH]
        )
        began = time.process_time()
        extract_insights(turns)
        return time.process_time() - began

    seconds(100)
    assert seconds(5_000) <= 40 * max(seconds(500), 0.02)


def test_many_turns_without_times_end() -> None:
    turns = [Turn(number, 0, 0, P, "I have pain in my left knee") for number in range(5_000)]
    assert extract_insights(turns).highlights == ()
