"""Tests of evidence packs. An auditor verifies a pack with the verifier inside it, in an empty environment."""

import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.errors import InvalidInput
from app.evidence.files import LogInFolder, is_plain_key
from app.evidence.model import Pack, Range
from app.evidence.sections import SECTIONS
from app.evidence.service import EvidenceOrder, EvidencePacks
from app.transparency_log.checkpoints import Ed25519Cosigner
from app.transparency_log.policies import Witness
from tests.audit_log import DEPLOYMENT, AuditLog, open_log
from tests.databases import Database

pytestmark = pytest.mark.anyio

NOTE = "Mrs Jones was looked up."
ATTEST = """
with sealed as (
    insert into audit.events (
        actor_role, action, operation, outcome, purpose, basis, policy_version, digest
    ) values ('compliance', 'attestation.seal', 'C', 'ALLOWED', 'OPERATIONS', 'compliance_review', 'test', %(sha256)s)
    returning id
)
insert into resguardo.attestations (month, attested_by, findings, note, document, sha256, event_id)
select '2026-10-01', %(officer)s, '{NOTHING}', %(note)s, %(document)s, %(sha256)s, s.id from sealed as s
returning id
"""


@pytest.fixture
async def log(database: Database, tmp_path: Path) -> AsyncIterator[AuditLog]:
    folder = tmp_path / "bucket"
    folder.mkdir()
    async with open_log(database, folder) as opened:
        yield opened


def _range() -> Range:
    now = datetime.now(UTC)
    return Range(now - timedelta(days=1), now + timedelta(days=1))


def _packs(log: AuditLog, *, is_sealing: bool = True, policy: str | None = None) -> EvidencePacks:
    async def sleep(_: float) -> None:
        if is_sealing:
            await log.seal()

    return EvidencePacks(
        log.pool,
        LogInFolder(log.folder),
        deployment=DEPLOYMENT,
        policy=policy or log.policy.format(),
        sleep=sleep,
        seal_seconds=3,
    )


def _attest(log: AuditLog) -> str:
    document = json.dumps({"attestation": "of a test"})
    with psycopg.connect(log.database.superuser_url) as connection:
        officer = uuid4()
        connection.execute("insert into resguardo.staff (user_id, role) values (%s, 'compliance')", [officer])
        row = connection.execute(
            ATTEST,
            {
                "officer": officer,
                "note": NOTE,
                "document": document,
                "sha256": hashlib.sha256(document.encode()).hexdigest(),
            },
        ).fetchone()
    assert row is not None
    return str(row[0])


async def _make(log: AuditLog, folder: Path, drills: tuple[Path, ...] = ()) -> Pack:
    return await _packs(log).make(EvidenceOrder(_range(), folder, drills))


