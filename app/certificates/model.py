"""The content of a certificate of destruction, and the only JSON text that represents this content. Pure. A
certificate contains only ids, digests, numbers, times, and words of a fixed vocabulary.

A certificate reveals nothing about the content of the recording or its patient. Only the practice can find out to
which consultation the certificate's consultation id belongs. The model cannot represent the destruction of a
recording under a legal hold, or an object for which the bucket did not answer 404. Pydantic checks every value when
a certificate is built or parsed, and converts no value to another type. A missing or unknown field raises
ValueError, and so does a value of the wrong type or outside the permitted range.
"""

from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeVar
from uuid import UUID

import rfc8785
from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, PlainSerializer, TypeAdapter
from pydantic.dataclasses import dataclass

from app.errors import InvalidInput

FORMAT: Final = "resguardo-certificate-1"
MAX_OBJECTS: Final = 1_000
MAX_INTEGER: Final = 2**53 - 1
"""The largest whole number that every JSON reader reads exactly (RFC 8785, 3.2.2.3)."""

T = TypeVar("T")

STRICT: Final = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
"""Convert nothing, refuse unknown fields, and quote no value in an error."""


def format_moment(moment: datetime) -> str:
    """Return the time in the format of the certificate's file: RFC 3339, in UTC, with microseconds."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def format_fact(value: object) -> str:
    """Return a value of a certificate as text. A time has the same format as in the certificate's file."""
    return format_moment(value) if isinstance(value, datetime) else str(value)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the calendar in UTC") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc), PlainSerializer(format_moment, return_type=str)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Slug = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,63}$")]
"""A word of our vocabulary in snake_case."""
Deployment = Annotated[str, Field(pattern="^[a-z][a-z0-9-]{1,38}[a-z0-9]$")]
PolicyName = Annotated[str, Field(pattern="^[0-9A-Za-z][0-9A-Za-z ._-]{0,63}$")]
FileName = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9._-]{0,63}$")]
ETag = Annotated[str, Field(pattern="^[0-9A-Za-z+/=:._-]{1,128}$")]
RootKeyId = Annotated[str, Field(pattern="^[a-z0-9-]{1,32}$")]
TableName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,63}([.][a-z][a-z0-9_]{0,63})?$")]
Size = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
"""A size in bytes."""
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]


class Ground(StrEnum):
    """Why a recording was destroyed: its retention term ended, somebody requested the deletion, its object was
    missing, or a restore had brought it back.
    """

    RETENTION = "RETENTION"
    REQUEST = "REQUEST"
    MISSING = "MISSING"
    RESTORE = "RESTORE"


@dataclass(frozen=True, config=STRICT)
class AppliedPolicy:
    """The retention policy under which a recording was destroyed. `term_days` and `due_at` are None if the
    retention policy set no term for this recording.
    """

    name: PolicyName
    sha256: Digest
    term_days: Annotated[int, Field(ge=0, le=36_525)] | None
    due_at: Moment | None


@dataclass(frozen=True, config=STRICT)
class HoldCheck:
    """The check, before the destruction, that no legal hold and no open access request covered the recording.
    `holds` is always empty, because a recording under a legal hold is never destroyed.
    """

    checked_at: Moment
    holds: Annotated[tuple[UUID, ...], Field(max_length=0)] = ()


@dataclass(frozen=True, config=STRICT)
class DestroyedObject:
    """A destroyed object of the bucket, named by the SHA-256 of its key. An object's size, digest or ETag is None
    if the database never knew it.

    `kind` is the file name, such as `video.mp4`. `head_status` is the bucket's answer to a HEAD request at
    `head_at`.
    """

    key_sha256: Digest
    kind: FileName
    size_bytes: Size | None
    sha256: Digest | None
    etag: ETag | None
    deleted_at: Moment
    head_at: Moment
    head_status: Literal[404] = 404


@dataclass(frozen=True, config=STRICT)
class DestroyedKey:
    """A destroyed data key, named by the SHA-256 of its wrapped bytes. A destroyed data key cannot be recovered
    once no backup contains its wrapped bytes.
    """

    kind: Slug
    wrapped_key_sha256: Digest
    root_key_id: RootKeyId
    destroyed_at: Moment


