"""Helpers for tests of legal holds."""

from uuid import UUID, uuid4

from tests.api.harness import ApiHarness, Case

HOLD = (
    "{ id consultation { id externalId } patient { id externalId } recordedFrom recordedUntil"
    " matter custodian placedBy { id } placedAt"
    " releasedBy { id }"
    " releasedAt isActive }"
)
PLACE_HOLD = (
    "mutation($hold: PlaceLegalHoldInput!) { placeLegalHold(input: $hold) {"
    f" legalHold {HOLD} coveredRecordingCount coveredSignedNoteCount destroyingRecordingCount }} }}"
)
RELEASE_HOLD = (
    f"mutation($holdId: ID!) {{ releaseLegalHold(input: {{legalHoldId: $holdId}}) {{ legalHold {HOLD} }} }}"
)
LEGAL_HOLDS = (
    "query($first: Int, $after: String, $filter: LegalHoldFilter) {"
    " legalHolds(first: $first, after: $after, filter: $filter) {"
    f" edges {{ cursor node {HOLD} }} pageInfo {{ hasNextPage endCursor }} }} }}"
)


def hold_input(scope: dict[str, object], **texts: object) -> dict[str, object]:
    """Return the GraphQL input of a legal hold with this scope. The keyword arguments replace the default texts."""
    return {"scope": scope, "matter": "Doe v. Roe, 26-cv-1", "custodian": "Records office", **texts}


def on_patient(patient_id: str, **texts: object) -> dict[str, object]:
    """Return the GraphQL input of a legal hold on all recordings of a patient."""
    return hold_input({"patient": {"id": patient_id}}, **texts)


async def place_hold(harness: ApiHarness, case: Case) -> UUID:
    """Place a legal hold on all recordings of the consultation's patient, and return the id of the hold."""
    return harness.practice.hold(uuid4(), patient_id=UUID(case.patient_id))
