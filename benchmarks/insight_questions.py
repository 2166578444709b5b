"""Measures the answers of the extractive writer to questions (`benchmarks/data/questions.txt`)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.insights.writing.asking import QuestionAnswer, question_request, read_question_answer
from app.insights.writing.extractive import answer_request
from app.transcripts.model import Speaker, Turn
from benchmarks.insight_data import read_consultations, read_dialogues
from benchmarks.insight_slips import read_spanish

QUESTIONS: Final = Path(__file__).with_name("data") / "questions.txt"
_FIXTURE: Final = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "headache.ref.json"


@dataclass(frozen=True)
class Question:
    """A question about a consultation. `turn_numbers` hold the answer; there are none if it has no answer."""

    consultation: str
    text: str
    turn_numbers: frozenset[int]


@dataclass(frozen=True)
class QuestionFigures:
    """How many questions are answered with the right turn, and how many that have no answer are not found."""

    answerable: int
    answered: int
    unanswerable: int
    not_found: int
    missed: tuple[Question, ...] = field(repr=False)


def read_questions() -> list[Question]:
    """Return all questions."""
    rows = [
        row for row in QUESTIONS.read_text(encoding="utf-8").splitlines() if row and not row.startswith("#")
    ]
    parts = [[part.strip() for part in row.split("|")] for row in rows]
    return [Question(name, text, frozenset(map(int, numbers.split()))) for name, text, numbers in parts]


def read_committed() -> dict[str, Sequence[Turn]]:
    """Return the consultations of this repository that questions are about, by their name."""
    fixture = json.loads(_FIXTURE.read_text(encoding="utf-8"))["turns"]
    headache = [
        Turn(
            number,
            int(turn["start"] * 1000),
            int(turn["end"] * 1000),
            Speaker(turn["speaker"].upper()),
            turn["text"],
        )
        for number, turn in enumerate(fixture)
    ]
    spanish = {f"consultas/{number}": each.turns for number, each in enumerate(read_spanish())}
    return {"headache": headache, **spanish}


def read_all(folder: Path | None) -> dict[str, Sequence[Turn]]:
    """Return the consultations of the repository and of the data folder, by their name."""
    found = read_committed()
    if folder is not None:
        found.update({each.name: each.turns for each in read_dialogues(folder)})
        found.update({each.name: each.turns for each in read_consultations(folder)})
    return found


def answer(turns: Sequence[Turn], question: str) -> QuestionAnswer:
    """Return the verified answer of the extractive writer."""
    request = question_request(turns, question, None)
    return read_question_answer(answer_request(request), turns) if request else QuestionAnswer()


def measure_questions(consultations: Mapping[str, Sequence[Turn]]) -> QuestionFigures:
    """Return the figures of the questions about the consultations. A question is answered if its first line cites a
    turn that holds the answer.
    """
    asked = [each for each in read_questions() if each.consultation in consultations]
    verdicts = {each: is_right(each, answer(consultations[each.consultation], each.text)) for each in asked}
    answerable = [each for each in asked if each.turn_numbers]
    unanswerable = [each for each in asked if not each.turn_numbers]
    return QuestionFigures(
        len(answerable),
        sum(verdicts[each] for each in answerable),
        len(unanswerable),
        sum(verdicts[each] for each in unanswerable),
        tuple(each for each in asked if not verdicts[each]),
    )


def is_right(question: Question, given: QuestionAnswer) -> bool:
    """Return whether the answer is the expected one."""
    if not question.turn_numbers or not given.lines:
        return not question.turn_numbers and not given.lines
    cited = {citation.turn_number for citation in given.lines[0].citations}
    return not cited.isdisjoint(question.turn_numbers)


def describe_questions(figures: QuestionFigures) -> Iterator[str]:
    """Yield the lines of the report."""
    yield (
        f"questions to the extractive writer: {figures.answered} of {figures.answerable} answered with a turn that "
        f"holds the answer, {figures.not_found} of {figures.unanswerable} without an answer not found"
    )
