"""The flags of lines that differ from their quotes, in English and Spanish."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.insights.flags.checker import Checker, flag_lines
from app.insights.model import Citation, Flag, Line
from tests.unit.dialogues import cite, dialogue


def flags(text: str, *said: str) -> frozenset[Flag]:
    """Return the flags of a line that cites all turns."""
    turns = dialogue(*said)
    return Checker(turns).flag(cite(text, turns, *range(len(turns))))


@pytest.mark.parametrize(
    ("said", "right", "wrong"),
    [
        (
            "D: Take five hundred milligrams of metformin twice a day.",
            "Metformin 500 mg 2 times a day.",
            "50",
        ),
        ("D: Your blood pressure is one forty two over eighty.", "Blood pressure is 142/80 mmHg.", "132"),
        ("D: So he is a 49-year-old man with gout.", "The patient is a 49-year-old man with gout.", "94"),
        ("P: It started a couple of weeks ago.", "It started 2 weeks ago.", "3"),
        ("D: Your a1c is six point seven.", "Hemoglobin A1c is 6.7.", "67"),
        ("D: Half a teaspoon at night.", "Take 0.5 teaspoon at night.", "1"),
        ("M: Tome paracetamol de un gramo cada ocho horas.", "Paracetamol cada 8 horas.", "6"),
        ("M: La tensión es de ciento treinta y cinco sobre ochenta.", "Tensión arterial 135/80.", "185"),
    ],
)
def test_number_that_the_quote_lacks_is_flagged(said: str, right: str, wrong: str) -> None:
    said = said.replace("M:", "D:")
    number = next(word for word in right.replace("/", " ").rstrip(".").split() if word[0].isdigit())
    number = number.split("-")[0]
    assert Flag.NUMBER not in flags(right, said)
    assert Flag.NUMBER in flags(right.replace(number, wrong, 1), said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Lisinopril 500 mg daily.", "D: Take lisinopril 20 mg daily and then metformin 500 mg with dinner."),
        ("The pain started 3 months ago.", "P: The pain started three weeks ago."),
        ("Blood pressure is 140/16.", "D: Pressure one forty over seventy and respirations sixteen."),
        ("She takes it every 8 to 8 hours.", "P: I take it every six to eight hours."),
        ("A 2-year-old boy.", "D: This is a boy with type 2 diabetes."),
        ("Heart rate: 16.", "D: Respiratory rate was sixteen, your pulse rate was sixty eight."),
        ("RR: 68.", "D: Respiratory rate was sixteen, your pulse rate was sixty eight."),
        ("FC: frecuencia cardiaca 16.", "D: Frecuencia respiratoria dieciséis, pulso sesenta y ocho."),
        ("Take 12 mg daily.", "D: Take it at twelve . five milligrams daily ."),
        ("1 refill was ordered.", "D: Order one tab per week, 11 refills."),
    ],
)
def test_number_of_something_else_is_flagged(text: str, said: str) -> None:
    assert Flag.NUMBER in flags(text, said)


def test_names_with_digits_are_no_numbers() -> None:
    assert Flag.NUMBER not in flags("She had a COVID-19 vaccine.", "P: I had my covid vaccine.")


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("Pain in the right knee.", "Pain in the left knee.", ["P: My right knee hurts."]),
        (
            "Pain in the right knee.",
            "Pain in the left knee.",
            ["P: My right knee hurts but the left hip is fine."],
        ),
        (
            "Right wrist injury.",
            "Left wrist injury.",
            ["D: Which wrist is it left or right?", "P: The right one."],
        ),
        (
            "Dolor en la rodilla derecha.",
            "Dolor en la rodilla izquierda.",
            ["P: Me duele la rodilla derecha."],
        ),
        (
            "Dolor en el oído izquierdo.",
            "Dolor en el oído derecho.",
            ["P: El oído izquierdo me da dolor, el derecho no."],
        ),
    ],
)
def test_other_side_is_flagged(right: str, wrong: str, said: list[str]) -> None:
    assert Flag.SIDE not in flags(right, *said)
    assert Flag.SIDE in flags(wrong, *said)


def test_right_that_means_no_side_is_no_evidence_of_a_side() -> None:
    assert Flag.SIDE in flags("Pain in the right knee.", "D: All right, so your knee hurts right now.")


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("The patient denies fever.", "The patient reports fever.", ["D: Any fever?", "P: No."]),
        ("The patient reports fever.", "The patient denies fever.", ["D: Any fever?", "P: Yes, last night."]),
        ("No murmurs.", "Murmurs.", ["D: I do n't hear any murmurs."]),
        (
            "Symptoms have improved.",
            "Symptoms have not improved.",
            ["P: My symptoms have improved since then."],
        ),
        (
            "The wound has no drainage.",
            "The wound has drainage.",
            ["D: The wound looks clean and there is no drainage."],
        ),
        (
            "Denies fever and chills.",
            "Reports fever and chills.",
            [
                "D: have you had any other symptoms like fever chills drainage or anything along those lines",
                "P: no but it sticks to my sock",
            ],
        ),
        (
            "Denies being able to lift it.",
            "Reports being able to lift it.",
            ["D: Are you able to lift it?", "P: Yeah no that is hurting."],
        ),
        (
            "He has not been hospitalized.",
            "He has been hospitalized.",
            ["D: Have you been hospitalized since the surgery .", "P: No, not that I recall."],
        ),
        ("He denies any injury.", "He reports any injury.", ["P: My back has been hurting for years."]),
        ("No wheezes, rales or rhonchi.", "Wheezes, rales or rhonchi.", ["D: I am listening to you now."]),
        ("Niega fiebre.", "Refiere fiebre.", ["D: ¿Tiene fiebre?", "P: No, fiebre no."]),
        ("Refiere hinchazón.", "Niega hinchazón.", ["D: ¿Ha notado hinchazón?", "P: Sí, por las tardes."]),
        ("Pulmones sin ruidos.", "Pulmones con ruidos.", ["D: En los pulmones no oigo ruidos."]),
    ],
)
def test_negation_added_or_dropped_is_flagged(right: str, wrong: str, said: list[str]) -> None:
    assert Flag.NEGATION not in flags(right, *said)
    assert Flag.NEGATION in flags(wrong, *said)


@pytest.mark.parametrize(
    "text",
    [
        "Call the clinic with any questions.",
        "She has pain with any type of movement.",
        "He will avoid any surgery.",
        "She takes ibuprofen or Aleve occasionally.",
        "Nipple pain or numbness: Yes.",
        "The patient is unsure if she completed any testing.",
    ],
)
def test_statement_that_leaves_something_open_is_no_negation(text: str) -> None:
    assert Flag.NEGATION not in flags(text, "P: The weather is nice today.")


def test_answer_is_paired_with_a_question_that_is_not_cited() -> None:
    turns = dialogue("D: Do you have any chest pain?", "P: No, I do not.")
    assert Flag.NEGATION in Checker(turns).flag(cite("The patient reports chest pain.", turns, 1))
    assert Flag.NEGATION not in Checker(turns).flag(cite("The patient denies chest pain.", turns, 1))


@pytest.mark.parametrize(
    ("text", "said", "is_flagged"),
    [
        ("Continue lisinopril.", "D: Keep taking the lisinopril.", False),
        ("Continue losartan.", "D: Keep taking the lisinopril.", True),
        ("Takes acetaminophen.", "P: I take Tylenol.", False),
        ("Continue hydrochlorothiazide.", "D: Stay on the hydroclorothiazide.", False),
        ("Toma ibuprofeno.", "P: Tomo paracetamol.", True),
    ],
)
def test_drug_that_the_quote_lacks_is_flagged(text: str, said: str, is_flagged: bool) -> None:
    assert (Flag.RARE_WORD in flags(text, said)) is is_flagged


@pytest.mark.parametrize(
    ("text", "said", "is_flagged"),
    [
        ("His mother had breast cancer.", "P: My mom had breast cancer.", False),
        ("His father had breast cancer.", "P: My mom had breast cancer.", True),
        ("The patient had breast cancer.", "P: My mom had breast cancer.", True),
        ("Su madre era diabética.", "P: Mi padre era diabético.", True),
        ("The patient states that his mother has back pain.", "P: Yeah my dad has back pain.", True),
        ("The patient states that his father has back pain.", "P: Yeah my dad has back pain.", False),
        ("His mother reports that he coughs.", "P: He coughs at night.", False),
    ],
)
def test_other_person_is_flagged(text: str, said: str, is_flagged: bool) -> None:
    assert (Flag.PERSON in flags(text, said)) is is_flagged


@pytest.mark.parametrize(
    ("text", "said", "is_flagged"),
    [
        ("She currently smokes.", "P: I used to smoke.", True),
        ("She previously smoked.", "P: I currently smoke a pack.", True),
        ("She previously smoked.", "P: I used to smoke.", False),
        ("Actualmente fuma.", "P: Yo solía fumar.", True),
        ("She is previously on Norvasc.", "D: You are on the Norvasc now.", True),
        ("She was previously on Norvasc.", "D: You were on the Norvasc.", False),
        ("This was refilled last year.", "D: Do you need a refill?", True),
        ("This was refilled last year.", "P: I got it last year.", False),
    ],
)
def test_other_time_is_flagged(text: str, said: str, is_flagged: bool) -> None:
    assert (Flag.TIME in flags(text, said)) is is_flagged


def test_line_without_a_word_of_its_quotes_is_weakly_supported() -> None:
    text = "Surgical options, alternative procedures, anesthesia and recovery were explained at length."
    assert Flag.WEAK_SUPPORT in flags(text, "P: It is nice weather today.")
    assert Flag.WEAK_SUPPORT not in flags(text, "D: The anesthesia is mild.")


def test_verbatim_line_has_no_flag() -> None:
    said = "I take metformin five hundred milligrams twice a day, and my left knee does not hurt"
    assert flags(said, f"P: {said}") == frozenset()


@given(st.text(), st.lists(st.text(), max_size=4))
def test_any_text_is_flagged_without_an_error(text: str, said: list[str]) -> None:
    turns = dialogue(*(f"P: {each}" for each in said))
    line = Line(text, tuple(Citation(turn.number, turn.text) for turn in turns))
    (flagged,) = flag_lines([line], turns)
    assert flagged.line == line
