"""Reads and writes the rows of the register. The caller opens the transaction in which a function runs."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from app.identity import permissions
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection
from app.vendor_agreements.model import AgreementBasis, AgreementGap, NewAgreement, VendorService

_sql = Queries(Path(__file__).with_name("queries.sql"))
_AGREEMENT: Final = EntityRead(
    entities=ENTITIES,
    entity="vendor_agreement",
    where="r.id = %(id)s",
    action=permissions.RECORD_VENDOR_AGREEMENT.action,
)
_AGREEMENTS: Final = EntityList(
    entities=ENTITIES,
    entity="vendor_agreement",
    one_of={"services": "r.service = v.value"},
    action=permissions.LIST_VENDOR_AGREEMENTS.action,
    time="recorded_at",
)


async def list_page(
    tx: Transaction, request: PageRequest, services: Sequence[VendorService] | None, selection: Selection
) -> Page[Row]:
    """Write the audit row and return a page of entries, newest first. Raises RateLimited (quota_pages)."""
    wanted = None if services is None else list(dict.fromkeys(services))
    return await _AGREEMENTS.page(tx, request, {"services": wanted}, selection)


async def record(tx: Transaction, agreement: NewAgreement) -> UUID:
    """Record an entry as a compliance officer, and return its id. The transaction must then call `show`. Raises
    Conflict (agreement_signed_ahead).
    """
    return UUID(str(await tx.value(_sql["record_agreement"], _values(agreement))))


async def record_as_owner(tx: Transaction, agreement: NewAgreement) -> UUID:
    """Record an entry as the owner, and return its id. Raises Conflict (agreement_signed_ahead)."""
    return UUID(str(await tx.value(_sql["record_agreement_as_owner"], _values(agreement))))


async def list_newest(tx: Transaction) -> list[NewAgreement]:
    """Return the newest entry of each service, without the signatory. Needs the owner's login."""
    rows = await tx.all(_sql["list_newest_agreements"])
    return [
        NewAgreement(
            VendorService(row["service"]),
            row["vendor"],
            row["version"],
            "",
            row["signed_on"],
            row["expires_on"],
            AgreementBasis(row["basis"]),
        )
        for row in rows
    ]


async def show(tx: Transaction, agreement_id: UUID, selection: Selection, action: LiteralString) -> Row:
    """Return an entry that the transaction has recorded, and write the audit row of the change."""
    shown = await _AGREEMENT.show(tx, selection, {"id": agreement_id}, action=action, is_counted=False)
    assert shown is not None  # noqa: S101 - recorded in this very transaction
    return shown


async def find_gaps(
    tx: Transaction, services: Collection[VendorService], within_days: int
) -> list[AgreementGap]:
    """Return the services without an agreement that is valid for this number of days from today."""
    values = {"services": sorted(services), "within_days": within_days}
    return [
        AgreementGap(VendorService(row["service"]), row["agreement_id"], row["expires_on"])
        for row in await tx.all(_sql["find_gaps"], values)
    ]


def _values(agreement: NewAgreement) -> dict[str, object]:
    return {
        "service": agreement.service.value,
        "vendor": agreement.vendor,
        "basis": agreement.basis.value,
        "version": agreement.version,
        "signatory": agreement.signatory,
        "signed_on": agreement.signed_on,
        "expires_on": agreement.expires_on,
    }
