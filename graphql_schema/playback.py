"""GraphQL types and the root field for playback URLs."""

from datetime import datetime
from typing import Self

import strawberry

from app.recordings.service import PlaybackUrl as ServicePlaybackUrl
from app.recordings.service import PurposeOfUse
from graphql_schema.context import Info
from graphql_schema.scalars import Url, parse_id, parse_optional_id


@strawberry.type(
    description=(
        "This is a presigned URL that plays a file of a recording in a browser. Everyone who has the URL can play "
        "the file until the URL expires."
    )
)
class PlaybackUrl:
    url: Url = strawberry.field(description="This is the presigned URL, which is a secret.")
    expires_at: datetime = strawberry.field(description="The URL is valid until this time.")
    expires_in_seconds: int = strawberry.field(
        description=(
            "The URL is valid for this many seconds from now on. The value does not depend on the client's "
            "clock."
        )
    )
    viewing_id: strawberry.ID = strawberry.field(
        description=(
            "This is the id of the viewing to which the URL belongs. A renewal of the URL takes this id, so that "
            "the audit log shows one viewing."
        )
    )

    @classmethod
    def of(cls, issued: ServicePlaybackUrl) -> Self:
        return cls(
            url=Url(issued.url),
            expires_at=issued.expires_at,
            expires_in_seconds=issued.expires_in_seconds,
            viewing_id=strawberry.ID(str(issued.viewing_id)),
        )


@strawberry.input(description="With this input, a doctor gets a playback URL of a recording.")
class IssuePlaybackUrlInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a READY recording of the calling doctor."
    )
    file: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "This is the id of a READY media file or clip of the recording. If it is omitted, the URL is for the "
            "video. A file of another recording is refused with NOT_FOUND."
        ),
    )
    purpose_of_use: PurposeOfUse = strawberry.field(
        description="The caller plays the file for this purpose, which the audit log keeps."
    )
    viewing_id: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "This is the `viewingId` of the first URL of this viewing. It is omitted for the first URL. A viewing "
            "can be renewed for 12 hours, by the same person, for the same file and purpose; otherwise the call "
            "is refused with VIEWING_NOT_RENEWABLE."
        ),
    )


@strawberry.type(description="`issuePlaybackUrl` returns this payload.")
class IssuePlaybackUrlPayload:
    playback_url: PlaybackUrl = strawberry.field(
        description="This is the URL of the file, which is valid for a few minutes."
    )


async def issue_playback_url(info: Info, input: IssuePlaybackUrlInput) -> IssuePlaybackUrlPayload | None:
    """Issue a URL that plays a READY recording for a few minutes."""
    issued = await info.context.services.recordings.issue_playback_url(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.purpose_of_use,
        file_id=parse_optional_id(input.file),
        viewing_id=parse_optional_id(input.viewing_id),
    )
    return IssuePlaybackUrlPayload(playback_url=PlaybackUrl.of(issued))
