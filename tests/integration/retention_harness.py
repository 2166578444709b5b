"""Builds a medical practice for tests on a real Postgres and a real object store. Tests add finished recordings, a
retention policy and legal holds, and set the clock.

The database (`private.now()`) and the bucket use the same clock, unless a test sets a different time for the bucket
with `RetentionHarness.store_time`.
"""

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import DictRow, dict_row

from app.certificates.signing import CertificateSigner
from app.clips import store as clips
from app.deletions.destroyer import Destroyer
from app.deletions.ledger import Ledger
from app.deletions.note_destroyer import NoteDestroyer
from app.deletions.restore_check import RestoreCheck
from app.deployment import mark_database
from app.holds.bucket_protection import BucketLocks, BucketProtection
from app.integrations.storage.client import Storage
from app.integrations.storage.listing import ObjectPage
from app.keys.keyring import Keyring
from app.postgres.database import Database as Pool
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.practice import Practice, practice_of

DEPLOYMENT = "test"
SIGNER = CertificateSigner.from_seed("c2lnbnMgd2hhdCB0ZXN0cyBkZXN0cm95OiAzMiBiLiE=")
KEYRING = Keyring({"tests-1": b"a root key of a world of records"})
START = datetime(2027, 1, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
_MOVED_CLOCK: LiteralString = """
create schema moved;
create table moved.clock (at timestamptz not null);
insert into moved.clock values (clock_timestamp());
create or replace function private.now() returns timestamptz
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$ begin return (select c.at from moved.clock as c); end $$;
"""


class ClockedStorage(Storage):
    """An object store whose listings show the time of the test harness instead of the machine's time."""

    harness: "RetentionHarness"

    async def list_objects(self, prefix: str, *, page_size: int = 1000) -> AsyncIterator[ObjectPage]:
        async for page in super().list_objects(prefix, page_size=page_size):
            yield replace(page, listed_at=self.harness.store_time or self.harness.time)


@dataclass
class RetentionHarness:
    """A test harness for retention and destruction: a medical practice with a database, a bucket and a clock.
    `store_time` is the bucket's time. `store_time` is None if the bucket's time equals the database's time.
    """

    database: Database
    worker: Pool
    storage: ClockedStorage
    superuser: psycopg.AsyncConnection[DictRow]
    practice: Practice
    time: datetime = START
    store_time: datetime | None = None
    doctor: UUID = field(default_factory=uuid4)

    def destroyer(self, storage: Storage | None = None) -> Destroyer:
        """Return the service that destroys recordings."""
        return Destroyer(
            self.worker,
            storage or self.storage,
            SIGNER,
            Ledger(storage or self.storage, (SIGNER.public_key,), deployment=DEPLOYMENT),
            deployment=DEPLOYMENT,
            backup_retention_days=35,
        )

    def note_destroyer(self, storage: Storage | None = None) -> NoteDestroyer:
        """Return the service that destroys signed notes."""
        return NoteDestroyer(
            self.worker,
            storage or self.storage,
            SIGNER,
            Ledger(storage or self.storage, (SIGNER.public_key,), deployment=DEPLOYMENT),
            deployment=DEPLOYMENT,
            backup_retention_days=35,
        )

    async def signed_note(self, recording: UUID, *, quotes: int = 2) -> UUID:
        """Insert a signed note on a recording at the present time, with the patient's data key, and return its id."""
        note = uuid4()
        await self.rows(
            "insert into private.patient_keys (patient_id, wrapped_key, root_key_id)"
            " select patient_id, sha256(patient_id::text::bytea) || sha256('x'), 'root'"
            " from resguardo.recordings where id = %s on conflict do nothing",
            recording,
        )
        await self.rows(
            "insert into resguardo.signed_notes (id, recording_id, consultation_id, doctor_id, patient_id, signed_at,"
            " version_count, quote_count, term_from, retention_policy)"
            " select %s, id, consultation_id, doctor_id, patient_id, private.now(), 1, %s, private.now(),"
            " (private.active_policy()).id from resguardo.recordings where id = %s",
            note,
            quotes,
            recording,
        )
        await self.rows(
            "insert into resguardo.signed_note_versions (note_id, version, consultation_id, doctor_id, patient_id,"
            " signed_at, sha256, size_bytes, quote_count) select id, 1, consultation_id, doctor_id, patient_id,"
            " signed_at, %s, 40, quote_count from resguardo.signed_notes where id = %s",
            "ab" * 32,
            note,
        )
        await self.rows(
            "insert into private.signed_note_texts (note_id, version, ciphertext) values (%s, 1, %s)",
            note,
            bytes(40),
        )
        await self.rows("select private.date_signed_notes(%s, null)", note)
        return note

    def restore_check(self) -> RestoreCheck:
        """Return the service that compares the ledger of deletions with the database after a restore."""
        return RestoreCheck(
            self.worker,
            self.storage,
            Ledger(self.storage, (SIGNER.public_key,), deployment=DEPLOYMENT),
            deployment=DEPLOYMENT,
        )

    def protection(
        self, storage: Storage | None = None, locks: BucketLocks | None = None
    ) -> BucketProtection:
        """Return the service with which the worker protects held recordings and recordings with a longer term from
        the bucket's lifecycle rules.
        """
        return BucketProtection(self.worker, storage or self.storage, locks, deployment=DEPLOYMENT)

    async def rows(self, sql: LiteralString, *values: object) -> list[DictRow]:
        """Run a statement as a superuser and return its rows. If the statement returns nothing, return []."""
        cursor = await self.superuser.execute(sql, values)
        return await cursor.fetchall() if cursor.description else []

    async def value(self, sql: LiteralString, *values: object) -> Any:
        """Run a statement as a superuser and return the first column of its first row."""
        return next(iter((await self.rows(sql, *values))[0].values()))

    async def move_to(self, time: datetime) -> None:
        """Set the clocks of the test database and the test bucket to this time."""
        self.time = time
        await self.rows("update moved.clock set at = %s", time)

    async def adopt(self, terms: dict[str, Any] | None = None) -> None:
        """Put a retention policy into force. Unless the test passes terms, the policy has those in `TERMS`."""
        self.practice.retention_policy(terms)

    async def patient(self) -> UUID:
        """Insert a new patient. Return the id."""
        return self.practice.patient()

    async def consultation(self, patient: UUID | None = None, kind: str = "follow_up") -> UUID:
        """Insert a consultation without participants. Return its id."""
        return self.practice.consultation(self.doctor, patient, kind=kind)

    async def participant(self, consultation: UUID, kind: str, guest_role: str | None = None) -> UUID:
        """Insert a participant who has joined the consultation. Return the id."""
        return self.practice.participant(consultation, kind, guest_role=guest_role, joined_at=self.time)

    async def recording(
        self,
        consultation: UUID | None = None,
        *,
        status: str = "READY",
        medium: str = "VIDEO",
        video_id: UUID | None = None,
        content: bytes | None = None,
        participant: UUID | None = None,
        is_routed: bool = False,
    ) -> UUID:
        """Insert a recording with this status that ends at the current time of the test's clock. If the status is
        READY, the recording also gets an object and a data key.
        """
        consultation = consultation or await self.consultation()
        content = content or secrets.token_bytes(64)
        recording = self.practice.recording(
            consultation,
            "ABORTED" if status == "ABORTED" else "VERIFYING",
            medium=medium,
            video_id=video_id,
            participant_id=participant,
            is_routed=is_routed,
            created_at=self.time,
        )
        await self.rows(
            "update resguardo.recordings set status = %s, ended_at = %s, stored_at = %s, size_bytes = %s,"
            " sha256 = encode(sha256(%s), 'hex') where id = %s and status <> 'ABORTED'",
            status,
            self.time,
            self.time,
            len(content),
            content,
            recording,
        )
        if status == "READY":
            await self.storage.put_new(await self.key_of(recording), content, "video/mp4")
            if medium == "VIDEO":
                key = KEYRING.new_data_key()
                await self.rows(
                    "insert into private.recording_keys values (%s, %s, %s)",
                    recording,
                    key.wrapped,
                    key.root_key_id,
                )
        return recording

    async def microphones(self, video: UUID, *statuses: str) -> list[UUID]:
        """Insert recordings of one guest's microphone beside a video, one recording for each status. Return their
        ids.
        """
        consultation = await self.value(
            "select consultation_id from resguardo.recordings where id = %s", video
        )
        guest = await self.participant(consultation, "GUEST", "INTERPRETER")
        return [
            await self.recording(
                consultation, status=status, medium="MICROPHONE", video_id=video, participant=guest
            )
            for status in statuses
        ]

    async def clip(self, video: UUID, *, content: bytes = b"a clip") -> UUID:
        """Request a clip of a video, and store this content as the finished clip, as the worker does. Return its id."""
        clip, key = await self.begin_clip(video)
        await self.storage.put_new(key, content, "video/webm")
        async with self.worker.as_service("make_clip") as tx:
            sha256 = hashlib.sha256(content).hexdigest()
            assert await clips.finish(tx, clip, 1, key, sha256, len(content))
        return clip

    async def begin_clip(self, video: UUID) -> tuple[UUID, str]:
        """Request a clip of a video, and begin to store it, as the worker does. Return its id and its object key."""
        (row,) = await self.rows(
            "insert into resguardo.clips (recording_id, consultation_id, doctor_id, patient_id, purpose, start_ms,"
            " end_ms) select id, consultation_id, doctor_id, patient_id, 'TREATMENT', 1000, 2000"
            " from resguardo.recordings where id = %s returning id",
            video,
        )
        clip: UUID = row["id"]
        async with self.worker.as_service("make_clip") as tx:
            begun = await clips.begin(tx, clip)
            assert begun is not None
            key = await clips.begin_storing(tx, clip, begun.run)
        assert key is not None
        return clip, key

    async def patient_of(self, recording: UUID) -> UUID:
        """Return the id of the recorded patient."""
        found = await self.value("select patient_id from resguardo.recordings where id = %s", recording)
        assert isinstance(found, UUID)
        return found

    async def key_of(self, recording: UUID) -> str:
        """Return the object key of the recording."""
        return str(
            await self.value(
                "select object_key from private.recording_secrets where recording_id = %s", recording
            )
        )

    async def status_of(self, recording: UUID) -> str:
        """Return the status of the recording."""
        return str(await self.value("select status from resguardo.recordings where id = %s", recording))

    async def hold(self, **scope: Any) -> UUID:
        """Place a legal hold. Return its id."""
        return self.practice.hold(self.doctor, **scope)

    async def release(self, hold: UUID) -> None:
        """Release a legal hold."""
        await self.rows(
            "update resguardo.legal_holds set released_at = private.now(), released_by = %s where id = %s",
            uuid4(),
            hold,
        )

    async def keys_under(self, prefix: str = "") -> list[str]:
        """Return the keys in the bucket under this prefix."""
        return [one.key async for page in self.storage.list_objects(prefix) for one in page.objects]


@asynccontextmanager
async def opened(database: Database, store: ObjectStore) -> AsyncIterator[RetentionHarness]:
    """Yield a test harness with a migrated database and an object store whose bucket is empty."""
    storage = ClockedStorage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)
    worker = Pool(database.worker_url, application="tests")
    mark_database(database.owner_url, DEPLOYMENT)
    connecting = psycopg.AsyncConnection.connect(
        database.superuser_url, autocommit=True, row_factory=dict_row
    )
    async with await connecting as superuser:
        with practice_of(database.superuser_url) as practice:
            await worker.open()
            harness = RetentionHarness(database, worker, storage, superuser, practice)
            storage.harness = harness
            await superuser.execute(_MOVED_CLOCK)
            await harness.move_to(START)
            harness.practice.member(harness.doctor)
            await storage.claim(DEPLOYMENT)
            try:
                yield harness
            finally:
                await worker.close()
                storage.close()


def open_transactions(database: Database) -> int:
    """Return how many database connections of the worker are idle in an open transaction."""
    with psycopg.connect(database.superuser_url) as owner:
        row = owner.execute(
            "select count(*) from pg_stat_activity where usename = 'resguardo_worker'"
            " and datname = current_database() and state like 'idle in transaction%'"
        ).fetchone()
    assert row is not None
    return int(row[0])
