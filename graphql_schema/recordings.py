"""GraphQL types and root fields for recordings."""

from datetime import datetime
from typing import Self

import strawberry

from app.consultations.model import GuestRole, ParticipantKind, Sensitivity
from app.errors import InvalidInput, Unauthenticated
from app.postgres.paging import DEFAULT_PAGE_SIZE, Cursor, page_request
from app.recordings import model
from app.recordings.service import DownloadUrl as ServiceDownloadUrl
from app.recordings.service import PurposeOfUse
from app.texts import recording_error_text, transcription_error_text
from graphql_schema.connections import Connection
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.references import DateTimeRangeInput, PatientBy, RecordingBy
from graphql_schema.scalars import BigInt, Url, big, parse_id, parse_optional_id, to_id
from graphql_schema.selected_fields import selected

strawberry.enum(
    model.Medium,
    description=(
        "The kind of content of a recording. VIDEO is the room with its mixed sound, MICROPHONE "
        "is the sound of one microphone track, and SPEAKERS is the sound of the speakers on two "
        "channels."
    ),
)


@strawberry.type(description="The consultation that a recording belongs to.")
class RecordedConsultation:
    id: strawberry.ID
    external_id: str
    scheduled_at: datetime
    kind: str
    sensitivity: Sensitivity

    @classmethod
    def of(cls, consultation: model.RecordedConsultation) -> Self:
        return cls(
            id=to_id(consultation.id),
            external_id=consultation.external_id,
            scheduled_at=consultation.scheduled_at,
            kind=consultation.kind,
            sensitivity=Sensitivity(consultation.sensitivity),
        )


@strawberry.type(description="The current state of a recording's object in the bucket.")
class Storage:
    exists: bool
    size_bytes: BigInt | None
    content_type: str | None

    @classmethod
    def of(cls, stored: model.StoredMedia) -> Self:
        return cls(exists=stored.exists, size_bytes=big(stored.size_bytes), content_type=stored.content_type)


@strawberry.type(
    description=(
        "The participant whose microphone was recorded. The id of a participant is also the "
        "participant's identity in the LiveKit room."
    )
)
class SpeakerParticipant:
    id: strawberry.ID
    kind: ParticipantKind
    guest_role: GuestRole | None

    @classmethod
    def of(cls, participant: model.SpeakerParticipant) -> Self:
        return cls(id=to_id(participant.id), kind=participant.kind, guest_role=participant.guest_role)


@strawberry.type(
    description=(
        "A sound recording that LiveKit makes beside the video of a consultation. "
        "`issueDownloadUrl` takes its id as `file`. No other field takes it."
    )
)
class SpeakerSound:
    id: strawberry.ID
    medium: model.Medium
    participant: SpeakerParticipant | None = strawberry.field(
        description=(
            "The participant whose microphone was recorded. The value is null for a SPEAKERS sound, "
            "which contains several people on two channels."
        )
    )
    track_sid: str | None = strawberry.field(
        description=(
            "LiveKit's id of the microphone track. If a participant publishes a microphone "
            "again, LiveKit gives it a new track id."
        )
    )
    status: model.RecordingStatus
    started_at: datetime | None
    duration_seconds: float | None
    size_bytes: BigInt | None
    sha256: str | None
    truncated: bool = strawberry.field(
        description="Whether the recording of the sound ended too early, because of a limit or a failure."
    )
    interrupted: bool = strawberry.field(
        description=(
            "Whether the sound has a gap, because LiveKit's recorder lost its connection to the room "
            "for a while."
        )
    )
    error: str | None

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="The `error` code as a sentence in the reader's language."
    )
    def error_text(self, info: Info) -> str | None:
        return _error_text(self.error, info)

    @classmethod
    def of(cls, sound: model.SpeakerSound) -> Self:
        return cls(
            id=to_id(sound.id),
            medium=sound.medium,
            participant=None if sound.participant is None else SpeakerParticipant.of(sound.participant),
            track_sid=sound.track_sid,
            status=sound.status,
            started_at=sound.started_at,
            duration_seconds=sound.duration_seconds,
            size_bytes=big(sound.size_bytes),
            sha256=sound.sha256,
            truncated=sound.truncated,
            interrupted=sound.interrupted,
            error=sound.error,
        )


