"""Helpers for tests of retention policies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from psycopg.types.json import Jsonb

from app.retention.model import RetentionPolicy, Terms
from tests.api.harness import ApiHarness

POLICY = (
    "{ id name status sha256 recordingDays signedNoteDays kinds { kind recordingDays signedNoteDays }"
    " minorsUntilAgeYears graceDays jurisdiction appliesToExisting needsSecondApproval shortenedTerms"
    " approvedBy { id } proposedAt"
    " activatedAt }"
)
POLICIES = f"""
query ($first: Int! = 25, $after: String) {{
  retentionPolicies(first: $first, after: $after) {{
    edges {{ cursor node {POLICY} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
PREVIEW = (
    "query($policyId: ID!) { retentionPreview(policyId: $policyId) {"
    " firstDeletionAt months { startsOn recordingCount sizeBytes soonerCount heldCount"
    " signedNoteCount heldSignedNoteCount } } }"
)
APPROVE_POLICY = (
    "mutation($policyId: ID!) { approveRetentionPolicy(input: {policyId: $policyId}) {"
    f" retentionPolicy {POLICY} supersededPolicy {POLICY} }} }}"
)
REJECT_POLICY = (
    "mutation($policyId: ID!) { rejectRetentionPolicy(input: {policyId: $policyId}) {"
    f" retentionPolicy {POLICY} }} }}"
)
STORAGE_REPORT = (
    "query { storageReport { sizeBytes storedBytes { retentionClass ageFromDays objectCount sizeBytes }"
    " dueRecordingCount dueBytes heldRecordingCount heldBytes storageUsdPerMonth requestsUsdPerMonth"
    " prices { storageUsdPerGbMonth classAUsdPerMillion classBUsdPerMillion asOf } } }"
)


async def propose_policy(harness: ApiHarness, days: int = 90, *, existing: bool = False) -> str:
    """Return the id of a retention policy that the database owner proposed to the officers."""
    policy = RetentionPolicy(
        name="any",
        default=Terms(days, 2557),
        kinds={"psychotherapy": Terms(3650, 3650)},
        minors_until_age_years=18,
        grace_days=7,
        jurisdiction=None,
        applies_to_existing=existing,
    )
    [row] = await harness.rows(
        "select private.propose_policy(%s, repeat('ab', 32), '', %s) as id", str(uuid4()), Jsonb(policy.terms)
    )
    return str(row["id"])


@asynccontextmanager
async def delete_policies_afterwards(harness: ApiHarness) -> AsyncIterator[None]:
    """Delete all retention policies at the end of the `with` block."""
    try:
        yield
    finally:
        await harness.rows(
            "update resguardo.recordings set due_at = null, retention_policy = null"
            " where retention_policy is not null returning id"
        )
        await harness.rows(
            "update resguardo.signed_notes set due_at = null, retention_policy = null"
            " where retention_policy is not null returning id"
        )
        await harness.rows("delete from resguardo.retention_approvals returning policy_id")
        await harness.rows("delete from resguardo.retention_policies returning id")
