"""Drifts: the differences between the files in `policies/` and the bucket or the database. Each drift has a code
and a sentence that explains it. Pure.

A drift is written to the log and the audit log, so it contains only ids and the names of rules, prefixes, hosts and
database objects.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.bucket.model import HOLD, Part, deletes, is_locked, threatens
from app.bucket.rule_plan import Line, PartPlan, Sign
from app.integrations.cloudflare.client import LockRule, PublicDomain
from app.integrations.storage.rules import LifecycleRule

AT_MOST: Final = 200
"""The maximum number of drifts of one topic that are listed one by one."""


class Topic(StrEnum):
    """A topic of the bucket check: one kind of setting that is compared with the files in `policies/`."""

    LIFECYCLE = "lifecycle"
    CORS = "cors"
    LOCKS = "locks"
    DOMAINS = "domains"
    ANONYMOUS = "anonymous"
    UPLOADS = "uploads"
    HOLDS = "holds"
    ACCESS = "access"


_OF_PART: Final = {Part.LIFECYCLE: Topic.LIFECYCLE, Part.CORS: Topic.CORS, Part.LOCKS: Topic.LOCKS}
_OF_SIGN: Final = {
    Sign.ADD: "rule_missing",
    Sign.CHANGE: "rule_differs",
    Sign.REMOVE: "rule_surplus",
    Sign.FOREIGN: "rule_foreign",
}
_SENTENCES: Final[Mapping[str, str]] = {
    "rule_missing": "the bucket lacks a rule that policies/bucket contains",
    "rule_differs": "a rule of the bucket differs from the rule in policies/bucket",
    "rule_surplus": "the bucket has a rule of ours that policies/bucket does not contain",
    "rule_foreign": "somebody else added a rule to the bucket",
    "rule_threatens": "a rule of the bucket would delete objects that must stay",
    "r2dev_enabled": "everyone can read the bucket at its r2.dev address",
    "custom_domain": "a domain is attached to the bucket",
    "served": "an address answered a request without a key",
    "upload_unfinished": "unfinished uploads are older than the bucket's rule allows",
    "hold_unprotected": "the bucket may delete held objects, because no lock protects them",
    "hold_left_behind": "a lock of a hold protects a prefix where nothing is held any more",
    "deleted_too_early": "the bucket would delete a recording before it is due",
    "policy_version": "the database has another version of policies/access than this release",
    "access_changed": "rights in the database were changed by hand",
    "and_more": "there are more differences of this kind",
}


@dataclass(frozen=True)
class Drift:
    """One difference between the files in `policies/` and the bucket or the database."""

    topic: Topic
    code: str
    subject: str
    consultation_id: UUID | None = None

    def __str__(self) -> str:
        return f"{self.topic.value}: {_SENTENCES[self.code]} ({self.code}): {self.subject}"


@dataclass(frozen=True)
class Inspection:
    """The result of a check of the bucket: the drifts, and an error code for each topic that could not be checked."""

    drifts: tuple[Drift, ...]
    unchecked: Mapping[Topic, str]

    @property
    def checked(self) -> tuple[Topic, ...]:
        """Return the topics that were checked."""
        return tuple(topic for topic in Topic if topic not in self.unchecked)


@dataclass(frozen=True)
class Prefix:
    """The folder of a consultation in the bucket. A consultation's folder needs no protection before one of its
    recordings is finished.
    """

    consultation_id: UUID
    prefix: str
    is_finished: bool


def find_rule_drifts(plans: Iterable[PartPlan]) -> list[Drift]:
    """Return a drift for each difference in the plans for the bucket's rules. A lifecycle rule that somebody else
    added is a drift only if the rule deletes objects.
    """
    return [found for plan in plans for line in plan.lines if (found := _find_line_drift(line)) is not None]


def _find_line_drift(line: Line) -> Drift | None:
    code = _OF_SIGN[line.sign]
    if isinstance(line.rule, LifecycleRule) and line.sign is Sign.FOREIGN:
        if not deletes(line.rule):
            return None
        code = "rule_threatens" if threatens(line.rule) else code
    return Drift(_OF_PART[line.part], code, line.rule.id or "(no id)")


def find_domain_drifts(managed: PublicDomain, custom: Iterable[PublicDomain]) -> list[Drift]:
    """Return a drift for an enabled r2.dev address, and for each attached domain, enabled or not."""
    found = [Drift(Topic.DOMAINS, "r2dev_enabled", managed.domain)] if managed.enabled else []
    return found + [Drift(Topic.DOMAINS, "custom_domain", one.domain) for one in custom]


def find_address_drifts(served_hosts: Iterable[str]) -> list[Drift]:
    """Return a drift for each host that answered a request without a key."""
    return [Drift(Topic.ANONYMOUS, "served", host) for host in sorted(set(served_hosts))]


def find_upload_drifts(old_keys: Iterable[str]) -> list[Drift]:
    """Return one drift for each top-level folder that contains old unfinished uploads. A drift for unfinished
    uploads names only the top-level folder, not the keys.
    """
    places = sorted({key.partition("/")[0] + "/" if "/" in key else key for key in old_keys})
    return [Drift(Topic.UPLOADS, "upload_unfinished", place) for place in places]


def find_hold_drifts(
    held: Sequence[Prefix], endangered: Sequence[Prefix], locks: Collection[LockRule] | None
) -> list[Drift]:
    """Return a drift for each prefix under which the bucket could delete objects that are held or not due yet. Also
    return a drift for each lock of a hold that no longer protects any object.

    If `locks` is None, because Cloudflare's API is not configured, every held object under r/ is a drift.
    """
    current_locks = tuple(locks or ())
    found = [
        Drift(Topic.HOLDS, code, one.prefix, one.consultation_id)
        for code, prefixes in (("hold_unprotected", held), ("deleted_too_early", endangered))
        for one in prefixes
        if one.is_finished and not is_locked(one.prefix, current_locks)
    ]
    return found + [
        Drift(Topic.HOLDS, "hold_left_behind", lock.prefix)
        for lock in current_locks
        if lock.id.startswith(HOLD)
        and not any(one.prefix.startswith(lock.prefix) for one in (*held, *endangered))
    ]


def find_access_drifts(policy_version: str, expected_version: str, changed: Iterable[str]) -> list[Drift]:
    """Return a drift if the database has a different version of policies/access than this release, and one for each
    database object whose rights somebody changed by hand.
    """
    found = [Drift(Topic.ACCESS, "access_changed", name) for name in changed]
    if policy_version != expected_version:
        found.insert(0, Drift(Topic.ACCESS, "policy_version", policy_version))
    return found


def limit_drifts(drifts: Sequence[Drift]) -> tuple[Drift, ...]:
    """Return each drift once, with at most `AT_MOST` drifts of a topic. If a topic has more drifts, one additional
    drift (`and_more`) represents those that are not listed.
    """
    kept: list[Drift] = []
    for topic in Topic:
        of_topic = list(dict.fromkeys(one for one in drifts if one.topic is topic))
        kept += of_topic[:AT_MOST]
        if len(of_topic) > AT_MOST:
            kept.append(Drift(topic, "and_more", "and more"))
    return tuple(kept)
