"""Tests of the exports of the audit log, on a real object store and a real database: what an archive contains, when an
export is stopped, and when its archive is deleted.
"""

import csv
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from app.audit.sealing.sealer import Sealer
from app.audit.verification.receipts import Receipt
from app.audit_exports import event_files, store
from app.audit_exports import exporter as exporter_module
from app.audit_exports.event_files import COLUMNS
from app.audit_exports.exporter import AuditExporter, AuditExportsReport, Receipts
from app.audit_exports.model import AuditExportFormat
from app.deployment import mark_database
from app.errors import Conflict, UpstreamFailed
from app.postgres.database import Database as Pool
from app.transparency_log.events import SALT_COLUMN, VERSION_COLUMN
from devstack.object_store import ObjectStore
from tests.alerts import evaluated_alerts
from tests.databases import Database
from tests.integration.test_exports import Killed, WatchedStorage
from tests.integration.winzip import WrongSecretError, read_archive
from tests.practice import practice_of

pytestmark = pytest.mark.anyio

DEPLOYMENT = "practice"
OFFICER, OTHER_OFFICER, DOCTOR = UUID(int=11), UUID(int=12), UUID(int=13)
ORIGIN = "resguardo/practice/2026"
VERIFIER = Path(__file__).parents[2] / "tools" / "verify_audit.py"


async def _no_work() -> None:
    """Do nothing while the exporter waits for a seal."""


@dataclass
class Sealing:
    """A stand-in of the sealer: an event has a receipt after it was asked for `polls` times. `while_waiting` runs in
    place of each pause.
    """

    polls: int = 2
    is_published: bool = True
    asked: list[UUID] = field(default_factory=list)
    while_waiting: Callable[[], Awaitable[None]] = _no_work

    async def read_receipt(self, event_id: UUID) -> Receipt | None:
        self.asked.append(event_id)
        if len(self.asked) <= self.polls:
            return None
        event, proof = b'{"action":"audit.export_content"}', b"c2sp.org/tlog-proof@v1\n"
        return Receipt(event_id, ORIGIN, 7, 8, event, proof, self.is_published)

    async def sleep(self, seconds: float) -> None:
        assert seconds == exporter_module.POLL_SECONDS
        await self.while_waiting()


