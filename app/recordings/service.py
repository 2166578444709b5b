"""Services for recordings: list, read, start, stop, download, and receive webhooks."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import PurePosixPath
from typing import LiteralString
from uuid import UUID, uuid4

from app.consultations import service as consultations
from app.errors import Forbidden, InvalidInput, NotFound
from app.idempotency.service import RepeatableCall
from app.identity import permissions
from app.integrations.livekit.client import WebhookVerifier
from app.integrations.storage.client import Storage
from app.jobs.queue import defer_job
from app.postgres.composer import Row
from app.postgres.database import Access, Asker, Database, Transaction
from app.postgres.paging import Page, PageRequest
from app.postgres.references import RecordingBy
from app.postgres.selection import Selection
from app.recordings import store
from app.recordings.blockers import require_startable
from app.recordings.media_ids import playback_type, sound_type
from app.recordings.model import Medium, RecordingFilter, StoredMedia, Viewing
from app.recordings.transitions import mark_stopped, require_ready
from app.recordings.webhook_inbox import WebhookInbox

_PLAIN = Selection()


class PurposeOfUse(StrEnum):
    """The purpose for which PHI is requested: HL7 v3 PurposeOfUse TREAT, HPAYMT, HOPERAT, PATRQT and HLEGAL."""

    TREATMENT = "TREATMENT"
    PAYMENT = "PAYMENT"
    OPERATIONS = "OPERATIONS"
    PATIENT_REQUEST = "PATIENT_REQUEST"
    LEGAL = "LEGAL"


@dataclass(frozen=True)
class DownloadUrl:
    """A presigned URL for a download. Everyone who has the URL can download the file until it expires, even after
    the session has ended. `has_notice` says whether the notice against redisclosure accompanies the file.
    """

    url: str
    expires_at: datetime
    expires_in_seconds: int
    has_notice: bool


@dataclass(frozen=True)
class PlaybackUrl:
    """A presigned URL that plays a file in a browser, and the viewing to which it belongs. Everyone who has the URL
    can play the file until it expires.
    """

    url: str
    expires_at: datetime
    expires_in_seconds: int
    viewing_id: UUID


class Recordings:
    """The service. `url_lifetime_seconds` is between 1 and 900. If `has_routes` is true, the sound beside a video
    is a SPEAKERS recording, for which LiveKit routes each speaker to a channel.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        verifier: WebhookVerifier,
        *,
        url_lifetime_seconds: int,
        totp_max_age_seconds: int,
        has_routes: bool = False,
    ) -> None:
        self.has_routes = has_routes
        self._database = database
        self._storage = storage
        self._verifier = verifier
        self._inbox = WebhookInbox(database)
        self._url_lifetime_seconds = url_lifetime_seconds
        self._totp_max_age_seconds = totp_max_age_seconds

    async def page(
        self, asker: Asker, request: PageRequest, wanted: RecordingFilter, selection: Selection
    ) -> Page[Row]:
        """Return a page of the calling doctor's recordings, newest first. Raises InvalidInput (bad_date)."""
        if any(time is not None and time.tzinfo is None for time in (wanted.since, wanted.until)):
            raise InvalidInput("bad_date")
        access = permissions.LIST_RECORDINGS.on()
        async with self._database.as_user(asker, access) as tx:
            return await store.list_page(tx, request, wanted, selection)

    async def get(self, asker: Asker, by: RecordingBy, selection: Selection) -> Row:
        """Return the recording with this id, or the one whose video this egress recorded. Raises NotFound."""
        access = permissions.READ_RECORDING.on(by.id)
        async with self._database.as_user(asker, access) as tx:
            recording_id = by.id or await store.find_by_egress(tx, by.egress_id or "")
            return _require_found(await store.show(tx, recording_id, selection))

    async def read_stored_media(self, asker: Asker, recording_id: UUID) -> StoredMedia:
        """Return the metadata of a READY recording's object. Raises NotFound, Conflict, UpstreamFailed, Timeout."""
        access = permissions.READ_STORAGE.on(recording_id)
        key, _, _ = await self._release_key(asker, access, recording_id)
        stored = await self._storage.head(key)
        if stored is None:
            return StoredMedia(exists=False, size_bytes=None, content_type=None)
        return StoredMedia(exists=True, size_bytes=stored.size_bytes, content_type=stored.content_type)

    async def start(
        self,
        asker: Asker,
        consultation_id: UUID,
        selection: Selection = _PLAIN,
        *,
        idempotency_key: str | None = None,
    ) -> Row:
        """Store a requested video, and queue the job that asks LiveKit to start the egress. The worker requests the
        sound recordings beside the video later. A repeated call with the same `idempotency_key` returns the
        recording of the first call as it is now.

        Raises NotFound, InvalidInput (bad_idempotency_key) and Conflict (consent_missing, with the participants;
        live_recording_exists, with its id; speakers_with_guests; idempotency_key_reused).
        """
        call = RepeatableCall("startRecording", idempotency_key, consultation_id)
        access = permissions.START_RECORDING.on(consultation_id)
        async with self._database.as_user(asker, access) as tx:
            consultation = await consultations.lock(tx, consultation_id, access.action)
            earlier = await call.claim(tx)
            if earlier is not None:
                return _require_found(await store.show(tx, earlier, selection, access.action))
            blockers = await store.read_blockers(tx, consultation_id)
            require_startable(blockers, has_routes=self.has_routes)
            recording_id = uuid4()
            await store.insert(
                tx,
                recording_id=recording_id,
                consultation_id=consultation_id,
                doctor_id=consultation.doctor_id,
                patient_id=consultation.patient_id,
                room_name=consultation.room_name,
            )
            await defer_job(tx, "start_recording", recording_id)
            await call.settle(tx, recording_id)
            return _require_found(await store.show(tx, recording_id, selection, access.action))

    async def stop(self, asker: Asker, recording_id: UUID, selection: Selection = _PLAIN) -> Row:
        """Store that the recording is stopped, and queue the job that asks LiveKit to stop the egress. If the
        recording was stopped before or has ended, the method changes nothing.

        Raises NotFound, and Forbidden (not_permitted) for a colleague of the doctor.
        """
        access = permissions.STOP_RECORDING.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            before = await store.lock(tx, recording_id)
            if before is not None and before.medium is Medium.VIDEO and mark_stopped(before) != before:
                await store.update_status(tx, mark_stopped(before))
                await defer_job(tx, "stop_recording", recording_id)
            shown = _require_found(await store.show(tx, recording_id, selection, access.action))
            if before is None:  # a colleague may see the recording but not stop it
                raise Forbidden("not_permitted")
            return shown

    async def issue_download_url(
        self, asker: Asker, recording_id: UUID, purpose: PurposeOfUse, *, file_id: UUID | None = None
    ) -> DownloadUrl:
        """Return a presigned URL for a download of the recording's video, or of its media file with this id. The
        audit row with the person and the purpose is committed before the URL is made.

        Raises NotFound, Conflict (recording_not_ready, recording_failed, recording_aborted, recording_lost,
        recording_deleted, recording_being_deleted), Forbidden (totp_stale) and RateLimited (quota_urls).
        """
        access = permissions.ISSUE_DOWNLOAD_URL.on(recording_id, purpose=purpose)
        key, lifetime, has_notice = await self._release_key(
            asker,
            access,
            recording_id,
            totp_max_age_seconds=self._totp_max_age_seconds,
            file_id=file_id,
        )
        url = self._storage.presign_get(
            key,
            expires_in_seconds=lifetime,
            filename=f"{file_id or recording_id}{PurePosixPath(key).suffix}",
            content_type=sound_type(key),
        )
        return DownloadUrl(url, datetime.now(UTC) + timedelta(seconds=lifetime), lifetime, has_notice)

    async def issue_playback_url(
        self,
        asker: Asker,
        recording_id: UUID,
        purpose: PurposeOfUse,
        *,
        file_id: UUID | None = None,
        viewing_id: UUID | None = None,
    ) -> PlaybackUrl:
        """Return a presigned URL that plays the recording's video, or its media file with this id, in a browser.
        The first URL of a viewing is issued without `viewing_id`; each further URL names the viewing of the first,
        so the audit log shows one viewing and not many. The audit row is committed before the URL is made.

        Raises like `issue_download_url`, but RateLimited (quota_playbacks), and Conflict (viewing_not_renewable) if the
        caller did not begin this viewing of this file for this purpose within the last 12 hours.
        """
        viewing = Viewing(viewing_id or uuid4(), is_renewal=viewing_id is not None)
        key, lifetime, _ = await self._release_key(
            asker,
            permissions.ISSUE_PLAYBACK_URL.on(recording_id, purpose=purpose),
            recording_id,
            totp_max_age_seconds=self._totp_max_age_seconds,
            file_id=file_id,
            viewing=viewing,
        )
        url = self._storage.presign_get(
            key,
            expires_in_seconds=lifetime,
            filename=f"{file_id or recording_id}{PurePosixPath(key).suffix}",
            content_type=playback_type(key),
            disposition="inline",
        )
        return PlaybackUrl(url, datetime.now(UTC) + timedelta(seconds=lifetime), lifetime, viewing.id)

    async def receive_webhook(self, body: bytes, authorization: str | None) -> bool:
        """Store a signed LiveKit event in the inbox. Return False if the event was already in the inbox.

        Raises Unauthenticated (webhook_signature), InvalidInput (webhook_body, webhook_status). Raises
        UpstreamFailed or Timeout only if the commit failed.
        """
        return await self._inbox.receive(self._verifier.verify(body, authorization))

    async def _release_key(
        self,
        asker: Asker,
        access: Access,
        recording_id: UUID,
        *,
        totp_max_age_seconds: int | None = None,
        file_id: UUID | None = None,
        viewing: Viewing | None = None,
    ) -> tuple[str, int, bool]:
        """Return the object key of a READY file of a recording, after the audit row is committed, and the number of
        seconds for which a URL may be valid. A URL is valid no longer than the caller's access, because a share or an
        emergency access may end before the lifetime of URLs. Also return whether the notice against redisclosure
        accompanies the file.

        The method raises Conflict only after the commit, so that a refused request leaves an audit row too.
        """
        async with self._database.as_user(asker, access) as tx:
            key = await store.release_object_key(
                tx,
                recording_id,
                access.action,
                totp_max_age_seconds=totp_max_age_seconds,
                file_id=file_id,
                viewing=viewing,
            )
            if key is None:
                raise NotFound("recording_not_found")
            reason = "" if key else await store.read_unready_reason(tx, file_id or recording_id)
            lifetime, has_notice = await store.read_lifetime(tx, recording_id, self._url_lifetime_seconds)
            if lifetime < 1:
                raise NotFound("recording_not_found")
        return require_ready(key, reason), lifetime, has_notice


async def show_recording(
    tx: Transaction,
    recording_id: UUID,
    selection: Selection,
    action: LiteralString = permissions.READ_RECORDING.action,
) -> Row:
    """Write the audit row of another feature's action and return a recording, in the transaction of that feature.
    Raises NotFound.
    """
    return _require_found(await store.show(tx, recording_id, selection, action))


def _require_found(recording: Row | None) -> Row:
    if recording is None:
        raise NotFound("recording_not_found")
    return recording
