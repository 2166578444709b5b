"""Tests that the restore drill detects every fault of a backup, and then removes everything that it created."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from app.bucket.object_keys import compose_clip_file
from app.certificates.signing import CertificateSigner
from app.drill import service
from app.drill.database_checks import sample
from app.drill.model import LIMIT_HOURS, DrillReport, Step
from app.drill.service import DrillOrder, DrillProgress
from app.keys.keyring import Keyring, new_key_line
from app.notes.signed_store import version_field
from app.settings import BucketWriterSettings, Environment
from app.transparency_log.checkpoints import Checkpoint, Ed25519Signer, sign_checkpoint
from app.transparency_log.merkle import leaf_hash, tree_root
from devstack import restoring
from devstack.object_store import ObjectStore
from devstack.object_store import running as running_store
from tests import drill as rehearsal
from tests.buckets import s3_client
from tests.databases import Cluster, in_memory
from tests.drill import DEPLOYMENT, PASSPHRASE, Practice
from tests.unit.certificates import FULL, OTHER_SIGNER

GONE_WITHIN_SECONDS = 30


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with running_store(tmp_path_factory.mktemp("store"), bucket="drill") as made:
        yield made


@pytest.fixture(scope="module")
def practice(
    cluster: Cluster, store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Practice]:
    """Yield the medical practice (a database and a bucket) that all tests of this module share. Each test damages
    only its own copy of a dump or an escrow file, and undoes its changes to the bucket.
    """
    with cluster.clone("newer") as database:
        yield rehearsal.practice(database, store, tmp_path_factory.mktemp("practice"))


@pytest.fixture(autouse=True)
def _in_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test with a separate directory for temporary files, and require that the directory is empty after
    the test.
    """
    # Postgres's socket needs a short path, and another user must be able to reach it if the test runs as root.
    with tempfile.TemporaryDirectory(prefix="d-", dir=in_memory()) as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        monkeypatch.setenv("TMPDIR", place)
        yield
        monkeypatch.undo()
        assert list(Path(place).iterdir()) == []
    assert not tmp_path.joinpath("core").exists()


def _settings(made: Practice, deployment: str) -> BucketWriterSettings:
    return BucketWriterSettings(
        _env_file=None,
        environment=Environment.DEVELOPMENT,
        deployment=deployment,
        r2_bucket_name=made.store.bucket,
        r2_endpoint_url=made.store.endpoint_url,
        r2_access_key_id=made.store.writer.access_key_id,
        r2_secret_access_key=SecretStr(made.store.writer.secret_access_key),
    )


def _drill(made: Practice, dump: Path, escrow: Path, **watched: Any) -> DrillReport:
    """Run the whole drill. Return its report."""
    order = DrillOrder(dump, escrow, PASSPHRASE, 100)
    return service.run_drill(_settings(made, DEPLOYMENT), order, DrillProgress(**watched), restoring)


def _compared(
    made: Practice,
    escrow: Path | None = None,
    *,
    url: str | None = None,
    deployment: str = DEPLOYMENT,
    passphrase: str = PASSPHRASE,
    sample: int = 100,
    **watched: Any,
) -> DrillReport:
    """Run only the part of the drill that compares a database with the bucket. The database is the practice's own,
    not a restored dump. Return the report.
    """
    order = DrillOrder(made.directory / "none", escrow or made.escrow(), passphrase, sample)
    return service.compare_restored(
        _settings(made, deployment), order, url or made.database.superuser_url, DrillProgress(**watched)
    )


def _step(report: DrillReport, name: str) -> Step:
    return next(step for step in report.steps if step.name == name)


