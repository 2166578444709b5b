"""The content of a certificate of destruction. Pure. It contains only ids, digests, times and words of a fixed
vocabulary.

A certificate reveals nothing about the content of the recording or its patient. Only the practice can look up the
consultation's id. The model cannot represent a destruction under a hold, or an object that did not answer 404.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from app.certificates.canonical import MAX_INTEGER, canonical, parsed
from app.certificates.shapes import AtMost, Between, Pattern, from_plain, to_plain
from app.errors import InvalidInput

FORMAT = "resguardo-certificate-1"
MAX_OBJECTS = 1_000

Format = Annotated[str, Pattern(FORMAT)]
Digest = Annotated[str, Pattern("[0-9a-f]{64}")]
Slug = Annotated[str, Pattern("[a-z][a-z0-9_]{0,63}")]
"""A word of our vocabulary in snake_case."""
Deployment = Annotated[str, Pattern("[a-z][a-z0-9-]{1,38}[a-z0-9]")]
PolicyName = Annotated[str, Pattern("[0-9A-Za-z][0-9A-Za-z ._-]{0,63}")]
FileName = Annotated[str, Pattern("[a-z0-9][a-z0-9._-]{0,63}")]
ETag = Annotated[str, Pattern("[0-9A-Za-z+/=:._-]{1,128}")]
RootKeyId = Annotated[str, Pattern("[a-z0-9-]{1,32}")]
TableName = Annotated[str, Pattern("[a-z][a-z0-9_]{0,63}([.][a-z][a-z0-9_]{0,63})?")]
Size = Annotated[int, Between(0, MAX_INTEGER)]
"""A size in bytes."""
Count = Annotated[int, Between(0, MAX_INTEGER)]


class Ground(StrEnum):
    """The ground of a destruction: the term was over, somebody asked for it, the object was missing, or a restore
    had brought it back.
    """

    RETENTION = "RETENTION"
    REQUEST = "REQUEST"
    MISSING = "MISSING"
    RESTORE = "RESTORE"


@dataclass(frozen=True)
class AppliedPolicy:
    """The version of the retention policy. `term_days` and `due_at` are None if the policy set no term for this
    recording.
    """

    name: PolicyName
    sha256: Digest
    term_days: Annotated[int, Between(0, 36_525)] | None
    due_at: datetime | None


@dataclass(frozen=True)
class HoldCheck:
    """When holds and open access requests were checked. `holds` is always empty, because a hold forbids the
    destruction.
    """

    checked_at: datetime
    holds: tuple[UUID, ...] = ()

    def __post_init__(self) -> None:
        if self.holds:
            raise ValueError("held: it may not have been destroyed")


@dataclass(frozen=True)
class DestroyedObject:
    """An object of the bucket, named by the SHA-256 of its key. Size, digest and ETag are None if they were never
    known.

    `kind` is the file name, such as `video.mp4`. `head_status` is the bucket's answer to a HEAD request at
    `head_at`.
    """

    key_sha256: Digest
    kind: FileName
    size_bytes: Size | None
    sha256: Digest | None
    etag: ETag | None
    deleted_at: datetime
    head_at: datetime
    head_status: Annotated[int, Between(404, 404)] = 404


@dataclass(frozen=True)
class DestroyedKey:
    """A data key, named by the SHA-256 of its wrapped bytes. The key is gone for good once no backup contains these
    bytes.
    """

    kind: Slug
    wrapped_key_sha256: Digest
    root_key_id: RootKeyId
    destroyed_at: datetime


@dataclass(frozen=True)
class ClearedWords:
    """How many rows of a table lost their text or were deleted."""

    table: TableName
    rows: Count


@dataclass(frozen=True)
class Certificate:
    """The destruction of one recording.

    `requested_at` is None if the term ended. `policy` is None if none was in force. `number` counts the
    destructions of this recording: a second one happens after a restore brought it back. `repeats` is then the
    SHA-256 of the previous signed file, or None if it is unknown. On the day `backups_until` the last backup with
    the recording's data has expired.
    """

    deployment: Deployment
    recording_id: UUID
    consultation_id: UUID
    ground: Ground
    reason: Slug | None
    requested_at: datetime | None
    policy: AppliedPolicy | None
    hold_check: HoldCheck
    objects: Annotated[tuple[DestroyedObject, ...], AtMost(MAX_OBJECTS)]
    keys: Annotated[tuple[DestroyedKey, ...], AtMost(100)]
    words_cleared: Annotated[tuple[ClearedWords, ...], AtMost(100)]
    destroyed_at: datetime
    backups_until: date
    issued_at: datetime
    number: Annotated[int, Between(1, 1_000_000)] = 1
    repeats: Digest | None = None
    format: Format = FORMAT

    def __post_init__(self) -> None:
        if self.ground is Ground.RETENTION and (self.policy is None or self.requested_at is not None):
            raise ValueError("a term has a policy, and nobody asks for its end")
        if self.ground is Ground.REQUEST and self.requested_at is None:
            raise ValueError("a request has its moment")
        if self.number == 1 and self.repeats is not None:
            raise ValueError("the first repeats none")


def backups_until(destroyed_at: datetime, retention_days: int) -> date:
    """Return the day, in UTC, on which a backup made just before the destruction expires."""
    return (destroyed_at.astimezone(UTC) + timedelta(days=retention_days)).date()


def certificate_bytes(certificate: Certificate) -> bytes:
    """Return the canonical JSON of the certificate. Raises ValueError for forbidden content, such as a name in
    place of a reason.
    """
    plain = to_plain(certificate)
    if to_plain(from_plain(Certificate, plain)) != plain:
        raise ValueError("does not read as it was written")
    return canonical(plain)


def certificate_from(content: bytes) -> Certificate:
    """Return the certificate in canonical JSON. Raises InvalidInput (certificate_malformed)."""
    try:
        return from_plain(Certificate, parsed(content))
    except ValueError:
        raise InvalidInput("certificate_malformed") from None
