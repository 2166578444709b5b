"""Recordings as they change, in GraphQL."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import strawberry

from app.errors import InvalidInput
from app.recordings import model
from graphql_schema.context import Info
from graphql_schema.recordings import Recording
from graphql_schema.scalars import parse_id
from graphql_schema.selection import selected


async def recording_changed(info: Info, consultation_id: strawberry.ID) -> AsyncGenerator[Recording, None]:
    """The newest recording of the consultation, and then each that changes."""
    fields = selected(info)
    if "storage" in fields:
        raise InvalidInput("storage_in_list")
    watching = info.context.services.recording_changes.watch(
        await info.context.asker(),
        parse_id(consultation_id),
        model.Selection(fields),
    )
    async with aclosing(watching) as changes:
        async for recording in changes:
            yield Recording.of(recording)