def _problems(report: DrillReport) -> dict[str, set[tuple[str, str]]]:
    return {
        step.name: {(one.reason, one.about) for one in step.problems}
        for step in report.steps
        if step.problems
    }


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_whole_backup_is_restored_and_compared(practice: Practice, form: str) -> None:
    begun: list[str] = []
    report = _drill(practice, practice.dump(form), practice.escrow(), on_begin=begun.append)
    assert _problems(report) == {}
    assert report.is_ok
    assert report.is_complete
    assert begun == [step.name for step in report.steps]
    count = len(practice.recordings)
    assert _step(report, "recordings").found == {
        "recordings": count,
        "bytes": count * rehearsal.OBJECT_BYTES,
        "moved": 0,
    }
    assert _step(report, "data keys").found == {"opened": count, "without_key": 0}
    assert _step(report, "transcripts").found == {"transcripts": count, "index": 1}
    assert _step(report, "insights").found == {"insights": count}
    assert _step(report, "notes").found == {"notes": 2 * count}
    assert int(_step(report, "audit log").found["rows"]) > 0
    told = report.as_json()
    assert told["total_seconds"] == round(report.seconds, 3)
    assert (told["limit_hours"], told["within_limit"]) == (LIMIT_HOURS, True) == (72, True)
    assert "proposed" in str(told["rule"])
    assert sum(step.seconds for step in report.steps) <= report.seconds


def _put(practice: Practice, key: str, note: bytes) -> None:
    client = s3_client(practice.store, practice.store.writer)
    client.put_object(Bucket=practice.store.bucket, Key=key, Body=note)
    client.close()


def test_published_audit_log_is_compared_with_the_dump(practice: Practice) -> None:
    origin = f"resguardo/{DEPLOYMENT}/2027"
    signer = Ed25519Signer.from_seed(origin, bytes(32))
    leaves = [leaf_hash(b"%d" % number) for number in range(7)]
    notes = {
        size: sign_checkpoint(Checkpoint(origin, size, tree_root(leaves[:size])), signer).format()
        for size in (3, 7)
    }
    with psycopg.connect(practice.database.superuser_url) as connection:
        connection.execute("insert into audit.logs (log_year, origin, size) values (2027, %s, 5)", [origin])
        connection.execute(
            "insert into audit.published_logs (log_year, size, checkpoint) values (2027, 3, %s)",
            [notes[3].decode()],
        )
    try:
        assert _problems(_compared(practice))["published audit log"] == {("audit_checkpoint_missing", origin)}
        _put(practice, f"audit/{origin}/checkpoints/3", notes[3])
        _put(practice, f"audit-latest/{origin}/checkpoint", notes[7])
        report = _compared(practice)
        assert "published audit log" not in _problems(report)
        found = _step(report, "published audit log").found
        assert found["leaves_after_the_dump"] == 2
        _put(practice, f"audit/{origin}/checkpoints/3", notes[7])
        assert _problems(_compared(practice))["published audit log"] == {("audit_checkpoint_differs", origin)}
    finally:
        with psycopg.connect(practice.database.superuser_url) as connection:
            for table in ("logs", "published_logs"):
                _change(connection, table, "disable trigger user")
                connection.execute(
                    sql.SQL("delete from {} where log_year = 2027").format(sql.Identifier("audit", table))
                )
                for refusal in ("delete", "truncate"):
                    _change(connection, table, f"enable always trigger {table}_refuse_{refusal}")


def _change(connection: psycopg.Connection[Any], table: str, change: LiteralString) -> None:
    connection.execute(sql.SQL("alter table {} " + change).format(sql.Identifier("audit", table)))


def test_sample_is_as_large_as_asked_and_not_always_the_same(practice: Practice) -> None:
    checked: list[tuple[int, int]] = []
    report = _compared(practice, sample=3, on_checked=lambda *some: checked.append(some))
    assert _step(report, "recordings").found["recordings"] == 3
    assert checked == [(1, 3), (2, 3), (3, 3)]
    samples = {frozenset(one.id for one in sample(practice.database.superuser_url, 3, [])) for _ in range(20)}
    assert len(samples) > 1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda content: bytes([content[0] ^ 1]) + content[1:], "object_digest_differs"),
        (lambda content: content[:-1], "object_size_differs"),
        (lambda content: None, "object_missing"),
    ],
    ids=["altered", "cut", "gone"],
)
def test_object_that_is_not_what_was_recorded_is_found(practice: Practice, spoil: Any, reason: str) -> None:
    (recording, key), *_ = practice.recordings.items()
    content = rehearsal.content_of(key)

    async def put(body: bytes | None) -> None:
        storage = practice.storage()
        await storage.delete(key)
        if body is not None:
            assert await storage.put_new(key, body, "video/mp4")
        storage.close()

    asyncio.run(put(spoil(content)))
    try:
        report = _compared(practice)
    finally:
        asyncio.run(put(content))
    assert _problems(report) == {"recordings": {(reason, str(recording))}}
    assert not report.is_ok
    assert report.is_complete