def _verify(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the verifier of the pack in isolated mode, without any variable of the environment."""
    done = subprocess.run(
        [sys.executable, "-I", "verify_audit.py", "log-policy.txt", *arguments],
        cwd=folder,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


async def test_pack_verifies_offline_with_the_verifier_inside_it(log: AuditLog, tmp_path: Path) -> None:
    attestation = _attest(log)
    log.insert(300)
    await log.seal()
    log.publish()
    folder = tmp_path / "pack"
    pack = await _make(log, folder)
    assert pack.is_sealed
    code, said = _verify(folder, "--tiles", "log/audit")
    assert (code, "verified" in said) == (0, True), said
    for name, document in (
        (f"attestations/{attestation}", f"attestations/{attestation}.document.json"),
        ("evidence", "manifest.json"),
    ):
        receipt = ("--receipt", f"{name}.tlog-proof", f"{name}.event.json", "--export", document)
        code, said = _verify(folder, *receipt)
        assert (code, "verified" in said) == (0, True), said
        with (folder / document).open("ab") as file:
            file.write(b" ")
        code, said = _verify(folder, *receipt)
        assert (code, "export-changed" in said) == (1, True), said


async def test_manifest_has_the_digest_of_every_file(log: AuditLog, tmp_path: Path) -> None:
    _attest(log)
    await log.seal()
    folder = tmp_path / "pack"
    pack = await _make(log, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    own = {"manifest.json", "evidence.tlog-proof", "evidence.event.json"}
    files = {path.relative_to(folder).as_posix() for path in folder.glob("**/*") if path.is_file()}
    assert set(manifest) == files - own
    assert pack.file_count == len(manifest)
    for name, digest in manifest.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


async def test_pack_is_recorded_in_the_audit_log(log: AuditLog, tmp_path: Path) -> None:
    pack = await _make(log, tmp_path / "pack")
    ((digest, row_count, basis),) = log.execute(
        "select digest, row_count, basis from audit.events where action = 'evidence.export'"
    )
    assert (digest, row_count, basis) == (pack.sha256, pack.file_count, "make_evidence")


async def test_pack_of_an_empty_practice_says_that_there_was_nothing(log: AuditLog, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    pack = await _make(log, folder)
    sentences = {one.title: one.sentence for one in pack.sections}
    assert len(sentences) == len(SECTIONS)
    for title in (
        "Attestations of the monthly review",
        "Sanctions",
        "Certificates of destruction",
        "Restore drills",
    ):
        assert sentences[title].startswith("Nothing: "), title
    index = (folder / "INDEX.md").read_text()
    for one in pack.sections:
        assert f"| {one.title} | {one.rule} | {one.place} | {one.sentence} |" in index
    for one in pack.sections:
        assert one.is_built != ("Not built" in one.sentence)


async def test_pack_has_no_text_of_an_officer(log: AuditLog, tmp_path: Path) -> None:
    _attest(log)
    await log.seal()
    folder = tmp_path / "pack"
    await _make(log, folder)
    for path in folder.glob("**/*"):
        if path.is_file():
            assert b"Jones" not in path.read_bytes(), path.name


async def test_every_kind_of_event_is_in_the_coverage(log: AuditLog, tmp_path: Path) -> None:
    log.insert(1)
    folder = tmp_path / "pack"
    await _make(log, folder)
    coverage = {one["action"]: one for one in json.loads((folder / "coverage.json").read_text())}
    known = log.execute("select action from private.audit_actions")
    assert set(coverage) == {row[0] for row in known}
    assert coverage["request.reject"]["last_seen_in_range_at"] is not None
    assert coverage["sanction.record"]["last_seen_at"] is None


async def test_part_that_this_version_lacks_is_not_an_empty_part(log: AuditLog, tmp_path: Path) -> None:
    log.execute("alter table resguardo.sanctions rename to moved")
    try:
        pack = await _make(log, tmp_path / "pack")
    finally:
        log.execute("alter table resguardo.moved rename to sanctions")
    (sanctions,) = [one for one in pack.sections if one.title == "Sanctions"]
    assert (sanctions.is_built, sanctions.sentence) == (False, "Not built: this version has no such part.")


async def test_drill_reports_are_copied(log: AuditLog, tmp_path: Path) -> None:
    report = tmp_path / "drill.json"
    report.write_text('{"passed": true}')
    folder = tmp_path / "pack"
    pack = await _make(log, folder, (report,))
    assert (folder / "drills" / "001-drill.json").read_bytes() == report.read_bytes()
    assert "1 report." in {one.sentence for one in pack.sections}


async def test_pack_without_a_seal_is_written_and_says_so(log: AuditLog, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    pack = await _packs(log, is_sealing=False).make(EvidenceOrder(_range(), folder))
    assert not pack.is_sealed
    assert (folder / "INDEX.md").is_file()
    assert not (folder / "evidence.tlog-proof").exists()


async def test_pack_has_no_receipt_that_its_verifier_refuses(log: AuditLog, tmp_path: Path) -> None:
    """The policy needs a witness, which has cosigned none of the checkpoints."""
    witness = Ed25519Cosigner.from_seed("witness.example/test", bytes(32)).verifier_key
    needed = replace(log.policy, witnesses={"w": Witness(witness)}, quorum="w")
    attestation, folder = _attest(log), tmp_path / "pack"
    await log.seal()
    pack = await _packs(log, policy=needed.format()).make(EvidenceOrder(_range(), folder))
    assert not pack.is_sealed
    assert not list(folder.rglob("*.tlog-proof"))
    assert (folder / "attestations" / f"{attestation}.document.json").is_file()


@pytest.mark.parametrize("name", ["pack", "pack.partial"])
async def test_existing_folder_is_never_written_into(log: AuditLog, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InvalidInput, match="evidence_folder_exists"):
        await _make(log, tmp_path / "pack")


@pytest.mark.parametrize(
    ("key", "is_plain"),
    [
        ("audit/resguardo/practice/2026/checkpoints/1", True),
        ("audit/../../etc/passwd", False),
        ("/audit/x", False),
        ("audit//x", False),
        ("audit/./x", False),
        ("exports/x", False),
        ("audit/\n", False),
        ("audit/..\\x", False),
    ],
)
def test_key_that_leads_out_of_the_folder_is_no_file(key: str, *, is_plain: bool) -> None:
    assert is_plain_key(key) == is_plain
