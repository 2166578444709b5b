"""Tests of the words of a patient's reports: both languages have every text, and every sentence can be formed."""

import string
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any, get_args

import pytest

from app.patient_reports.model import RecordingFate, Relation
from app.texts import LANGUAGES, Language
from app.texts import patient_reports as texts
from app.texts.patient_reports import load_report_texts

TABLES = load_report_texts()


def _sentences(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, str]]]:
    for name, value in table.items():
        if set(value) <= set(LANGUAGES):
            yield f"{path}{name}", value
        else:
            yield from _sentences(value, f"{path}{name}.")


SENTENCES = dict(
    _sentences(
        {
            name: getattr(TABLES, name)
            for name in (
                "actions",
                "people",
                "purposes",
                "bases",
                "outcomes",
                "words",
                "recordings",
                "refusals",
            )
        }
    )
)


@pytest.mark.parametrize("path", SENTENCES)
def test_each_text_has_both_languages_with_the_same_values(path: str) -> None:
    by_language = SENTENCES[path]
    assert set(by_language) == set(LANGUAGES)
    values = [
        sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)
        for text in by_language.values()
    ]
    assert values[0] == values[1]
    assert all(by_language.values())


@pytest.mark.parametrize("language", get_args(Language))
def test_every_look_becomes_a_sentence(language: Language) -> None:
    for action, words in TABLES.actions.items():
        for outcome in ["ALLOWED", "DENIED"] if "did" in words else ["DENIED"]:
            sentence = texts.describe_look("Ana", action, outcome, language)
            assert sentence.startswith("Ana ")
            assert sentence.endswith(".")
    for relation in Relation:
        assert texts.describe_person(relation.value, "Dr. Ana", language).startswith("Dr. Ana (")
    for purpose in TABLES.purposes:
        for basis in (*TABLES.bases, "unregistered", *TABLES.bases_not_shown):
            assert texts.describe_grounds(purpose, basis, language)[0].isupper()
    for reason in (*TABLES.refusal_reasons, None, "unregistered"):
        assert texts.describe_refusal(reason, language).endswith(".")


@pytest.mark.parametrize("language", get_args(Language))
def test_every_recording_becomes_a_sentence_with_and_without_a_day(language: Language) -> None:
    for key in ("KEPT_LONGER", *RecordingFate):
        assert "2033" in texts.describe_recording(str(key), date(2033, 5, 6), language) or key in (
            "IN_PROGRESS",
            "LOST",
        )
    for fate in RecordingFate:
        assert "{" not in texts.describe_recording(fate.value, None, language)


def test_days_and_times_are_written_in_words() -> None:
    moment = datetime(2026, 11, 3, 8, 5, tzinfo=UTC)
    assert texts.write_moment(moment, "UTC", "en") == "November 3, 2026 at 08:05 (UTC)"
    assert texts.write_moment(moment, "UTC", "es") == "3 de noviembre de 2026 a las 08:05 (UTC)"
    for month in range(1, 13):
        for language in get_args(Language):
            assert texts.write_day(date(2026, month, 1), language)


def test_reasons_of_what_is_not_shown_are_given() -> None:
    assert not set(TABLES.actions) & set(TABLES.actions_not_shown)
    assert len(TABLES.actions_not_shown) == len(set(TABLES.actions_not_shown))
