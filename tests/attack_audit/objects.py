"""The objects of one bucket, with credentials that may overwrite and delete them, as if the bucket had no lock."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from devstack.object_store import ObjectStore
from tests.buckets import s3_client


class Objects:
    """All objects of a store's bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._bucket = store.bucket
        self._s3 = s3_client(store, store.writer)

    def close(self) -> None:
        """Close the client."""
        self._s3.close()

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys with a prefix, in their order."""
        return list(self._tags(prefix))

    def get(self, key: str) -> bytes:
        """Return the content of an object."""
        return self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def put(self, key: str, content: bytes) -> None:
        """Create or overwrite an object."""
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=content)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    def snapshot(self) -> dict[str, bytes]:
        """Return the content of all objects."""
        return {key: self.get(key) for key in self.keys()}

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Make the bucket equal to the snapshot again."""
        tags = self._tags("")
        for key in tags.keys() - snapshot.keys():
            self.delete(key)
        for key, content in snapshot.items():
            if tags.get(key) != _md5(content):
                self.put(key, content)

    def download(self, folder: Path, prefix: str) -> None:
        """Copy the objects with a prefix into a folder, which becomes equal to the bucket."""
        tags = self._tags(prefix)
        for path in [path for path in folder.glob("**/*") if path.is_file()]:
            if tags.get(path.relative_to(folder).as_posix()) != _md5(path.read_bytes()):
                path.unlink()
        for key in tags:
            path = folder / key
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.get(key))

    def _tags(self, prefix: str) -> dict[str, str]:
        """Return the MD5 of each object's content by its key."""
        return {
            one["Key"]: one["ETag"].strip('"')
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            for one in page.get("Contents", ())
        }


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