def test_object_that_a_hold_has_moved_since_is_found_in_its_new_place(practice: Practice) -> None:
    (_, key), *_ = practice.recordings.items()
    moved = key.replace("r/d90/", "keep/")

    async def move(source: str, target: str) -> None:
        storage = practice.storage()
        assert await storage.put_new(target, rehearsal.content_of(key), "video/mp4")
        await storage.delete(source)
        storage.close()

    asyncio.run(move(key, moved))
    try:
        report = _compared(practice)
    finally:
        asyncio.run(move(moved, key))
    assert report.is_ok
    assert _step(report, "recordings").found["moved"] == 1


_CLIP = """
insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, status, room_name, medium,
    video_id, duration_seconds, size_bytes, sha256, stored_at)
select %s, r.consultation_id, r.doctor_id, r.patient_id, r.doctor_id, 'READY', r.room_name, 'CLIP', r.id, 1, %s, %s,
    private.now()
from resguardo.recordings as r where r.id = %s
"""


def test_clip_is_compared_like_a_recording(practice: Practice) -> None:
    (recording, video), *_ = practice.recordings.items()
    clip = uuid4()
    key = video.replace("video.mp4", compose_clip_file(clip))
    practice.rows(_CLIP, clip, 4, hashlib.sha256(b"clip").hexdigest(), recording)
    practice.rows("insert into private.recording_secrets values (%s, %s)", clip, key)
    try:
        missing = _compared(practice)
        _enter(practice, key, b"clap")
        altered = _compared(practice)
        _remove(practice, key)
        _enter(practice, key, b"clip")
        whole = _compared(practice)
    finally:
        _remove(practice, key)
        practice.rows("delete from private.recording_secrets where recording_id = %s", clip)
        practice.rows("delete from resguardo.recordings where id = %s", clip)
    assert _problems(missing) == {"recordings": {("object_missing", str(clip))}}
    assert _problems(altered) == {"recordings": {("object_digest_differs", str(clip))}}
    assert _problems(whole) == {}
    assert _step(whole, "recordings").found["recordings"] == len(practice.recordings) + 1
    assert _step(whole, "data keys").found == {"opened": len(practice.recordings), "without_key": 0}


def _enter(practice: Practice, key: str, body: bytes) -> None:
    """Store an object in the practice's bucket."""

    async def put() -> None:
        storage = practice.storage()
        assert await storage.put_new(key, body, "application/json")
        storage.close()

    asyncio.run(put())


def _remove(practice: Practice, *keys: str) -> None:
    async def delete() -> None:
        storage = practice.storage()
        for key in keys:
            await storage.delete(key)
        storage.close()

    asyncio.run(delete())


def _certificate(practice: Practice, recording: UUID, *, signed: bool = True) -> bytes:
    signer = CertificateSigner.from_seed(practice.signing_key) if signed else OTHER_SIGNER
    return signer.sign(replace(FULL, deployment=DEPLOYMENT, recording_id=recording)).file


def test_deletion_that_the_dump_does_not_know_of_is_counted_and_not_missed(practice: Practice) -> None:
    """If a recording was destroyed after the dump, its object must be absent, so the drill reports no fault. After
    a real restore, `resguardo restore check --repeat` would destroy the recording again.
    """
    (recording, key), *_ = practice.recordings.items()
    entry, other = f"ledger/{recording}/1.json", f"ledger/{uuid4()}/1.json"
    _enter(practice, entry, _certificate(practice, recording))
    _enter(practice, other, _certificate(practice, uuid4()))
    _remove(practice, key)
    try:
        report = _compared(practice)
    finally:
        _remove(practice, entry, other)
        _enter(practice, key, rehearsal.content_of(key))
    assert _problems(report) == {}
    assert _step(report, "ledger of deletions").found == {"entries": 2, "to_repeat": 1}
    assert _step(report, "recordings").found["recordings"] == len(practice.recordings) - 1


