"""Reads and writes the database rows of attestations. The caller opens the transaction in which a function runs."""

from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from app.attestations.model import AttestationOrder
from app.identity import permissions
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_ATTESTATION: Final = EntityRead(
    entities=ENTITIES,
    entity="attestation",
    where="r.id = %(id)s",
    action=permissions.LIST_ATTESTATIONS.action,
)
_ATTESTATIONS: Final = EntityList(
    entities=ENTITIES, entity="attestation", action=permissions.LIST_ATTESTATIONS.action, time="created_at"
)


async def list_page(tx: Transaction, request: PageRequest, selection: Selection) -> Page[Row]:
    """Write the audit row and return a page of attestations, newest first. Raises RateLimited (quota_pages)."""
    return await _ATTESTATIONS.page(tx, request, {}, selection)


async def show(
    tx: Transaction, attestation_id: UUID, selection: Selection, action: LiteralString
) -> Row | None:
    """Return an attestation that the transaction has made, and write the audit row of the change."""
    return await _ATTESTATION.show(tx, selection, {"id": attestation_id}, action=action, is_counted=False)


async def attest(tx: Transaction, order: AttestationOrder, totp_max_age_seconds: int) -> UUID:
    """Attest a month, and return the id of the attestation. Raises Forbidden (totp_stale) and Conflict (bad_month,
    attested_already).
    """
    values = {
        "month": order.month,
        "findings": [one.value for one in order.findings],
        "note": order.note,
        "totp_max_age_seconds": totp_max_age_seconds,
    }
    made: UUID = await tx.value(_sql["attest_review"], values)
    return made
