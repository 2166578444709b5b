"""The task of a request: its first line is JSON, so that the extractive writer reads it too. Pure."""

import json
from dataclasses import dataclass, field
from enum import StrEnum

from app.insights.drafts import Section


class TaskKind(StrEnum):
    """What a request asks for."""

    INSIGHTS = "INSIGHTS"
    SECTION = "SECTION"
    QUESTION = "QUESTION"


@dataclass(frozen=True)
class Task:
    """What a request asks for. `language` is the ISO 639 code of the answer's language, or None for the language that
    was spoken. `part` counts the parts of a long transcript from 1. `summary_words` is the limit of a summary.
    """

    kind: TaskKind
    language: str | None
    part: int = 1
    parts: int = 1
    summary_words: int = 0
    section: Section | None = None
    question: str | None = field(default=None, repr=False)

    @property
    def header(self) -> str:
        """Return the task as one line of JSON."""
        values = {
            "task": self.kind.value,
            "language": self.language,
            "part": self.part,
            "parts": self.parts,
            "summary_words": self.summary_words,
            "section": self.section.value if self.section else None,
            "question": self.question,
        }
        given = {name: value for name, value in values.items() if value is not None}
        return json.dumps(given, ensure_ascii=False)


def read_task(text: str) -> Task:
    """Return the task whose header is the first line of the text. The task must be one of
    `requests` or `asking`."""
    values = json.loads(text.partition("\n")[0])
    section = values.get("section")
    return Task(
        TaskKind(values["task"]),
        values.get("language"),
        values.get("part", 1),
        values.get("parts", 1),
        values.get("summary_words", 0),
        Section(section) if section else None,
        values.get("question"),
    )
