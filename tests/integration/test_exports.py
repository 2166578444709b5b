"""Tests of the encrypted copies for access requests, on a real object store and a real database: what a copy
contains, and when it is deleted.
"""

import asyncio
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, LiteralString, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from app import encrypted_zip
from app.access_requests import exports as exports_module
from app.access_requests import model
from app.access_requests.exports import Exports, ExportsReport
from app.bucket.exported_archives import QUARANTINE
from app.deployment import mark_database
from app.encrypted_zip import new_secret
from app.errors import Conflict, UpstreamFailed
from app.integrations.storage import listing as storage_listing
from app.integrations.storage import uploads as storage_uploads
from app.integrations.storage.listing import ObjectPage, UploadPage
from app.integrations.storage.objects import StoredObject
from app.keys.keyring import Keyring
from app.notes.exported_notes import compose_note_files
from app.postgres.database import Database as Pool
from app.postgres.database import Transaction
from app.session_notes.encryption import encrypt_text
from app.session_notes.model import NoteKind
from app.texts import LANGUAGES, redisclosure_notice
from devstack.object_store import ObjectStore
from tests.alerts import evaluated_alerts
from tests.buckets import InterceptedStorage
from tests.databases import Database
from tests.integration.winzip import TamperedError, WrongSecretError, read_archive
from tests.practice import practice_of

pytestmark = pytest.mark.anyio

T = TypeVar("T")
DOCTOR, PATIENT, OTHER_PATIENT = UUID(int=1), UUID(int=2), UUID(int=3)
DEPLOYMENT = "practice"
KEYRING = Keyring({"first": bytes(range(32))})
PAST = QUARANTINE + timedelta(minutes=1)
NOTHING = ExportsReport(ended=0, swept=0, aborted=0)


class Killed(BaseException):
    """A test raises this exception to end the worker, as the death of the process would."""


class WatchedStorage(InterceptedStorage):
    """A storage client that reports each object as older by `age`, and counts the bytes that it reads and writes. A
    test can make one call to the object store fail, or end the worker at a call.
    """

    age = timedelta()
    is_dead = False
    dies_before: int | None = None
    dies_after: int | None = None
    fails: str | None = None
    calls = 0
    read_bytes = 0
    written_bytes = 0
    largest = 0
    most_held = 0

    async def _call(self, operation: str, work: Callable[[], T]) -> T:
        if self.is_dead or self.dies_before == self.calls:
            self.is_dead = True
            raise Killed
        if self.fails == operation:
            self.fails = None
            raise UpstreamFailed("storage_failed", operation=operation)
        self.calls += 1
        answer = await super()._call(operation, work)
        if operation == "read_range":
            assert isinstance(answer, bytes)
            self.read_bytes += len(answer)
            self.largest = max(self.largest, len(answer))
            self.most_held = max(self.most_held, self.read_bytes - self.written_bytes)
        if operation == "put_part":
            size = len(work.args[-1])  # type: ignore[attr-defined] # a functools.partial
            self.written_bytes += size
            self.largest = max(self.largest, size)
        if self.dies_after == self.calls - 1:
            self.is_dead = True
            raise Killed
        return answer

    async def list_objects(
        self, prefix: str, *, page_size: int = storage_listing.PAGE_SIZE
    ) -> AsyncIterator[ObjectPage]:
        async for page in super().list_objects(prefix, page_size=page_size):
            aged = tuple(replace(one, last_modified=one.last_modified - self.age) for one in page.objects)
            yield replace(page, objects=aged)

    async def list_uploads(
        self, prefix: str, *, page_size: int = storage_listing.PAGE_SIZE
    ) -> AsyncIterator[UploadPage]:
        async for page in super().list_uploads(prefix, page_size=page_size):
            aged = tuple(replace(one, initiated_at=one.initiated_at - self.age) for one in page.uploads)
            yield replace(page, uploads=aged)


@dataclass
class ExportHarness:
    """A test harness with the exports service, a bucket and a database with the same deployment mark, and one
    consultation of a patient.
    """

    database: Database
    worker: Pool
    storage: WatchedStorage
    store: ObjectStore
    consultation: UUID
    exports: Exports

    def process(self, **how: object) -> tuple[Exports, WatchedStorage]:
        """Return a second instance of the exports service, as a second worker would have it, and its storage
        client. The keyword arguments set attributes of the storage client, such as `fails`.
        """
        storage = _storage(self.store)
        for name, value in how.items():
            setattr(storage, name, value)
        return Exports(self.worker, storage, KEYRING, compose_note_files, deployment=DEPLOYMENT), storage

    def rows(self, sql: LiteralString, *values: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.database.superuser_url, row_factory=dict_row) as connection:
            cursor = connection.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    async def recording(
        self,
        content: bytes,
        *,
        status: str = "READY",
        video_id: UUID | None = None,
        participant: UUID | None = None,
        consultation: UUID | None = None,
        sha256: str | None = None,
        started_at: str | None = "2026-11-20 23:30:00+00",
    ) -> UUID:
        """Insert the row of a recording with this status. The recording's object is stored in the bucket."""
        recording, consultation = uuid4(), consultation or self.consultation
        medium, name = ("SPEAKERS", "speakers.ogg") if video_id else ("VIDEO", "video.mp4")
        if participant is not None:
            medium, name = "MICROPHONE", f"microphone-{recording}.mp4"
        key = f"keep/{consultation}/{video_id or recording}/{name}"
        digest = {} if sha256 is None else {"sha256": sha256}
        with practice_of(self.database.superuser_url) as practice, practice.without_triggers():
            practice.recording(
                consultation,
                status,
                recording,
                object_key=key,
                content=content,
                medium=medium,
                video_id=video_id,
                participant_id=participant,
                started_at=started_at,
                **digest,
            )
        await self.storage.put_new(key, content, "video/mp4")
        return recording

    def participant(self, kind: str, guest_role: str | None = None) -> UUID:
        """Insert a participant of the test's consultation. Return the id."""
        with practice_of(self.database.superuser_url) as practice:
            return practice.participant(self.consultation, kind, guest_role=guest_role)

    def request(self, status: str = "APPROVED", *, of_consultation: bool = False, days_ago: int = 0) -> UUID:
        """Insert an access request with this status for the test's patient. Return its id."""
        with practice_of(self.database.superuser_url) as practice:
            return practice.access_request(
                PATIENT,
                PATIENT,
                consultation_id=self.consultation if of_consultation else None,
                received_on=(practice.now() - timedelta(days=days_ago)).date(),
                status=status,
            )

    def found(self, request: UUID) -> dict[str, Any]:
        (row,) = self.rows("select * from resguardo.access_requests where id = %s", request)
        return row

    def copy(self, request: UUID) -> dict[str, Any] | None:
        rows = self.rows("select * from private.access_exports where request_id = %s", request)
        return rows[0] if rows else None

    async def opened(self, request: UUID) -> dict[str, bytes]:
        """Decrypt the encrypted copy with its secret, as the patient does. Return the content of each file in the
        encrypted copy by its name.
        """
        copy = self.copy(request)
        assert copy is not None
        return read_archive(await self.content(copy["object_key"]), copy["secret"])

    async def content(self, key: str) -> bytes:
        body = await self.storage.get_small(key, 200_000_000)
        assert body is not None
        return body

    async def keys(self) -> list[str]:
        """Return the keys of all objects and unfinished uploads under exports/."""
        objects = [one.key async for page in self.storage.list_objects("exports/") for one in page.objects]
        uploads = [one.key async for page in self.storage.list_uploads("exports/") for one in page.uploads]
        return objects + [f"upload {key}" for key in uploads]

    def audited(self, request: UUID) -> list[tuple[Any, ...]]:
        rows = self.rows(
            "select action, outcome, reason, operation, actor_role, row_count, byte_count from audit.events"
            " where "
            "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
            " = array[%s] order by recorded_at, id",
            request,
        )
        return [tuple(row.values()) for row in rows]


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[ExportHarness]:
    async with _opened(database, emptied_store) as made:
        yield made


