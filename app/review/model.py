"""Review cases and their dispositions. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.errors import InvalidInput
from app.postgres.references import TimeRange
from app.texts.unsafe_characters import has_unsafe_characters, remove_unsafe_characters

MAX_DISPOSITION_CHARACTERS: Final = 2000


class ReviewRule(StrEnum):
    """The rules of the review. A case has the rule that opened it. The database has the names in lower case."""

    SELF = "SELF"
    SURNAME = "SURNAME"
    HOUSEHOLD = "HOUSEHOLD"
    CO_WORKER = "CO_WORKER"
    NO_RELATIONSHIP = "NO_RELATIONSHIP"
    AFTER_HOURS = "AFTER_HOURS"
    VOLUME = "VOLUME"
    MANY_URLS = "MANY_URLS"
    DOWNLOAD_WITHOUT_PLAYBACK = "DOWNLOAD_WITHOUT_PLAYBACK"
    ROLE_CHANGE = "ROLE_CHANGE"
    BREAK_GLASS = "BREAK_GLASS"
    DENIED_BURST = "DENIED_BURST"
    FAILED_SIGN_INS = "FAILED_SIGN_INS"
    NEW_SECOND_FACTOR = "NEW_SECOND_FACTOR"

    @property
    def slug(self) -> str:
        """Return the name of the rule in the database and in policies/review.toml."""
        return self.value.lower()


class ReviewCaseStatus(StrEnum):
    """The status of a case. A case that is DECIDED never becomes OPEN again."""

    OPEN = "OPEN"
    DECIDED = "DECIDED"


class Disposition(StrEnum):
    """The category of an officer's decision on a case."""

    APPROPRIATE = "APPROPRIATE"
    RULE_TOO_WIDE = "RULE_TOO_WIDE"
    POLICY_VIOLATION = "POLICY_VIOLATION"
    POSSIBLE_BREACH = "POSSIBLE_BREACH"


class ReviewRuleStatus(StrEnum):
    """Whether a rule is evaluated. NOT_EVALUATED rules wait for the practice's import of pairs."""

    EVALUATED = "EVALUATED"
    NOT_EVALUATED = "NOT_EVALUATED"
    OFF = "OFF"


class ReviewPolicyStatus(StrEnum):
    """The status of a version of the rules."""

    PROPOSED = "PROPOSED"
    ACTIVE = "ACTIVE"
    SUPERSEDED = "SUPERSEDED"
    REJECTED = "REJECTED"


@dataclass(frozen=True)
class RuleState:
    """A rule in force, and its number of matches among the events that were evaluated in the last 30 days."""

    rule: ReviewRule
    status: ReviewRuleStatus
    matched_count: int
    evaluated_count: int
    matches_too_much: bool


@dataclass(frozen=True)
class ReviewPolicy:
    """A version of the rules, with the officers who approved it."""

    id: int
    name: str
    status: ReviewPolicyStatus
    sha256: str
    source: str
    proposed_at: datetime
    activated_at: datetime | None
    approved_by: tuple[UUID, ...]


@dataclass(frozen=True)
class ReviewCaseFilter:
    """A filter for cases. A field that is None matches every case."""

    statuses: tuple[ReviewCaseStatus, ...] | None = None
    rules: tuple[ReviewRule, ...] | None = None
    subject_id: UUID | None = None
    assigned_to: UUID | None = None
    opened: TimeRange = field(default_factory=TimeRange)


def check_disposition_text(text: str) -> str:
    """Return the text of a disposition in NFC, with single spaces between words.

    Raises InvalidInput (disposition_characters, disposition_too_long, disposition_empty).
    """
    if has_unsafe_characters(text):
        raise InvalidInput("disposition_characters")
    found = remove_unsafe_characters(text)
    if max(len(text), len(found)) > MAX_DISPOSITION_CHARACTERS:
        raise InvalidInput("disposition_too_long", maximum=MAX_DISPOSITION_CHARACTERS)
    if not found:
        raise InvalidInput("disposition_empty")
    return found