def test_ledger_signed_with_a_former_key_of_the_escrow_counts(practice: Practice) -> None:
    (recording, _), *_ = practice.recordings.items()
    entry = f"ledger/{recording}/1.json"
    former = b64encode(OTHER_SIGNER.public_key.public_bytes_raw()).decode()
    _enter(practice, entry, _certificate(practice, recording, signed=False))
    try:
        report = _compared(practice, practice.escrow(former=(former,)))
    finally:
        _remove(practice, entry)
    assert _problems(report) == {}
    assert _step(report, "ledger of deletions").found["to_repeat"] == 1


def test_ledger_that_others_wrote_into_is_found_and_not_believed(practice: Practice) -> None:
    (recording, _), *_ = practice.recordings.items()
    entry, stray = f"ledger/{recording}/1.json", "ledger/note.txt"
    _enter(practice, entry, _certificate(practice, recording, signed=False))
    _enter(practice, stray, b"not ours")
    try:
        report = _compared(practice)
    finally:
        _remove(practice, entry, stray)
    assert _problems(report) == {
        "ledger of deletions": {("ledger_keys_foreign", "1"), ("ledger_entry_foreign", str(recording))}
    }
    assert _step(report, "recordings").found["recordings"] == len(practice.recordings)


def test_recording_whose_step_is_not_in_the_log_is_found(practice: Practice) -> None:
    """In this test, an attacker has inserted a READY recording without an audit row."""
    (template, _), *_ = practice.recordings.items()
    forged = uuid4()
    with psycopg.connect(practice.database.superuser_url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, status,"
            " room_name, sha256, size_bytes) select %s, r.consultation_id, r.doctor_id, r.patient_id, r.requested_by,"
            " r.status, r.room_name, r.sha256, r.size_bytes from resguardo.recordings as r where r.id = %s",
            [forged, template],
        )
        try:
            report = _compared(practice)
        finally:
            connection.execute("delete from resguardo.recordings where id = %s", [forged])
    assert _problems(report) == {
        "recordings": {("transition_not_logged", str(forged)), ("object_key_missing", str(forged))}
    }
    assert _step(report, "data keys").found["without_key"] == 1


def test_escrow_without_a_key_that_is_needed_is_found(practice: Practice) -> None:
    report = _compared(practice, practice.escrow(new_key_line("drill-2")))
    assert _problems(report) == {
        "root keys": {("root_key_missing", "drill-1")},
        "data keys": {("root_key_unknown", str(one)) for one in practice.recordings},
        "transcripts": {("root_key_unknown", "word_index")},
    }


@pytest.mark.parametrize(
    ("step", "table", "texts"),
    [
        ("transcripts", "transcript_texts", 1),
        ("insights", "insight_texts", 1),
        ("notes", "session_notes", 2),
        ("notes", "psychotherapy_notes", 2),
    ],
)
def test_encrypted_text_that_cannot_be_decrypted_is_reported(
    practice: Practice, step: str, table: str, texts: int
) -> None:
    one, other, *_ = sorted(practice.recordings)
    swap: Any = (
        f"update private.{table} as w set ciphertext = o.ciphertext from private.{table} as o"  # noqa: S608
        " where (w.recording_id, o.recording_id) in ((%s, %s), (%s, %s))"
    )
    practice.rows(swap, one, other, other, one)
    report = _compared(practice)
    practice.rows(swap, one, other, other, one)
    assert _problems(report) == {step: {("field_unreadable", str(id_)) for id_ in (one, other)}}
    assert _step(report, step).found[step] == texts * len(practice.recordings) - 2
    assert _problems(_compared(practice)) == {}


