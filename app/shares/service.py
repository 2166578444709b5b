"""The service with which a doctor shares a consultation with a colleague, and ends a share.

A share lets the colleague read the consultation, its recordings and the data that was made from them. The colleague
cannot download anything. The row level security policies decide which rows the colleague sees
(`policies/access/shares.sql`).
"""

from uuid import UUID

from app.idempotency.service import RepeatableCall
from app.identity import permissions
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.selection import Selection
from app.shares import store
from app.shares.model import ShareOrder, SignedAuthorization

_PLAIN = Selection()


class Shares:
    """The service. Each method writes one audit row, which names the returned row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def share(
        self,
        asker: Asker,
        order: ShareOrder,
        selection: Selection = _PLAIN,
        *,
        idempotency_key: str | None = None,
    ) -> Row:
        """Share the caller's own consultation with a colleague, who sees it at once. A repeated call with the same
        `idempotency_key` returns the share of the first call as it is now.

        Raises NotFound, InvalidInput (bad_idempotency_key), and Conflict (colleague_not_found, colleague_suspended,
        shared_with_oneself, shared_already, share_term, share_consent, share_not_authorized, too_many_shares,
        idempotency_key_reused).
        """
        call = RepeatableCall(
            "shareConsultation",
            idempotency_key,
            order.consultation_id,
            order.colleague_id,
            order.purpose,
            order.ends_at.isoformat(),
            int(order.may_write_notes),
        )
        permission = permissions.SHARE_CONSULTATION
        async with self._database.as_user(asker, permission.on(order.consultation_id)) as tx:
            share_id = await call.claim(tx)
            if share_id is None:
                share_id = await store.share(tx, order)
                await call.settle(tx, share_id)
            else:
                permission = permissions.READ_SHARE
            return await store.show_share(tx, share_id, selection, permission)

    async def end(self, asker: Asker, share_id: UUID, selection: Selection = _PLAIN) -> Row:
        """End a share at once. The caller is the doctor of the consultation or the colleague. If the share has ended,
        the method changes nothing. Raises NotFound.
        """
        permission = permissions.END_SHARE
        async with self._database.as_user(asker, permission.on(share_id)) as tx:
            await store.end_share(tx, share_id)
            return await store.show_share(tx, share_id, selection, permission)

    async def authorize(
        self,
        asker: Asker,
        signed: SignedAuthorization,
        selection: Selection = _PLAIN,
        *,
        idempotency_key: str | None = None,
    ) -> Row:
        """Record an authorization that the patient of the caller's own sensitive consultation signed. A repeated call
        with the same `idempotency_key` returns the authorization of the first call.

        Raises NotFound, InvalidInput (bad_idempotency_key), and Conflict (authorization_not_needed,
        authorization_dates, colleague_not_found, too_many_authorizations, idempotency_key_reused).
        """
        call = RepeatableCall(
            "recordSharingAuthorization",
            idempotency_key,
            signed.consultation_id,
            signed.colleague_id,
            signed.signed_on.isoformat(),
            int(signed.is_signed_by_representative),
            signed.expires_at.isoformat(),
        )
        permission = permissions.AUTHORIZE_SHARING
        async with self._database.as_user(asker, permission.on(signed.consultation_id)) as tx:
            authorization_id = await call.claim(tx)
            if authorization_id is None:
                authorization_id = await store.authorize(tx, signed)
                await call.settle(tx, authorization_id)
            else:
                permission = permissions.READ_SHARE
            return await store.show_authorization(tx, authorization_id, selection, permission)

    async def withdraw_authorization(
        self, asker: Asker, authorization_id: UUID, selection: Selection = _PLAIN
    ) -> Row:
        """Record that the patient has withdrawn an authorization, which ends the share with its colleague. If it was
        withdrawn before, the method changes nothing. Raises NotFound.
        """
        permission = permissions.WITHDRAW_SHARING_AUTHORIZATION
        async with self._database.as_user(asker, permission.on(authorization_id)) as tx:
            await store.withdraw_authorization(tx, authorization_id)
            return await store.show_authorization(tx, authorization_id, selection, permission)
