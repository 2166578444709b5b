"""Services with which the API reads the insights into one recording, dismisses a wrong line, and begins insights again.

The API decrypts insights in its memory only after the database has stored who requested them.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import anyio.to_thread

from app.errors import Conflict, NotFound
from app.identity import permissions
from app.insights import encryption, store
from app.insights.insights_format import StoredInsights, parse_insights
from app.insights.numbered import NumberedInsights
from app.insights.writing.coverage import Coverage, UncitedTurn
from app.keys.keyring import Keyring
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.selection import Selection
from app.recordings import service as recordings


@dataclass(frozen=True)
class ReadInsights:
    """The insights into a recording as its doctor reads them. `insights` lacks the dismissed lines.

    `is_stale` says whether the transcript has changed since. `is_refreshed` says whether the worker writes a new
    generation. `generation` identifies the numbering of the lines. `language` is an ISO 639 code, or None if unknown.
    `vendor` and `model` are the language service and its model. `dropped_count` counts the lines of the model that
    lacked evidence. `uncited` are turns with a number, a dose, an allergy or a medication that no line of the note
    cites. `metadata` has the selected `recording`.
    """

    id: UUID
    metadata: Row
    is_stale: bool
    is_refreshed: bool
    generation: int
    language: str | None
    vendor: str
    model: str
    dropped_count: int
    dismissed_count: int
    written_at: datetime
    insights: NumberedInsights
    coverage: Coverage
    uncited: tuple[UncitedTurn, ...]


class InsightsReads:
    """The service that reads insights, dismisses lines and begins insights again, for the API."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def read(self, asker: Asker, recording_id: UUID, selection: Selection) -> ReadInsights:
        """Return the insights into a recording. Raises NotFound (insights_not_found), Conflict
        (recording_being_deleted, recording_deleted), RateLimited (quota_pages).
        """
        access = permissions.READ_INSIGHTS.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            opened = await store.open_insights(tx, access.action, recording_id, selection)
        if opened is None:
            raise NotFound("insights_not_found")
        return _shown(opened, await self._decrypt(recording_id, opened), opened.dismissed)

    async def dismiss(
        self,
        asker: Asker,
        recording_id: UUID,
        generation: int,
        line_number: int,
        selection: Selection,
    ) -> ReadInsights:
        """Take a wrong line out of view, and return the insights without it. If the line is dismissed already, the call
        changes nothing.

        Raises NotFound (insights_not_found, insight_line_unknown), Conflict (insights_changed: the insights have
        another generation; recording_being_deleted, recording_deleted), RateLimited (quota_pages).
        """
        access = permissions.DISMISS_INSIGHT.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            opened = await store.open_insights(tx, access.action, recording_id, selection)
            if opened is None:
                raise NotFound("insights_not_found")
            stored = await self._decrypt(recording_id, opened)
            if opened.generation != generation:
                raise Conflict("insights_changed")
            if line_number not in {line.number for line in stored.insights.lines}:
                raise NotFound("insight_line_unknown")
            await store.dismiss(tx, recording_id, generation, line_number)
        return _shown(opened, stored, opened.dismissed | {line_number})

    async def retry(self, asker: Asker, recording_id: UUID, selection: Selection) -> Row:
        """Begin FAILED insights again, or OFF insights if nothing forbids them any more, and return their recording.

        Raises NotFound (insights_not_found), Conflict (insights_not_failed, insights_switched_off,
        insights_consent_withdrawn, insights_consent_text, recording_being_deleted, recording_deleted).
        """
        access = permissions.RETRY_INSIGHTS.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            if not await store.retry(tx, recording_id):
                raise NotFound("insights_not_found")
            return await recordings.show_recording(tx, recording_id, selection, access.action)

    async def refresh(self, asker: Asker, recording_id: UUID, selection: Selection) -> Row:
        """Write STALE insights again from the present transcript, and return their recording. The old insights stay
        readable until the new ones are READY. If they are being refreshed already, the call changes nothing.

        Raises NotFound (insights_not_found), Conflict (insights_not_stale) and the other errors of `retry`.
        """
        access = permissions.REFRESH_INSIGHTS.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            if not await store.refresh(tx, recording_id):
                raise NotFound("insights_not_found")
            return await recordings.show_recording(tx, recording_id, selection, access.action)

    async def _decrypt(self, recording_id: UUID, opened: store.OpenedInsights) -> StoredInsights:
        def decrypt() -> StoredInsights:
            key = self._keyring.unwrap(opened.wrapped, opened.root_key_id)
            place = encryption.insights_field(recording_id, opened.generation)
            return parse_insights(key.decrypt(place, opened.ciphertext))

        return await anyio.to_thread.run_sync(decrypt)


def _shown(opened: store.OpenedInsights, stored: StoredInsights, dismissed: frozenset[int]) -> ReadInsights:
    return ReadInsights(
        id=opened.id,
        metadata=opened.metadata,
        is_stale=opened.is_stale,
        is_refreshed=opened.is_refreshed,
        generation=opened.generation,
        language=opened.language,
        vendor=opened.vendor,
        model=opened.model,
        dropped_count=opened.dropped_count,
        dismissed_count=len(dismissed),
        written_at=opened.written_at,
        insights=stored.insights.without(dismissed),
        coverage=stored.coverage,
        uncited=stored.uncited,
    )
