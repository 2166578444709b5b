"""GraphQL types and root fields for deletions and certificates."""

import base64
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

import anyio.to_thread
import strawberry

from app.certificates.pdf import render_pdf
from app.certificates.signing import read_signed
from app.deletions import model
from app.postgres.composer import Row
from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from app.postgres.selection import Selection, merge
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.problems import DeletionProblem
from graphql_schema.scalars import parse_id, parse_optional_id
from graphql_schema.selected_fields import select

if TYPE_CHECKING:
    from graphql_schema.recordings import Recording


@strawberry.type(
    description=(
        "This is the deletion of a recording, from the request to the certificate. The recording's doctor and "
        "compliance may read it."
    )
)
class Deletion(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the deletion.")
    recording: Annotated["Recording", strawberry.lazy("graphql_schema.recordings")] | None = strawberry.field(
        description=(
            "This recording is destroyed. Resguardo keeps the row of a destroyed recording, whose status is "
            "then DELETED. The value is null for a caller who may not read the recording."
        )
    )
    ground: model.DeletionGround = strawberry.field(description="The recording is destroyed on this ground.")
    reason: model.DeletionReason | None = strawberry.field(
        description="This is the reason for a requested deletion. It is null on any other ground."
    )
    status: model.DeletionStatus = strawberry.field(description="This is the status of the deletion.")
    requested_by: User | None = strawberry.field(
        description=(
            "This is the user who requested the deletion. It is null on any other ground than REQUEST."
        )
    )
    requested_at: datetime = strawberry.field(
        description="This is when the deletion was requested or became due."
    )
    undo_until: datetime | None = strawberry.field(
        description=(
            "This is the end of the grace period, exclusive. Until then, `undoDeletion` can withdraw the "
            "deletion."
        )
    )
    retention_ends_at: datetime | None = strawberry.field(
        description=(
            "This is when the retention term of the recording ends, which a request does not change."
        )
    )
    attempt_count: int = strawberry.field(
        description="This says how often the worker has tried to destroy the recording."
    )
    finished_at: datetime | None = strawberry.field(
        description=(
            "This is when the recording was destroyed or the deletion was undone. It is null before that."
        )
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This says why the newest attempt to destroy the recording failed. It is null if it did not fail. "
            "After a failed attempt, the worker tries again."
        )
    )
    def problem(root: strawberry.Parent[Row], info: Info) -> DeletionProblem | None:
        return DeletionProblem.of(root["problem"], info.context.language)


@strawberry.type(
    description=(
        "This is the signed proof that a recording was destroyed. The command `resguardo certificate check` "
        "verifies a certificate. A certificate has no id: its recording and its number identify it. The doctor "
        "of the recording and compliance may read it."
    )
)
class DeletionCertificate:
    number: int = strawberry.field(
        description=(
            "This is the number of the certificate among the certificates of one recording or one signed note. A "
            "number above 1 means that it was destroyed again after the database was restored from a backup."
        )
    )
    sha256: str = strawberry.field(description="This is the SHA-256 of `json`.")
    json: str = strawberry.field(
        description=("This is the content of the signed certificate file, byte for byte.")
    )

    @classmethod
    def of(cls, certificate: model.KeptCertificate) -> Self:
        return cls(number=certificate.number, sha256=certificate.sha256, json=certificate.document)

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="This is the certificate as a PDF in Base64, with the signed file attached."
    )
    async def pdf_base64(self) -> str:
        document = await anyio.to_thread.run_sync(render_pdf, read_signed(self.json.encode()))
        return base64.b64encode(document).decode()


@strawberry.type(
    description=(
        "This is the signed proof that the signed note on a recording was destroyed, in the format of a "
        "`DeletionCertificate`. It has no id: its recording and its number identify it. The doctor of the recording "
        "and compliance may read it."
    )
)
class SignedNoteCertificate(DeletionCertificate):
    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="This is when the note was destroyed."
    )
    def destroyed_at(self) -> datetime:
        return read_signed(self.json.encode()).certificate.destroyed_at


