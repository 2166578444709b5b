"""GraphQL inputs, results and root fields of the mutations that change a breach assessment or record a sanction."""

from datetime import date

import strawberry

from app.breaches import model
from app.postgres.selection import Selection
from graphql_schema.audit import AuditEventFilter
from graphql_schema.breaches import BreachAssessment, Sanction
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id, parse_optional_id
from graphql_schema.selected_fields import select

_ID = "This is the id of an assessment that the caller may read."
_LATE = (
    "This says why the step comes after the deadline. It is required after the deadline, and ignored before."
)


@strawberry.type
class BreachAssessmentPayload:
    """The base of the results of all mutations that change an assessment. The schema does not contain it."""

    breach_assessment: BreachAssessment = strawberry.field(
        description="This is the assessment after the change."
    )


def _select(info: Info) -> Selection:
    return select(info, "breachAssessment")


@strawberry.input(description="With this input, a compliance officer opens a breach assessment by hand.")
class OpenBreachAssessmentInput:
    filter: AuditEventFilter = strawberry.field(
        description=(
            "This selects the audit events of the incident, as in the list `auditEvents`. It needs the beginning and "
            "the end of `recordedDuring`. Refused accesses do not count."
        )
    )
    discovered_on: date = strawberry.field(
        description=(
            "This is the first day in UTC on which anybody but the subject knew of the incident, or should have known "
            "of it with reasonable diligence. The deadline of 60 days counts from this day."
        )
    )
    subject_id: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "This is the user id of the member of staff whose access is assessed. By default, it is the actor of the "
            "filter."
        ),
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`openBreachAssessment` returns the assessment, which is OPEN.")
class OpenBreachAssessmentPayload(BreachAssessmentPayload):
    pass


@strawberry.input(description="With this input, the affected patients are read from the audit log again.")
class RecountBreachInput:
    breach_assessment_id: strawberry.ID = strawberry.field(description=_ID)


@strawberry.type(description="`recountBreach` returns the assessment, whose count begins again.")
class RecountBreachPayload(BreachAssessmentPayload):
    pass


@strawberry.input(description="With this input, a compliance officer records one of the four factors.")
class RecordBreachFactorInput:
    breach_assessment_id: strawberry.ID = strawberry.field(description=_ID)
    factor: model.BreachFactorKind = strawberry.field(description="This says which factor is recorded.")
    risk: model.BreachRisk = strawberry.field(
        description="This is the risk that the factor adds to the probability of a compromise."
    )
    rationale: str = strawberry.field(
        description=(
            "This is the reason for the risk, in 1 to 2,000 characters. It should name nobody, because ids are enough."
        )
    )


@strawberry.type(description="`recordBreachFactor` returns the assessment with the factor.")
class RecordBreachFactorPayload(BreachAssessmentPayload):
    pass


@strawberry.input(
    description="With this input, a compliance officer records that law enforcement asks for a delay."
)
class DelayBreachNoticesInput:
    breach_assessment_id: strawberry.ID = strawberry.field(description=_ID)
    statement: model.DelayStatement = strawberry.field(
        description="This says how law enforcement stated that a notice would impede an investigation."
    )
    delay_ends_on: date = strawberry.field(
        description="This is the last day of the delay. After an oral statement, it is at most 30 days from today."
    )


@strawberry.type(description="`delayBreachNotices` returns the assessment with its new deadline.")
class DelayBreachNoticesPayload(BreachAssessmentPayload):
    pass


@strawberry.input(description="This is how many affected patients live in one state or jurisdiction.")
class BreachResidentsInput:
    jurisdiction: str = strawberry.field(
        description="These are the two capital letters of the state or jurisdiction."
    )
    count: int = strawberry.field(description="This is the number of affected patients who live there.")


@strawberry.input(description="With this input, a compliance officer decides on a breach assessment.")
class DecideBreachInput:
    breach_assessment_id: strawberry.ID = strawberry.field(description=_ID)
    decision: model.BreachDecision = strawberry.field(description="This is the decision, which is final.")
    residents: list[BreachResidentsInput] | None = strawberry.field(
        default=None,
        description=(
            "These are the numbers of affected patients in each state or jurisdiction. Each patient counts once. A "
            "jurisdiction with more than 500 affected patients needs a notice to the media. If this field is omitted, "
            "all patients count as residents of one jurisdiction."
        ),
    )
    late_reason: model.BreachLateReason | None = strawberry.field(default=None, description=_LATE)


@strawberry.type(description="`decideBreach` returns the assessment with the decision.")
class DecideBreachPayload(BreachAssessmentPayload):
    pass


