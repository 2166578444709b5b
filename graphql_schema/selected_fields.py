"""Finds the fields that a client selects below a root field. The SQL statement fetches only the selected fields,
and the audit row names them.
"""

from collections.abc import Iterable, Iterator

from strawberry.types.nodes import FragmentSpread, InlineFragment, SelectedField, Selection

from graphql_schema.context import Info


def selected(info: Info, *path: str) -> tuple[str, ...]:
    """Return the names of the selected fields at `path` below the root field, sorted and unique. Fragments and
    aliases are resolved.
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
