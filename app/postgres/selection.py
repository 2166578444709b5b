"""The fields that a client selects of an entity, and what it selects below each of them."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

_HUMP: Final = re.compile("[A-Z]")


@dataclass(frozen=True)
class SelectedField:
    """A field that a client selects. `name` is its name in the API. `arguments` has its arguments by their names in
    Python, and `below` has the fields that the client selects of the field's value.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    below: "Selection" = field(default_factory=lambda: Selection())

    @property
    def python_name(self) -> str:
        """Return the name of the field in snake_case."""
        return _HUMP.sub(r"_\g<0>", self.name).lower()

    @property
    def key(self) -> str:
        """Return the key of the field's value in a row. Two selections of one field with different arguments have
        different keys.
        """
        return row_key(self.python_name, self.arguments)


@dataclass(frozen=True)
class Selection:
    """The fields that a client selects of one entity. No two of them have the same key."""

    fields: tuple[SelectedField, ...] = ()

    @classmethod
    def of(cls, *names: str) -> Self:
        """Return a selection of these fields, as `id` or as a path, such as `consultation.externalId`."""
        below: dict[str, list[str]] = {}
        for name in names:
            first, _, rest = name.partition(".")
            below.setdefault(first, []).extend([rest] if rest else [])
        return cls(tuple(SelectedField(name, {}, cls.of(*paths)) for name, paths in below.items()))

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the paths of all selected fields without fields below them, sorted and unique."""
        return tuple(sorted(set(self._paths(""))))

    def below(self, *path: str) -> "Selection":
        """Return what is selected below the fields at this path, whatever their arguments are."""
        selection = self
        for name in path:
            inner = (one.below.fields for one in selection.fields if one.name == name)
            selection = merge(inner)
        return selection

    def only(self, *names: str) -> "Selection":
        """Return the selection without all fields that have other names."""
        return Selection(tuple(one for one in self.fields if one.name in names))

    def names(self) -> frozenset[str]:
        """Return the names of the selected fields in the API."""
        return frozenset(one.name for one in self.fields)

    def _paths(self, prefix: str) -> Iterator[str]:
        for one in self.fields:
            if one.below.fields:
                yield from one.below._paths(f"{prefix}{one.name}.")  # noqa: SLF001 - of the same class
            else:
                yield prefix + one.name


def merge(parts: Iterable[Iterable[SelectedField]]) -> Selection:
    """Return one selection of all these fields. Fields with the same key become one field with both selections."""
    merged: dict[str, SelectedField] = {}
    for part in parts:
        for one in part:
            known = merged.get(one.key)
            below = one.below if known is None else merge((known.below.fields, one.below.fields))
            merged[one.key] = SelectedField(one.name, one.arguments, below)
    return Selection(tuple(merged.values()))


def row_key(python_name: str, arguments: Mapping[str, Any]) -> str:
    """Return the key in a row for the value of a field with these arguments."""
    if not arguments:
        return python_name
    text = json.dumps(arguments, sort_keys=True, default=str)
    return f"{python_name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
