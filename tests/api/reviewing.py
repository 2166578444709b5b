"""Helpers for tests of review cases."""

from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from tests.api.harness import ApiHarness, Person

CASE = """
  id rule subject { id } status eventCount listedEventCount patientIds consultationIds hasMorePatients
  firstEventAt lastEventAt openedAt assignedTo { id } disposition dispositionText decidedBy { id } decidedAt
"""
EVENTS = """
  events(first: $firstEvents) {
    edges { cursor node {
      id recordedAt occurredAt actor { id } action outcome reason basis address patientIds consultationIds
    } } pageInfo { hasNextPage endCursor }
  }
"""
REVIEW_CASES = f"""
query ($first: Int, $after: String, $filter: ReviewCaseFilter) {{
  reviewCases(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {CASE} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
REVIEW_CASE = f"""
query ($caseId: ID!, $firstEvents: Int = 25) {{ reviewCase(reviewCaseId: $caseId) {{ {CASE} {EVENTS} }} }}
"""
RECORD_DISPOSITION = f"""
mutation ($caseId: ID!, $disposition: Disposition! = APPROPRIATE, $text: String! = "She covered for a colleague.") {{
  recordDisposition(input: {{reviewCaseId: $caseId, disposition: $disposition, text: $text}}) {{
    reviewCase {{ {CASE} }}
  }}
}}
"""
ASSIGN_REVIEW_CASE = f"""
mutation ($caseId: ID!, $officerId: ID) {{
  assignReviewCase(input: {{reviewCaseId: $caseId, officerId: $officerId}}) {{ reviewCase {{ {CASE} }} }}
}}
"""

POLICY = "{ id name status sha256 source proposedAt activatedAt approvedBy { id } }"
REVIEW_RULES = f"""
query {{ reviewRules {{
  rules {{ rule status matchedEventCount evaluatedEventCount isMatchingTooMuch }} policies {POLICY}
}} }}
"""
APPROVE_RULES = f"""
mutation ($policyId: ID!) {{ approveReviewPolicy(input: {{policyId: $policyId}}) {{ reviewPolicy {POLICY} }} }}
"""
REJECT_RULES = f"""
mutation ($policyId: ID!) {{ rejectReviewPolicy(input: {{policyId: $policyId}}) {{ reviewPolicy {POLICY} }} }}
"""


async def propose_rules(harness: ApiHarness) -> str:
    """Return the id of a version of the rules that the owner proposed. No rule of it is enabled."""
    (row,) = await harness.rows(
        "select private.propose_review_policy(%s, repeat('ab', 32), 'x', %s) as id",
        str(uuid4()),
        Jsonb({"time_zone": "UTC", "rules": {"self": {"enabled": False}}}),
    )
    return str(row["id"])


async def open_case(
    harness: ApiHarness,
    subject: Person | UUID | None,
    *,
    patient_id: str | None = None,
    consultation_id: str | None = None,
    event_count: int = 1,
) -> str:
    """Open a case about new events of the subject, and return its id. The helper inserts it with SQL."""
    subject_id = subject.user_id if isinstance(subject, Person) else subject
    (row,) = await harness.rows(
        "with made as (insert into audit.events (actor_id, actor_role, action, operation, outcome, purpose, basis,"
        " patient_ids, consultation_ids, policy_version)"
        " select %s, 'clinician', 'recording.read', 'R', 'DENIED', 'TREATMENT', 'refused',"
        " array_remove(array[%s::uuid], null), array_remove(array[%s::uuid], null), ''"
        " from generate_series(1, %s) returning id) select array_agg(id) as ids from made",
        subject_id,
        patient_id,
        consultation_id,
        event_count,
    )
    (opened,) = await harness.rows(
        "select private.open_case('denied_burst', %s, array_remove(array[%s::uuid], null),"
        " array_remove(array[%s::uuid], null), %s, %s) as id",
        subject_id,
        patient_id,
        consultation_id,
        row["ids"],
        str(uuid4()),
    )
    return str(opened["id"])
