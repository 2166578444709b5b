"""GraphQL types and root fields for consultations, participants and rooms."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Self

import strawberry

from app.consultations import model
from app.consultations.labels import check_label
from app.consultations.service import Invitation, JoinPass
from app.errors import NotFound
from app.postgres.composer import Row
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from app.postgres.selection import merge
from app.recordings.blockers import BlockerReason
from graphql_schema.connections import Connection, nested_page
from graphql_schema.consents import Consent
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.nodes import Node
from graphql_schema.people import Patient, User
from graphql_schema.references import ConsultationBy, DateTimeRangeInput, PatientBy
from graphql_schema.root_fields import ARGUMENTS
from graphql_schema.rows import shown
from graphql_schema.scalars import Url, parse_id, parse_optional_id
from graphql_schema.selected_fields import select

if TYPE_CHECKING:
    from graphql_schema.recordings import Recording
    from graphql_schema.shares import Share, SharingAuthorization


@strawberry.type(
    description=(
        "This is a participant of a consultation. The id is also the participant's identity in the LiveKit "
        "room. Everyone who may read the consultation may read its participants."
    )
)
class Participant(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the participant.")
    kind: model.ParticipantKind = strawberry.field(
        description="This says whether the participant is the doctor, the patient or a guest."
    )
    guest_role: model.GuestRole | None = strawberry.field(
        description="This is the role of a guest. It is null for the doctor and the patient."
    )
    joined_at: datetime | None = strawberry.field(
        description=(
            "This is when the API issued the participant's newest join token. It is null until the API has "
            "issued one."
        )
    )
    must_consent: bool = strawberry.field(
        description=(
            "If it is true, no recording can start without the participant's consent. It is true for the "
            "doctor, the patient, and every guest who has joined."
        )
    )
    has_consented: bool = strawberry.field(
        description="This says whether the participant's newest statement gives consent."
    )


@strawberry.type(
    description=(
        "This is a reason why no recording of a consultation can start. `startRecording` is refused while "
        "there is one."
    )
)
class RecordingBlocker:
    reason: BlockerReason = strawberry.field(description="This says why no recording can start.")
    participant: Participant | None = strawberry.field(
        description=(
            "The reason belongs to this participant. It is null for a reason that concerns nobody in "
            "particular."
        )
    )


@strawberry.type(
    description=(
        "This is a medical consultation by video. Its doctor and its patient may read it, and so may a colleague "
        "with whom it is shared and a clinician with an emergency access. Compliance officers may read it without "
        "any content."
    )
)
class Consultation(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the consultation.")
    external_id: str = strawberry.field(
        description="This is the unique id of the consultation in the practice's own system."
    )
    doctor: User = strawberry.field(description="The participant is the doctor of the consultation.")
    conducted_by: User | None = strawberry.field(
        description=(
            "This is the doctor who had the consultation before a reassignment. It is null if there was none."
        )
    )
    patient: Patient = strawberry.field(description="The participant is the patient of the consultation.")
    scheduled_at: datetime = strawberry.field(description="This is the time of the appointment.")
    kind: str = strawberry.field(
        description=(
            "This is the kind of consultation in snake_case, such as `follow_up`, which the practice chooses."
        )
    )
    sensitivity: model.Sensitivity = strawberry.field(
        description="This says which stricter rules apply to the consultation, if any do."
    )
    room_name: str = strawberry.field(description="This is the name of the LiveKit room of the consultation.")
    records_automatically: bool = strawberry.field(
        description=(
            "If it is true, recording starts automatically, once, as soon as the doctor and the patient are in "
            "the room and every participant has consented."
        )
    )
    records_speakers_separately: bool = strawberry.field(
        description=(
            "If it is true, LiveKit records the sound of each microphone separately, beside the video."
        )
    )
    is_transcribed: bool = strawberry.field(
        description="This says whether recordings of the consultation are transcribed."
    )
    language: model.SpokenLanguage | None = strawberry.field(
        description=(
            "This is the language that the participants speak, as given at the registration. It is null if "
            "none was given."
        )
    )
    created_at: datetime = strawberry.field(description="This is when the consultation was registered.")
    access_basis: model.AccessBasis = strawberry.field(
        description="This says why the caller may read the consultation. The audit log shows it, too."
    )
    participants: list[Participant] = strawberry.field(
        description="These are the doctor, the patient and all invited guests."
    )
    consents: list[Consent] = strawberry.field(
        description="These are all consents and withdrawals of the participants, oldest first."
    )

    patient_external_id: str = strawberry.field(
        description="This is the id of the patient in the practice's own system."
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This is a short text that names the consultation for its doctor and its patient. Resguardo stores it "
            "encrypted under the patient's data key, and deletes it with this key. It is null if there is none, and "
            "for everybody but the doctor and the patient of the consultation."
        )
    )
    def label(root: strawberry.Parent[Row], info: Info) -> str | None:
        encrypted = root["label"]
        return None if encrypted is None else info.context.services.labels.read(encrypted)

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "These are the reasons why no recording of the consultation can start now. If the list is empty, "
            "`startRecording` starts one. Everyone who may read the consultation may read them."
        )
    )
    def recording_blockers(root: strawberry.Parent[Row], info: Info) -> list[RecordingBlocker]:
        has_routes = info.context.services.recordings.has_routes
        blockers = root["recording_blockers"]
        return [
            shown(RecordingBlocker, one)
            for one in blockers
            if BlockerReason(one["reason"]).applies(has_routes=has_routes)
        ]

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "These are the recordings of the consultation in pages of at most 25, newest first. The doctor of "
            "the consultation and compliance officers may read them, and a patient gets an empty page. No page "
            "can be nested in this page again, and the pages of one operation can show at most 3,000 objects. "
            "This page counts once for each consultation that the operation can show. The API refuses a larger "
            "operation with TOO_COMPLEX."
        )
    )
    def recordings(
        root: strawberry.Parent[Row],
        info: Info,
        first: Annotated[
            int, strawberry.argument(description="The page has at most this many recordings, from 1 to 25.")
        ] = DEFAULT_PAGE_SIZE,
        after: Annotated[str | None, strawberry.argument(description=ARGUMENTS["after"])] = None,
    ) -> Connection[Annotated["Recording", strawberry.lazy("graphql_schema.recordings")]]:
        return Connection.of_rows(nested_page(root, "recordings", first, after))

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "These are the shares of the consultation in pages of at most 25, newest first. The doctor of the "
            "consultation and compliance officers may read all of them, a colleague their own, and a patient gets an "
            "empty page. No page can be nested in this page again."
        )
    )
    def shares(
        root: strawberry.Parent[Row],
        info: Info,
        first: Annotated[
            int, strawberry.argument(description="The page has at most this many shares, from 1 to 25.")
        ] = DEFAULT_PAGE_SIZE,
        after: Annotated[str | None, strawberry.argument(description=ARGUMENTS["after"])] = None,
    ) -> Connection[Annotated["Share", strawberry.lazy("graphql_schema.shares")]]:
        return Connection.of_rows(nested_page(root, "shares", first, after))

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "These are the authorizations that the patient signed for shares of the consultation and for emergency "
            "access, in pages of at most 25, newest first. The doctor of the consultation and compliance officers may "
            "read them, and others get an empty page. No page can be nested in this page again."
        )
    )
    def sharing_authorizations(
        root: strawberry.Parent[Row],
        info: Info,
        first: Annotated[
            int,
            strawberry.argument(description="The page has at most this many authorizations, from 1 to 25."),
        ] = DEFAULT_PAGE_SIZE,
        after: Annotated[str | None, strawberry.argument(description=ARGUMENTS["after"])] = None,
    ) -> Connection[Annotated["SharingAuthorization", strawberry.lazy("graphql_schema.shares")]]:
        return Connection.of_rows(nested_page(root, "sharing_authorizations", first, after))


@strawberry.type(
    description=(
        "A client joins the LiveKit room of a consultation with these values. The token is a secret."
    )
)
class JoinToken:
    url: Url = strawberry.field(
        description="This is the address of the LiveKit server, for the LiveKit client."
    )
    token: str = strawberry.field(
        description="This token admits its holder to the room, as the participant. It is a secret."
    )
    room_name: str = strawberry.field(description="This is the name of the LiveKit room.")
    expires_at: datetime = strawberry.field(description="A client can join with the token until this time.")
    expires_in_seconds: int = strawberry.field(
        description=(
            "The token is valid for this many seconds from now on. The value does not depend on the client's "
            "clock."
        )
    )

    @classmethod
    def of(cls, join: JoinPass) -> Self:
        return cls(
            url=Url(join.url),
            token=join.token,
            room_name=join.room_name,
            expires_at=join.expires_at,
            expires_in_seconds=join.expires_in_seconds,
        )


@strawberry.type(
    description=(
        "This is a guest's invitation, which `joinAsGuest` accepts once. The API stores no secret of an "
        "invitation. If `inviteGuest` is repeated with the same idempotency key, a new secret replaces the "
        "earlier one."
    )
)
class GuestInvitation:
    secret: str = strawberry.field(
        description=(
            "The doctor gives this secret to the guest, who passes it to `joinAsGuest` as `invitation`."
        )
    )
    expires_at: datetime = strawberry.field(description="The guest can use the invitation until this time.")
    expires_in_seconds: int = strawberry.field(
        description=(
            "The invitation is valid for this many seconds from now on. The value does not depend on the "
            "client's clock."
        )
    )

    @classmethod
    def of(cls, invitation: Invitation) -> Self:
        return cls(
            secret=invitation.secret,
            expires_at=invitation.expires_at,
            expires_in_seconds=invitation.expires_in_seconds,
        )


@strawberry.type(
    description=(
        "This is a room of the calling doctor that LiveKit lists as open now. Only the doctor of its "
        "consultation may read it."
    )
)
class ActiveRoom:
    consultation: Consultation = strawberry.field(
        description="The consultation whose room it is, as it is after LiveKit has answered."
    )
    name: str = strawberry.field(description="This is the name of the LiveKit room.")
    sid: str = strawberry.field(description="This is LiveKit's id of the room.")
    participant_count: int = strawberry.field(
        description=(
            "This says how many people are connected to the room. LiveKit's recorder does not count."
        )
    )
    created_at: datetime = strawberry.field(description="This is when LiveKit opened the room.")


@strawberry.input(description="With this input, a doctor registers a consultation.")
class RegisterConsultationInput:
    external_id: str = strawberry.field(
        description=(
            "This is the unique id of the consultation in the practice's own system, in 1 to 128 characters."
        )
    )
    doctor_id: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "This is the user id of the consultation's doctor. The default is the caller's user id; the API "
            "refuses every other user id."
        ),
    )
    patient_external_id: str = strawberry.field(
        description="This is the id of the patient in the practice's own system, in 1 to 128 characters."
    )
    patient_user_id: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "This is the user id of the patient's login. The API links the login to the patient when the "
            "patient's first consultation is registered."
        ),
    )
    scheduled_at: datetime = strawberry.field(
        description="This is the time of the appointment, between the years 1900 and 2200."
    )
    kind: str = strawberry.field(
        default="general",
        description=(
            "This is the kind of consultation in snake_case, such as `follow_up`, in at most 40 characters."
        ),
    )
    sensitivity: model.Sensitivity = strawberry.field(
        default=model.Sensitivity.ORDINARY,
        description=(
            "This is the legal sensitivity of the consultation, which decides whether it is transcribed by "
            "default."
        ),
    )
    records_automatically: bool = strawberry.field(
        default=False,
        description=(
            "If it is true, recording starts automatically, once, as soon as the doctor and the patient are in "
            "the room and every participant has consented."
        ),
    )
    records_speakers_separately: bool = strawberry.field(
        default=False,
        description=(
            "If it is true, LiveKit records the sound of each microphone separately, beside the video."
        ),
    )
    is_transcribed: bool | None = strawberry.field(
        default=None,
        description=(
            "This says whether recordings of the consultation are transcribed. By default, only recordings of "
            "ORDINARY consultations are transcribed."
        ),
    )
    language: model.SpokenLanguage | None = strawberry.field(
        default=None,
        description=(
            "This is the language spoken in the consultation, which the worker sends to the speech service. "
            "The default is the language in which every participant consented. If the language is MIXED, the "
            "worker sends no language to the speech service."
        ),
    )
    patient_birth_date: date | None = strawberry.field(
        default=None,
        description=(
            "This is the patient's birth date, which decides how long recordings of a minor are kept. The "
            "birth date can be set once, and no query returns it."
        ),
    )
    label: str | None = strawberry.field(
        default=None,
        description=(
            "This is a short text for the doctor and the patient, in 1 to 100 characters. "
            "`editConsultationLabel` changes it, and a repeated registration does not."
        ),
    )

    def to_model(self) -> model.Registration:
        return model.Registration(
            external_id=self.external_id,
            doctor_id=parse_optional_id(self.doctor_id),
            patient_external_id=self.patient_external_id,
            patient_user_id=parse_optional_id(self.patient_user_id),
            scheduled_at=self.scheduled_at,
            kind=self.kind,
            sensitivity=self.sensitivity,
            auto_record=self.records_automatically,
            separate_speakers=self.records_speakers_separately,
            transcribe=self.is_transcribed,
            language=self.language,
            patient_birth_date=self.patient_birth_date,
            label=None if self.label is None else check_label(self.label),
        )


@strawberry.type(description="`registerConsultation` returns this payload.")
class RegisterConsultationPayload:
    consultation: Consultation = strawberry.field(
        description="This is the registered consultation. A repeated call returns it as it is now."
    )


@strawberry.input(description="With this input, a doctor edits or removes the label of a consultation.")
class EditConsultationLabelInput:
    consultation_id: strawberry.ID = strawberry.field(
        description="This is the id of a consultation of the calling doctor."
    )
    label: str | None = strawberry.field(
        description="This is the new label in 1 to 100 characters. The value null removes the label."
    )


@strawberry.type(description="`editConsultationLabel` returns this payload.")
class EditConsultationLabelPayload:
    consultation: Consultation = strawberry.field(
        description="This is the consultation with its new label, or without a label."
    )


@strawberry.input(description="With this input, a doctor invites a guest to a consultation.")
class InviteGuestInput:
    consultation_id: strawberry.ID = strawberry.field(
        description="This is the id of a consultation of the calling doctor."
    )
    role: model.GuestRole = strawberry.field(description="This is the role of the guest in the consultation.")
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`inviteGuest` returns this payload.")
class InviteGuestPayload:
    participant: Participant = strawberry.field(
        description=(
            "This is the guest, who is a new participant of the consultation unless the call is a repeated "
            "call."
        )
    )
    consultation: Consultation = strawberry.field(
        description=(
            "This is the consultation, with the guest among its `participants`, and its new "
            "`recordingBlockers`."
        )
    )
    invitation: GuestInvitation = strawberry.field(
        description="This is the invitation, which the doctor sends to the guest."
    )


@strawberry.input(description="With this input, the doctor or the patient joins a consultation.")
class JoinConsultationInput:
    consultation_id: strawberry.ID = strawberry.field(
        description="This is the id of a consultation in which the caller is the doctor or the patient."
    )


@strawberry.type(description="`joinConsultation` returns this payload.")
class JoinConsultationPayload:
    participant: Participant = strawberry.field(
        description="This is the caller, as a participant of the consultation."
    )
    join_token: JoinToken = strawberry.field(description="The caller enters the room with this token.")


@strawberry.input(description="With this input, a guest without a login joins a consultation.")
class JoinAsGuestInput:
    invitation: str = strawberry.field(
        description=(
            "This is the secret of the guest's invitation, which `inviteGuest` returned to the doctor."
        )
    )


@strawberry.type(description="`joinAsGuest` returns this payload.")
class JoinAsGuestPayload:
    participant: Participant = strawberry.field(
        description=(
            "This is the guest as a participant of the consultation. A guest may read only `id`, `kind` and "
            "`guestRole`. If another field is selected, the mutation is refused as FORBIDDEN and the "
            "invitation stays valid."
        )
    )
    join_token: JoinToken = strawberry.field(
        description="This is the token with which the guest enters the room."
    )


async def consultation(info: Info, by: ConsultationBy) -> Consultation | None:
    """Return one consultation by its id or its external id."""
    found = await info.context.services.consultations.get(
        await info.context.asker(), by.to_model(), select(info)
    )
    return shown(Consultation, found)


@strawberry.input(
    description=(
        "This filters consultations. A field of the filter that is omitted matches every consultation."
    )
)
class ConsultationFilter:
    patient: PatientBy | None = strawberry.field(
        default=None, description="The filter selects the consultations of this patient."
    )
    scheduled_during: DateTimeRangeInput | None = strawberry.field(
        default=None,
        description="The filter selects the consultations that are scheduled in this range of time.",
    )

    def to_model(self) -> model.ConsultationFilter:
        return model.ConsultationFilter(
            patient=self.patient.to_model() if self.patient else None,
            scheduled=self.scheduled_during.to_model() if self.scheduled_during else None,
        )


async def consultations(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: ConsultationFilter | None = None,
) -> Connection[Consultation] | None:
    """List the consultations in which the caller is the doctor or the patient, newest appointment first."""
    page = await info.context.services.consultations.page(
        await info.context.asker(),
        page_request(first, after),
        (filter or ConsultationFilter()).to_model(),
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)


async def active_rooms(info: Info) -> list[ActiveRoom] | None:
    """List the doctor's rooms that are open now."""
    rooms = await info.context.services.consultations.list_active_rooms(
        await info.context.asker(), select(info)
    )
    return [shown(ActiveRoom, room) for room in rooms]


