"""Relay connections for keyset pages."""

from collections.abc import Callable
from typing import Generic, Self, TypeVar

import strawberry

from app.postgres.paging import Cursor, Page

Node = TypeVar("Node")
Item = TypeVar("Item")


@strawberry.type(description="The first and the last cursor of a page, and whether another page follows.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether another page follows this page.")
    has_previous_page: bool = strawberry.field(
        description="Always false, because lists can only be read forward."
    )
    start_cursor: str | None = strawberry.field(
        description="The cursor of the first item, or null on an empty page."
    )
    end_cursor: str | None = strawberry.field(
        description=(
            "The cursor of the last item, or null on an empty page. Pass it as `after` to read the next page."
        )
    )


@strawberry.type(
    description=(
        "An item of a page, and the cursor to pass as `after` in order to read the items that follow."
    )
)
class Edge(Generic[Node]):
    node: Node = strawberry.field(description="The item, which is one object of the list.")
    cursor: str = strawberry.field(
        description="The cursor of the item, which is opaque. The items after it are those that follow it."
    )


@strawberry.type(description="One page of a list with keyset pagination, in the order that the list has.")
class Connection(Generic[Node]):
    edges: list[Edge[Node]] = strawberry.field(description="The items of the page, each with its cursor.")
    page_info: PageInfo = strawberry.field(
        description="The cursors of the page, and whether another page follows."
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
