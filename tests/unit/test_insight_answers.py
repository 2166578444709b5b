"""The validation of a model's answers."""

import json
from typing import Any

import pytest

from app.insights.drafts import ActionItem, HighlightReason, Insights, Responsible
from app.insights.model import Citation
from app.insights.writing.answers import EVIDENCE_ERROR, LANGUAGE_ERROR, ReadAnswer, read_answer
from app.insights.writing.json_texts import MAX_CHARACTERS
from app.transcripts.model import Speaker, Turn
from tests.unit.dialogues import dialogue
from tests.unit.insight_answers import answer, line, lines_of

TURNS = dialogue(
    "D: Do you have any allergies?",
    "P: No.",
    "P: I, uh, do n't take five hundred milligrams of Metformin, twice a day.",
    "D: I will prescribe ibuprofen for five days, come back in two weeks.",
    "?: It hurts on the left side when I walk.",
)
GOOD = line("Pain on the left side when walking", (4, "hurts on the left side"))
BAD = line("Pain on the right side", (4, "hurts on the right side"))


def read(value: Any, language: str | None = "en") -> ReadAnswer:
    return read_answer(value if isinstance(value, str) else json.dumps(value), TURNS, language)


def insights_of(value: Any) -> Insights:
    result = read(value)
    assert result.insights is not None, result.errors
    return result.insights


def test_a_quote_is_shown_as_the_transcript_has_it() -> None:
    [kept] = insights_of(
        answer(summary=[line("Takes no metformin", (2, "I DON'T take five-hundred milligrams"))])
    ).summary
    assert kept.citations == (Citation(2, "I, uh, do n't take five hundred milligrams"),)


def test_a_line_without_evidence_is_dropped_and_counted() -> None:
    result = read(answer(key_points=[GOOD, BAD, GOOD]))
    assert result.insights is not None
    assert [each.text for each in result.insights.key_points] == ["Pain on the left side when walking"]
    assert result.dropped_count == 1


@pytest.mark.parametrize(
    "name", ["t5", "t-1", "T4", "4", "t04", "t4 ", "t\u0664", "", "t99999999999999999999"]
)
def test_a_line_that_cites_an_unknown_turn_is_dropped(name: str) -> None:
    unknown = {"text": "Pain", "citations": [{"turn": name, "quote": "hurts on the left side"}]}
    result = read(answer(summary=[GOOD, unknown]))
    assert result.insights is not None
    assert len(result.insights.summary) == result.dropped_count == 1


@pytest.mark.parametrize(
    "lines", [[BAD], [GOOD, BAD, BAD], [line("No citation")], [line(" ", (4, "on the left"))]]
)
def test_an_answer_without_evidence_for_most_lines_is_an_error(lines: list[dict[str, Any]]) -> None:
    result = read(answer(summary=lines))
    assert (result.insights, result.errors) == (None, (EVIDENCE_ERROR,))


def test_an_empty_answer_is_valid() -> None:
    assert read(answer()) == ReadAnswer(Insights())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "the answer is not one complete JSON object"),
        (json.dumps(answer(summary=[GOOD]))[:-9], "the answer is not one complete JSON object"),
        (json.dumps(answer()) * 2, "the answer is not one complete JSON object"),
        ("Here is the JSON: {}", "the answer is not one complete JSON object"),
        ("[" * 200_000, "the answer is nested too deep"),
        ('{"a":' * 200_000, "the answer is nested too deep"),
        (" " * (MAX_CHARACTERS + 1), f"the answer has more than {MAX_CHARACTERS} characters"),
        ('{"summary": [], "summary": []}', "an object has the same key twice"),
        ('{"summary": NaN}', "NaN and Infinity are no JSON"),
        ('{"summary": -Infinity}', "NaN and Infinity are no JSON"),
        ("[]", "the answer must be object"),
        ("9" * 100_000, "the answer must be object"),
        ("null", "the answer must be object"),
    ],
)  # fmt: skip
def test_malformed_json_is_an_error(text: str, error: str) -> None:
    assert read(text) == ReadAnswer(errors=(error,))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (answer(summary="text"), "the answer.summary must be array"),
        (answer(summary=[1.5]), "the answer.summary[0] must be object"),
        (answer(summary=[True]), "the answer.summary[0] must be object"),
        (answer(summary=[{**GOOD, "text": 5}]), "the answer.summary[0].text must be string"),
        (
            answer(summary=[{**GOOD, "text": "\ud800"}]),
            "the answer.summary[0].text has half of a surrogate pair",
        ),
        (answer(summary=[{"text": "Pain"}]), "the answer.summary[0] has no citations"),
        (answer(summary=[{**GOOD, "secret": 1}]), "the answer.summary[0] has an unknown key"),
        (answer(secret=[]), "the answer has an unknown key"),
        (answer(note={"plan": None}), "the answer.note.plan must be array"),
        (answer(topics=[{"name": "Pain", "citation": []}]), "the answer.topics[0].citation must be object"),
        (answer(summary=[GOOD] * 101), "the answer.summary has more than 100 items"),
        (answer(note={"plan": [GOOD] * 101}), "the answer.note.plan has more than 100 items"),
        (
            answer(action_items=[{**GOOD, "who": "NURSE", "when": None}]),
            "the answer.action_items[0].who is none of the allowed values",
        ),
    ],
)
def test_an_answer_of_another_shape_is_an_error(value: Any, error: str) -> None:
    result = read(value)
    assert result == ReadAnswer(errors=(error,))
    assert "secret" not in repr(result)


