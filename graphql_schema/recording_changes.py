"""The GraphQL subscription for recordings that change."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import strawberry

from graphql_schema.context import Info
from graphql_schema.recordings import Recording, select_recording
from graphql_schema.scalars import parse_id


async def recording_changed(
    info: Info, consultation_id: strawberry.ID
) -> AsyncGenerator[Recording | None, None]:
    """Yield the newest recording of a consultation, and then each recording of the consultation that changes."""
    selection = select_recording(info)
    watching = info.context.services.recording_changes.watch(
        await info.context.asker(),
        parse_id(consultation_id),
        selection,
        info.context.person_slot,
    )
    async with aclosing(watching) as changes:
        async for recording in changes:
            yield Recording.of(recording)
