"""A simulated practice: a real Postgres with its real roles, a real bucket, one clock for both, and the services.

People use the services in their own sessions. The worker's periodic tasks run with the worker's login, each in a
process that may die. The simulation runs no recorder. It inserts the rows of finished recordings as the worker
would leave them.
"""

import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4, uuid5

import psycopg
from psycopg.rows import DictRow

from app.access_requests.service import AccessRequests
from app.certificates.signing import CertificateSigner
from app.deletions.service import Deletions
from app.errors import AppError, Conflict
from app.holds.service import LegalHolds
from app.identity import permissions
from app.keys.keyring import Keyring
from app.notes.note_format import format_note
from app.notes.signed_store import begin_signing, store_version
from app.postgres.database import Asker
from app.postgres.database import Database as Pool
from app.retention.proposals import Proposals
from app.retention.service import Retention
from app.retention.storage_report import Prices
from app.session_notes.encryption import encrypt_text
from app.session_notes.model import NoteKind
from tests.api.signing import make_note
from tests.databases import Database
from tests.simulation.facts import Recording
from tests.simulation.oracle import Oracle
from tests.simulation.process import Deaths, Process, SimulatedStorage, Weather, digest, is_death

DEPLOYMENT = "simulation"
SIGNER = CertificateSigner.from_seed("c2lnbnMgd2hhdCBhIHNpbXVsYXRpb24gZGVzdHJveXM=")
KEYRING = Keyring({"tests-1": b"a root key of a simulated record"})
_NEVER = 4102444800
Pass = Callable[["SimulationHarness", Process], Awaitable[object]]


@dataclass(frozen=True)
class Person:
    """A person of the simulation, with a session that does not expire."""

    user_id: UUID
    session_id: UUID

    @property
    def asker(self) -> Asker:
        claims: dict[str, object] = {
            "sub": str(self.user_id),
            "session_id": str(self.session_id),
            "aal": "aal2",
            "exp": _NEVER,
            "role": "authenticated",
        }
        return Asker(claims, uuid4(), None)


