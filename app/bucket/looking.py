"""Checks the bucket, Cloudflare, the addresses that must refuse everyone, and the rights in the database.

The check changes nothing.
"""

from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from datetime import timedelta
from typing import Final, TypeVar
from urllib.parse import urlsplit

from app.bucket import documents, drift, model, store
from app.bucket.drift import Drift, Look, Prefix, Topic
from app.bucket.model import Rules
from app.bucket.plan import plan
from app.bucket.surroundings import Surroundings
from app.errors import AppError, UpstreamFailed
from app.integrations import anonymous
from app.integrations.anonymous import Answer
from app.integrations.cloudflare import LockRule
from app.integrations.storage.client import MARK_KEY
from app.postgres.access_policies import access_version
from app.postgres.database import Database

T = TypeVar("T")
Unlooked = MutableMapping[Topic, str]

UPLOADS_END_AFTER: Final = timedelta(days=8)
"""The bucket's rule ends unfinished uploads after seven days and may take one more day (Cloudflare, "Object
lifecycles").
"""


class Looker:
    """Compares the policies with reality."""

    def __init__(self, database: Database, around: Surroundings) -> None:
        self._database = database
        self._around = around

    async def meant(self) -> Rules:
        """Return the rules of the documents, for the terms that are in use."""
        async with self._database.as_service("check_bucket") as tx:
            terms = await store.retention_days(tx)
        return model.meant(documents.load(), terms, self._around.origins)

    async def found(self, unlooked: Unlooked, *, only: Collection[str] | None = None) -> Rules:
        """Return the bucket's rules. A part that could not be read is None, and its error code is added to
        `unlooked`.

        With `only`, errors with other codes are raised.
        """
        rules, cloudflare = self._around.rules, self._around.cloudflare
        admin, token = "r2_admin_key_missing", "cloudflare_token_missing"
        return Rules(
            await _read(Topic.LIFECYCLE, rules.read_lifecycle if rules else None, admin, unlooked, only),
            await _read(Topic.CORS, rules.read_cors if rules else None, admin, unlooked, only),
            await _read(Topic.LOCKS, cloudflare.read_locks if cloudflare else None, token, unlooked, only),
        )

    async def look(self) -> Look:
        """Return all differences. Parts that could not be checked are in `unlooked`, with their error codes."""
        unlooked: dict[Topic, str] = {}
        found = drift.of_rules(plan(await self.meant(), await self.found(unlooked)))
        found += await self._addresses(unlooked)
        found += await self._access(unlooked)
        for topic, look_at in (
            (Topic.DOMAINS, self._domains),
            (Topic.UPLOADS, self._uploads),
            (Topic.HOLDS, self.holds),
        ):
            try:
                found += await look_at()
            except AppError as error:
                unlooked[topic] = error.reason
        return Look(drift.bounded(found), unlooked)

    async def holds(self, locks: Sequence[LockRule] | None = None) -> list[Drift]:
        """Compare held and not yet due objects with the bucket's locks, or with the given locks.

        The database is read before and after the locks, so that a hold that begins or ends meanwhile is no drift. A
        folder without any object is no drift either, because its object may never have arrived and no task moves
        it.
        """
        cloudflare = self._around.cloudflare
        before = await self._kept()
        if locks is None and cloudflare is not None:
            locks = await cloudflare.read_locks()
        after = drift.of_holds(*await self._kept(), locks)
        found = [one for one in drift.of_holds(*before, locks) if one in after]
        return [
            one for one in found if one.code == "hold_left_behind" or await self._is_occupied(one.subject)
        ]

    async def _is_occupied(self, prefix: str) -> bool:
        async for page in self._around.storage.list_objects(prefix, page_size=1):
            return bool(page.objects)
        return False

    async def _kept(self) -> tuple[tuple[Prefix, ...], tuple[Prefix, ...]]:
        async with self._database.as_service("check_bucket") as tx:
            return await store.protected_prefixes(tx), await store.endangered_prefixes(tx)

    async def _domains(self) -> list[Drift]:
        cloudflare = self._around.cloudflare
        if cloudflare is None:
            raise UpstreamFailed("cloudflare_token_missing")
        return drift.of_domains(await cloudflare.managed_domain(), await cloudflare.custom_domains())

    async def _addresses(self, unlooked: Unlooked) -> list[Drift]:
        """Request the S3 host and each former public address, for its root and for the mark, which every bucket of
        ours contains.
        """
        asked: list[tuple[str, tuple[int, ...]]] = [(f"{self._around.bucket_url}/{MARK_KEY}", (400,))]
        for url in self._around.former_urls:
            asked += [(url, ()), (f"{url.rstrip('/')}/{MARK_KEY}", ())]
        served = []
        for url, also_refusals in asked:
            answer = await anonymous.ask(url, also_refusals=also_refusals)
            if answer is Answer.SERVED:
                served.append(urlsplit(url).netloc)
            elif answer is Answer.UNKNOWN:
                unlooked[Topic.ANONYMOUS] = "no_answer"
        return drift.of_addresses(served)

    async def _uploads(self) -> list[Drift]:
        return drift.of_uploads(
            [
                one.key
                async for page in self._around.storage.list_uploads("")
                for one in page.uploads
                if page.listed_at - one.initiated_at > UPLOADS_END_AFTER
            ]
        )

    async def _access(self, unlooked: Unlooked) -> list[Drift]:
        async with self._database.as_service("check_bucket") as tx:
            version, changed = await store.access_standing(tx)
        if changed is None:
            unlooked[Topic.ACCESS] = "access_unsealed"
        return drift.of_access(version, access_version(), changed or ())


async def _read(
    topic: Topic,
    ask: Callable[[], Awaitable[T]] | None,
    missing: str,
    unlooked: Unlooked,
    only: Collection[str] | None,
) -> T | None:
    if ask is None:
        unlooked[topic] = missing
        return None
    try:
        return await ask()
    except AppError as error:
        if only is not None and error.reason not in only:
            raise
        unlooked[topic] = error.reason
        return None
