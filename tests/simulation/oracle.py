"""Judges retention and destruction only from the events: the actions of people, and the objects that enter and
leave the bucket.

The oracle reads no table and shares no code with the application. The oracle computes the holds, the due dates and
the applicable policy itself. All times that the oracle receives are true times, without the errors of any clock.
The oracle numbers the worker's passes, and measures the order of events by these numbers. A pass of the worker must
take account of every action that people took before the pass began.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.certificates.model import Certificate, DestroyedObject
from app.certificates.signing import check
from app.errors import AppError
from tests.simulation.facts import By, Content, Hold, Note, Recording, Terms, Violation, Wrong

LATEST: Final = timedelta(days=1)
"""The maximum life of a recording after it is due and no hold covers it."""
SWEPT_AFTER: Final = timedelta(days=60)
"""The maximum life of a copy that appeared while its recording was being destroyed: the quarantine of the sweep,
plus some days.
"""
QUARANTINE: Final = timedelta(days=30)
NOTE_LATEST: Final = timedelta(days=3)
"""The maximum life of a signed note after it is due and no hold covers it. A note waits for the deletion of the copies
that contain it.
"""


class Oracle:
    """The oracle. The simulation reports all events to the oracle in their order."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.now = datetime.min.replace(tzinfo=UTC)
        self.moment = 0
        self.policy: Terms | None = None
        self.recordings: dict[UUID, Recording] = {}
        self.living: dict[UUID, Recording] = {}
        self.bucket: dict[str, Content] = {}
        self.violations: list[Violation] = []
        self.deletions = 0
        self.notes: dict[UUID, Note] = {}
        self.note_of: dict[UUID, Note] = {}
        self.kept_notes: dict[UUID, Note] = {}
        self._holds: dict[UUID, Hold] = {}
        self._of_consultation: dict[UUID, list[Hold]] = defaultdict(list)
        self._of_patient: dict[UUID, list[Hold]] = defaultdict(list)
        self._of_days: list[Hold] = []
        self._copies: Counter[str] = Counter()
        self._ever: dict[str, Content] = {}
        self._keys_of: dict[UUID, set[str]] = defaultdict(set)
        self._said: set[tuple[Wrong, str]] = set()

    def count(self, wrong: Wrong) -> int:
        return sum(one.wrong is wrong for one in self.violations)

    # Actions of people and recorders.

    def adopted(self, terms: Terms) -> None:
        """Record that a policy is in force from now on."""
        self.policy = terms
        for one in self.living.values():
            if one.counted_from is None or one.begun is not None or one.due is None:
                continue
            if terms.applies_to_existing:
                one.terms = terms
                due = terms.due(one.kind, one.birth_date, one.counted_from)
                one.due = max(due, min(one.due, self.now))
        for note in self.kept_notes.values():
            if terms.applies_to_existing:
                note.terms = terms
            due = note.terms.note_due(note.recording.birth_date, note.counted_from)
            note.due = max(due, min(note.due, self.now))

    def created(self, recording: Recording) -> None:
        self.recordings[recording.id] = self.living[recording.id] = recording

    def ended(self, recording_id: UUID, *clocks: datetime) -> None:
        """Record the end of a recording. `clocks` contains the recording's end as each clock of the simulation
        shows it; the latest of these times counts.
        """
        one = self.recordings[recording_id]
        assert self.policy is not None
        one.terms, one.counted_from = self.policy, max(clocks)
        one.due = one.terms.due(one.kind, one.birth_date, one.counted_from)

    def born(self, patient: UUID, birth_date: date) -> None:
        """Record a patient's birth date that staff entered after the recording. If the patient is a minor, the
        existing recordings must be kept longer than before.
        """
        for one in self.living.values():
            if one.patient != patient:
                continue
            one.birth_date = birth_date
            if one.terms is not None and one.counted_from is not None and one.due is not None:
                one.due = max(one.due, one.terms.due(one.kind, birth_date, one.counted_from))

    def signed(
        self, note_id: UUID, recording_id: UUID, quotes: int, sha256_hex: str, patient_key: bytes
    ) -> None:
        """Record that the doctor signed a note, or an addendum to a note. The term then counts from this time."""
        assert self.policy is not None
        note = self.notes.get(note_id)
        if note is None:
            one = self.recordings[recording_id]
            due = self.policy.note_due(one.birth_date, self.now)
            note = Note(note_id, one, self.now, self.now, self.policy, due, 0, [], patient_key)
            self.notes[note_id] = self.note_of[recording_id] = self.kept_notes[note_id] = note
        note.counted_from = self.now
        note.due = max(note.due, note.terms.note_due(note.recording.birth_date, self.now))
        note.quotes += quotes
        note.hashes.append(sha256_hex)

    def held(self, hold_id: UUID, hold: Hold) -> None:
        self._holds[hold_id] = hold
        if hold.days is not None:
            self._of_days.append(hold)
        elif hold.consultation is not None:
            self._of_consultation[hold.consultation].append(hold)
        else:
            assert hold.patient is not None
            self._of_patient[hold.patient].append(hold)

    def released(self, hold_id: UUID) -> None:
        hold = self._holds[hold_id]
        if hold.until is None:
            hold.until, hold.ended_at = self.moment + 1, self.now

    def asked(self, recording_id: UUID, undo_until: datetime) -> None:
        self.recordings[recording_id].undo_until = undo_until

    def undone(self, recording_id: UUID) -> None:
        one = self.recordings[recording_id]
        if one.begun is None:
            one.undo_until = None
            one.free_since = max(one.free_since or self.now, self.now)

    # Changes of the bucket.

    def put(
        self, key: str, recordings: Iterable[UUID], size_bytes: int, digest: str, *, is_medium: bool = True
    ) -> None:
        content = Content(
            key, frozenset(recordings), size_bytes, digest, self.now, self.moment, is_medium=is_medium
        )
        self._add(key, content)

    def copied(self, source: str, target: str) -> None:
        of = self.bucket.get(source) or self._ever[source]
        self._add(target, replace(of, at=self.now, moment=self.moment))

    def _add(self, key: str, content: Content) -> None:
        if key not in self.bucket:
            self._copies[content.origin] += 1
        self.bucket[key] = self._ever[key] = content
        for recording in content.recordings:
            self._keys_of[recording].add(key)

    def removed(self, key: str, by: By) -> None:
        """Record the removal of an object. The last copy of a recording may be removed only if the recording is due
        and no hold covers it.
        """
        content = self.bucket.pop(key, None)
        if content is None:
            return
        self._copies[content.origin] -= 1
        if self._copies[content.origin] or content.origin.startswith("exports/"):
            return
        for recording_id in content.recordings:
            one = self.recordings[recording_id]
            if by is By.DESTROYER:
                one.attested.add(content.origin)
            if by is By.ACCIDENT:
                one.lost_at = one.lost_at or self.now
            elif content.is_medium:
                self._judge_end(one, f"{content.origin} by {by}")

    # Reports of the worker.

    def begun(self, recording_id: UUID) -> None:
        """Record that the destruction of a recording began in this pass."""
        one = self.recordings[recording_id]
        if one.begun is None:
            self._judge_end(one, "begun to be destroyed")
            one.begun = self.moment

    def deleted(self, recording_id: UUID) -> None:
        one = self.recordings[recording_id]
        if not one.is_deleted:
            self.begun(recording_id)
            one.is_deleted = True
            self.living.pop(recording_id)
            self.deletions += 1

    def note_ended(self, note_id: UUID) -> None:
        """Record that a signed note was destroyed in this pass. The note must be due, and no hold may cover it."""
        note = self.notes[note_id]
        if note.ended is not None:
            return
        note.ended = self.moment
        self.kept_notes.pop(note_id)
        if any(hold.keeps_notes(self.moment) for hold in self._holds_of_note(note)):
            self._say(Wrong.HELD, str(note.id), "a signed note")
        if note.due > self.now:
            self._say(Wrong.EARLY, str(note.id), f"a signed note, due {note.due}, and it is {self.now}")

    def restored(self, recording_id: UUID) -> None:
        """Record that a backup restored the rows of a destroyed recording. The worker must destroy the restored
        recording again.
        """
        one = self.recordings[recording_id]
        one.is_deleted, one.is_restored, one.begun = False, True, None
        one.free_since = self.now
        self.living[recording_id] = one

    # Judgements.

    def is_held(self, one: Recording) -> bool:
        """Return whether a legal hold forbids the worker's next pass to destroy the recording."""
        return any(hold.stands(self.moment + 1) for hold in self._holds_of(one))

    def wants_a_pass(self) -> bool:
        """Return whether the worker has work: at least one recording is due and not destroyed, and no legal hold
        covers it.
        """
        return self.has_unfinished() or bool(self.due_soon(timedelta(0))) or self.has_due_notes()

    def has_due_notes(self) -> bool:
        """Return whether a signed note is due, not destroyed, and covered by no hold."""
        return any(note.due <= self.now and not self._is_note_held(note) for note in self.kept_notes.values())

    def has_unfinished(self) -> bool:
        """Return whether the destruction of at least one recording is unfinished and no legal hold covers the
        recording now.
        """
        return any(one.begun is not None and not self.is_held(one) for one in self.living.values())

    def due_soon(self, within: timedelta) -> list[Recording]:
        """Return the recordings that become due within this time, that no legal hold covers, and whose destruction
        has not begun.
        """
        return [
            one
            for one in self.living.values()
            if one.begun is None
            and one.goes_at is not None
            and one.goes_at <= self.now + within
            and not self.is_held(one)
        ]

    def judge_overdue(self) -> None:
        for one in self.living.values():
            if one.goes_at is None or self.now - one.goes_at <= LATEST or self.is_held(one):
                continue
            ends = [hold.ended_at for hold in self._holds_of(one) if hold.ended_at is not None]
            free = max([one.goes_at, *ends, *([one.free_since] if one.free_since else [])])
            if self.now - free > LATEST:
                self._say(Wrong.OVERDUE, str(one.id), f"free since {free}, and it is {self.now}")

        for note in self.kept_notes.values():
            if self.now - note.due <= NOTE_LATEST or self._is_note_held(note):
                continue
            ends = [hold.ended_at for hold in self._holds_of_note(note) if hold.ended_at is not None]
            if self.now - max([note.due, *ends]) > NOTE_LATEST:
                self._say(Wrong.OVERDUE, str(note.id), f"a signed note due {note.due}, and it is {self.now}")

    def judge_note_certificates(self, note_id: UUID, files: list[bytes]) -> None:
        """Judge all stored certificates of a destroyed note, in the order of their numbers."""
        note = self.notes[note_id]
        try:
            certificates = [check(file, self._key) for file in files]
        except AppError as error:
            self._say(Wrong.CERTIFICATE, str(note.id), error.reason)
            return
        for objection in self._note_objections(note, certificates):
            self._say(Wrong.CERTIFICATE, str(note.id), objection)

    def judge_note_rows(self, texts: Collection[UUID], patient_keys: Collection[UUID]) -> None:
        """Judge the ciphertexts of signed notes and the data keys of patients that remain: those of the notes that are
        not destroyed, and no other.
        """
        for note_id in self.kept_notes.keys() ^ set(texts):
            wrong = Wrong.LEFT if note_id in texts else Wrong.EARLY
            self._say(wrong, f"signed_note_texts {note_id}", "remains" if note_id in texts else "is gone")
        for patient in {note.recording.patient for note in self.kept_notes.values()} ^ set(patient_keys):
            wrong = Wrong.LEFT if patient in patient_keys else Wrong.EARLY
            self._say(wrong, f"patient_keys {patient}", "remains" if patient in patient_keys else "is gone")

    def judge_certificates(self, recording_id: UUID, files: list[bytes]) -> None:
        """Judge all stored destruction certificates of a deleted recording, in the order of their numbers."""
        one = self.recordings[recording_id]
        try:
            certificates = [check(file, self._key) for file in files]
        except AppError as error:
            self._say(Wrong.CERTIFICATE, str(one.id), error.reason)
            return
        for objection in self._objections(one, certificates):
            self._say(Wrong.CERTIFICATE, str(one.id), objection)

    def judge_left(
        self, keys: Collection[str], rows: Mapping[str, Collection[UUID]], *, is_end: bool = False
    ) -> None:
        """Judge the objects that remain in the bucket and the rows that remain in the tables. `keys` contains the
        bucket's keys under r/, keep/ and exports/. `rows` contains, for each table, the recordings of which the
        table still has rows.
        """
        for key in keys:
            content = self.bucket.get(key)
            if content is None:
                self._say(Wrong.LEFT, key, "nobody knows of it")
                continue
            for recording_id in content.recordings:
                one = self.recordings[recording_id]
                came_late = one.begun is not None and content.moment >= one.begun
                may_wait = came_late and not is_end and self.now - content.at < SWEPT_AFTER
                if one.is_deleted and not may_wait:
                    self._say(Wrong.LEFT, key, f"of {recording_id}, which is deleted")
        for table, recordings in rows.items():
            for recording_id in recordings:
                if self.recordings[recording_id].is_deleted:
                    self._say(Wrong.LEFT, f"{table} {recording_id}", "of a deleted recording")

    def _objections(self, one: Recording, certificates: list[Certificate]) -> Iterator[str]:
        numbers = [each.number for each in certificates]
        if not numbers or numbers != list(range(1, len(numbers) + 1)):
            yield f"their numbers are {numbers}"
        expected = [] if one.wrapped_key is None else [sha256(one.wrapped_key).hexdigest()]
        for each in certificates:
            if (each.recording_id, each.consultation_id) != (one.id, one.consultation):
                yield "of another"
            if [key.wrapped_key_sha256 for key in each.keys] != expected:
                yield f"other keys in number {each.number}"
        if sum(cleared.rows for each in certificates for cleared in each.text_rows_cleared) != one.words:
            yield "other rows of words"
        yield from self._survivor_objections(one, certificates)
        by_key = {sha256(key.encode()).hexdigest(): self._ever[key] for key in self._keys_of[one.id]}
        told = [destroyed for each in certificates for destroyed in each.objects]
        missing = one.attested - {
            by_key[each.key_sha256].origin for each in told if each.key_sha256 in by_key
        }
        if missing:
            yield f"nothing of {sorted(missing)}"
        yield from (
            objection for each in told if (objection := _objection(each, by_key.get(each.key_sha256)))
        )

    def _survivor_objections(self, one: Recording, certificates: list[Certificate]) -> Iterator[str]:
        note = self.note_of.get(one.id)
        for each in certificates:
            survivors = {left.signed_note_id: left for left in each.surviving_notes}
            if note is None or (note.ended is not None and one.begun is not None and note.ended < one.begun):
                if survivors and each is certificates[-1]:
                    yield f"a signed note survives that does not exist, in number {each.number}"
                continue
            if note.id not in survivors:
                if note.ended is None:
                    yield f"the signed note that survives is not named in number {each.number}"
                continue
            left = survivors[note.id]
            if (
                left.quotes != note.quotes
                or list(left.versions_sha256) != note.hashes[: len(left.versions_sha256)]
            ):
                yield f"other quotes or versions of the signed note in number {each.number}"

    def _note_objections(self, note: Note, certificates: list[Certificate]) -> Iterator[str]:
        numbers = [each.number for each in certificates]
        if not numbers or numbers != list(range(1, len(numbers) + 1)):
            yield f"the numbers of a note's certificates are {numbers}"
        key = sha256(note.patient_key).hexdigest()
        is_last = all(one.patient_key != note.patient_key for one in self.kept_notes.values())
        for each in certificates:
            of = (each.signed_note_id, each.recording_id, each.consultation_id)
            if of != (note.id, note.recording.id, note.recording.consultation):
                yield "of another note"
            if each.objects:
                yield "a note has no object"
            keys = [one.wrapped_key_sha256 for one in each.keys]
            if keys not in ([], [key]) or (keys and not is_last):
                yield f"other keys in number {each.number} of a note"
        if sum(cleared.rows for each in certificates for cleared in each.text_rows_cleared) != len(
            note.hashes
        ):
            yield "other rows of a note"

    def _is_note_held(self, note: Note) -> bool:
        return any(hold.stands(self.moment + 1) for hold in self._holds_of_note(note))

    def _holds_of_note(self, note: Note) -> list[Hold]:
        one = note.recording
        found = [*self._of_consultation[one.consultation], *self._of_patient[one.patient], *self._of_days]
        return [hold for hold in found if hold.covers_note(note)]

    def _judge_end(self, one: Recording, what: str) -> None:
        if any(hold.stands(self.moment) for hold in self._holds_of(one)):
            self._say(Wrong.HELD, str(one.id), what)
        is_missing = one.lost_at is not None and self.now - one.lost_at >= QUARANTINE
        is_due = one.goes_at is not None and one.goes_at <= self.now
        if one.begun is None and not (is_due or is_missing or one.is_restored):
            self._say(Wrong.EARLY, str(one.id), f"{what}, due {one.goes_at}, and it is {self.now}")

    def _holds_of(self, one: Recording) -> list[Hold]:
        found = [*self._of_consultation[one.consultation], *self._of_patient[one.patient], *self._of_days]
        return [hold for hold in found if hold.covers(one)]

    def _say(self, wrong: Wrong, about: str, what: str) -> None:
        if (wrong, about) not in self._said:
            self._said.add((wrong, about))
            self.violations.append(Violation(wrong, about, what))


def _objection(told: DestroyedObject, content: Content | None) -> str | None:
    """Return the error in a certificate's statement about an object, or None if the statement is right."""
    if content is None:
        return "an object that was never there"
    if told.size_bytes != content.size_bytes:
        return "another size"
    return "another digest" if told.sha256 not in (None, content.sha256) else None
