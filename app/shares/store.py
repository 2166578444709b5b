"""The database rows of shares, and of the authorizations that sensitive consultations need."""

from dataclasses import asdict
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

from app.errors import NotFound
from app.identity import permissions
from app.postgres.composer import EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.queries import Queries
from app.postgres.selection import Selection
from app.shares.model import ShareOrder, SignedAuthorization

Found = TypeVar("Found")
_sql = Queries(Path(__file__).with_name("queries.sql"))
_SHARE: Final = EntityRead(
    entities=ENTITIES, entity="share", where="r.id = %(id)s", action=permissions.SHARE_CONSULTATION.action
)
_AUTHORIZATION: Final = EntityRead(
    entities=ENTITIES,
    entity="sharing_authorization",
    where="r.id = %(id)s",
    action=permissions.AUTHORIZE_SHARING.action,
)


async def share(tx: Transaction, order: ShareOrder) -> UUID:
    """Share a consultation. The transaction must then call `show_share`, or its commit writes the audit row. Raises
    NotFound, and Conflict as `private.share_consultation`.
    """
    found: UUID | None = await tx.value(_sql["share"], asdict(order))
    return _require(found, "consultation_not_found")


async def end_share(tx: Transaction, share_id: UUID) -> UUID:
    """End a share. Otherwise like `share`."""
    found: UUID | None = await tx.value(_sql["end_share"], {"id": share_id})
    return _require(found, "share_not_found")


async def authorize(tx: Transaction, signed: SignedAuthorization) -> UUID:
    """Record an authorization. Otherwise like `share`, with `show_authorization`."""
    found: UUID | None = await tx.value(_sql["authorize"], asdict(signed))
    return _require(found, "consultation_not_found")


async def withdraw_authorization(tx: Transaction, authorization_id: UUID) -> UUID:
    """Record that the patient has withdrawn an authorization. Otherwise like `authorize`."""
    found: UUID | None = await tx.value(_sql["withdraw_authorization"], {"id": authorization_id})
    return _require(found, "authorization_not_found")


async def show_share(
    tx: Transaction, share_id: UUID, selection: Selection, action: permissions.Permission
) -> Row:
    """Return a share that the transaction has changed, and write the audit row of the change."""
    shown = await _SHARE.show(tx, selection, {"id": share_id}, action=action.action, is_counted=False)
    return _require(shown, "share_not_found")


async def show_authorization(
    tx: Transaction, authorization_id: UUID, selection: Selection, action: permissions.Permission
) -> Row:
    """Return an authorization that the transaction has changed, and write the audit row of the change."""
    about = {"id": authorization_id}
    shown = await _AUTHORIZATION.show(tx, selection, about, action=action.action, is_counted=False)
    return _require(shown, "authorization_not_found")


def _require(found: Found | None, reason: str) -> Found:
    if found is None:
        raise NotFound(reason)
    return found