@asynccontextmanager
async def _opened(database: Database, store: ObjectStore) -> AsyncIterator[ExportHarness]:
    mark_database(database.owner_url, DEPLOYMENT)
    storage = _storage(store)
    await storage.claim(DEPLOYMENT)
    worker = Pool(database.worker_url, application="test", max_size=4)
    await worker.open()
    try:
        consultation = _people(database)
        exports = Exports(worker, storage, KEYRING, compose_note_files, deployment=DEPLOYMENT)
        yield ExportHarness(database, worker, storage, store, consultation, exports)
    finally:
        storage.close()
        await worker.close()


def _storage(store: ObjectStore) -> WatchedStorage:
    return WatchedStorage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)


def _people(database: Database) -> UUID:
    with practice_of(database.superuser_url) as practice:
        practice.member(DOCTOR)
        practice.consultation(DOCTOR, practice.patient(OTHER_PATIENT))
        return practice.consultation(DOCTOR, practice.patient(PATIENT))


async def _another_patients(harness: ExportHarness, content: bytes) -> UUID:
    (row,) = harness.rows("select id from resguardo.consultations where patient_id = %s", OTHER_PATIENT)
    return await harness.recording(content, consultation=UUID(str(row["id"])))


async def test_copy_holds_every_ready_recording_of_the_patient_and_nothing_else(
    harness: ExportHarness,
) -> None:
    video = await harness.recording(b"the video")
    await harness.recording(b"the voices", video_id=video)
    await harness.recording(b"a failed one", status="FAILED")
    await _another_patients(harness, b"somebody else's")
    request = harness.request()
    await harness.exports.export(request)
    files = await harness.opened(request)
    names = [f"2026-11-20_{video}_speakers.ogg", f"2026-11-20_{video}_video.mp4"]
    assert [sorted(files)[:2], next(iter(files)), list(files)[-1]] == [names, "README.txt", "manifest.json"]
    assert (len(files), files[names[0]], files[names[1]]) == (4, b"the voices", b"the video")
    readme = files["README.txt"].decode()
    assert "ENGLISH" in readme
    assert "ESPAÑOL" in readme
    manifest = json.loads(files["manifest.json"])
    assert manifest["requestId"] == str(request)
    assert {one["name"]: (one["sha256"], one["sizeBytes"]) for one in manifest["files"]} == {
        name: (hashlib.sha256(files[name]).hexdigest(), len(files[name])) for name in names
    }


async def test_copy_names_each_microphone_by_the_kind_of_its_participant(harness: ExportHarness) -> None:
    video = await harness.recording(b"the video")
    doctor, patient = harness.participant("DOCTOR"), harness.participant("PATIENT")
    interpreter, companion = (harness.participant("GUEST", role) for role in ("INTERPRETER", "COMPANION"))
    given = [
        ("microphone-doctor", doctor, None),
        ("microphone-patient", patient, None),
        ("microphone-guest", interpreter, "INTERPRETER"),
        ("microphone-patient-2", patient, None),
        ("microphone-guest-2", companion, "COMPANION"),
        ("microphone-patient-3", patient, None),
    ]
    for minute, (name, participant, _) in enumerate(given, start=30):
        at = f"2026-11-20 23:{minute}:00+00"
        await harness.recording(name.encode(), video_id=video, participant=participant, started_at=at)
    await harness.recording(b"failed", status="FAILED", video_id=video, participant=doctor)
    await harness.recording(b"two channels", video_id=video)
    request = harness.request()
    await harness.exports.export(request)
    files = await harness.opened(request)
    beginning = f"2026-11-20_{video}_"
    assert {name: content for name, content in files.items() if name.startswith(beginning)} == {
        f"{beginning}video.mp4": b"the video",
        f"{beginning}speakers.ogg": b"two channels",
        **{f"{beginning}{name}.mp4": name.encode() for name, _, _ in given},
    }
    named = {one["name"]: one["participant"] for one in json.loads(files["manifest.json"])["files"]}
    for name, participant, role in given:
        kind = name.split("-")[1].upper()
        assert named[f"{beginning}{name}.mp4"] == {"id": str(participant), "kind": kind, "guestRole": role}
    assert named[f"{beginning}video.mp4"] is named[f"{beginning}speakers.ogg"] is None
    assert b"microphone" in files["README.txt"]
    assert b"INTERPRETER" not in "".join(files).encode()