@dataclass
class ExportHarness:
    """A worker's exporter with its bucket and its database, and two compliance officers."""

    database: Database
    worker: Pool
    storage: WatchedStorage
    store: ObjectStore
    sealing: Sealing
    exporter: AuditExporter

    def process(self, **how: object) -> AuditExporter:
        """Return the exporter of a second worker. The keyword arguments set attributes of its storage client."""
        storage = _storage(self.store)
        for name, value in how.items():
            setattr(storage, name, value)
        return _exporter(self.worker, storage, self.sealing)

    def rows(self, sql: LiteralString, *values: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.database.superuser_url, row_factory=dict_row) as connection:
            cursor = connection.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def events(self, count: int, *, action: str = "recording.read", patient: UUID | None = None) -> None:
        """Insert audit events of a doctor."""
        self.rows(
            "insert into audit.events (recorded_at, actor_id, actor_role, action, operation, outcome, purpose, basis,"
            " patient_ids, fields, address, policy_version)"
            " select clock_timestamp() - interval '1 hour' * n, %s, 'clinician', %s, 'R', 'ALLOWED', 'TREATMENT',"
            " 'treating_clinician', %s, '{id,status}', '2001:db8::1', '0f' from generate_series(1, %s) as n",
            DOCTOR,
            action,
            [patient] if patient else [],
            count,
        )

    def request(
        self, form: AuditExportFormat = AuditExportFormat.NDJSON, officer: UUID = OFFICER, **wanted: object
    ) -> UUID:
        """Insert an export that an officer asks for, with the fields of its filter. Return its id."""
        (row,) = self.rows(
            "insert into resguardo.audit_exports (requested_by, format, filter)"
            " values (%s, %s, jsonb_populate_record(null::private.audit_filter, %s::jsonb)) returning id",
            officer,
            form.value,
            json.dumps(wanted, default=str),
        )
        return UUID(str(row["id"]))

    def found(self, export: UUID) -> dict[str, Any]:
        (row,) = self.rows("select * from resguardo.audit_exports where id = %s", export)
        return row

    def file(self, export: UUID) -> dict[str, Any] | None:
        rows = self.rows("select * from private.audit_export_files where export_id = %s", export)
        return rows[0] if rows else None

    async def opened(self, export: UUID) -> dict[str, bytes]:
        """Decrypt the archive with its secret. Return the content of each file by its name."""
        file = self.file(export)
        assert file is not None
        body = await self.storage.get_small(file["object_key"], 200_000_000)
        assert body is not None
        return read_archive(body, file["secret"])

    async def keys(self) -> list[str]:
        """Return the keys of all objects and unfinished uploads under exports/."""
        objects = [one.key async for page in self.storage.list_objects("exports/") for one in page.objects]
        uploads = [one.key async for page in self.storage.list_uploads("exports/") for one in page.uploads]
        return objects + [f"upload {key}" for key in uploads]

    def audited(self, export: UUID) -> list[tuple[Any, ...]]:
        rows = self.rows(
            "select action, outcome, reason, row_count from audit.events"
            " where entities @> jsonb_build_array(jsonb_build_object('type', 'audit_export', 'ids',"
            " jsonb_build_array(%s::text))) order by recorded_at, id",
            str(export),
        )
        return [tuple(row.values()) for row in rows]

    def suspend(self, officer: UUID = OFFICER) -> None:
        """Suspend an officer, as `suspendStaff` does."""
        self.rows(
            "update resguardo.staff set status = 'suspended', suspended_at = now() where user_id = %s",
            officer,
        )
        self.rows("select private.end_work_of(%s)", officer)

    def jobs(self, export: UUID) -> int:
        """Return the number of queued jobs of an export."""
        (row,) = self.rows(
            "select count(*) as n from jobs.procrastinate_jobs"
            " where task_name = 'export_audit_events' and args ->> 'id' = %s",
            str(export),
        )
        return int(row["n"])


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[ExportHarness]:
    mark_database(database.owner_url, DEPLOYMENT)
    storage = _storage(emptied_store)
    await storage.claim(DEPLOYMENT)
    worker = Pool(database.worker_url, application="test", max_size=4)
    await worker.open()
    try:
        with practice_of(database.superuser_url) as practice:
            for officer in (OFFICER, OTHER_OFFICER):
                practice.member(practice.user(officer), "compliance")
        sealing = Sealing()
        exporter = _exporter(worker, storage, sealing)
        yield ExportHarness(database, worker, storage, emptied_store, sealing, exporter)
    finally:
        storage.close()
        await worker.close()


def _storage(store: ObjectStore) -> WatchedStorage:
    return WatchedStorage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)


def _exporter(worker: Pool, storage: WatchedStorage, sealing: Sealing) -> AuditExporter:
    return AuditExporter(worker, storage, sealing.read_receipt, deployment=DEPLOYMENT, sleep=sealing.sleep)


def _lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


async def test_archive_has_the_events_the_receipt_and_a_readme_that_certifies_them(
    harness: ExportHarness,
) -> None:
    harness.events(5)
    export = harness.request()
    await harness.exporter.export(export)
    files, found = await harness.opened(export), harness.found(export)
    assert list(files) == ["audit-events.ndjson", "receipt.tlog-proof", "receipt-event.json", "README.txt"]
    digest = hashlib.sha256(files["audit-events.ndjson"]).hexdigest()
    events = [line["event"] for line in _lines(files["audit-events.ndjson"])]
    assert [event["recorded_at"] for event in events] == sorted(
        (event["recorded_at"] for event in events), reverse=True
    )
    stored = harness.rows("select id from audit.events where recorded_at < %s", found["created_at"])
    assert {event["id"] for event in events} == {str(row["id"]) for row in stored}
    assert (found["status"], found["percent_done"], found["event_count"]) == ("READY", 100, len(events))
    assert (found["sha256"], found["expires_at"] - found["finished_at"]) == (digest, timedelta(days=7))
    readme = files["README.txt"].decode()
    for fact in (digest, str(export), str(OFFICER), str(found["content_event_id"]), ORIGIN, "ESPAÑOL"):
        assert fact in readme
    assert harness.sealing.asked == [found["content_event_id"]] * 3
    assert files["receipt.tlog-proof"].startswith(b"c2sp.org/tlog-proof@v1")


