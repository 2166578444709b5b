"""Makes the receipts of an evidence pack, which its verifier accepts under the policy in the pack."""

from uuid import UUID

from app.audit.verification.receipts import Receipt, make_receipt
from app.errors import Conflict
from app.postgres.database import Database
from app.transparency_log.errors import TransparencyLogError
from app.transparency_log.policies import Policy
from app.transparency_log.proofs import TransparencyProof


async def find_receipt(database: Database, event_id: UUID, policy: str) -> Receipt | None:
    """Return the receipt of an event. Return None if the event is not sealed yet, or if too few witnesses of the policy
    have cosigned a checkpoint that covers the event. Raises NotFound, and Conflict if there will never be a receipt.
    """
    try:
        async with database.as_service("make_audit_receipt") as tx:
            receipt = await make_receipt(tx, event_id)
    except Conflict as error:
        if error.reason != "audit_event_not_sealed":
            raise
        return None
    return receipt if _meets(receipt, policy) else None


def _meets(receipt: Receipt, policy: str) -> bool:
    try:
        Policy.parse(policy.encode()).evaluate(TransparencyProof.parse(receipt.proof).note)
    except TransparencyLogError:
        return False
    return True
