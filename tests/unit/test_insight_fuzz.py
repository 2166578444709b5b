"""Damaged model answers: no line without evidence is shown, nothing fails with an unexpected error, and no text of a
patient gets into a log. INSIGHT_ANSWERS=10000 checks more of them.
"""

import json
import logging
import os
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from app.insights.evidence import Evidence
from app.insights.flags.checker import Checker
from app.insights.writing.answers import read_answer
from app.insights.writing.asking import question_request, read_question_answer
from app.insights.writing.extractive import answer_request
from app.insights.writing.requests import MAX_SUMMARY_WORDS, plan_requests, repair_request
from app.transcripts.model import Turn
from tests.unit.dialogues import dialogue
from tests.unit.insight_answers import lines_of
from tests.unit.test_insight_injections import ENGLISH, ORDERS, SPANISH

COUNT: Final = int(os.environ.get("INSIGHT_ANSWERS", "500"))
SECRET: Final = "zebrawort"
"""A word that only this consultation has."""
STRANGE: Final = (
    "",
    " ",
    "\u202e",
    "\ud800",
    "\x00",
    "NaN",
    "t0",
    SECRET,
    "\U0001f600",
    "a" * 2_000,
    "-1",
    "½",
    "İ",
    "ß",
)
TURNS: Final = dialogue(
    *ENGLISH, f"P: My mother gave me {SECRET} tea for the cough.", "?: Mm-hmm.", *SPANISH, *ORDERS[:2]
)


def damage_text(text: str, drawing: random.Random) -> str:
    """Return the text cut, doubled, or with some of its characters replaced."""
    at = drawing.randrange(len(text) + 1)
    old, new = drawing.choice('{}[]",:tquo'), drawing.choice('{}[]",:x')
    return drawing.choice(
        [
            text[:at],
            text[:at] + drawing.choice(STRANGE) + text[at:],
            text + text,
            f"I think that the patient {text}",
            text.replace(old, new, drawing.randrange(3)),
            "[" * drawing.randrange(5_000) + text,
        ]
    )


def damage_value(value: Any, drawing: random.Random) -> Any:
    """Return the JSON value with one part of it exchanged, removed, repeated or of another type."""
    if drawing.random() < 0.01 or not isinstance(value, dict | list | str) or not value:
        return drawing.choice([None, 0, -1.5, True, [], {}, [value] * 3, {"text": value}, *STRANGE])
    if isinstance(value, str):
        words = value.split()
        drawing.shuffle(words)
        return drawing.choice(
            [" ".join(words), value.upper(), f"{value} 50 mg", f"no {value}", value[1:], value * 2]
        )
    if isinstance(value, dict):
        key = drawing.choice(list(value))
        changed = {**value, key: damage_value(value[key], drawing)}
        if drawing.random() < 0.01:
            del changed[key]
        return {**changed, "extra": SECRET} if drawing.random() < 0.01 else changed
    place = drawing.randrange(len(value))
    repeated = value * (drawing.choice([1] * 20 + [2, 60]) if len(value) < 20 else 1)
    return [*repeated[:place], damage_value(value[place], drawing), *repeated[place + 1 :]]


def damage(text: str, drawing: random.Random) -> str:
    value = json.loads(text)
    for _ in range(drawing.randrange(1, 12)):
        value = damage_value(value, drawing)
    changed = json.dumps(value, ensure_ascii=drawing.random() < 0.5)
    return damage_text(changed, drawing) if drawing.random() < 0.1 else changed


def each_damaged(text: str) -> Iterator[str]:
    for number in range(COUNT):
        yield damage(text, random.Random(number))  # noqa: S311 - the same answers each time


@pytest.fixture
def silent(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Return a function that fails if the text, a log or the output of the test has the patient's word."""
    caplog.set_level(logging.DEBUG)

    def check(text: str) -> None:
        out, err = capfd.readouterr()
        assert SECRET not in f"{text}{caplog.text}{out}{err}".lower()

    return check


def require_evidence(lines: list[Any], turns: list[Turn]) -> None:
    evidence, texts = Evidence(turns), {turn.number: turn.text for turn in turns}
    for line in lines:
        assert evidence.verify(line) == line
        assert all(citation.quote in texts[citation.turn_number] for citation in line.citations)
        line.text.encode()


def test_no_line_of_a_damaged_answer_lacks_evidence(silent: Callable[[str], None]) -> None:
    [request] = plan_requests(TURNS, None)
    checker = Checker(TURNS)
    kept = dropped = refused = 0
    for text in each_damaged(answer_request(request)):
        read = read_answer(text, TURNS, None)
        silent(repr(read))
        repair_request(request, text, read.errors).task.encode()
        if read.insights is None:
            refused += 1
            assert read.errors
            continue
        lines = list(lines_of(read.insights))
        require_evidence(lines, TURNS)
        assert sum(len(line.text.split()) for line in read.insights.summary) <= MAX_SUMMARY_WORDS
        for line in lines:
            checker.flag(line)
        kept += len(lines)
        dropped += read.dropped_count
    assert min(kept, dropped, refused) > COUNT // 10


def test_no_line_of_a_damaged_answer_to_a_question_lacks_evidence(silent: Callable[[str], None]) -> None:
    request = question_request(TURNS, f"What did my mother give for the cough, {SECRET}?", "en")
    assert request is not None
    text = answer_request(request)
    assert SECRET in text
    found = 0
    for damaged in each_damaged(text):
        read = read_question_answer(damaged, TURNS)
        silent(repr(read))
        require_evidence(list(read.lines), TURNS)
        found += read.is_found
    assert 0 < found < COUNT
