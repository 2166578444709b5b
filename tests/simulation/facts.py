"""The facts that the oracle knows: terms, recordings, holds, and the content of the bucket. Pure, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

_DAY: Final = timedelta(days=1)


class Wrong(StrEnum):
    """The kinds of violations, which the last line counts."""

    HELD = "held lost"
    EARLY = "early"
    OVERDUE = "overdue"
    CERTIFICATE = "certificates bad"
    LEFT = "left behind"


class By(StrEnum):
    """The actors in the simulation that can remove an object from the bucket."""

    DESTROYER = "destroyer"
    ACCIDENT = "accident"
    BUCKET = "the bucket's rule"
    OTHER = "other rounds"


@dataclass(frozen=True)
class Terms:
    """The retention terms that a retention policy sets, in days. `minors_until` is an age in years, or None if the
    policy has no rule for minors.
    """

    grace: int
    default: int
    kinds: Mapping[str, int]
    minors_until: int | None
    applies_to_existing: bool
    notes: int = 2557

    def due(self, kind: str, birth_date: date | None, counted_from: datetime) -> datetime:
        """Return the time when the term has ended and, in every time zone, the minor is of age."""
        return self._due(self.kinds.get(kind, self.default), birth_date, counted_from)

    def note_due(self, birth_date: date | None, counted_from: datetime) -> datetime:
        """Return the time when the term of a signed note has ended and, in every time zone, the minor is of age."""
        return self._due(self.notes, birth_date, counted_from)

    def _due(self, days: int, birth_date: date | None, counted_from: datetime) -> datetime:
        due = counted_from + _DAY * days
        if birth_date is None or self.minors_until is None:
            return due
        year = birth_date.year + self.minors_until
        is_leap_day = (birth_date.month, birth_date.day) == (2, 29)
        try:
            day = date(year, birth_date.month, birth_date.day)
        except ValueError:
            assert is_leap_day
            day = date(year, 3, 1)
        return max(due, datetime(day.year, day.month, day.day, 12, tzinfo=UTC))


@dataclass
class Recording:
    """A video with its sounds and copies. `due` is the time when the recording must be destroyed; it is None until
    the recording has ended. `words` is the number of the rows of the
    transcript and of the insights.
    """

    id: UUID
    consultation: UUID
    patient: UUID
    kind: str
    birth_date: date | None
    created_at: datetime
    counted_from: datetime | None = None
    terms: Terms | None = None
    due: datetime | None = None
    undo_until: datetime | None = None
    begun: int | None = None
    is_deleted: bool = False
    lost_at: datetime | None = None
    free_since: datetime | None = None
    is_restored: bool = False
    wrapped_key: bytes | None = None
    words: int = 0
    attested: set[str] = field(default_factory=set)

    @property
    def goes_at(self) -> datetime | None:
        """Return the time when the retention term ends or, if it is earlier, when the grace period of a requested
        deletion ends.
        """
        if self.due is None or self.undo_until is None:
            return self.due
        return min(self.due, self.undo_until)


@dataclass
class Note:
    """A signed note. `due` is the time when the note must be destroyed. `ended` is the moment at which the oracle
    learned that the note was destroyed.
    """

    id: UUID
    recording: Recording
    signed_at: datetime
    counted_from: datetime
    terms: Terms
    due: datetime
    quotes: int
    hashes: list[str]
    patient_key: bytes
    ended: int | None = None


@dataclass
class Hold:
    """A legal hold or an open access request, on a consultation, a patient, both, or a range of days."""

    since: int
    consultation: UUID | None = None
    patient: UUID | None = None
    days: tuple[datetime, datetime] | None = None
    until: int | None = None
    ended_at: datetime | None = None
    is_racing: bool = False

    def covers_note(self, note: Note) -> bool:
        """Return whether the hold covers a signed note. A range of days covers a note that was signed in the range, or
        whose recording it covers.
        """
        if self.days is None or self.covers(note.recording):
            return self.covers(note.recording)
        return note.signed_at < self.days[1] and note.counted_from >= self.days[0]

    def covers(self, recording: Recording) -> bool:
        if self.days is not None:
            return self.days[0] <= recording.created_at < self.days[1]
        return self.consultation in (None, recording.consultation) and self.patient in (
            None,
            recording.patient,
        )

    def keeps_notes(self, moment: int) -> bool:
        """Return whether the hold must keep signed notes. A hold that was placed while a pass ran may have come after
        the destruction of a note in this pass.
        """
        return self.stands(moment) and (not self.is_racing or self.since < moment)

    def stands(self, moment: int) -> bool:
        return self.since <= moment and (self.until is None or moment < self.until)


@dataclass(frozen=True)
class Content:
    """The content of an object. `origin` is the object key under which the content was first stored. Copies share
    it.
    """

    origin: str
    recordings: frozenset[UUID]
    size_bytes: int
    sha256: str
    at: datetime
    moment: int
    is_medium: bool = True


@dataclass(frozen=True)
class Violation:
    """A violation of a rule of retention or destruction. `about` is the id or the object key that the violation
    concerns.
    """

    wrong: Wrong
    about: str
    what: str
