"""Finds the fields that a client selects below a root field. The SQL statement reads only the selected fields, and the
audit row names them.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from strawberry.types.nodes import FragmentSpread, InlineFragment, SelectedField
from strawberry.types.nodes import Selection as Node

from app.postgres import selection
from app.postgres.paging import DEFAULT_PAGE_SIZE
from app.postgres.selection import Selection
from graphql_schema.context import Info

PAGED: Final = frozenset({"events", "patients", "recordings", "shares", "sharingAuthorizations"})
"""The fields below a root field that are lists in pages."""


def select(info: Info, *path: str) -> Selection:
    """Return what the client selects at `path` below the root field. Fragments, aliases and the directives `@skip` and
    `@include` are resolved.
    """
    roots = selection.merge(_fields(root.selections) for root in info.selected_fields)
    return roots.below(*path)


def selected(info: Info, *path: str) -> tuple[str, ...]:
    """Return the names of the selected fields at `path` below the root field, sorted and unique."""
    return tuple(sorted(select(info, *path).names()))


def page_arguments(first: int, after: str | None) -> dict[str, Any]:
    """Return the arguments of a list in pages, in the form in which a selection contains them."""
    return {"first": first, "after": after}


def _fields(nodes: Iterable[Node]) -> Iterator[selection.SelectedField]:
    for node in nodes:
        if not _is_included(node):
            continue
        if isinstance(node, (FragmentSpread, InlineFragment)):
            yield from _fields(node.selections)
        elif node.name != "__typename":
            yield selection.SelectedField(
                node.name, _arguments(node), selection.merge([_fields(node.selections)])
            )


def _arguments(field: SelectedField) -> dict[str, Any]:
    if field.name not in PAGED:
        return {}
    first = field.arguments.get("first")  # Strawberry returns a number in the document as text (0.341.2)
    return page_arguments(DEFAULT_PAGE_SIZE if first is None else int(first), field.arguments.get("after"))


def _is_included(node: Node) -> bool:
    skip, include = node.directives.get("skip"), node.directives.get("include")
    return not (skip and skip["if"]) and not (include and not include["if"])