@dataclass
class SimulationHarness:
    """All parts of the simulated practice: database, bucket, clock, people, services and oracle. `jump` is the
    difference of the database's clock from the true time.
    """

    database: Database
    worker: Pool
    api: Pool
    owner: Pool
    storage: SimulatedStorage
    superuser: psycopg.AsyncConnection[DictRow]
    oracle: Oracle
    dice: random.Random
    weather: Weather
    deaths: Deaths
    doctor: Person
    officers: tuple[Person, Person]
    passes: int = 0
    refusal: AppError | None = None
    """The error of the last refused pass."""
    jump: timedelta = timedelta(0)

    @property
    def holds(self) -> LegalHolds:
        return LegalHolds(self.api)

    @property
    def deletions(self) -> Deletions:
        return Deletions(self.api)

    @property
    def requests(self) -> AccessRequests:
        return AccessRequests(self.api, self.storage, url_lifetime_seconds=60)

    @property
    def retention(self) -> Retention:
        return Retention(self.api, prices=Prices(0, 0, 0, "2026"))

    @property
    def proposals(self) -> Proposals:
        return Proposals(self.owner)

    async def rows(self, sql: LiteralString, *values: object) -> list[DictRow]:
        """Run a statement as a superuser, and return its rows, or [] if the statement returns none."""
        cursor = await self.superuser.execute(sql, values)
        return await cursor.fetchall() if cursor.description else []

    async def value(self, sql: LiteralString, *values: object) -> Any:
        return next(iter((await self.rows(sql, *values))[0].values()))

    async def move_to(self, time: datetime) -> None:
        """Set the true time of the simulation, and set the database's clock to this time plus the clock's error."""
        assert time >= self.oracle.now
        self.oracle.now = time
        await self.rows("update moved.clock set at = %s", time + self.jump)

    async def person(self, staff: str | None = None) -> Person:
        (row,) = await self.rows("select * from moved.person(%s)", staff)
        return Person(row["user_id"], row["session_id"])

    async def consult(self, kind: str, patient: UUID, birth_date: date | None, user: Person | None) -> UUID:
        """Register a consultation, and the patient if the patient is new. Return its id."""
        consultation = self.uuid()
        await self.rows(
            "select moved.consult(%s, %s, %s, %s, %s, %s)",
            consultation,
            self.doctor.user_id,
            patient,
            kind,
            birth_date,
            user and user.user_id,
        )
        return consultation

    async def record(
        self, recording: Recording, status: str, *, sounds: Sequence[str] = (), extras: int = 0
    ) -> None:
        """Insert a recording that ends now: READY with a stored and verified object, or FAILED, LOST or ABORTED.

        `sounds` contains the status of each microphone recording that belongs to the video.
        """
        self.oracle.created(recording)
        wrapped = KEYRING.new_data_key().wrapped if status == "READY" else None
        recording.wrapped_key = wrapped
        key = await self._begin(recording.id, recording, "VIDEO", status)
        for of_sound in sounds:
            sound = self.uuid()
            place = await self._begin(sound, recording, "MICROPHONE", of_sound)
            if of_sound != "ABORTED":
                await self._end(sound, of_sound, place if of_sound == "READY" else None, recording.id)
        if status == "ABORTED":
            self.oracle.ended(recording.id, recording.created_at, self.oracle.now + self.jump)
            return
        has_object = status == "READY" or (status == "FAILED" and self.dice.random() < 0.5)
        await self._end(recording.id, status, key if has_object else None, recording.id, wrapped)
        if status == "READY":
            recording.words = await self.value("select moved.say(%s)", recording.id)
        if wrapped is not None and recording.id.int % 2 == 0:
            recording.words += await self._take_notes(recording.id, wrapped)
        for number in range(extras):
            await self._store(f"{key.rpartition('/')[0]}/poster-{number}.webp", recording.id, is_medium=False)
        self.oracle.ended(recording.id, self.oracle.now, self.oracle.now + self.jump)

    async def sign(self, recording: Recording) -> bool:
        """Let the doctor sign a note on the recording, or an addendum if the note is signed. Return False if it cannot
        be signed, because the note is destroyed, or the recording is destroyed or is to be destroyed without a note.
        """
        oracle, note = self.oracle, self.oracle.note_of.get(recording.id)
        version = 1 if note is None else len(note.hashes) + 1
        asker, access = self.doctor.asker, permissions.SIGN_NOTE.on(recording.id)
        try:
            async with self.api.as_user(asker, access) as tx:
                signing = await begin_signing(tx, KEYRING, recording.id, version, totp_max_age_seconds=None)
                assert signing is not None
                signed = make_note(
                    recording.id,
                    recording.consultation,
                    recording.patient,
                    self.doctor.user_id,
                    signing.signed_at,
                    version=version,
                    previous=None if note is None else note.hashes[-1],
                )
                stored = await store_version(tx, signing, format_note(signed), quote_count=signed.quote_count)
        except Conflict:
            is_gone = note is not None and note.ended is not None
            is_going = recording.is_deleted or recording.begun is not None or recording.undo_until is not None
            is_due = recording.due is not None and recording.due <= oracle.now
            assert is_gone or (note is None and (is_going or is_due)), "refused for no reason"
            return False
        wrapped = await self.value(
            "select wrapped_key from private.patient_keys where patient_id = %s", recording.patient
        )
        oracle.signed(stored.note_id, recording.id, signed.quote_count, stored.sha256, wrapped)
        return True

    async def _take_notes(self, recording_id: UUID, wrapped: bytes) -> int:
        """Insert a session note with an earlier version, and a psychotherapy note. Return the number of rows."""
        key = KEYRING.unwrap(wrapped, KEYRING.current_id)
        note, apart = uuid5(recording_id, "note"), uuid5(recording_id, "psychotherapy note")
        return int(
            await self.value(
                "select moved.note(%s, %s, %s, %s, %s, %s)",
                recording_id,
                note,
                apart,
                encrypt_text(key, NoteKind.SESSION, recording_id, note, 1, "Says little."),
                encrypt_text(key, NoteKind.SESSION, recording_id, note, 2, "Says more."),
                encrypt_text(key, NoteKind.PSYCHOTHERAPY, recording_id, apart, 1, "Avoids the subject."),
            )
        )

    def uuid(self) -> UUID:
        """Return a UUID derived from the seed."""
        return UUID(int=self.dice.getrandbits(128), version=4)

    async def _begin(self, recording_id: UUID, video: Recording, medium: str, status: str) -> str:
        video_id = None if medium == "VIDEO" else video.id
        return str(
            await self.value(
                "select moved.begin_recording(%s, %s, %s, %s, %s, %s)",
                recording_id,
                video.consultation,
                medium,
                video_id,
                video.created_at,
                "ABORTED" if status == "ABORTED" else "VERIFYING",
            )
        )

    async def _end(
        self, recording_id: UUID, status: str, key: str | None, video: UUID, wrapped: bytes | None = None
    ) -> None:
        content = b"" if key is None else await self._store(key, video)
        await self.rows(
            "select moved.end_recording(%s, %s, %s, %s, %s, %s)",
            recording_id,
            status,
            self.oracle.now,
            len(content),
            digest(content) if content else None,
            wrapped,
        )

    async def _store(self, key: str, video: UUID, *, is_medium: bool = True) -> bytes:
        """Store an object as the recorder does, without the worker's storage client."""
        content = secrets.token_bytes(self.dice.randrange(40, 200))
        await self.raw.put_new(key, content, "video/mp4")
        self.oracle.put(key, [video], len(content), digest(content), is_medium=is_medium)
        return content

    @property
    def raw(self) -> SimulatedStorage:
        """Return a view of the bucket whose calls never fail."""
        calm = Weather(self.weather.dice, is_calm=True)
        return self.storage.through(Process("calm", Deaths(self.deaths.dice), calm, self.oracle))

    async def run(self, service: str, work: Pass, *, may_die: bool = True) -> bool:
        """Run one pass of a worker task in a simulated process of its own. Return False if the process died or the
        pass failed.
        """
        self.oracle.moment += 1
        self.passes += 1
        return await self._live(service, work, may_die=may_die)

    async def beside(self, service: str, work: Pass) -> bool:
        """Run a service in a second worker process, at the same time as the pass that `run` executes."""
        return await self._live(service, work, may_die=self.dice.random() < 0.3)

    async def _live(self, service: str, work: Pass, *, may_die: bool) -> bool:
        process = Process(service, self.deaths, self.weather, self.oracle)
        process.dies_at = self.deaths.choose(service) if may_die else None
        try:
            await work(self, process)
        except AppError as refusal:
            self.refusal = refusal
            return False
        except BaseException as error:
            if not is_death(error):
                raise
            return False
        return True

    async def observe(self) -> None:
        """Report to the oracle each destruction that has begun or is complete according to the database, and let
        the oracle judge the certificates.
        """
        for row in await self.rows("select recording, status from moved.observe()"):
            self.oracle.begun(row["recording"])
            if row["status"] == "DELETED":
                self.oracle.deleted(row["recording"])
                await self._certificates(row["recording"])

        ended = await self.rows("select note, status from moved.observe_notes()")
        for row in ended:
            self.oracle.note_ended(row["note"])
        for row in ended:
            if row["status"] == "DESTROYED":
                await self._note_certificates(row["note"])

    async def _note_certificates(self, note_id: UUID) -> None:
        rows = await self.rows(
            "select document from resguardo.note_certificates where note_id = %s order by number", note_id
        )
        self.oracle.judge_note_certificates(note_id, [row["document"].encode() for row in rows])

    async def _certificates(self, recording_id: UUID) -> None:
        rows = await self.rows(
            "select document from resguardo.certificates where recording_id = %s order by number",
            recording_id,
        )
        self.oracle.judge_certificates(recording_id, [row["document"].encode() for row in rows])

    async def look_for_left(self, *, is_end: bool = False) -> None:
        """Let the oracle judge the objects and rows that remain in the bucket and the tables."""
        keys = [
            one.key
            for prefix in ("r/", "keep/", "exports/")
            async for page in self.raw.list_objects(prefix)
            for one in page.objects
        ]
        rows: dict[str, set[UUID]] = {}
        for row in await self.rows("select place, recording from moved.traces()"):
            rows.setdefault(row["place"], set()).add(row["recording"])
        self.oracle.judge_left(keys, rows, is_end=is_end)
        texts = await self.rows("select distinct note_id from private.signed_note_texts")
        patients = await self.rows("select patient_id from private.patient_keys")
        self.oracle.judge_note_rows(
            {row["note_id"] for row in texts}, {row["patient_id"] for row in patients}
        )