def test_json_in_a_markdown_fence_is_read() -> None:
    assert read(f"```json\n{json.dumps(answer(summary=[GOOD]))}\n```").insights == insights_of(
        answer(summary=[GOOD])
    )


def test_at_most_twenty_errors_are_returned() -> None:
    assert len(read(answer(summary=[1] * 90)).errors) == 20


def test_a_summary_of_more_than_120_words_is_an_error() -> None:
    long = [
        line(f"Pain {number} on the left side when walking", (4, "on the left side")) for number in range(15)
    ]
    assert read(answer(summary=long)).insights is not None
    assert read(answer(summary=[*long, GOOD])).errors == (
        "the answer.summary has 127 words and may have at most 120",
    )


SPANISH_LINES = [
    line("El dolor está en el lado izquierdo cuando camina", (4, "It hurts on the left")),
    line("Se le receta ibuprofeno para el dolor durante cinco días", (3, "I will prescribe ibuprofen")),
]
ENGLISH_LINES = [
    line("The pain is on the left side when the person walks", (4, "It hurts on the left")),
    line("Ibuprofen was prescribed for five days", (3, "I will prescribe ibuprofen")),
]
CHINESE_LINES = [
    line("走路时左侧疼痛走路时左侧疼痛走路时左侧疼痛走路时左侧疼痛", (4, "It hurts on the left"))
]
FRENCH_LINES = [line("La douleur est du côté gauche et la marche est difficile", (4, "It hurts on the left"))]


@pytest.mark.parametrize(
    ("lines", "language", "is_refused"),
    [
        (SPANISH_LINES, "en", True),
        (SPANISH_LINES, None, True),  # the turns are in English
        (SPANISH_LINES, "es", False),
        (ENGLISH_LINES, "en", False),
        (ENGLISH_LINES, "es", True),
        (CHINESE_LINES, "en", True),
        (FRENCH_LINES, "es", True),
        (ENGLISH_LINES * 2 + SPANISH_LINES, "en", True),
        ([line("It hurts on the left side", (4, "It hurts on the left side"))] * 3, "es", False),
    ],
)
def test_an_answer_in_the_wrong_language_is_an_error(
    lines: list[dict[str, Any]], language: str | None, is_refused: bool
) -> None:
    result = read(answer(summary=lines), language)
    assert result.errors == ((LANGUAGE_ERROR,) if is_refused else ())


def test_a_consultation_in_two_languages_may_be_described_in_either() -> None:
    turns = dialogue(
        "D: The pain is on the left side and it started with the fever that you have had for days.",
        "P: El dolor está en el lado izquierdo y empezó con la fiebre que tengo desde hace tres días.",
    )
    for text in (
        "The pain is on the left side since the fever",
        "El dolor está en el lado izquierdo con la fiebre",
    ):
        value = json.dumps(answer(summary=[line(text, (0, "on the left side"))]))
        assert read_answer(value, turns, None).errors == ()


@pytest.mark.parametrize(
    ("text", "citation", "is_kept"),
    [
        ("The patient has pain on the left side", (4, "hurts on the left side"), False),
        ("El paciente tiene dolor a la izquierda", (4, "hurts on the left side"), False),
        ("Doctor confirms pain on the left", (4, "hurts on the left side"), False),
        ("Pain on the left side", (4, "hurts on the left side"), True),
        ("The patient takes no metformin", (2, "milligrams of Metformin"), True),
    ],
)
def test_an_unknown_speaker_is_neither_doctor_nor_patient(
    text: str, citation: tuple[int, str], is_kept: bool
) -> None:
    result = read_answer(json.dumps(answer(summary=[GOOD, line(text, citation)])), TURNS, None)
    assert result.insights is not None
    assert (len(result.insights.summary), result.dropped_count) == ((2, 0) if is_kept else (1, 1))