@strawberry.input(description="With this input, a compliance officer records a notice that was sent.")
class RecordBreachNoticeInput:
    breach_assessment_id: strawberry.ID = strawberry.field(description=_ID)
    kind: model.BreachNoticeKind = strawberry.field(description="This says to whom the notice was sent.")
    method: model.BreachNoticeMethod = strawberry.field(description="This says how the notice was sent.")
    sent_on: date = strawberry.field(description="This is the day on which the notice was sent.")
    jurisdiction: str | None = strawberry.field(
        default=None,
        description="These are the two capital letters of the state or jurisdiction of a notice to the media.",
    )
    late_reason: model.BreachLateReason | None = strawberry.field(default=None, description=_LATE)


@strawberry.type(description="`recordBreachNotice` returns the assessment with the notice.")
class RecordBreachNoticePayload(BreachAssessmentPayload):
    pass


@strawberry.input(description="With this input, a compliance officer records a sanction.")
class RecordSanctionInput:
    member_id: strawberry.ID = strawberry.field(
        description="This is the user id of the sanctioned member of staff."
    )
    category: model.SanctionCategory = strawberry.field(description="This is the category of the violation.")
    measure: model.SanctionMeasure = strawberry.field(
        description="This is what the practice imposed. The category must permit it."
    )
    imposed_on: date = strawberry.field(description="This is the day on which the sanction was imposed.")
    breach_assessment_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="This is the id of the breach assessment that the sanction follows, if one does.",
    )


@strawberry.type(description="`recordSanction` returns the recorded sanction.")
class RecordSanctionPayload:
    sanction: Sanction = strawberry.field(description="This is the recorded sanction.")


async def open_breach_assessment(
    info: Info, input: OpenBreachAssessmentInput
) -> OpenBreachAssessmentPayload | None:
    """Open a breach assessment of the events that a filter selects."""
    order = model.BreachOrder(
        input.filter.to_model(), parse_optional_id(input.subject_id), input.discovered_on
    )
    opened = await info.context.services.breaches.open(
        await info.context.asker(), order, _select(info), idempotency_key=input.idempotency_key
    )
    return OpenBreachAssessmentPayload(breach_assessment=shown(BreachAssessment, opened))


async def recount_breach(info: Info, input: RecountBreachInput) -> RecountBreachPayload | None:
    """Read the affected patients and recordings of an assessment from the audit log again."""
    changed = await info.context.services.breaches.recount(
        await info.context.asker(), parse_id(input.breach_assessment_id), _select(info)
    )
    return RecountBreachPayload(breach_assessment=shown(BreachAssessment, changed))


async def record_breach_factor(
    info: Info, input: RecordBreachFactorInput
) -> RecordBreachFactorPayload | None:
    """Record one of the four factors of an assessment."""
    changed = await info.context.services.breaches.record_factor(
        await info.context.asker(),
        parse_id(input.breach_assessment_id),
        input.factor,
        input.risk,
        input.rationale,
        _select(info),
    )
    return RecordBreachFactorPayload(breach_assessment=shown(BreachAssessment, changed))


async def delay_breach_notices(
    info: Info, input: DelayBreachNoticesInput
) -> DelayBreachNoticesPayload | None:
    """Record that law enforcement asks for a delay of the notices."""
    changed = await info.context.services.breaches.delay(
        await info.context.asker(),
        parse_id(input.breach_assessment_id),
        input.statement,
        input.delay_ends_on,
        _select(info),
    )
    return DelayBreachNoticesPayload(breach_assessment=shown(BreachAssessment, changed))


async def decide_breach(info: Info, input: DecideBreachInput) -> DecideBreachPayload | None:
    """Decide whether an incident is a breach, and seal the decision."""
    residents = [model.Residents(one.jurisdiction, one.count) for one in input.residents or ()]
    changed = await info.context.services.breaches.decide(
        await info.context.asker(),
        parse_id(input.breach_assessment_id),
        input.decision,
        None if input.residents is None else residents,
        input.late_reason,
        _select(info),
    )
    return DecideBreachPayload(breach_assessment=shown(BreachAssessment, changed))


async def record_breach_notice(
    info: Info, input: RecordBreachNoticeInput
) -> RecordBreachNoticePayload | None:
    """Record a notice of a breach that was sent."""
    notice = model.NoticeOrder(input.kind, input.method, input.jurisdiction, input.sent_on, input.late_reason)
    changed = await info.context.services.breaches.record_notice(
        await info.context.asker(), parse_id(input.breach_assessment_id), notice, _select(info)
    )
    return RecordBreachNoticePayload(breach_assessment=shown(BreachAssessment, changed))


async def record_sanction(info: Info, input: RecordSanctionInput) -> RecordSanctionPayload | None:
    """Record a sanction against a member of staff."""
    order = model.SanctionOrder(
        parse_id(input.member_id),
        parse_optional_id(input.breach_assessment_id),
        input.category,
        input.measure,
        input.imposed_on,
    )
    made = await info.context.services.breaches.record_sanction(
        await info.context.asker(), order, select(info, "sanction")
    )
    return RecordSanctionPayload(sanction=shown(Sanction, made))