async def test_omitted_microphone_does_not_change_the_names_of_others(harness: ExportHarness) -> None:
    video, patient = await harness.recording(b"the video"), harness.participant("PATIENT")
    gone = await harness.recording(b"first", video_id=video, participant=patient)
    await harness.recording(
        b"second", video_id=video, participant=patient, started_at="2026-11-20 23:40:00+00"
    )
    await harness.storage.delete(f"keep/{harness.consultation}/{video}/microphone-{gone}.mp4")
    request = harness.request()
    await harness.exports.export(request)
    files = await harness.opened(request)
    assert files[f"2026-11-20_{video}_microphone-patient-2.mp4"] == b"second"
    assert f"2026-11-20_{video}_microphone-patient.mp4" not in files
    assert json.loads(files["manifest.json"])["missing"] == [str(gone)]


@pytest.mark.parametrize("status", ["VERIFYING", "STOPPING", "LOST"])
async def test_copy_waits_for_a_sound_that_may_still_arrive(harness: ExportHarness, status: str) -> None:
    video, patient = await harness.recording(b"the video"), harness.participant("PATIENT")
    sound = await harness.recording(b"late", status=status, video_id=video, participant=patient)
    request = harness.request()
    with pytest.raises(Conflict, match="recording_not_finished"):
        await harness.exports.export(request)
    harness.rows("alter table resguardo.recordings disable trigger user")
    harness.rows(
        "update resguardo.recordings set status = 'LOST', status_at = now() - interval '8 days' where id = %s",
        sound,
    )
    harness.rows("alter table resguardo.recordings enable trigger user")
    await harness.exports.export(request)
    assert len(await harness.opened(request)) == 3


async def test_copy_fulfils_the_request_and_is_audited(harness: ExportHarness) -> None:
    await harness.recording(b"film")
    request = harness.request()
    await harness.exports.export(request)
    found, copy = harness.found(request), harness.copy(request)
    assert copy is not None
    size = len(await harness.content(copy["object_key"]))
    assert (found["status"], found["export_status"], found["export_recordings"]) == ("FULFILLED", "READY", 1)
    assert (found["export_size_bytes"], found["export_expires_at"]) == (size, copy["expires_at"])
    assert copy["expires_at"] - copy["ready_at"] == timedelta(days=30)
    assert await harness.keys() == [copy["object_key"]]
    assert harness.audited(request) == [
        ("access_request.export", "ALLOWED", None, "E", "resguardo_worker", 1, size)
    ]
    read = harness.rows(
        "select "
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
        " as entity_ids, basis from audit.events where action = 'recording.read_key'"
    )
    assert [row["basis"] for row in read] == ["export_access_request"]


async def test_copy_of_one_consultation_holds_no_other(harness: ExportHarness) -> None:
    await harness.recording(b"this one")
    with practice_of(harness.database.superuser_url) as practice:
        other = practice.consultation(DOCTOR, PATIENT)
    await harness.recording(b"of another visit", consultation=other)
    request = harness.request(of_consultation=True)
    await harness.exports.export(request)
    files = await harness.opened(request)
    assert [content for name, content in files.items() if name.endswith(".mp4")] == [b"this one"]


