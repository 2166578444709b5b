"""Retention policies: their terms, the differences between two policies, and the dates on which recordings are due.
Pure.

This module deletes no recording and puts no policy into force. When an officer approves a policy, the database
checks again whether it shortens terms (private.approve_policy).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

LAST_DAY_BEGINS: Final = timedelta(hours=12)
"""How long after midnight in UTC a day has begun everywhere on earth (UTC-12)."""

Days = Annotated[int, Field(ge=1, le=36_500)]
Years = Annotated[int, Field(ge=1, le=100)]


class PolicyStatus(StrEnum):
    """The status of a version of the retention policy."""

    PROPOSED = "PROPOSED"
    ACTIVE = "ACTIVE"
    SUPERSEDED = "SUPERSEDED"
    REJECTED = "REJECTED"


@dataclass(frozen=True)
class Terms:
    """Retention terms in days."""

    recording_days: int
    signed_note_days: int


@dataclass(frozen=True)
class RetentionPolicy:
    """One version of the retention policy file. If `minors_until_age_years` is None, the policy has no rule for
    minors.
    """

    name: str
    default: Terms
    kinds: Mapping[str, Terms]
    minors_until_age_years: int | None
    grace_days: int
    jurisdiction: str | None
    applies_to_existing: bool

    def terms_of(self, kind: str | None) -> Terms:
        """Return the retention terms for a kind of consultation. If the kind is None or the policy does not list
        it, the default terms apply.
        """
        return self.default if kind is None else self.kinds.get(kind, self.default)

    @property
    def terms(self) -> dict[str, object]:
        """Return the terms of the policy in the form in which the database stores them."""
        minors = self.minors_until_age_years
        return {
            "grace_days": self.grace_days,
            "default": vars(self.default),
            "kinds": {kind: vars(terms) for kind, terms in self.kinds.items()},
            "minors": None if minors is None else {"until_age_years": minors},
            "jurisdiction": self.jurisdiction,
            "applies_to_existing": self.applies_to_existing,
        }

    @classmethod
    def of_terms(cls, name: str, terms: Mapping[str, object]) -> "RetentionPolicy":
        """Return a retention policy from the form in which the database stores its terms. Raises ValidationError if
        the stored value does not have the form that `terms` returns.
        """
        kept = _Kept.model_validate(terms)
        return cls(
            name=name,
            default=Terms(**vars(kept.default)),
            kinds={kind: Terms(**vars(each)) for kind, each in kept.kinds.items()},
            minors_until_age_years=read_age_of_majority(kept.minors),
            grace_days=kept.grace_days,
            jurisdiction=kept.jurisdiction,
            applies_to_existing=kept.applies_to_existing,
        )


@dataclass(frozen=True)
class Change:
    """A difference between two retention policies at one place of the policy file. `before` or `after` is None if
    the policy before or after the change has no value at this place.
    """

    place: str
    before: int | str | None
    after: int | str | None

    @property
    def is_shorter(self) -> bool:
        """Return whether the change shortens a term, or removes or replaces the jurisdiction whose minimum terms
        applied.
        """
        if isinstance(self.before, str) or isinstance(self.after, str):
            return self.before is not None
        return (self.after or 0) < (self.before or 0)


@dataclass(frozen=True)
class KeptPolicy:
    """A stored version of the retention policy. `shortens` means that the policy shortened terms when it was last
    checked, so that two officers must approve it.
    """

    id: int
    policy: RetentionPolicy
    status: PolicyStatus
    sha256: str
    shortens: bool
    proposed_at: datetime
    activated_at: datetime | None
    approved_by: tuple[UUID, ...]


@dataclass(frozen=True)
class MonthOfDeletions:
    """The recordings and the signed notes that become due in one month under a new policy. `sooner` counts the
    recordings that the new policy makes due earlier, and `held` counts those that a legal hold protects. `held_notes`
    counts the signed notes that a legal hold protects.
    """

    month: date
    recordings: int
    size_bytes: int
    sooner: int
    held: int
    notes: int
    held_notes: int


@dataclass(frozen=True)
class Preview:
    """The effect of a retention policy on existing recordings, which is empty if the policy does not apply to
    existing recordings. `earliest_due_at` is the earliest date on which an existing recording becomes due.
    """

    months: tuple[MonthOfDeletions, ...]
    earliest_due_at: datetime | None


def compute_sha256(text: str) -> str:
    """Return the SHA-256, in hex, that identifies a version of the retention policy file."""
    return hashlib.sha256(text.encode()).hexdigest()


def compare_policies(before: RetentionPolicy, after: RetentionPolicy) -> tuple[Change, ...]:
    """Return all differences between two policies: the jurisdiction, and the terms of each kind of consultation."""
    found = [
        Change("jurisdiction", before.jurisdiction, after.jurisdiction),
        Change("deletion.grace_days", before.grace_days, after.grace_days),
        Change("minors.until_age_years", before.minors_until_age_years, after.minors_until_age_years),
    ]
    for kind in (None, *sorted({*before.kinds, *after.kinds})):
        place = "default" if kind is None else f"kinds.{kind}"
        old, new = before.terms_of(kind), after.terms_of(kind)
        found.append(Change(f"{place}.recording_days", old.recording_days, new.recording_days))
        found.append(Change(f"{place}.signed_note_days", old.signed_note_days, new.signed_note_days))
    return tuple(change for change in found if change.before != change.after)


def find_shortened_places(before: RetentionPolicy, after: RetentionPolicy) -> tuple[str, ...]:
    """Return the places of the policy file at which a term becomes shorter or loses its minimum. Two compliance
    officers must approve a policy that shortens terms.
    """
    return tuple(change.place for change in compare_policies(before, after) if change.is_shorter)


def compute_due_at(
    policy: RetentionPolicy, kind: str, birth_date: date | None, counted_from: datetime
) -> datetime:
    """Return when a recording is due for destruction. The recording's retention term starts at `counted_from`. The
    recording of a minor is not due before the patient comes of age, if the policy has a rule for minors.
    """
    due = counted_from.astimezone(UTC) + timedelta(days=policy.terms_of(kind).recording_days)
    if birth_date is None or policy.minors_until_age_years is None:
        return due
    return max(due, compute_coming_of_age(birth_date, policy.minors_until_age_years))


def compute_coming_of_age(birth_date: date, years: int) -> datetime:
    """Return the time at which the birthday has begun everywhere on earth. If the person was born on 29 February
    and the year has no such day, the birthday is 1 March.
    """
    birthday = date(birth_date.year + years, birth_date.month, 1) + timedelta(days=birth_date.day - 1)
    return datetime(birthday.year, birthday.month, birthday.day, tzinfo=UTC) + LAST_DAY_BEGINS


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TermsTable(StrictModel):
    recording_days: Days
    signed_note_days: Days


class MinorsTable(StrictModel):
    until_age_years: Years


class _Kept(StrictModel):
    grace_days: int
    default: TermsTable
    kinds: dict[str, TermsTable]
    minors: MinorsTable | None
    jurisdiction: str | None
    applies_to_existing: bool


def read_age_of_majority(minors: MinorsTable | None) -> int | None:
    return None if minors is None else minors.until_age_years
