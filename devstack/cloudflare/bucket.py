"""The configuration of a bucket, and the validation of requests according to Cloudflare's documentation."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from devstack.cloudflare.refusals import Refusal

MAX_RULES = 1000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Age(_Strict):
    type: Literal["Age"]
    maxAgeSeconds: int = Field(ge=1)  # noqa: N815 - Cloudflare's name


class _Date(_Strict):
    type: Literal["Date"]
    date: str

    @field_validator("date")
    @classmethod
    def _is_date_time(cls, value: str) -> str:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})", value) is None:
            raise ValueError("not a date-time")
        datetime.fromisoformat(value)
        return value


class _Indefinite(_Strict):
    type: Literal["Indefinite"]


class _Rule(_Strict):
    id: str = Field(min_length=1)
    condition: _Age | _Date | _Indefinite = Field(discriminator="type")
    enabled: bool
    prefix: str = ""


class _Locks(_Strict):
    rules: list[_Rule] = Field(default_factory=list, max_length=MAX_RULES)


@dataclass
class Bucket:
    """The configuration of the account's bucket. Tests change the bucket's configuration as a person in
    Cloudflare's dashboard would change it.
    """

    rules: list[dict[str, Any]] = field(default_factory=list)
    managed: dict[str, Any] = field(
        default_factory=lambda: {
            "bucketId": "0113a9e4549cf9b1ff1bf56e04da0cef",
            "domain": "pub-0113a9e4549cf9b1ff1bf56e04da0cef.r2.dev",
            "enabled": False,
        }
    )
    custom: list[dict[str, Any]] = field(default_factory=list)
    puts: int = 0

    def put_locks(self, body: object) -> None:
        """Replace every lock rule. Raises Refusal for a rule that Cloudflare's documentation does not describe."""
        try:
            locks = _Locks.model_validate(body)
        except ValidationError as error:
            raise Refusal(400, 10040, "The request body is invalid.") from error
        ids = [rule.id for rule in locks.rules]
        if len(set(ids)) != len(ids):
            raise Refusal(400, 10040, "Rule ids must be unique.")
        self.rules = [rule.model_dump() for rule in locks.rules]
        self.puts += 1

    def attach(self, domain: str, *, enabled: bool) -> None:
        """Attach a custom domain."""
        status = {"ownership": "active", "ssl": "active"}
        self.custom.append({"domain": domain, "enabled": enabled, "status": status, "minTLS": "1.0"})
