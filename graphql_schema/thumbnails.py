"""GraphQL types and the root field for thumbnails."""

from datetime import datetime
from typing import Self

import strawberry

from app.thumbnails.model import ThumbnailLink
from graphql_schema.context import Info
from graphql_schema.scalars import parse_id


@strawberry.type(
    description=(
        "This is a link of this API to the thumbnail of a recording, which is valid until it expires or the caller's "
        "session ends."
    )
)
class ThumbnailUrl:
    jpeg: str = strawberry.field(
        description="This is the address of the JPEG, relative to the API's address. It is a secret."
    )
    expires_at: datetime = strawberry.field(
        description="This is the time until which the link is valid at most."
    )
    expires_in_seconds: int = strawberry.field(
        description=(
            "The link is valid for at most this many seconds from now on. The value does not depend on the client's "
            "clock."
        )
    )

    @classmethod
    def of(cls, link: ThumbnailLink) -> Self:
        return cls(
            jpeg=f"/thumbnails/{link.secret}.jpg",
            expires_at=link.expires_at,
            expires_in_seconds=link.expires_in_seconds,
        )


@strawberry.input(description="With this input, a doctor gets a link to the thumbnail of a recording.")
class IssueThumbnailUrlInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a recording of the calling doctor with a READY thumbnail."
    )


@strawberry.type(description="`issueThumbnailUrl` returns this payload.")
class IssueThumbnailUrlPayload:
    thumbnail_url: ThumbnailUrl = strawberry.field(description="This is the link to the thumbnail.")


async def issue_thumbnail_url(info: Info, input: IssueThumbnailUrlInput) -> IssueThumbnailUrlPayload | None:
    """Issue a short-lived link to the thumbnail of a recording."""
    link = await info.context.services.thumbnails.issue_link(
        await info.context.asker(), parse_id(input.recording_id)
    )
    return IssueThumbnailUrlPayload(thumbnail_url=ThumbnailUrl.of(link))
