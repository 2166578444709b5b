"""The GraphQL type of the URL of an encrypted archive: a copy for an access request, or an export of the audit log."""

from datetime import datetime

import strawberry

from graphql_schema.scalars import Url


@strawberry.type(
    description=(
        "This is a presigned URL of an encrypted archive: of the copy for an access request, which only the "
        "patient gets, or of an export of the audit log, which only the officer gets who asked for it. Nobody "
        "can open the archive without its secret."
    )
)
class ArchiveUrl:
    url: Url = strawberry.field(description="This is the presigned URL, which is a secret.")
    expires_at: datetime = strawberry.field(description="The URL is valid until this time.")
    expires_in_seconds: int = strawberry.field(
        description=(
            "The URL is valid for this many seconds from now on. The value does not depend on the client's "
            "clock."
        )
    )
    instructions: str = strawberry.field(
        description="These are instructions for opening the archive, in the reader's language."
    )
