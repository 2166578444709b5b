"""Builds, from the settings, the clients and URLs with which the bucket is checked."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from app.integrations import vendor_clients
from app.integrations.cloudflare.client import Cloudflare
from app.integrations.storage.client import Storage
from app.integrations.storage.rules import StorageRules
from app.settings import BucketRuleSettings


@dataclass(frozen=True)
class BucketClients:
    """The clients of the bucket and of Cloudflare, and the URLs that must refuse requests without a key. A client
    is None if its key is not configured.

    `bucket_url` is the bucket's URL on the S3 host. `former_urls` are URLs at which the bucket was public earlier.
    `origins` are the web origins (scheme, host and port) of the web app.
    """

    storage: Storage
    rules: StorageRules | None
    cloudflare: Cloudflare | None
    bucket_url: str
    former_urls: tuple[str, ...]
    origins: tuple[str, ...]


@asynccontextmanager
async def open_bucket_clients(settings: BucketRuleSettings, storage: Storage) -> AsyncIterator[BucketClients]:
    """Create the clients of the bucket and of Cloudflare, and close them at the end of the `with` block. `storage`
    stays open.
    """
    async with AsyncExitStack() as stack:
        rules, cloudflare = (
            vendor_clients.make_storage_rules(settings),
            vendor_clients.make_cloudflare(settings),
        )
        if rules is not None:
            stack.callback(rules.close)
        if cloudflare is not None:
            stack.push_async_callback(cloudflare.aclose)
        yield BucketClients(
            storage=storage,
            rules=rules,
            cloudflare=cloudflare,
            bucket_url=vendor_clients.bucket_url(settings),
            former_urls=settings.former_public_urls,
            origins=settings.allowed_origins,
        )
