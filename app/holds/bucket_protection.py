"""Protects recordings from the bucket's lifecycle rules if a legal hold covers them or their retention term became
longer.

A lifecycle rule of the bucket deletes objects under `r/` some days after Resguardo should have deleted them. If an
object must stay longer, the worker locks it or moves it to `keep/`, which no lifecycle rule covers. If a
recording's retention term became longer than the term of its retention class, the worker always moves the
recording's objects. The worker locks a held recording if Cloudflare's API is configured and every recording in the
consultation's folder is held. If a held recording cannot be locked, for example because the bucket has the maximum
number of lock rules, the worker moves its objects. The worker removes lock rules that are no longer needed. Moved
objects stay in `keep/` until their recording is destroyed.

This module destroys no recording. After an object was copied, this module deletes the original object only when the
database uses the copy. The database stores each move before the first object is copied, so that the next pass
continues the move after a crash.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from app.bucket.rules_turn import take_rules_turn
from app.deployment import require_own_bucket
from app.errors import AppError, Conflict, UpstreamFailed
from app.integrations.cloudflare.client import MAX_LOCK_RULES, LockRule
from app.integrations.storage.client import Storage
from app.integrations.storage.refusals import DELETE_REFUSALS
from app.postgres.database import Database
from app.postgres.queries import Queries

log = logging.getLogger(__name__)
_sql = Queries(Path(__file__).with_name("queries.sql"))

REASON: Final = "protect_held"
HOLD_RULE: Final = "hold-"
"""The prefix of the ids of our lock rules. Other rules are never changed."""


class BucketLocks(Protocol):
    """Reads and writes the bucket's lock rules through Cloudflare's API."""

    async def read_locks(self) -> tuple[LockRule, ...]:
        """Return all lock rules."""

    async def replace_locks(self, rules: Sequence[LockRule]) -> None:
        """Replace all lock rules."""


@dataclass(frozen=True)
class ProtectionReport:
    """The counts of one pass that protects recordings from the bucket's lifecycle rules. `waiting` counts the
    recordings that need protection and have none yet, because they are unfinished or their move failed.
    """

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
    movable: int


@dataclass(frozen=True)
class _Move:
    recording_id: UUID
    source_key: str
    target_key: str
    is_verified: bool
    is_kept: bool


class BucketProtection:
    """Protects recordings from the bucket's lifecycle rules, one pass at a time. If a pass is repeated, or two
    passes run at once, the result is the same as that of one pass.
    """

    def __init__(
        self, database: Database, storage: Storage, locks: BucketLocks | None, *, deployment: str
    ) -> None:
        self._database = database
        self._storage = storage
        self._locks = locks
        self._deployment = deployment
        self._empty: dict[UUID, int] = {}

    def forget(self) -> None:
        """Forget which recordings had no object. A worker that becomes the leader therefore checks all recordings
        again.
        """
        self._empty = {}

    async def run_once(self) -> ProtectionReport:
        """Finish the moves that earlier passes began, and then lock or move the objects of every recording that
        must stay.

        Raises Conflict (bucket_unmarked, bucket_of_another_deployment, bucket_rules_busy), UpstreamFailed and
        Timeout. If a pass of the protection fails, the next pass does the remaining work.
        """
        await require_own_bucket(self._storage, self._deployment)
        endangered = await self._endangered()
        outgrown = [one for one in endangered if one.is_outgrown]
        moved = await self._move_all(dict.fromkeys([*await self._moving(), *self._movable(outgrown)]))
        locked = await self._lock()
        left = [one for one in await self._endangered() if one.lock_prefix not in locked or not one.is_held]
        moved |= await self._move_all(self._movable(left))
        return ProtectionReport(
            locked=len(locked),
            moved=len(moved),
            waiting=len([one for one in left if one.id not in moved | self._empty.keys()]),
        )

    async def secure_held(self, _: UUID) -> None:
        """Run a pass at once, because a legal hold was placed or released. Raises like `run_once`."""
        await self.run_once()

    def _movable(self, videos: Sequence[_Endangered]) -> list[UUID]:
        """Return the ids of the videos that may be moved. A video is left out if an earlier pass found none of its
        objects and no object was added since.
        """
        return [one.id for one in videos if one.may_move and self._empty.get(one.id) != one.movable]

    async def _endangered(self) -> list[_Endangered]:
        async with self._database.as_service(REASON) as tx:
            return [_Endangered(**row) for row in await tx.all(_sql["unprotected_videos"])]

    async def _moving(self) -> list[UUID]:
        async with self._database.as_service(REASON) as tx:
            return [row["id"] for row in await tx.all(_sql["moving_videos"])]

    async def _lock(self) -> Collection[str]:
        """Write the lock rules that protect held recordings, and return the prefixes that these rules lock. Raises
        Conflict (bucket_rules_busy) if another process is writing the rules.
        """
        if self._locks is None:
            return ()
        async with take_rules_turn(self._database, REASON) as turn:
            wanted = [one.lock_prefix for one in await self._endangered() if one.is_held]
            rules = await self._locks.read_locks()
            planned = plan_locks(rules, [prefix for prefix in wanted if prefix is not None])
            if set(planned) != set(rules):
                await turn.renew()
                await self._locks.replace_locks(planned)
        return {rule.prefix for rule in planned if rule.id.startswith(HOLD_RULE)}

    async def _move_all(self, videos: Collection[UUID]) -> set[UUID]:
        """Move the objects of the videos to `keep/`, and return the ids of the videos whose objects are there. If a
        move fails, the failure is logged and the next pass repeats the move.
        """
        moved = set()
        for video in videos:
            try:
                if await self._move(video):
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
            self._empty[video] = len(begun)
        return bool(kept)

    async def _copy(self, move: _Move) -> bool:
        """Copy one object. Return False if the recording was verified and its object is missing.

        If the source object is gone and its copy exists, return True without copying. A recording that never had an
        object needs no copy.
        """
        stored = await self._storage.head(move.source_key)
        if stored is None:
            return not move.is_verified or await self._storage.head(move.target_key) is not None
        await self._storage.copy(move.source_key, move.target_key, stored)
        return True

    async def _switch(self, moves: Sequence[_Move]) -> bool:
        """Store the keys of the copies under `keep/` as the keys of a video's files. Return False and change
        nothing if the recording is being destroyed.
        """
        async with self._database.as_service(REASON) as tx:
            kept = [await tx.value(_sql["keep_object"], _parameters(move)) for move in moves]
            if any(kept) and not all(kept):
                raise Conflict("object_move_undecided")
        return all(kept)

    async def _forget_copies(self, moves: Sequence[_Move]) -> None:
        """Delete the copies of a recording's objects if the recording is being destroyed, because the destruction
        deletes only the source objects.
        """
        for move in moves:
            await self._storage.delete(move.target_key)
            if await self._storage.head(move.target_key) is None:
                await self._end(move)

    async def _clear_source(self, move: _Move) -> None:
        """Delete the source object of a move after the database uses the copy. If a lock still protects the source
        object, the next pass tries to delete it again.
        """
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
    """Return all lock rules of the bucket: first the rules that are not ours, then our rules for the wanted
    prefixes, up to the bucket's limit of rules.

    Our rules for prefixes that are already locked come first, so that none of them loses its place to a new rule.
    The rules for the other prefixes follow in the order of `wanted`.
    """
    others = [rule for rule in rules if not rule.id.startswith(HOLD_RULE)]
    needed = set(wanted)
    standing = [rule for rule in rules if rule.id.startswith(HOLD_RULE) and rule.prefix in needed]
    sound = {rule.prefix: rule for rule in standing if rule.enabled and rule.is_indefinite}
    new = {prefix: _rule(prefix) for prefix in wanted if prefix not in sound}
    return [*others, *[*sound.values(), *new.values()][: max(0, MAX_LOCK_RULES - len(others))]]


def _rule(prefix: str) -> LockRule:
    return LockRule(id=HOLD_RULE + prefix.strip("/").replace("/", "-"), prefix=prefix)


def _parameters(move: _Move) -> dict[str, object]:
    return {
        "recording_id": move.recording_id,
        "source_key": move.source_key,
        "target_key": move.target_key,
    }
