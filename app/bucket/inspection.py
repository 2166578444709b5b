"""Checks the bucket, Cloudflare's settings, the URLs that must refuse requests without a key, and the rights in the
database. The check changes nothing.
"""

from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from datetime import timedelta
from typing import Final, TypeVar
from urllib.parse import urlsplit

from app.bucket import drifts, model, policy_documents, store
from app.bucket.clients import BucketClients
from app.bucket.drifts import Drift, Inspection, Prefix, Topic
from app.bucket.model import Rules
from app.bucket.rule_plan import plan_rules
from app.errors import AppError, UpstreamFailed
from app.integrations import anonymous_requests
from app.integrations.anonymous_requests import Answer
from app.integrations.cloudflare.client import LockRule
from app.integrations.storage.client import MARK_KEY
from app.postgres.access_policies import access_version
from app.postgres.database import Database

T = TypeVar("T")
Unchecked = MutableMapping[Topic, str]

UPLOADS_END_AFTER: Final = timedelta(days=8)
"""The bucket's rule ends unfinished uploads after seven days and may take one more day (Cloudflare, "Object
lifecycles").
"""


class BucketInspector:
    """Compares the files in `policies/` with the bucket, with Cloudflare's settings and with the database."""

    def __init__(self, database: Database, clients: BucketClients) -> None:
        self._database = database
        self._clients = clients

    async def derive_rules(self) -> Rules:
        """Return the rules that the files of `policies/bucket` require for the retention terms in use."""
        async with self._database.as_service("check_bucket") as tx:
            terms = await store.list_retention_days(tx)
        return model.derive_rules(policy_documents.load(), terms, self._clients.origins)

    async def read_rules(self, unchecked: Unchecked, *, only: Collection[str] | None = None) -> Rules:
        """Return the bucket's rules. If a part of the rules (lifecycle, CORS or locks) cannot be read, the part is
        None and its error code is added to `unchecked`.

        If `only` is given, an error whose code is not in `only` is raised instead.
        """
        rules, cloudflare = self._clients.rules, self._clients.cloudflare
        admin, token = "r2_admin_key_missing", "cloudflare_token_missing"
        return Rules(
            await _read(Topic.LIFECYCLE, rules.read_lifecycle if rules else None, admin, unchecked, only),
            await _read(Topic.CORS, rules.read_cors if rules else None, admin, unchecked, only),
            await _read(Topic.LOCKS, cloudflare.read_locks if cloudflare else None, token, unchecked, only),
        )

    async def inspect(self) -> Inspection:
        """Return all drifts. The topics that could not be checked are in `unchecked`, with their error codes."""
        unchecked: dict[Topic, str] = {}
        found = drifts.find_rule_drifts(
            plan_rules(await self.derive_rules(), await self.read_rules(unchecked))
        )
        found += await self._find_address_drifts(unchecked)
        found += await self._find_access_drifts(unchecked)
        for topic, find_drifts in (
            (Topic.DOMAINS, self._find_domain_drifts),
            (Topic.UPLOADS, self._find_upload_drifts),
            (Topic.HOLDS, self.find_hold_drifts),
        ):
            try:
                found += await find_drifts()
            except AppError as error:
                unchecked[topic] = error.reason
        return Inspection(drifts.limit_drifts(found), unchecked)

    async def find_hold_drifts(self, locks: Sequence[LockRule] | None = None) -> list[Drift]:
        """Check whether locks protect every object that is held or not due yet. If `locks` is None, the check reads
        the bucket's own locks.

        The held prefixes are read from the database before and after the locks are read. A hold that begins or ends
        during the check is therefore no drift. A folder without any object is no drift, because LiveKit may never
        have uploaded the object.
        """
        cloudflare = self._clients.cloudflare
        before = await self._read_protected()
        if locks is None and cloudflare is not None:
            locks = await cloudflare.read_locks()
        after = drifts.find_hold_drifts(*await self._read_protected(), locks)
        found = [one for one in drifts.find_hold_drifts(*before, locks) if one in after]
        return [
            one for one in found if one.code == "hold_left_behind" or await self._is_occupied(one.subject)
        ]

    async def _is_occupied(self, prefix: str) -> bool:
        async for page in self._clients.storage.list_objects(prefix, page_size=1):
            return bool(page.objects)
        return False

    async def _read_protected(self) -> tuple[tuple[Prefix, ...], tuple[Prefix, ...]]:
        async with self._database.as_service("check_bucket") as tx:
            return await store.list_protected_prefixes(tx), await store.list_endangered_prefixes(tx)

    async def _find_domain_drifts(self) -> list[Drift]:
        cloudflare = self._clients.cloudflare
        if cloudflare is None:
            raise UpstreamFailed("cloudflare_token_missing")
        return drifts.find_domain_drifts(await cloudflare.managed_domain(), await cloudflare.custom_domains())

    async def _find_address_drifts(self, unchecked: Unchecked) -> list[Drift]:
        """Request the deployment mark from the S3 host without a key. Also request the root and the mark from each
        former public URL, without a key.
        """
        asked: list[tuple[str, tuple[int, ...]]] = [(f"{self._clients.bucket_url}/{MARK_KEY}", (400,))]
        for url in self._clients.former_urls:
            asked += [(url, ()), (f"{url.rstrip('/')}/{MARK_KEY}", ())]
        served = []
        for url, also_refusals in asked:
            answer = await anonymous_requests.send_anonymous_request(url, also_refusals=also_refusals)
            if answer is Answer.SERVED:
                served.append(urlsplit(url).netloc)
            elif answer is Answer.UNKNOWN:
                unchecked[Topic.ANONYMOUS] = "no_answer"
        return drifts.find_address_drifts(served)

    async def _find_upload_drifts(self) -> list[Drift]:
        return drifts.find_upload_drifts(
            [
                one.key
                async for page in self._clients.storage.list_uploads("")
                for one in page.uploads
                if page.listed_at - one.initiated_at > UPLOADS_END_AFTER
            ]
        )

    async def _find_access_drifts(self, unchecked: Unchecked) -> list[Drift]:
        async with self._database.as_service("check_bucket") as tx:
            version, changed = await store.read_access_state(tx)
        if changed is None:
            unchecked[Topic.ACCESS] = "access_unsealed"
        return drifts.find_access_drifts(version, access_version(), changed or ())


async def _read(
    topic: Topic,
    ask: Callable[[], Awaitable[T]] | None,
    missing: str,
    unchecked: Unchecked,
    only: Collection[str] | None,
) -> T | None:
    if ask is None:
        unchecked[topic] = missing
        return None
    try:
        return await ask()
    except AppError as error:
        if only is not None and error.reason not in only:
            raise
        unchecked[topic] = error.reason
        return None
