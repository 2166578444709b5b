"""GraphQL types and root fields for exports of the audit log."""

from datetime import datetime

import strawberry

from app.audit_exports import model
from app.postgres.composer import Row
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from app.texts import audit_export_words
from graphql_schema.archive_urls import ArchiveUrl
from graphql_schema.audit import AuditEventFilter
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.problems import AuditExportProblem
from graphql_schema.rows import shown
from graphql_schema.scalars import BigInt, Url, parse_id
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This is an export of the audit log: an encrypted archive with the events that a filter selects, and "
        "with a receipt that proves its content. Compliance officers may read the exports of all officers, and "
        "only the officer who asked for an export gets its URL and its secret."
    )
)
class AuditExport(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the export, a UUID.")
    requested_by: User = strawberry.field(description="This officer asked for the export.")
    format: model.AuditExportFormat = strawberry.field(
        description="This is the format of the file of events in the archive."
    )
    status: model.AuditExportStatus = strawberry.field(description="This is the status of the export.")
    percent_done: int = strawberry.field(
        description="This says how much of the export's range of time the worker has read, in percent."
    )
    event_count: BigInt = strawberry.field(
        description="This is the number of events that the worker has written so far."
    )
    sha256: str | None = strawberry.field(
        description=(
            "This is the SHA-256 of the file of events, in hex. It is the digest of the export's audit event "
            "`audit.export_content`. The value is null until the worker has written the file."
        )
    )
    size_bytes: BigInt | None = strawberry.field(
        description="This is the size of the archive. It is null until the export is READY."
    )
    created_at: datetime = strawberry.field(
        description="This is when the export was asked for. The export contains no later events."
    )
    finished_at: datetime | None = strawberry.field(
        description="This is when the archive was finished. It is null before that."
    )
    expires_at: datetime | None = strawberry.field(
        description="This is when the worker deletes the archive. It is null until the export is READY."
    )
    secret_revealed_at: datetime | None = strawberry.field(
        description="This is when the officer read the secret of the archive. It is null before that."
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="This says why the export FAILED or was STOPPED. It is null for every other status."
    )
    def problem(root: strawberry.Parent[Row], info: Info) -> AuditExportProblem | None:
        return AuditExportProblem.of(root["problem"], info.context.language)


@strawberry.input(
    description="This filters exports. A field of the filter that is omitted matches every export."
)
class AuditExportFilter:
    statuses: list[model.AuditExportStatus] | None = strawberry.field(
        default=None,
        description="Selects the exports with one of these statuses. An empty list selects none.",
    )


@strawberry.input(description="With this input, a compliance officer asks for an export of the audit log.")
class ExportAuditEventsInput:
    format: model.AuditExportFormat = strawberry.field(
        default=model.AuditExportFormat.NDJSON,
        description=(
            "This is the format of the file of events. The events of NDJSON can be verified one by one, and "
            "CSV can be opened in a spreadsheet."
        ),
    )
    filter: AuditEventFilter | None = strawberry.field(
        default=None,
        description=(
            "The export contains the events that the list `auditEvents` shows with this filter, up to now. "
            "Without a filter, it contains all events."
        ),
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`exportAuditEvents` returns the export, which the worker then makes.")
class ExportAuditEventsPayload:
    audit_export: AuditExport = strawberry.field(
        description="This is the export, whose status is PENDING at first."
    )


@strawberry.input(description="With this input, an officer gets a URL of an export.")
class IssueAuditExportUrlInput:
    audit_export_id: strawberry.ID = strawberry.field(
        description="This is the id of a READY export that the caller has asked for."
    )


@strawberry.type(description="`issueAuditExportUrl` returns this payload.")
class IssueAuditExportUrlPayload:
    audit_export_url: ArchiveUrl = strawberry.field(
        description="This is the URL of the archive, for a few minutes."
    )


@strawberry.input(description="With this input, an officer reads the secret of an export.")
class RevealAuditExportSecretInput:
    audit_export_id: strawberry.ID = strawberry.field(
        description="This is the id of a READY export that the caller has asked for."
    )


@strawberry.type(description="`revealAuditExportSecret` returns the export and the secret.")
class RevealAuditExportSecretPayload:
    audit_export: AuditExport = strawberry.field(
        description="This is the export, whose secret was shown at this time."
    )
    secret: str = strawberry.field(
        description=(
            "This is the secret that opens the archive, which consists of twenty letters and digits, and four "
            "hyphens. The API returns the secret only once, and then erases it."
        )
    )


async def audit_exports(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: AuditExportFilter | None = None,
) -> Connection[AuditExport] | None:
    """List the exports of the audit log that all officers asked for, newest first."""
    page = await info.context.services.audit_exports.page(
        await info.context.asker(),
        page_request(first, after),
        filter.statuses if filter else None,
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)


async def export_audit_events(info: Info, input: ExportAuditEventsInput) -> ExportAuditEventsPayload | None:
    """Ask for an export of the audit log."""
    made = await info.context.services.audit_exports.request(
        await info.context.asker(),
        (input.filter or AuditEventFilter()).to_model(),
        input.format,
        select(info, "auditExport"),
        idempotency_key=input.idempotency_key,
    )
    return ExportAuditEventsPayload(audit_export=shown(AuditExport, made))


async def issue_audit_export_url(
    info: Info, input: IssueAuditExportUrlInput
) -> IssueAuditExportUrlPayload | None:
    """Issue a URL that downloads an export for a few minutes."""
    issued = await info.context.services.audit_exports.issue_url(
        await info.context.asker(), parse_id(input.audit_export_id)
    )
    return IssueAuditExportUrlPayload(
        audit_export_url=ArchiveUrl(
            url=Url(issued.url),
            expires_at=issued.expires_at,
            expires_in_seconds=issued.expires_in_seconds,
            instructions=audit_export_words(info.context.language)["how_to_open"],
        )
    )


async def reveal_audit_export_secret(
    info: Info, input: RevealAuditExportSecretInput
) -> RevealAuditExportSecretPayload | None:
    """Reveal once the secret that opens an export."""
    made, secret = await info.context.services.audit_exports.reveal_secret(
        await info.context.asker(), parse_id(input.audit_export_id), select(info, "auditExport")
    )
    return RevealAuditExportSecretPayload(audit_export=shown(AuditExport, made), secret=secret)
