"""Verifies the object of a recording: its size, its format and its SHA-256."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from uuid import UUID

from app.errors import UpstreamFailed
from app.integrations.storage.client import Storage
from app.integrations.storage.objects import StoredObject
from app.media.probe import Container, MediaInfo, MediaRefused, ReadRange, probe
from app.postgres.database import Database
from app.recordings import store
from app.recordings.model import Recording, RecordingStatus
from app.recordings.transition_writer import TransitionWriter
from app.recordings.transitions import (
    has_reported_size,
    mark_failed,
    mark_object_absent,
    mark_verified,
    set_stored_at,
)

Probe = Callable[[ReadRange, int, Container], Awaitable[MediaInfo]]


class RecordingVerifier:
    """Verifies objects, as the worker. `probe` opens an object and reads its duration."""

    def __init__(
        self, database: Database, storage: Storage, transitions: TransitionWriter, probe: Probe = probe
    ) -> None:
        self._database = database
        self._storage = storage
        self._transitions = transitions
        self._probe = probe

    async def verify(self, recording_id: UUID) -> None:
        """Verify the object of a recording. The recording becomes READY if the object is complete, can be opened,
        and has the expected SHA-256. The method also verifies a LOST recording if its object has appeared in the
        bucket.

        Raises UpstreamFailed (object_missing) while the object may still arrive.
        """
        async with self._database.as_service("verify_recording") as tx:
            recording = await store.lock(tx, recording_id)
            if recording is None or recording.status not in (RecordingStatus.VERIFYING, RecordingStatus.LOST):
                return
            key = await store.read_object_key(tx, recording_id)
        stored = await self._storage.head(key)
        if stored is None:
            after = await self._transitions.apply(recording_id, mark_object_absent)
            if after is not None and after.status is RecordingStatus.VERIFYING:
                raise UpstreamFailed("object_missing")
            return
        outcome = await self._inspect_object(recording, key, stored)
        await self._transitions.apply(
            recording_id, lambda current, now: outcome(set_stored_at(current, stored.last_modified), now)
        )

    async def _inspect_object(
        self, recording: Recording, key: str, stored: StoredObject
    ) -> Callable[[Recording, datetime], Recording]:
        """Read the bytes of the recording's object, and return the transition that follows from its format and
        SHA-256.
        """
        if not has_reported_size(recording, stored.size_bytes):
            return lambda current, _: mark_failed(current, "object_size_differs")
        try:
            info = await self._probe(
                partial(self._storage.read_range, key, etag=stored.etag),
                stored.size_bytes,
                "ogg" if key.endswith(".ogg") else "mp4",
            )
        except MediaRefused as refused:
            reason = refused.reason
            return lambda current, _: mark_failed(current, reason)
        sha256 = await self._storage.sha256(key, stored)
        return lambda current, _: mark_verified(current, stored.size_bytes, sha256, info.duration_seconds)
