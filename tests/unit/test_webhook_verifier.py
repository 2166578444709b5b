"""Tests of the webhook verifier: it accepts the same requests as the webhook receiver of LiveKit's library, and
refuses every forged request.
"""

import base64
import hashlib
import json
import time
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from livekit.api import TokenVerifier, WebhookReceiver

from app.errors import InvalidInput, Unauthenticated
from app.integrations.livekit.webhook import MAX_BODY_BYTES, WebhookEvent, WebhookVerifier

KEY, SECRET = "APIdevelopment", "a-secret-of-more-than-thirty-two-bytes"
OLD_KEY, OLD_SECRET = "APIbefore", "an-older-secret-of-more-than-thirty-two-bytes"
CREATED_AT = 1_795_000_000

verifier = WebhookVerifier({KEY: SECRET})


def notification(**changes: object) -> dict[str, object]:
    return {
        "event": "egress_ended",
        "id": "EV_23456789abcd",
        "createdAt": str(CREATED_AT),
        "room": {"sid": "RM_abc", "name": "room-1"},
        "egressInfo": {
            "egressId": "EG_abc",
            "roomId": "RM_abc",
            "roomName": "room-1",
            "status": "EGRESS_COMPLETE",
            "roomComposite": {"fileOutputs": [{"filepath": "r/x.mp4", "s3": {"secret": "{secret}"}}]},
        },
        **changes,
    }


def encoded(**changes: object) -> bytes:
    return json.dumps(notification(**changes)).encode()


def claims(body: bytes, **changes: object) -> dict[str, Any]:
    now = int(time.time())
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    made = {"iss": KEY, "iat": now, "nbf": now, "exp": now + 300, "sha256": digest} | changes
    return {name: value for name, value in made.items() if value is not None}


def signed(body: bytes, secret: str = SECRET, /, **changes: object) -> str:
    return jwt.encode(claims(body, **changes), secret, algorithm="HS256")


def test_event_is_read_and_request_is_not_kept() -> None:
    body = encoded()
    event = verifier.verify(body, signed(body))
    assert event == WebhookEvent(
        event_id="EV_23456789abcd",
        event="egress_ended",
        egress_id="EG_abc",
        room_name="room-1",
        room_sid="RM_abc",
        created_at=datetime.fromtimestamp(CREATED_AT, tz=UTC),
    )
    assert "secret" not in repr(event)


def test_event_has_no_egress_id_when_livekit_left_it_empty() -> None:
    body = encoded(egressInfo={"roomName": "room-1", "status": "EGRESS_FAILED"})
    event = verifier.verify(body, signed(body))
    assert (event.egress_id, event.room_name) == (None, "room-1")


def test_event_starting_is_read_without_status_because_proto3_omits_zero() -> None:
    body = encoded(event="egress_started", egressInfo={"egressId": "EG_abc"})
    assert verifier.verify(body, signed(body)).egress_id == "EG_abc"


def test_room_event_is_read() -> None:
    body = json.dumps(
        {"event": "room_started", "id": "EV_1", "createdAt": "5", "room": {"sid": "RM_1", "name": "r"}}
    ).encode()
    event = verifier.verify(body, signed(body))
    assert (event.egress_id, event.room_name, event.room_sid) == (None, "r", "RM_1")


def test_bearer_prefix_is_accepted() -> None:
    body = encoded()
    assert verifier.verify(body, f"Bearer {signed(body)}") == verifier.verify(body, signed(body))


def test_either_key_is_accepted_while_keys_rotate_and_only_with_its_own_secret() -> None:
    rotating = WebhookVerifier({KEY: SECRET, OLD_KEY: OLD_SECRET})
    body = encoded()
    assert rotating.verify(body, signed(body)).egress_id == "EG_abc"
    assert rotating.verify(body, signed(body, OLD_SECRET, iss=OLD_KEY)).egress_id == "EG_abc"
    for secret, key in ((SECRET, OLD_KEY), (OLD_SECRET, KEY)):
        with pytest.raises(Unauthenticated, match="webhook_signature"):
            rotating.verify(body, signed(body, secret, iss=key))


