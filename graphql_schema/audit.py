"""GraphQL types and root fields for the audit log."""

from datetime import datetime
from typing import Final, Self

import strawberry

from app.audit import model
from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from app.recordings.service import PurposeOfUse
from app.staff.model import AssuranceLevel
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.references import ConsultationBy, DateTimeRangeInput, PatientBy
from graphql_schema.scalars import BigInt, big, parse_optional_id, to_id, to_optional_id

_LEVELS: Final = {level.value: level for level in AssuranceLevel}


@strawberry.type(description="The entities of one type that an action read, showed or changed.")
class AuditEntities:
    type: str = strawberry.field(description="The type of the entities, such as `recording`.")
    ids: list[strawberry.ID] = strawberry.field(description="The ids of the entities.")

    @classmethod
    def of(cls, entities: model.AuditEntities) -> Self:
        return cls(type=entities.type, ids=[to_id(entity_id) for entity_id in entities.ids])


@strawberry.type(
    description=(
        "An audit event: who did what, to whose data, why, from where, and with which result. An "
        "audit event contains ids and field names, and never the values of the fields. For compliance only."
    )
)
class AuditEvent(Node):
    id: strawberry.ID = strawberry.field(description="The id of the event.")
    recorded_at: datetime = strawberry.field(
        description="When the event was recorded, by the database's clock."
    )
    actor: User | None = strawberry.field(
        description="The person who acted, or null if a service acted or the caller is unknown."
    )
    actor_role: model.ActorRole = strawberry.field(description="The role in which the actor acted.")
    session_fingerprint: str | None = strawberry.field(
        description=(
            "A one-way fingerprint of the session's id. All events of one session have the same "
            "fingerprint. The fingerprint gives no access to the session."
        )
    )
    assurance_level: AssuranceLevel | None = strawberry.field(
        description="How strongly the session was authenticated, or null for an event without a session."
    )
    action: str = strawberry.field(
        description="What the actor did, such as `recording.read`. Later releases add actions."
    )
    operation: model.AuditOperation = strawberry.field(
        description="The kind of operation, as in FHIR's AuditEvent.action."
    )
    outcome: model.Outcome = strawberry.field(description="The result of the action.")
    reason: str | None = strawberry.field(
        description="The code of the reason for the outcome, or of the cause of a change, or null."
    )
    purpose: PurposeOfUse = strawberry.field(description="The purpose for which the data was used.")
    basis: str = strawberry.field(
        description=(
            "Why the person or service had access: `treating_clinician`, `compliance_review`, "
            "`self` for a patient, or the task of a service. The value is `refused` after a "
            "refusal, and `no_identity` for a request without a login."
        )
    )
    entities: list[AuditEntities] = strawberry.field(
        description=(
            "The entities that the action read, showed or changed, by their types. The first type is "
            "the one that the action is about, and each entity that a read shows inside it adds its own type."
        )
    )
    patient_ids: list[strawberry.ID] = strawberry.field(description="The ids of the patients concerned.")
    consultation_ids: list[strawberry.ID] = strawberry.field(
        description="The ids of the consultations concerned."
    )
    fields: list[str] = strawberry.field(
        description=(
            "The fields that were read or changed, as paths from the entity, such as "
            "`consultation.externalId`, and never their values."
        )
    )
    row_count: int = strawberry.field(description="How many rows the actor saw or changed.")
    byte_count: BigInt | None = strawberry.field(
        description="How many bytes the actor could read, or null if the action read no file."
    )
    request_id: strawberry.ID | None = strawberry.field(
        description="The id of the request, which the header `x-request-id` of the answer contains."
    )
    address: str | None = strawberry.field(
        description="The network address from which the request came, or null for a service."
    )
    policy_version: str = strawberry.field(
        description="The version of the access policies that applied to the event."
    )

    @classmethod
    def of(cls, event: model.AuditEvent) -> Self:
        return cls(
            id=to_id(event.id),
            recorded_at=event.recorded_at,
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
            request_id=to_optional_id(event.request_id),
            address=None if event.address is None else str(event.address),
            policy_version=event.policy_version,
        )


@strawberry.input(
    description="A filter for audit events. A filter field that is omitted matches every event."
)
class AuditEventFilter:
    actor_id: strawberry.ID | None = strawberry.field(
        default=None, description="Only events of this person, whom the id of a user names."
    )
    action: str | None = strawberry.field(
        default=None, description="Only events of this action, such as `recording.read`."
    )
    outcomes: list[model.Outcome] | None = strawberry.field(
        default=None,
        description="Only events with one of these outcomes. An empty list matches every outcome.",
    )
    patient: PatientBy | None = strawberry.field(
        default=None, description="Only events that concern this patient."
    )
    consultation: ConsultationBy | None = strawberry.field(
        default=None, description="Only events that concern this consultation."
    )
    recorded_during: DateTimeRangeInput | None = strawberry.field(
        default=None, description="Only events that were recorded in this range of time."
    )

    def to_model(self) -> model.AuditFilter:
        return model.AuditFilter(
            actor_id=parse_optional_id(self.actor_id),
            action=self.action,
            outcomes=frozenset(self.outcomes or ()),
            patient=self.patient.to_model() if self.patient else None,
            consultation=self.consultation.to_model() if self.consultation else None,
            recorded=self.recorded_during.to_model() if self.recorded_during else None,
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
    )
    return Connection.of(page, AuditEvent.of, _place)
