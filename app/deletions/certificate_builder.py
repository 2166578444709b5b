"""Builds the certificate of a deletion from the facts of the database and the bucket. Pure."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter

from app.certificates.model import (
    AppliedPolicy,
    Certificate,
    ClearedTextRows,
    DestroyedKey,
    DestroyedObject,
    Ground,
    HoldCheck,
    SurvivingNote,
    compute_backups_until,
)

OTHER: Final = "other"
"""The kind of an object whose file name is not one of ours, because the name itself could reveal something."""

_KIND = re.compile(r"[a-z0-9][a-z0-9-]{0,54}\.[a-z0-9]{2,8}")
_ETAG = re.compile(r"[0-9A-Za-z+/=:._-]{1,128}")


@dataclass(frozen=True)
class _Policy:
    name: str
    sha256: str
    due_at: datetime | None
    term_days: int | None


@dataclass(frozen=True)
class _Key:
    kind: str
    fingerprint: str
    root_key_id: str
    destroyed_at: datetime


@dataclass(frozen=True)
class _Object:
    key: str
    size_bytes: int
    etag: str
    sha256: str | None
    deleted_at: datetime
    gone_at: datetime


@dataclass(frozen=True)
class _Cleared:
    table: str
    rows: int


@dataclass(frozen=True)
class _Note:
    signed_note_id: UUID
    versions: tuple[str, ...]
    quotes: int
    due_at: datetime | None


@dataclass(frozen=True)
class Facts:
    """The facts that `private.shred_keys` returns for one deletion, or `private.destroy_due_notes` for one signed
    note.
    """

    recording_id: UUID
    consultation_id: UUID
    ground: Ground
    reason: str | None
    requested_at: datetime | None
    policy: _Policy | None
    hold_checked_at: datetime
    destroyed_at: datetime
    keys: tuple[_Key, ...]
    text_rows: tuple[_Cleared, ...]
    number: int
    repeats: str | None
    objects: tuple[_Object, ...]
    signed_note_id: UUID | None
    surviving_notes: tuple[_Note, ...]


_facts = TypeAdapter(Facts)


def build_certificate(
    stored_facts: dict[str, object], *, deployment: str, backup_retention_days: int
) -> Certificate:
    """Return the unsigned certificate of a deletion. The same facts always give the same certificate. Raises
    ValueError if the facts contradict each other.
    """
    facts = _facts.validate_python(stored_facts)
    return Certificate(
        deployment=deployment,
        recording_id=facts.recording_id,
        consultation_id=facts.consultation_id,
        ground=facts.ground,
        reason=facts.reason,
        requested_at=facts.requested_at,
        policy=None
        if facts.policy is None
        else AppliedPolicy(
            facts.policy.name, facts.policy.sha256, facts.policy.term_days, facts.policy.due_at
        ),
        hold_check=HoldCheck(facts.hold_checked_at),
        objects=tuple(_describe_object(one) for one in facts.objects),
        keys=tuple(
            DestroyedKey(one.kind, one.fingerprint, one.root_key_id, one.destroyed_at) for one in facts.keys
        ),
        text_rows_cleared=tuple(ClearedTextRows(one.table, one.rows) for one in facts.text_rows),
        destroyed_at=facts.destroyed_at,
        backups_until=compute_backups_until(facts.destroyed_at, backup_retention_days),
        issued_at=facts.destroyed_at,
        number=facts.number,
        repeats=facts.repeats,
        signed_note_id=facts.signed_note_id,
        surviving_notes=tuple(
            SurvivingNote(one.signed_note_id, one.versions, one.quotes, one.due_at)
            for one in facts.surviving_notes
        ),
    )


def _describe_object(one: _Object) -> DestroyedObject:
    name = one.key.rsplit("/", 1)[-1]
    return DestroyedObject(
        key_sha256=hashlib.sha256(one.key.encode()).hexdigest(),
        kind=name if _KIND.fullmatch(name) else OTHER,
        size_bytes=one.size_bytes,
        sha256=one.sha256,
        etag=one.etag if _ETAG.fullmatch(one.etag) else None,
        deleted_at=one.deleted_at,
        head_at=one.gone_at,
    )
