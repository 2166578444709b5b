"""The service of proposals: a compliance officer proposes a change about a member of staff, and a second officer
approves or rejects it.

The database checks who may decide. An approval takes effect in the database in the same transaction, and jobs of the
worker change Supabase Auth afterwards.
"""

from pathlib import Path
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter

from app.errors import NotFound
from app.identity import permissions
from app.identity.permissions import Permission
from app.officer_proposals.model import (
    OfficerProposal,
    ProposalFilter,
    ProposalKind,
    ProposalReason,
    check_reason,
)
from app.postgres.audited import AuditedList
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_PROPOSALS: Final = AuditedList(
    table="resguardo.officer_proposals",
    time="proposed_at",
    conditions={
        "kinds": "r.kind = any((select %(kinds)s::text[])::text[])",
        "statuses": "r.status = any((select %(statuses)s::text[])::text[])",
    },
    items=OfficerProposal,
    action=permissions.LIST_PROPOSALS.action,
    entity_type="officer_proposal",
    patients=None,
    consultations=None,
)
_proposal: Final = TypeAdapter(OfficerProposal)


class OfficerProposals:
    """The proposals of officers. The newest TOTP code of an officer who proposes or approves may be at most
    `totp_max_age_seconds` old.
    """

    def __init__(self, database: Database, *, totp_max_age_seconds: int) -> None:
        self._database = database
        self._totp_max_age_seconds = totp_max_age_seconds

    async def page(
        self, asker: Asker, request: PageRequest, wanted: ProposalFilter, selection: Selection
    ) -> Page[OfficerProposal]:
        """Return a page of the proposals of all officers, newest first. The audit row names the selected fields."""
        filters = {
            "kinds": None if wanted.kinds is None else [kind.value for kind in wanted.kinds],
            "statuses": None if wanted.statuses is None else [status.value for status in wanted.statuses],
        }
        async with self._database.as_user(asker, permissions.LIST_PROPOSALS.on()) as tx:
            rows = await _PROPOSALS.page(
                tx, request, filters, fields=selection.paths, selected=selection.names()
            )
        return Page.of(rows, request)

    async def reset_second_factor(
        self, asker: Asker, user_id: UUID, reason: ProposalReason
    ) -> OfficerProposal:
        """Propose to remove all second factors of a member of staff and to end the member's sessions.

        Raises the errors of `_propose`.
        """
        return await self._propose(
            asker, permissions.RESET_SECOND_FACTOR, ProposalKind.RESET_SECOND_FACTOR, user_id, reason
        )

    async def reinstate(self, asker: Asker, user_id: UUID, reason: ProposalReason) -> OfficerProposal:
        """Propose to end the suspension of a member of staff. Raises the errors of `_propose`, and Conflict
        (not_in_role_table, staff_not_suspended).
        """
        return await self._propose(
            asker, permissions.REINSTATE_STAFF, ProposalKind.REINSTATE, user_id, reason
        )

    async def reassign_consultations(
        self, asker: Asker, from_doctor_id: UUID, to_doctor_id: UUID, reason: ProposalReason
    ) -> OfficerProposal:
        """Propose to give the consultations of a doctor who left to another doctor. Raises the errors of `_propose`,
        and Conflict (reassignment_doctor_active, reassignment_recipient, reassignment_under_investigation).
        """
        return await self._propose(
            asker,
            permissions.REASSIGN_CONSULTATIONS,
            ProposalKind.REASSIGN_CONSULTATIONS,
            from_doctor_id,
            reason,
            recipient_id=to_doctor_id,
        )

    async def approve(self, asker: Asker, proposal_id: UUID) -> OfficerProposal:
        """Approve a proposal, which takes effect at once. Safe to repeat.

        Raises NotFound, Forbidden (totp_stale), and Conflict: proposal_decided, proposal_about_you,
        proposal_same_officer, proposal_officer_gone, officer_too_new, or the reason why the change is not possible.
        """
        return await self._decide(asker, permissions.APPROVE_PROPOSAL, proposal_id, is_approved=True)

    async def reject(self, asker: Asker, proposal_id: UUID) -> OfficerProposal:
        """Reject a proposal. The officer who made the proposal may also reject it. Safe to repeat.

        Raises NotFound and Conflict (proposal_decided, proposal_about_you).
        """
        return await self._decide(asker, permissions.REJECT_PROPOSAL, proposal_id, is_approved=False)

    async def _propose(
        self,
        asker: Asker,
        permission: Permission,
        kind: ProposalKind,
        member_id: UUID,
        reason: ProposalReason,
        *,
        recipient_id: UUID | None = None,
    ) -> OfficerProposal:
        """Store a proposal. A repeated call of the same officer returns the open proposal.

        Raises InvalidInput (bad_proposal_reason), NotFound, Forbidden (totp_stale), and Conflict: proposal_about_you,
        proposal_open_already, officer_too_new, staff_login_gone.
        """
        check_reason(kind, reason)
        wanted = {
            "kind": kind.value,
            "member_id": member_id,
            "recipient_id": recipient_id,
            "reason": reason.value,
            "totp_max_age_seconds": self._totp_max_age_seconds,
        }
        async with self._database.as_user(asker, permission.on(member_id)) as tx:
            row = await tx.one(_sql["propose"], wanted)
            if row is None:
                raise NotFound("staff_not_found")
            return _proposal.validate_python(row)

    async def _decide(
        self, asker: Asker, permission: Permission, proposal_id: UUID, *, is_approved: bool
    ) -> OfficerProposal:
        wanted = {
            "id": proposal_id,
            "is_approved": is_approved,
            "totp_max_age_seconds": self._totp_max_age_seconds,
        }
        async with self._database.as_user(asker, permission.on(proposal_id)) as tx:
            row = await tx.one(_sql["decide_proposal"], wanted)
            if row is None:
                raise NotFound("officer_proposal_not_found")
            return _proposal.validate_python(row)
