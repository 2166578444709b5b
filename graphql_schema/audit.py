"""GraphQL types and root fields for the audit log."""

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Final, Self

import strawberry

from app.audit import model
from app.errors import InvalidInput
from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from app.recordings.service import PurposeOfUse
from app.staff.model import AssuranceLevel
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.references import ConsultationBy, DateTimeRangeInput, PatientBy, RecordingBy
from graphql_schema.scalars import BigInt, big, parse_optional_id, to_id, to_optional_id
from graphql_schema.selected_fields import select

_LEVELS: Final = {level.value: level for level in AssuranceLevel}


@strawberry.type(description="These are the entities of one type that an action read, showed or changed.")
class AuditEntities:
    type: str = strawberry.field(description="This is the type of the entities, such as `recording`.")
    ids: list[strawberry.ID] = strawberry.field(description="These are the ids of the entities.")

    @classmethod
    def of(cls, entities: model.AuditEntities) -> Self:
        return cls(type=entities.type, ids=[to_id(entity_id) for entity_id in entities.ids])


@strawberry.type(
    description=(
        "An audit event is the record of one action: who did what, to whose data, why, from where, and with "
        "which result. It contains ids and field names, and never the values of the fields. Only compliance "
        "officers may read it."
    )
)
class AuditEvent(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the event.")
    recorded_at: datetime = strawberry.field(
        description="This is when the event was recorded, by the database's clock."
    )
    occurred_at: datetime | None = strawberry.field(
        description=(
            "This is when the event happened, by the clock of the service that reported it, such as Supabase Auth. "
            "It is null for an event that Resguardo recorded itself."
        )
    )
    actor: User | None = strawberry.field(
        description="This is the person who acted. It is null if a service acted or the caller is unknown."
    )
    actor_role: model.ActorRole = strawberry.field(description="This is the role in which the actor acted.")
    session_fingerprint: str | None = strawberry.field(
        description=(
            "This is a one-way fingerprint of the session's id. All events of one session have the same "
            "fingerprint, which gives no access to the session."
        )
    )
    assurance_level: AssuranceLevel | None = strawberry.field(
        description=(
            "This says how strongly the session was authenticated. It is null for an event without a session."
        )
    )
    action: str = strawberry.field(
        description="This names the action, such as `recording.read`. Later releases add actions."
    )
    operation: model.AuditOperation = strawberry.field(
        description="This is the kind of operation, as in FHIR's AuditEvent.action."
    )
    outcome: model.Outcome = strawberry.field(description="This is the result of the action.")
    reason: str | None = strawberry.field(
        description=(
            "This is the code of the reason for the outcome, or of the cause of a change. It is null if there "
            "is neither."
        )
    )
    purpose: PurposeOfUse = strawberry.field(description="The data was used for this purpose.")
    basis: str = strawberry.field(
        description=(
            "This says why the person or service had access: `treating_clinician`, `compliance_review`, `self` "
            "for a patient, or the task of a service. The value is `refused` after a refusal, and "
            "`no_identity` for a request without a login."
        )
    )
    entities: list[AuditEntities] = strawberry.field(
        description=(
            "These are the entities that the action read, showed or changed, by their types. The first type is "
            "the one that the action is about, and each entity that a read shows inside it adds its own type."
        )
    )
    patient_ids: list[strawberry.ID] = strawberry.field(
        description="These are the ids of the patients whom the action concerned."
    )
    consultation_ids: list[strawberry.ID] = strawberry.field(
        description="These are the ids of the consultations that the action concerned."
    )
    fields: list[str] = strawberry.field(
        description=(
            "These are the paths of the fields that were read or changed, such as `consultation.externalId`. "
            "The values of the fields are not in the log."
        )
    )
    row_count: int = strawberry.field(description="The actor saw or changed this many rows.")
    byte_count: BigInt | None = strawberry.field(
        description="The actor could read this many bytes. It is null if the action read no file."
    )
    digest: str | None = strawberry.field(
        description=(
            "This is the SHA-256 of the file that the event is about, in hex: the note that the actor signed, or "
            "the file of events of an export. For an event of the audit log about itself, it is the SHA-256 of "
            "the closed log's final checkpoint, or of the log's new key. It is null for every other action."
        )
    )
    request_id: strawberry.ID | None = strawberry.field(
        description="This is the id of the request, which the header `x-request-id` of the answer contains."
    )
    address: str | None = strawberry.field(
        description="The request came from this network address. It is null for a service."
    )
    policy_version: str = strawberry.field(
        description="This is the version of the access policies that applied to the event."
    )

    @classmethod
    def of(cls, event: model.AuditEvent) -> Self:
        return cls(
            id=to_id(event.id),
            recorded_at=event.recorded_at,
            occurred_at=event.occurred_at,
            actor=None if event.actor_id is None else User(id=to_id(event.actor_id)),
            actor_role=event.actor_role,
            session_fingerprint=event.session_fingerprint,
            assurance_level=_LEVELS.get(event.aal or ""),
            action=event.action,
            operation=event.operation,
            outcome=event.outcome,
            reason=event.reason,
            purpose=PurposeOfUse(event.purpose),
            basis=event.basis,
            entities=[AuditEntities.of(entities) for entities in event.entities],
            patient_ids=[to_id(patient_id) for patient_id in event.patient_ids],
            consultation_ids=[to_id(consultation_id) for consultation_id in event.consultation_ids],
            fields=list(event.fields),
            row_count=event.row_count,
            byte_count=big(event.byte_count),
            digest=event.digest,
            request_id=to_optional_id(event.request_id),
            address=None if event.address is None else str(event.address),
            policy_version=event.policy_version,
        )


@strawberry.input(
    description="This filters audit events. A field of the filter that is omitted matches every event."
)
class AuditEventFilter:
    actor_id: strawberry.ID | None = strawberry.field(
        default=None, description="The filter selects the events of this person, whose user id it is."
    )
    action: str | None = strawberry.field(
        default=None, description="The filter selects the events of this action, such as `recording.read`."
    )
    outcomes: list[model.Outcome] | None = strawberry.field(
        default=None,
        description=("The filter selects the events with one of these outcomes. An empty list matches none."),
    )
    purposes: list[PurposeOfUse] | None = strawberry.field(
        default=None,
        description="The filter selects the events with one of these purposes. An empty list matches none.",
    )
    patient: PatientBy | None = strawberry.field(
        default=None, description="The filter selects the events that concern this patient."
    )
    consultation: ConsultationBy | None = strawberry.field(
        default=None, description="The filter selects the events that concern this consultation."
    )
    recording: RecordingBy | None = strawberry.field(
        default=None,
        description="The filter selects the events that concern this recording, or something that belongs to it.",
    )
    address: str | None = strawberry.field(
        default=None,
        description="The filter selects the events of requests from this network address (IPv4 or IPv6).",
    )
    session_fingerprint: str | None = strawberry.field(
        default=None,
        description="The filter selects the events of the session with this `sessionFingerprint`.",
    )
    recorded_during: DateTimeRangeInput | None = strawberry.field(
        default=None, description="The filter selects the events that were recorded in this range of time."
    )

    def to_model(self) -> model.AuditFilter:
        return model.AuditFilter(
            actor_id=parse_optional_id(self.actor_id),
            action=self.action,
            outcomes=None if self.outcomes is None else frozenset(self.outcomes),
            purposes=None if self.purposes is None else frozenset(self.purposes),
            patient=self.patient.to_model() if self.patient else None,
            consultation=self.consultation.to_model() if self.consultation else None,
            recording=self.recording.to_model() if self.recording else None,
            address=_parse_address(self.address),
            session_fingerprint=self.session_fingerprint,
            recorded=self.recorded_during.to_model() if self.recorded_during else None,
        )


def _parse_address(text: str | None) -> IPv4Address | IPv6Address | None:
    """Return the network address. Raises InvalidInput (bad_address) if the text is no address."""
    if text is None:
        return None
    try:
        address = ip_address(text)
    except ValueError as error:
        raise InvalidInput("bad_address") from error
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise InvalidInput("bad_address")
    return address


@strawberry.type(description="This is how many events of a summary have one value, in each interval.")
class AuditSeries:
    value: str = strawberry.field(
        description=(
            "This is the action, the outcome, the purpose, or the user id of the actor, according to `groupBy`."
        )
    )
    event_counts: list[int] = strawberry.field(
        description="These are the numbers of events, one for each interval, in the order of `startsAt`."
    )


@strawberry.type(
    description=(
        "An audit summary says how many events the filter matches in each interval of time. It contains no event "
        "and names no patient. Only compliance officers may read it."
    )
)
class AuditSummary:
    interval: model.AuditInterval = strawberry.field(description="This is the length of each interval.")
    grouping: model.AuditGrouping = strawberry.field(
        description="The summary has a series for each value of this attribute."
    )
    starts_at: list[datetime] = strawberry.field(
        description="These are the starts of the intervals, in order. There are at most 1,000."
    )
    event_counts: list[int] = strawberry.field(
        description="These are the numbers of all events that the filter matches, one for each interval."
    )
    series: list[AuditSeries] = strawberry.field(
        description=(
            "These are the counts by value, for the 20 values with the most events, the most frequent one first. "
            "Events with another value, or without one, are only in the `eventCounts` of the summary."
        )
    )

    @classmethod
    def of(cls, summary: model.AuditSummary) -> Self:
        return cls(
            interval=summary.interval,
            grouping=summary.grouping,
            starts_at=list(summary.starts_at),
            event_counts=list(summary.event_counts),
            series=[
                AuditSeries(value=one.value, event_counts=list(one.event_counts)) for one in summary.series
            ],
        )


def _place(event: model.AuditEvent) -> Cursor:
    return Cursor(event.recorded_at, event.id)


async def audit_events(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: AuditEventFilter | None = None,
) -> Connection[AuditEvent] | None:
    """List the rows of the audit log, newest first. Only compliance officers may list audit rows."""
    page = await info.context.services.audit.page(
        await info.context.asker(),
        page_request(first, after),
        (filter or AuditEventFilter()).to_model(),
        select(info, "edges", "node").paths,
    )
    return Connection.of(page, AuditEvent.of, _place)


async def audit_summary(
    info: Info,
    interval: Annotated[
        model.AuditInterval, strawberry.argument(description="The summary has a count for each of these.")
    ],
    group_by: Annotated[
        model.AuditGrouping,
        strawberry.argument(description="The summary has a series for each value of this attribute."),
    ],
    filter: Annotated[
        AuditEventFilter,
        strawberry.argument(description="The summary counts the events that this filter matches."),
    ],
) -> AuditSummary | None:
    """Count the rows of the audit log in each interval. Only compliance officers may count audit rows."""
    summary = await info.context.services.audit.summarize(
        await info.context.asker(), filter.to_model(), interval, group_by, select(info).paths
    )
    return AuditSummary.of(summary)
