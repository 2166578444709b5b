"""Helpers for tests of access requests."""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from tests.api.harness import ApiHarness, Case

_REQUEST = """
  id patientId consultationId status channel representative { relationship name } receivedOn dueOn isOverdue
  extension { reason extendedAt } decidedAt
  denial { ground isReviewable determinedBy reviewAskedAt reviewedBy reviewedAt reviewOutcome text }
  export { status error sizeBytes recordings missing expiresAt secretRevealedAt } fulfilledAt createdAt
"""
ACCESS_REQUESTS = f"""
query ($first: Int, $after: String, $status: AccessRequestStatus) {{
  accessRequests(first: $first, after: $after, status: $status) {{
    edges {{ cursor node {{ {_REQUEST} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
REQUEST_ACCESS = (
    f"mutation ($request: AccessRequestInput!) {{ requestAccess(request: $request) {{ {_REQUEST} }} }}"
)
RECORD_REQUEST = f"""
mutation ($written: WrittenAccessRequestInput!) {{
  recordAccessRequest(request: $written) {{ {_REQUEST} }}
}}
"""
WITHDRAW_REQUEST = f"mutation ($requestId: ID!) {{ withdrawAccessRequest(id: $requestId) {{ {_REQUEST} }} }}"
APPROVE_REQUEST = f"mutation ($requestId: ID!) {{ approveAccessRequest(id: $requestId) {{ {_REQUEST} }} }}"
DENY_REQUEST = f"""
mutation ($requestId: ID!, $ground: DenialGround!, $determinedBy: ID) {{
  denyAccessRequest(id: $requestId, ground: $ground, determinedBy: $determinedBy) {{ {_REQUEST} }}
}}
"""
EXTEND_REQUEST = f"""
mutation ($requestId: ID!, $extension: AccessExtensionReason!, $days: Int! = 30) {{
  extendAccessRequest(id: $requestId, reason: $extension, days: $days) {{ {_REQUEST} }}
}}
"""
ASK_REVIEW = f"mutation ($requestId: ID!) {{ askAccessReview(id: $requestId) {{ {_REQUEST} }} }}"
RECORD_REVIEW = f"""
mutation ($requestId: ID!, $reviewerId: ID!, $outcome: AccessReviewOutcome!) {{
  recordAccessReview(id: $requestId, reviewerId: $reviewerId, outcome: $outcome) {{ {_REQUEST} }}
}}
"""
ISSUE_EXPORT_URL = "mutation ($requestId: ID!) { issueExportUrl(id: $requestId) { url expiresAt howToOpen } }"
REVEAL_SECRET = "mutation ($requestId: ID!) { revealExportSecret(id: $requestId) { secret } }"

Stage = Literal["OPEN", "DENIED", "IN REVIEW", "FULFILLED"]
STAGES: dict[str, Stage] = {
    "askAccessReview": "DENIED",
    "recordAccessReview": "IN REVIEW",
    "issueExportUrl": "FULFILLED",
    "revealExportSecret": "FULFILLED",
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
