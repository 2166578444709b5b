"""The embedded object store: OpenStack Swift with s3api, as one child process on loopback.

The store replaces R2 in development and tests, because it refuses what R2 refuses: forged, modified and expired
URLs, unknown access keys, and requests that the user has no right to send. The store must not hold patients'
recordings: it has one replica, plain HTTP and no encryption. The store was tested with Swift 2.38.3 on 2026-11-21.
Swift has no temporary session credentials, so LiveKit's recorder has a user of its own in the store.
"""

import errno
import fcntl
import json
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from app.bucket import model, policy_documents
from app.integrations.storage.caller import Credentials
from devstack.swift.configuration import ACCOUNT, REGION, RULES_FILE, Secrets
from devstack.swift.cors import PageRule, save_rules

_READY_SECONDS = 60.0
_STOP_SECONDS = 5.0
_LOG_TAIL_LINES = 20
_ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")


class ObjectStoreError(Exception):
    """The object store did not start. The exception's message names the reason and ends with the last lines of the
    store's log.
    """


@dataclass(frozen=True)
class ObjectStore:
    """A running store.

    `reader` may GET and HEAD objects of the bucket, `recorder` may only put them (including multipart uploads), and
    `writer` may do everything. Clients sign for `region` and address the bucket in the path.
    """

    endpoint_url: str
    bucket: str
    reader: Credentials
    writer: Credentials
    recorder: Credentials
    region: str = REGION

    @property
    def keeper(self) -> Credentials:
        """Return the writer under another access key id. The settings refuse two buckets with one access key id."""
        return Credentials(f"{ACCOUNT}:keeper", self.writer.secret_access_key)


@contextmanager
def running(
    data_dir: Path, *, bucket: str = "resguardo", port: int = 0, allowed_origins: Collection[str] = ()
) -> Iterator[ObjectStore]:
    """Run the store until the block or this process ends. If `port` is 0, the store uses a free port.

    Data and secrets under `data_dir` stay for a later start. `bucket` is a DNS-like name. Pages of
    `allowed_origins` may send the requests that `policies/bucket/cors.json` allows; other pages may send none.
    Raises ObjectStoreError if the file system has no extended attributes, another store uses the directory, or the
    child does not become ready.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _sole_user(data_dir):
        _require_extended_attributes(data_dir)
        made = _load_or_make_secrets(data_dir / "secrets.json")
        save_rules(_page_rules(allowed_origins), data_dir / RULES_FILE)
        with _child(data_dir, bucket, port) as bound_port:
            yield ObjectStore(
                endpoint_url=f"http://127.0.0.1:{bound_port}",
                bucket=bucket,
                reader=Credentials(f"{ACCOUNT}:reader", made.reader),
                writer=Credentials(f"{ACCOUNT}:writer", made.writer),
                recorder=Credentials(f"{ACCOUNT}:recorder", made.recorder),
            )


def _page_rules(origins: Collection[str]) -> list[PageRule]:
    """Return the CORS rules that `resguardo policies apply` would write to a bucket for these origins."""
    return [
        PageRule(rule.origins, rule.methods, rule.headers, rule.exposed, rule.max_age_seconds or 0)
        for rule in model.derive_rules(policy_documents.load(), (), origins).cors or ()
    ]


@contextmanager
def _sole_user(data_dir: Path) -> Iterator[None]:
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ObjectStoreError(f"another object store runs in {data_dir}") from error
        yield


def _require_extended_attributes(data_dir: Path) -> None:
    """Raise ObjectStoreError unless the file system supports `user.*` attributes, in which Swift stores an object's
    metadata.
    """
    if not hasattr(os, "setxattr"):
        raise ObjectStoreError("the embedded object store needs Linux; configure an S3 endpoint instead")
    probe = data_dir / "attributes"
    probe.touch()
    try:
        os.setxattr(probe, "user.resguardo", b"1")
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
            raise
        raise ObjectStoreError(
            f"the file system of {data_dir} keeps no extended attributes (user.*), which the embedded "
            "object store needs; choose a directory on ext4, xfs, btrfs or overlayfs (tmpfs has them since "
            "Linux 6.6)"
        ) from error
    finally:
        probe.unlink()


def _load_or_make_secrets(path: Path) -> Secrets:
    if path.exists():
        return Secrets(**json.loads(path.read_text()))
    made = Secrets(*(secrets.token_hex(32) for _ in range(4)))
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with open(draft, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        json.dump(asdict(made), file)
    draft.rename(path)
    return made


@contextmanager
def _child(data_dir: Path, bucket: str, port: int) -> Iterator[int]:
    log = data_dir / "log"
    arguments = [str(data_dir.resolve()), bucket, str(port)]
    with log.open("wb") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "devstack.swift", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            start_new_session=True,  # Ctrl-C goes to the parent, which stops the store when it is done with it
        )
    try:
        yield _port(child, log)
    finally:
        _stop(child)


def _port(child: subprocess.Popen[bytes], log: Path) -> int:
    """Wait for the one line of JSON that the child process writes, and return the port in it."""
    assert child.stdout is not None  # noqa: S101  # a pipe was asked for
    line, deadline = b"", time.monotonic() + _READY_SECONDS
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(child.stdout.fileno(), 4096) if ready else b""
        if not chunk:
            what = "ended before it was ready" if ready else f"was not ready within {_READY_SECONDS:.0f} s"
            raise ObjectStoreError(f"the object store {what}; its log ends:\n{_tail(log)}")
        line += chunk
    port: int = json.loads(line)["port"]
    return port


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Close the stdin of the child process, which makes the child end. If the child does not end, kill it."""
    with child:
        assert child.stdin is not None  # noqa: S101  # a pipe was asked for
        child.stdin.close()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
