"""A worker process that dies at a chosen step, and uses a bucket that fails sometimes.

Every call to the bucket and every transaction is a step. A process dies before the step, after the step, or, if the
step is a transaction, before its commit. After its death, every action of a process fails, so the process changes
nothing more.
"""

import random
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Final, LiteralString, TypeVar

import anyio

from app.errors import AppError, Timeout, UpstreamFailed
from app.integrations.storage.listing import ObjectPage, UploadPage
from app.integrations.storage.objects import StoredObject
from app.integrations.storage.uploads import PART_BYTES
from app.postgres.database import Database, Transaction
from tests.buckets import InterceptedStorage
from tests.simulation.facts import By
from tests.simulation.oracle import Oracle

T = TypeVar("T")
_LAST_STEP: Final = 12
_touched: ContextVar[tuple[str, ...]] = ContextVar("touched", default=())


class Killed(BaseException):
    """The process has died."""


@dataclass
class Weather:
    """The failures of the bucket: an outage until a time, and single failing calls, on average one call in
    `one_in`.
    """

    dice: random.Random
    one_in: int = 400
    outage_until: datetime | None = None
    is_calm: bool = False
    failures: int = 0

    def strike(self, now: datetime, operation: str) -> AppError | None:
        """Return the error with which this call to the bucket fails, or None if the call succeeds. A failed call to
        the bucket may have taken effect in spite of the error.
        """
        is_out = self.outage_until is not None and now < self.outage_until
        if self.is_calm or not (is_out or self.dice.randrange(self.one_in) == 0):
            return None
        self.failures += 1
        if self.dice.random() < 0.5:
            return Timeout("storage_timeout", operation=operation)
        return UpstreamFailed("storage_failed", operation=operation, status=503)


@dataclass
class Deaths:
    """Counts the deaths at each step, and chooses a step with few deaths for the next process."""

    dice: random.Random
    at: Counter[str] = field(default_factory=Counter)
    known: dict[str, None] = field(default_factory=dict)

    def choose(self, service: str) -> str | None:
        """Return a random step of this service, with a preference for rare steps, or None if no step is known."""
        steps = [step for step in self.known if step.startswith(f"{service} ")]
        if not steps:
            return None
        return self.dice.choices(steps, [1 / (1 + self.at[step]) ** 2 for step in steps])[0]


@dataclass
class Process:
    """A simulated process that runs one of the worker's services once, and that may die. `dies_at` is the step at
    which the process dies, or None.
    """

    service: str
    deaths: Deaths
    weather: Weather
    oracle: Oracle
    dies_at: str | None = None
    is_dead: bool = False
    transactions: int = 0
    read: set[str] = field(default_factory=set)
    written: tuple[int, str] = (0, "")

    def step(self, name: str) -> None:
        """Pass a step. Raises Killed if the process dies at this step or is dead."""
        if not self.is_dead:
            step = f"{self.service} {name}"
            self.deaths.known.setdefault(step)
            if step != self.dies_at:
                return
            self.deaths.at[step] += 1
            self.is_dead = True
        raise Killed(name)


class Doors(Database):
    """The worker's database, as one simulated process uses it."""

    def __init__(self, database: Database, process: Process) -> None:
        self._through = database
        self._process = process

    @asynccontextmanager
    async def as_service(self, reason: LiteralString) -> AsyncIterator[Transaction]:
        """Open a transaction, with a step before its start, before its commit, and after its commit."""
        self._process.transactions += 1
        number = min(self._process.transactions, _LAST_STEP)
        self._process.step(f"before transaction {number}")
        async with self._through.as_service(reason) as tx:
            yield tx
            self._process.step(f"before commit {number}")
        self._process.step(f"after transaction {number}")