async def test_digest_of_the_file_is_in_the_audit_log(harness: ExportHarness) -> None:
    harness.events(3)
    export = harness.request()
    await harness.exporter.export(export)
    content = (await harness.opened(export))["audit-events.ndjson"]
    (row,) = harness.rows(
        "select * from audit.events where id = %s", harness.found(export)["content_event_id"]
    )
    assert (row["action"], row["operation"], row["outcome"]) == ("audit.export_content", "R", "ALLOWED")
    assert (row["actor_role"], row["basis"]) == ("resguardo_worker", "export_audit_events")
    assert row["digest"] == hashlib.sha256(content).hexdigest()
    assert (row["byte_count"], row["row_count"]) == (len(content), len(content.splitlines()))
    assert row["entities"] == [{"type": "audit_export", "ids": [str(export)]}]


async def test_csv_has_a_column_for_each_column_of_the_audit_log(harness: ExportHarness) -> None:
    harness.events(2)
    export = harness.request(AuditExportFormat.CSV)
    await harness.exporter.export(export)
    files = await harness.opened(export)
    rows = list(csv.DictReader(io.StringIO(files["audit-events.csv"].decode(), newline="")))
    assert len(rows) == harness.found(export)["event_count"]
    columns = harness.rows(
        "select a.attname as name from pg_attribute as a"
        " where a.attrelid = 'audit.events'::regclass and a.attnum > 0 and not a.attisdropped"
    )
    names = {row["name"] for row in columns} - {SALT_COLUMN, VERSION_COLUMN}
    assert {*COLUMNS} == names
    assert [*rows[0]] == ["log", "index", *COLUMNS]


async def test_filter_selects_the_events_and_the_patient_is_named_in_the_audit_log(
    harness: ExportHarness,
) -> None:
    with practice_of(harness.database.superuser_url) as practice:
        patient = practice.patient()
    harness.events(3, patient=patient)
    harness.events(4)
    export = harness.request(patient_id=patient, action="recording.read")
    await harness.exporter.export(export)
    events = [line["event"] for line in _lines((await harness.opened(export))["audit-events.ndjson"])]
    assert [event["patient_ids"] for event in events] == [[str(patient)]] * 3
    (row,) = harness.rows("select patient_ids from audit.events where action = 'audit.export_content'")
    assert row["patient_ids"] == [patient]


async def test_events_are_read_in_pages_without_gaps(
    harness: ExportHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter_module, "PAGE_SIZE", 3)
    harness.events(20)
    harness.rows(  # three events at the same moment, over the end of a page
        "insert into audit.events (recorded_at, actor_role, action, operation, outcome, purpose, basis, policy_version)"
        " select date_trunc('hour', now()) - interval '90 minutes', 'operator', 'recording.read', 'R', 'ALLOWED',"
        " 'LEGAL', 'self', '0f' from generate_series(1, 7)"
    )
    export = harness.request(action="recording.read")
    await harness.exporter.export(export)
    events = [line["event"] for line in _lines((await harness.opened(export))["audit-events.ndjson"])]
    assert len({event["id"] for event in events}) == len(events) == 27


async def test_export_without_events_is_an_archive_with_an_empty_file(harness: ExportHarness) -> None:
    export = harness.request(action="nobody.did")
    await harness.exporter.export(export)
    assert (await harness.opened(export))["audit-events.ndjson"] == b""
    assert harness.found(export)["event_count"] == 0


@pytest.mark.parametrize(
    "since", ["0001-01-01T00:00:00+05:00", "4713-01-01 BC", "2026-01-01", "9999-12-31T23:59:59-05:00"]
)
async def test_export_begins_at_the_first_event_however_early_its_filter_begins(
    harness: ExportHarness, since: str
) -> None:
    harness.events(3)
    (oldest,) = harness.rows("select min(recorded_at) as at from audit.events")
    async with harness.worker.as_service("export_audit_events") as tx:
        begun = await store.begin(tx, harness.request(since=since), "secret")
    assert begun is not None
    assert begun.oldest_at >= oldest["at"]