def test_old_key_is_refused_once_it_is_gone() -> None:
    body = encoded()
    with pytest.raises(Unauthenticated):
        verifier.verify(body, signed(body, OLD_SECRET, iss=OLD_KEY))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"iss": "APIunknown"}, id="unknown-key"),
        pytest.param({"iss": None}, id="no-key"),
        pytest.param({"exp": None}, id="no-end"),
        pytest.param({"exp": int(time.time()) - 120}, id="over"),
        pytest.param({"exp": int(time.time()) + 86_400}, id="lives-too-long"),
        pytest.param({"exp": "soon"}, id="end-is-no-time"),
        pytest.param({"nbf": int(time.time()) + 86_400}, id="not-yet"),
        pytest.param({"sha256": None}, id="no-hash"),
        pytest.param({"sha256": ""}, id="empty-hash"),
        pytest.param({"sha256": "AAAA"}, id="short-hash"),
        pytest.param({"sha256": 5}, id="hash-is-a-number"),
        pytest.param({"sha256": "\ud800"}, id="hash-is-no-text"),
        pytest.param({"aud": "somebody-else"}, id="for-somebody-else"),
    ],
)
def test_token_is_refused_when_a_claim_does_not_hold(changes: dict[str, object]) -> None:
    body = encoded()
    with pytest.raises(Unauthenticated, match="webhook_signature"):
        verifier.verify(body, signed(body, **changes))


def test_token_of_another_secret_is_refused() -> None:
    body = encoded()
    with pytest.raises(Unauthenticated):
        verifier.verify(body, signed(body, OLD_SECRET))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_token_of_another_hmac_is_refused(algorithm: str) -> None:
    body = encoded()
    token = jwt.encode(claims(body), SECRET * 2, algorithm=algorithm)
    with pytest.raises(Unauthenticated):
        WebhookVerifier({KEY: SECRET * 2}).verify(body, token)


def test_token_signed_by_rsa_is_refused() -> None:
    body = encoded()
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(Unauthenticated):
        verifier.verify(body, jwt.encode(claims(body), private, algorithm="RS256"))


def test_token_without_algorithm_is_refused() -> None:
    body = encoded()
    unsigned = jwt.encode(claims(body), "", algorithm="none")
    for token in (unsigned, unsigned + "AAAA"):
        with pytest.raises(Unauthenticated):
            verifier.verify(body, token)


def test_token_header_nested_without_end_is_refused() -> None:
    header = base64.urlsafe_b64encode(b"[" * 2900).decode().rstrip("=")
    with pytest.raises(Unauthenticated):
        verifier.verify(b"{}", f"{header}.e30.AAAA")


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer ", "Basic eDp5", "a.b", "a.b.c", "é.é.é", "a" * 9000]
)
def test_header_that_is_no_token_is_refused(authorization: str | None) -> None:
    with pytest.raises(Unauthenticated, match="webhook_signature"):
        verifier.verify(encoded(), authorization)


def test_body_altered_in_any_byte_is_refused() -> None:
    body = encoded()
    token = signed(body)
    for index in range(len(body)):
        altered = body[:index] + bytes([body[index] ^ 1]) + body[index + 1 :]
        with pytest.raises(Unauthenticated):
            verifier.verify(altered, token)


def test_body_over_the_cap_is_refused_before_its_token_is_read() -> None:
    with pytest.raises(InvalidInput, match="webhook_too_large"):
        verifier.verify(b" " * (MAX_BODY_BYTES + 1), None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{",
        b"{}",
        b"[" * 30_000,
        encoded()[:-1] + b', "more": NaN}',
        encoded() + b" x",
        encoded(id=""),
        encoded(id=5),
        encoded(id="EV_" + "a" * 70),
        encoded(event=None),
        encoded(event="../etc"),
        encoded(createdAt=None),
        encoded(createdAt="-1"),
        encoded(createdAt="1e3"),
        encoded(createdAt="9" * 5000),
        encoded(room=[]),
        encoded(room={"name": "nul\x00"}, egressInfo={}),
        encoded(room={"name": "\ud800"}, egressInfo={}),
        encoded(room={"name": "n" * 300}, egressInfo={}),
        encoded(egressInfo="EG_abc"),
        encoded(egressInfo={"egressId": {"a": 1}}),
        encoded()[:-1] + b', "id": "EV_again"}',
        json.dumps({name: value for name, value in notification().items() if name != "egressInfo"}).encode(),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_signed_body_that_is_no_notification_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="webhook_body"):
        verifier.verify(body, signed(body))


@pytest.mark.parametrize("status", ["EGRESS_PAUSED", "egress_active", "", 0, 1, 99, None, ["EGRESS_ACTIVE"]])
def test_status_that_livekit_does_not_name_is_refused_rather_than_read_as_starting(status: object) -> None:
    body = encoded(egressInfo={"egressId": "EG_abc", "status": status})
    with pytest.raises(InvalidInput):
        verifier.verify(body, signed(body))


def test_verifier_needs_keys() -> None:
    for keys in ({}, {KEY: ""}, {"": SECRET}):
        with pytest.raises(ValueError, match="at least one key"):
            WebhookVerifier(keys)


@given(body=st.binary(max_size=200), token=st.text(max_size=200))
def test_nothing_unsigned_passes(body: bytes, token: str) -> None:
    with pytest.raises((Unauthenticated, InvalidInput)):
        verifier.verify(body, token)


@given(head=st.binary(max_size=60), payload=st.binary(max_size=60), signature=st.binary(max_size=40))
def test_nothing_shaped_like_a_token_passes(head: bytes, payload: bytes, signature: bytes) -> None:
    parts = (base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (head, payload, signature))
    with pytest.raises(Unauthenticated):
        verifier.verify(encoded(), ".".join(parts))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from(["egress_ended", "room_started", "", "x y"]) | json_values,
        "id": st.sampled_from(["EV_1", ""]) | json_values,
        "createdAt": st.sampled_from(["5", "-5", ""]) | json_values,
        "room": st.fixed_dictionaries({}, optional={"name": json_values, "sid": json_values}) | json_values,
        "egressInfo": st.fixed_dictionaries(
            {},
            optional={
                "egressId": st.sampled_from(["EG_1", ""]) | json_values,
                "status": st.sampled_from(["EGRESS_ACTIVE", "EGRESS_NEVER"]) | json_values,
            },
        )
        | json_values,
    },
)


