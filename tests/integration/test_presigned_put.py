"""Tests of presigned upload URLs against a real S3 server: with such a URL, a client can store only the declared
content, and only once.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import uuid4

import anyio
import httpx
import pytest

from app.errors import InvalidInput
from app.integrations.storage.client import Storage
from app.integrations.storage.presigned_urls import MAX_PUT_BYTES, MAX_URL_SECONDS, upload_headers
from devstack.object_store import ObjectStore

pytestmark = pytest.mark.anyio

CONTENT = b"as declared"
HEADERS = upload_headers("video/mp4", len(CONTENT))


@pytest.fixture
def writer(object_store: ObjectStore) -> Iterator[Storage]:
    storage = Storage(
        endpoint_url=object_store.endpoint_url,
        bucket=object_store.bucket,
        credentials=object_store.writer,
        region=object_store.region,
    )
    yield storage
    storage.close()


@pytest.fixture
def key() -> str:
    return f"tests/{uuid4()}.mp4"


def _signed(storage: Storage, key: str, seconds: int = 300) -> str:
    return storage.presign_put(key, "video/mp4", len(CONTENT), expires_in_seconds=seconds)


async def _put(url: str, content: bytes | AsyncIterator[bytes] = CONTENT, **headers: str | None) -> int:
    """Upload `content` to the presigned URL, and return the HTTP status. A header whose value is None is left out
    of the upload request.
    """
    changed = {name.replace("_", "-").title(): value for name, value in headers.items()}
    sent = {name: value for name, value in (HEADERS | changed).items() if value is not None}
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.put(url, content=content, headers=sent)).status_code


async def test_upload_as_signed_is_stored_with_its_type(writer: Storage, key: str) -> None:
    assert await _put(_signed(writer, key)) == 200
    stored = await writer.head(key)
    assert stored is not None
    assert (stored.size_bytes, stored.content_type) == (len(CONTENT), "video/mp4")


async def _in_chunks() -> AsyncIterator[bytes]:
    yield CONTENT


LONGER = CONTENT + b"!"
ANOTHER: dict[str, dict[str, object]] = {
    "longer": {"content": LONGER, "content_length": str(len(LONGER))},
    "shorter": {"content": CONTENT[1:], "content_length": str(len(CONTENT) - 1)},
    "empty": {"content": b"", "content_length": "0"},
    "type": {"content_type": "text/html"},
    "no type": {"content_type": None},
    "may overwrite": {"if_none_match": None},
}


@pytest.mark.parametrize("another", ANOTHER)
async def test_upload_of_anything_else_is_refused(writer: Storage, key: str, another: str) -> None:
    assert await _put(_signed(writer, key), **ANOTHER[another]) == 403  # type: ignore[arg-type]  # headers in a dict
    assert await writer.head(key) is None


async def test_upload_without_a_length_is_refused(writer: Storage, key: str) -> None:
    assert await _put(_signed(writer, key), _in_chunks(), content_length=None) in (403, 411)
    assert await writer.head(key) is None


ALTERED: dict[str, Callable[[str], str]] = {
    "another key": lambda url: url.replace(".mp4?", ".mp5?"),
    "longer": lambda url: url.replace("X-Amz-Expires=300", "X-Amz-Expires=900"),
    "fewer signed headers": lambda url: url.replace("content-length%3B", ""),
    "another signature": lambda url: re.sub("X-Amz-Signature=....", "X-Amz-Signature=0000", url),
}


@pytest.mark.parametrize("how", ALTERED)
async def test_altered_url_is_refused(writer: Storage, key: str, how: str) -> None:
    url = _signed(writer, key)
    altered = ALTERED[how](url)
    assert altered != url
    assert await _put(altered) == 403


async def test_upload_that_names_another_object_as_its_source_is_refused(
    writer: Storage, object_store: ObjectStore, key: str
) -> None:
    """With the header `x-amz-copy-source`, an S3 PUT request copies another object instead of storing its own body.
    S3 refuses a request with an `x-amz-` header that the request's signature does not include.
    """
    await writer.put_new(f"{key}.other", CONTENT, "video/mp4")
    source = f"/{object_store.bucket}/{key}.other"
    assert await _put(_signed(writer, key), x_amz_copy_source=source) == 403
    assert await writer.head(key) is None


async def test_second_upload_changes_nothing(writer: Storage, key: str) -> None:
    url = _signed(writer, key)
    assert await _put(url) == 200
    assert await _put(url, b"AS DECLARED") == 412
    assert await _put(_signed(writer, key), b"AS DECLARED") == 412
    assert await writer.get_small(key, 100) == CONTENT


async def test_of_uploads_at_once_exactly_one_is_stored(writer: Storage, key: str) -> None:
    url, statuses = _signed(writer, key), []

    async def put(number: int) -> None:
        statuses.append(await _put(url, CONTENT[:-1] + b"%d" % number))

    async with anyio.create_task_group() as uploads:
        for number in range(4):
            uploads.start_soon(put, number)

    assert sorted(statuses) == [200, 412, 412, 412]


async def test_upload_url_cannot_be_read_with(writer: Storage, key: str) -> None:
    url = _signed(writer, key)
    await _put(url)
    async with httpx.AsyncClient(trust_env=False) as http:
        statuses = [(await http.request(method, url)).status_code for method in ("GET", "HEAD", "DELETE")]
    assert statuses == [403, 403, 403]


@pytest.mark.parametrize("seconds", [0, MAX_URL_SECONDS + 1])
def test_upload_url_of_another_lifetime_is_refused(writer: Storage, key: str, seconds: int) -> None:
    with pytest.raises(InvalidInput, match="url_lifetime"):
        _signed(writer, key, seconds)


@pytest.mark.parametrize("size_bytes", [0, MAX_PUT_BYTES + 1])
def test_upload_url_for_an_impossible_size_is_refused(writer: Storage, key: str, size_bytes: int) -> None:
    with pytest.raises(ValueError, match="no such size"):
        writer.presign_put(key, "video/mp4", size_bytes, expires_in_seconds=60)
