"""A practice with recordings, its dump and its escrow file. `make drill` and several tests restore the backup of
this practice.

`python -m tests.drill` creates everything on this machine, runs `resguardo drill restore`, and removes everything.
"""

import asyncio
import hashlib
import os
import secrets
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

import psycopg

from app.deployment import mark_database
from app.insights.encryption import insights_field
from app.integrations.storage.client import Storage
from app.keys.escrow import Escrow, seal
from app.keys.keyring import FieldKey, Keyring, new_key_line
from app.session_notes.encryption import encrypt_text
from app.session_notes.model import NoteKind
from app.transcripts import encryption
from app.transcripts.model import Speaker, Transcript, Turn
from app.transcripts.transcript_format import format_transcript
from devstack import object_store
from devstack.object_store import ObjectStore
from devstack.postgres import binaries_directory
from devstack.restoring import SCHEMAS
from tests.databases import Database, shared_cluster
from tests.policies.actors import ANA, Case, Connection
from tests.policies.seed import seed

DEPLOYMENT = "test-practice"
PASSPHRASE = "a passphrase of a drill"
RECORDINGS = 8
OBJECT_BYTES = 300_000


@dataclass(frozen=True)
class Practice:
    """A practice whose database and keys were backed up. `recordings` maps READY recordings to their object keys."""

    database: Database
    store: ObjectStore
    directory: Path
    root_keys: str = field(repr=False)
    signing_key: str = field(repr=False)
    recordings: dict[UUID, str]

    @property
    def environment(self) -> dict[str, str]:
        """Return all settings that a restore drill reads, and the passphrase of the escrow file."""
        return {
            "ENVIRONMENT": "development",
            "DEPLOYMENT": DEPLOYMENT,
            "R2_BUCKET_NAME": self.store.bucket,
            "R2_ENDPOINT_URL": self.store.endpoint_url,
            "R2_ACCESS_KEY_ID": self.store.writer.access_key_id,
            "R2_SECRET_ACCESS_KEY": self.store.writer.secret_access_key,
            "RESGUARDO_ESCROW_PASSPHRASE": PASSPHRASE,
        }

    def storage(self) -> Storage:
        """Return a client for the practice's bucket, with which a test may read and damage the bucket."""
        return storage_of(self.store)

    def dump(self, form: str = "custom") -> Path:
        """Write a dump of the current database with pg_dump. Return its path."""
        path = self.directory / f"{secrets.token_hex(4)}.dump"
        dump(self.database.owner_url, path, form)
        return path

    def escrow(
        self, root_keys: str | None = None, deployment: str = DEPLOYMENT, former: tuple[str, ...] = ()
    ) -> Path:
        """Write an escrow file with these root keys, and with the public keys of the former signing seeds in
        `former`. Return its path.
        """
        path = self.directory / f"{secrets.token_hex(4)}.escrow"
        kept = Escrow(deployment, datetime.now(UTC), root_keys or self.root_keys, self.signing_key, former)
        path.write_bytes(seal(kept, PASSPHRASE))
        return path

    def rows(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        """Return the rows of a query that a superuser runs."""
        with psycopg.connect(self.database.superuser_url) as connection:
            cursor = connection.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []


def storage_of(store: ObjectStore) -> Storage:
    """Return a client for the bucket of an object store, with the worker's access key."""
    return Storage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)


def dump(owner_url: str, path: Path, form: str) -> None:
    """Run pg_dump as in docs/restore.md: as the owner, with our schemas and the schema of Supabase Auth."""
    url = urlsplit(owner_url)
    environment = {
        "PATH": os.defpath,
        "PGHOST": url.hostname or "",
        "PGPORT": str(url.port),
        "PGUSER": url.username or "",
        "PGPASSWORD": unquote(url.password or ""),
        "PGDATABASE": url.path.lstrip("/"),
    }
    schemas = [f"--schema={name}" for name in SCHEMAS]
    subprocess.run(
        [binaries_directory() / "pg_dump", f"--format={form}", f"--file={path}", *schemas],
        env=environment,
        check=True,
    )


def practice(database: Database, store: ObjectStore, directory: Path) -> Practice:
    """Fill a migrated database and a bucket with recordings of one doctor and one patient."""
    seed(database.superuser_url)
    root_keys, signing_key = new_key_line("drill-1"), b64encode(secrets.token_bytes(32)).decode()
    with psycopg.connect(database.superuser_url) as connection:
        connection.execute("update private.deployment set name = %s", [DEPLOYMENT])
        _forget_seeded(connection)
        recordings = _record(connection, ANA, Keyring.parse(root_keys))
    asyncio.run(_store(store, recordings))
    mark_database(database.owner_url, DEPLOYMENT)
    return Practice(database, store, directory, root_keys, signing_key, recordings)