@strawberry.input(
    description="This filters deletions. A field of the filter that is omitted matches every deletion."
)
class DeletionFilter:
    statuses: list[model.DeletionStatus] | None = strawberry.field(
        default=None,
        description="Selects the deletions with one of these statuses. An empty list selects none.",
    )
    recording_id: strawberry.ID | None = strawberry.field(
        default=None, description="Selects the deletions of this recording."
    )
    is_failing: bool | None = strawberry.field(
        default=None,
        description=(
            "True selects deletions that have begun and whose newest attempt failed; false "
            "selects all other deletions."
        ),
    )

    def to_model(self) -> model.DeletionFilter:
        return model.DeletionFilter(
            None if self.statuses is None else tuple(self.statuses),
            parse_optional_id(self.recording_id),
            self.is_failing,
        )


async def deletions(
    info: Info, first: int = DEFAULT_PAGE_SIZE, after: str | None = None, filter: DeletionFilter | None = None
) -> Connection[Deletion] | None:
    """List deletions, newest first."""
    page = await info.context.services.deletions.page(
        await info.context.asker(),
        page_request(first, after),
        (filter or DeletionFilter()).to_model(),
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)


def _place_of_certificate(certificate: model.KeptCertificate) -> Cursor:
    return Cursor.of_number(certificate.number)


async def deletion_certificates(
    info: Info, recording_id: strawberry.ID, first: int = DEFAULT_PAGE_SIZE, after: str | None = None
) -> Connection[DeletionCertificate] | None:
    """List the certificates of a destroyed recording in the order of their numbers."""
    page = await info.context.services.deletions.list_certificates(
        await info.context.asker(),
        parse_id(recording_id),
        page_request(first, after),
        select(info, "edges", "node").paths,
    )
    return Connection.of(page, DeletionCertificate.of, _place_of_certificate)


async def signed_note_certificates(
    info: Info, recording_id: strawberry.ID, first: int = DEFAULT_PAGE_SIZE, after: str | None = None
) -> Connection[SignedNoteCertificate] | None:
    """List the certificates of the destroyed signed note on a recording in the order of their numbers."""
    page = await info.context.services.deletions.list_note_certificates(
        await info.context.asker(),
        parse_id(recording_id),
        page_request(first, after),
        select(info, "edges", "node").paths,
    )
    return Connection.of(page, SignedNoteCertificate.of, _place_of_certificate)


@strawberry.input(
    description="With this input, a doctor or a compliance officer requests the deletion of a recording."
)
class DeleteRecordingInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of the recording, which must be finished and under no legal hold."
    )
    reason: model.DeletionReason = strawberry.field(
        description=(
            "This says why the recording is deleted. The certificate of the destruction contains the reason."
        )
    )


@strawberry.type(description="`deleteRecording` returns this payload.")
class DeleteRecordingPayload:
    deletion: Deletion = strawberry.field(description="This is the deletion, which is now requested.")
    recording: Annotated["Recording", strawberry.lazy("graphql_schema.recordings")] | None = strawberry.field(
        description=(
            "This is the recording, with the new value of `deletion`. The value is null for a caller who may "
            "not read the recording."
        )
    )


@strawberry.input(
    description=("With this input, a doctor or a compliance officer withdraws a requested deletion.")
)
class UndoDeletionInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of the recording whose deletion was requested."
    )


@strawberry.type(description="`undoDeletion` returns this payload.")
class UndoDeletionPayload:
    deletion: Deletion = strawberry.field(description="This is the deletion, which is now undone.")
    recording: Annotated["Recording", strawberry.lazy("graphql_schema.recordings")] | None = strawberry.field(
        description=(
            "This is the recording, with the new value of `deletion`. The value is null for a caller who may "
            "not read the recording."
        )
    )


def _select(info: Info) -> Selection:
    """Return what the client selects of the deletion and of the recording, as one selection of the deletion."""
    payload = select(info)
    others = (one for one in payload.fields if one.name != "deletion")
    return merge((payload.below("deletion").fields, others))


def _shown(row: Row) -> dict[str, Any]:
    return {"deletion": row, "recording": row.get("recording")}


async def delete_recording(info: Info, input: DeleteRecordingInput) -> DeleteRecordingPayload | None:
    """Request the destruction of a recording."""
    requested = await info.context.services.deletions.request(
        await info.context.asker(), parse_id(input.recording_id), input.reason, _select(info)
    )
    return DeleteRecordingPayload(**_shown(requested))


async def undo_deletion(info: Info, input: UndoDeletionInput) -> UndoDeletionPayload | None:
    """Undo a requested deletion."""
    undone = await info.context.services.deletions.undo(
        await info.context.asker(), parse_id(input.recording_id), _select(info)
    )
    return UndoDeletionPayload(**_shown(undone))
