"""`resguardo audit` against a real database with a sealed audit log, and a folder of its published objects."""

import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import anyio
import psycopg
import pytest
from typer.testing import CliRunner, Result

from app import cli
from app.audit.verification import receipts
from app.audit.verification.checks import require_consistent_checkpoints
from app.audit.verification.published import PublishedFolder
from app.audit.verification.redaction import RedactionReason, redact
from app.audit.verification.store import SealedRows
from app.commands.audit import describe_report
from app.errors import Conflict, NotFound
from app.postgres.database import Database as Pool
from app.transparency_log.checkpoints import Checkpoint, sign_checkpoint
from app.transparency_log.merkle import Frontier, leaf_hash
from app.transparency_log.proofs import TransparencyProof
from tests.audit_log import AuditLog, names, open_log
from tests.databases import Database

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
OTHER = bytes(32)


@pytest.fixture
async def log(database: Database, tmp_path: Path) -> AsyncIterator[AuditLog]:
    """Yield a log with 600 sealed and published events, and 20 sealed events after them."""
    async with open_log(database, tmp_path) as made:
        for count in (300, 300):
            made.insert(count)
            await made.seal()
            made.publish()
        made.insert(20)
        await made.seal()
        yield made


def _id_at(log: AuditLog, index: int) -> UUID:
    rows = log.execute("select event_id from audit.leaves where index = %s", [index])
    return UUID(str(rows[0][0]))


async def test_a_log_that_nobody_changed_has_no_findings(log: AuditLog) -> None:
    report = await log.verify()
    assert report.findings == ()
    [summary] = report.logs
    assert (summary.database_size or 0) - (summary.published_size or 0) == 20
    assert (await log.verify(with_database=False)).findings == ()
    assert (await log.verify(published=())).findings == ()


