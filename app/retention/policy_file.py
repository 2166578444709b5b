"""Reads policies/retention.toml strictly, and refuses terms that are shorter than the minimum terms (floors) of the
practice's jurisdiction. Pure.
"""

import tomllib
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field, ValidationError

from app.errors import InvalidInput
from app.retention.model import (
    Days,
    MinorsTable,
    RetentionPolicy,
    StrictModel,
    Terms,
    TermsTable,
    Years,
    read_age_of_majority,
)

MAX_BYTES: Final = 64_000
_Kind = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]


def parse(text: str) -> RetentionPolicy:
    """Return the retention policy in a policy file, after checking that it is complete and keeps the minimum terms
    of its jurisdiction.

    Raises InvalidInput with the `place` of the error in the file. retention_term_absurd means that a term is not 1
    to 36,500 days, or that an age is not 1 to 100 years. retention_jurisdiction_unknown means that the file has no
    minimum terms for its jurisdiction. The remaining reasons are retention_malformed, retention_unknown_key,
    retention_kinds_overlap and retention_below_floor.
    """
    file = _read(text)
    policy = RetentionPolicy(
        name=file.name,
        default=Terms(file.default.recording_days, file.default.signed_note_days),
        kinds=dict(_kinds(file)),
        minors_until_age_years=read_age_of_majority(file.minors),
        grace_days=file.deletion.grace_days,
        jurisdiction=file.jurisdiction,
        applies_to_existing=file.applies_to_existing,
    )
    if file.jurisdiction is not None:
        if file.jurisdiction not in file.floors:
            raise InvalidInput("retention_jurisdiction_unknown", place=f"floors.{file.jurisdiction}")
        _require_floor(policy, file.floors[file.jurisdiction])
    return policy


class _KindTerms(StrictModel):
    kinds: Annotated[list[_Kind], Field(min_length=1)]
    recording_days: Days | None = None
    signed_note_days: Days | None = None


class _Deletion(StrictModel):
    grace_days: Days


class _Floor(StrictModel):
    recording_days: Days | None = None
    signed_note_days: Days | None = None
    until_age_years: Years | None = None


class _File(StrictModel):
    name: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z ._-]{0,63}$")]
    jurisdiction: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9-]{0,15}$")] | None = None
    applies_to_existing: bool
    default: TermsTable
    kinds: list[_KindTerms] = Field(default_factory=list)
    minors: MinorsTable | None = None
    deletion: _Deletion
    floors: dict[str, _Floor] = Field(default_factory=dict)


def _read(text: str) -> _File:
    try:
        if len(text.encode()) > MAX_BYTES:
            raise InvalidInput("retention_malformed", place="size")
        return _File.model_validate(tomllib.loads(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _refusal(first["type"], ".".join(map(str, first["loc"])) or "file") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput("retention_malformed", place="syntax") from error


def _refusal(kind: str, place: str) -> InvalidInput:
    match kind:
        case "extra_forbidden":
            return InvalidInput("retention_unknown_key", place=place)
        case "greater_than_equal" | "less_than_equal":
            return InvalidInput("retention_term_absurd", place=place)
        case _:
            return InvalidInput("retention_malformed", place=place)


def _kinds(file: _File) -> Iterator[tuple[str, Terms]]:
    seen: set[str] = set()
    for number, group in enumerate(file.kinds):
        terms = Terms(
            group.recording_days or file.default.recording_days,
            group.signed_note_days or file.default.signed_note_days,
        )
        for kind in group.kinds:
            if kind in seen:
                raise InvalidInput("retention_kinds_overlap", place=f"kinds.{number}.{kind}")
            seen.add(kind)
            yield kind, terms


def _require_floor(policy: RetentionPolicy, floor: _Floor) -> None:
    for kind in (None, *policy.kinds):
        terms, place = policy.terms_of(kind), "default" if kind is None else f"kinds.{kind}"
        _require(f"{place}.recording_days", terms.recording_days, floor.recording_days)
        _require(f"{place}.signed_note_days", terms.signed_note_days, floor.signed_note_days)
    _require("minors.until_age_years", policy.minors_until_age_years, floor.until_age_years)


def _require(place: str, given: int | None, floor: int | None) -> None:
    if (given or 0) < (floor or 0):
        raise InvalidInput("retention_below_floor", place=place, given=given or 0, floor=floor or 0)
