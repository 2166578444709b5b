"""Calls an S3 server: the boto3 client of one bucket, a time limit for each call, and the translation of errors.

The messages of storage errors contain neither a URL nor a secret. The boto3 client is configured for Cloudflare R2
and uses no versions and no tags. The client sends checksums only `when_required`, because R2 rejects requests with
botocore's default checksums as `Unauthorized`. Source: Cloudflare's documentation and botocore 1.44, checked
2026-11-21.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError
from botocore.exceptions import ConnectionError as EndpointUnreachable
from botocore.parsers import ResponseParserError

from app.errors import Timeout, UpstreamFailed
from app.integrations.storage import refusals

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

_CONNECT_SECONDS: Final = 3
_READ_SECONDS: Final = 10


@dataclass(frozen=True)
class Credentials:
    """An S3 key pair, with a session token if the credentials are temporary."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class S3Caller:
    """The connection to one bucket with one pair of credentials. All modules of the storage package send their
    requests through `S3Caller`.
    """

    def __init__(
        self,
        *,
        endpoint_url: str,
        bucket: str,
        credentials: Credentials,
        region: str = "auto",
        call_timeout_seconds: float = 30.0,
        max_connections: int = 10,
        attempts: int = 3,
        force_path_style: bool = True,
    ) -> None:
        self.bucket = bucket
        style: Literal["path", "virtual"] = "path" if force_path_style else "virtual"
        self.client = _client(endpoint_url, region, style, credentials, max_connections, attempts)
        self._call_timeout_seconds = call_timeout_seconds
        self._limiter = anyio.CapacityLimiter(max_connections)

    def close(self) -> None:
        """Close the pooled connections."""
        self.client.close()

    async def call(self, operation: str, work: Callable[[], T]) -> T:
        """Run `work`, which sends requests with the client, in a thread. boto3 sends each request at most
        `attempts` times.

        Raises UpstreamFailed (`storage_unreachable`, a reason of `refusals`, or `storage_failed`) or Timeout
        (`storage_timeout`, or `storage_unreachable` if no connection was made). The method `call` ends after at
        most `call_timeout_seconds`.
        """

        def bounded() -> T:
            with translated(operation):
                return work()

        try:
            with anyio.fail_after(self._call_timeout_seconds):
                return await anyio.to_thread.run_sync(bounded, abandon_on_cancel=True, limiter=self._limiter)
        except TimeoutError as error:
            raise Timeout("storage_timeout", operation=operation) from error


def _client(
    endpoint_url: str,
    region: str,
    style: Literal["path", "virtual"],
    credentials: Credentials,
    max_connections: int,
    attempts: int,
) -> "S3Client":
    is_loopback = urlsplit(endpoint_url).hostname in ("127.0.0.1", "::1", "localhost")
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": style},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=max_connections,
        proxies={} if is_loopback else None,
    )
    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id=credentials.access_key_id,
        aws_secret_access_key=credentials.secret_access_key,
        aws_session_token=credentials.session_token,
        config=config,
    )
    client.meta.events.register("before-call.s3", _refuse_other_regions)
    return client


def _refuse_other_regions(context: dict[str, Any], **_: object) -> None:
    """Stop botocore from repeating a call in the region that the store names.

    If the region setting is wrong, botocore would repeat each call in the right region, and the error would show
    only in presigned URLs, which botocore signs offline (botocore 1.44, `S3RegionRedirectorv2.redirect_from_error`,
    checked 2026-11-29).
    """
    context["s3_redirect"] = {**context.get("s3_redirect", {}), "redirected": True}


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Translate botocore's exceptions into AppErrors that contain only the operation and the status."""
    try:
        yield
    except ClientError as error:
        raise refusals.refusal(error, operation) from error
    except ConnectTimeoutError as error:
        raise Timeout("storage_unreachable", operation=operation) from error
    except ReadTimeoutError as error:
        raise Timeout("storage_timeout", operation=operation) from error
    except EndpointUnreachable as error:
        raise UpstreamFailed("storage_unreachable", operation=operation) from error
    except ResponseParserError as error:
        raise UpstreamFailed("storage_not_s3", operation=operation) from error
    except BotoCoreError as error:
        raise UpstreamFailed("storage_failed", operation=operation) from error