EVENT = "(select event_id from audit.leaves where index = 5)"
EXCHANGE = """
update audit.leaves as l set event_id = o.event_id, recorded_at = o.recorded_at from audit.leaves as o
where o.index + l.index = 11
"""
ATTACKS: dict[str, tuple[str, str]] = {
    "delete an event": ("delete from audit.events where id = EVENT", "deleted"),
    "edit an event": ("update audit.events set outcome = 'ALLOWED' where id = EVENT", "edited"),
    "move an event by an hour": (
        "update audit.events set recorded_at = recorded_at - interval '1 hour' where id = EVENT",
        "edited",
    ),
    "empty an event": ("update audit.events set salt = '', actor_id = null where id = EVENT", "edited"),
    "change the version of an event": (
        "update audit.events set canonical_version = 2 where id = EVENT",
        "edited",
    ),
    "change a leaf": ("update audit.leaves set leaf_hash = '\\x' || repeat('00', 32)::bytea", "leaf_changed"),
    "delete a leaf": ("delete from audit.leaves where index = 5", "leaf_removed"),
    "delete an event with its leaf": (
        "with gone as (delete from audit.events where id = EVENT) delete from audit.leaves where index = 5",
        "deleted",
    ),
    "exchange two leaves": (
        "update audit.leaves as l set leaf_hash = o.leaf_hash from audit.leaves as o where o.index + l.index = 11",
        "reordered",
    ),
    "exchange the events of two leaves": (
        EXCHANGE,
        "reordered",
    ),
    "forget an event as if a restore had lost it": (
        "update audit.leaves set event_id = null, recorded_at = null where index = 5",
        "deleted",
    ),
    "take events from the queue": ("delete from audit.unsealed", "never_queued"),
    "delete a queued event": (
        "delete from audit.events where id in (select event_id from audit.unsealed)",
        "deleted",
    ),
    "change a tile hash": ("update audit.tile_hashes set hash = sha256('')", "tile_hash_changed"),
    "change the frontier": ("update audit.logs set frontier = frontier || sha256('')", "root_differs"),
    "remove the checkpoint": ("update audit.logs set checkpoint = null", "checkpoint_missing"),
    "forge the checkpoint": (
        "update audit.logs set checkpoint = replace(checkpoint, size::text, (size + 1)::text)",
        "checkpoint_forged",
    ),
    "truncate the log": (
        "with gone as (delete from audit.leaves where index >= 400) update audit.logs set size = 400",
        "rolled_back",
    ),
    "remove the log": (
        "with gone as (delete from audit.leaves), other as (delete from audit.tile_hashes) delete from audit.logs",
        "log_missing",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_on_the_database_is_named(log: AuditLog, attack: str) -> None:
    statement, name = ATTACKS[attack]
    if "unsealed" in statement:
        log.insert(3)
    if attack == "exchange the events of two leaves":
        log.execute("alter table audit.leaves drop constraint leaves_event_key")
    if attack == "change a leaf":
        statement = "update audit.leaves set leaf_hash = sha256('') where index = 5"
    log.execute(statement.replace("EVENT", EVENT))
    report = await log.verify()
    assert name in names(report), report.findings
    assert not report.is_clean


async def test_a_re_sealed_log_is_named(log: AuditLog) -> None:
    """The attacker edits an event, computes the whole tree again and signs it with the log's stolen key."""
    log.execute("update audit.leaves set leaf_hash = %s where index = 5", [leaf_hash(OTHER)])
    rows = log.execute("select encode(leaf_hash, 'hex') from audit.leaves order by index")
    frontier, completed = Frontier().extend_with_roots(bytes.fromhex(str(row[0])) for row in rows)
    for one in completed:
        log.execute(
            "update audit.tile_hashes set hash = %s where level = %s and index = %s",
            [one.hash, one.level, one.index],
        )
    note = sign_checkpoint(Checkpoint(log.origin, frontier.size, frontier.root), log.signer())
    log.execute(
        "update audit.logs set checkpoint = %s, frontier = %s", [note.format().decode(), frontier.to_bytes()]
    )
    report = await log.verify()
    assert {"re_signed", "leaf_changed"} <= names(report)


async def test_an_event_of_the_past_is_named(log: AuditLog) -> None:
    [event_id] = log.insert(1, datetime.now(UTC) - timedelta(hours=2))
    await log.seal()
    report = await log.verify()
    [finding] = report.findings
    assert (finding.name, finding.places[0].event_id) == ("backdated", event_id)


async def test_an_event_of_another_year_is_named_after_the_year_was_closed(log: AuditLog) -> None:
    before = datetime(log.year - 1, 12, 31, tzinfo=UTC)
    if before.year < 2026:
        log.execute(
            f"create table audit.events_{before.year} partition of audit.events "
            f"for values from ('{before.year}-01-01 00:00:00+00') to ('{log.year}-01-01 00:00:00+00')"
        )
    log.insert(2, before)
    await log.seal()
    log.publish(log.year - 1)
    assert names(await log.verify()) <= {"hours_missing"}
    log.insert(1, before)
    await log.seal()
    report = await log.verify()
    [finding] = [one for one in report.findings if one.is_failure]
    assert (finding.name, finding.places[0].index) == ("closed_year_grew", 2)


async def test_attacks_on_the_folder_are_named(log: AuditLog) -> None:
    tile = log.path(f"audit/{log.origin}/tile/0/000")
    content = tile.read_bytes()
    tile.write_bytes(OTHER + content[32:])
    for with_database in (True, False):
        assert "tile_changed" in names(await log.verify(with_database=with_database))
    tile.unlink()
    assert "tile_missing" in names(await log.verify(with_database=False))
    tile.write_bytes(content)
    first = min(
        (log.folder / "audit" / log.origin / "checkpoints").iterdir(), key=lambda path: int(path.name)
    )
    note = first.read_bytes()
    first.write_bytes(note.replace(b"\n3", b"\n4"))
    assert "checkpoint_forged" in names(await log.verify())
    other = sign_checkpoint(Checkpoint(log.origin, int(first.name), OTHER), log.signer())
    first.write_bytes(other.format())
    assert "split_view" in names(await log.verify())
    assert "split_view" in names(await log.verify(with_database=False))
    first.write_bytes(note)
    assert "split_view" in names(await log.verify(kept=(other.format(),)))
    assert (await log.verify()).findings == ()


async def test_a_redacted_event_is_a_notice_and_its_proof_stays_valid(log: AuditLog) -> None:
    event_id = _id_at(log, 5)
    async with log.pool.as_service("make_audit_receipt") as tx:
        receipt = await receipts.make_receipt(tx, event_id)
    owner = Pool(log.database.owner_url, application="test", max_size=1)
    try:
        assert await redact(owner, event_id, RedactionReason.COURT_ORDER)
        assert not await redact(owner, event_id, RedactionReason.COURT_ORDER)
        with pytest.raises(NotFound):
            await redact(owner, uuid4(), RedactionReason.COURT_ORDER)
        [unsealed] = log.insert(1)
        with pytest.raises(Conflict, match="audit_event_not_sealed"):
            await redact(owner, unsealed, RedactionReason.COURT_ORDER)
    finally:
        await owner.close()
    await log.seal()
    report = await log.verify()
    assert [(one.name, one.places[0].event_id) for one in report.findings] == [("redacted", event_id)]
    assert report.is_clean
    TransparencyProof.parse(receipt.proof).verify(_leaf_of(receipt), log.policy)
    async with log.pool.as_service("make_audit_receipt") as tx:
        with pytest.raises(Conflict, match="audit_event_redacted"):
            await receipts.make_receipt(tx, event_id)
    [row] = log.execute("select actor_id, salt, action from audit.events where id = %s", [event_id])
    assert row == (None, b"", "request.reject")


def _leaf_of(receipt: receipts.Receipt) -> bytes:
    salt = TransparencyProof.parse(receipt.proof).extra or b""
    return leaf_hash(sha256(salt + receipt.event).digest())


async def test_redaction_keeps_or_clears_every_column(database: Database) -> None:
    """A new column of audit.events must be cleared by private.redact_event, or be listed here."""
    kept = {"id", "recorded_at", "actor_role", "action", "operation", "outcome", "purpose", "basis"}
    kept |= {"policy_version", "canonical_version"}
    with psycopg.connect(database.superuser_url) as connection:
        columns = connection.execute(
            "select column_name from information_schema.columns where table_schema = 'audit' and table_name = 'events'"
        ).fetchall()
        source = connection.execute(
            "select prosrc from pg_proc where oid = 'private.redact_event'::regproc"
        ).fetchone()
    assert source is not None
    cleared = {name for (name,) in columns if f" {name} = " in source[0]} - {"id", "recorded_at"}
    assert {name for (name,) in columns} - cleared == kept


async def test_receipt_verifies_with_the_auditors_tool(log: AuditLog, tmp_path: Path) -> None:
    event_id = _id_at(log, 5)
    async with log.pool.as_service("make_audit_receipt") as tx:
        receipt = await receipts.make_receipt(tx, event_id)
    policy, proof, event = tmp_path / "policy", tmp_path / "a.tlog-proof", tmp_path / "a.json"
    policy.write_text(log.policy.format())
    proof.write_bytes(receipt.proof)
    event.write_bytes(receipt.event)
    command = [sys.executable, str(ROOT / "tools" / "verify_audit.py"), str(policy)]
    for arguments in (["--receipt", str(proof), str(event)], ["--tiles", str(log.folder)]):
        done = await anyio.run_process([*command, *arguments], check=False)
        assert done.returncode == 0, done.stdout
    event.write_bytes(receipt.event.replace(b"DENIED", b"ALLOWED"))
    done = await anyio.run_process([*command, "--receipt", str(proof), str(event)], check=False)
    assert (done.returncode, b"event-changed" in done.stdout) == (1, True)


async def test_no_receipt_of_a_changed_event(log: AuditLog) -> None:
    event_id = _id_at(log, 5)
    log.execute("update audit.events set outcome = 'ALLOWED' where id = %s", [event_id])
    async with log.pool.as_service("make_audit_receipt") as tx:
        with pytest.raises(Conflict, match="audit_event_differs"):
            await receipts.make_receipt(tx, event_id)
        with pytest.raises(NotFound, match="audit_event_not_found"):
            await receipts.make_receipt(tx, uuid4())


async def _run(*arguments: str) -> Result:
    return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli.cli, arguments))


