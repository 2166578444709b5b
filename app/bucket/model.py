"""Derives the rules that the bucket must have from the files of `policies/bucket`, and describes a rule in words.
Pure.

The id of a rule shows who created the rule. Our lifecycle rules have an id that begins with `backstop-`, or the id
`unfinished-uploads`. Our CORS rule has the id `web-app`. The ids of our permanent locks begin with `fixed-`. A lock
whose id begins with `hold-` belongs to app/holds. A rule with any other id is foreign: somebody else created it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.bucket.policy_documents import NEVER, NEVER_UNDER, Documents, overlap
from app.errors import InvalidInput
from app.integrations.cloudflare.client import LockRule
from app.integrations.storage.rules import CorsRule, LifecycleRule

BACKSTOP: Final = "backstop-"
UNFINISHED: Final = "unfinished-uploads"
WEB_APP: Final = "web-app"
FIXED: Final = "fixed-"
HOLD: Final = "hold-"

Rule = LifecycleRule | CorsRule | LockRule


class Part(StrEnum):
    """One part of the bucket's configuration: lifecycle rules, CORS rules or lock rules."""

    LIFECYCLE = "lifecycle"
    CORS = "cors"
    LOCKS = "locks"


@dataclass(frozen=True)
class Rules:
    """All rules of a bucket: its lifecycle rules, CORS rules and lock rules. A part is None if its rules could not
    be read.
    """

    lifecycle: tuple[LifecycleRule, ...] | None
    cors: tuple[CorsRule, ...] | None
    locks: tuple[LockRule, ...] | None

    def of(self, part: Part) -> Sequence[Rule] | None:
        """Return the rules of one part of the bucket's configuration."""
        found: dict[Part, Sequence[Rule] | None] = {
            Part.LIFECYCLE: self.lifecycle,
            Part.CORS: self.cors,
            Part.LOCKS: self.locks,
        }
        return found[part]


def derive_rules(documents: Documents, terms_in_days: Collection[int], origins: Collection[str]) -> Rules:
    """Return the rules that the bucket must have according to `policies/bucket`.

    `terms_in_days` are the retention terms in use, which may include terms that the documents do not list. If
    `origins` is empty, no web page may use the bucket. Raises InvalidInput("bucket_policy_unsafe") if a retention
    term is shorter than one day.
    """
    return Rules(
        _derive_lifecycle(documents, terms_in_days),
        _derive_cors(documents, origins),
        _derive_locks(documents),
    )


def _derive_lifecycle(documents: Documents, terms_in_days: Collection[int]) -> tuple[LifecycleRule, ...]:
    of = documents.lifecycle
    terms = sorted({*of.recordings.terms_in_days, *terms_in_days})
    if terms[0] < 1:
        raise InvalidInput("bucket_policy_unsafe", file="lifecycle.json", field="recordings.terms_in_days")
    return (
        *(
            LifecycleRule(
                id=f"{BACKSTOP}d{days}",
                prefix=of.recordings.under.replace("<term>", str(days)),
                delete_after_days=days + of.recordings.days_after_the_term,
            )
            for days in terms
        ),
        LifecycleRule(f"{BACKSTOP}exports", of.exports.under, delete_after_days=of.exports.days),
        LifecycleRule(UNFINISHED, "", abort_uploads_after_days=of.unfinished_uploads.days),
    )


def _derive_cors(documents: Documents, origins: Collection[str]) -> tuple[CorsRule, ...]:
    of = documents.cors.web_app
    if not origins:
        return ()
    return (
        CorsRule(
            id=WEB_APP,
            origins=tuple(sorted(origins)),
            methods=tuple(sorted(of.may)),
            headers=tuple(sorted(of.with_headers)),
            exposed=tuple(sorted(of.may_read_headers)),
            max_age_seconds=of.remembered_for_seconds,
        ),
    )


def _derive_locks(documents: Documents) -> tuple[LockRule, ...]:
    return tuple(LockRule(FIXED + lock.name, lock.under) for lock in documents.locks.for_ever)


def is_ours(rule: Rule) -> bool:
    """Return whether the rule's id is one that only rules of `policies/bucket` have."""
    match rule:
        case LifecycleRule():
            return rule.id.startswith(BACKSTOP) or rule.id == UNFINISHED
        case CorsRule():
            return rule.id == WEB_APP
        case LockRule():
            return rule.id.startswith(FIXED)


def is_of_a_hold(rule: Rule) -> bool:
    """Return whether the rule is a lock that app/holds created for legal holds."""
    return isinstance(rule, LockRule) and rule.id.startswith(HOLD)


def deletes(rule: LifecycleRule) -> bool:
    """Return whether the lifecycle rule deletes objects, or has an action that this module does not know and that
    might delete objects.
    """
    return rule.enabled and (rule.delete_after_days is not None or bool(rule.other))


def threatens(rule: LifecycleRule) -> tuple[str, ...]:
    """Return the protected prefixes and object keys whose objects the lifecycle rule would delete."""
    if not deletes(rule):
        return ()
    return (
        *(one for one in NEVER_UNDER if overlap(rule.prefix, one)),
        *(one for one in NEVER if one.startswith(rule.prefix)),
    )


def is_locked(prefix: str, locks: Sequence[LockRule]) -> bool:
    """Return whether an enabled lock that never expires covers all objects under the prefix."""
    return any(lock.enabled and lock.is_indefinite and prefix.startswith(lock.prefix) for lock in locks)


def describe_rule(rule: Rule) -> str:
    """Return a description of the rule in English."""
    match rule:
        case LifecycleRule():
            return _describe_lifecycle(rule)
        case CorsRule():
            return (
                f"pages of {_join(rule.origins)} may {_join(rule.methods)}"
                f" with the headers {_join(rule.headers) or 'none'}"
            )
        case LockRule():
            return _describe_lock(rule)


def _describe_lifecycle(rule: LifecycleRule) -> str:
    does = []
    if rule.delete_after_days is not None:
        does.append(
            f"deletes {_describe_prefix(rule.prefix)} {rule.delete_after_days} days after they were stored"
        )
    if rule.abort_uploads_after_days is not None:
        does.append(
            f"ends uploads of {_describe_prefix(rule.prefix)} {rule.abort_uploads_after_days} days after they began"
        )
    if rule.other:
        does.append(f"has unknown actions on {_describe_prefix(rule.prefix)} ({_join(rule.other)})")
    return _unless_disabled(rule.enabled, " and ".join(does) or "does nothing")


def _describe_lock(rule: LockRule) -> str:
    until = "without end"
    if rule.max_age_seconds is not None:
        until = f"until they are {rule.max_age_seconds} seconds old"
    elif rule.until is not None:
        until = f"until {rule.until:%Y-%m-%d %H:%M} UTC"
    return _unless_disabled(rule.enabled, f"locks {_describe_prefix(rule.prefix)} {until}")


def _describe_prefix(prefix: str) -> str:
    return f"objects under {prefix}" if prefix else "all objects"


def _join(names: Sequence[str]) -> str:
    return ", ".join(names)


def _unless_disabled(enabled: bool, description: str) -> str:
    return description if enabled else f"is disabled ({description})"