@strawberry.type(description="The state of a recording's transcription. `transcript` returns the text.")
class Transcription:
    status: model.TranscriptionStatus
    language: str | None = strawberry.field(
        description="The language that the speech service reported, as a code of ISO 639."
    )
    pieces_done: int
    pieces_total: int | None = strawberry.field(
        description=(
            "How many chunks of sound the transcription sends to the speech service. The value "
            "is null until the worker has divided the sound into chunks."
        )
    )
    attempt: int = strawberry.field(
        description="The number of the transcription attempt, which is above 1 after a retry."
    )
    unused_track_count: int = strawberry.field(
        description=(
            "How many audio tracks the worker could not decode. The transcript lacks the speech of "
            "tracks that the worker could not decode."
        )
    )
    unintelligible_count: int = strawberry.field(
        description=(
            "How many turns of a READY transcript are unintelligible. `retryTranscription` sends "
            "unintelligible turns to the speech service again."
        )
    )
    is_retried: bool = strawberry.field(
        description=(
            "Whether the unintelligible turns of a READY transcript are being retried. The "
            "transcript can be read while its unintelligible turns are being retried."
        )
    )
    error: str | None = strawberry.field(
        description=(
            "The code of the reason, in snake_case, why the transcription FAILED or is OFF, or why "
            "the last retry of a READY transcript ended early."
        )
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="The `error` code as a sentence in the reader's language."
    )
    def error_text(self, info: Info) -> str | None:
        return None if self.error is None else transcription_error_text(self.error, info.context.language)

    @classmethod
    def of(cls, transcription: model.Transcription) -> Self:
        return cls(
            status=transcription.status,
            language=transcription.language,
            pieces_done=transcription.chunks_done,
            pieces_total=transcription.chunks_total,
            attempt=transcription.attempt,
            unused_track_count=transcription.unused_track_count,
            unintelligible_count=transcription.unintelligible_count,
            is_retried=transcription.is_retried,
            error=transcription.error,
        )


@strawberry.type(description="A recording of a consultation.")
class Recording:
    id: strawberry.ID
    consultation_id: strawberry.ID
    consultation: RecordedConsultation | None
    egress_id: str | None
    room_name: str
    room_sid: str | None
    status: model.RecordingStatus
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: float | None
    size_bytes: BigInt | None
    sha256: str | None
    truncated: bool = strawberry.field(
        description="Whether the recording ended before the consultation, because of a limit or a failure."
    )
    interrupted: bool = strawberry.field(
        description=(
            "Whether the recording has a gap, because LiveKit's recorder lost its connection to the "
            "room for a while."
        )
    )
    error: str | None = strawberry.field(
        description=(
            "The code of the failure or of the event that stopped the recording, in snake_case. "
            "A READY recording has an error code if a failure or an event stopped it too early."
        )
    )
    medium: model.Medium
    source: model.RecordingSource
    speakers: list[SpeakerSound] = strawberry.field(
        description=(
            "The sound recordings that LiveKit made beside the video, oldest first. If the "
            "consultation has `separateSpeakers`, there is one sound recording for each "
            "microphone track."
        )
    )
    transcription: Transcription | None = strawberry.field(
        description="The state of the transcription. The value is null before the recording is READY."
    )
    due_at: datetime | None = strawberry.field(
        description=(
            "When the retention term ends and the recording is destroyed, unless a hold covers it. "
            "The value is null if no retention term is running."
        )
    )
    created_at: datetime
    updated_at: datetime
    storage: Storage | None = strawberry.field(
        description=(
            "The recording's object in the bucket, which only the query `recording` returns. "
            "The value is null before the recording is READY."
        )
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description="The `error` code as a sentence in the reader's language."
    )
    def error_text(self, info: Info) -> str | None:
        return _error_text(self.error, info)

    @classmethod
    def of(cls, recording: model.Recording, storage: model.StoredMedia | None = None) -> Self:
        return cls(
            id=to_id(recording.id),
            consultation_id=to_id(recording.consultation_id),
            consultation=(
                RecordedConsultation.of(recording.consultation) if recording.consultation else None
            ),
            egress_id=recording.egress_id,
            room_name=recording.room_name,
            room_sid=recording.room_sid,
            status=recording.status,
            started_at=recording.started_at,
            ended_at=recording.ended_at,
            duration_seconds=recording.duration_seconds,
            size_bytes=big(recording.size_bytes),
            sha256=recording.sha256,
            due_at=recording.due_at,
            truncated=recording.truncated,
            interrupted=recording.interrupted,
            error=recording.error,
            medium=recording.medium,
            source=recording.source,
            speakers=[SpeakerSound.of(sound) for sound in recording.speakers],
            transcription=(
                None if recording.transcription is None else Transcription.of(recording.transcription)
            ),
            created_at=recording.created_at,
            updated_at=recording.updated_at,
            storage=None if storage is None else Storage.of(storage),
        )


