"""Tests that the GraphQL endpoint passes the audits of the npm package graphql-http without errors or warnings. The
audits of graphql-http follow the GraphQL Foundation's draft "GraphQL over HTTP".
"""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.harness import ApiHarness
from tests.api.small_api import serve, small_app

AUDIT = Path(__file__).parent / "graphql-http"


@pytest.fixture(scope="module")
def audit_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the audit script to a directory outside of the repository, in which its pinned npm packages are
    installed. Return the path of the copied audit script.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("npm is not installed")
    copy = tmp_path_factory.mktemp("audit") / "graphql-http"
    shutil.copytree(AUDIT, copy, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=copy, check=True, timeout=120
    )
    return copy / "audit.mjs"


@pytest.fixture
def graphql_url() -> Iterator[str]:
    """Yield the URL of a GraphQL endpoint with introspection. The audits of graphql-http need introspection,
    because they query `__type`.
    """
    with serve(small_app()) as base:
        yield f"{base}/graphql"


def _audit(script: Path, url: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["node", str(script), url], capture_output=True, text=True, timeout=60, check=False)


def test_graphql_over_http_has_no_errors_and_no_warnings(audit_script: Path, graphql_url: str) -> None:
    done = _audit(audit_script, graphql_url)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["error"] == counts["warn"] == 0
    assert counts["ok"] > 50
    notices = [line for line in done.stdout.splitlines() if line.startswith("notice")]
    assert all("GET" in line for line in notices), notices


def test_audit_of_a_server_without_graphql_fails(audit_script: Path, graphql_url: str) -> None:
    done = _audit(audit_script, graphql_url.replace("/graphql", "/other"))
    assert done.returncode == 1


@pytest.mark.anyio
async def test_real_application_has_no_errors_and_no_warnings(
    audit_script: Path, harness: ApiHarness
) -> None:
    done = await asyncio.to_thread(_audit, audit_script, f"{harness.api_url}/graphql")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["error"] == counts["warn"] == 0
    assert counts["ok"] > 50
