"""Runs Swift's account, container, object and proxy servers as green threads of one process, on loopback.

Only `devstack.object_store` starts `python -m devstack.swift DATA_DIR BUCKET PORT`. If PORT is 0, the store chooses
a free port. When the store is ready, the process writes one line of JSON, `{"port": n}`, to stdout. The process
ends when its stdin is closed, which happens whenever the parent process dies. (Linux's parent-death signal follows
the *thread* that started a child, so it would also end the store when a worker thread ends.)
"""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import eventlet  # type: ignore[import-untyped]  # ships no types
from eventlet.hubs import trampoline  # type: ignore[import-untyped]
from swift.common import utils, wsgi  # type: ignore[import-untyped]  # ships no types
from swift.common.ring import RingBuilder  # type: ignore[import-untyped]
from swift.common.utils import logs  # type: ignore[import-untyped]

from devstack.swift.configuration import ACCOUNT, BACKENDS, RING_PART_POWER, Secrets, write_configuration

_DEVICE = "d1"


def main() -> None:
    """Serve the object store until stdin is closed."""
    data_dir, bucket, wanted_port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    os.umask(0o077)
    _log_to_stderr()
    port = _serve(data_dir, bucket, wanted_port)
    print(json.dumps({"port": port}), flush=True)  # noqa: T201  # the line that the parent waits for
    _wait_for_the_end_of_stdin()
    os._exit(0)


def _wait_for_the_end_of_stdin() -> None:
    trampoline(0, read=True)
    while os.read(0, 4096):
        trampoline(0, read=True)


def _log_to_stderr() -> None:
    """Redirect Swift's log. Swift 2.38 logs to syslog or, without it, to UDP port 514 of this machine."""
    logs.logging_monkey_patch()
    logs.ThreadSafeSysLogHandler = lambda **_: logging.StreamHandler(sys.stderr)


def _serve(data_dir: Path, bucket: str, wanted_port: int) -> int:
    directory, devices = data_dir / "etc", data_dir / "devices"
    directory.mkdir(exist_ok=True)
    (devices / _DEVICE).mkdir(parents=True, exist_ok=True)
    secrets = Secrets(**json.loads((data_dir / "secrets.json").read_text()))
    files = write_configuration(directory, devices, bucket, secrets)
    ports = {"proxy": wanted_port} | dict.fromkeys(BACKENDS, 0)
    sockets = {kind: eventlet.listen(("127.0.0.1", port)) for kind, port in ports.items()}
    for kind in BACKENDS:
        _write_ring(directory / f"{kind}.ring.gz", sockets[kind].getsockname()[1])
    utils.set_swift_dir(str(directory))
    apps = {kind: wsgi.loadapp(str(path), {"log_name": kind}) for kind, path in files.items()}
    for kind, app in apps.items():
        eventlet.spawn(_run, sockets[kind], app)
    _make_containers(apps["proxy"], bucket)
    port: int = sockets["proxy"].getsockname()[1]
    return port


def _write_ring(path: Path, port: int) -> None:
    builder = RingBuilder(part_power=RING_PART_POWER, replicas=1, min_part_hours=0)
    device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": _DEVICE, "weight": 1}
    builder.add_dev(device)
    builder.rebalance(seed=0)
    builder.get_ring().save(str(path))


def _run(socket: Any, app: Any) -> None:
    """Run Swift's own server loop (`swift.common.wsgi.run_server`) with a socket that is already bound."""
    eventlet.wsgi.server(
        socket,
        app,
        utils.NullLogger(),
        protocol=wsgi.SwiftHttpProtocol,
        capitalize_response_headers=False,  # S3 clients expect "ETag", not "Etag"
        url_length_limit=8192,
    )


def _make_containers(proxy: Any, bucket: str) -> None:
    """Create the bucket, and the container in which s3api stores the parts of multipart uploads.

    Reading a multipart object reads its segments, and uploading one lists and deletes segments. The guard
    (`guard.py`) prevents the reader and the recorder from addressing the segments directly.
    """
    reader, recorder = f"{ACCOUNT}:reader", f"{ACCOUNT}:recorder"
    access = {bucket: (reader, recorder), f"{bucket}+segments": (f"{reader},{recorder}", recorder)}
    for container, (read, write) in access.items():
        headers = {"X-Container-Read": read, "X-Container-Write": write}
        path = f"/v1/AUTH_{ACCOUNT}/{container}"
        request = wsgi.make_pre_authed_request({}, "PUT", path, headers=headers)
        request.environ["swift_owner"] = True  # only an owner may set ACLs
        answer = request.get_response(proxy)
        if not answer.is_success:
            sys.exit(f"the store refused to make {container}: {answer.status}")