async def register_consultation(
    info: Info, input: RegisterConsultationInput
) -> RegisterConsultationPayload | None:
    """Register a consultation, or return the consultation that is already registered."""
    registered = await info.context.services.consultations.register(
        await info.context.asker(), input.to_model(), select(info, "consultation")
    )
    return RegisterConsultationPayload(consultation=shown(Consultation, registered))


async def edit_consultation_label(
    info: Info, input: EditConsultationLabelInput
) -> EditConsultationLabelPayload | None:
    """Set or remove the label of a consultation."""
    labelled = await info.context.services.consultations.set_label(
        await info.context.asker(),
        parse_id(input.consultation_id),
        input.label,
        select(info, "consultation"),
    )
    return EditConsultationLabelPayload(consultation=shown(Consultation, labelled))


async def join_consultation(info: Info, input: JoinConsultationInput) -> JoinConsultationPayload | None:
    """Return a LiveKit token for the calling doctor or patient."""
    participant, join = await info.context.services.consultations.join(
        await info.context.asker(),
        parse_id(input.consultation_id),
        select(info, "participant"),
        select(info).only("joinToken").paths,
    )
    return JoinConsultationPayload(participant=shown(Participant, participant), join_token=JoinToken.of(join))


async def join_as_guest(info: Info, input: JoinAsGuestInput) -> JoinAsGuestPayload | None:
    """Return a LiveKit token for a guest who presents an invitation."""
    try:
        async with info.context.guest_slot():
            participant, join = await info.context.services.consultations.join_as_guest(
                info.context.guest(),
                input.invitation,
                select(info, "participant"),
                select(info).only("joinToken").paths,
            )
    except NotFound:
        info.context.reject("request.reject")
        raise
    return JoinAsGuestPayload(participant=shown(Participant, participant), join_token=JoinToken.of(join))


async def invite_guest(info: Info, input: InviteGuestInput) -> InviteGuestPayload | None:
    """Invite a guest, such as an interpreter, to a consultation."""
    payload = select(info)
    guest, invitation = await info.context.services.consultations.invite_guest(
        await info.context.asker(),
        parse_id(input.consultation_id),
        input.role,
        merge((payload.below("participant").fields, payload.only("consultation").fields)),
        payload.only("invitation").paths,
        idempotency_key=input.idempotency_key,
    )
    return InviteGuestPayload(
        participant=shown(Participant, guest),
        consultation=shown(Consultation, guest.get("consultation", {})),
        invitation=GuestInvitation.of(invitation),
    )
