"""Buckets of the embedded store, with the means of its owner."""

import boto3
from botocore.config import Config

from app.devstack.object_store import ObjectStore


def empty_bucket(store: ObjectStore) -> None:
    """Deletes every object, the mark too, and ends every upload that was begun."""
    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        region_name=store.region,
        aws_access_key_id=store.writer.access_key_id,
        aws_secret_access_key=store.writer.secret_access_key,
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
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
