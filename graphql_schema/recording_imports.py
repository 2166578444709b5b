"""Imports of recordings in GraphQL."""

from datetime import datetime
from typing import Self

import strawberry

from app.recordings import import_model as model
from graphql_schema.context import Info
from graphql_schema.recordings import Recording, select_recording
from graphql_schema.scalars import BigInt, parse_id, to_id

strawberry.enum(model.ImportStatus, name="RecordingImportStatus")


@strawberry.type(description="A header of a request.")
class RequestHeader:
    name: str
    value: str


@strawberry.type(
    description="A recording made elsewhere that may be uploaded now: PUT it to the URL, which is a secret."
)
class RecordingImport:
    id: strawberry.ID
    consultation_id: strawberry.ID
    status: model.ImportStatus
    upload_url: str = strawberry.field(description="Stores one object of the declared type and size, once.")
    upload_headers: list[RequestHeader] = strawberry.field(
        description="To be sent as they are; a browser sets Content-Length by itself."
    )
    recorded_at: datetime | None = strawberry.field(
        description="When the recording began, as it was declared."
    )
    expires_at: datetime = strawberry.field(description="The upload has to begin before.")

    @classmethod
    def of(cls, signed: model.SignedUpload) -> Self:
        return cls(
            id=to_id(signed.found.id),
            consultation_id=to_id(signed.found.consultation_id),
            status=model.ImportStatus.AWAITING_UPLOAD,
            upload_url=signed.url,
            upload_headers=[RequestHeader(name=name, value=value) for name, value in signed.headers.items()],
            recorded_at=signed.found.recorded_at,
            expires_at=signed.found.expires_at,
        )


@strawberry.input(description="A recording that was made elsewhere and is to be kept here.")
class RecordingImportInput:
    consultation_id: strawberry.ID
    content_type: str = strawberry.field(default="video/mp4", description="`video/mp4`, and nothing else.")
    size_bytes: BigInt = strawberry.field(description="Exactly; at most 5,000,000,000.")
    sha256: str | None = strawberry.field(
        default=None, description="In hex; what is uploaded must then have this digest."
    )
    recorded_at: datetime | None = strawberry.field(
        default=None,
        description="When the recording began, with an offset; from 1990 on, not in the future: becomes `startedAt`. "
        "How long the recording is kept counts from the import, never from this date.",
    )

    def to_model(self) -> model.ImportRequest:
        return model.ImportRequest(
            consultation_id=parse_id(self.consultation_id),
            content_type=self.content_type,
            size_bytes=self.size_bytes,
            sha256=self.sha256,
            recorded_at=self.recorded_at,
        )


async def import_recording(info: Info, input: RecordingImportInput) -> RecordingImport:
    """How to upload a recording; the same again, while it is pending, returns the same import."""
    signed = await info.context.services.imports.begin(await info.context.asker(), input.to_model())
    return RecordingImport.of(signed)


async def complete_import(info: Info, id: strawberry.ID) -> Recording:
    """Makes what was uploaded a recording, which is then verified; again, it returns the same."""
    completed = await info.context.services.imports.complete(
        await info.context.asker(), parse_id(id), select_recording(info)
    )
    return Recording.of(completed)