@given(raw=fields)
def test_what_passes_is_what_livekits_own_receiver_reads(raw: dict[str, object]) -> None:
    body = json.dumps(raw).encode()
    token = signed(body)
    try:
        ours = verifier.verify(body, token)
    except InvalidInput:
        return
    theirs = WebhookReceiver(TokenVerifier(KEY, SECRET)).receive(body.decode(), token)
    assert (ours.event_id, ours.event) == (theirs.id, theirs.event)
    assert (ours.egress_id or "") == theirs.egress_info.egress_id
    assert (ours.room_name or "") == (theirs.egress_info.room_name or theirs.room.name)
    assert int(ours.created_at.timestamp()) == theirs.created_at


def published(**changes: object) -> bytes:
    """Return a webhook body like the one that livekit-server 1.13.5 sent for a published microphone on 2026-11-29."""
    told = {
        "event": "track_published",
        "id": "EV_1",
        "createdAt": "5",
        "room": {"sid": "RM_1", "name": "room-1", "turnPassword": "turn-secret", "enabledCodecs": []},
        "participant": {"sid": "PA_1", "identity": "person-1"},
        "track": {"sid": "TR_1", "source": "MICROPHONE", "mimeType": "audio/red"},
        **changes,
    }
    return json.dumps(told).encode()


def test_published_microphone_is_read_with_its_publisher_and_without_secrets_of_the_room() -> None:
    body = published()
    event = verifier.verify(body, signed(body))
    assert (event.room_name, event.publisher_identity, event.microphone_sid) == ("room-1", "person-1", "TR_1")
    assert "turn-secret" not in repr(event)


@pytest.mark.parametrize(
    "track",
    [
        {"sid": "TR_1", "source": "CAMERA", "type": "VIDEO"},
        {"sid": "TR_1", "source": "MICROPHONE", "type": "VIDEO"},
        {"sid": "TR_1", "source": "SCREEN_SHARE_AUDIO"},
        {"sid": "TR_1", "source": "NEVER_HEARD_OF"},
        {"sid": "TR_1"},
    ],
)
def test_published_track_that_is_no_microphone_is_read_as_none(track: object) -> None:
    body = published(track=track)
    event = verifier.verify(body, signed(body))
    assert (event.room_name, event.publisher_identity, event.microphone_sid) == ("room-1", None, None)


def test_microphone_that_is_gone_is_read_as_none() -> None:
    body = published(event="track_unpublished")
    assert verifier.verify(body, signed(body)).microphone_sid is None


@pytest.mark.parametrize(
    "changes",
    [
        {"track": None},
        {"track": []},
        {"track": {"source": "MICROPHONE"}},
        {"track": {"sid": "", "source": "MICROPHONE"}},
        {"track": {"sid": "TR 1", "source": "MICROPHONE"}},
        {"track": {"sid": 1, "source": "MICROPHONE"}},
        {"track": {"sid": "TR_1", "source": 2}},
        {"track": {"sid": "TR_1", "source": "MICROPHONE", "type": 0}},
        {"participant": None},
        {"participant": {}},
        {"participant": {"identity": ""}},
        {"participant": {"identity": 5}},
        {"participant": {"identity": "a\nb"}},
        {"participant": {"identity": "x" * 300}},
        {"room": {}},
    ],
)
def test_published_microphone_that_is_not_as_livekit_tells_it_is_refused(changes: dict[str, object]) -> None:
    body = published(**changes)
    with pytest.raises(InvalidInput, match="webhook_body") as refused:
        verifier.verify(body, signed(body))
    assert "turn-secret" not in repr(refused.value)
