"""GraphQL types and root fields of disclosures (45 CFR 164.528) and of their suspensions."""

from datetime import date, datetime
from typing import Self

import strawberry

from app.disclosures import model, released_copies
from app.disclosures.released_copies import ReleasedCopyKind
from app.postgres.composer import Row
from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from app.texts import disclosure_words, redisclosure_notice
from graphql_schema.audit import AuditEvent
from graphql_schema.connections import Connection
from graphql_schema.consultations import Consultation
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.nodes import Node
from graphql_schema.people import Patient, User
from graphql_schema.references import ConsultationBy, DateTimeRangeInput, PatientBy
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id
from graphql_schema.selected_fields import select


@strawberry.type(
    description="This person or entity received disclosed information. Only compliance officers may read it."
)
class DisclosureRecipient:
    name: str = strawberry.field(description="This is the name of the person or entity.")
    address: str | None = strawberry.field(
        description="This is the address of the person or entity. It is null if the practice does not know it."
    )


@strawberry.type(
    description=(
        "This is the patient's written authorization of a disclosure (45 CFR 164.508). Only compliance officers may "
        "read it."
    )
)
class DisclosureAuthorization:
    signed_on: date = strawberry.field(description="This is the day on which the patient signed.")
    expires_on: date | None = strawberry.field(
        description="This is the last day of the authorization. It is null if the document names none."
    )
    reference: str | None = strawberry.field(
        description="This says where the practice keeps the document. It is null if nothing was recorded."
    )


@strawberry.type(
    description=(
        "This is a disclosure of a patient's information to somebody outside the practice, or a series of disclosures "
        "to one recipient for one purpose. Only compliance officers may read it."
    )
)
class Disclosure(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the disclosure, a UUID.")
    patient: Patient = strawberry.field(description="This is the patient whose information was disclosed.")
    consultation: Consultation | None = strawberry.field(
        description=(
            "This is the consultation that the information is about. It is null if the information is about more than "
            "one."
        )
    )
    disclosed_on: date = strawberry.field(
        description="This is the day of the disclosure, or of the first disclosure of a series."
    )
    last_disclosed_on: date | None = strawberry.field(
        description="This is the day of the last disclosure of a series. It is null for a single disclosure."
    )
    disclosure_count: int = strawberry.field(
        description="This says how many disclosures the series has. It is 1 for a single disclosure."
    )
    recipient: DisclosureRecipient | None = strawberry.field(
        description=(
            "This person or entity received the information. It is null if the key of the text was destroyed with the "
            "patient's record."
        )
    )
    description: str | None = strawberry.field(
        description=(
            "This is a short description of the disclosed information. It is null if the key of the text was destroyed."
        )
    )
    purpose: model.DisclosurePurpose = strawberry.field(description="This is the purpose of the disclosure.")
    purpose_statement: str | None = strawberry.field(
        description="This states the purpose in more detail. It is null if nothing more was recorded."
    )
    authorization: DisclosureAuthorization | None = strawberry.field(
        description="This is the patient's authorization of the disclosure. It is null if none was recorded."
    )
    is_accounted: bool = strawberry.field(
        description=(
            "This says whether an accounting contains the disclosure. The regulation excepts some purposes (45 CFR "
            "164.528(a)(1))."
        )
    )
    is_suspended: bool = strawberry.field(
        description="This says whether a suspension hides the disclosure from the patient now."
    )
    recorded_by: User = strawberry.field(description="This officer recorded the disclosure.")
    recorded_at: datetime = strawberry.field(description="This is when the disclosure was recorded.")

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="This states the purpose as the patient reads it in an accounting, in the reader's language."
    )
    def purpose_text(root: strawberry.Parent[Row], info: Info) -> str:
        return disclosure_words(info.context.language)[f"purpose_{root['purpose_text']}"]

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This notice accompanies information about the treatment of a substance use disorder (42 CFR 2.32). It is "
            "null if the information is about no consultation of the sensitivity `SUBSTANCE_USE`."
        )
    )
    def redisclosure_notice(root: strawberry.Parent[Row], info: Info) -> str | None:
        if not root["redisclosure_notice"]:
            return None
        return redisclosure_notice(info.context.language)