def test_an_action_item_names_who_and_when_only_as_said() -> None:
    prescribe = line("Prescribe ibuprofen", (3, "I will prescribe ibuprofen for five days"))
    walk = line("Walk less", (4, "when I walk"))
    items = insights_of(
        answer(
            action_items=[
                {**prescribe, "who": "DOCTOR", "when": "for five days"},
                {**prescribe, "who": "DOCTOR", "when": "for six days"},
                {**walk, "who": "PATIENT", "when": ""},
            ]
        )
    ).action_items
    assert [(item.who, item.when) for item in items] == [
        (Responsible.DOCTOR, "for five days"),
        (Responsible.DOCTOR, None),
        (None, None),
    ]
    assert all(isinstance(item, ActionItem) for item in items)


def test_times_of_chapters_and_highlights_come_from_the_turns() -> None:
    quote = {"turn": "t3", "quote": "I will prescribe ibuprofen"}
    moment = {**line("Ibuprofen", (3, "prescribe ibuprofen for five days")), "reason": "PLAN"}
    insights = insights_of(
        answer(
            chapters=[
                {"title": "Treatment", "first_turn": "t2", "citation": quote},
                {"title": "Allergies", "first_turn": "t9", "citation": {**quote, "turn": "t0"}},
                {"title": "History", "first_turn": "t0", "citation": {"turn": "t2", "quote": "twice a day"}},
            ],
            highlights=[
                {**moment, "first_turn": "t2", "last_turn": "t4"},
                {**moment, "first_turn": "t4", "last_turn": "t0"},
                {**GOOD, "reason": "SYMPTOM", "first_turn": "t4", "last_turn": "t4"},
            ],
        )
    )
    assert [(chapter.title, chapter.start_ms) for chapter in insights.chapters] == [
        ("History", 0),
        ("Treatment", 2_000),
    ]
    assert [(each.start_ms, each.end_ms) for each in insights.highlights] == [
        (2_000, 4_900),
        (3_000, 3_900),
        (4_000, 4_900),
    ]
    assert insights.highlights[2].reason is HighlightReason.TOPIC


def test_a_highlight_lasts_at_most_a_minute() -> None:
    turns = [Turn(0, 0, 3_600_000, Speaker.PATIENT, "pain in my knee " * 900 + "and in my back")]
    moment = {
        **line("Back", (0, "knee and in my back")),
        "reason": "SYMPTOM",
        "first_turn": "t0",
        "last_turn": "t0",
    }
    result = read_answer(json.dumps(answer(highlights=[moment])), turns, "en")
    assert result.insights is not None
    [highlight] = result.insights.highlights
    assert 3_500_000 < highlight.start_ms < highlight.end_ms <= 3_600_000
    assert highlight.end_ms - highlight.start_ms <= 60_000


def test_characters_that_are_not_seen_are_removed() -> None:
    text = "Pain\u202e on\x00 the\nleft\u200b side"
    [kept] = insights_of(answer(summary=[line(text, (4, "on the left side"))])).summary
    assert kept.text == "Pain on the left side"


@pytest.mark.parametrize(
    "bad", [line("x" * 1_001, (4, "on the left")), line("Pain", *[(4, "on the left side")] * 9)]
)
def test_a_line_that_is_too_long_is_dropped(bad: dict[str, Any]) -> None:
    assert read(answer(summary=[GOOD, bad])).dropped_count == 1


def test_turns_that_a_retry_added_are_found_by_their_number() -> None:
    turns = [
        Turn(0, 0, 900, Speaker.DOCTOR, "Do you have any allergies?"),
        Turn(1, 2_000, 2_900, Speaker.DOCTOR, "Any fever since then?"),
        Turn(2, 1_000, 1_900, Speaker.PATIENT, "Penicillin."),
    ]
    answered = line("Allergic to penicillin", (0, "have any allergies?"), (2, "Penicillin."))
    result = read_answer(json.dumps(answer(summary=[answered])), turns, "en")
    assert result.insights is not None
    assert len(list(lines_of(result.insights))) == 1


def test_repr_of_an_answer_hides_what_was_said() -> None:
    assert "left" not in repr(read(answer(summary=[GOOD])))
