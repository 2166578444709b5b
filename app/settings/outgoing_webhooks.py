"""The endpoints to which the worker sends outgoing webhooks: their URLs, secrets and types of events."""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Self

from pydantic import Field, SecretStr, model_validator

from app.public_addresses import is_public
from app.settings.base import LOOPBACK, DeploymentSettings, split_url
from app.settings.database_url import SettingProblem

WEBHOOK_EVENT_TYPES: Final = (
    "alert.opened",
    "case.opened",
    "deletion.done",
    "insights.ready",
    "note.signed",
    "recording.failed",
    "recording.ready",
    "transcript.ready",
)
"""The types of events of outgoing webhooks. The function `private.webhook_event_types()` has the same list."""

_MOST_ENDPOINTS: Final = 10
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix of a secret, which is public


@dataclass(frozen=True)
class WebhookEndpoint:
    """An endpoint of outgoing webhooks. Each message has one signature for each of the secrets."""

    name: str
    url: str = field(repr=False)
    secrets: tuple[bytes, ...] = field(repr=False)
    event_types: tuple[str, ...]


class OutgoingWebhookSettings(DeploymentSettings):
    """The settings of outgoing webhooks. Without OUTGOING_WEBHOOK_URLS, the worker sends no webhooks."""

    outgoing_webhook_urls: SecretStr | None = Field(
        None,
        description="The endpoints of outgoing webhooks, comma-separated, each <name>=<URL>. Write a comma in a URL as "
        "%2C.",
    )
    outgoing_webhook_secrets: SecretStr | None = Field(
        None,
        description="The secrets of these endpoints, comma-separated, each <name>=whsec_<base64>. An endpoint may have "
        "several secrets while you replace one. `resguardo webhooks new-secret` makes one.",
    )
    outgoing_webhook_events: str | None = Field(
        None,
        description="The types of events that these endpoints receive, comma-separated, each <name>=<type>. An "
        "endpoint without an entry receives all types.",
    )

    @property
    def webhook_endpoints(self) -> tuple[WebhookEndpoint, ...]:
        """Return the endpoints of outgoing webhooks."""
        secrets = list(_pairs("OUTGOING_WEBHOOK_SECRETS", _reveal(self.outgoing_webhook_secrets)))
        events = list(_pairs("OUTGOING_WEBHOOK_EVENTS", self.outgoing_webhook_events))
        return tuple(
            WebhookEndpoint(
                name,
                url,
                tuple(_read_secret(value) for of, value in secrets if of == name),
                tuple(sorted({value for of, value in events if of == name} or WEBHOOK_EVENT_TYPES)),
            )
            for name, url in _pairs("OUTGOING_WEBHOOK_URLS", _reveal(self.outgoing_webhook_urls))
        )

    @model_validator(mode="after")
    def _check_endpoints(self) -> Self:
        urls = list(_pairs("OUTGOING_WEBHOOK_URLS", _reveal(self.outgoing_webhook_urls)))
        names = [name for name, _ in urls]
        if len(set(names)) != len(names) or len(names) > _MOST_ENDPOINTS:
            raise SettingProblem(
                f"OUTGOING_WEBHOOK_URLS: must name each endpoint once, and at most {_MOST_ENDPOINTS} endpoints"
            )
        for _, url in urls:
            self._check_url(url)
        secrets = [
            name for name, _ in _pairs("OUTGOING_WEBHOOK_SECRETS", _reveal(self.outgoing_webhook_secrets))
        ]
        events = list(_pairs("OUTGOING_WEBHOOK_EVENTS", self.outgoing_webhook_events))
        if set(secrets) != set(names):
            raise SettingProblem(
                "OUTGOING_WEBHOOK_SECRETS: must have a secret for each endpoint of OUTGOING_WEBHOOK_URLS, and for "
                "no other"
            )
        if not {name for name, _ in events} <= set(names):
            raise SettingProblem(
                "OUTGOING_WEBHOOK_EVENTS: names an endpoint that OUTGOING_WEBHOOK_URLS lacks"
            )
        if not {kind for _, kind in events} <= set(WEBHOOK_EVENT_TYPES):
            raise SettingProblem(
                f"OUTGOING_WEBHOOK_EVENTS: must be types of events: {', '.join(WEBHOOK_EVENT_TYPES)}"
            )
        _ = self.webhook_endpoints
        return self

    def _check_url(self, url: str) -> None:
        self._require_tls("OUTGOING_WEBHOOK_URLS", url, ("https",))
        parts = split_url("OUTGOING_WEBHOOK_URLS", url)
        if (
            not parts.hostname
            or "@" in parts.netloc
            or parts.fragment
            or not url.isascii()
            or not url.isprintable()
        ):
            raise SettingProblem(
                "OUTGOING_WEBHOOK_URLS: is a host, a path and a query in ASCII, without credentials or fragment"
            )
        is_own = not self.is_production and parts.hostname in LOOPBACK
        try:
            address = ip_address(parts.hostname)
        except ValueError:
            return
        if not (is_own or is_public(address)):
            raise SettingProblem("OUTGOING_WEBHOOK_URLS: must not be an address inside of a network")


def _reveal(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _pairs(setting: str, value: str | None) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each entry `<name>=<value>`. Raises SettingProblem."""
    for entry in (value or "").split(","):
        name, separator, given = (part.strip() for part in entry.partition("="))
        if not entry.strip():
            continue
        if not separator or not given or _NAME.fullmatch(name) is None:
            raise SettingProblem(
                f"{setting}: each entry is <name>=<value>, with a name of at most 31 lowercase letters, digits, - or _"
            )
        yield name, given


def _read_secret(value: str) -> bytes:
    try:
        secret = b64decode(value.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not value.startswith(_SECRET_PREFIX) or not 24 <= len(secret) <= 64:
        raise SettingProblem(
            "OUTGOING_WEBHOOK_SECRETS: each secret is whsec_ and 24 to 64 bytes in base64: make one with "
            "`resguardo webhooks new-secret`"
        )
    return secret
