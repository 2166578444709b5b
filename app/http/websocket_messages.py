"""The messages of the protocol `graphql-transport-ws`: their shapes, and the codes that close a connection.

Source: GraphQL over WebSocket Protocol (enisdenjo/graphql-ws, PROTOCOL.md; checked 2026-11-21). `websocket_sessions.py`
decides what the messages mean for a session.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from app.errors import AppError, Forbidden, Unauthenticated
from app.http.persisted_queries import is_hash_alone
from app.http.strict_json import decode_json
from app.public_errors import public_reason

PROTOCOL = "graphql-transport-ws"
MAX_ID_LENGTH = 64
_TYPES = ("connection_init", "ping", "pong", "subscribe", "complete")


class Close(IntEnum):
    """The codes with which a WebSocket connection closes. The protocol `graphql-transport-ws` and RFC 6455 define
    the codes.
    """

    TOO_LARGE = 1009
    TRY_AGAIN_LATER = 1013
    BAD_REQUEST = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    PROTOCOL = 4406
    INIT_TIMEOUT = 4408
    DUPLICATE_ID = 4409
    TOO_MANY = 4429


_MAX_REASON_BYTES = 123
"""The longest reason that a close frame can carry (RFC 6455, 5.5)."""


class ConnectionEndedError(Exception):
    """A WebSocket connection ends. `reason` is public: a value of the enum `ErrorReason`, or an English sentence
    about a mistake in the protocol. The close code `code` is None if the client has already disconnected.
    """

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")


def decode_message(text: str | None, limit_bytes: int) -> dict[str, Any]:
    """Check that the client's message has a known type and the fields that this type needs, and return the message.
    Raises ConnectionEndedError.
    """
    if text is None:
        raise ConnectionEndedError(Close.BAD_REQUEST, "Messages are text")
    body = text.encode()
    if len(body) > limit_bytes:
        raise ConnectionEndedError(Close.TOO_LARGE, "The message is too large")
    try:
        message = decode_json(body)
    except ValueError as error:
        raise ConnectionEndedError(Close.BAD_REQUEST, "Messages are JSON") from error
    if not isinstance(message, dict) or message.get("type") not in _TYPES:
        raise ConnectionEndedError(Close.BAD_REQUEST, "The type of the message is unknown")
    if message["type"] in ("subscribe", "complete"):
        _require_id(message.get("id"))
    if message["type"] == "subscribe":
        _require_operation(message.get("payload"))
    return message


def _require_id(identifier: object) -> None:
    if not isinstance(identifier, str) or not 0 < len(identifier) <= MAX_ID_LENGTH:
        raise ConnectionEndedError(Close.BAD_REQUEST, f"An id is a string of 1 to {MAX_ID_LENGTH} characters")


def _require_operation(payload: object) -> None:
    if not isinstance(payload, dict):
        raise ConnectionEndedError(Close.BAD_REQUEST, "The payload of subscribe is an object")
    query, variables, name = (payload.get(key) for key in ("query", "variables", "operationName"))
    if not is_hash_alone(payload) and (not isinstance(query, str) or not query):
        raise ConnectionEndedError(Close.BAD_REQUEST, "The query is a string that is not empty")
    if not isinstance(variables, dict | None) or not isinstance(payload.get("extensions"), dict | None):
        raise ConnectionEndedError(Close.BAD_REQUEST, "Variables and extensions are objects")
    if not isinstance(name, str | None):
        raise ConnectionEndedError(Close.BAD_REQUEST, "The operationName is a string")


def read_authorization(payload: Mapping[str, Any]) -> str | None:
    """Return the authorization in the payload of `connection_init`, in the form of the HTTP header, or None if the
    payload has none.

    Clients put the authorization into the field `authorization` of the payload or of its `headers`, in upper or
    lower case.
    """
    headers = payload.get("headers")
    for fields in (payload, headers if isinstance(headers, dict) else {}):
        for name, value in fields.items():
            if name.lower() == "authorization" and isinstance(value, str) and value.strip():
                return value.strip()
    return None


def translate_session_error(error: AppError) -> ConnectionEndedError:
    """Return the error with which a connection closes if its session cannot begin or continue. The returned error
    has the same reason as the given error, as a value of the enum `ErrorReason`.

    After the close code 4401, the client must not reconnect with the same token. After the close code 4403 with the
    reason TOKEN_EXPIRED, the client may reconnect with a new token. After the close code 1013, the client may
    reconnect later: the reason TOKEN_CLOCK, for example, disappears when the clocks of the servers agree again.
    """
    return ConnectionEndedError(_close_code(error), public_reason(error.reason) or "")


def _close_code(error: AppError) -> Close:
    if error.reason == "token_clock":
        return Close.TRY_AGAIN_LATER
    if error.reason == "too_many_connections":
        return Close.TOO_MANY
    if isinstance(error, Unauthenticated) and error.reason != "token_expired":
        return Close.UNAUTHENTICATED
    if isinstance(error, Unauthenticated | Forbidden):
        return Close.FORBIDDEN
    return Close.TRY_AGAIN_LATER
