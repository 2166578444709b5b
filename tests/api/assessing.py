"""Helpers for tests of breach assessments, sanctions and attestations."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.api.harness import ApiHarness, Case, Person

_SANCTION = "id member { id } category measure imposedOn recordedBy { id } createdAt"
_BREACH = f"""
  id subject {{ id }} status countStatus eventCount patientCount recordingCount discoveredOn dueOn nextDueOn isOverdue
  delayStatement delayEndsOn decision decidedBy {{ id }} decidedAt lateReason document sha256 auditEventId
  factors {{ factor risk rationale recordedBy {{ id }} recordedAt }}
  neededNotices {{ kind jurisdiction dueOn sentOn }}
  notices {{ kind method jurisdiction sentOn lateReason recordedBy {{ id }} recordedAt }}
  sanctions {{ {_SANCTION} }} openedBy {{ id }} createdAt closedAt
  patients(first: 5) {{ edges {{ cursor node {{ id externalId }} }} pageInfo {{ hasNextPage endCursor }} }}
  recordings(first: 5) {{ edges {{ cursor node {{ id recording {{ id }} }} }} pageInfo {{ hasNextPage endCursor }} }}
"""
_ATTESTATION = "id month attestedBy { id } findings note document sha256 auditEventId createdAt"
BREACH_ASSESSMENTS = f"""
query ($first: Int, $after: String, $filter: BreachAssessmentFilter) {{
  breachAssessments(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_BREACH} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
SANCTIONS = f"""
query ($first: Int, $after: String) {{
  sanctions(first: $first, after: $after) {{
    edges {{ cursor node {{ {_SANCTION} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
ATTESTATIONS = f"""
query ($first: Int, $after: String) {{
  attestations(first: $first, after: $after) {{
    edges {{ cursor node {{ {_ATTESTATION} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""


def _breach_mutation(name: str) -> str:
    kind = name[0].upper() + name[1:]
    return f"mutation ($breach: {kind}Input!) {{ {name}(input: $breach) {{ breachAssessment {{ {_BREACH} }} }} }}"


OPEN_BREACH = _breach_mutation("openBreachAssessment")
RECOUNT_BREACH = _breach_mutation("recountBreach")
RECORD_FACTOR = _breach_mutation("recordBreachFactor")
DELAY_NOTICES = _breach_mutation("delayBreachNotices")
DECIDE_BREACH = _breach_mutation("decideBreach")
RECORD_NOTICE = _breach_mutation("recordBreachNotice")
RECORD_SANCTION = f"""
mutation ($breach: RecordSanctionInput!) {{ recordSanction(input: $breach) {{ sanction {{ {_SANCTION} }} }} }}
"""
ATTEST_REVIEW = f"""
mutation ($breach: AttestReviewInput!) {{ attestReview(input: $breach) {{ attestation {{ {_ATTESTATION} }} }} }}
"""
MUTATIONS = {
    "openBreachAssessment": OPEN_BREACH,
    "recountBreach": RECOUNT_BREACH,
    "recordBreachFactor": RECORD_FACTOR,
    "delayBreachNotices": DELAY_NOTICES,
    "decideBreach": DECIDE_BREACH,
    "recordBreachNotice": RECORD_NOTICE,
    "recordSanction": RECORD_SANCTION,
    "attestReview": ATTEST_REVIEW,
}
FACTORS = ("NATURE_AND_EXTENT", "UNAUTHORIZED_PERSON", "ACQUIRED_OR_VIEWED", "MITIGATION")


async def today(harness: ApiHarness) -> date:
    """Return the day in UTC by the database's clock."""
    (row,) = await harness.rows("select private.today() as today")
    day: date = row["today"]
    return day


async def breach_input(harness: ApiHarness, actor: Person, **changes: Any) -> dict[str, Any]:
    """Return the input that opens an assessment of all that a person did in the last day."""
    now = harness.practice.now()
    return {
        "filter": {
            "actorId": str(actor.user_id),
            "recordedDuring": {
                "from": (now - timedelta(days=1)).isoformat(),
                "until": (now + timedelta(days=1)).isoformat(),
            },
        },
        "discoveredOn": str(await today(harness)),
        **changes,
    }


async def insert_breach(
    harness: ApiHarness,
    officer: Person,
    *,
    subject: UUID | None = None,
    discovered_days_ago: int = 0,
    patient: UUID | None = None,
    decided: str | None = None,
    count_status: str = "COUNTED",
    patient_count: int = 1,
) -> UUID:
    """Return the id of an assessment that the helper inserts with SQL: OPEN, or decided with this decision."""
    breach, now, day = uuid4(), harness.practice.now(), await today(harness)
    discovered = day - timedelta(days=discovered_days_ago)
    due = discovered + timedelta(days=60)
    harness.practice.insert(
        "resguardo.breach_assessments",
        id=breach,
        filter="(,,,,,,,,,,)",
        subject_id=subject,
        discovered_on=discovered,
        due_on=due,
        next_due_on=due,
        opened_by=officer.user_id,
        count_status=count_status,
        patient_count=patient_count,
        **{
            "status": "NOTIFYING",
            "decision": decided,
            "decided_by": officer.user_id,
            "decided_at": now,
            "sha256": "ab" * 32,
            "document": "{}",
            "event_id": uuid4(),
        }
        if decided
        else {},
    )
    if patient is not None:
        harness.practice.insert("resguardo.breach_patients", assessment_id=breach, patient_id=patient)
    return breach


async def last_month(harness: ApiHarness) -> str:
    """Return the newest month that is over, such as `2026-10`."""
    return ((await today(harness)).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")


async def breach_variables(harness: ApiHarness, field: str, case: Case) -> dict[str, Any]:
    """Return the variable `breach` of a mutation of this module, and no variable for another field."""
    return {"breach": await _breach_input_of(harness, field, case)} if field in MUTATIONS else {}


async def _breach_input_of(harness: ApiHarness, field: str, case: Case) -> dict[str, Any]:
    officer = await harness.staff("compliance")
    member = await harness.clinician()
    day = str(await today(harness))
    if field == "openBreachAssessment":
        return await breach_input(harness, member)
    if field == "recordSanction":
        return {
            "memberId": str(member.user_id),
            "category": "CARELESS",
            "measure": "TRAINING",
            "imposedOn": day,
        }
    if field == "attestReview":
        return {"month": await last_month(harness), "findings": ["NOTHING"]}
    decided = "BREACH" if field == "recordBreachNotice" else None
    breach = await insert_breach(harness, officer, patient=UUID(case.patient_id), decided=decided)
    given: dict[str, dict[str, Any]] = {
        "recountBreach": {},
        "recordBreachFactor": {"factor": "MITIGATION", "risk": "LOW", "rationale": "The copy was destroyed."},
        "delayBreachNotices": {
            "statement": "ORAL",
            "delayEndsOn": str(await today(harness) + timedelta(days=20)),
        },
        "decideBreach": {"decision": "BREACH"},
        "recordBreachNotice": {"kind": "SECRETARY", "method": "HHS_PORTAL", "sentOn": day},
    }
    return {"breachAssessmentId": str(breach), **given[field]}