def _forget_seeded(connection: Connection) -> None:
    """Set the READY recordings of the policy tests' seed to FAILED, because they have no objects."""
    connection.execute("set local session_replication_role = replica")
    connection.execute("update resguardo.recordings set status = 'FAILED' where status = 'READY'")
    connection.execute("delete from private.recording_keys")
    connection.execute("delete from private.word_index_key")
    connection.execute("delete from private.consultation_labels")
    connection.execute("delete from private.patient_texts")
    connection.execute("delete from private.patient_keys")
    connection.execute("delete from private.signed_note_texts")
    connection.execute("update resguardo.signed_notes set status = 'DESTROYED'")
    connection.execute("set local session_replication_role = origin")


def _record(connection: Connection, case: Case, keyring: Keyring) -> dict[UUID, str]:
    current = keyring.current_id
    connection.execute("select private.register_root_key(%s, %s)", [current, keyring.check_values()[current]])
    made = {}
    for _ in range(RECORDINGS):
        recording, key = uuid4(), f"r/d90/{case.id_of('over')}/{uuid4()}/video.mp4"
        connection.execute(
            "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, status,"
            " room_name, egress_id) values (%s, %s, %s, %s, %s, 'VERIFYING', %s, %s)",
            [
                recording, case.id_of("over"), case.doctor_id, case.patient_id, case.doctor_id,
                case.room_of("over"), f"EG_{recording}",
            ],
        )  # fmt: skip
        connection.execute("insert into private.recording_secrets values (%s, %s)", [recording, key])
        connection.execute(
            "update resguardo.recordings set status = 'READY', sha256 = %s, size_bytes = %s where id = %s",
            [hashlib.sha256(content_of(key)).hexdigest(), OBJECT_BYTES, recording],
        )
        data_key = keyring.new_data_key()
        connection.execute(
            "select private.make_recording_key(%s, %s, %s)",
            [recording, data_key.wrapped, data_key.root_key_id],
        )
        _say(connection, recording, keyring.unwrap(data_key.wrapped, current))
        made[recording] = key
    index_key = keyring.new_data_key().wrapped
    connection.execute(
        "insert into private.word_index_key (wrapped_key, root_key_id) values (%s, %s)", [index_key, current]
    )
    return made


def _say(connection: Connection, recording: UUID, key: FieldKey) -> None:
    """Store a transcript of the recording in the same way as the worker."""
    words = format_transcript(Transcript((Turn(0, 0, 900, Speaker.DOCTOR, "good morning", 0),), "en"))
    connection.execute(
        "update resguardo.transcripts set status = 'READY', error = null where recording_id = %s", [recording]
    )
    connection.execute(
        "insert into private.transcript_texts (recording_id, ciphertext, terms) values (%s, %s, '{1}')",
        [recording, key.encrypt(encryption.transcript_field(recording), words)],
    )
    connection.execute(
        "update resguardo.insights set status = 'READY', error = null where recording_id = %s", [recording]
    )
    connection.execute(
        "insert into private.insight_texts (recording_id, generation, ciphertext) values (%s, 1, %s)",
        [recording, key.encrypt(insights_field(recording, 1), b"{}")],
    )
    note, apart = uuid4(), uuid4()
    connection.execute(
        "insert into private.session_notes (id, recording_id, consultation_id, author_id, ciphertext, changed_by)"
        " select %s, r.id, r.consultation_id, r.doctor_id, %s, r.doctor_id"
        " from resguardo.recordings as r where r.id = %s",
        [note, encrypt_text(key, NoteKind.SESSION, recording, note, 1, "Slept well."), recording],
    )
    connection.execute(
        "insert into private.psychotherapy_notes (id, recording_id, consultation_id, author_id, ciphertext, changed_by)"
        " select %s, r.id, r.consultation_id, r.doctor_id, %s, r.doctor_id"
        " from resguardo.recordings as r where r.id = %s",
        [apart, encrypt_text(key, NoteKind.PSYCHOTHERAPY, recording, apart, 1, "Avoids it."), recording],
    )


def content_of(key: str) -> bytes:
    """Return the content of the object with this key. The content of the object is different for each key."""
    return (hashlib.sha256(key.encode()).digest() * (OBJECT_BYTES // 32 + 1))[:OBJECT_BYTES]


async def _store(store: ObjectStore, recordings: dict[UUID, str]) -> None:
    storage = storage_of(store)
    try:
        await storage.claim(DEPLOYMENT)
        for key in recordings.values():
            await storage.put_new(key, content_of(key), "video/mp4")
    finally:
        storage.close()


@contextmanager
def made_here(directory: Path) -> Iterator[Practice]:
    """Create a practice on servers of its own, and yield it."""
    with (
        shared_cluster(directory / "cluster") as cluster,
        cluster.clone("newer") as database,
        object_store.running(directory / "store") as store,
    ):
        yield practice(database, store, directory)


def main() -> int:
    """Create a practice, back it up, and restore the backup. Return the exit code."""
    with (
        tempfile.TemporaryDirectory(prefix="resguardo-backup-") as directory,
        made_here(Path(directory)) as made,
    ):
        print(f"a practice with {len(made.recordings)} recordings; backing it up")  # noqa: T201
        arguments = ["--dump", str(made.dump()), "--escrow", str(made.escrow())]
        return subprocess.run(
            [sys.executable, "-m", "app.cli", "drill", "restore", *arguments],
            env={**os.environ, **made.environment},
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