async def test_offline_verification_needs_no_settings(log: AuditLog, tmp_path: Path) -> None:
    policy, report = tmp_path / "policy", tmp_path / "report.json"
    policy.write_text(log.policy.format())
    arguments = ["audit", "verify", "--no-database", "--tiles", str(log.folder), "--policy", str(policy)]
    done = await _run(*arguments, "--report", str(report))
    assert (done.exit_code, "failures 0, notices 0" in done.output) == (0, True), done.output
    log.path(f"audit/{log.origin}/tile/0/000").unlink()
    done = await _run(*arguments, "--report", str(report))
    assert (done.exit_code, "tile missing" in done.output) == (1, True), done.output
    assert json.loads(report.read_text())["findings"][0]["name"] == "tile_missing"
    policy.write_text("quorum none\n")
    done = await _run(*arguments)
    assert (done.exit_code, "audit_policy_malformed" in done.output) == (1, True), done.output


async def test_a_notice_fails_only_a_strict_command(log: AuditLog, tmp_path: Path) -> None:
    """A superuser can write the event of an adoption himself, and hide a deleted event behind it."""
    log.execute("select private.write_log_event('audit_log.adopt', 1, null)")
    await log.seal()
    log.execute(f"delete from audit.events where id = {EVENT}")  # noqa: S608 - a constant
    log.execute("update audit.leaves set event_id = null, recorded_at = null where index = 5")
    [finding] = (await log.verify()).findings
    assert (finding.name, finding.is_failure) == ("adopted_after_a_restore", False)
    lines = list(describe_report(await log.verify()))
    assert "[bold yellow]NOTICE[/]" in lines[1]
    assert "must confirm" in lines[-2]
    assert lines[-1] == "audit verify: ok, failures 0, notices 1"
    strict = list(describe_report(await log.verify(), is_strict=True))
    assert strict[-1] == "audit verify: FAILED, failures 0, notices 1"