@strawberry.input(
    description="A filter for recordings. A filter field that is omitted matches every recording."
)
class RecordingFilter:
    statuses: list[model.RecordingStatus] | None = None
    consultation_id: strawberry.ID | None = None
    room_name: str | None = None
    egress_id: str | None = strawberry.field(
        default=None, description="LiveKit's id of the egress that records the video."
    )
    patient: PatientBy | None = strawberry.field(
        default=None, description="Only recordings of this patient's consultations."
    )
    created_during: DateTimeRangeInput | None = strawberry.field(
        default=None, description="Only recordings that were requested in this range of time."
    )

    def to_model(self) -> model.RecordingFilter:
        return model.RecordingFilter(
            statuses=None if self.statuses is None else tuple(self.statuses),
            consultation_id=parse_optional_id(self.consultation_id),
            room_name=self.room_name,
            egress_id=self.egress_id,
            patient=self.patient.to_model() if self.patient else None,
            since=self.created_during.from_ if self.created_during else None,
            until=self.created_during.until if self.created_during else None,
        )


@strawberry.type(
    description=(
        "A presigned URL of a recording's file. Everyone who has the URL can download the file "
        "until the URL expires."
    )
)
class DownloadUrl:
    url: Url = strawberry.field(description="The presigned URL, which is a secret.")
    expires_at: datetime = strawberry.field(description="The time until which the URL is valid.")
    expires_in_seconds: int = strawberry.field(
        description="How many seconds the URL is valid from now on, for clients whose clock is wrong."
    )

    @classmethod
    def of(cls, issued: ServiceDownloadUrl) -> Self:
        return cls(
            url=Url(issued.url),
            expires_at=issued.expires_at,
            expires_in_seconds=issued.expires_in_seconds,
        )


@strawberry.input(description="The input with which a doctor starts a recording.")
class StartRecordingInput:
    consultation_id: strawberry.ID = strawberry.field(
        description="The id of a consultation of the calling doctor."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="The result of `startRecording`.")
class StartRecordingPayload:
    recording: Recording = strawberry.field(
        description=(
            "The requested recording, which has no file yet. A repeated call returns the recording of the first call "
            "as it is now."
        )
    )


@strawberry.input(description="The input with which a doctor stops a recording.")
class StopRecordingInput:
    recording_id: strawberry.ID = strawberry.field(description="The id of a recording of the calling doctor.")


@strawberry.type(description="The result of `stopRecording`.")
class StopRecordingPayload:
    recording: Recording = strawberry.field(description="The recording, which LiveKit is asked to stop.")


@strawberry.input(description="The input with which a doctor gets a download URL of a recording.")
class IssueDownloadUrlInput:
    recording_id: strawberry.ID = strawberry.field(
        description="The id of a READY recording of the calling doctor."
    )
    file: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "The id of a READY sound file beside the recording's video. The default is the video. A file of "
            "another recording is NOT_FOUND."
        ),
    )
    purpose_of_use: PurposeOfUse = strawberry.field(
        description="The purpose of the download, which the audit log keeps."
    )


