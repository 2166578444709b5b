"""Access to the embedded object store with boto3's own client."""

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from app.integrations.storage.client import Credentials
from devstack.object_store import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


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
