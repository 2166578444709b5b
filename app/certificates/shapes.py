"""Frozen dataclasses to plain values and back, by their annotations alone, and strictly.

A field that is missing, unknown, of another type or against its rule is refused; nothing is converted kindly.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints
from uuid import UUID

from app.certificates.canonical import Plain

_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_Shape = TypeVar("_Shape")


@dataclass(frozen=True)
class Pattern:
    """The rule of a string: all of it matches."""

    pattern: str

    def holds(self, value: object) -> bool:
        """Return whether the value has this shape."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None


@dataclass(frozen=True)
class Between:
    """The rule of a number: both bounds belong to it."""

    least: int
    most: int

    def holds(self, value: object) -> bool:
        """Whether this one keeps it."""
        return isinstance(value, int) and self.least <= value <= self.most


@dataclass(frozen=True)
class AtMost:
    """The rule of a list: how many there may be."""

    most: int

    def holds(self, value: object) -> bool:
        """Whether this one keeps it."""
        return isinstance(value, tuple) and len(value) <= self.most


def to_plain(value: object) -> Plain:
    """The plain form. Moments are RFC 3339 in UTC with microseconds. Raises ValueError for a naive moment."""
    match value:
        case None:
            return None
        case UUID() | StrEnum():
            return str(value)
        case datetime():
            return _moment_text(value)
        case date():
            return value.isoformat()
        case str() | int():
            return value
        case tuple():
            return [to_plain(item) for item in value]
    if not is_dataclass(value):
        raise ValueError("has no plain form")
    return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}


def from_plain(kind: type[_Shape], value: Plain) -> _Shape:
    """The dataclass that a plain value is of. Raises ValueError."""
    hints = _hints(cast("type", kind))
    if not isinstance(value, Mapping) or value.keys() != hints.keys():
        raise ValueError(f"{kind.__name__}: not its fields")
    return kind(**{name: _read(hint, value[name]) for name, hint in hints.items()})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _read(hint: Any, value: Plain) -> object:
    if get_origin(hint) is Annotated:
        base, *rules = get_args(hint)
        found = _read(base, value)
        if not all(rule.holds(found) for rule in rules):
            raise ValueError("against its rule")
        return found
    if get_origin(hint) in (Union, UnionType):
        (some,) = (one for one in get_args(hint) if one is not NoneType)
        return None if value is None else _read(some, value)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError("not a list")
        return tuple(_read(get_args(hint)[0], item) for item in value)
    if is_dataclass(hint):
        return from_plain(cast("type", hint), value)
    return _read_one(hint, value)


def _read_one(kind: type, value: Plain) -> object:
    if kind is int:
        if type(value) is not int:
            raise ValueError("not a whole number")
        return value
    if not isinstance(value, str):
        raise ValueError("not a string")  # noqa: TRY004 - one kind of error for whatever was read
    found = _OF_STRINGS.get(kind, kind)(value)
    if kind is not str and to_plain(found) != value:
        raise ValueError("not in the form that is written")
    return found


def _moment(text: str) -> datetime:
    if _MOMENT.fullmatch(text) is None:
        raise ValueError("not a moment")
    return datetime.fromisoformat(text)


def _moment_text(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("a moment without its offset")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _day(text: str) -> date:
    if _DAY.fullmatch(text) is None:
        raise ValueError("not a day")
    return date.fromisoformat(text)


_OF_STRINGS: dict[type, Callable[[str], object]] = {str: str, UUID: UUID, datetime: _moment, date: _day}
