"""What a certificate of destruction says. Pure, and it names nobody: ids, digests, moments and words of our own alone.

It says nothing of what was said or seen, nor whose it was: the consultation's id leads there, for those who may ask.
It cannot say that something was destroyed while a hold stood, or that an object answered otherwise than 404.
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
"""A word of our own in snake_case."""
Deployment = Annotated[str, Pattern("[a-z][a-z0-9-]{1,38}[a-z0-9]")]
PolicyName = Annotated[str, Pattern("[0-9A-Za-z][0-9A-Za-z ._-]{0,63}")]
FileName = Annotated[str, Pattern("[a-z0-9][a-z0-9._-]{0,63}")]
ETag = Annotated[str, Pattern("[0-9A-Za-z+/=:._-]{1,128}")]
RootKeyId = Annotated[str, Pattern("[a-z0-9-]{1,32}")]
TableName = Annotated[str, Pattern("[a-z][a-z0-9_]{0,63}([.][a-z][a-z0-9_]{0,63})?")]
Size = Annotated[int, Between(0, MAX_INTEGER)]
"""Bytes."""
Count = Annotated[int, Between(0, MAX_INTEGER)]


class Ground(StrEnum):
    """Why it was destroyed: its term was over, somebody asked, nothing was there, or a restore had brought it back."""

    RETENTION = "RETENTION"
    REQUEST = "REQUEST"
    MISSING = "MISSING"
    RESTORE = "RESTORE"


@dataclass(frozen=True)
class AppliedPolicy:
    """The version of the retention policy; `term_days` and `due_at` are None where it set none for this one."""

    name: PolicyName
    sha256: Digest
    term_days: Annotated[int, Between(0, 36_525)] | None
    due_at: datetime | None


@dataclass(frozen=True)
class HoldCheck:
    """When holds and open access requests were looked for; `holds` is empty, for none may have stood."""

    checked_at: datetime
    holds: tuple[UUID, ...] = ()

    def __post_init__(self) -> None:
        if self.holds:
            raise ValueError("held: it may not have been destroyed")


@dataclass(frozen=True)
class DestroyedObject:
    """An object of the bucket, by the SHA-256 of its key; size, digest and ETag are None where they never were known.

    `kind` is its file name, `video.mp4`. `head_status` is what the bucket answered at `head_at` when asked for it.
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
    """A data key, by the SHA-256 of its wrapped bytes; it is gone for good once no backup has those."""

    kind: Slug
    wrapped_key_sha256: Digest
    root_key_id: RootKeyId
    destroyed_at: datetime


@dataclass(frozen=True)
class ClearedWords:
    """How many rows of a table lost their words, or were deleted."""

    table: TableName
    rows: Count


@dataclass(frozen=True)
class Certificate:
    """The destruction of one recording.

    `requested_at` is None where its term ended it, `policy` where none was in force. `number` counts the times that it
    had to be destroyed: after the first, because a restore had brought it back; `repeats` is then the SHA-256 of the
    signed file before, None where that is not known. On the day `backups_until` the last backup is gone that has it.
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
    """The day, in UTC, on which a backup made just before the destruction is old enough to go."""
    return (destroyed_at.astimezone(UTC) + timedelta(days=retention_days)).date()


def certificate_bytes(certificate: Certificate) -> bytes:
    """Its canonical JSON. Raises ValueError for one that says what it may not, such as a name for a reason."""
    plain = to_plain(certificate)
    if to_plain(from_plain(Certificate, plain)) != plain:
        raise ValueError("does not read as it was written")
    return canonical(plain)


def certificate_from(content: bytes) -> Certificate:
    """The certificate of its canonical JSON. Raises InvalidInput (certificate_malformed)."""
    try:
        return from_plain(Certificate, parsed(content))
    except ValueError:
        raise InvalidInput("certificate_malformed") from None