class SimulatedStorage(InterceptedStorage):
    """The bucket in simulated time, as one process uses it. The class reports every stored and removed object to
    the oracle.

    `store_time` is the time that the bucket's clock shows, if that clock differs from the true time.
    """

    process: Process
    store_time: datetime | None = None
    uploads_since: dict[str, datetime]

    def through(self, process: Process) -> "SimulatedStorage":
        """Return this bucket for use by a different simulated process."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.process = process
        other.intercept()
        return other

    async def _call(self, operation: str, work: Callable[[], T]) -> T:
        process, touched = self.process, _touched.get()
        process.step(f"before {operation}")
        struck = process.weather.strike(process.oracle.now, operation)
        is_lost_answer = struck is not None and process.weather.dice.random() < 0.3
        if struck is not None and not is_lost_answer:
            raise struck
        with anyio.CancelScope(shield=True):  # A sent request arrives even if the process dies meanwhile
            answer = await super()._call(operation, work)
        self._tell(operation, touched)
        if struck is not None:
            raise struck
        process.step(f"after {operation}")
        return answer

    def _tell(self, operation: str, touched: tuple[str, ...]) -> None:
        oracle = self.process.oracle
        if operation == "delete" and touched:
            by = By.DESTROYER if self.process.service == "destroy" else By.OTHER
            oracle.removed(touched[0], by)
        elif operation == "copy":
            oracle.copied(*touched)
        elif operation == "complete_upload":
            inside = {one for key in self.process.read for one in oracle.bucket[key].recordings}
            oracle.put(touched[0], inside, *self.process.written)

    async def delete(self, key: str) -> None:
        token = _touched.set((key,))
        try:
            await super().delete(key)
        finally:
            _touched.reset(token)

    async def delete_as(self, by: By, key: str) -> None:
        """Delete an object as an actor other than the worker."""
        await super().delete(key)
        self.process.oracle.removed(key, by)

    async def copy(self, source: str, target: str, stored: StoredObject, *, part_bytes: int = 2**27) -> None:
        token = _touched.set((source, target))
        try:
            await super().copy(source, target, stored, part_bytes=part_bytes)
        finally:
            _touched.reset(token)

    async def read_range(self, key: str, start: int, length: int, *, etag: str | None = None) -> bytes:
        self.process.read.add(key)
        return await super().read_range(key, start, length, etag=etag)

    async def put_stream(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        content_type: str,
        *,
        filename: str,
        part_bytes: int = PART_BYTES,
    ) -> int:
        token = _touched.set((key,))
        try:
            return await super().put_stream(
                key, self._measured(chunks), content_type, filename=filename, part_bytes=part_bytes
            )
        finally:
            _touched.reset(token)

    async def _measured(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        size, hashed = 0, sha256()
        async for chunk in chunks:
            size += len(chunk)
            hashed.update(chunk)
            self.process.written = size, hashed.hexdigest()
            yield chunk

    async def head(self, key: str) -> StoredObject | None:
        found = await super().head(key)
        return found and replace(found, last_modified=self._written(key, found.last_modified))

    async def list_objects(self, prefix: str, *, page_size: int = 1000) -> AsyncIterator[ObjectPage]:
        async for page in super().list_objects(prefix, page_size=page_size):
            objects = [
                replace(one, last_modified=self._written(one.key, one.last_modified)) for one in page.objects
            ]
            yield replace(page, objects=tuple(objects), listed_at=self._time)

    async def list_uploads(self, prefix: str, *, page_size: int = 1000) -> AsyncIterator[UploadPage]:
        async for page in super().list_uploads(prefix, page_size=page_size):
            uploads = [
                replace(one, initiated_at=self.uploads_since.setdefault(one.upload_id, self._time))
                for one in page.uploads
            ]
            yield replace(page, uploads=tuple(uploads), listed_at=self._time)

    @property
    def _time(self) -> datetime:
        return self.store_time or self.process.oracle.now

    def _written(self, key: str, machine_time: datetime) -> datetime:
        content = self.process.oracle.bucket.get(key)
        return machine_time if content is None else content.at


def digest(content: bytes) -> str:
    """Return the SHA-256 digest in the form that the database stores."""
    return sha256(content).hexdigest()


def is_death(error: BaseException) -> bool:
    """Return whether the error contains nothing but the simulated death of a process."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_death(one) for one in error.exceptions)
    return isinstance(error, Killed)