async def test_check_compares_the_newest_checkpoints(log: AuditLog) -> None:
    rows, published = SealedRows(log.pool), [PublishedFolder(log.folder)]
    await require_consistent_checkpoints(rows, log.policy, published)
    [(checkpoint,)] = log.execute("select checkpoint from audit.logs")
    for change, what in (
        ("update audit.logs set checkpoint = replace(checkpoint, size::text, (size + 1)::text)", "wrong"),
        ("update audit.tile_hashes set hash = sha256('')", "another tree"),
        ("update audit.logs set size = 400", "shorter"),
    ):
        log.execute(change)
        with pytest.raises(Conflict, match="audit_log_differs") as refusal:
            await require_consistent_checkpoints(rows, log.policy, published)
        assert what in str(refusal.value.detail["what"])
        log.execute("update audit.logs set checkpoint = %s", [checkpoint])


async def test_a_database_that_is_behind_the_bucket_fails_the_check(log: AuditLog) -> None:
    latest = sign_checkpoint(Checkpoint(log.origin, 10_000, OTHER), log.signer()).format()
    log.path(f"audit-latest/{log.origin}/checkpoint").write_bytes(latest)
    rows, published = SealedRows(log.pool), [PublishedFolder(log.folder)]
    with pytest.raises(Conflict, match="audit_log_differs"):
        await require_consistent_checkpoints(rows, log.policy, published)
    log.path(f"audit/{log.origin}/checkpoints/10000").write_bytes(latest)
    with pytest.raises(Conflict) as refusal:
        await require_consistent_checkpoints(rows, log.policy, published)
    assert "shorter" in str(refusal.value.detail["what"])
