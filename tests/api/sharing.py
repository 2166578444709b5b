"""GraphQL documents and rows for tests of shares and emergency access."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tests.api.harness import ApiHarness, Case

SHARE: Final = (
    "id colleague { id } purpose mayWriteNotes endsAt endedAt endReason isActive consultation { id }"
)
_PAPER: Final = "id colleague { id } signedOn expiresAt withdrawnAt isActive consultation { id }"
SHARE_CONSULTATION: Final = f"""
mutation ($share: ShareConsultationInput!) {{ shareConsultation(input: $share) {{ share {{ {SHARE} }} }} }}
"""
END_SHARE: Final = f"""
mutation ($shareId: ID!) {{ endShare(input: {{shareId: $shareId}}) {{ share {{ {SHARE} }} }} }}
"""
RECORD_AUTHORIZATION: Final = f"""
mutation ($paper: RecordSharingAuthorizationInput!) {{
  recordSharingAuthorization(input: $paper) {{ sharingAuthorization {{ {_PAPER} }} }}
}}
"""
WITHDRAW_AUTHORIZATION: Final = f"""
mutation ($paperId: ID!) {{
  withdrawSharingAuthorization(input: {{sharingAuthorizationId: $paperId}}) {{ sharingAuthorization {{ {_PAPER} }} }}
}}
"""
_ACCESS: Final = "id clinician { id } patient { id externalId } reason beganAt endsAt isActive"
BREAK_GLASS: Final = f"""
mutation ($glass: BreakGlassInput!) {{ breakGlass(input: $glass) {{ emergencyAccess {{ {_ACCESS} }} }} }}
"""
EMERGENCY_ACCESSES: Final = f"""
query {{ emergencyAccesses(first: 5) {{ edges {{ node {{ {_ACCESS} }} }} }} }}
"""


def tomorrow() -> str:
    """Return a time that is one day ahead."""
    return (datetime.now(UTC) + timedelta(days=1)).isoformat()


def share_input(case: Case, colleague: object, **given: object) -> dict[str, Any]:
    """Return the GraphQL input of a share of the case's consultation until tomorrow."""
    shared = {
        "consultationId": case.id,
        "colleagueId": str(colleague),
        "purpose": "COVERAGE",
        "endsAt": tomorrow(),
    }
    return shared | given


def paper_input(case: Case, **given: object) -> dict[str, Any]:
    """Return the GraphQL input of an authorization of emergency access to the case's consultation."""
    return {"consultationId": case.id, "signedOn": "2026-11-01", "expiresAt": tomorrow()} | given


async def make_sensitive(harness: ApiHarness, case: Case) -> None:
    """Make the case's consultation one about psychotherapy."""
    await harness.rows(
        "update resguardo.consultations set sensitivity = 'PSYCHOTHERAPY' where id = %s returning id",
        UUID(case.id),
    )


async def insert_share(harness: ApiHarness, case: Case, colleague: UUID) -> str:
    """Insert a share of the case's consultation with this colleague, and return its id."""
    (row,) = await harness.rows(
        "insert into resguardo.shares (consultation_id, doctor_id, patient_id, colleague_id, shared_by, purpose,"
        " may_write_notes, began_at, ends_at) select c.id, c.doctor_id, c.patient_id, %s, c.doctor_id, 'COVERAGE',"
        " false, now(), now() + interval '1 day' from resguardo.consultations as c where c.id = %s returning id",
        colleague,
        UUID(case.id),
    )
    return str(row["id"])


async def insert_paper(harness: ApiHarness, case: Case) -> str:
    """Insert an authorization of emergency access to the case's consultation, and return its id."""
    (row,) = await harness.rows(
        "insert into resguardo.sharing_authorizations (consultation_id, doctor_id, patient_id, signed_on,"
        " is_signed_by_representative, expires_at, recorded_by, recorded_at) select c.id, c.doctor_id, c.patient_id,"
        " current_date, false, now() + interval '1 day', c.doctor_id, now() from resguardo.consultations as c"
        " where c.id = %s returning id",
        UUID(case.id),
    )
    return str(row["id"])


async def external_id_of(harness: ApiHarness, case: Case) -> str:
    """Return the external id of the case's patient."""
    (row,) = await harness.rows(
        "select external_id from resguardo.patients where id = %s", UUID(str(case.patient_id))
    )
    return str(row["external_id"])