@strawberry.type(
    description=(
        "This is a suspension of a patient's right to see the disclosures to an agency, which the agency asked for (45 "
        "CFR 164.528(a)(2)). Only compliance officers may read it."
    )
)
class DisclosureSuspension(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the suspension, a UUID.")
    patient: Patient = strawberry.field(description="This is the patient whose right is suspended.")
    agency: model.SuspendingAgency = strawberry.field(
        description="This is the kind of agency. The suspension hides the disclosures for the same purpose."
    )
    official: str | None = strawberry.field(
        description=(
            "This names the agency, or the official who asked for the suspension. It is null if the key of the text "
            "was destroyed with the patient's record."
        )
    )
    is_written: bool = strawberry.field(
        description=(
            "This says whether the agency's statement is in writing. After an oral statement, the suspension lasts at "
            "most 30 days."
        )
    )
    starts_at: datetime = strawberry.field(description="This is when the suspension was recorded and began.")
    ends_at: datetime = strawberry.field(description="This is when the suspension ends by itself.")
    is_active: bool = strawberry.field(description="This says whether the suspension is in effect now.")
    placed_by: User = strawberry.field(description="This officer recorded the suspension.")
    lifted_by: User | None = strawberry.field(
        description="This officer lifted the suspension before its time. It is null if nobody did."
    )
    lifted_at: datetime | None = strawberry.field(
        description="This is when an officer lifted the suspension before its time. It is null if nobody did."
    )


@strawberry.type(
    description=(
        "This is an event by which information left the system: a download, an export, a copy, or a recorded "
        "disclosure. Only compliance officers may read it."
    )
)
class ReleasedCopy(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the event, a UUID.")
    kind: ReleasedCopyKind = strawberry.field(description="This says how the information left the system.")
    event: AuditEvent = strawberry.field(
        description="This is the event of the audit log: who did it, when, why, and about whom."
    )

    @classmethod
    def of(cls, copy: released_copies.ReleasedCopy) -> Self:
        event = AuditEvent.of(copy.event)
        return cls(id=event.id, kind=copy.kind, event=event)


@strawberry.input(
    description="This filters what left the system. A field that is omitted matches everything."
)
class ReleasedCopyFilter:
    patient: PatientBy | None = strawberry.field(
        default=None, description="Selects the events about this patient."
    )
    released_during: DateTimeRangeInput | None = strawberry.field(
        default=None, description="Selects the events in this range of time."
    )


@strawberry.input(
    description="This filters disclosures. A field of the filter that is omitted matches every disclosure."
)
class DisclosureFilter:
    patient: PatientBy | None = strawberry.field(
        default=None, description="Selects the disclosures about this patient."
    )
    purposes: list[model.DisclosurePurpose] | None = strawberry.field(
        default=None,
        description="Selects the disclosures for one of these purposes. An empty list selects none.",
    )
    earliest_date: date | None = strawberry.field(
        default=None, description="Selects the disclosures on or after this day."
    )
    latest_date: date | None = strawberry.field(
        default=None, description="Selects the disclosures on or before this day."
    )
    only_accounted: bool = strawberry.field(
        default=False,
        description=(
            "If it is true, the filter selects only the disclosures that an accounting would contain now (45 CFR "
            "164.528): no treatment, payment or operations, none to the patient, and none under a suspension."
        ),
    )


@strawberry.input(description="This filters suspensions. A field that is omitted matches every suspension.")
class DisclosureSuspensionFilter:
    patient: PatientBy | None = strawberry.field(
        default=None, description="Selects the suspensions of this patient's right."
    )


@strawberry.input(description="This person or entity received disclosed information.")
class DisclosureRecipientInput:
    name: str = strawberry.field(
        description="This is the name of the person or entity, with 1 to 200 characters."
    )
    address: str | None = strawberry.field(
        default=None,
        description="This is the address of the person or entity, with 1 to 500 characters.",
    )


@strawberry.input(description="This is the patient's written authorization of a disclosure (45 CFR 164.508).")
class DisclosureAuthorizationInput:
    signed_on: date = strawberry.field(description="This is the day on which the patient signed.")
    expires_on: date | None = strawberry.field(
        default=None, description="This is the last day of the authorization, if the document names one."
    )
    reference: str | None = strawberry.field(
        default=None, description="This says where the practice keeps the document, with 1 to 200 characters."
    )

    def to_model(self) -> model.Authorization:
        return model.Authorization(self.signed_on, self.expires_on, self.reference)


@strawberry.input(description="With this input, a compliance officer records a disclosure.")
class RecordDisclosureInput:
    patient: PatientBy = strawberry.field(description="This is the patient whose information was disclosed.")
    consultation: ConsultationBy | None = strawberry.field(
        default=None,
        description=(
            "This is the patient's consultation that the information is about. It is omitted if the information is "
            "about more than one."
        ),
    )
    disclosed_on: date = strawberry.field(
        description="This is the day of the disclosure, or of the first disclosure of a series."
    )
    last_disclosed_on: date | None = strawberry.field(
        default=None, description="This is the day of the last disclosure of a series."
    )
    disclosure_count: int = strawberry.field(
        default=1, description="This says how many disclosures the series has, at most 100,000."
    )
    recipient: DisclosureRecipientInput = strawberry.field(
        description="This person or entity received the information."
    )
    description: str = strawberry.field(
        description="This is a short description of the disclosed information, with 1 to 2,000 characters."
    )
    purpose: model.DisclosurePurpose = strawberry.field(description="This is the purpose of the disclosure.")
    purpose_statement: str | None = strawberry.field(
        default=None,
        description="This states the purpose in more detail for the patient, with 1 to 1,000 characters.",
    )
    authorization: DisclosureAuthorizationInput | None = strawberry.field(
        default=None,
        description="This is the patient's authorization. The purpose AUTHORIZATION requires it.",
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)

    def to_model(self) -> model.NewDisclosure:
        return model.NewDisclosure(
            self.disclosed_on,
            self.last_disclosed_on,
            self.disclosure_count,
            self.purpose,
            self.recipient.name,
            self.recipient.address,
            self.description,
            self.purpose_statement,
            self.authorization.to_model() if self.authorization else None,
        )


@strawberry.type(description="`recordDisclosure` returns the recorded disclosure.")
class RecordDisclosurePayload:
    disclosure: Disclosure = strawberry.field(description="This is the recorded disclosure.")


@strawberry.input(
    description="With this input, a compliance officer suspends a patient's right to see disclosures to an agency."
)
class SuspendDisclosuresInput:
    patient: PatientBy = strawberry.field(description="This is the patient whose right is suspended.")
    agency: model.SuspendingAgency = strawberry.field(description="This is the kind of agency that asked.")
    official: str = strawberry.field(
        description="This names the agency, or the official who asked for the suspension, with 1 to 200 characters."
    )
    is_written: bool = strawberry.field(description="This says whether the agency's statement is in writing.")
    ends_at: datetime = strawberry.field(
        description=(
            "This is when the suspension ends: after at most 30 days for an oral statement, and after at most 6 years "
            "for a written one."
        )
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`suspendDisclosures` returns the suspension, which is in effect.")
class SuspendDisclosuresPayload:
    disclosure_suspension: DisclosureSuspension = strawberry.field(
        description="This is the new suspension, which is in effect."
    )


@strawberry.input(description="With this input, a compliance officer lifts a suspension before its time.")
class LiftDisclosureSuspensionInput:
    disclosure_suspension_id: strawberry.ID = strawberry.field(
        description="This is the id of a suspension that is in effect."
    )


@strawberry.type(description="`liftDisclosureSuspension` returns the suspension, which has ended.")
class LiftDisclosureSuspensionPayload:
    disclosure_suspension: DisclosureSuspension = strawberry.field(
        description="This is the suspension after the change."
    )


async def disclosures(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: DisclosureFilter | None = None,
) -> Connection[Disclosure] | None:
    """List all recorded disclosures, the latest day first."""
    wanted = filter or DisclosureFilter()
    page = await info.context.services.disclosures.page(
        await info.context.asker(),
        page_request(first, after),
        select(info, "edges", "node"),
        patient=wanted.patient.to_model() if wanted.patient else None,
        since=wanted.earliest_date,
        until=wanted.latest_date,
        purposes=wanted.purposes,
        only_accounted=wanted.only_accounted,
    )
    return Connection.of(page, lambda one: shown(Disclosure, one.row), lambda one: one.place)


async def list_released_copies(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: ReleasedCopyFilter | None = None,
) -> Connection[ReleasedCopy] | None:
    """List everything that left the system, newest first."""
    wanted = filter or ReleasedCopyFilter()
    page = await info.context.services.released_copies.page(
        await info.context.asker(),
        page_request(first, after),
        wanted.patient.to_model() if wanted.patient else None,
        wanted.released_during.to_model() if wanted.released_during else None,
        select(info, "edges", "node"),
    )
    return Connection.of(page, ReleasedCopy.of, lambda copy: Cursor(copy.event.recorded_at, copy.event.id))


async def disclosure_suspensions(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: DisclosureSuspensionFilter | None = None,
) -> Connection[DisclosureSuspension] | None:
    """List the suspensions, newest first."""
    page = await info.context.services.disclosures.suspensions(
        await info.context.asker(),
        page_request(first, after),
        filter.patient.to_model() if filter and filter.patient else None,
        select(info, "edges", "node"),
    )
    return Connection.of(page, lambda one: shown(DisclosureSuspension, one.row), lambda one: one.place)


async def record_disclosure(info: Info, input: RecordDisclosureInput) -> RecordDisclosurePayload | None:
    """Record a disclosure."""
    recorded = await info.context.services.disclosures.record(
        await info.context.asker(),
        input.patient.to_model(),
        input.consultation.to_model() if input.consultation else None,
        input.to_model(),
        select(info, "disclosure"),
        idempotency_key=input.idempotency_key,
    )
    return RecordDisclosurePayload(disclosure=shown(Disclosure, recorded))


async def suspend_disclosures(info: Info, input: SuspendDisclosuresInput) -> SuspendDisclosuresPayload | None:
    """Suspend a patient's right to see the disclosures to an agency."""
    placed = await info.context.services.disclosures.suspend(
        await info.context.asker(),
        input.patient.to_model(),
        model.NewSuspension(input.agency, input.is_written, input.ends_at, input.official),
        select(info, "disclosureSuspension"),
        idempotency_key=input.idempotency_key,
    )
    return SuspendDisclosuresPayload(disclosure_suspension=shown(DisclosureSuspension, placed))


async def lift_disclosure_suspension(
    info: Info, input: LiftDisclosureSuspensionInput
) -> LiftDisclosureSuspensionPayload | None:
    """Lift a suspension before its time."""
    ended = await info.context.services.disclosures.lift_suspension(
        await info.context.asker(),
        parse_id(input.disclosure_suspension_id),
        select(info, "disclosureSuspension"),
    )
    return LiftDisclosureSuspensionPayload(disclosure_suspension=shown(DisclosureSuspension, ended))
