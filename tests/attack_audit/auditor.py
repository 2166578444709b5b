"""The audit, which does not know the attack: `resguardo audit verify`, and `tools/verify_audit.py` on a copy of both
buckets and on the files that the practice hands over.
"""

import json
import os
import re
import subprocess
import sys
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from app.settings import WorkerSettings
from app.transparency_log.policies import Policy
from tests.attack_audit.attacker import Files
from tests.attack_audit.system import DEPLOYMENT, System
from tests.databases import Database
from tests.unit.environments import ENVIRONMENTS

VERIFIER: Final = Path(__file__).parents[2] / "tools" / "verify_audit.py"
_FINDING: Final = re.compile(r"^FINDING ([a-z-]+):", re.MULTILINE)
_TIMEOUT_SECONDS: Final = 300


@dataclass(frozen=True, order=True)
class Finding:
    """The name of a finding, and the program that named it."""

    name: str
    source: str


class Auditor:
    """Audits one copy of the system. The auditor kept the policy file and a cosigned checkpoint."""

    def __init__(self, system: System, policy: Policy, directory: Path) -> None:
        self._system = system
        self._directory = directory
        self._policy, self._kept = directory / "policy", directory / "kept"
        self._policy.write_text(policy.format())
        self._kept.write_bytes(system.kept)

    def audit(self, database: Database, files: Files) -> tuple[Finding, ...]:
        """Return what the audit names. Raises RuntimeError if a program fails for another reason."""
        return (*self._verify(database), *self._verify_offline(files))

    def receive_files(self, database: Database, events: tuple[UUID, UUID, UUID], export: Path) -> Files:
        """Let the practice hand over the receipts of two events, and an export with the receipt of its event."""
        folder = export.parent
        for one in events:
            self._run("receipt", str(one), "--to", str(folder), database=database)
        (event, proof), (_, other_proof), (export_event, export_proof) = (
            (folder / f"{one}.json", folder / f"{one}.tlog-proof") for one in events
        )
        return Files(event, proof, other_proof, export, export_event, export_proof)

    def _verify(self, database: Database) -> list[Finding]:
        report = self._directory / "report.json"
        report.unlink(missing_ok=True)
        done = self._run(
            "verify", "--policy", str(self._policy), "--checkpoint", str(self._kept), "--report", str(report),
            database=database, check=False,
        )  # fmt: skip
        if not report.exists():
            raise RuntimeError(
                f"resguardo audit verify ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        content = json.loads(report.read_bytes())
        if (done.returncode == 0) != content["is_clean"]:
            raise RuntimeError("the exit code of resguardo audit verify contradicts its report")
        return [Finding(one["name"], "audit verify") for one in content["findings"]]

    def _verify_offline(self, files: Files) -> list[Finding]:
        folders = []
        for name, objects in zip(("first", "second"), self._system.objects, strict=True):
            folders.append(self._directory / name)
            objects.download(folders[-1], "audit/")
        runs = [
            [
                "--tiles",
                *map(str, folders),
                "--known",
                str(self._kept),
                "--export",
                str(files.export),
                "--receipt",
                str(files.export_proof),
                str(files.export_event),
            ],
            ["--receipt", str(files.proof), str(files.event)],
        ]
        return [finding for arguments in runs for finding in self._run_verifier(arguments)]

    def _run_verifier(self, arguments: list[str]) -> list[Finding]:
        done = subprocess.run(
            [sys.executable, "-I", str(VERIFIER), str(self._policy), *arguments],
            capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        names = [name.replace("-", "_") for name in _FINDING.findall(done.stdout)]
        if done.returncode == 2 or (done.returncode == 1) != bool(names):
            raise RuntimeError(f"verify_audit.py ended with {done.returncode}: {done.stdout}{done.stderr}")
        return [Finding(name, "verify_audit.py") for name in names]

    def _run(
        self, *arguments: str, database: Database, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "app.cli", "audit", *arguments],
            env={**_inherited(), **self._environment(database)},
            cwd=self._directory, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(
                f"resguardo audit {arguments[0]} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done

    def _environment(self, database: Database) -> dict[str, str]:
        first, second = self._system.first, self._system.second
        (witness,) = self._system.witness.vkeys
        return {
            **ENVIRONMENTS[WorkerSettings],
            "ENVIRONMENT": "development",
            "DEPLOYMENT": DEPLOYMENT,
            "WORKER_DATABASE_URL": database.worker_url,
            "R2_BUCKET_NAME": first.bucket,
            "R2_ENDPOINT_URL": first.endpoint_url,
            "R2_ACCESS_KEY_ID": first.writer.access_key_id,
            "R2_SECRET_ACCESS_KEY": first.writer.secret_access_key,
            "R2_RECORDER_ACCESS_KEY_ID": first.recorder.access_key_id,
            "R2_RECORDER_SECRET_ACCESS_KEY": first.recorder.secret_access_key,
            "AUDIT_SIGNING_KEY": b64encode(self._system.seed).decode(),
            "AUDIT_WITNESS_URL": self._system.witness_url,
            "AUDIT_WITNESS_KEY": witness,
            "AUDIT_BUCKET": second.bucket,
            "AUDIT_BUCKET_REGION": second.region,
            "AUDIT_BUCKET_ENDPOINT_URL": second.endpoint_url,
            "AUDIT_BUCKET_ACCESS_KEY_ID": second.keeper.access_key_id,
            "AUDIT_BUCKET_SECRET_ACCESS_KEY": second.keeper.secret_access_key,
        }


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
