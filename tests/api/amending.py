"""Helpers for tests of amendments."""

from typing import Any
from uuid import UUID

from tests.api.harness import ApiHarness, Case, Person

_AMENDMENT = """
  id patient { id } consultation { id } part recordingId status channel isByRepresentative receivedOn dueOn isOverdue
  extension { reason extendedAt } decidedBy { id } decidedAt denialGround inclusionAskedAt createdAt
  statements { kind text personsToInform madeBy { id } madeAt }
"""
AMENDMENTS = f"""
query ($first: Int, $after: String, $filter: AmendmentFilter) {{
  amendments(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_AMENDMENT} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
REQUEST_AMENDMENT = f"""
mutation ($amendment: RequestAmendmentInput!) {{
  requestAmendment(input: $amendment) {{ amendment {{ {_AMENDMENT} }} }}
}}
"""
RECORD_AMENDMENT = f"""
mutation ($letter: RecordAmendmentRequestInput!) {{
  recordAmendmentRequest(input: $letter) {{ amendment {{ {_AMENDMENT} }} }}
}}
"""
EXTEND_AMENDMENT = f"""
mutation ($amendmentId: ID!, $days: Int! = 30) {{
  extendAmendment(input: {{amendmentId: $amendmentId, reason: VOLUME, days: $days}}) {{ amendment {{ {_AMENDMENT} }} }}
}}
"""
ACCEPT_AMENDMENT = f"""
mutation ($amendmentId: ID!, $text: String! = "The left knee", $persons: String) {{
  acceptAmendment(input: {{amendmentId: $amendmentId, text: $text, personsToInform: $persons}}) {{
    amendment {{ {_AMENDMENT} }}
  }}
}}
"""
DENY_AMENDMENT = f"""
mutation ($amendmentId: ID!, $denialGround: AmendmentDenialGround! = ACCURATE_AND_COMPLETE) {{
  denyAmendment(input: {{amendmentId: $amendmentId, ground: $denialGround, text: "The record is right"}}) {{
    amendment {{ {_AMENDMENT} }}
  }}
}}
"""
DISPUTE_AMENDMENT = f"""
mutation ($amendmentId: ID!) {{
  disputeAmendment(input: {{amendmentId: $amendmentId, text: "I disagree"}}) {{ amendment {{ {_AMENDMENT} }} }}
}}
"""
REBUT_AMENDMENT = f"""
mutation ($amendmentId: ID!) {{
  rebutAmendment(input: {{amendmentId: $amendmentId, text: "We looked again"}}) {{ amendment {{ {_AMENDMENT} }} }}
}}
"""
INCLUDE_AMENDMENT = f"""
mutation ($amendmentId: ID!) {{
  includeAmendment(input: {{amendmentId: $amendmentId}}) {{ amendment {{ {_AMENDMENT} }} }}
}}
"""


def amendment_input(case: Case, **other: object) -> dict[str, Any]:
    """Return the input of a request to amend the record of the consultation."""
    return {"consultation": {"id": case.id}, "part": "RECORD", "text": "It was the left knee"} | other


async def insert_amendment(harness: ApiHarness, case: Case, stage: str = "OPEN") -> str:
    """Return the id of an amendment that the helper inserts with SQL: OPEN, DENIED, or DISPUTED."""
    officer: Person | None = None if stage == "OPEN" else await harness.staff("compliance")
    (row,) = await harness.rows(
        "insert into resguardo.amendments (patient_id, consultation_id, doctor_id, part, channel, is_by_representative,"
        " filed_by, received_on, due_on, status, decided_by, decided_at, denial_ground)"
        " select c.patient_id, c.id, c.doctor_id, 'RECORD', 'LOGIN', false, %s, t.day, t.day + 60, %s, o.id,"
        " case when o.id is not null then private.now() end,"
        " case when o.id is not null then 'ACCURATE_AND_COMPLETE' end"
        " from resguardo.consultations as c, (select private.today()) as t (day), (select %s::uuid) as o (id)"
        " where c.id = %s returning id",
        case.patient.user_id,
        "OPEN" if officer is None else "DENIED",
        officer.user_id if officer else None,
        UUID(case.id),
    )
    amendment = str(row["id"])
    if stage == "DISPUTED":
        await harness.rows(
            "insert into private.amendment_statements (amendment_id, kind, made_by) values (%s, 'DISAGREEMENT', %s)"
            " returning id",
            UUID(amendment),
            case.patient.user_id,
        )
    return amendment


STAGES = {
    "disputeAmendment": "DENIED",
    "rebutAmendment": "DISPUTED",
    "includeAmendment": "DENIED",
}
"""The stage of the amendment that each of these mutations needs. Every other mutation needs an OPEN amendment."""
