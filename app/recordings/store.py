"""The database rows of recordings."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from pydantic import TypeAdapter

from app.errors import NotFound
from app.identity import permissions
from app.integrations.livekit.client import WebhookEvent
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.references import CONSULTATION, PATIENT
from app.postgres.selection import Selection
from app.recordings.blockers import Blocker
from app.recordings.media_ids import MediaId
from app.recordings.model import Recording, RecordingFilter, SoundMode, Viewing

_sql = Queries(Path(__file__).with_name("queries.sql"))
_recordings = TypeAdapter(list[Recording])
_blockers = TypeAdapter(list[Blocker])
_RECORDING: Final = EntityRead(
    entities=ENTITIES,
    entity="recording",
    where="r.id = %(id)s and r.medium = 'VIDEO'",
    action=permissions.READ_RECORDING.action,
    asked="%(id)s",
)
_RECORDINGS: Final = EntityList(
    entities=ENTITIES,
    entity="recording",
    always="r.medium = 'VIDEO'",
    narrow={
        "consultation": f"r.consultation_id = (select {CONSULTATION})",
        "room_name": "r.room_name = %(room_name)s",
    },
    conditions={
        "since": "r.created_at >= (select %(since)s::timestamptz)",
        "patient": f"r.patient_id = (select {PATIENT})",
    },
    one_of={"statuses": "r.status = v.value"},
    action=permissions.LIST_RECORDINGS.action,
    time="created_at",
    asked=CONSULTATION,
    asked_type="consultation",
    is_visible=f"exists (select from resguardo.consultations as c where c.id = (select {CONSULTATION}))",
)


_WATCHED: Final = EntityList(
    entities=ENTITIES,
    entity="recording",
    narrow={"ids": "r.id = any(%(ids)s::uuid[]) and r.medium = 'VIDEO'"},
    action=permissions.WATCH_OWN_RECORDINGS.action,
    time="created_at",
)


async def list_page(
    tx: Transaction, request: PageRequest, wanted: RecordingFilter, selection: Selection
) -> Page[Row]:
    """Write the audit row and return a page, newest first."""
    return await _RECORDINGS.page(tx, request.before(wanted.until), wanted.parameters, selection)


async def show(
    tx: Transaction,
    recording_id: UUID,
    selection: Selection,
    action: LiteralString = permissions.READ_RECORDING.action,
    *,
    counts_as_page: bool = True,
) -> Row | None:
    """Write the audit row and return the recording. Return None if the recording does not exist or is hidden from
    the caller.
    """
    return await _RECORDING.show(
        tx, selection, {"id": recording_id}, action=action, is_counted=counts_as_page
    )


async def show_watched(
    tx: Transaction, ids: Sequence[UUID], selection: Selection, *, counts_as_page: bool
) -> list[Row]:
    """Return the recordings with these ids that the caller may see, in the order of `ids`, and write one audit row of
    the subscription. The function writes the audit row even if the caller may see no recording.
    """
    request = PageRequest(max(1, len(ids)), None)
    page = await _WATCHED.page(tx, request, {"ids": list(ids)}, selection, is_counted=counts_as_page)
    found = {UUID(row["id"]): row for row in page.items}
    return [found[one] for one in ids if one in found]


async def find_by_egress(tx: Transaction, egress_id: str) -> UUID:
    """Return the id of the recording whose video this egress recorded, even if it is hidden from the caller. Return
    the max UUID, which is the id of no recording, for an unknown egress.
    """
    return UUID(str(await tx.value(_sql["find_by_egress"], {"egress_id": egress_id})))


async def insert(
    tx: Transaction,
    *,
    recording_id: UUID,
    consultation_id: UUID,
    doctor_id: UUID,
    patient_id: UUID,
    room_name: str,
) -> None:
    """Insert a REQUESTED video and its object key. Raises Conflict (recordings_one_live_key)."""
    await tx.run(
        _sql["insert_recording"],
        {
            "id": recording_id,
            "consultation_id": consultation_id,
            "doctor_id": doctor_id,
            "patient_id": patient_id,
            "room_name": room_name,
        },
    )
    await tx.run(_sql["assign_object_key"], {"id": recording_id})


async def read_blockers(tx: Transaction, consultation_id: UUID) -> list[Blocker]:
    """Return why no recording of the consultation can start now. The list is empty if a recording can start."""
    return _blockers.validate_python(
        await tx.all(_sql["read_blockers"], {"consultation_id": consultation_id})
    )


async def release_object_key(
    tx: Transaction,
    recording_id: UUID,
    action: LiteralString,
    *,
    totp_max_age_seconds: int | None,
    file_id: UUID | None = None,
    viewing: Viewing | None = None,
) -> str | None:
    """Write the audit row and return the object key of the recording's video, or of its media file with this id. The
    key is None if the recording is hidden from the caller or has no such file, and '' if the file is not READY. A
    playback URL has a viewing, which the audit row names.
    """
    key = await tx.value(
        _sql["release_object_key"],
        {
            "id": recording_id,
            "action": action,
            "totp_max_age_seconds": totp_max_age_seconds,
            "file_id": file_id,
            "viewing_id": viewing.id if viewing else None,
            "is_renewal": viewing is not None and viewing.is_renewal,
        },
    )
    return None if key is None else str(key)


async def read_unready_reason(tx: Transaction, recording_id: UUID) -> str:
    """Return the reason why a recording of the caller has no object that can be opened."""
    return str(await tx.value(_sql["read_unready_reason"], {"id": recording_id}))


async def read_lifetime(tx: Transaction, recording_id: UUID, most: int) -> tuple[int, bool]:
    """Return the number of seconds for which a URL of a recording may be valid: at most `most`, and no longer than the
    caller has access to the recording. Also return whether the notice against redisclosure accompanies the recording.
    """
    row = await tx.one(_sql["read_lifetime"], {"id": recording_id, "most": most})
    return (0, False) if row is None else (row["seconds"] or 0, row["has_notice"])


async def lock(tx: Transaction, recording_id: UUID) -> Recording | None:
    """Lock a recording until the transaction ends, and return the recording."""
    rows = _recordings.validate_python(await tx.all(_sql["lock_recording"], {"id": recording_id}))
    return rows[0] if rows else None


async def lock_live(tx: Transaction, consultation_id: UUID) -> list[Recording]:
    """Lock and return the live recordings of a consultation, the video first."""
    return _recordings.validate_python(
        await tx.all(_sql["lock_live_recordings"], {"consultation_id": consultation_id})
    )


async def lock_live_sound(tx: Transaction, video_id: UUID) -> list[Recording]:
    """Lock and return the live sound recordings beside a video. A video has at most 100 sound recordings
    (`private.request_sound`).
    """
    return _recordings.validate_python(await tx.all(_sql["lock_live_sound"], {"id": video_id}))


async def find_by_media(tx: Transaction, media: MediaId) -> UUID | None:
    """Return the id of a recording of the given medium: the recording with the given id, or the one that belongs to
    the video with this id. Return None if no such recording exists.
    """
    media_id, medium = media
    found = await tx.value(_sql["find_recording"], {"media_id": media_id, "medium": medium})
    return None if found is None else UUID(str(found))


async def list_unfinished(tx: Transaction) -> list[Recording]:
    """Return all recordings that are not terminal, oldest first. Needs the worker's role."""
    return _recordings.validate_python(await tx.all(_sql["list_unfinished"]))


