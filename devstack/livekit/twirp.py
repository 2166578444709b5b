"""Twirp as LiveKit serves it: protobuf or JSON for requests and answers, and errors as JSON with the status of
their code.

The statuses are those of the Twirp v7 wire protocol. The texts of refused tokens are those of livekit-server's
`pkg/service/auth.go`, which answers 401 in plain text for an invalid token and a Twirp `unauthenticated` for a
missing grant (read 2026-11-21).
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

STATUSES: Final = {
    "canceled": 408,
    "unknown": 500,
    "invalid_argument": 400,
    "malformed": 400,
    "deadline_exceeded": 408,
    "not_found": 404,
    "bad_route": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "unauthenticated": 401,
    "resource_exhausted": 429,
    "failed_precondition": 412,
    "aborted": 409,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "dataloss": 500,
}

LEEWAY_SECONDS: Final = 60
_ID_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class TwirpError(Exception):
    """A refusal that the caller receives as Twirp JSON."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def response(self) -> Response:
        body = {"code": self.code, "msg": self.message}
        return JSONResponse(body, status_code=STATUSES.get(self.code, 500))


def from_a_service(code: str, message: str) -> TwirpError:
    """Return a refusal as livekit-server forwards it from one of its internal services. The refusal's text begins
    with `twirp error unknown:`, as in every error of LiveKit's internal services, except those with status 412.
    """
    return TwirpError(code, f"twirp error unknown: {message}")


class TokenError(Exception):
    """The token of a request is invalid. The server answers 401 in plain text, and calls no service."""

    def response(self) -> Response:
        return PlainTextResponse(str(self), status_code=401)


@dataclass(frozen=True, slots=True)
class Grants:
    """The rights that a valid token grants. A request without a token has no rights."""

    identity: str
    metadata: str
    video: Mapping[str, Any]

    def require(self, grant: str, room: str | None = None) -> None:
        """Raise TwirpError unless the token has the grant, for this room if `room` is given."""
        if self.video.get(grant) is not True or (room is not None and self.video.get("room") != room):
            raise TwirpError("unauthenticated", "permissions denied")


def new_id(prefix: str) -> str:
    """Return an id like livekit/protocol's `utils/guid`: twelve characters of base 57."""
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))


def grants_of_request(request: Request, keys: Mapping[str, str]) -> Grants:
    header = request.headers.get("authorization")
    if header is None:
        return Grants(identity="", metadata="", video={})
    if not header.startswith("Bearer "):
        raise TokenError("invalid authorization header. Must start with Bearer ")
    return grants_of_token(header.removeprefix("Bearer "), keys)


def grants_of_token(token: str, keys: Mapping[str, str]) -> Grants:
    """Return the grants of a token. Raises TokenError if the key is unknown, the signature or the algorithm is
    wrong, or the token has expired or has no expiry.
    """
    try:
        claimed = jwt.decode(token, options={"verify_signature": False}, algorithms=["HS256"])
        secret = keys[claimed["iss"]]
    except jwt.PyJWTError as error:
        raise TokenError("invalid authorization token") from error
    except (KeyError, TypeError) as error:
        raise TokenError("invalid API key") from error
    try:
        claims = jwt.decode(
            token, secret, algorithms=["HS256"], leeway=LEEWAY_SECONDS, options={"require": ["exp", "iss"]}
        )
    except jwt.PyJWTError as error:
        raise TokenError("invalid authorization token: it does not hold") from error
    return Grants(
        identity=claims.get("sub", ""), metadata=claims.get("metadata", ""), video=claims.get("video") or {}
    )


def media_type(request: Request) -> str:
    """Return `application/protobuf` or `application/json`. A request whose content type is neither JSON nor
    protobuf gets the same error as a request to an unknown route.
    """
    if request.method != "POST":
        raise TwirpError("bad_route", f'unsupported method "{request.method}" (only POST is allowed)')
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in ("application/protobuf", "application/json"):
        raise TwirpError("bad_route", "unexpected Content-Type")
    return media


def decode(media: str, body: bytes, message: Message) -> None:
    """Fill `message` from `body`. Raises TwirpError `malformed`."""
    try:
        if media == "application/json":
            json_format.Parse(body, message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(body)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError) as error:
        raise TwirpError("malformed", "the request could not be decoded") from error


def encode(media: str, message: Message) -> Response:
    if media == "application/json":
        return Response(
            json_format.MessageToJson(message, preserving_proto_field_name=True), media_type=media
        )
    return Response(message.SerializeToString(), media_type=media)
