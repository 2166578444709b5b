"""Deletions and their certificates in GraphQL."""

import base64
from datetime import datetime
from typing import Self

import anyio.to_thread
import strawberry

from app.certificates.pdf import render_pdf
from app.certificates.signing import read_signed
from app.deletions import model
from app.paging import Cursor, page_request
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.scalars import parse_id, parse_optional_id, to_id, to_optional_id

strawberry.enum(
    model.DeletionStatus,
    description="REQUESTED until its grace period is over, then DELETING, and DELETED once there is a certificate.",
)
strawberry.enum(
    model.DeletionGround,
    description="RETENTION: its term is over. MISSING: its object was not there. RESTORE: a backup brought it back.",
)
strawberry.enum(model.DeletionReason, description="Why somebody asks for it. It tells nothing of a patient.")


@strawberry.type(description="A recording's way out.")
class Deletion:
    id: strawberry.ID
    recording_id: strawberry.ID
    ground: model.DeletionGround
    reason: model.DeletionReason | None
    status: model.DeletionStatus
    requested_by: strawberry.ID | None
    requested_at: datetime
    undo_until: datetime | None = strawberry.field(
        description="Until then, and until it is DELETING, `undoDeletion` takes it back."
    )
    due_at: datetime | None = strawberry.field(description="When its term is over.")
    attempts: int
    error: str | None = strawberry.field(description="Why the newest attempt failed; it is tried again.")
    finished_at: datetime | None

    @classmethod
    def of(cls, deletion: model.Deletion) -> Self:
        return cls(
            id=to_id(deletion.id),
            recording_id=to_id(deletion.recording_id),
            ground=deletion.ground,
            reason=deletion.reason,
            status=deletion.status,
            requested_by=to_optional_id(deletion.requested_by),
            requested_at=deletion.requested_at,
            undo_until=deletion.undo_until,
            due_at=deletion.due_at,
            attempts=deletion.attempts,
            error=deletion.error,
            finished_at=deletion.finished_at,
        )


@strawberry.type(
    description="The signed proof that a recording is gone. `resguardo certificate check` verifies it."
)
class DeletionCertificate:
    number: int = strawberry.field(
        description="Above 1 where a restored database made a repetition necessary."
    )
    sha256: str = strawberry.field(description="Of `json`.")
    json: str = strawberry.field(description="The signed file, byte for byte.")

    @classmethod
    def of(cls, certificate: model.KeptCertificate) -> Self:
        return cls(number=certificate.number, sha256=certificate.sha256, json=certificate.document)

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="The same for people to read, in Base64, with the signed file attached."
    )
    async def pdf(self) -> str:
        document = await anyio.to_thread.run_sync(render_pdf, read_signed(self.json.encode()))
        return base64.b64encode(document).decode()


@strawberry.input(description="Which deletions; what is left out is any.")
class DeletionFilter:
    status: model.DeletionStatus | None = None
    recording_id: strawberry.ID | None = None
    is_failing: bool | None = strawberry.field(
        default=None, description="Begun, and the newest attempt failed."
    )

    def to_model(self) -> model.DeletionFilter:
        return model.DeletionFilter(self.status, parse_optional_id(self.recording_id), self.is_failing)


def _place(deletion: model.Deletion) -> Cursor:
    return Cursor(deletion.requested_at, deletion.id)


async def deletions(
    info: Info, first: int | None = None, after: str | None = None, filter: DeletionFilter | None = None
) -> Connection[Deletion]:
    """Deletions, newest first."""
    page = await info.context.services.deletions.page(
        await info.context.asker(), page_request(first, after), (filter or DeletionFilter()).to_model()
    )
    return Connection.of(page, Deletion.of, _place)


async def deletion_certificates(info: Info, recording_id: strawberry.ID) -> list[DeletionCertificate]:
    """The certificates of a destroyed recording, the first one first."""
    found = await info.context.services.deletions.certificates(
        await info.context.asker(), parse_id(recording_id)
    )
    return [DeletionCertificate.of(one) for one in found]


async def delete_recording(info: Info, id: strawberry.ID, reason: model.DeletionReason) -> Deletion:
    """Asks for a recording to be destroyed."""
    return Deletion.of(
        await info.context.services.deletions.request(await info.context.asker(), parse_id(id), reason)
    )


async def undo_deletion(info: Info, recording_id: strawberry.ID) -> Deletion:
    """Takes it back."""
    return Deletion.of(
        await info.context.services.deletions.undo(await info.context.asker(), parse_id(recording_id))
    )
