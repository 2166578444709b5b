"""What is held, or has outgrown its class, survives the bucket's own rule.

Under `r/` the bucket deletes by itself a while after we should have. So what must stay longer is locked there, or moved
to `keep/`, where no rule reaches it: what has outgrown its class is always moved; what is held is locked where
Cloudflare's API is configured and the consultation's folder holds nothing else, and moved otherwise, or where the
bucket has no room for another rule. Locks that nothing needs any more are taken away; what was moved stays in `keep/`.

It destroys no recording: a source is deleted once the recording is read from its copy. A move is written down before
it begins, and goes on after a crash from wherever it was.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from app.db import Database
from app.deployment import require_own_bucket
from app.errors import AppError, Conflict, UpstreamFailed
from app.integrations.cloudflare import MAX_LOCK_RULES, LockRule
from app.integrations.storage import Storage
from app.integrations.storage_refusals import DELETE_REFUSALS
from app.sql import Queries

log = logging.getLogger(__name__)
_sql = Queries(Path(__file__).with_name("queries.sql"))

REASON: Final = "protect_held"
HOLD_RULE: Final = "hold-"
"""What the ids of our lock rules begin with; no other rule is touched."""


class BucketLocks(Protocol):
    """The bucket's lock rules: Cloudflare's API."""

    async def read_locks(self) -> tuple[LockRule, ...]:
        """All of them."""

    async def replace_locks(self, rules: Sequence[LockRule]) -> None:
        """These, and no others."""


@dataclass(frozen=True)
class ProtectionReport:
    """What one pass found and did. `waiting` must be protected and is not yet: unfinished, or the move failed."""

    locked: int
    moved: int
    waiting: int


@dataclass(frozen=True)
class _Endangered:
    id: UUID
    lock_prefix: str | None
    is_held: bool
    is_outgrown: bool
    may_move: bool


@dataclass(frozen=True)
class _Move:
    recording_id: UUID
    source_key: str
    target_key: str
    is_verified: bool
    is_kept: bool


class Protection:
    """One pass at a time; two at once, or one killed between any two lines and run again, come to the same."""

    def __init__(
        self, database: Database, storage: Storage, locks: BucketLocks | None, *, deployment: str
    ) -> None:
        self._database = database
        self._storage = storage
        self._locks = locks
        self._deployment = deployment
        self._empty: set[UUID] = set()

    def forget(self) -> None:
        """Looks again at what had no object, as whoever has just become the leader does."""
        self._empty = set()

    async def run_once(self) -> ProtectionReport:
        """Ends the moves that were begun, then locks and moves whatever must stay.

        Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout: what was not done
        then is done by the next pass.
        """
        await require_own_bucket(self._storage, self._deployment)
        endangered = await self._endangered()
        outgrown = [one for one in endangered if one.is_outgrown]
        moved = await self._move_all(dict.fromkeys([*await self._moving(), *_movable(outgrown)]))
        locked = await self._lock()
        left = [one for one in await self._endangered() if one.lock_prefix not in locked or not one.is_held]
        moved |= await self._move_all(_movable(left))
        return ProtectionReport(
            locked=len(locked),
            moved=len(moved),
            waiting=len([one for one in left if one.id not in moved | self._empty]),
        )

    async def secure_held(self, _: UUID) -> None:
        """The same, at once, for a hold that was placed or released. Raises as `run_once`."""
        await self.run_once()

    async def _endangered(self) -> list[_Endangered]:
        async with self._database.as_service(REASON) as tx:
            return [_Endangered(**row) for row in await tx.all(_sql["unprotected_videos"])]

    async def _moving(self) -> list[UUID]:
        async with self._database.as_service(REASON) as tx:
            return [row["id"] for row in await tx.all(_sql["moving_videos"])]

    async def _lock(self) -> Collection[str]:
        """The prefixes that are locked now. Nobody else rewrites the rules meanwhile."""
        if self._locks is None:
            return ()
        async with self._database.as_service(REASON) as tx:
            await tx.run(_sql["lock_bucket"])
            wanted = [
                row["lock_prefix"] for row in await tx.all(_sql["unprotected_videos"]) if row["is_held"]
            ]
            rules = await self._locks.read_locks()
            planned = plan_locks(rules, [prefix for prefix in wanted if prefix is not None])
            if set(planned) != set(rules):
                await self._locks.replace_locks(planned)
        return {rule.prefix for rule in planned if rule.id.startswith(HOLD_RULE)}

    async def _move_all(self, videos: Collection[UUID]) -> set[UUID]:
        """Those that are in `keep/` then; what fails is told, and tried again by the next pass."""
        moved = set()
        for video in videos:
            try:
                if video not in self._empty and await self._move(video):
                    moved.add(video)
            except AppError as error:
                log.warning("not moved to keep/, to be tried again: recording=%s %s", video, error.summary)
        return moved

    async def _move(self, video: UUID) -> bool:
        async with self._database.as_service(REASON) as tx:
            begun = [_Move(**row) for row in await tx.all(_sql["begin_move"], {"id": video})]
        kept = [move for move in begun if move.is_kept]
        copied = [move for move in begun if not move.is_kept and await self._copy(move)]
        for move in begun:
            if move not in kept and move not in copied:
                await self._end(move)
        if copied and await self._switch(copied):
            kept += copied
        elif copied:
            await self._forget_copies(copied)
        for move in kept:
            await self._clear_source(move)
        if begun and not copied and not kept:
            self._empty.add(video)
        return bool(kept)

    async def _copy(self, move: _Move) -> bool:
        """False for a verified recording without an object: that is missing, and not to be looked for elsewhere.

        A source that is gone after its copy was made leaves the copy alone; what never had an object needs none.
        """
        stored = await self._storage.head(move.source_key)
        if stored is None:
            return not move.is_verified or await self._storage.head(move.target_key) is not None
        await self._storage.copy(move.source_key, move.target_key, stored)
        return True

    async def _switch(self, moves: Sequence[_Move]) -> bool:
        """All or none; False where the recording is being destroyed."""
        async with self._database.as_service(REASON) as tx:
            kept = [await tx.value(_sql["keep_object"], _parameters(move)) for move in moves]
            if any(kept) and not all(kept):
                raise Conflict("object_move_undecided")
        return all(kept)

    async def _forget_copies(self, moves: Sequence[_Move]) -> None:
        """Of a recording that is being destroyed: that destroys its sources, and knows of no copies."""
        for move in moves:
            await self._storage.delete(move.target_key)
            if await self._storage.head(move.target_key) is None:
                await self._end(move)

    async def _clear_source(self, move: _Move) -> None:
        """Deletes what the recording is no longer read from; what a lock still holds waits for the next pass."""
        try:
            await self._storage.delete(move.source_key)
        except UpstreamFailed as error:
            if error.reason not in DELETE_REFUSALS:
                raise
        if await self._storage.head(move.source_key) is None:
            await self._end(move)

    async def _end(self, move: _Move) -> None:
        async with self._database.as_service(REASON) as tx:
            await tx.run(_sql["end_move"], _parameters(move))


def plan_locks(rules: Sequence[LockRule], wanted: Sequence[str]) -> list[LockRule]:
    """The rules as they should be: what others made, then ours for the prefixes wanted, as far as there is room.

    Those locked already come first, so that none is unlocked for another; then in the order of `wanted`.
    """
    others = [rule for rule in rules if not rule.id.startswith(HOLD_RULE)]
    needed = set(wanted)
    standing = [rule for rule in rules if rule.id.startswith(HOLD_RULE) and rule.prefix in needed]
    sound = {rule.prefix: rule for rule in standing if rule.enabled and rule.is_indefinite}
    new = {prefix: _rule(prefix) for prefix in wanted if prefix not in sound}
    return [*others, *[*sound.values(), *new.values()][: max(0, MAX_LOCK_RULES - len(others))]]


def _rule(prefix: str) -> LockRule:
    return LockRule(id=HOLD_RULE + prefix.strip("/").replace("/", "-"), prefix=prefix)


def _movable(videos: Sequence[_Endangered]) -> list[UUID]:
    return [one.id for one in videos if one.may_move]


def _parameters(move: _Move) -> dict[str, object]:
    return {
        "recording_id": move.recording_id,
        "source_key": move.source_key,
        "target_key": move.target_key,
    }
