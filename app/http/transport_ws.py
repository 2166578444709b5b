"""The messages of `graphql-transport-ws`: what a client may say, and what it is told when it does not.

GraphQL over WebSocket Protocol (enisdenjo/graphql-ws, PROTOCOL.md; checked 2026-11-21). It knows the shapes of messages
and the codes with which a connection ends; what they mean for a session is `subscriptions.py`'s business.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from app.errors import AppError, Forbidden, Unauthenticated, public_extensions
from app.http.persisted_queries import is_hash_alone
from app.http.strict_json import decode_json
from app.texts import Language, error_message

PROTOCOL = "graphql-transport-ws"
MAX_ID_LENGTH = 64


class Close(IntEnum):
    """Why a connection ends, by the protocol's codes and RFC 6455's."""

    TOO_LARGE = 1009
    TRY_AGAIN_LATER = 1013
    BAD_REQUEST = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    PROTOCOL = 4406
    INIT_TIMEOUT = 4408
    DUPLICATE_ID = 4409
    TOO_MANY = 4429


class EndedError(Exception):
    """The connection ends; the reason is public. Without a code, nobody is there to be told."""

    def __init__(self, code: Close | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Operation:
    """What a `subscribe` message asks for; the query is empty if it is named by a hash alone."""

    id: str
    query: str
    variables: dict[str, Any] | None
    name: str | None


def decode_message(text: str | None, limit_bytes: int) -> dict[str, Any]:
    """The message; its `type` is a string. Raises EndedError."""
    if text is None:
        raise EndedError(Close.BAD_REQUEST, "Messages are text")
    body = text.encode()
    if len(body) > limit_bytes:
        raise EndedError(Close.TOO_LARGE, "The message is too large")
    try:
        message = decode_json(body)
    except ValueError as error:
        raise EndedError(Close.BAD_REQUEST, "Messages are JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise EndedError(Close.BAD_REQUEST, "Messages have a type")
    return message


def init_payload(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `connection_init` brings. Raises EndedError."""
    payload = message.get("payload")
    if payload is None:
        return {}
    if not isinstance(payload, dict):
        raise EndedError(Close.BAD_REQUEST, "The payload of connection_init is an object")
    return payload


def init_authorization(payload: Mapping[str, Any]) -> str | None:
    """The authorization that `connection_init` brings, as the header of that name would have it; None if it has none.

    It is `authorization` in the payload, or in its `headers`, in any case: clients differ in where they put it.
    """
    headers = payload.get("headers")
    for fields in (payload, headers if isinstance(headers, dict) else {}):
        for name, value in fields.items():
            if name.lower() == "authorization" and isinstance(value, str) and value.strip():
                return value.strip()
    return None


def operation_of(message: Mapping[str, Any]) -> Operation:
    """What `subscribe` asks for. Raises EndedError."""
    identifier, payload = operation_id(message), message.get("payload")
    if not isinstance(payload, dict):
        raise EndedError(Close.BAD_REQUEST, "The payload of subscribe is an object")
    query, variables, name = (payload.get(key) for key in ("query", "variables", "operationName"))
    if is_hash_alone(payload):
        query = ""
    elif not isinstance(query, str) or not query:
        raise EndedError(Close.BAD_REQUEST, "The query is a string that is not empty")
    if not isinstance(variables, dict | None) or not isinstance(name, str | None):
        raise EndedError(Close.BAD_REQUEST, "Variables are an object, operationName is a string")
    return Operation(identifier, query, variables, name)


def operation_id(message: Mapping[str, Any]) -> str:
    """The id that the client chose. Raises EndedError."""
    identifier = message.get("id")
    if not isinstance(identifier, str) or not 0 < len(identifier) <= MAX_ID_LENGTH:
        raise EndedError(Close.BAD_REQUEST, f"An id is a string of 1 to {MAX_ID_LENGTH} characters")
    return identifier


def ended_by(error: AppError) -> EndedError:
    """How a connection ends whose session cannot go on; the reason is the error's.

    4401 is final; with 4403 `token_expired` the client may come back with a new token; 1013 passes by itself, as does
    `token_clock` when the clocks agree again.
    """
    if error.reason == "token_clock":
        return EndedError(Close.TRY_AGAIN_LATER, error.reason)
    if isinstance(error, Unauthenticated) and error.reason != "token_expired":
        return EndedError(Close.UNAUTHENTICATED, error.reason)
    if isinstance(error, Unauthenticated | Forbidden):
        return EndedError(Close.FORBIDDEN, error.reason)
    return EndedError(Close.TRY_AGAIN_LATER, error.reason)


def refusal_message(
    identifier: str, error: AppError, language: Language, request_id: str | None
) -> dict[str, object]:
    """The `error` message for an operation that was not begun."""
    extensions = public_extensions(error, request_id)
    message = error_message(error.code, error.reason, language, error.detail)
    return {"id": identifier, "type": "error", "payload": [{"message": message, "extensions": extensions}]}
