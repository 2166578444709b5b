"""`python -m devstack.webhook_receiver --config FILE`: receive webhooks until a signal ends it, and append each
verified message to a file.
"""

import argparse
import asyncio
import json
from pathlib import Path

from devstack.webhook_receiver.receiver import Received, WebhookReceiver


async def receive(port: int, secret: str, messages: Path) -> None:
    """Receive messages on the port of the loopback address, and append them to the file."""

    def keep(one: Received) -> None:
        with messages.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"id": one.id, **one.message}) + "\n")

    async with WebhookReceiver(secret, on_message=keep).running(port):
        await asyncio.Event().wait()


def main() -> None:
    """Receive messages with the configured port, secret and file."""
    parser = argparse.ArgumentParser(prog="webhook_receiver")
    parser.add_argument("--config", type=Path, required=True)
    config = json.loads(parser.parse_args().config.read_text())
    asyncio.run(receive(config["port"], config["secret"], Path(config["messages"])))


if __name__ == "__main__":
    main()
