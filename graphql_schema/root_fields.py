"""Root fields run to their end: what was asked has its audit row, whatever becomes of the rest of the operation."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import strawberry
from strawberry.extensions import FieldExtension


class Uncancelled(FieldExtension):
    """A field that goes on when graphql-core cancels it, as it does with all siblings of a failed one (3.3.2).

    Otherwise ten probes in one operation, the first of which is refused, would leave one audit row.
    """

    async def resolve_async(
        self, next_: Callable[..., Awaitable[Any]], source: Any, info: strawberry.Info, **kwargs: Any
    ) -> Any:
        """The field's value; the task outlives its waiter."""
        task = asyncio.ensure_future(next_(source, info, **kwargs))
        task.add_done_callback(_retrieve)
        return await asyncio.shield(task)


def _retrieve(task: "asyncio.Future[Any]") -> None:
    """An error that nobody waits for any more has been audited, and is not a bug of the loop's."""
    if not task.cancelled():
        task.exception()
