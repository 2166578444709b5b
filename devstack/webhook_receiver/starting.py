"""Runs the test receiver of outgoing webhooks as a child of the dev stack. Its file keeps the messages of all runs."""

import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from devstack.children import free_port, starting
from devstack.coordinates import write_private

MESSAGES = "webhooks.ndjson"


def receiver_environment() -> dict[str, str]:
    """Return the settings with which the worker sends webhooks to the test receiver."""
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    return {
        "OUTGOING_WEBHOOK_URLS": f"test-receiver=http://127.0.0.1:{free_port()}/hooks",
        "OUTGOING_WEBHOOK_SECRETS": f"test-receiver={secret}",
    }


@contextmanager
def receiver_running(environment: Mapping[str, str], data_dir: Path) -> Iterator[None]:
    """Run the test receiver until the block ends. It appends each verified message to `webhooks.ndjson`."""
    url = environment["OUTGOING_WEBHOOK_URLS"].partition("=")[2]
    config = {
        "port": urlsplit(url).port,
        "secret": environment["OUTGOING_WEBHOOK_SECRETS"].partition("=")[2],
        "messages": str(data_dir / MESSAGES),
    }
    write_private(data_dir / "webhook-receiver.json", json.dumps(config))
    with starting(
        "devstack.webhook_receiver",
        ["--config", str(data_dir / "webhook-receiver.json")],
        log=data_dir / "webhook-receiver.log",
        environment={},
        ready_url=url,
    ) as child:
        child.wait_until_ready()
        yield
