"""Helpers for tests of disclosures."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.api.harness import ApiHarness, Person

_DISCLOSURE = """
  id patient { id externalId } consultation { id } disclosedOn lastDisclosedOn disclosureCount
  recipient { name address } description purpose purposeText purposeStatement
  authorization { signedOn expiresOn reference } isAccounted isSuspended redisclosureNotice recordedBy { id } recordedAt
"""
_SUSPENSION = """
  id patient { id } agency official isWritten startsAt endsAt isActive placedBy { id } liftedBy { id } liftedAt
"""
DISCLOSURES = f"""
query ($first: Int, $after: String, $filter: DisclosureFilter) {{
  disclosures(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_DISCLOSURE} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
SUSPENSIONS = f"""
query ($first: Int, $after: String, $filter: DisclosureSuspensionFilter) {{
  disclosureSuspensions(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_SUSPENSION} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
RELEASED_COPIES = """
query ($first: Int, $after: String, $filter: ReleasedCopyFilter) {
  releasedCopies(first: $first, after: $after, filter: $filter) {
    edges { cursor node { id kind event { id recordedAt action actor { id } patientIds } } }
    pageInfo { hasNextPage endCursor }
  }
}
"""
RECORD_DISCLOSURE = f"""
mutation ($disclosure: RecordDisclosureInput!) {{
  recordDisclosure(input: $disclosure) {{ disclosure {{ {_DISCLOSURE} }} }}
}}
"""
SUSPEND_DISCLOSURES = f"""
mutation ($suspension: SuspendDisclosuresInput!) {{
  suspendDisclosures(input: $suspension) {{ disclosureSuspension {{ {_SUSPENSION} }} }}
}}
"""
LIFT_SUSPENSION = f"""
mutation ($suspensionId: ID!) {{
  liftDisclosureSuspension(input: {{disclosureSuspensionId: $suspensionId}}) {{
    disclosureSuspension {{ {_SUSPENSION} }}
  }}
}}
"""


def disclosure_input(patient_id: str, **other: object) -> dict[str, Any]:
    """Return the input of a disclosure to a public health department."""
    return {
        "patient": {"id": patient_id},
        "disclosedOn": "2026-10-05",
        "recipient": {"name": "Health Department", "address": "1 Main Street"},
        "description": "Report of one case",
        "purpose": "PUBLIC_HEALTH",
    } | other


def suspension_input(harness: ApiHarness, patient_id: str, **other: object) -> dict[str, Any]:
    """Return the input of a written suspension by law enforcement for one year."""
    return {
        "patient": {"id": patient_id},
        "agency": "LAW_ENFORCEMENT",
        "official": "Sheriff of the county",
        "isWritten": True,
        "endsAt": (harness.practice.now() + timedelta(days=365)).isoformat(),
    } | other


async def insert_suspension(harness: ApiHarness, patient_id: str, officer: Person) -> UUID:
    """Return the id of a suspension that the helper inserts with SQL."""
    (row,) = await harness.rows(
        "insert into resguardo.disclosure_suspensions (patient_id, agency, is_written, starts_at, ends_at, placed_by)"
        " values (%s, 'LAW_ENFORCEMENT', true, private.now(), private.now() + interval '1 day', %s) returning id",
        UUID(patient_id),
        officer.user_id,
    )
    return UUID(str(row["id"]))
