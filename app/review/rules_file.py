"""Reads policies/review.toml strictly. Pure."""

import tomllib
from dataclasses import dataclass
from typing import Annotated, Any, Final
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.errors import InvalidInput

MAX_BYTES: Final = 64_000
_TOP: Final = frozenset({"name", "time_zone"})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Rule(_Strict):
    enabled: bool


class _AlwaysOn(_Strict):
    enabled: Annotated[bool, Field(description="must be true")]

    @field_validator("enabled")
    @classmethod
    def _is_on(cls, value: bool) -> bool:
        if not value:
            raise ValueError("break-glass is always reviewed")
        return value


class _Hours(_Rule):
    opens_at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    closes_at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    days: Annotated[list[Annotated[int, Field(ge=1, le=7)]], Field(max_length=7)]


class _Volume(_Rule):
    minimum: Annotated[int, Field(ge=1, le=10_000)]
    factor: Annotated[float, Field(ge=1, le=1000)]
    baseline_days: Annotated[int, Field(ge=1, le=365)]


class _Burst(_Rule):
    count: Annotated[int, Field(ge=1, le=1000)]
    minutes: Annotated[int, Field(ge=1, le=1440)]


class _Days(_Rule):
    days: Annotated[int, Field(ge=1, le=365)]


class _Span(_Rule):
    hours: Annotated[int, Field(ge=1, le=720)]


class _File(_Strict):
    name: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z ._-]{0,63}$")]
    time_zone: str
    self_: Annotated[_Rule, Field(alias="self")]
    surname: _Rule
    household: _Rule
    co_worker: _Rule
    no_relationship: _Rule
    after_hours: _Hours
    volume: _Volume
    many_urls: _Burst
    download_without_playback: _Days
    role_change: _Days
    break_glass: _AlwaysOn
    denied_burst: _Burst
    failed_sign_ins: _Burst
    new_second_factor: _Span

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        if value != "UTC" and value not in available_timezones():
            raise ValueError("unknown time zone")
        return value


@dataclass(frozen=True)
class ReviewRules:
    """A version of the rules: its name, and the time zone and the settings of each rule as the database has them."""

    name: str
    terms: dict[str, Any]


def parse(text: str) -> ReviewRules:
    """Return the rules in a rules file. The file must contain each rule, so that nobody removes a rule by mistake.

    Raises InvalidInput (review_malformed) with the `place` of the first error.
    """
    if len(text.encode()) > MAX_BYTES:
        raise InvalidInput("review_malformed", place="file")
    try:
        file = _File.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput("review_malformed", place="file") from error
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"]) or "file"
        raise InvalidInput("review_malformed", place=place[:100]) from error
    values = file.model_dump(by_alias=True)
    rules = {name: value for name, value in values.items() if name not in _TOP}
    return ReviewRules(file.name, {"time_zone": file.time_zone, "rules": rules})
