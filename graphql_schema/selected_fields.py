"""Reads which fields a root field selects, which decides what the SQL statement fetches and what the audit row
names.
"""

from collections.abc import Iterable, Iterator

from strawberry.types.nodes import FragmentSpread, InlineFragment, SelectedField, Selection

from graphql_schema.context import Info


def selected(info: Info, *path: str) -> tuple[str, ...]:
    """Return the names of the fields at `path` below the root field, through fragments and aliases, sorted and
    unique.
    """
    selections: list[Selection] = [selection for root in info.selected_fields for selection in _of(root)]
    for name in path:
        selections = [
            below for field in _fields(selections) if field.name == name for below in field.selections
        ]
    return tuple(sorted({field.name for field in _fields(selections)} - {"__typename"}))


def _of(selection: Selection) -> list[Selection]:
    return selection.selections


def _fields(selections: Iterable[Selection]) -> Iterator[SelectedField]:
    for selection in selections:
        if isinstance(selection, (FragmentSpread, InlineFragment)):
            yield from _fields(selection.selections)
        else:
            yield selection