async def test_sealed_event_has_its_place_in_the_log(harness: ExportHarness) -> None:
    harness.events(2)
    sealed, unsealed = harness.rows(
        "select id, recorded_at, encode(salt, 'hex') as salt from audit.events where action = 'recording.read'"
        " order by recorded_at desc"
    )
    year = sealed["recorded_at"].year
    harness.rows(
        "insert into audit.logs (log_year, origin, size) values (%s, %s, 1) on conflict do nothing",
        year,
        ORIGIN,
    )
    harness.rows(
        "insert into audit.leaves (log_year, index, event_id, recorded_at, leaf_hash)"
        " values (%s, 0, %s, %s, sha256('leaf'))",
        year,
        sealed["id"],
        sealed["recorded_at"],
    )
    export = harness.request(action="recording.read")
    await harness.exporter.export(export)
    lines = _lines((await harness.opened(export))["audit-events.ndjson"])
    assert [(line["log"], line["index"], line["salt"]) for line in lines] == [
        (ORIGIN, 0, sealed["salt"]),
        (ORIGIN, None, None),
    ]
    assert lines[1]["event"]["id"] == str(unsealed["id"])


async def test_archive_opens_with_its_own_secret_alone(harness: ExportHarness) -> None:
    harness.events(1)
    export = harness.request()
    await harness.exporter.export(export)
    file = harness.file(export)
    assert file is not None
    archive = await harness.storage.get_small(file["object_key"], 10_000_000)
    assert archive is not None
    assert str(DOCTOR).encode() not in archive
    with pytest.raises(WrongSecretError):
        read_archive(archive, "AAAA-AAAA-AAAA-AAAA-AAAA")


async def test_export_of_an_officer_who_was_suspended_before_the_job_is_not_made(
    harness: ExportHarness,
) -> None:
    harness.events(3)
    export = harness.request()
    harness.suspend()
    await harness.exporter.export(export)
    found = harness.found(export)
    assert (found["status"], found["error"]) == ("STOPPED", "officer_lost_access")
    assert (await harness.keys(), harness.file(export)) == ([], None)
    assert harness.audited(export) == [("audit.export_stop", "ALLOWED", "officer_lost_access", 1)]


async def test_export_of_everything_by_an_officer_who_is_suspended_midway_is_stopped(
    harness: ExportHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter_module, "PAGE_SIZE", 2)
    harness.events(20)
    export = harness.request()
    pages = 0
    format_events = event_files.format_events

    def suspend_at_the_third_page(*given: Any) -> bytes:
        nonlocal pages
        pages += 1
        if pages == 3:
            harness.suspend()
        return format_events(*given)

    monkeypatch.setattr(exporter_module, "format_events", suspend_at_the_third_page)
    await harness.exporter.export(export)
    assert pages == 3
    found = harness.found(export)
    assert (found["status"], found["error"], found["sha256"]) == ("STOPPED", "officer_lost_access", None)
    assert (await harness.keys(), harness.file(export), harness.jobs(export)) == ([], None, 1)
    await harness.exporter.export(export)
    assert harness.found(export)["status"] == "STOPPED"


@pytest.mark.parametrize(
    "change",
    [
        "update auth.users set banned_until = now() + interval '1 day' where id = %s",
        "update auth.users set deleted_at = now() where id = %s",
        "update resguardo.staff set role = 'clinician' where user_id = %s",
    ],
    ids=["banned at Supabase", "deleted at Supabase", "another role"],
)
async def test_export_is_stopped_while_it_waits_for_its_seal(
    harness: ExportHarness, change: LiteralString
) -> None:
    harness.events(2)
    export = harness.request()

    async def lose_access() -> None:
        harness.rows(change, OFFICER)

    harness.sealing.while_waiting = lose_access
    await harness.exporter.export(export)
    assert harness.found(export)["status"] == "STOPPED"
    assert (await harness.keys(), harness.file(export)) == ([], None)


