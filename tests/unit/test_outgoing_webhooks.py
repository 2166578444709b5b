"""Tests of the message of an outgoing webhook, of the addresses to which webhooks may be sent, and of the settings."""

import base64
import json
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.outgoing_webhooks.model import ClaimedDelivery, compose_body, make_headers, sign
from app.public_addresses import is_public
from app.settings import SettingsError
from app.settings.outgoing_webhooks import WEBHOOK_EVENT_TYPES
from tests.unit.environments import worker_settings

SECRET, NEXT_SECRET = b"s" * 24, b"n" * 64
DELIVERY = ClaimedDelivery(
    UUID(int=1),
    1,
    UUID(int=2),
    "note.signed",
    "signed_note",
    [UUID(int=3)],
    datetime(2026, 11, 30, 12, tzinfo=UTC),
)


def _text(secret: bytes) -> str:
    return f"whsec_{base64.b64encode(secret).decode()}"


def test_signature_is_the_one_of_the_specification() -> None:
    """The example of the library of Standard Webhooks (libraries/python/tests/test_webhooks.py, checked 2026-11-30)."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", [SECRET, NEXT_SECRET])
def test_message_is_verified_with_each_secret_while_one_is_replaced(secret: bytes) -> None:
    body = compose_body(DELIVERY)
    headers = make_headers(
        [SECRET, NEXT_SECRET], DELIVERY.message_id, int(datetime.now(UTC).timestamp()), body
    )
    assert Webhook(_text(secret)).verify(body, headers) == {
        "type": "note.signed",
        "timestamp": "2026-11-30T12:00:00.000000Z",
        "data": {"entityType": "signed_note", "ids": [str(UUID(int=3))]},
    }
    with pytest.raises(WebhookVerificationError):
        Webhook(_text(b"o" * 24)).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(_text(secret)).verify(body + b" ", headers)


@given(
    st.lists(st.uuids(), max_size=100),
    st.sampled_from(WEBHOOK_EVENT_TYPES),
    st.datetimes(timezones=st.just(UTC)),
)
def test_message_has_ids_only_and_is_small(ids: list[UUID], event_type: str, at: datetime) -> None:
    body = compose_body(ClaimedDelivery(UUID(int=1), 1, UUID(int=2), event_type, "recording", ids, at))
    assert json.loads(body)["data"] == {"entityType": "recording", "ids": [str(one) for one in ids]}
    assert len(body) < 20_000, "Standard Webhooks recommends at most 20 kB"


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.1", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16",
        "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.168.1.1",
        "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
        "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::",
        "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_no_webhook_is_sent_to_the_inside(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "104.16.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_webhooks_are_sent_to_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_every_public_ipv4_address_is_global(address: IPv4Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
    assert not is_public(IPv6Address(f"::ffff:{address}"))
    assert not is_public(IPv6Address(f"64:ff9b::{address}"))


URLS = {
    "OUTGOING_WEBHOOK_URLS": "siem=https://siem.example.org/hooks?key=a, ehr=https://ehr.example.org:8443/x"
}
SECRETS = {"OUTGOING_WEBHOOK_SECRETS": f"siem={_text(SECRET)},siem={_text(NEXT_SECRET)},ehr={_text(SECRET)}"}


def test_settings_name_the_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    events = {"OUTGOING_WEBHOOK_EVENTS": "siem=case.opened,siem=alert.opened"}
    siem, ehr = worker_settings(monkeypatch, **URLS, **SECRETS, **events).webhook_endpoints
    assert (siem.name, siem.url) == ("siem", "https://siem.example.org/hooks?key=a")
    assert siem.secrets == (SECRET, NEXT_SECRET)
    assert siem.event_types == ("alert.opened", "case.opened")
    assert ehr.event_types == WEBHOOK_EVENT_TYPES
    assert "example.org" not in repr(siem)
    assert repr(SECRET) not in repr(siem)


def test_worker_without_endpoints_sends_no_webhooks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_settings(monkeypatch).webhook_endpoints == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"OUTGOING_WEBHOOK_URLS": "siem"}, "OUTGOING_WEBHOOK_URLS: each entry is"),
        ({"OUTGOING_WEBHOOK_URLS": "Siem=https://a.example"}, "OUTGOING_WEBHOOK_URLS: each entry is"),
        (
            {"OUTGOING_WEBHOOK_URLS": "siem=http://siem.example.org"},
            "OUTGOING_WEBHOOK_URLS: must begin with https://",
        ),
        (
            {"OUTGOING_WEBHOOK_URLS": "siem=http://127.0.0.1/"},
            "OUTGOING_WEBHOOK_URLS: must begin with https://",
        ),
        (
            {"OUTGOING_WEBHOOK_URLS": "siem=ftp://siem.example.org"},
            "OUTGOING_WEBHOOK_URLS: must begin with https://",
        ),
        ({"OUTGOING_WEBHOOK_URLS": "siem=https://u:p@siem.example.org"}, "OUTGOING_WEBHOOK_URLS: is a host"),
        ({"OUTGOING_WEBHOOK_URLS": "siem=https://siem.example.org/#x"}, "OUTGOING_WEBHOOK_URLS: is a host"),
        ({"OUTGOING_WEBHOOK_URLS": "siem=https:///x"}, "OUTGOING_WEBHOOK_URLS: is a host"),
        ({"OUTGOING_WEBHOOK_URLS": "siem=https://[::1"}, "OUTGOING_WEBHOOK_URLS: is not a URL"),
        (
            {"OUTGOING_WEBHOOK_URLS": "siem=https://169.254.169.254/"},
            "OUTGOING_WEBHOOK_URLS: must not be an address",
        ),
        (
            {"OUTGOING_WEBHOOK_URLS": "siem=https://[::ffff:10.0.0.1]/"},
            "OUTGOING_WEBHOOK_URLS: must not be an address",
        ),
        (
            {"OUTGOING_WEBHOOK_URLS": "siem=https://a.example,siem=https://b.example"},
            "OUTGOING_WEBHOOK_URLS: must name",
        ),
        (
            {"OUTGOING_WEBHOOK_SECRETS": f"siem={_text(SECRET)}"},
            "OUTGOING_WEBHOOK_SECRETS: must have a secret for each",
        ),
        ({"OUTGOING_WEBHOOK_SECRETS": ""}, "OUTGOING_WEBHOOK_SECRETS: must have a secret for each"),
        (
            {"OUTGOING_WEBHOOK_SECRETS": "siem=whsec_c2hvcnQ=,ehr=x"},
            "OUTGOING_WEBHOOK_SECRETS: each secret is whsec_",
        ),
        (
            {"OUTGOING_WEBHOOK_SECRETS": f"siem={_text(b'l' * 65)},ehr=x"},
            "OUTGOING_WEBHOOK_SECRETS: each secret is",
        ),
        ({"OUTGOING_WEBHOOK_EVENTS": "other=case.opened"}, "OUTGOING_WEBHOOK_EVENTS: names an endpoint"),
        ({"OUTGOING_WEBHOOK_EVENTS": "siem=case.closed"}, "OUTGOING_WEBHOOK_EVENTS: must be types of events"),
    ],
)
def test_wrong_settings_are_refused_without_their_values(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], problem: str
) -> None:
    if "=" in changes.get("OUTGOING_WEBHOOK_URLS", "") and "ehr" not in changes["OUTGOING_WEBHOOK_URLS"]:
        changes = {**changes, "OUTGOING_WEBHOOK_SECRETS": f"siem={_text(SECRET)}"}
    with pytest.raises(SettingsError) as refusal:
        worker_settings(monkeypatch, **{**URLS, **SECRETS, **changes})
    assert str(refusal.value).startswith(problem)
    assert "example" not in str(refusal.value)
    assert "whsec_c" not in str(refusal.value)
