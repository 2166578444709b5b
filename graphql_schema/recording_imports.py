"""GraphQL types and root fields for imports of recordings."""

from datetime import datetime

import strawberry

from app.postgres.selection import merge
from app.recording_imports import model
from graphql_schema.consultations import Consultation
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.recordings import Recording
from graphql_schema.rows import shown
from graphql_schema.scalars import BigInt, Url, parse_id
from graphql_schema.selected_fields import select


@strawberry.type(description="This is a header of an HTTP request.")
class RequestHeader:
    name: str = strawberry.field(description="This is the name of the header, such as `Content-Type`.")
    value: str = strawberry.field(
        description="This is the value of the header, which the client sends unchanged."
    )


@strawberry.type(
    description=(
        "This is an import of a recording that was made elsewhere. Only the doctor who declared it may read "
        "it. The client uploads the file with a PUT request to `uploadUrl`, which is a secret."
    )
)
class RecordingImport(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the import, a UUID.")
    consultation: Consultation = strawberry.field(
        description="The recording will belong to this consultation."
    )
    status: model.ImportStatus = strawberry.field(description="This is the status of the import.")
    upload_url: Url | None = strawberry.field(
        description=(
            "This is a presigned URL to which the client can upload one file of the declared type and size, "
            "once. Only `importRecording` returns it. The value is null in `completeImport`, because nobody "
            "may upload a file after the import is completed."
        )
    )
    upload_headers: list[RequestHeader] = strawberry.field(
        description=(
            "These are the headers that the client must send unchanged with the upload. A browser sets "
            "Content-Length by itself. The list is empty if `uploadUrl` is null."
        )
    )
    recorded_at: datetime | None = strawberry.field(
        description="This is when the recording began, as the client declared it."
    )
    expires_at: datetime = strawberry.field(description="The client must begin the upload before this time.")
    expires_in_seconds: int = strawberry.field(
        description=(
            "This says how many seconds remain to begin the upload, for clients whose clock is wrong. The "
            "value is 0 if the import is completed or expired."
        )
    )


@strawberry.input(
    description=(
        "With this input, a client declares a recording that was made elsewhere and that it imports."
    )
)
class ImportRecordingInput:
    consultation_id: strawberry.ID = strawberry.field(
        description="This is the id of the calling doctor's consultation that was recorded."
    )
    content_type: str = strawberry.field(
        default="video/mp4", description="This is the media type of the file, which must be `video/mp4`."
    )
    size_bytes: BigInt = strawberry.field(
        description="This is the exact size of the file in bytes, at most 5,000,000,000."
    )
    sha256: str | None = strawberry.field(
        default=None,
        description=(
            "This is the SHA-256 of the file in hex. If the client declares it, the uploaded file must have "
            "it."
        ),
    )
    recorded_at: datetime | None = strawberry.field(
        default=None,
        description=(
            "This is when the recording began: a time with an offset, not before 1990 and not in the future. "
            "The declared time becomes the `startedAt` of the imported recording. The retention term counts "
            "from the import and never from the declared time."
        ),
    )

    def to_model(self) -> model.ImportRequest:
        return model.ImportRequest(
            consultation_id=parse_id(self.consultation_id),
            content_type=self.content_type,
            size_bytes=self.size_bytes,
            sha256=self.sha256,
            recorded_at=self.recorded_at,
        )


@strawberry.type(description="`importRecording` returns this payload.")
class ImportRecordingPayload:
    recording_import: RecordingImport = strawberry.field(
        description="This is the import, whose file the client uploads next."
    )


@strawberry.input(description="With this input, a doctor completes an import.")
class CompleteImportInput:
    import_id: strawberry.ID = strawberry.field(
        description="This is the id of an import of the calling doctor, whose file the client has uploaded."
    )


@strawberry.type(description="`completeImport` returns this payload.")
class CompleteImportPayload:
    recording_import: RecordingImport = strawberry.field(
        description="The import, which is COMPLETED and has no `uploadUrl` any more."
    )
    recording: Recording = strawberry.field(
        description="The imported recording, which is VERIFYING until the worker has checked the file."
    )


async def import_recording(info: Info, input: ImportRecordingInput) -> ImportRecordingPayload | None:
    """Begin the import of a recording, or return the pending import with the same declaration."""
    begun = await info.context.services.imports.begin(
        await info.context.asker(), input.to_model(), select(info, "recordingImport")
    )
    return ImportRecordingPayload(recording_import=shown(RecordingImport, begun))


async def complete_import(info: Info, input: CompleteImportInput) -> CompleteImportPayload | None:
    """Create the recording of an uploaded file. The worker then verifies the file. Safe to repeat."""
    payload = select(info)
    completed = await info.context.services.imports.complete(
        await info.context.asker(),
        parse_id(input.import_id),
        merge((payload.below("recordingImport").fields, payload.only("recording").fields)),
    )
    return CompleteImportPayload(
        recording_import=shown(RecordingImport, completed),
        recording=shown(Recording, completed.get("recording", {})),
    )
