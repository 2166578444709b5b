"""Runs the test witness as a child of the dev stack. The witness knows the logs of the years for which the database has
partitions.
"""

import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from app.transparency_log.checkpoints import Ed25519Cosigner, Ed25519Signer
from devstack.children import free_port, starting
from devstack.coordinates import write_private

NAME = "witness.example/dev-stack"
YEARS = range(2026, 2047)


def witness_environment(data_dir: Path) -> dict[str, str]:
    """Return the settings with which the worker asks the test witness. The witness keeps its key under `data_dir`."""
    cosigner = Ed25519Cosigner.from_seed(NAME, _seed(data_dir))
    return {
        "AUDIT_WITNESS_URL": f"http://127.0.0.1:{free_port()}",
        "AUDIT_WITNESS_KEY": cosigner.verifier_key.format(),
    }


@contextmanager
def witness_running(environment: Mapping[str, str], data_dir: Path) -> Iterator[None]:
    """Run the test witness until the block ends. Its record of cosigned checkpoints stays for a later start."""
    url, log_seed = environment["AUDIT_WITNESS_URL"], base64.b64decode(environment["AUDIT_SIGNING_KEY"])
    origins = [f"resguardo/{environment['DEPLOYMENT']}/{year}" for year in YEARS]
    config = {
        "name": NAME,
        "seed": base64.b64encode(_seed(data_dir)).decode(),
        "port": urlsplit(url).port,
        "record": str(data_dir / "witness-record.json"),
        "logs": [Ed25519Signer.from_seed(origin, log_seed).verifier_key.format() for origin in origins],
    }
    write_private(data_dir / "witness.json", json.dumps(config))
    with starting(
        "devstack.witness",
        ["--config", str(data_dir / "witness.json")],
        log=data_dir / "witness.log",
        environment={},
        ready_url=url,
    ) as child:
        child.wait_until_ready()
        yield


def _seed(data_dir: Path) -> bytes:
    path = data_dir / "witness.seed"
    if not path.exists():
        write_private(path, base64.b64encode(secrets.token_bytes(32)).decode())
    return base64.b64decode(path.read_text())
