"""Clients for the embedded object store: boto3's own client, and a client with which a test can observe each
request.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config

from app.integrations.storage.caller import Credentials, S3Caller
from app.integrations.storage.client import Storage
from devstack.object_store import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")


def s3_client(store: ObjectStore, credentials: Credentials) -> "S3Client":
    """Return a boto3 client of the object store that does not retry. The caller closes it."""
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        region_name=store.region,
        aws_access_key_id=credentials.access_key_id,
        aws_secret_access_key=credentials.secret_access_key,
        config=Config(s3={"addressing_style": "path"}, proxies={}, retries={"total_max_attempts": 1}),
    )


def empty_bucket(store: ObjectStore) -> None:
    """Delete every object, including the deployment's mark, and abort every multipart upload."""
    client = s3_client(store, store.writer)
    try:
        for uploads in client.get_paginator("list_multipart_uploads").paginate(Bucket=store.bucket):
            for upload in uploads.get("Uploads", ()):
                client.abort_multipart_upload(
                    Bucket=store.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket):
            for one in page.get("Contents", ()):
                client.delete_object(Bucket=store.bucket, Key=one["Key"])
    finally:
        client.close()


class InterceptedStorage(Storage):
    """An S3 client that passes each request through its method `_call`, which subclasses override to observe or
    change requests.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.intercept()

    def intercept(self) -> None:
        """The client sends each request through this object's `_call`."""
        self._s3 = _InterceptedCaller(self._s3, self._call)

    async def _call(self, operation: str, work: Callable[[], T]) -> T:
        return await S3Caller.call(self._s3, operation, work)


class _InterceptedCaller(S3Caller):
    def __init__(self, s3: S3Caller, intercept: Callable[[str, Callable[[], Any]], Awaitable[Any]]) -> None:
        self.__dict__.update(s3.__dict__)
        self._intercept = intercept

    async def call(self, operation: str, work: Callable[[], T]) -> T:
        answer: T = await self._intercept(operation, work)
        return answer
