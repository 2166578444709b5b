"""A patient's request for a copy of their recordings (45 CFR 164.524). Pure types.

`DenialGround` lists the reasons for a denial that 45 CFR 164.524(a)(2) and (a)(3) permit, in the order of the
regulation (read in public copies 2026-11-21). A compliance officer decides a request, and the database enforces
which decisions are permitted.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.consents.model import Representative
from app.errors import Conflict, InvalidInput

MAX_EXTENSION_DAYS: Final = 30
"""The longest extension: 164.524(b)(2)(ii)."""

_LONGEST_NAME: Final = 200


class AccessRequestStatus(StrEnum):
    """The status of a patient's access request. An OPEN or APPROVED request protects the requested recordings from
    destruction. A DENIED request protects the recordings for 60 days if the denial can be reviewed.
    """

    OPEN = "OPEN"
    APPROVED = "APPROVED"
    FULFILLED = "FULFILLED"
    DENIED = "DENIED"
    WITHDRAWN = "WITHDRAWN"


class Channel(StrEnum):
    """How an access request was filed: with the patient's own login, or in writing and then entered by compliance."""

    LOGIN = "LOGIN"
    WRITTEN = "WRITTEN"


class DenialGround(StrEnum):
    """The only reasons for which a patient's access to recordings may be denied."""

    EXCEPTED = "EXCEPTED"
    CORRECTIONAL = "CORRECTIONAL"
    RESEARCH = "RESEARCH"
    PRIVACY_ACT = "PRIVACY_ACT"
    CONFIDENTIAL_SOURCE = "CONFIDENTIAL_SOURCE"
    ENDANGERS_LIFE = "ENDANGERS_LIFE"
    HARMS_ANOTHER = "HARMS_ANOTHER"
    REPRESENTATIVE_HARMS = "REPRESENTATIVE_HARMS"

    @property
    def is_reviewable(self) -> bool:
        """Return whether the patient may ask for a review of a denial on this ground. On a reviewable ground, one
        professional has determined that access would cause harm, and a second professional reviews the denial.
        """
        return self in _REVIEWABLE


_REVIEWABLE: Final = frozenset(
    {DenialGround.ENDANGERS_LIFE, DenialGround.HARMS_ANOTHER, DenialGround.REPRESENTATIVE_HARMS}
)


class ExtensionReason(StrEnum):
    """The reason why a deadline was extended, which the practice tells the patient in writing."""

    VOLUME = "VOLUME"
    STORED_ELSEWHERE = "STORED_ELSEWHERE"
    PROFESSIONAL_REVIEW = "PROFESSIONAL_REVIEW"
    TECHNICAL_FAILURE = "TECHNICAL_FAILURE"
    STAFF_ABSENCE = "STAFF_ABSENCE"


class ReviewOutcome(StrEnum):
    """The outcome of the review of a denied access request. REVERSED approves the request."""

    UPHELD = "UPHELD"
    REVERSED = "REVERSED"


class ExportStatus(StrEnum):
    """The status of the encrypted copy for an access request. DELETED means that the copy was deleted because a
    recording in it was destroyed.
    """

    PREPARING = "PREPARING"
    READY = "READY"
    NOTHING_RECORDED = "NOTHING_RECORDED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    DELETED = "DELETED"


@dataclass(frozen=True)
class ExportUrl:
    """A presigned URL with which the patient downloads the encrypted copy. Everyone who has the URL can download
    the copy until the URL expires, but nobody can open the copy without its secret.
    """

    url: str
    expires_at: datetime
    expires_in_seconds: int


@dataclass(frozen=True)
class ExportedFile:
    """A file of the encrypted copy for an access request. `video_id` is the id of the video to which the file
    belongs.

    `participant_id` is the id of the participant whose microphone was recorded, or None if the file is not a
    microphone recording. `number` counts the files of one video that have the same medium and the same kind of
    participant, from 1.
    """

    recording_id: UUID
    video_id: UUID
    medium: str
    participant_id: UUID | None
    participant_kind: str | None
    guest_role: str | None
    number: int
    recorded_at: datetime
    size_bytes: int
    sha256: str
    recording_key: str


@dataclass(frozen=True)
class ExportedText:
    """A text of the encrypted copy that belongs to a recording, such as its session notes. `kind` is the end of the
    file's name.
    """

    recording_id: UUID
    kind: str
    recorded_at: datetime
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class UncopiedText:
    """A text about a recording that exists and that no copy contains. `kind` is TRANSCRIPT or INSIGHTS."""

    recording_id: UUID
    kind: str


@dataclass(frozen=True)
class ExportPlan:
    """One attempt to make an encrypted copy: the copy's object key, its files from the oldest recording to the newest,
    the texts of the recordings, and the files of the signed notes, whose recordings may be destroyed.

    `missing` lists recordings whose object is gone, and `not_whole` lists recordings whose object differs from its
    digest. The copy omits the recordings in `missing` and in `not_whole`. `uncopied` lists texts that no copy contains.
    `has_notice` says whether the copy has information about the treatment of a substance use disorder, which the
    notice of 42 CFR 2.32 must accompany.
    """

    object_key: str
    made_at: datetime
    files: tuple[ExportedFile, ...]
    texts: tuple[ExportedText, ...] = ()
    uncopied: tuple[UncopiedText, ...] = ()
    signed_notes: tuple[ExportedText, ...] = ()
    missing: tuple[UUID, ...] = ()
    not_whole: tuple[UUID, ...] = ()
    has_notice: bool = False

    @property
    def left_out(self) -> int:
        return len(self.missing) + len(self.not_whole)

    def without_missing(self, recording_id: UUID) -> "ExportPlan":
        return replace(
            self, files=self._others(recording_id), missing=tuple(sorted({*self.missing, recording_id}))
        )

    def without_broken(self, recording_id: UUID) -> "ExportPlan":
        return replace(
            self, files=self._others(recording_id), not_whole=tuple(sorted({*self.not_whole, recording_id}))
        )

    def _others(self, recording_id: UUID) -> tuple[ExportedFile, ...]:
        return tuple(file for file in self.files if file.recording_id != recording_id)


def require_name(representative: Representative | None) -> Representative | None:
    """Return the patient's representative if the representative's name has 1 to 200 characters. Raises InvalidInput
    (bad_representative).
    """
    if representative is None:
        return None
    name = representative.name.strip()
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise InvalidInput("bad_representative")
    return Representative(representative.relationship, name)


def require_determination(ground: DenialGround, determined_by: UUID | None) -> None:
    """Require `determined_by` (the professional who determined the harm) if a denial on this ground can be
    reviewed, and require None if it cannot. Raises InvalidInput (bad_determination).
    """
    if ground.is_reviewable != (determined_by is not None):
        raise InvalidInput("bad_determination")


def require_days(days: int) -> int:
    """Return the number of days by which a deadline is extended. Raises InvalidInput (bad_extension) for less than
    1 or more than 30 days.
    """
    if not 1 <= days <= MAX_EXTENSION_DAYS:
        raise InvalidInput("bad_extension", maximum=MAX_EXTENSION_DAYS)
    return days


def require_key(released: str) -> str:
    """Return the object key. Raises Conflict (export_not_there) if the object key is '', which means that the
    request has no copy.
    """
    if not released:
        raise Conflict("export_not_there")
    return released
