"""GraphQL types and root fields with which people open the encrypted copy of an access request."""

import strawberry

from app.texts import access_request_words
from graphql_schema.access_request_mutations import AccessRequestPayload, select_request
from graphql_schema.access_requests import AccessRequest
from graphql_schema.archive_urls import ArchiveUrl
from graphql_schema.context import Info
from graphql_schema.rows import shown
from graphql_schema.scalars import Url, parse_id


@strawberry.input(description="With this input, a patient gets a URL of the encrypted copy.")
class IssueAccessExportUrlInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="This is the id of the patient's own access request, whose encrypted copy is READY."
    )


@strawberry.type(description="`issueAccessExportUrl` returns this payload.")
class IssueAccessExportUrlPayload:
    access_export_url: ArchiveUrl = strawberry.field(
        description="This is the URL of the encrypted copy, for a few minutes."
    )


@strawberry.input(description="With this input, a compliance officer reads the secret of an encrypted copy.")
class RevealAccessExportSecretInput:
    access_request_id: strawberry.ID = strawberry.field(
        description="This is the id of an access request whose encrypted copy is READY."
    )


@strawberry.type(description="`revealAccessExportSecret` returns the access request and the secret.")
class RevealAccessExportSecretPayload(AccessRequestPayload):
    secret: str = strawberry.field(
        description=(
            "This is the secret that opens the encrypted copy, which consists of twenty letters and digits, "
            "and four hyphens. The API returns the secret only once, and then erases it."
        )
    )


async def issue_access_export_url(
    info: Info, input: IssueAccessExportUrlInput
) -> IssueAccessExportUrlPayload | None:
    """Issue a URL that downloads the encrypted copy of an access request for a few minutes."""
    issued = await info.context.services.access_requests.issue_url(
        await info.context.asker(), parse_id(input.access_request_id)
    )
    return IssueAccessExportUrlPayload(
        access_export_url=ArchiveUrl(
            url=Url(issued.url),
            expires_at=issued.expires_at,
            expires_in_seconds=issued.expires_in_seconds,
            instructions=access_request_words(info.context.language)["how_to_open"],
        )
    )


async def reveal_access_export_secret(
    info: Info, input: RevealAccessExportSecretInput
) -> RevealAccessExportSecretPayload | None:
    """Reveal once the secret that opens the encrypted copy of an access request."""
    request, secret = await info.context.services.access_requests.reveal_secret(
        await info.context.asker(), parse_id(input.access_request_id), select_request(info)
    )
    return RevealAccessExportSecretPayload(access_request=shown(AccessRequest, request), secret=secret)
