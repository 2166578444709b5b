"""Helpers for tests of access requests."""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from tests.api.harness import ApiHarness, Case

_REQUEST = """
  id patient { id externalId } consultation { id externalId }
  status channel representative { relationship name } receivedOn dueOn isOverdue
  extension { reason extendedAt } decidedAt
  denial { ground isReviewable determinedBy { id } reviewAskedAt reviewedBy { id } reviewedAt
    reviewOutcome message }
  export { status problem { code message } sizeBytes fileCount signedNoteCount missingFileCount
    expiresAt secretRevealedAt } fulfilledAt createdAt
"""
ACCESS_REQUESTS = f"""
query ($first: Int, $after: String, $filter: AccessRequestFilter) {{
  accessRequests(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_REQUEST} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
_PAYLOAD = f"accessRequest {{ {_REQUEST} }}"
REQUEST_ACCESS = f"""
mutation ($request: RequestAccessInput!) {{ requestAccess(input: $request) {{ {_PAYLOAD} }} }}
"""
RECORD_REQUEST = f"""
mutation ($written: RecordAccessRequestInput!) {{ recordAccessRequest(input: $written) {{ {_PAYLOAD} }} }}
"""
WITHDRAW_REQUEST = f"""
mutation ($requestId: ID!) {{ withdrawAccessRequest(input: {{accessRequestId: $requestId}}) {{ {_PAYLOAD} }} }}
"""
APPROVE_REQUEST = f"""
mutation ($requestId: ID!) {{ approveAccessRequest(input: {{accessRequestId: $requestId}}) {{ {_PAYLOAD} }} }}
"""
DENY_REQUEST = f"""
mutation ($requestId: ID!, $ground: AccessDenialGround!, $determinedBy: ID) {{
  denyAccessRequest(input: {{accessRequestId: $requestId, ground: $ground, determinedById: $determinedBy}}) {{
    {_PAYLOAD}
  }}
}}
"""
EXTEND_REQUEST = f"""
mutation ($requestId: ID!, $extension: AccessExtensionReason!, $days: Int! = 30) {{
  extendAccessRequest(input: {{accessRequestId: $requestId, reason: $extension, days: $days}}) {{ {_PAYLOAD} }}
}}
"""
ASK_REVIEW = f"""
mutation ($requestId: ID!) {{ askAccessReview(input: {{accessRequestId: $requestId}}) {{ {_PAYLOAD} }} }}
"""
RECORD_REVIEW = f"""
mutation ($requestId: ID!, $reviewerId: ID!, $outcome: AccessReviewOutcome!) {{
  recordAccessReview(input: {{accessRequestId: $requestId, reviewerId: $reviewerId, outcome: $outcome}}) {{
    {_PAYLOAD}
  }}
}}
"""
ISSUE_EXPORT_URL = """
mutation ($requestId: ID!) {
  issueAccessExportUrl(input: {accessRequestId: $requestId}) {
    accessExportUrl { url expiresAt expiresInSeconds instructions }
  }
}
"""
REVEAL_SECRET = """
mutation ($requestId: ID!) {
  revealAccessExportSecret(input: {accessRequestId: $requestId}) {
    accessRequest { id patient { externalId } export { secretRevealedAt } } secret
  }
}
"""

Stage = Literal["OPEN", "DENIED", "IN REVIEW", "FULFILLED"]
STAGES: dict[str, Stage] = {
    "askAccessReview": "DENIED",
    "recordAccessReview": "IN REVIEW",
    "issueAccessExportUrl": "FULFILLED",
    "revealAccessExportSecret": "FULFILLED",
    "accessEntries": "FULFILLED",
    "recordingSummaries": "FULFILLED",
}
"""The stage that a request needs before a field acts on it. Fields that are not listed need OPEN."""


async def insert_access_request(
    harness: ApiHarness, case: Case, stage: Stage = "OPEN", channel: Literal["LOGIN", "WRITTEN"] = "LOGIN"
) -> UUID:
    """Return the id of an access request for all recordings of the patient. The helper inserts the access request
    with SQL, directly at the given stage.
    """
    now = datetime(2026, 11, 21, 9, tzinfo=UTC)
    columns: dict[str, Any] = {}
    if stage in ("DENIED", "IN REVIEW"):
        columns |= {"denial_ground": "ENDANGERS_LIFE", "determined_by": case.doctor.user_id}
    if stage == "IN REVIEW":
        columns["review_asked_at"] = now
    if stage == "FULFILLED":
        columns |= {"fulfilled_at": now, "export_status": "READY"}
    request = harness.practice.access_request(
        UUID(case.patient_id),
        case.patient.user_id,
        channel=channel,
        status="OPEN" if stage == "IN REVIEW" else stage,
        decided_at=harness.practice.now(),
        export_size_bytes=1000,
        **columns,
    )
    if stage == "FULFILLED":
        await harness.rows(
            "insert into private.access_exports (request_id, object_key, recording_ids, files, secret, ready_at,"
            " expires_at) values (%s, %s, '{}', 1, 'ABCD', now(), now() + interval '30 days')",
            request,
            f"exports/{request}/{uuid4()}.zip",
        )
    return request