def test_signed_note_is_decrypted_and_compared_with_its_hash(practice: Practice) -> None:
    keyring = Keyring.parse(practice.root_keys)
    key, note = keyring.new_data_key(), uuid4()
    recording = min(practice.recordings)
    [(patient, consultation)] = practice.rows(
        "select patient_id, consultation_id from resguardo.recordings where id = %s", recording
    )
    assert isinstance(patient, UUID)
    place = version_field(note, 1, patient)
    file = b"a signed file"
    sha256 = hashlib.sha256(file).hexdigest()
    practice.rows(
        "insert into private.patient_keys values (%s, %s, %s)", patient, key.wrapped, key.root_key_id
    )
    practice.rows(
        "insert into resguardo.signed_notes (id, recording_id, consultation_id, doctor_id, patient_id, signed_at,"
        " version_count, term_from) select %s, id, consultation_id, doctor_id, patient_id, now(), 1, now()"
        " from resguardo.recordings where id = %s",
        note,
        recording,
    )
    practice.rows(
        "insert into resguardo.signed_note_versions (note_id, version, consultation_id, doctor_id, patient_id,"
        " signed_at, sha256, size_bytes, quote_count) select id, 1, consultation_id, doctor_id, patient_id,"
        " signed_at, %s, 13, 0 from resguardo.signed_notes where id = %s",
        sha256,
        note,
    )
    practice.rows(
        "insert into private.signed_note_texts values (%s, 1, %s)",
        note,
        keyring.unwrap(key.wrapped, key.root_key_id).encrypt(place, file),
    )
    assert _problems(_compared(practice)) == {"signed notes": {("signed_note_altered", str(note))}}
    practice.rows(
        "select private.write_audit_of_entities('note.sign', 'ALLOWED', null, '[]', array[%s::uuid],"
        " array[%s::uuid], '{}', 1, 13, %s)",
        patient,
        consultation,
        sha256,
    )
    report = _compared(practice)
    assert (_problems(report), _step(report, "signed notes").found) == ({}, {"signed_notes": 1})
    practice.rows(
        "update private.signed_note_texts set ciphertext = ciphertext || 'x'::bytea where note_id = %s", note
    )
    report = _compared(practice)
    for table in ("private.signed_note_texts", "resguardo.signed_note_versions"):
        practice.rows(f"delete from {table} where note_id = %s", note)  # noqa: S608 - the names are of this test
    practice.rows("delete from resguardo.signed_notes where id = %s", note)
    practice.rows("delete from private.patient_keys where patient_id = %s", patient)
    assert _problems(report) == {"signed notes": {("field_unreadable", str(note))}}


def test_escrow_with_another_key_of_the_same_name_is_found(practice: Practice) -> None:
    report = _compared(practice, practice.escrow(new_key_line("drill-1")))
    assert _problems(report) == {
        "root keys": {("root_key_wrong", "drill-1")},
        "data keys": {("data_key_wrong", str(one)) for one in practice.recordings},
        "transcripts": {("data_key_wrong", "word_index")},
    }


@pytest.mark.parametrize("what", ["passphrase", "byte", "missing"])
def test_escrow_that_does_not_open_ends_the_drill_before_anything_is_restored(
    practice: Practice, what: str
) -> None:
    escrow = practice.escrow()
    if what == "byte":
        content = bytearray(escrow.read_bytes())
        content[-20] ^= 1
        escrow.write_bytes(content)
    if what == "missing":
        escrow.unlink()
    passphrase = "another passphrase, as long" if what == "passphrase" else PASSPHRASE
    report = _compared(practice, escrow, passphrase=passphrase)
    assert _problems(report) == {"escrow": {("escrow_unreadable", "")}}
    assert [step.name for step in report.steps] == ["escrow"]
    assert not report.is_complete
    assert not report.is_ok


def test_escrow_of_another_deployment_is_refused(practice: Practice) -> None:
    report = _compared(practice, practice.escrow(deployment="another"))
    assert _problems(report) == {"escrow": {("escrow_of_another_deployment", "")}}