async def test_ready_export_of_an_officer_who_is_suspended_is_deleted(harness: ExportHarness) -> None:
    harness.events(2)
    export, other = harness.request(), harness.request(officer=OTHER_OFFICER)
    for one in (export, other):
        await harness.exporter.export(one)
    harness.suspend()
    assert (harness.found(export)["status"], harness.file(export)) == ("STOPPED", None)
    assert harness.jobs(export) == 1
    await harness.exporter.export(export)
    file = harness.file(other)
    assert file is not None
    assert await harness.keys() == [file["object_key"]]
    swept = harness.rows("select entities from audit.events where action = 'object.sweep_orphan'")
    assert [row["entities"] for row in swept] == [[{"type": "audit_export", "ids": [str(export)]}]]


async def test_ready_export_of_an_officer_who_was_banned_outside_is_stopped_by_the_pass(
    harness: ExportHarness,
) -> None:
    export = harness.request()
    await harness.exporter.export(export)
    harness.rows("update auth.users set banned_until = now() + interval '1 day' where id = %s", OFFICER)
    assert await harness.exporter.run_once() == AuditExportsReport(ended=0)
    assert harness.found(export)["status"] == "STOPPED"
    await harness.exporter.export(export)
    assert await harness.keys() == []


async def test_end_of_the_session_stops_no_export(harness: ExportHarness) -> None:
    with practice_of(harness.database.superuser_url) as practice:
        practice.session(OFFICER)
    export = harness.request()

    async def sign_out() -> None:
        harness.rows("delete from auth.sessions where user_id = %s", OFFICER)

    harness.sealing.while_waiting = sign_out
    await harness.exporter.export(export)
    assert harness.found(export)["status"] == "READY"


async def test_expired_export_is_deleted(harness: ExportHarness) -> None:
    export = harness.request()
    await harness.exporter.export(export)
    assert await harness.exporter.run_once() == AuditExportsReport(ended=0)
    harness.rows("update resguardo.audit_exports set expires_at = now() where id = %s", export)
    assert await harness.exporter.run_once() == AuditExportsReport(ended=1)
    assert await harness.exporter.run_once() == AuditExportsReport(ended=0)
    assert (harness.found(export)["status"], harness.file(export)) == ("EXPIRED", None)
    assert await harness.keys() == []
    assert [row[0] for row in harness.audited(export)] == ["audit.export_content", "audit.export_expire"]


async def test_failed_deletion_of_an_expired_export_is_repeated(harness: ExportHarness) -> None:
    export = harness.request()
    await harness.exporter.export(export)
    harness.rows("update resguardo.audit_exports set expires_at = now() where id = %s", export)
    assert await harness.process(fails="delete").run_once() == AuditExportsReport(ended=0)
    assert harness.found(export)["status"] == "READY"
    assert await harness.exporter.run_once() == AuditExportsReport(ended=1)


