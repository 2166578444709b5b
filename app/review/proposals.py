"""The operations of the database owner on the review: propose rules, adopt the first rules, and import the pairs of
related ids.
"""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from app.errors import InvalidInput
from app.packaged import repository_path
from app.postgres.errors import translate
from app.postgres.owner import as_owner
from app.review.rules_file import MAX_BYTES, ReviewRules, parse

RULES_FILE: Final = repository_path("policies/review.toml")
RELATIONS: Final = ("SELF", "SURNAME", "HOUSEHOLD", "CO_WORKER")
MAX_PAIRS: Final = 100_000
_RELATION_OF: Final = {relation: relation for relation in RELATIONS}
_HEADER: Final = ["staff_user_id", "patient_external_id", "relation"]


@dataclass(frozen=True)
class Pair:
    """A member of staff and a patient who are related."""

    staff_id: UUID
    patient_external_id: str
    relation: str


def read_rules_file(path: Path = RULES_FILE) -> str:
    """Return the text of a rules file. Raises InvalidInput (review_malformed) if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("review_malformed", place=path.name) from error


def propose_rules(owner_url: str, source: str) -> int:
    """Store a version of the rules, on which two officers decide, and return its id. Raises the InvalidInput of
    `parse`, and Conflict (review_policies_name_key) if a version has the same name.
    """
    return (
        _store(owner_url, "review_propose", "select private.propose_review_policy(%s, %s, %s, %s)", source)
        or 0
    )


def adopt_first_rules(owner_url: str, path: Path = RULES_FILE) -> ReviewRules | None:
    """Put the rules file into force and return its rules. Return None if rules were ever proposed. Raises InvalidInput
    like `parse`.
    """
    source = read_rules_file(path)
    made = _store(owner_url, "review_adopt", "select private.adopt_review_policy(%s, %s, %s, %s)", source)
    return None if made is None else parse(source)


def _store(owner_url: str, basis: str, statement: LiteralString, source: str) -> int | None:
    rules = parse(source)
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    made: int | None = _call(owner_url, basis, statement, rules.name, sha256, source, Jsonb(rules.terms))
    return made


def _call(owner_url: str, basis: str, statement: LiteralString, *values: object) -> Any:
    try:
        with as_owner(owner_url) as connection:
            connection.execute("select set_config('resguardo.service_reason', %s, true)", [basis])
            row = connection.execute(statement, values).fetchone()
    except psycopg.Error as error:
        raise translate(error) from error
    return None if row is None else row[0]


def parse_pairs(text: str) -> list[Pair]:
    """Return the pairs in a CSV file with the columns staff_user_id, patient_external_id and relation.

    Raises InvalidInput (pairs_malformed) with the number of the first bad line as `place`.
    """
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    pairs: list[Pair] = []
    number = 1
    try:
        if next(rows, None) != _HEADER:
            raise InvalidInput("pairs_malformed", place="line 1")
        for number, row in enumerate(rows, start=2):
            if len(pairs) >= MAX_PAIRS:
                raise InvalidInput("pairs_malformed", place=f"line {number}")
            staff_id, patient, relation = row
            pairs.append(Pair(UUID(staff_id), patient, _RELATION_OF[relation]))
    except (ValueError, KeyError, csv.Error) as error:
        raise InvalidInput("pairs_malformed", place=f"line {number}") from error
    return pairs


def import_pairs(owner_url: str, pairs: list[Pair], relations: list[str]) -> int:
    """Replace all pairs of the given relations by these pairs, and return how many there are.

    Raises InvalidInput (pairs_malformed) for a pair of another relation, and NotFound (pair_unknown) if an id is
    unknown. After an error, no pair is imported.
    """
    if not relations or not set(relations) <= set(RELATIONS):
        raise InvalidInput("pairs_malformed", place="relation")
    if not {pair.relation for pair in pairs} <= set(relations):
        raise InvalidInput("pairs_malformed", place="relation")
    imported = _call(
        owner_url,
        "import_related_pairs",
        "select private.import_related_pairs(%s, %s, %s, %s)",
        relations,
        [pair.staff_id for pair in pairs],
        [pair.patient_external_id for pair in pairs],
        [pair.relation for pair in pairs],
    )
    return int(imported)