def test_dump_of_another_deployment_is_refused_and_not_compared(practice: Practice) -> None:
    practice.rows("update private.deployment set name = 'another'")
    try:
        report = _drill(practice, practice.dump(), practice.escrow())
    finally:
        practice.rows("update private.deployment set name = %s", DEPLOYMENT)
    assert _problems(report) == {"deployment": {("database_of_another_deployment", "")}}
    assert report.steps[-1].name == "deployment"
    assert not report.is_ok


def test_bucket_of_another_deployment_is_refused(practice: Practice) -> None:
    practice.rows("update private.deployment set name = 'another'")
    try:
        report = _compared(practice, practice.escrow(deployment="another"), deployment="another")
    finally:
        practice.rows("update private.deployment set name = %s", DEPLOYMENT)
    assert _problems(report) == {"bucket": {("bucket_of_another_deployment", "")}}
    assert not report.is_ok


@pytest.mark.parametrize("form", ["custom", "plain"])
@pytest.mark.parametrize("part", [0.05, 0.6])
def test_truncated_dump_is_found(practice: Practice, form: str, part: float) -> None:
    dump = practice.dump(form)
    os.truncate(dump, int(dump.stat().st_size * part))
    report = _drill(practice, dump, practice.escrow())
    assert not report.is_ok
    found = _problems(report)
    assert {reason for reason, _ in found.get("dump", set()) | found.get("restore the dump", set())} & {
        "dump_truncated",
        "dump_unreadable",
        "not_restored",
    }


def test_plain_dump_that_lacks_its_last_statements_is_found(practice: Practice) -> None:
    """The dump in this test ends between two SQL statements, so psql restores it without an error."""
    dump = practice.dump("plain")
    lines = dump.read_text().splitlines(keepends=True)
    ends = [number for number, line in enumerate(lines) if line.endswith(";\n")]
    dump.write_text("".join(lines[: ends[-1] + 1]))
    report = _drill(practice, dump, practice.escrow())
    assert _problems(report) == {"dump": {("dump_truncated", "")}}


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08gzip", b"nothing that pg_dump writes"])
def test_file_that_is_no_dump_is_refused(practice: Practice, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dump").write_bytes(content)
    report = _drill(practice, tmp_path / "dump", practice.escrow())
    assert _problems(report) == {"dump": {("dump_unreadable", "")}}
    assert not report.is_ok
    missing = _drill(practice, tmp_path / "nothing", practice.escrow())
    assert _problems(missing) == {"dump": {("dump_missing", "")}}


def test_errors_of_a_restore_are_told_without_what_they_quote(practice: Practice) -> None:
    dump = practice.dump("plain")
    text = dump.read_text()
    assert "mrn-paula" in text
    spoilt = text.replace("CREATE TABLE resguardo.patients", "CREATE TABLE resguardo.patients_other", 1)
    dump.write_text(spoilt)
    report = _drill(practice, dump, practice.escrow())
    told = json.dumps(report.as_json())
    assert {reason for reason, _ in _problems(report)["restore the dump"]} == {"not_restored"}
    assert "42P01" in told
    assert "mrn-paula" not in told


@pytest.mark.parametrize(
    ("change", "step", "reason"),
    [
        (
            "delete from supabase_migrations.schema_migrations",
            "migrations",
            "migration_missing",
        ),
        (
            "insert into supabase_migrations.schema_migrations values ('20991231000000')",
            "migrations",
            "ledger_versions_unknown",
        ),
        (
            "insert into supabase_migrations.schema_migrations values ('20261121090000')",
            "migrations",
            "database_of_pre_release",
        ),
        (
            (
                "create or replace function private.policy_version() returns text language plpgsql"
                " immutable set search_path = pg_catalog, pg_temp as $$ begin return 'other'; end $$"
            ),
            "policies",
            "policies_differ",
        ),
    ],
)
def test_database_that_is_not_of_this_release_is_found(
    practice: Practice, cluster: Cluster, change: str, step: str, reason: str
) -> None:
    copy = f"drill_{uuid4().hex[:8]}"
    with psycopg.connect(cluster.superuser_url, autocommit=True) as connection:
        statement = sql.SQL("create database {} template {}")
        connection.execute(statement.format(*map(sql.Identifier, (copy, practice.database.name))))
        url = practice.database.superuser_url.replace(practice.database.name, copy)
        try:
            with psycopg.connect(url) as changed:
                changed.execute(change.encode())
            report = _compared(practice, url=url)
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(copy)))
    assert {name: {one for one, _ in found} for name, found in _problems(report).items()} == {step: {reason}}


