"""Simulates a web page that watches a consultation: it opens the subscription `recordingChanged` over a real
WebSocket.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from devstack import documents
from devstack.api_client import ApiClient
from devstack.demo.report import DemoFailed, require

PATIENCE_SECONDS = 10
STATES = ("REQUESTED", "STARTING", "RECORDING", "STOPPING", "VERIFYING", "READY")


@dataclass(frozen=True)
class Page:
    """An open subscription. Messages of the subscription wait in the socket until they are read."""

    connection: ClientConnection

    async def states_until_ready(self, recording_id: str) -> list[str]:
        """Return the states of a recording that the page received, with repeated messages of one state counted
        once. Raises DemoFailed.
        """
        states: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while states[-1:] != ["READY"]:
                    changed = (await self._hear("next"))["data"]["recordingChanged"]
                    require(changed["id"] == recording_id, "the subscription told of another recording")
                    if states[-1:] != [changed["status"]]:
                        states.append(changed["status"])
        except (TimeoutError, WebSocketException) as error:
            raise DemoFailed(f"the subscription ended after {', '.join(states) or 'nothing'}") from error
        return states

    async def open(self, token: str | None, consultation_id: str) -> None:
        """Authenticate and subscribe. Raises DemoFailed if the server refuses the subscription."""
        subscription = {"query": documents.CHANGES, "variables": {"consultationId": consultation_id}}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._say(type="connection_init", payload={"authorization": f"Bearer {token}"})
                await self._hear("connection_ack")
                await self._say(id="1", type="subscribe", payload=subscription)
        except (TimeoutError, WebSocketException) as error:
            raise DemoFailed("the subscription was not let in") from error

    async def _say(self, **message: object) -> None:
        await self.connection.send(json.dumps(message))

    async def _hear(self, wanted: str) -> Any:
        message = json.loads(await self.connection.recv())
        require(message["type"] == wanted, f"the subscription said {message['type']}")
        return message.get("payload")


@asynccontextmanager
async def watching(api: ApiClient, consultation_id: str) -> AsyncIterator[Page]:
    """Yield a simulated web page of this person, which subscribes to the consultation's recordings until the block
    ends. Raises DemoFailed.
    """
    address = api.url.replace("http", "ws", 1)
    try:
        connection = await connect(address, subprotocols=[Subprotocol("graphql-transport-ws")])
    except (OSError, TimeoutError, WebSocketException) as error:
        raise DemoFailed("the subscription could not be opened") from error
    try:
        page = Page(connection)
        await page.open(api.token, consultation_id)
        yield page
    finally:
        await connection.close()


def require_in_order(states: list[str]) -> None:
    """Check that the page received RECORDING and READY, received no state twice, and received the states in their
    normal order. The API may merge quick changes into one message.
    """
    require({"RECORDING", "READY"} <= set(states), f"the subscription told of {', '.join(states)} alone")
    require(states == [one for one in STATES if one in states], f"out of order: {', '.join(states)}")
