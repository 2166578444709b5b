"""GraphQL types and the root field for fetches: the bucket's access log beside the issued URLs."""

from datetime import datetime
from typing import Annotated, Self

import strawberry

from app.fetches import model
from graphql_schema.context import Info


@strawberry.type(
    description=(
        "This is a read of an object that the bucket's access log shows, although no URL of the object was issued. A "
        "person must find out who read it."
    )
)
class UnissuedFetch:
    entity_type: str = strawberry.field(
        description="It is `recording` for a file of a recording, and `export` for an encrypted copy or export."
    )
    entity_id: strawberry.ID = strawberry.field(
        description="This is the id of the recording, of the access request or of the export of the audit log."
    )
    fetched_at: datetime = strawberry.field(description="This is the minute in which the object was read.")
    address: str = strawberry.field(
        description="This is the network address of the reader, or `none` if the access log has none."
    )
    interface: str = strawberry.field(
        description="This is the interface of the bucket: `S3`, `API`, `WORKERS`, `PUBLIC` or `OTHER`."
    )

    @classmethod
    def of(cls, fetch: model.Fetch) -> Self:
        return cls(
            entity_type=fetch.entity_type,
            entity_id=strawberry.ID(str(fetch.entity_id)),
            fetched_at=fetch.fetched_at,
            address=fetch.address,
            interface=fetch.interface,
        )


@strawberry.type(
    description=(
        "This compares the bucket's access log with the issued URLs of a period. The access log is not complete, so a "
        "URL that was issued and never used proves nothing, and is not listed."
    )
)
class ObjectFetches:
    evaluation: model.FetchEvaluation = strawberry.field(
        description="This says whether an imported access log covers a part of the period."
    )
    first_event_at: datetime | None = strawberry.field(
        description="This is the time of the first event in the imported access logs. It is null without a log."
    )
    last_event_at: datetime | None = strawberry.field(
        description="This is the time of the last event in the imported access logs. It is null without a log."
    )
    issued_count: int = strawberry.field(
        description="This is the number of URLs that were issued in the period, as the audit log says."
    )
    fetched_count: int = strawberry.field(
        description="This is the number of reads in the period. An object counts once for each minute and address."
    )
    finding_count: int = strawberry.field(
        description="This is the number of reads for which no URL was issued."
    )
    findings: list[UnissuedFetch] = strawberry.field(
        description="These are the newest 100 reads for which no URL was issued, newest first."
    )

    @classmethod
    def of(cls, report: model.FetchReport) -> Self:
        return cls(
            evaluation=report.evaluation,
            first_event_at=report.first_event_at,
            last_event_at=report.last_event_at,
            issued_count=report.issued_count,
            fetched_count=report.fetched_count,
            finding_count=report.finding_count,
            findings=[UnissuedFetch.of(one) for one in report.findings],
        )


async def object_fetches(
    info: Info,
    since: Annotated[datetime, strawberry.argument(description="This is the beginning of the period.")],
    until: Annotated[
        datetime,
        strawberry.argument(description="The period ends before this time, at most 366 days later."),
    ],
) -> ObjectFetches | None:
    """Return what the bucket's access log says about a period."""
    report = await info.context.services.fetches.report(await info.context.asker(), since, until)
    return ObjectFetches.of(report)
