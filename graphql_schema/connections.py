"""Relay connections over keyset pages."""

from collections.abc import Callable
from typing import Generic, Self, TypeVar

import strawberry

from app.paging import Cursor, Page

Node = TypeVar("Node")
Item = TypeVar("Item")


@strawberry.type(description="Where a page ends, and whether more follow.")
class PageInfo:
    has_next_page: bool
    has_previous_page: bool = strawberry.field(description="Always false: pages are read forward only.")
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type(description="One of a page, with its place in the list.")
class Edge(Generic[Node]):
    node: Node
    cursor: str


@strawberry.type(description="A page of a list, newest first.")
class Connection(Generic[Node]):
    edges: list[Edge[Node]]
    page_info: PageInfo

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
