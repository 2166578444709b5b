"""The words of the reports that a patient reads: who looked at the patient's record, and what was recorded.

`patient_reports.toml` contains them in English and Spanish. It names every audit action, purpose, basis and outcome:
the file gives the text of each term that the reports show, and for each other term the reason why no report shows it.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from typing import Any, cast

from app.texts.reasons import Language

_Words = Mapping[Language, str]


@dataclass(frozen=True)
class ReportTexts:
    """The tables of `patient_reports.toml`."""

    actions: Mapping[str, Mapping[str, _Words]]
    actions_not_shown: tuple[str, ...]
    people: Mapping[str, _Words]
    purposes: Mapping[str, _Words]
    bases: Mapping[str, _Words]
    bases_not_shown: tuple[str, ...]
    outcomes: Mapping[str, _Words]
    outcomes_not_shown: Mapping[str, str]
    words: Mapping[str, _Words]
    recordings: Mapping[str, _Words]
    refusals: Mapping[str, _Words]
    refusal_reasons: Mapping[str, str]


@cache
def load_report_texts() -> ReportTexts:
    """Return the words of the reports."""
    tables = tomllib.loads(files(__package__).joinpath("patient_reports.toml").read_text("utf-8"))
    reasons = {reason: kind for kind, listed in tables["refusal_reasons"].items() for reason in listed}
    return ReportTexts(
        **{
            **tables,
            "actions_not_shown": _listed(tables["actions_not_shown"], "actions"),
            "bases_not_shown": _listed(tables["bases_not_shown"], "bases"),
            "refusal_reasons": reasons,
        }
    )


def describe_person(relation: str, name: str | None, language: Language) -> str:
    """Return the description of a person: the name with the relation to the patient, or only the relation."""
    texts = load_report_texts()
    role = texts.people[relation][language]
    if name is None:
        return role
    return texts.words["named"][language].format(name=name, role=role[0].lower() + role[1:])


def describe_look(who: str, action: str, outcome: str, language: Language) -> str:
    """Return the sentence that says who did what to the patient's record."""
    texts = load_report_texts()
    words = {kind: by_language[language] for kind, by_language in texts.actions[action].items()}
    return texts.outcomes[outcome][language].format(who=who, **words)


def describe_grounds(purpose: str, basis: str, language: Language) -> str:
    """Return the reason for which a person looked: the purpose, and the basis of the person's right. The result begins
    with a capital.
    """
    texts = load_report_texts()
    sentence = texts.words["why"][language].format(
        purpose=texts.purposes[purpose][language],
        basis=texts.bases.get(basis, texts.bases["OTHER"])[language],
    )
    return sentence[0].upper() + sentence[1:]


def describe_refusal(reason: str | None, language: Language) -> str:
    """Return the text of the reason for which a request was refused. `reason` is a reason of the audit log."""
    texts = load_report_texts()
    return texts.refusals[texts.refusal_reasons.get(reason or "", "OTHER")][language]


def describe_recording(status: str, day: date | None, language: Language) -> str:
    """Return the text of the state of a recording. `day` is the last day of its term, or the day of its destruction."""
    texts = load_report_texts().recordings
    if day is not None:
        return texts[status][language].format(day=write_day(day, language))
    without = {
        "KEPT": "KEPT_WITHOUT_END",
        "FAILED": "FAILED_WITHOUT_END",
        "DESTROYED": "DESTROYED_WITHOUT_CERTIFICATE",
    }
    return texts[without.get(status, status)][language]


def write_day(day: date, language: Language) -> str:
    """Return a day in the words of the language, such as `November 30, 2026`."""
    words = load_report_texts().words
    month = words["months"][language].split()[day.month - 1]
    return words["day"][language].format(day=day.day, month=month, year=day.year)


def write_moment(moment: datetime, time_zone: str, language: Language) -> str:
    """Return the time of day of a time zone in the words of the language. `moment` is the local time there."""
    return (
        load_report_texts()
        .words["moment"][language]
        .format(
            day=write_day(moment.date(), language),
            hour=f"{moment.hour:02}",
            minute=f"{moment.minute:02}",
            time_zone=time_zone,
        )
    )


def _listed(groups: Iterable[Mapping[str, Any]], kind: str) -> tuple[str, ...]:
    """Return the members of all groups of a table in which each group has a reason."""
    return tuple(cast("str", one) for group in groups for one in group[kind])
