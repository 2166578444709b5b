"""GraphQL types and root fields for shares of consultations and for the authorizations that they may need."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from app.shares import model
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.nodes import Node
from graphql_schema.people import User
from graphql_schema.rows import shown
from graphql_schema.scalars import parse_id, parse_optional_id
from graphql_schema.selected_fields import select

if TYPE_CHECKING:
    from graphql_schema.consultations import Consultation


@strawberry.type(
    description=(
        "This is a share: for a time, a colleague sees a consultation of another doctor and what was made from it. The "
        "doctor of the consultation, the colleague and compliance officers may read it."
    )
)
class Share(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the share.")
    consultation: Annotated["Consultation", strawberry.lazy("graphql_schema.consultations")] | None = (
        strawberry.field(
            description=(
                "This is the shared consultation. It is null for a colleague whose access to it has ended."
            )
        )
    )
    colleague: User = strawberry.field(description="The consultation is shared with this clinician.")
    shared_by: User = strawberry.field(description="The share was made by this doctor.")
    purpose: model.SharePurpose = strawberry.field(description="The consultation is shared for this purpose.")
    may_write_notes: bool = strawberry.field(
        description=(
            "If it is true, the colleague may read the session notes of the consultation and write their own. The "
            "colleague never sees psychotherapy notes."
        )
    )
    began_at: datetime = strawberry.field(description="The share is valid from this time on.")
    ends_at: datetime = strawberry.field(description="This is the end of the term of the share.")
    ended_at: datetime | None = strawberry.field(
        description="This is when the share ended before its term. It is null if the share did not end early."
    )
    ended_by: User | None = strawberry.field(
        description=(
            "This person ended the share before its term, or gave the statement that ended it. It is null if nobody "
            "with a login did."
        )
    )
    end_reason: model.ShareEndReason | None = strawberry.field(
        description="This is why the share ended before its term. It is null if the share did not end early."
    )
    is_active: bool = strawberry.field(description="This says whether the share gives access now.")


@strawberry.type(
    description=(
        "This is an authorization that a patient signed, so that a consultation about psychotherapy or substance use "
        "may be shared or seen in an emergency. The practice keeps the paper. The doctor of the consultation and "
        "compliance officers may read it."
    )
)
class SharingAuthorization(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the authorization.")
    consultation: Annotated["Consultation", strawberry.lazy("graphql_schema.consultations")] | None = (
        strawberry.field(description="The authorization is for this consultation.")
    )
    colleague: User | None = strawberry.field(
        description=(
            "The consultation may be shared with this clinician. It is null if the authorization is for emergency "
            "access."
        )
    )
    signed_on: date = strawberry.field(description="The patient signed the paper on this date.")
    is_signed_by_representative: bool = strawberry.field(
        description="This says whether a representative signed for the patient."
    )
    expires_at: datetime = strawberry.field(description="The authorization is valid until this time.")
    recorded_by: User = strawberry.field(description="This doctor recorded the authorization.")
    recorded_at: datetime = strawberry.field(description="This is when the authorization was recorded.")
    withdrawn_at: datetime | None = strawberry.field(
        description="This is when the patient withdrew the authorization. It is null if the patient did not."
    )
    is_active: bool = strawberry.field(description="This says whether the authorization is valid now.")


@strawberry.input(description="With this input, a doctor shares a consultation with a colleague.")
class ShareConsultationInput:
    consultation_id: strawberry.ID = strawberry.field(
        description=(
            "This is the id of a consultation of the calling doctor. Every participant must have consented to a text "
            "that names shares, which `consentText` returns."
        )
    )
    colleague_id: strawberry.ID = strawberry.field(
        description="This is the user id of an active clinician of the practice."
    )
    purpose: model.SharePurpose = strawberry.field(description="The consultation is shared for this purpose.")
    ends_at: datetime = strawberry.field(
        description="The share ends at this time, which is at most 366 days ahead."
    )
    may_write_notes: bool = strawberry.field(
        default=False,
        description=(
            "If it is true, the colleague may read the session notes of the consultation and write their own."
        ),
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)

    def to_model(self) -> model.ShareOrder:
        return model.ShareOrder(
            consultation_id=parse_id(self.consultation_id),
            colleague_id=parse_id(self.colleague_id),
            purpose=self.purpose,
            ends_at=self.ends_at,
            may_write_notes=self.may_write_notes,
        )


@strawberry.type(description="`shareConsultation` returns this payload.")
class ShareConsultationPayload:
    share: Share = strawberry.field(description="This is the share, which gives access at once.")


@strawberry.input(description="With this input, a doctor or a colleague ends a share.")
class EndShareInput:
    share_id: strawberry.ID = strawberry.field(
        description="This is the id of a share of the caller's consultation, or of a share with the caller."
    )


@strawberry.type(description="`endShare` returns this payload.")
class EndSharePayload:
    share: Share = strawberry.field(description="This is the share, which has ended.")


@strawberry.input(description="With this input, a doctor records an authorization that a patient signed.")
class RecordSharingAuthorizationInput:
    consultation_id: strawberry.ID = strawberry.field(
        description="This is the id of a PSYCHOTHERAPY or SUBSTANCE_USE consultation of the calling doctor."
    )
    colleague_id: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "This is the user id of the clinician whom the authorization names. If it is omitted, the authorization is "
            "for emergency access."
        ),
    )
    signed_on: date = strawberry.field(description="The patient signed the paper on this date.")
    is_signed_by_representative: bool = strawberry.field(
        default=False, description="This says whether a representative signed for the patient."
    )
    expires_at: datetime = strawberry.field(
        description="The authorization is valid until this time, which is at most 10 years ahead."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)

    def to_model(self) -> model.SignedAuthorization:
        return model.SignedAuthorization(
            consultation_id=parse_id(self.consultation_id),
            colleague_id=parse_optional_id(self.colleague_id),
            signed_on=self.signed_on,
            is_signed_by_representative=self.is_signed_by_representative,
            expires_at=self.expires_at,
        )


@strawberry.type(description="`recordSharingAuthorization` returns this payload.")
class RecordSharingAuthorizationPayload:
    sharing_authorization: SharingAuthorization = strawberry.field(
        description="This is the authorization that was recorded."
    )


@strawberry.input(
    description="With this input, a doctor records that a patient has withdrawn an authorization."
)
class WithdrawSharingAuthorizationInput:
    sharing_authorization_id: strawberry.ID = strawberry.field(
        description="This is the id of an authorization for a consultation of the calling doctor."
    )


@strawberry.type(description="`withdrawSharingAuthorization` returns this payload.")
class WithdrawSharingAuthorizationPayload:
    sharing_authorization: SharingAuthorization = strawberry.field(
        description="This is the authorization, which is no longer valid."
    )


async def share_consultation(info: Info, input: ShareConsultationInput) -> ShareConsultationPayload | None:
    """Share a consultation of the calling doctor with a colleague until a given time."""
    made = await info.context.services.shares.share(
        await info.context.asker(),
        input.to_model(),
        select(info, "share"),
        idempotency_key=input.idempotency_key,
    )
    return ShareConsultationPayload(share=shown(Share, made))


async def end_share(info: Info, input: EndShareInput) -> EndSharePayload | None:
    """End a share at once."""
    ended = await info.context.services.shares.end(
        await info.context.asker(), parse_id(input.share_id), select(info, "share")
    )
    return EndSharePayload(share=shown(Share, ended))


async def record_sharing_authorization(
    info: Info, input: RecordSharingAuthorizationInput
) -> RecordSharingAuthorizationPayload | None:
    """Record an authorization that the patient of a sensitive consultation signed."""
    recorded = await info.context.services.shares.authorize(
        await info.context.asker(),
        input.to_model(),
        select(info, "sharingAuthorization"),
        idempotency_key=input.idempotency_key,
    )
    return RecordSharingAuthorizationPayload(sharing_authorization=shown(SharingAuthorization, recorded))


async def withdraw_sharing_authorization(
    info: Info, input: WithdrawSharingAuthorizationInput
) -> WithdrawSharingAuthorizationPayload | None:
    """Record that a patient has withdrawn an authorization, which ends the share with its colleague."""
    withdrawn = await info.context.services.shares.withdraw_authorization(
        await info.context.asker(),
        parse_id(input.sharing_authorization_id),
        select(info, "sharingAuthorization"),
    )
    return WithdrawSharingAuthorizationPayload(sharing_authorization=shown(SharingAuthorization, withdrawn))
