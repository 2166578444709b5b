"""GraphQL types and root fields for alerts."""

from datetime import datetime

import strawberry

from app.alerts import model
from app.postgres.composer import Row
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from app.texts.alerts import load_alert_texts
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.selected_fields import select


@strawberry.type(
    description=(
        "This is an alert: something that an operator or a compliance officer must look at. An alert opens when its "
        "cause is found, and closes by itself when its cause is gone. At most one alert of each kind and key is open."
    )
)
class Alert(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the alert, a UUID.")
    kind: model.AlertKind = strawberry.field(description="This says what the alert is about.")
    key: str = strawberry.field(
        description=(
            "The key tells alerts of one kind apart. It is an id, a year, the name of a task or of a rule, or empty. "
            "The alert with the key `more` is about all causes beyond the first 20 of its kind."
        )
    )
    status: model.AlertStatus = strawberry.field(description="This is the status of the alert.")
    entity_type: str | None = strawberry.field(
        description="This is the type of the entities in `entityIds`, as in audit events, such as `recording`."
    )
    entity_ids: list[strawberry.ID] = strawberry.field(
        description="These are the ids of the entities that the alert is about, at most 100 of them."
    )
    entity_count: int = strawberry.field(
        description="This is the number of entities that the alert is about."
    )
    opened_at: datetime = strawberry.field(description="This is when the alert was opened.")
    seen_at: datetime = strawberry.field(description="This is when the cause of the alert was last found.")
    closed_at: datetime | None = strawberry.field(
        description="This is when the cause of the alert was found to be gone. It is null while the alert is open."
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="The message describes the cause of the alert, in the language of the request."
    )
    def message(root: strawberry.Parent[Row], info: Info) -> str:
        return load_alert_texts()[root["message"]].text[info.context.language]

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="The remedy says what the reader can do, in the language of the request."
    )
    def remedy(root: strawberry.Parent[Row], info: Info) -> str:
        return load_alert_texts()[root["remedy"]].remedy[info.context.language]


@strawberry.input(
    description="This filters alerts. A field of the filter that is omitted matches every alert."
)
class AlertFilter:
    kinds: list[model.AlertKind] | None = strawberry.field(
        default=None, description="Selects the alerts of one of these kinds. An empty list selects none."
    )
    statuses: list[model.AlertStatus] | None = strawberry.field(
        default=None,
        description="Selects the alerts with one of these statuses. An empty list selects none.",
    )


async def alerts(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: AlertFilter | None = None,
) -> Connection[Alert] | None:
    """List the alerts, newest first."""
    page = await info.context.services.alerts.page(
        await info.context.asker(),
        page_request(first, after),
        filter.kinds if filter else None,
        filter.statuses if filter else None,
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)