@strawberry.type(description="The result of `issueDownloadUrl`.")
class IssueDownloadUrlPayload:
    download_url: DownloadUrl = strawberry.field(description="The URL of the file, for a few minutes.")


@strawberry.input(description="A signed webhook of LiveKit, which a gateway forwards unchanged.")
class ProcessLivekitWebhookInput:
    body: str = strawberry.field(description="The body of LiveKit's request, byte for byte.")
    authorization: str = strawberry.field(
        description="The header `Authorization` of LiveKit's request, with which LiveKit signed the body."
    )


@strawberry.type(description="The result of `processLivekitWebhook`.")
class ProcessLivekitWebhookPayload:
    is_duplicate: bool = strawberry.field(
        description="Whether the API had already stored the event of this webhook."
    )


def _error_text(error: str | None, info: Info) -> str | None:
    return None if error is None else recording_error_text(error, info.context.language)


def select_recording(info: Info, *path: str) -> model.RecordingSelection:
    """Return the names of the selected fields of the recording at `path` below the root field. Raises InvalidInput
    (storage_in_list) if the client selects `storage`.

    Every root field that returns recordings uses this function, except `recording`. Only `recording` may select
    `storage`, because `storage` costs a request to the bucket.
    """
    fields = selected(info, *path)
    if "storage" in fields:
        raise InvalidInput("storage_in_list")
    return model.RecordingSelection(fields)


def _place(recording: model.Recording) -> Cursor:
    return Cursor(recording.created_at, recording.id)


async def recording(info: Info, by: RecordingBy) -> Recording | None:
    """Return one recording."""
    service, asker = info.context.services.recordings, await info.context.asker()
    selection = model.RecordingSelection(selected(info))
    found = await service.get(asker, by.to_model(), selection)
    if "storage" in selection.fields and found.status is model.RecordingStatus.READY:
        return Recording.of(found, await service.read_stored_media(asker, found.id))
    return Recording.of(found)


async def recordings(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: RecordingFilter | None = None,
) -> Connection[Recording] | None:
    """List the doctor's recordings, newest first."""
    selection = select_recording(info, "edges", "node")
    page = await info.context.services.recordings.page(
        await info.context.asker(),
        page_request(first, after),
        (filter or RecordingFilter()).to_model(),
        selection,
    )
    return Connection.of(page, Recording.of, _place)


async def start_recording(info: Info, input: StartRecordingInput) -> StartRecordingPayload | None:
    """Start a recording of a consultation in which every participant has consented."""
    started = await info.context.services.recordings.start(
        await info.context.asker(),
        parse_id(input.consultation_id),
        select_recording(info, "recording"),
        idempotency_key=input.idempotency_key,
    )
    return StartRecordingPayload(recording=Recording.of(started))


async def stop_recording(info: Info, input: StopRecordingInput) -> StopRecordingPayload | None:
    """Stop the recording. Safe to repeat."""
    after = await info.context.services.recordings.stop(
        await info.context.asker(), parse_id(input.recording_id), select_recording(info, "recording")
    )
    return StopRecordingPayload(recording=Recording.of(after))


async def issue_download_url(info: Info, input: IssueDownloadUrlInput) -> IssueDownloadUrlPayload | None:
    """Issue a URL that downloads a READY recording for a few minutes."""
    issued = await info.context.services.recordings.issue_download_url(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.purpose_of_use,
        file_id=parse_optional_id(input.file),
    )
    return IssueDownloadUrlPayload(download_url=DownloadUrl.of(issued))


async def process_livekit_webhook(
    info: Info, input: ProcessLivekitWebhookInput
) -> ProcessLivekitWebhookPayload | None:
    """Receive a LiveKit webhook that a gateway forwards with the original body and header."""
    try:
        is_new = await info.context.services.recordings.receive_webhook(
            input.body.encode(), input.authorization
        )
    except Unauthenticated:
        info.context.reject("webhook.reject")
        raise
    return ProcessLivekitWebhookPayload(is_duplicate=not is_new)
