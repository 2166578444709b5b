"""Relay connections for keyset pages."""

from collections.abc import Callable
from datetime import datetime
from typing import Generic, Self, TypeVar
from uuid import UUID

import strawberry

from app.postgres.composer import Row
from app.postgres.paging import Cursor, Page
from app.postgres.selection import row_key
from graphql_schema.selected_fields import page_arguments

Node = TypeVar("Node")
Item = TypeVar("Item")


@strawberry.type(
    description="This has the first and the last cursor of a page, and says whether another page follows."
)
class PageInfo:
    has_next_page: bool = strawberry.field(description="This says whether another page follows this page.")
    has_previous_page: bool = strawberry.field(
        description="This is always false, because lists can only be read forward."
    )
    start_cursor: str | None = strawberry.field(
        description="This is the cursor of the first item. It is null on an empty page."
    )
    end_cursor: str | None = strawberry.field(
        description=(
            "This is the cursor of the last item. It is null on an empty page. A client passes it as `after` "
            "to read the next page."
        )
    )


@strawberry.type(description="This is one item of a page with its cursor.")
class Edge(Generic[Node]):
    node: Node = strawberry.field(description="This is the item, which is one object of the list.")
    cursor: str = strawberry.field(
        description=(
            "This is the cursor of the item, which is opaque. A client passes it unchanged as `after` in order "
            "to read the items that follow."
        )
    )


@strawberry.type(description="This is one page of a list, in the order of the list.")
class Connection(Generic[Node]):
    edges: list[Edge[Node]] = strawberry.field(
        description="These are the items of the page, each with its cursor."
    )
    page_info: PageInfo = strawberry.field(
        description="This has the cursors of the page, and says whether another page follows."
    )

    @classmethod
    def of(cls, page: Page[Item], to_node: Callable[[Item], Node], place: Callable[[Item], Cursor]) -> Self:
        edges = [Edge(node=to_node(item), cursor=place(item).encode()) for item in page.items]
        return cls(
            edges=edges,
            page_info=PageInfo(
                has_next_page=page.has_next,
                has_previous_page=False,
                start_cursor=edges[0].cursor if edges else None,
                end_cursor=edges[-1].cursor if edges else None,
            ),
        )

    @classmethod
    def of_rows(cls, page: Page[Row]) -> Self:
        """Return the connection of a page whose rows the composer has read."""
        return cls.of(page, lambda row: row, _place)  # type: ignore[arg-type,return-value] # rows have no type


def nested_page(parent: Row, name: str, first: int, after: str | None) -> Page[Row]:
    """Return the page of a list inside another entity, which the composer has read with these arguments."""
    rows = parent[row_key(name, page_arguments(first, after))]
    return Page(tuple(rows[:first]), len(rows) > first)


def _place(row: Row) -> Cursor:
    return Cursor(datetime.fromisoformat(row["shown_at"]), UUID(row["id"]))
