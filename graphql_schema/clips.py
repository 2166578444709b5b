"""GraphQL types and the root field for clips."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from app.clips import model
from app.postgres.composer import Row
from app.postgres.selection import Selection, merge
from app.recordings.service import PurposeOfUse
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.problems import ClipProblem
from graphql_schema.scalars import BigInt, parse_id
from graphql_schema.selected_fields import select

if TYPE_CHECKING:
    from graphql_schema.recordings import Recording


@strawberry.type(
    description=(
        "This is a clip: a part of a recording that its doctor cut out, and that is encoded anew. "
        "`issuePlaybackUrl` and `issueDownloadUrl` take its id as `file`. Everyone who may read the recording may "
        "read this metadata."
    )
)
class Clip(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the clip.")
    status: model.ClipStatus = strawberry.field(description="This is the status of the clip.")
    start_seconds: float = strawberry.field(
        description="The clip begins this many seconds after the beginning of the recording."
    )
    end_seconds: float = strawberry.field(
        description="The clip ends this many seconds after the beginning of the recording, exclusive."
    )
    percent_done: int = strawberry.field(description="This says how much of the clip is made, from 0 to 100.")
    size_bytes: BigInt | None = strawberry.field(
        description="The file of the clip has this many bytes. It is null until the clip is READY."
    )
    sha256: str | None = strawberry.field(
        description="This is the SHA-256 of the clip's file in hex. It is null until the clip is READY."
    )
    created_at: datetime = strawberry.field(description="This is when the clip was first requested.")

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="This says why the clip could not be made. It is null unless the clip is FAILED."
    )
    def problem(root: strawberry.Parent[Row], info: Info) -> ClipProblem | None:
        return ClipProblem.of(root["problem"], info.context.language)


@strawberry.input(description="With this input, a doctor cuts a clip out of a recording.")
class CreateClipInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a READY recording of the calling doctor."
    )
    start_seconds: float = strawberry.field(
        description="The clip begins this many seconds after the beginning of the recording, at least 0."
    )
    end_seconds: float = strawberry.field(
        description=(
            "The clip ends this many seconds after the beginning of the recording, exclusive. A clip lasts at most "
            "900 seconds. Both bounds are rounded to milliseconds."
        )
    )
    purpose_of_use: PurposeOfUse = strawberry.field(
        description="The caller makes the clip for this purpose, which the audit log keeps."
    )


@strawberry.type(description="`createClip` returns this payload.")
class CreateClipPayload:
    clip: Clip = strawberry.field(description="This is the clip, which the worker makes next.")
    recording: Annotated["Recording", strawberry.lazy("graphql_schema.recordings")] | None = strawberry.field(
        description="This is the recording, with the new value of `clips`."
    )


def _select(info: Info) -> Selection:
    """Return what the client selects of the clip and of the recording, as one selection of the clip."""
    payload = select(info)
    others = (one for one in payload.fields if one.name != "clip")
    return merge((payload.below("clip").fields, others))


def _shown(row: Row) -> dict[str, Any]:
    return {"clip": row, "recording": row.get("recording")}


async def create_clip(info: Info, input: CreateClipInput) -> CreateClipPayload | None:
    """Request a clip of a READY recording."""
    clip = await info.context.services.clips.create(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.start_seconds,
        input.end_seconds,
        input.purpose_of_use,
        _select(info),
    )
    return CreateClipPayload(**_shown(clip))
