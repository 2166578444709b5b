"""Runs the stand-in as a child of the dev stack, with the fixed locks of `policies/bucket` in its bucket."""

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from app.bucket import policy_documents
from app.bucket.model import derive_rules
from app.integrations.cloudflare.client import Cloudflare
from devstack.children import free_port, starting
from devstack.cloudflare.config import CloudflareConfig, save_config

ACCOUNT = "0" * 32


def cloudflare_environment() -> dict[str, str]:
    """Return the settings with which the product uses the stand-in in place of Cloudflare. The function creates a
    new API token at each start of the dev stack.
    """
    return {
        "R2_ACCOUNT_ID": ACCOUNT,
        "CLOUDFLARE_API_TOKEN": secrets.token_urlsafe(24),
        "CLOUDFLARE_API_URL": f"http://127.0.0.1:{free_port()}/client/v4",
    }


@contextmanager
def cloudflare_running(environment: Mapping[str, str], data_dir: Path) -> Iterator[None]:
    """Run the stand-in until the block ends. When the block ends, the stand-in for Cloudflare forgets its bucket
    locks. After the next start, the worker sets the locks of legal holds again.
    """
    url, token = environment["CLOUDFLARE_API_URL"], environment["CLOUDFLARE_API_TOKEN"]
    bucket = environment["R2_BUCKET_NAME"]
    port = int(url.removesuffix("/client/v4").rpartition(":")[2])
    config = CloudflareConfig(account_id=ACCOUNT, bucket=bucket, token=token, port=port)
    save_config(config, data_dir / "cloudflare.json")
    with starting(
        "devstack.cloudflare",
        ["--config", str(data_dir / "cloudflare.json")],
        log=data_dir / "cloudflare.log",
        environment={},
        ready_url=f"{url}/accounts/{ACCOUNT}/r2/buckets/{bucket}/lock",
        headers={"Authorization": f"Bearer {token}"},
    ) as child:
        child.wait_until_ready()
        asyncio.run(_lock(Cloudflare(account_id=ACCOUNT, bucket=bucket, token=token, api_url=url)))
        yield


async def _lock(cloudflare: Cloudflare) -> None:
    await cloudflare.replace_locks(derive_rules(policy_documents.load(), (), ()).locks or ())
    await cloudflare.aclose()
