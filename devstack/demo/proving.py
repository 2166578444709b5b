"""Demonstrates the proofs of the audit log: the receipt of an event, the verification of the whole log, and an evidence
pack.
"""

import asyncio
import hashlib
import json
import os
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg

from app.packaged import repository_path
from devstack.demo.report import DemoFailed, require
from devstack.demo.scene import Scene

PATIENCE_SECONDS = 90
"""The worker publishes a checkpoint at most once a minute."""

_POLL_SECONDS = 0.5
_VERIFIER = repository_path("tools/verify_audit.py")
_PUBLISHED = """
select l.event_id
from audit.leaves as l
inner join audit.events as e on e.id = l.event_id and e.recorded_at = l.recorded_at
inner join audit.published_logs as p on p.log_year = l.log_year and p.size > l.index
where e.action = 'recording.start' and e.outcome = 'ALLOWED'
limit 1
"""


async def prove(scene: Scene) -> None:
    """Write the receipt of the event with which the recording began, and verify it with the auditor's file, which
    knows nothing of Resguardo. Then verify the whole log, and check that a changed event is detected.
    """
    event_id = await _wait_for_published_event(scene)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        policy, proof, event = (
            folder / name for name in ("policy", f"{event_id}.tlog-proof", f"{event_id}.json")
        )
        await _resguardo(scene, folder, "audit", "receipt", str(event_id), "--to", directory)
        policy.write_text(await _resguardo(scene, folder, "audit", "policy"), encoding="utf-8")
        arguments = (str(_VERIFIER), str(policy), "--receipt", str(proof), str(event))
        status, output = await _run(folder, {}, *arguments)
        require(status == 0, f"the auditor's verifier refuses the receipt: {output}")
        event.write_bytes(event.read_bytes().replace(b"ALLOWED", b"DENIED"))
        status, output = await _run(folder, {}, *arguments)
        require(status == 1 and "event-changed" in output, "the auditor's verifier accepts a changed event")
        await _resguardo(scene, folder, "audit", "verify")


async def prove_evidence(scene: Scene, began_at: datetime) -> None:
    """Write the evidence pack of the demo's days, and verify it in its folder with the verifier that it contains.
    Then check that each file has the digest in the manifest.

    The pack's policy names no witness, because the witness cosigns the pack's own event up to a minute later.
    """
    since, until = began_at.date(), began_at.date() + timedelta(days=2)
    with tempfile.TemporaryDirectory() as directory:
        pack = Path(directory) / "evidence"
        days = ("--since", since.isoformat(), "--until", until.isoformat())
        settings = {
            name: value
            for name, value in scene.stack.environment.items()
            if not name.startswith("AUDIT_WITNESS_")
        }
        command = ("-m", "app.cli", "evidence", *days, "--to", str(pack))
        status, output = await _run(Path(directory), settings, *command)
        require(status == 0, f"`resguardo evidence` ended with {status}: {output}")
        receipt = ("--receipt", "evidence.tlog-proof", "evidence.event.json", "--export", "manifest.json")
        for verified in (("--tiles", "log/audit"), receipt):
            status, output = await _run(pack, {}, "verify_audit.py", "log-policy.txt", *verified)
            require(status == 0, f"the auditor's verifier refuses the evidence pack: {output}")
        manifest = json.loads((pack / "manifest.json").read_bytes())
        require("INDEX.md" in manifest, "the evidence pack has no index")
        for name, sha256 in manifest.items():
            found = hashlib.sha256((pack / name).read_bytes()).hexdigest()
            require(found == sha256, f"{name} of the evidence pack is not the file of its manifest")


async def _wait_for_published_event(scene: Scene) -> UUID:
    """Return the id of the event with which the recording began, once a published checkpoint covers it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        async with await psycopg.AsyncConnection.connect(scene.stack.project.superuser_url) as connection:
            row = await (await connection.execute(_PUBLISHED)).fetchone()
        if row is not None:
            return UUID(str(row[0]))
        await asyncio.sleep(_POLL_SECONDS)
    raise DemoFailed(f"no checkpoint with the recording was published within {PATIENCE_SECONDS} s")


async def _resguardo(scene: Scene, folder: Path, *arguments: str) -> str:
    """Run a command of `resguardo` with the worker's settings, and return its output."""
    status, output = await _run(folder, scene.stack.environment, "-m", "app.cli", *arguments)
    require(status == 0, f"`resguardo {' '.join(arguments[:2])}` ended with {status}: {output}")
    return output


async def _run(folder: Path, environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run Python in a folder without a `.env`, and return its exit code and its standard output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=folder,
        env={"PATH": os.environ.get("PATH", ""), **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()
