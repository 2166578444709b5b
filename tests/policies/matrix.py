"""Reads the access matrix from `policies/matrix.md`, so that the tests check the tables that people read.

A row of the matrix names one or more actors, separated by commas. The entry `everyone else` means all actors that
no row of the same table names.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.policies.actors import ACTORS, ROLES

MATRIX = Path(__file__).parent.parent.parent / "policies" / "matrix.md"
_NAME = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: the expected answer of the database when `actor` tries `operation` on `relation`. The
    relation's name may end in `<year>`.
    """

    relation: str
    operation: str
    actor: str
    answer: str


def read_cells(text: str) -> list[Cell]:
    """Return every cell of the tables below the heading `## Tables`. Raises ValueError if an actor is unknown, has
    two answers or has no answer.
    """
    cells: list[Cell] = []
    for heading, body in _sections(text, "Tables"):
        header, *rows = _table(body)
        answers = _by_actor(rows)
        for relation in _NAME.findall(heading):
            for name, given in answers.items():
                if len(given) != len(header) - 1:
                    raise ValueError(f"{relation}: {name} has {len(given)} answers")
                cells += [
                    Cell(relation, operation, name, said)
                    for operation, said in zip(header[1:], given, strict=True)
                ]
    return cells


def read_legend(text: str) -> set[str]:
    """Return the words for answers that `policies/matrix.md` explains, such as `own rows`."""
    [(_, body)] = _sections(text, "Answers", level=2)
    return {row[0] for row in _table(body)[1:]}


def read_functions(text: str) -> dict[str, frozenset[str]]:
    """Return the roles that may call each SQL function, from the table `## Functions`."""
    [(_, body)] = _sections(text, "Functions", level=2)
    allowed: dict[str, frozenset[str]] = {}
    for row in _table(body)[1:]:
        roles = frozenset() if row[1] == "nobody" else frozenset(_list(row[1]))
        if unknown := roles - set(ROLES):
            raise ValueError(f"unknown roles: {sorted(unknown)}")
        for name in _NAME.findall(row[0]):
            if name in allowed:
                raise ValueError(f"{name} is there twice")
            allowed[name] = roles
    return allowed


def read_columns(text: str) -> dict[tuple[str, str, str], frozenset[str]]:
    """Return the permitted columns for each relation, command and role, from the table `## Columns`."""
    [(_, body)] = _sections(text, "Columns", level=2)
    return {
        (relation.strip("`"), command, role): frozenset(_list(columns))
        for relation, command, role, columns in _table(body)[1:]
    }


def _by_actor(rows: list[list[str]]) -> dict[str, list[str]]:
    names = [actor.name for actor in ACTORS]
    answers: dict[str, list[str]] = {}
    for who, *given in rows:
        named = [name for name in names if name not in answers] if who == "everyone else" else _list(who)
        for name in named:
            if name not in names or name in answers:
                raise ValueError(f"unknown, or there twice: {name}")
            answers[name] = given
    if missing := set(names) - set(answers):
        raise ValueError(f"no row for {sorted(missing)}")
    return answers


def _sections(text: str, title: str, level: int = 3) -> list[tuple[str, str]]:
    """Return the section of the matrix file whose `##` heading is this title. If `level` is 3, return the `###`
    subsections of that section with their headings.
    """
    part = text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    if level == 2:
        return [(title, part)]
    return [(heading, body) for heading, _, body in (s.partition("\n") for s in part.split("\n### ")[1:])]


def _table(body: str) -> list[list[str]]:
    lines = [line for line in body.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [cells[0], *cells[2:]]


def _list(cell: str) -> list[str]:
    return [name.strip() for name in cell.split(",")]
