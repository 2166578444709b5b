"""What is outside of the bucket's policies: stores, vendors and addresses, as the settings describe them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from app.integrations import configured
from app.integrations.cloudflare import Cloudflare
from app.integrations.storage import Storage
from app.integrations.storage_rules import StorageRules
from app.settings import BucketRuleSettings


@dataclass(frozen=True)
class Surroundings:
    """The keys that are there (None: there is none), and the addresses that must serve nobody.

    `bucket_url` is the bucket on its S3 host, `former_urls` where it was once public, `origins` are the web app's.
    """

    storage: Storage
    rules: StorageRules | None
    cloudflare: Cloudflare | None
    bucket_url: str
    former_urls: tuple[str, ...]
    origins: tuple[str, ...]


@asynccontextmanager
async def surroundings(settings: BucketRuleSettings, storage: Storage) -> AsyncIterator[Surroundings]:
    """With clients of its own, which it closes; `storage` it leaves open."""
    async with AsyncExitStack() as stack:
        rules, cloudflare = configured.storage_rules(settings), configured.cloudflare(settings)
        if rules is not None:
            stack.callback(rules.close)
        if cloudflare is not None:
            stack.push_async_callback(cloudflare.aclose)
        yield Surroundings(
            storage=storage,
            rules=rules,
            cloudflare=cloudflare,
            bucket_url=configured.bucket_url(settings),
            former_urls=settings.former_public_urls,
            origins=settings.allowed_origins,
        )
