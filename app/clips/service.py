"""The service for clips: a doctor requests a clip, and the worker makes it with `cutter.py`."""

from uuid import UUID

from app.clips import store
from app.clips.model import read_bounds
from app.identity import permissions
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.selection import Selection

_PLAIN = Selection()


class Clips:
    """The service. The newest TOTP code of the caller may be at most `totp_max_age_seconds` old, as for a download."""

    def __init__(self, database: Database, *, totp_max_age_seconds: int) -> None:
        self._database = database
        self._totp_max_age_seconds = totp_max_age_seconds

    async def create(
        self,
        asker: Asker,
        recording_id: UUID,
        start_seconds: float,
        end_seconds: float,
        purpose: str,
        selection: Selection = _PLAIN,
    ) -> Row:
        """Request a clip of a recording, and queue the job that makes it. If the call is repeated with the same bounds,
        it returns the existing clip; if that clip is FAILED, it is made again.

        Raises InvalidInput (bad_clip_range), NotFound, Forbidden (totp_stale), RateLimited (quota_pages), and Conflict
        (recording_not_ready and the other reasons of an unready recording, recording_being_deleted, clip_past_end,
        clip_in_progress, clip_consent_text, clip_consent_withdrawn, too_many_clips).
        """
        bounds = read_bounds(start_seconds, end_seconds)
        access = permissions.CREATE_CLIP.on(recording_id, purpose=purpose)
        async with self._database.as_user(asker, access) as tx:
            clip_id = await store.request(tx, recording_id, bounds, self._totp_max_age_seconds)
            return await store.show(tx, clip_id, selection)