@dataclass(frozen=True, config=STRICT)
class ClearedTextRows:
    """The number of rows of one table that a destruction deleted, or whose text a destruction removed."""

    table: TableName
    rows: Count


@dataclass(frozen=True, config=STRICT)
class SurvivingNote:
    """A signed note that outlives its recording: the SHA-256 of each signed version, how many quotes of the recording
    the note keeps, and when its own term ends (None if no retention policy was in force).
    """

    signed_note_id: UUID
    versions_sha256: Annotated[tuple[Digest, ...], Field(min_length=1, max_length=100)]
    quotes: Count
    due_at: Moment | None


@dataclass(frozen=True, config=STRICT)
class Certificate:
    """The facts about the destruction of one recording, or of one signed note if `signed_note_id` is given.

    `surviving_notes` are the signed notes of the recording that were not destroyed with it.
    `requested_at` is None if the recording was destroyed because its retention term ended. `policy` is None if no
    retention policy was in force. `number` counts how often this recording was destroyed: a recording is destroyed
    again if a restore brings it back. If the recording was destroyed before, `repeats` is the SHA-256 of the
    previous signed certificate, or None if the digest is unknown. `backups_until` is the day on which the last
    backup that contains the recording's data expires.
    """

    deployment: Deployment
    recording_id: UUID
    consultation_id: UUID
    ground: Ground
    reason: Slug | None
    requested_at: Moment | None
    policy: AppliedPolicy | None
    hold_check: HoldCheck
    objects: Annotated[tuple[DestroyedObject, ...], Field(max_length=MAX_OBJECTS)]
    keys: Annotated[tuple[DestroyedKey, ...], Field(max_length=100)]
    text_rows_cleared: Annotated[tuple[ClearedTextRows, ...], Field(max_length=100)]
    destroyed_at: Moment
    backups_until: date
    issued_at: Moment
    number: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    repeats: Digest | None = None
    signed_note_id: UUID | None = None
    surviving_notes: Annotated[tuple[SurvivingNote, ...], Field(max_length=10)] = ()
    format: Literal["resguardo-certificate-1"] = FORMAT

    def __post_init__(self) -> None:
        if self.ground is Ground.RETENTION and (self.policy is None or self.requested_at is not None):
            raise ValueError("a term has a policy, and nobody asks for its end")
        if self.ground is Ground.REQUEST and self.requested_at is None:
            raise ValueError("a request has its moment")
        if self.number == 1 and self.repeats is not None:
            raise ValueError("the first repeats none")
        if self.signed_note_id is not None and (self.objects or self.surviving_notes):
            raise ValueError("a signed note has no object, and nothing of it survives")

    @property
    def subject_id(self) -> UUID:
        """Return the id of what was destroyed: the signed note, or the recording."""
        return self.recording_id if self.signed_note_id is None else self.signed_note_id


def compute_backups_until(destroyed_at: Moment, retention_days: int) -> date:
    """Return the day, in UTC, on which a backup made just before the destruction expires."""
    return (destroyed_at.astimezone(UTC) + timedelta(days=retention_days)).date()


def encode_certificate(certificate: Certificate) -> bytes:
    """Return the canonical JSON of the certificate (RFC 8785)."""
    return encode_canonical_json(_certificate, certificate)


def parse_certificate(content: bytes) -> Certificate:
    """Parse a certificate from its canonical JSON. Raises InvalidInput (certificate_malformed)."""
    return read_canonical_json(_certificate, content)


def encode_canonical_json(shape: TypeAdapter[T], value: T) -> bytes:
    """Return the canonical JSON (RFC 8785) of a value whose type is `shape`."""
    return rfc8785.dumps(shape.dump_python(value, mode="json"))


def read_canonical_json(shape: TypeAdapter[T], content: bytes) -> T:
    """Parse canonical JSON, and return the parsed value. Raises InvalidInput (certificate_malformed) unless the
    content is exactly the canonical JSON of the value. JSON with duplicate keys, with white space, or with a number
    or text in a non-canonical notation is therefore refused.
    """
    try:
        value = shape.validate_json(content)
        if encode_canonical_json(shape, value) == content:
            return value
    except ValueError:
        raise InvalidInput("certificate_malformed") from None
    raise InvalidInput("certificate_malformed")


_certificate = TypeAdapter(Certificate)