async def change_object_key(tx: Transaction, recording_id: UUID, key: str) -> None:
    """Change the object key of a recording. Raises Conflict (object_key_of_another). Needs the worker's role."""
    await tx.run(_sql["change_object_key"], {"id": recording_id, "key": key})


async def request_recording(tx: Transaction, consultation_id: UUID) -> UUID | None:
    """Request the automatic recording of a consultation, and return the recording's id. Return None if no automatic
    recording may be requested. Needs the worker's role.
    """
    made = await tx.value(_sql["request_recording"], {"consultation_id": consultation_id})
    return None if made is None else UUID(str(made))


async def request_sound(
    tx: Transaction, video_id: UUID, microphones: Sequence[tuple[str, str]], sound: SoundMode
) -> int:
    """Request the sound recordings that a live video does not have yet. Return the number of sound recordings that
    this call requested. Needs the worker's role.

    `microphones` are the published tracks, as (identity, track SID).
    """
    given = {
        "video_id": video_id,
        "identities": [identity for identity, _ in microphones],
        "track_sids": [track_sid for _, track_sid in microphones],
        "sound_file": sound.file_type,
        "is_routed": sound.is_routed,
    }
    requested: int = await tx.value(_sql["request_sound"], given)
    return requested


async def find_watched_consultation(tx: Transaction, room_name: str) -> UUID | None:
    """Return the consultation of a room that is being recorded or may still be recorded automatically, or None.
    Needs the worker's role.
    """
    found = await tx.value(_sql["find_watched_consultation"], {"room_name": room_name})
    return None if found is None else UUID(str(found))


async def record_stray(tx: Transaction, consultation_id: UUID | None, reason: LiteralString) -> None:
    """Write the audit row for the stop of a stray egress, which belongs to no recording. Needs the worker's role."""
    await tx.run(_sql["record_stray"], {"consultation_id": consultation_id, "reason": reason})


async def update_status(tx: Transaction, recording: Recording) -> None:
    """Update the status. Needs the doctor's role. Of all columns of a recording, a doctor may change only the
    status.
    """
    await tx.run(_sql["update_status"], {"id": recording.id, "status": recording.status})


async def update(tx: Transaction, recording: Recording) -> None:
    """Update the recording. Needs the worker's role."""
    await tx.run(_sql["update_recording"], asdict(recording))


async def request_thumbnail(tx: Transaction, recording_id: UUID) -> None:
    """Queue the job that makes the thumbnail of a READY video, if the video may have one. Needs the worker's role."""
    await tx.run(_sql["request_thumbnail"], {"id": recording_id})


async def read_object_key(tx: Transaction, recording_id: UUID) -> str:
    """Write the audit row and return the recording's object key. Raises NotFound for a recording without a key.
    Needs the worker's role.
    """
    key = await tx.value(_sql["read_object_key"], {"id": recording_id})
    if key is None:
        raise NotFound("recording_not_found")
    return str(key)


async def read_event(tx: Transaction, event_id: str) -> tuple[str | None, str | None] | None:
    """Return the egress id and the room name of an event in the inbox."""
    row = await tx.one(_sql["read_event"], {"event_id": event_id})
    return None if row is None else (row["egress_id"], row["room_name"])


async def receive_events(tx: Transaction, events: list[WebhookEvent]) -> set[str]:
    """Store events in the inbox and queue their jobs. Return the ids of the events that were not in the inbox
    already.

    The events are stored in the order of their ids, so that two transactions with the same events cannot deadlock.
    """
    ordered = sorted(events, key=lambda event: event.event_id)
    given = {
        "event_ids": [event.event_id for event in ordered],
        "events": [event.event for event in ordered],
        "egress_ids": [event.egress_id for event in ordered],
        "room_names": [event.room_name for event in ordered],
        "times": [event.created_at for event in ordered],
    }
    return set(await tx.value(_sql["receive_events"], given) or ())
