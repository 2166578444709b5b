"""GraphQL types and root fields for outgoing webhooks."""

from datetime import datetime

import strawberry

from app.outgoing_webhooks import model
from app.postgres.composer import Row
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.problems import WebhookProblem
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id
from graphql_schema.selected_fields import select


@strawberry.type(description="This is one attempt to deliver a message. Compliance officers may read it.")
class WebhookAttempt:
    number: int = strawberry.field(description="This is the number of the attempt, from 1.")
    started_at: datetime = strawberry.field(description="This is when the attempt began.")
    duration_seconds: float | None = strawberry.field(
        description=(
            "This is the duration of the attempt. It is null while the attempt runs, and if the "
            "worker ended during the attempt."
        )
    )
    status_code: int | None = strawberry.field(
        description="This is the HTTP status of the answer. It is null if the endpoint sent no answer."
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="This says why the attempt failed. It is null if the attempt succeeded or still runs."
    )
    def problem(root: strawberry.Parent[Row], info: Info) -> WebhookProblem | None:
        return WebhookProblem.of(root["problem"], info.context.language)


@strawberry.type(
    description=(
        "This is the delivery of one message to one endpoint of the practice, as an outgoing webhook. A message has "
        "ids only. Compliance officers may read it."
    )
)
class WebhookDelivery(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the delivery, a UUID.")
    message_id: strawberry.ID = strawberry.field(
        description=(
            "This is the id of the message, a UUID, which is the same for all endpoints. The header `webhook-id` is "
            "`msg_` and this id without hyphens."
        )
    )
    endpoint: str = strawberry.field(
        description="This is the name of the endpoint in the setting OUTGOING_WEBHOOK_URLS."
    )
    event_type: str = strawberry.field(
        description="This is the type of the event, such as `recording.ready`."
    )
    entity_type: str = strawberry.field(
        description="This is the type of the entities in `entityIds`, as in audit events, such as `recording`."
    )
    entity_ids: list[strawberry.ID] = strawberry.field(
        description="These are the ids in the message, at most 100."
    )
    status: model.WebhookDeliveryStatus = strawberry.field(description="This is the status of the delivery.")
    attempt_count: int = strawberry.field(description="This is the number of attempts so far.")
    next_attempt_at: datetime | None = strawberry.field(
        description="This is the earliest time of the next attempt. It is null unless the delivery is PENDING."
    )
    status_code: int | None = strawberry.field(
        description="This is the HTTP status of the last answer. It is null if there was no answer."
    )
    created_at: datetime = strawberry.field(description="This is when the event happened.")
    finished_at: datetime | None = strawberry.field(
        description="This is when the delivery became DELIVERED or FAILED. It is null before that."
    )
    attempts: list[WebhookAttempt] = strawberry.field(
        description="These are the newest attempts, newest first, at most 25."
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="This says why the last attempt failed. It is null if no attempt has failed since the last request."
    )
    def problem(root: strawberry.Parent[Row], info: Info) -> WebhookProblem | None:
        return WebhookProblem.of(root["problem"], info.context.language)


@strawberry.input(
    description="This filters deliveries. A field of the filter that is omitted matches every delivery."
)
class WebhookDeliveryFilter:
    statuses: list[model.WebhookDeliveryStatus] | None = strawberry.field(
        default=None,
        description="Selects the deliveries with one of these statuses. An empty list selects none.",
    )


@strawberry.input(description="With this input, a compliance officer requests that a message is sent again.")
class RedeliverWebhookInput:
    webhook_delivery_id: strawberry.ID = strawberry.field(
        description="The worker sends the message of the delivery with this id again."
    )


@strawberry.type(description="`redeliverWebhook` returns the delivery, whose status is PENDING again.")
class RedeliverWebhookPayload:
    webhook_delivery: WebhookDelivery = strawberry.field(
        description="This is the delivery, whose status is PENDING."
    )


async def webhook_deliveries(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: WebhookDeliveryFilter | None = None,
) -> Connection[WebhookDelivery] | None:
    """List the deliveries of outgoing webhooks, newest first."""
    page = await info.context.services.outgoing_webhooks.page(
        await info.context.asker(),
        page_request(first, after),
        filter.statuses if filter else None,
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)


async def redeliver_webhook(info: Info, input: RedeliverWebhookInput) -> RedeliverWebhookPayload | None:
    """Ask the worker to send a message to its endpoint again."""
    made = await info.context.services.outgoing_webhooks.redeliver(
        await info.context.asker(),
        parse_id(input.webhook_delivery_id),
        select(info, "webhookDelivery"),
    )
    return RedeliverWebhookPayload(webhook_delivery=shown(WebhookDelivery, made))