async def test_copy_opens_with_its_own_secret_alone_and_shows_tampering(harness: ExportHarness) -> None:
    await harness.recording(b"film" * 1000)
    request = harness.request()
    await harness.exports.export(request)
    copy = harness.copy(request)
    assert copy is not None
    archive = await harness.content(copy["object_key"])
    assert b"filmfilm" not in archive
    with pytest.raises(WrongSecretError):
        read_archive(archive, new_secret())
    altered = bytearray(archive)
    altered[len(archive) // 2] ^= 1
    with pytest.raises(TamperedError):
        read_archive(bytes(altered), copy["secret"])


def test_secret_can_be_read_aloud_and_has_a_hundred_bits() -> None:
    made = {new_secret() for _ in range(500)}
    assert len(made) == 500
    assert all(re.fullmatch(r"([2-9A-HJ-NP-Z]{4}-){4}[2-9A-HJ-NP-Z]{4}", secret) for secret in made)
    assert (len(encrypted_zip._ALPHABET), len(set(encrypted_zip._ALPHABET))) == (32, 32)
    assert {letter for secret in made for letter in secret} == {*encrypted_zip._ALPHABET, "-"}


async def test_copy_of_a_large_recording_holds_little_of_it_at_a_time(harness: ExportHarness) -> None:
    content = os.urandom(1024 * 1024) * 70
    await harness.recording(content)
    request = harness.request()
    exports, storage = harness.process()
    await exports.export(request)
    part, chunk = storage_uploads.PART_BYTES, exports_module._READ_BYTES
    assert storage.read_bytes == len(content)
    assert storage.written_bytes > len(content)
    assert storage.largest == part
    assert storage.most_held <= part + 2 * chunk
    (copy,) = harness.rows("select object_key, secret from private.access_exports")
    files = read_archive(await harness.content(copy["object_key"]), copy["secret"])
    assert [hashlib.sha256(one).hexdigest() for name, one in files.items() if name.endswith("mp4")] == [
        hashlib.sha256(content).hexdigest()
    ]


async def test_copy_names_the_transcripts_and_insights_that_it_does_not_contain(
    harness: ExportHarness,
) -> None:
    days = ("2026-11-20 10:00:00+00", "2026-11-21 10:00:00+00", "2026-11-22 10:00:00+00")
    both, transcribed, neither = [await harness.recording(b"film", started_at=day) for day in days]
    with practice_of(harness.database.superuser_url) as practice:
        practice.transcript(both)
        practice.insights(both, "STALE")
        practice.transcript(transcribed)
        practice.transcript(neither, "PENDING")
    request = harness.request()
    await harness.exports.export(request)
    files = await harness.opened(request)
    listed = [(one["recordingId"], one["kind"]) for one in json.loads(files["manifest.json"])["notCopied"]]
    expected = [(str(both), "TRANSCRIPT"), (str(both), "INSIGHTS"), (str(transcribed), "TRANSCRIPT")]
    assert sorted(listed) == sorted(expected)
    assert files["README.txt"].decode().count("notCopied") == 2


@pytest.mark.parametrize("content", [b"falsified", b"short"], ids=["another digest", "another size"])
async def test_recording_with_a_changed_object_is_omitted_and_named(
    harness: ExportHarness, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await harness.recording(b"whole", started_at="2026-11-21 10:00:00+00")
    broken = [
        await harness.recording(content, sha256=hashlib.sha256(one).hexdigest(), started_at=day)
        for one, day in ((b"the film.", "2026-11-20 10:00:00+00"), (b"another", "2026-11-22 10:00:00+00"))
    ]
    if len(content) < 9:  # The recorded size is larger than the object
        for one in broken:
            await _set(harness, "update resguardo.recordings set size_bytes = 9 where id = %s", one)
    request = harness.request()
    await harness.exports.export(request)
    found, files = harness.found(request), await harness.opened(request)
    assert (found["status"], found["export_recordings"], found["export_missing"]) == ("FULFILLED", 1, 2)
    assert [one for name, one in files.items() if name.endswith(".mp4")] == [b"whole"]
    manifest = json.loads(files["manifest.json"])
    assert (manifest["missing"], manifest["notWhole"]) == ([], sorted(map(str, broken)))
    assert files["README.txt"].decode().count(str(broken[0])) == 2
    copy = harness.copy(request)
    assert copy is not None
    assert await harness.keys() == [copy["object_key"]]
    assert not {*broken} & {*copy["recording_ids"]}
    assert [row[:3] for row in harness.audited(request)] == [
        ("access_request.export", "ALLOWED", "incomplete")
    ]
    assert f"copy is not whole: access_request={request} left_out=2" in caplog.text
    assert await evaluated_alerts(harness.database, harness.worker) == [
        ("ACCESS_COPY_INCOMPLETE", str(request))
    ]


async def _set(harness: ExportHarness, update: LiteralString, recording: UUID) -> None:
    """Update the row of a recording, with all triggers of the database disabled."""
    with psycopg.connect(harness.database.superuser_url) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(update, (recording,))


async def test_missing_recording_is_omitted_from_the_copy(harness: ExportHarness) -> None:
    stays, gone = await harness.recording(b"stays"), await harness.recording(b"gone")
    await _set(
        harness,
        "update resguardo.recordings set missing_since = now() - interval '3 days' where id = %s",
        gone,
    )
    await harness.storage.delete(f"keep/{harness.consultation}/{gone}/video.mp4")
    request = harness.request()
    await harness.exports.export(request)
    found, files = harness.found(request), await harness.opened(request)
    assert (found["status"], found["export_recordings"], found["export_missing"]) == ("FULFILLED", 1, 1)
    assert min(files) == f"2026-11-20_{stays}_video.mp4"
    assert json.loads(files["manifest.json"])["missing"] == [str(gone)]
    assert str(gone) in files["README.txt"].decode()
    copy = harness.copy(request)
    assert copy is not None
    assert copy["recording_ids"] == [stays]


async def test_copy_without_any_existing_recording_fulfils_the_request(harness: ExportHarness) -> None:
    gone = await harness.recording(b"gone")
    await harness.storage.delete(f"keep/{harness.consultation}/{gone}/video.mp4")
    request = harness.request()
    await harness.exports.export(request)
    found, files = harness.found(request), await harness.opened(request)
    assert (found["export_status"], found["export_recordings"], found["export_missing"]) == ("READY", 0, 1)
    assert sorted(files) == ["README.txt", "manifest.json"]


def _note(
    harness: ExportHarness,
    recording: UUID,
    *texts: str,
    kind: NoteKind = NoteKind.SESSION,
    start_ms: int | None = None,
) -> UUID:
    """Insert a note with these versions. Return its id."""
    note, data_key = uuid4(), KEYRING.new_data_key()
    harness.rows(
        "insert into private.root_keys (id, check_value) values ('first', %s) on conflict do nothing",
        bytes(16),
    )
    (stored,) = harness.rows(
        "insert into private.recording_keys as k values (%s, %s, 'first') on conflict (recording_id)"
        " do update set root_key_id = k.root_key_id returning wrapped_key",
        recording,
        data_key.wrapped,
    )
    key = KEYRING.unwrap(stored["wrapped_key"], "first")
    sealed = [encrypt_text(key, kind, recording, note, n, text) for n, text in enumerate(texts, start=1)]
    if kind is NoteKind.PSYCHOTHERAPY:
        harness.rows(
            "insert into private.psychotherapy_notes"
            " (id, recording_id, consultation_id, author_id, ciphertext, changed_by)"
            " select %s, r.id, r.consultation_id, r.doctor_id, %s, r.doctor_id"
            " from resguardo.recordings as r where r.id = %s",
            note,
            sealed[0],
            recording,
        )
        return note
    harness.rows(
        "insert into private.session_notes"
        " (id, recording_id, consultation_id, author_id, version, start_ms, ciphertext, changed_by)"
        " select %s, r.id, r.consultation_id, r.doctor_id, %s, %s, %s, r.doctor_id"
        " from resguardo.recordings as r where r.id = %s",
        note,
        len(texts),
        start_ms,
        sealed[-1],
        recording,
    )
    for number, earlier in enumerate(sealed[:-1], start=1):
        harness.rows(
            "insert into private.session_note_versions (note_id, version, recording_id, ciphertext, changed_by,"
            " changed_at) select %s, %s, r.id, %s, r.doctor_id, now() from resguardo.recordings as r where r.id = %s",
            note,
            number,
            earlier,
            recording,
        )
    return note


async def test_copy_has_every_version_of_session_notes_and_no_psychotherapy_note(
    harness: ExportHarness,
) -> None:
    recording = await harness.recording(b"film")
    first = _note(harness, recording, "Says little.", "Says m\u00e1s.", start_ms=1500)
    second = _note(harness, recording, "Another line.")
    apart = _note(harness, recording, "Avoids the subject.", kind=NoteKind.PSYCHOTHERAPY)
    request = harness.request()
    await harness.exports.export(request)
    files = await harness.opened(request)
    name = f"2026-11-20_{recording}_session-notes.json"
    assert set(files) == {"README.txt", "manifest.json", f"2026-11-20_{recording}_video.mp4", name}
    notes = json.loads(files[name])
    lines = {line["id"]: line for line in notes["lines"]}
    assert notes["recordingId"] == str(recording)
    assert lines.keys() == {str(first), str(second)}
    assert [(one["version"], one["startSeconds"], one["text"]) for one in lines[str(first)]["versions"]] == [
        (1, None, "Says little."),
        (2, 1.5, "Says m\u00e1s."),
    ]
    assert lines[str(first)]["authorId"] == str(DOCTOR)
    whole = b"".join(files.values())
    assert b"Avoids" not in whole
    assert str(apart).encode() not in whole
    listed = {one["name"]: one for one in json.loads(files["manifest.json"])["files"]}
    assert listed[name]["sha256"] == hashlib.sha256(files[name]).hexdigest()
    assert (harness.found(request)["export_recordings"], harness.found(request)["export_missing"]) == (1, 0)
    (audited,) = harness.rows(
        "select entities, patient_ids from audit.events where action = 'session_note.export'"
    )
    assert audited["entities"] == [{"type": "recording", "ids": [str(recording)]}]
    assert audited["patient_ids"] == [PATIENT]


async def test_copy_of_notes_on_a_failed_recording_ends_with_the_recording(harness: ExportHarness) -> None:
    failed = await harness.recording(b"none", status="FAILED")
    _note(harness, failed, "The camera failed.")
    request = harness.request()
    await harness.exports.export(request)
    found, files = harness.found(request), await harness.opened(request)
    assert (found["status"], found["export_status"], found["export_recordings"]) == ("FULFILLED", "READY", 0)
    (name,) = [one for one in files if one.endswith(".json") and one != "manifest.json"]
    assert json.loads(files[name])["lines"][0]["versions"][0]["text"] == "The camera failed."
    copy = harness.copy(request)
    assert copy is not None
    assert copy["recording_ids"] == [failed]


async def test_psychotherapy_notes_alone_make_no_copy(harness: ExportHarness) -> None:
    failed = await harness.recording(b"none", status="FAILED")
    _note(harness, failed, "Avoids the subject.", kind=NoteKind.PSYCHOTHERAPY)
    request = harness.request()
    await harness.exports.export(request)
    assert harness.found(request)["export_status"] == "NOTHING_RECORDED"


async def test_copy_of_notes_that_cannot_be_decrypted_is_not_made(harness: ExportHarness) -> None:
    recording = await harness.recording(b"film")
    _note(harness, recording, "One.")
    harness.rows("update private.session_notes set ciphertext = %s", bytes(40))
    request = harness.request()
    with pytest.raises(Conflict, match="field_unreadable"):
        await harness.exports.export(request)
    assert harness.found(request)["status"] == "APPROVED"


async def test_recording_that_is_moved_during_the_lookup_is_in_the_copy(harness: ExportHarness) -> None:
    recording = await harness.recording(b"film")
    old, new = (f"{where}/{harness.consultation}/{recording}/video.mp4" for where in ("keep", "moved"))
    request = harness.request()

    class Moving(WatchedStorage):
        async def head(self, key: str) -> StoredObject | None:
            if key == old and await super().head(old) is not None:
                await self.put_new(new, b"film", "video/mp4")
                harness.rows(
                    "update private.recording_secrets set object_key = %s where recording_id = %s",
                    new,
                    recording,
                )
                await self.delete(old)
            return await super().head(key)

    storage = Moving(
        endpoint_url=harness.store.endpoint_url, bucket=harness.store.bucket, credentials=harness.store.writer
    )
    await Exports(harness.worker, storage, KEYRING, compose_note_files, deployment=DEPLOYMENT).export(request)
    storage.close()
    assert (harness.found(request)["export_recordings"], harness.found(request)["export_missing"]) == (1, 0)


async def test_no_recording_is_reported_missing_from_another_deployments_bucket(
    harness: ExportHarness,
) -> None:
    recording = await harness.recording(b"film")
    await harness.storage.delete(f"keep/{harness.consultation}/{recording}/video.mp4")
    request = harness.request()
    with pytest.raises(Conflict, match="bucket_of_another_deployment"):
        await Exports(
            harness.worker, harness.storage, KEYRING, compose_note_files, deployment="another"
        ).export(request)
    assert harness.found(request)["status"] == "APPROVED"


async def test_objects_of_crashed_attempts_are_deleted_before_the_request_is_fulfilled(
    harness: ExportHarness,
) -> None:
    await harness.recording(b"stays")
    gone = await harness.recording(b"gone")
    request = harness.request()
    pool = _DyingPool(harness.database.worker_url, application="dying", max_size=2)
    await pool.open()
    with pytest.raises(Killed):
        await Exports(
            pool.lives(1, commits_last=False),
            harness.storage,
            KEYRING,
            compose_note_files,
            deployment=DEPLOYMENT,
        ).export(request)
    await pool.close()
    assert len(await harness.keys()) == 1
    await harness.storage.delete(f"keep/{harness.consultation}/{gone}/video.mp4")
    await harness.exports.export(request)
    copy = harness.copy(request)
    assert copy is not None
    assert await harness.keys() == [copy["object_key"]]


async def test_request_without_recordings_is_fulfilled_as_nothing_recorded(harness: ExportHarness) -> None:
    lost = await harness.recording(b"lost", status="LOST")
    await _set(
        harness, "update resguardo.recordings set status_at = now() - interval '8 days' where id = %s", lost
    )
    await harness.recording(b"never began", status="ABORTED")
    request = harness.request()
    await harness.exports.export(request)
    found = harness.found(request)
    assert (found["status"], found["export_status"], found["export_recordings"]) == (
        "FULFILLED",
        "NOTHING_RECORDED",
        0,
    )
    assert (harness.copy(request), await harness.keys()) == (None, [])


@pytest.mark.parametrize("status", ["REQUESTED", "STARTING", "RECORDING", "STOPPING", "VERIFYING", "LOST"])
async def test_copy_waits_for_recordings_that_may_still_become_ready(
    harness: ExportHarness, status: str
) -> None:
    await harness.recording(b"film")
    coming = await harness.recording(b"coming", status=status)
    request = harness.request()
    with pytest.raises(Conflict, match="recording_not_finished"):
        await harness.exports.export(request)
    assert (harness.found(request)["status"], harness.copy(request), await harness.keys()) == (
        "APPROVED",
        None,
        [],
    )
    await _set(harness, "update resguardo.recordings set status = 'READY' where id = %s", coming)
    await harness.exports.export(request)
    assert harness.found(request)["export_recordings"] == 2


def _deletion(harness: ExportHarness, recording: UUID, **values: object) -> UUID:
    (row,) = harness.rows(
        "insert into resguardo.deletions (recording_id, consultation_id, doctor_id, patient_id, ground, status,"
        " next_attempt_at, shredded_at) values (%s, %s, %s, %s, 'RETENTION', 'DELETING', %s, %s) returning id",
        recording,
        harness.consultation,
        DOCTOR,
        PATIENT,
        values.get("next_attempt_at", "2026-11-21T00:00:00+00:00"),
        values.get("shredded_at"),
    )
    return UUID(str(row["id"]))


async def test_recording_that_is_destroyed_goes_into_no_copy(harness: ExportHarness) -> None:
    doomed = await harness.recording(b"doomed")
    await harness.recording(b"its voices", video_id=doomed)
    stays = await harness.recording(b"stays")
    _deletion(harness, doomed, shredded_at="2026-11-21T00:00:00+00:00")
    request = harness.request()
    await harness.exports.export(request)
    files = await harness.opened(request)
    assert sorted(files) == [f"2026-11-20_{stays}_video.mp4", "README.txt", "manifest.json"]


async def test_recording_whose_destruction_is_held_off_is_in_the_copy(harness: ExportHarness) -> None:
    recording = await harness.recording(b"spared")
    deletion = _deletion(harness, recording, next_attempt_at="2100-01-01T00:00:00+00:00")
    request = harness.request()
    with pytest.raises(Conflict, match="recording_being_deleted"):
        await harness.exports.export(request)
    harness.rows(
        "update resguardo.deletions set next_attempt_at = now() - interval '1 second' where id = %s", deletion
    )
    await harness.exports.export(request)
    assert harness.found(request)["export_recordings"] == 1


async def test_copy_begins_again_if_a_key_is_destroyed_before_it_is_ready(harness: ExportHarness) -> None:
    recording = await harness.recording(b"film")
    request = harness.request()

    class Slow(Exports):
        async def _read(self, file: model.ExportedFile) -> AsyncIterator[bytes]:
            _deletion(harness, recording, shredded_at="2026-11-21T00:00:00+00:00")
            async for chunk in super()._read(file):
                yield chunk

    await Slow(harness.worker, harness.storage, KEYRING, compose_note_files, deployment=DEPLOYMENT).export(
        request
    )
    assert (await harness.keys(), harness.copy(request)) == ([], None)
    await harness.exports.export(request)
    assert harness.found(request)["export_status"] == "NOTHING_RECORDED"


async def test_key_destruction_waits_for_the_lock_of_the_request_without_a_deadlock(
    harness: ExportHarness,
) -> None:
    recording = await harness.recording(b"film")
    request = harness.request()
    await harness.exports.export(request)
    deletion = _deletion(harness, recording)
    async with (
        await psycopg.AsyncConnection.connect(harness.database.superuser_url) as ending,
        await psycopg.AsyncConnection.connect(harness.database.superuser_url) as shredding,
    ):
        await ending.execute("select from resguardo.access_requests where id = %s for update", (request,))
        shred = asyncio.create_task(
            shredding.execute(
                "select private.shred_keys(array[%s::uuid], array[0], '{}', '{}', '{}', '{}')", (deletion,)
            )
        )
        await asyncio.sleep(0.3)
        assert not shred.done()
        await ending.execute(
            "update private.access_exports set secret = null where request_id = %s", (request,)
        )
        await ending.commit()
        await shred
        await shredding.commit()
    assert (harness.copy(request), harness.found(request)["export_status"]) == (None, "DELETED")


@pytest.mark.parametrize("status", ["OPEN", "WITHDRAWN"])
async def test_request_that_is_not_approved_gets_no_copy(harness: ExportHarness, status: str) -> None:
    await harness.recording(b"film")
    request = harness.request(status)
    await harness.exports.export(request)
    assert (harness.found(request)["status"], harness.copy(request), await harness.keys()) == (
        status,
        None,
        [],
    )


async def test_copy_covers_the_video_of_a_sound_too_for_whoever_destroys_that(harness: ExportHarness) -> None:
    video = await harness.recording(b"failed", status="FAILED")
    sound = await harness.recording(b"voices", video_id=video)
    request = harness.request()
    await harness.exports.export(request)
    copy = harness.copy(request)
    assert copy is not None
    assert set(copy["recording_ids"]) == {video, sound}
    assert harness.found(request)["export_recordings"] == 1


@pytest.mark.parametrize("scheduled_at", ["0987-06-05", "1970-01-01", "2150-01-01"])
async def test_import_for_an_impossible_appointment_is_copied_too(
    harness: ExportHarness, scheduled_at: str
) -> None:
    await harness.recording(b"brought along", started_at=None)
    harness.rows("update resguardo.consultations set scheduled_at = %s", f"{scheduled_at}T12:00:00+00:00")
    request = harness.request()
    await harness.exports.export(request)
    files = await harness.opened(request)
    (name,) = [name for name in files if name.endswith(".mp4")]
    assert (name[:10], files[name]) == (scheduled_at, b"brought along")


async def test_copy_whose_recording_is_destroyed_meanwhile_is_begun_anew(harness: ExportHarness) -> None:
    await harness.recording(b"film")
    request = harness.request()

    class Losing(Exports):
        async def _read(self, file: model.ExportedFile) -> AsyncIterator[bytes]:
            harness.rows("delete from private.access_exports where request_id = %s", request)
            async for chunk in super()._read(file):
                yield chunk

    await Losing(harness.worker, harness.storage, KEYRING, compose_note_files, deployment=DEPLOYMENT).export(
        request
    )
    assert await harness.keys() == []
    assert (harness.found(request)["status"], harness.found(request)["export_status"]) == ("APPROVED", None)
    jobs = harness.rows("select queue_name, task_name, args from jobs.procrastinate_jobs")
    assert [tuple(job.values()) for job in jobs] == [("media", "export_access_request", {"id": str(request)})]


@pytest.mark.parametrize("operation", ["begin_upload", "read_range", "put_part", "complete_upload"])
async def test_failure_of_the_store_leaves_nothing_and_the_next_try_succeeds(
    harness: ExportHarness, operation: str
) -> None:
    await harness.recording(b"film")
    request = harness.request()
    exports, _ = harness.process(fails=operation)
    with pytest.raises(UpstreamFailed):
        await exports.export(request)
    assert await harness.keys() == []
    await exports.export(request)
    assert harness.found(request)["status"] == "FULFILLED"
    assert len(await harness.opened(request)) == 3


async def _calls_of_an_export(harness: ExportHarness) -> int:
    request = harness.request()
    exports, storage = harness.process()
    await exports.export(request)
    harness.rows("update resguardo.access_requests set export_status = 'EXPIRED' where id = %s", request)
    harness.rows("update private.access_exports set expired_at = now() where request_id = %s", request)
    return storage.calls


@pytest.mark.parametrize("moment", ["dies_before", "dies_after"])
async def test_worker_killed_at_any_call_comes_to_the_same_end(harness: ExportHarness, moment: str) -> None:
    await harness.recording(b"film")
    how_many = await _calls_of_an_export(harness)
    assert how_many >= 6
    for number in range(how_many):
        request = harness.request()
        exports, storage = harness.process(**{moment: number})
        try:
            await exports.export(request)
        except Killed:
            assert storage.is_dead
        await harness.exports.export(request)
        found = harness.found(request)
        assert (found["status"], found["export_status"]) == ("FULFILLED", "READY"), number
        assert len(await harness.opened(request)) == 3
    harness.storage.age = PAST
    await harness.exports.run_once()
    kept = harness.rows("select object_key from private.access_exports where expired_at is null")
    assert sorted(await harness.keys()) == sorted(row["object_key"] for row in kept)
    assert await harness.exports.run_once() == NOTHING


class _DyingPool(Pool):
    """A connection pool that simulates the death of the process before or after the commit of the n-th transaction."""

    died = False

    def lives(self, transactions: int, *, commits_last: bool) -> "_DyingPool":
        self._left, self._commits_last = transactions, commits_last
        return self

    @asynccontextmanager
    async def as_service(self, reason: LiteralString) -> AsyncIterator[Transaction]:
        self._left -= 1
        if self._left < 0 and not self._commits_last:
            raise Killed
        async with super().as_service(reason) as tx:
            yield tx
        if self._left < 0:
            raise Killed


@pytest.mark.parametrize("commits_last", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("transaction", [0, 1])
async def test_worker_killed_at_a_commit_comes_to_the_same_end(
    harness: ExportHarness, transaction: int, commits_last: bool
) -> None:
    await harness.recording(b"film")
    request = harness.request()
    pool = _DyingPool(harness.database.worker_url, application="dying", max_size=2)
    await pool.open()
    try:
        dying = pool.lives(transaction, commits_last=commits_last)
        with pytest.raises(Killed):
            await Exports(dying, harness.storage, KEYRING, compose_note_files, deployment=DEPLOYMENT).export(
                request
            )
    finally:
        await pool.close()
    await harness.exports.export(request)
    assert harness.found(request)["status"] == "FULFILLED"
    assert len(await harness.opened(request)) == 3
    harness.storage.age = PAST
    await harness.exports.run_once()
    copy = harness.copy(request)
    assert copy is not None
    assert await harness.keys() == [copy["object_key"]]


async def test_two_workers_at_once_leave_one_copy_that_opens(harness: ExportHarness) -> None:
    await harness.recording(b"film" * 100_000)
    request = harness.request()
    another, _ = harness.process()
    await asyncio.gather(harness.exports.export(request), another.export(request))
    copy = harness.copy(request)
    assert copy is not None
    assert await harness.keys() == [copy["object_key"]]
    assert len(await harness.opened(request)) == 3
    assert [row[0] for row in harness.audited(request)] == ["access_request.export"]


async def test_request_withdrawn_while_its_copy_is_made_leaves_none(harness: ExportHarness) -> None:
    await harness.recording(b"film")
    request = harness.request()

    class Withdrawing(Exports):
        async def _read(self, file: model.ExportedFile) -> AsyncIterator[bytes]:
            harness.rows("update resguardo.access_requests set status = 'WITHDRAWN' where id = %s", request)
            async for chunk in super()._read(file):
                yield chunk

    await Withdrawing(
        harness.worker, harness.storage, KEYRING, compose_note_files, deployment=DEPLOYMENT
    ).export(request)
    assert await harness.keys() == []
    assert (await harness.exports.run_once()).ended == 1
    copy = harness.copy(request)
    assert copy is not None
    assert (copy["secret"], copy["ready_at"]) == (None, None)
    assert harness.found(request)["status"] == "WITHDRAWN"
    assert await harness.exports.run_once() == NOTHING


def _past_its_end(harness: ExportHarness, request: UUID) -> None:
    harness.rows(
        "update private.access_exports set ready_at = now() - interval '31 days',"
        " expires_at = now() - interval '1 second' where request_id = %s",
        request,
    )


async def test_copy_ends_after_its_time_and_not_before(harness: ExportHarness) -> None:
    await harness.recording(b"film")
    request = harness.request()
    await harness.exports.export(request)
    assert await harness.exports.run_once() == NOTHING
    _past_its_end(harness, request)
    assert await harness.exports.run_once() == replace(NOTHING, ended=1)
    copy = harness.copy(request)
    assert copy is not None
    assert (await harness.keys(), copy["secret"], harness.found(request)["export_status"]) == (
        [],
        None,
        "EXPIRED",
    )
    assert harness.audited(request)[-1][:5] == (
        "access_request.expire_export",
        "ALLOWED",
        None,
        "D",
        "resguardo_worker",
    )
    assert await harness.exports.run_once() == NOTHING


async def test_end_of_a_copy_interrupted_anywhere_is_finished_later(harness: ExportHarness) -> None:
    await harness.recording(b"film")
    for number in (1, 2):  # The first call deletes the copy, the second call checks
        for moment in ("dies_before", "dies_after"):
            request = harness.request()
            await harness.exports.export(request)
            _past_its_end(harness, request)
            exports, _ = harness.process(**{moment: number})
            with suppress(Killed):
                await exports.run_once()
            await harness.exports.run_once()
            assert (await harness.keys(), harness.found(request)["export_status"]) == ([], "EXPIRED")
            assert [row[0] for row in harness.audited(request)][1:] == ["access_request.expire_export"]


async def test_copy_under_a_lock_is_reported_and_not_ended(
    harness: ExportHarness, caplog: pytest.LogCaptureFixture
) -> None:
    await harness.recording(b"film")
    request = harness.request()
    await harness.exports.export(request)
    _past_its_end(harness, request)
    exports, _ = harness.process(fails="delete")
    assert (await exports.run_once()).ended == 0
    assert f"access_request={request}" in caplog.text
    assert harness.found(request)["export_status"] == "READY"
    assert (await exports.run_once()).ended == 1


async def test_sweep_deletes_only_old_objects_that_belong_to_no_copy(harness: ExportHarness) -> None:
    await harness.recording(b"film")
    request = harness.request()
    await harness.exports.export(request)
    copy = harness.copy(request)
    assert copy is not None
    orphan, foreign = f"exports/{request}/{uuid4()}.zip", "exports/by-hand.txt"
    for key in (orphan, foreign):
        await harness.storage.put_new(key, b"x", "application/zip")
    assert await harness.exports.run_once() == NOTHING
    harness.storage.age = QUARANTINE - timedelta(minutes=1)
    assert await harness.exports.run_once() == NOTHING
    harness.storage.age = PAST
    assert await harness.exports.run_once() == replace(NOTHING, swept=1)
    assert sorted(await harness.keys()) == sorted([copy["object_key"], foreign])
    assert harness.audited(request)[-1][:3] == ("object.sweep_orphan", "ALLOWED", "no_export_has_it")


async def test_sweep_ends_uploads_that_nobody_finishes(harness: ExportHarness) -> None:
    await harness.recording(b"film")
    request = harness.request()
    exports, _ = harness.process(dies_after=3)
    with pytest.raises(Killed):
        await exports.export(request)
    (left,) = await harness.keys()
    assert left.startswith("upload exports/")
    assert await harness.exports.run_once() == NOTHING
    harness.storage.age = PAST
    assert await harness.exports.run_once() == replace(NOTHING, aborted=1)
    assert await harness.keys() == []


async def test_copy_deleted_with_a_recording_has_the_status_deleted(harness: ExportHarness) -> None:
    await harness.recording(b"film")
    request = harness.request()
    await harness.exports.export(request)
    harness.rows("delete from private.access_exports where request_id = %s", request)
    found = harness.found(request)
    assert (found["status"], found["export_status"]) == ("FULFILLED", "DELETED")


async def test_overdue_request_opens_an_alert_until_somebody_decides(harness: ExportHarness) -> None:
    late = harness.request("OPEN", days_ago=31)
    harness.request("OPEN", of_consultation=True, days_ago=30)
    harness.request("WITHDRAWN", days_ago=60)
    for _ in range(2):
        alerts = await evaluated_alerts(harness.database, harness.worker)
        assert alerts == [("ACCESS_REQUEST_OVERDUE", str(late))]
    harness.rows("update resguardo.access_requests set status = 'WITHDRAWN' where id = %s", late)
    assert await evaluated_alerts(harness.database, harness.worker) == []


async def test_nothing_is_swept_in_another_deployments_bucket(harness: ExportHarness) -> None:
    with pytest.raises(Conflict, match="bucket_of_another_deployment"):
        await Exports(
            harness.worker, harness.storage, KEYRING, compose_note_files, deployment="another"
        ).run_once()


async def test_notice_stands_in_the_readme_of_a_copy_about_substance_use(harness: ExportHarness) -> None:
    await harness.recording(b"the video")
    ordinary = harness.request()
    await harness.exports.export(ordinary)
    assert "42 CFR part 2" not in (await harness.opened(ordinary))["README.txt"].decode()
    await _set(
        harness,
        "update resguardo.consultations set sensitivity = 'SUBSTANCE_USE' where id = %s",
        harness.consultation,
    )
    request = harness.request()
    await harness.exports.export(request)
    files = await harness.opened(request)
    for language in LANGUAGES:
        assert redisclosure_notice(language) in files["README.txt"].decode()
    assert not any("notice" in name.lower() for name in files)
