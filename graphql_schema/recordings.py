"""GraphQL types and root fields for recordings."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self

import strawberry

from app.errors import Unauthenticated
from app.postgres.composer import Row
from app.postgres.paging import DEFAULT_PAGE_SIZE, page_request
from app.recordings import model
from app.recordings.service import DownloadUrl as ServiceDownloadUrl
from app.recordings.service import PurposeOfUse
from app.texts import Language, redisclosure_notice
from app.thumbnails.model import ThumbnailStatus
from graphql_schema.connections import Connection
from graphql_schema.consultations import Consultation, Participant
from graphql_schema.context import Info
from graphql_schema.idempotency_keys import IDEMPOTENCY_KEY
from graphql_schema.nodes import Node
from graphql_schema.problems import InsightsProblem, RecordingProblem, TranscriptionProblem
from graphql_schema.references import ConsultationBy, DateTimeRangeInput, PatientBy, RecordingBy
from graphql_schema.rows import shown
from graphql_schema.scalars import BigInt, Url, big, parse_id, parse_optional_id
from graphql_schema.selected_fields import select

if TYPE_CHECKING:
    from graphql_schema.clips import Clip
    from graphql_schema.deletions import Deletion


@strawberry.type(
    description=(
        "This is what the bucket says now about the video of a recording. Only the doctor of the recording may read it."
    )
)
class StoredObject:
    exists: bool = strawberry.field(description="This says whether the bucket has the object.")
    size_bytes: BigInt | None = strawberry.field(
        description="The object has this many bytes. It is null if the bucket has no object."
    )
    content_type: str | None = strawberry.field(
        description="This is the media type of the object. It is null if the bucket has no object."
    )


@strawberry.type(
    description=(
        "This is a sound file that LiveKit records beside the video of a recording. `issueDownloadUrl` takes "
        "its id as `file`. Everyone who may read the recording may read its media files."
    )
)
class MediaFile(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the media file.")
    kind: model.Medium = strawberry.field(description="The kind says what the file contains.")
    participant: Participant | None = strawberry.field(
        description=(
            "The microphone of this participant was recorded. The value is null for a SPEAKERS file, which "
            "contains several people on two channels."
        )
    )
    track_sid: str | None = strawberry.field(
        description=(
            "This is LiveKit's id of the microphone track. If a participant publishes a microphone again, "
            "LiveKit gives it a new track id."
        )
    )
    status: model.RecordingStatus = strawberry.field(description="This is the status of the sound recording.")
    started_at: datetime | None = strawberry.field(
        description="The sound begins at this time. It is null until the sound has begun."
    )
    duration_seconds: float | None = strawberry.field(
        description="The sound lasts this many seconds. It is null while the duration is not known."
    )
    size_bytes: BigInt | None = strawberry.field(
        description="The file has this many bytes. It is null while the size is not known."
    )
    sha256: str | None = strawberry.field(
        description="This is the SHA-256 of the file in hex. It is null until the file is verified."
    )
    is_truncated: bool = strawberry.field(
        description="This says whether the sound ended too early, because of a limit or a failure."
    )
    is_interrupted: bool = strawberry.field(
        description=(
            "This says whether the sound has a gap, because LiveKit's recorder lost its connection to the room "
            "for some time."
        )
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This says why the sound recording failed or ended too early. It is null if neither happened."
        )
    )
    def problem(root: strawberry.Parent[Row], info: Info) -> RecordingProblem | None:
        return RecordingProblem.of(root["problem"], info.context.language)


@strawberry.type(
    description="This is the state of a recording's transcription. `transcript` returns the text."
)
class Transcription:
    status: model.TranscriptionStatus = strawberry.field(
        description="This is the status of the transcription."
    )
    language_code: str | None = strawberry.field(
        description=(
            "This is the language that the speech service reported, as a code of ISO 639. It is null if it "
            "reported none."
        )
    )
    chunks_done: int = strawberry.field(
        description="This says how many chunks of sound the speech service has answered."
    )
    chunk_count: int | None = strawberry.field(
        description=(
            "This says how many chunks of sound the transcription sends to the speech service. The value is "
            "null until the worker has divided the sound into chunks."
        )
    )
    attempt: int = strawberry.field(
        description="This is the number of the transcription attempt, which is above 1 after a retry."
    )
    unused_track_count: int = strawberry.field(
        description=(
            "This says how many audio tracks the worker could not decode. The transcript lacks the speech of "
            "these tracks."
        )
    )
    unintelligible_count: int = strawberry.field(
        description=(
            "This says how many turns of a READY transcript are unintelligible. `retryTranscription` sends "
            "unintelligible turns to the speech service again."
        )
    )
    is_retried: bool = strawberry.field(
        description=(
            "This says whether the unintelligible turns of a READY transcript are being retried. The "
            "transcript can be read meanwhile."
        )
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This says why the transcription FAILED or is OFF, or why the last retry of a READY transcript "
            "ended early. It is null if there is none."
        )
    )
    def problem(root: strawberry.Parent[Row], info: Info) -> TranscriptionProblem | None:
        return TranscriptionProblem.of(root["problem"], info.context.language)


@strawberry.type(
    description="This says how far the insights into a recording are. `insights` returns the insights themselves."
)
class InsightsProgress:
    status: model.InsightsStatus = strawberry.field(description="This is the status of the insights.")
    parts_done: int = strawberry.field(
        description="This says for how many parts of the transcript the language service has answered."
    )
    part_count: int | None = strawberry.field(
        description=(
            "This says into how many parts the worker has divided the transcript. A transcript of up to 1,000 turns "
            "has one part. The value is null until the worker has divided it."
        )
    )
    attempt: int = strawberry.field(
        description="This is the number of the attempt, which is above 1 after a retry or a refresh."
    )
    is_refreshed: bool = strawberry.field(
        description="This says whether the worker is writing STALE insights again. They can be read meanwhile."
    )
    dropped_count: int = strawberry.field(
        description=(
            "This says how many lines of the language model were left out, because their quotes are not in the "
            "transcript."
        )
    )
    dismissed_count: int = strawberry.field(
        description="This says how many lines the doctor has dismissed as wrong."
    )
    written_at: datetime | None = strawberry.field(
        description="This is when the readable insights were written. It is null if there are none."
    )

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This says why the insights FAILED or are OFF, why they wait, or why the last refresh ended without new "
            "ones. It is null if there is none."
        )
    )
    def problem(root: strawberry.Parent[Row], info: Info) -> InsightsProblem | None:
        return InsightsProblem.of(root["problem"], info.context.language)


@strawberry.type(
    description=(
        "This is a recording of a consultation: its video and what belongs to it. Its doctor may read it, and "
        "compliance officers may read it without its content."
    )
)
class Recording(Node):
    id: strawberry.ID = strawberry.field(description="This is the id of the recording.")
    consultation: Consultation = strawberry.field(description="This is the consultation that was recorded.")
    egress_id: str | None = strawberry.field(
        description=(
            "This is LiveKit's id of the egress that records the video. It is null before the egress has "
            "started."
        )
    )
    room_name: str = strawberry.field(description="This is the name of the LiveKit room.")
    room_sid: str | None = strawberry.field(
        description="This is LiveKit's id of the room. It is null before the recording has started."
    )
    status: model.RecordingStatus = strawberry.field(description="This is the status of the recording.")
    started_at: datetime | None = strawberry.field(
        description="The video begins at this time. It is null until the video has begun."
    )
    ended_at: datetime | None = strawberry.field(
        description="The video ended at this time. It is null until the video has ended."
    )
    duration_seconds: float | None = strawberry.field(
        description="The video lasts this many seconds. It is null while the duration is not known."
    )
    size_bytes: BigInt | None = strawberry.field(
        description="The video has this many bytes. It is null while the size is not known."
    )
    sha256: str | None = strawberry.field(
        description="This is the SHA-256 of the video in hex. It is null until the video is verified."
    )
    is_truncated: bool = strawberry.field(
        description=(
            "This says whether the recording ended before the consultation, because of a limit or a failure."
        )
    )
    is_interrupted: bool = strawberry.field(
        description=(
            "This says whether the recording has a gap, because LiveKit's recorder lost its connection to the "
            "room for some time."
        )
    )
    source: model.RecordingSource = strawberry.field(
        description=(
            "The source says whether LiveKit recorded the consultation or somebody imported the file."
        )
    )
    media_files: list[MediaFile] = strawberry.field(
        description=(
            "These are the sound files that LiveKit recorded beside the video, oldest first, at most 100. If "
            "the consultation has `recordsSpeakersSeparately`, there is one file for each microphone track."
        )
    )
    clips: list[Annotated["Clip", strawberry.lazy("graphql_schema.clips")]] = strawberry.field(
        description=(
            "These are the clips of the recording, in the order of their bounds, at most 100. `createClip` makes one."
        )
    )
    thumbnail_status: ThumbnailStatus | None = strawberry.field(
        description=(
            "This is the status of the thumbnail, a small picture of the video. It is null if no thumbnail is made: "
            "the practice has not switched thumbnails on, the consultation is sensitive, or not everybody consents to "
            "a text that names clips."
        )
    )
    transcription: Transcription | None = strawberry.field(
        description=(
            "This is the state of the transcription. The value is null before the recording is READY."
        )
    )
    insights: InsightsProgress | None = strawberry.field(
        description="This says how far the insights are. The value is null before the transcript is READY."
    )
    deletion: Annotated["Deletion", strawberry.lazy("graphql_schema.deletions")] | None = strawberry.field(
        description=(
            "This is the newest deletion of the recording. It is null if nobody has requested one and none was "
            "due."
        )
    )
    retention_ends_at: datetime | None = strawberry.field(
        description=(
            "This is when the retention term of the recording ends. A requested deletion does not change it. "
            "The value is null if no retention term is running."
        )
    )
    is_held: bool = strawberry.field(
        description=(
            "This says whether a legal hold or an open access request forbids the destruction of the "
            "recording. It tells neither who placed a hold nor the reason."
        )
    )
    created_at: datetime = strawberry.field(description="This is when the recording was requested.")
    updated_at: datetime = strawberry.field(description="This is when the recording last changed.")

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "These are the names of the insights' topics, without those that the doctor has dismissed. The value is "
            "null if there are no readable insights, and for everybody but the doctor of the recording."
        )
    )
    def topics(root: strawberry.Parent[Row], info: Info) -> list[str] | None:
        encrypted = root["topics"]
        return None if encrypted is None else info.context.services.topics.read(encrypted)

    @strawberry.field(  # type: ignore[untyped-decorator] # strawberry types it as Any
        description=(
            "This says why the recording failed or ended too early. It is null if neither happened. A READY "
            "recording has a problem if a failure or an event stopped it too early."
        )
    )
    def problem(root: strawberry.Parent[Row], info: Info) -> RecordingProblem | None:
        return RecordingProblem.of(root["problem"], info.context.language)


@strawberry.input(
    description="This filters recordings. A field of the filter that is omitted matches every recording."
)
class RecordingFilter:
    statuses: list[model.RecordingStatus] | None = strawberry.field(
        default=None,
        description=(
            "The filter selects only recordings with one of these statuses. An empty list matches none."
        ),
    )
    consultation: ConsultationBy | None = strawberry.field(
        default=None,
        description=(
            "The filter selects only recordings of this consultation. If the consultation does not exist, or "
            "the caller may not see it, the page is empty."
        ),
    )
    patient: PatientBy | None = strawberry.field(
        default=None, description="The filter selects only recordings of this patient's consultations."
    )
    room_name: str | None = strawberry.field(
        default=None,
        description="The filter selects only recordings of the LiveKit room with exactly this name.",
    )
    created_during: DateTimeRangeInput | None = strawberry.field(
        default=None,
        description=("The filter selects only recordings that were requested in this range of time."),
    )

    def to_model(self) -> model.RecordingFilter:
        return model.RecordingFilter(
            statuses=None if self.statuses is None else tuple(self.statuses),
            consultation=self.consultation.to_model() if self.consultation else None,
            room_name=self.room_name,
            patient=self.patient.to_model() if self.patient else None,
            since=self.created_during.from_ if self.created_during else None,
            until=self.created_during.until if self.created_during else None,
        )


@strawberry.type(
    description=(
        "This is a presigned URL of a recording's file. Everyone who has the URL can download the file until "
        "the URL expires."
    )
)
class DownloadUrl:
    url: Url = strawberry.field(description="This is the presigned URL, which is a secret.")
    expires_at: datetime = strawberry.field(description="The URL is valid until this time.")
    expires_in_seconds: int = strawberry.field(
        description=(
            "The URL is valid for this many seconds from now on. The value does not depend on the client's "
            "clock."
        )
    )
    redisclosure_notice: str | None = strawberry.field(
        description=(
            "This notice accompanies information about the treatment of a substance use disorder (42 CFR 2.32), in the "
            "language of the request. It is null if the consultation is not of the sensitivity `SUBSTANCE_USE`."
        )
    )

    @classmethod
    def of(cls, issued: ServiceDownloadUrl, language: Language) -> Self:
        return cls(
            url=Url(issued.url),
            expires_at=issued.expires_at,
            expires_in_seconds=issued.expires_in_seconds,
            redisclosure_notice=redisclosure_notice(language) if issued.has_notice else None,
        )


@strawberry.input(description="With this input, a doctor starts a recording.")
class StartRecordingInput:
    consultation_id: strawberry.ID = strawberry.field(
        description="This is the id of a consultation of the calling doctor."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="`startRecording` returns this payload.")
class StartRecordingPayload:
    recording: Recording = strawberry.field(
        description=(
            "This is the requested recording, which has no file yet. A repeated call returns the recording of "
            "the first call as it is now."
        )
    )


@strawberry.input(description="With this input, a doctor stops a recording.")
class StopRecordingInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a recording of the calling doctor."
    )


@strawberry.type(description="`stopRecording` returns this payload.")
class StopRecordingPayload:
    recording: Recording = strawberry.field(
        description=("This is the recording, which LiveKit is asked to stop.")
    )


@strawberry.input(description="With this input, a doctor gets a download URL of a recording.")
class IssueDownloadUrlInput:
    recording_id: strawberry.ID = strawberry.field(
        description="This is the id of a READY recording of the calling doctor."
    )
    file: strawberry.ID | None = strawberry.field(
        default=None,
        description=(
            "This is the id of a READY media file of the recording. If it is omitted, the URL is for the "
            "video. A media file of another recording is refused with NOT_FOUND."
        ),
    )
    purpose_of_use: PurposeOfUse = strawberry.field(
        description="The caller downloads the file for this purpose, which the audit log keeps."
    )


@strawberry.type(description="`issueDownloadUrl` returns this payload.")
class IssueDownloadUrlPayload:
    download_url: DownloadUrl = strawberry.field(
        description="This is the URL of the file, which is valid for a few minutes."
    )


@strawberry.input(description="This is a signed webhook of LiveKit, which a gateway forwards unchanged.")
class ProcessLivekitWebhookInput:
    body: str = strawberry.field(description="This is the body of LiveKit's request, byte for byte.")
    authorization: str = strawberry.field(
        description=(
            "This is the header `Authorization` of LiveKit's request, with which LiveKit signed the body."
        )
    )


@strawberry.type(description="`processLivekitWebhook` returns this payload.")
class ProcessLivekitWebhookPayload:
    is_duplicate: bool = strawberry.field(
        description="This says whether the API had already stored the event of this webhook."
    )


async def recording(info: Info, by: RecordingBy) -> Recording | None:
    """Return one recording."""
    found = await info.context.services.recordings.get(
        await info.context.asker(), by.to_model(), select(info)
    )
    return shown(Recording, found)


async def stored_object(info: Info, recording_id: strawberry.ID) -> StoredObject | None:
    """Return what the bucket says about the video of a READY recording."""
    stored = await info.context.services.recordings.read_stored_media(
        await info.context.asker(), parse_id(recording_id)
    )
    return StoredObject(
        exists=stored.exists, size_bytes=big(stored.size_bytes), content_type=stored.content_type
    )


async def recordings(
    info: Info,
    first: int = DEFAULT_PAGE_SIZE,
    after: str | None = None,
    filter: RecordingFilter | None = None,
) -> Connection[Recording] | None:
    """List the doctor's recordings, newest first."""
    page = await info.context.services.recordings.page(
        await info.context.asker(),
        page_request(first, after),
        (filter or RecordingFilter()).to_model(),
        select(info, "edges", "node"),
    )
    return Connection.of_rows(page)


async def start_recording(info: Info, input: StartRecordingInput) -> StartRecordingPayload | None:
    """Start a recording of a consultation in which every participant has consented."""
    started = await info.context.services.recordings.start(
        await info.context.asker(),
        parse_id(input.consultation_id),
        select(info, "recording"),
        idempotency_key=input.idempotency_key,
    )
    return StartRecordingPayload(recording=shown(Recording, started))


async def stop_recording(info: Info, input: StopRecordingInput) -> StopRecordingPayload | None:
    """Stop the recording. Safe to repeat."""
    after = await info.context.services.recordings.stop(
        await info.context.asker(), parse_id(input.recording_id), select(info, "recording")
    )
    return StopRecordingPayload(recording=shown(Recording, after))


async def issue_download_url(info: Info, input: IssueDownloadUrlInput) -> IssueDownloadUrlPayload | None:
    """Issue a URL that downloads a READY recording for a few minutes."""
    issued = await info.context.services.recordings.issue_download_url(
        await info.context.asker(),
        parse_id(input.recording_id),
        input.purpose_of_use,
        file_id=parse_optional_id(input.file),
    )
    return IssueDownloadUrlPayload(download_url=DownloadUrl.of(issued, info.context.language))


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
