"""Verifies LiveKit's webhooks strictly, over their raw bytes, and reads only the few fields that Resguardo uses.

LiveKit signs a notification with a bare JWT (HS256, the API secret) whose `sha256` claim is the base64 SHA-256 of
the body (`webhook/resource_url_notifier.go` of livekit/protocol, read 2026-11-21). This module parses no webhook
before it has verified the signature and the hash. The egress request in a notification can contain storage keys, so
this module never keeps it. This module refuses a token without `exp`, and a token that is valid for longer than the
tokens that LiveKit issues. This module also refuses an egress status that LiveKit does not define, because
LiveKit's client reads an unknown status as STARTING.
"""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

import jwt

from app.errors import InvalidInput, Unauthenticated

MAX_BODY_BYTES: Final = 64 * 1024
"""An egress notification has 1 to 3 KB, and the others have less. Only the metadata of a room or participant grows,
and ours contains only ids.
"""

LEEWAY_SECONDS: Final = 60
MAX_TOKEN_LIFE_SECONDS: Final = 600
"""Twice the five minutes that LiveKit gives a token. LiveKit's retries send the first token again (read
2026-11-21).
"""

EGRESS_STATUSES: Final = frozenset(
    f"EGRESS_{name}"
    for name in ("STARTING", "ACTIVE", "ENDING", "COMPLETE", "FAILED", "ABORTED", "LIMIT_REACHED")
)

_MAX_TOKEN_CHARACTERS: Final = 4096
_MAX_NAME_CHARACTERS: Final = 256
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EVENT: Final = re.compile(r"[a-z][a-z_]{0,63}")
_SECONDS: Final = re.compile(r"[0-9]{1,11}")


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """One verified webhook notification of LiveKit. `egress_id` is None if LiveKit left the id empty. LiveKit sends
    an empty egress id if an egress that it should start automatically failed.

    `microphone_sid` and `publisher_identity` are set only if a participant has published a microphone
    (`track_published`). A notification of a published microphone always has the name of the room.
    """

    event_id: str
    event: str
    egress_id: str | None
    room_name: str | None
    room_sid: str | None
    created_at: datetime
    publisher_identity: str | None = None
    microphone_sid: str | None = None


class WebhookVerifier:
    """Verifies webhooks with LiveKit's API secrets. The API key in a webhook's token selects the secret. Several
    LiveKit API keys may be valid at once, so that an operator can rotate them.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        if not keys or not all(keys) or not all(keys.values()):
            raise ValueError("a webhook verifier needs at least one key, each with its secret")
        self._keys = dict(keys)

    def verify(self, body: bytes, authorization: str | None) -> WebhookEvent:
        """Return the event that the webhook's `body` contains. `authorization` is the unchanged Authorization
        header: a bare JWT, or a JWT after `Bearer `. Raises Unauthenticated (`webhook_signature`) if the key,
        signature, times or hash are invalid. Raises InvalidInput (`webhook_too_large`, `webhook_body`,
        `webhook_status`) if the signed body is not a valid notification.
        """
        if len(body) > MAX_BODY_BYTES:
            raise InvalidInput("webhook_too_large", maximum=MAX_BODY_BYTES)
        claims = self._claims(_token(authorization))
        expected = base64.b64encode(hashlib.sha256(body).digest())
        if not hmac.compare_digest(str(claims.get("sha256", "")).encode("utf-8", "replace"), expected):
            raise Unauthenticated("webhook_signature")
        return _read(body)

    def _claims(self, token: str) -> dict[str, object]:
        for key, secret in self._keys.items():
            try:
                claims: dict[str, object] = jwt.decode(
                    token,
                    secret,
                    algorithms=["HS256"],
                    issuer=key,
                    leeway=LEEWAY_SECONDS,
                    options={"require": ["exp", "iss"]},
                )
                lifetime = int(str(claims["exp"])) - time.time()
            except (jwt.PyJWTError, ValueError, OverflowError, RecursionError):
                continue
            if lifetime <= MAX_TOKEN_LIFE_SECONDS + LEEWAY_SECONDS:
                return claims
        raise Unauthenticated("webhook_signature")


def _token(authorization: str | None) -> str:
    token = (authorization or "").removeprefix("Bearer ")
    if len(token) > _MAX_TOKEN_CHARACTERS or not _TOKEN.fullmatch(token):
        raise Unauthenticated("webhook_signature")
    return token


def _read(body: bytes) -> WebhookEvent:
    try:
        raw = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("webhook_body") from error
    notification = _object(raw)
    event = _matching(_EVENT, notification.get("event"))
    room = _object(notification.get("room", {}))
    egress = _object(notification.get("egressInfo", {}))
    if event.startswith("egress_") and "egressInfo" not in notification:
        raise InvalidInput("webhook_body")
    status = egress.get("status", "EGRESS_STARTING")
    if not isinstance(status, str) or status not in EGRESS_STATUSES:
        raise InvalidInput("webhook_status")
    publisher_identity, microphone_sid = (
        _microphone(notification) if event == "track_published" else (None, None)
    )
    room_name = _name(egress.get("roomName")) or _name(room.get("name"))
    if microphone_sid and room_name is None:
        raise InvalidInput("webhook_body")
    return WebhookEvent(
        event_id=_matching(_ID, notification.get("id")),
        event=event,
        egress_id=_optional(_ID, egress.get("egressId")),
        room_name=room_name,
        room_sid=_optional(_ID, egress.get("roomId")) or _optional(_ID, room.get("sid")),
        created_at=_instant(notification.get("createdAt")),
        publisher_identity=publisher_identity,
        microphone_sid=microphone_sid,
    )


def _microphone(notification: Mapping[str, object]) -> tuple[str | None, str | None]:
    """Return the identity of the participant who published the microphone, and the SID of its track; (None, None)
    for any other track. In proto3 JSON, an audio track has no field `type`, because proto3 omits fields with the
    value zero, and AUDIO is zero.
    """
    track, publisher = _object(notification.get("track")), _object(notification.get("participant"))
    source, kind = track.get("source", "UNKNOWN"), track.get("type", "AUDIO")
    sid, identity = _matching(_ID, track.get("sid")), _name(publisher.get("identity"))
    if not isinstance(source, str) or not isinstance(kind, str) or identity is None:
        raise InvalidInput("webhook_body")
    return (identity, sid) if (source, kind) == ("MICROPHONE", "AUDIO") else (None, None)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidInput("webhook_body")
    return value


def _matching(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidInput("webhook_body")
    return value


def _optional(pattern: re.Pattern[str], value: object) -> str | None:
    return None if value in (None, "") else _matching(pattern, value)


def _name(value: object) -> str | None:
    if value in (None, ""):
        return None
    if not isinstance(value, str) or len(value) > _MAX_NAME_CHARACTERS or not value.isprintable():
        raise InvalidInput("webhook_body")
    return value


def _instant(value: object) -> datetime:
    """A time in seconds since 1970, which proto3 JSON writes as a string (int64)."""
    return datetime.fromtimestamp(int(_matching(_SECONDS, value)), tz=UTC)