def test_nothing_of_a_drill_that_is_stopped_stays(practice: Practice, tmp_path: Path) -> None:
    """The test stops the drill while it restores the dump, and while it compares the recordings with the bucket."""
    dump, escrow = practice.dump(), practice.escrow()
    for name in ("restore the dump", "recordings"):

        def stop(begun: str, wanted: str = name) -> None:
            if begun == wanted:
                assert list(Path(tempfile.gettempdir()).glob("resguardo-drill-*"))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _drill(practice, dump, escrow, on_begin=stop)
        assert list(Path(tempfile.gettempdir()).iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_that_gets_a_signal_leaves_nothing(practice: Practice, number: signal.Signals) -> None:
    place = Path(tempfile.gettempdir())
    with _started(practice) as child:
        _wait_until(lambda: any(place.glob("resguardo-drill-*/postgres/cluster/postmaster.pid")))
        child.send_signal(number)
        assert child.wait(GONE_WITHIN_SECONDS) != 0
    assert list(place.iterdir()) == []


def test_what_a_killed_drill_left_is_removed_by_the_next_one(practice: Practice) -> None:
    place = Path(tempfile.gettempdir())
    with _started(practice) as child:
        _wait_until(lambda: any(place.glob("resguardo-drill-*/postgres/cluster/postmaster.pid")))
        child.kill()
        child.wait()
    [left] = place.glob("resguardo-drill-*")
    long_ago = (datetime.now(UTC) - timedelta(hours=1)).timestamp()
    with restoring.fresh_server():
        assert left.exists(), "the directory is new, so another drill may be starting in it"
    os.utime(left, (long_ago, long_ago))
    with restoring.fresh_server() as server:
        assert not left.exists()
        os.utime(server.home, (long_ago, long_ago))
        with restoring.fresh_server():
            assert server.home.exists(), "a running server keeps its directory, however old the directory is"


def test_command_writes_its_report_and_ends_with_whether_all_held(practice: Practice, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with _started(practice, "--report", str(report)) as child:
        told, _ = child.communicate(timeout=120)
        assert child.returncode == 0, told
    written = json.loads(report.read_text())
    assert written["ok"]
    assert {"name": "recordings", "ok": True}.items() <= written["steps"][-1].items()
    assert "drill: ok" in told
    assert "72 h of the proposed rule" in told
    with _started(practice, "--report", str(report)) as again:
        told, _ = again.communicate(timeout=120)
    assert again.returncode == 2
    assert "is there already" in told
    failed = tmp_path / "failed.json"
    wrong = practice.escrow(new_key_line("drill-2"))
    with _started(practice, "--report", str(failed), escrow=wrong) as child:
        told, _ = child.communicate(timeout=120)
    assert child.returncode == 1
    assert "drill-1: the escrow lacks this root key" in told
    assert not json.loads(failed.read_text())["ok"]
    secrets = (PASSPHRASE, practice.signing_key, practice.root_keys.split(":")[1])
    assert not [one for one in secrets if one in told + report.read_text() + failed.read_text()]


def _started(practice: Practice, *arguments: str, escrow: Path | None = None) -> subprocess.Popen[str]:
    given = ("--dump", str(practice.dump()), "--escrow", str(escrow or practice.escrow()), *arguments)
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", "drill", "restore", *given],
        env={**os.environ, **practice.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_until(holds: Any) -> None:
    deadline = time.monotonic() + GONE_WITHIN_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
