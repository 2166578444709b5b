"""The GraphQL subscriptions."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import strawberry

from graphql_schema.consultations import Consultation
from graphql_schema.context import Info
from graphql_schema.recordings import Recording
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id
from graphql_schema.selected_fields import select


async def consultation_changed(
    info: Info, consultation_id: strawberry.ID
) -> AsyncGenerator[Consultation | None, None]:
    """Yield a consultation, and then the consultation again after each change."""
    watching = info.context.services.subscriptions.watch_consultation(
        await info.context.asker(),
        parse_id(consultation_id),
        select(info),
        info.context.person_slot,
    )
    async with aclosing(watching) as changes:
        async for consultation in changes:
            yield shown(Consultation, consultation)


async def recording_changed(
    info: Info, consultation_id: strawberry.ID
) -> AsyncGenerator[Recording | None, None]:
    """Yield the newest recording of a consultation, and then each recording of the consultation that changes."""
    watching = info.context.services.subscriptions.watch_recordings(
        await info.context.asker(),
        parse_id(consultation_id),
        select(info),
        info.context.person_slot,
    )
    async with aclosing(watching) as changes:
        async for recording in changes:
            yield shown(Recording, recording)


async def recordings_changed(info: Info) -> AsyncGenerator[Recording | None, None]:
    """Yield the doctor's recordings that changed last, and then each recording of the doctor that changes."""
    watching = info.context.services.subscriptions.watch_own_recordings(
        await info.context.asker(), select(info), info.context.person_slot
    )
    async with aclosing(watching) as changes:
        async for recording in changes:
            yield shown(Recording, recording)