async def test_export_whose_event_is_not_sealed_in_time_is_tried_again(
    harness: ExportHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.events(2)
    export = harness.request()
    harness.sealing.polls = 10_000
    with pytest.raises(Conflict, match="audit_export_unsealed"):
        await harness.exporter.export(export)
    assert (harness.found(export)["status"], await harness.keys()) == ("RUNNING", [])
    first = harness.found(export)["content_event_id"]
    harness.sealing.polls = 0
    await harness.exporter.export(export)
    assert (harness.found(export)["status"], harness.found(export)["content_event_id"]) == ("READY", first)
    await harness.exporter.give_up(export, "audit_export_unsealed")
    assert harness.found(export)["status"] == "READY"


async def test_receipt_under_an_unpublished_checkpoint_is_used_if_none_is_published_in_time(
    harness: ExportHarness,
) -> None:
    export = harness.request()
    harness.sealing.is_published = False
    await harness.exporter.export(export)
    assert len(harness.sealing.asked) == exporter_module.SEAL_SECONDS / exporter_module.POLL_SECONDS
    readme = (await harness.opened(export))["README.txt"].decode()
    assert readme.count(f"resguardo audit receipt {harness.found(export)['content_event_id']}") == 2


async def test_last_failed_attempt_sets_the_export_to_failed(
    harness: ExportHarness, caplog: pytest.LogCaptureFixture
) -> None:
    export = harness.request()
    with pytest.raises(UpstreamFailed):
        await harness.process(fails="put_part").export(export)
    await harness.exporter.give_up(export, "storage_failed")
    found = harness.found(export)
    assert (found["status"], found["error"], harness.file(export)) == ("FAILED", "storage_failed", None)
    assert f"no export of the audit log could be made: audit_export={export} storage_failed" in caplog.text
    assert ("AUDIT_EXPORT_FAILED", str(export)) in await evaluated_alerts(harness.database, harness.worker)
    assert harness.request() != export


async def test_export_of_too_many_events_fails(
    harness: ExportHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter_module, "MOST_EVENTS", 3)
    harness.events(4)
    export = harness.request(action="recording.read")
    await harness.exporter.export(export)
    assert (harness.found(export)["error"], await harness.keys()) == ("audit_export_too_large", [])


async def test_worker_that_dies_at_any_call_to_the_store_leaves_an_export_that_the_next_one_makes(
    harness: ExportHarness,
) -> None:
    harness.events(2)
    died = 0
    for call in range(20):
        for when in ("dies_before", "dies_after"):
            export = harness.request()
            exporter = harness.process(**{when: call})
            try:
                await exporter.export(export)
            except Killed:
                died += 1
            harness.sealing.asked.clear()
            await harness.exporter.export(export)
            assert harness.found(export)["status"] == "READY"
            file = harness.file(export)
            assert file is not None
            objects = [key for key in await harness.keys() if str(export) in key and "upload" not in key]
            assert objects == [file["object_key"]]
            await harness.opened(export)
    assert died >= 10


async def test_attempt_that_was_overtaken_ends_without_an_object(harness: ExportHarness) -> None:
    harness.events(2)
    export = harness.request()

    async def overtake() -> None:
        harness.sealing.while_waiting = _no_work
        await harness.process().export(export)

    harness.sealing.while_waiting = overtake
    await harness.exporter.export(export)
    assert harness.found(export)["run"] == 2
    file = harness.file(export)
    assert file is not None
    assert await harness.keys() == [file["object_key"]]


async def test_officer_has_one_export_made_at_a_time(harness: ExportHarness) -> None:
    harness.request()
    harness.request(officer=OTHER_OFFICER)
    with pytest.raises(psycopg.errors.UniqueViolation):
        harness.request()


async def test_unknown_export_is_nothing_to_do(harness: ExportHarness) -> None:
    await harness.exporter.export(uuid4())
    assert await harness.keys() == []


@pytest.mark.parametrize("form", AuditExportFormat)
async def test_auditor_verifies_an_export_offline_with_its_receipt(
    harness: ExportHarness, tmp_path: Path, form: AuditExportFormat
) -> None:
    """Seal the real log, and run the auditor's verifier on the files of the archive and on a changed file."""
    harness.events(40)
    sealer = Sealer(harness.worker, bytes(range(32)), deployment=DEPLOYMENT, clock=lambda: 0.0)
    harness.sealing.while_waiting = sealer.run
    receipts = Receipts(harness.worker)
    exporter = AuditExporter(
        harness.worker, harness.storage, receipts.read, deployment=DEPLOYMENT, sleep=harness.sealing.sleep
    )
    export = harness.request(form)
    await exporter.export(export)
    for name, content in (await harness.opened(export)).items():
        (tmp_path / name).write_bytes(content)
    (log,) = harness.rows(
        "select signer from audit.logs where checkpoint is not null order by log_year desc limit 1"
    )
    (tmp_path / "policy").write_text(f"log {log['signer']}\nquorum none\n")
    file = tmp_path / event_files.FILE_NAMES[form]
    verified = _verify(tmp_path, file)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    file.write_bytes(file.read_bytes().replace(b"ALLOWED", b"DENIED!", 1))
    changed = _verify(tmp_path, file)
    assert (changed.returncode, "export-changed" in changed.stdout) == (1, True)


def _verify(folder: Path, file: Path) -> subprocess.CompletedProcess[str]:
    receipt = (folder / "receipt.tlog-proof", folder / "receipt-event.json")
    return subprocess.run(
        [sys.executable, VERIFIER, folder / "policy", "--export", file, "--receipt", *receipt],
        capture_output=True,
        text=True,
        check=False,
    )
