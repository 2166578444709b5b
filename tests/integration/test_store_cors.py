"""The embedded object store answers requests of web pages in the same way as a bucket that has the CORS rules of
`policies/bucket/cors.json`.
"""

import json
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from app.bucket.policy_documents import DIRECTORY
from app.integrations.storage.client import Storage
from app.integrations.storage.presigned_urls import upload_headers
from devstack import object_store as stores
from devstack.object_store import ObjectStore
from tests.browsers import Blocked, Page
from tests.buckets import s3_client

pytestmark = pytest.mark.anyio

ORIGIN = "http://localhost:5173"
OTHER_ORIGINS = ("http://127.0.0.1:5173",)
WEB_APP = json.loads((DIRECTORY / "cors.json").read_text())["web_app"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with stores.running(
        tmp_path_factory.mktemp("store_of_pages"), allowed_origins=(ORIGIN, *OTHER_ORIGINS)
    ) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


@pytest.fixture
def page(http: httpx.AsyncClient) -> Page:
    return Page(http, ORIGIN)


def _get_url(store: ObjectStore, key: str) -> str:
    reader = Storage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.reader)
    try:
        return reader.presign_get(key, expires_in_seconds=60, filename="recording.mp4")
    finally:
        reader.close()


def _put_url(store: ObjectStore, key: str, size: int) -> str:
    writer = Storage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)
    try:
        return writer.presign_put(key, "video/mp4", size, expires_in_seconds=60)
    finally:
        writer.close()


def _stored(store: ObjectStore, key: str, content: bytes) -> str:
    client = s3_client(store, store.writer)
    try:
        client.put_object(Bucket=store.bucket, Key=key, Body=content, ContentType="video/mp4")
    finally:
        client.close()
    return _get_url(store, key)


def _preflight(origin: str, method: str, *headers: str) -> dict[str, str]:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    return asked | ({"Access-Control-Request-Headers": ",".join(headers)} if headers else {})


async def test_page_uploads_what_an_import_declares(store: ObjectStore, page: Page) -> None:
    content = b"a film" * 1000
    headers = {
        name: value
        for name, value in upload_headers("video/mp4", len(content)).items()
        if name.lower() != "content-length"
    }
    url = _put_url(store, "tests/cors/upload", len(content))
    answer = await page.fetch("PUT", url, headers, content)
    assert answer.status == 200
    assert answer.headers["etag"]
    again = await page.fetch("PUT", url, headers, content)
    assert again.status == 412, "a page may read the status of a refused upload"


async def test_page_reads_a_range_and_its_size_as_a_player_does(store: ObjectStore, page: Page) -> None:
    url = _stored(store, "tests/cors/range", b"0123456789")
    answer = await page.fetch("GET", url, {"Range": "bytes=2-5"})
    assert (answer.status, answer.content) == (206, b"2345")
    assert answer.headers["content-range"] == "bytes 2-5/10"
    suffix = await page.fetch("GET", url, {"Range": "bytes=-3"})
    assert (suffix.status, suffix.content) == (206, b"789"), "the browser sends a preflight for this range"


async def test_page_reads_no_header_that_is_not_exposed(store: ObjectStore, page: Page) -> None:
    answer = await page.fetch("GET", _stored(store, "tests/cors/exposed", b"x"))
    assert "x-amz-request-id" not in answer.headers
    assert {"content-length", "etag"} <= answer.headers.keys()


@pytest.mark.parametrize("origin", [ORIGIN, *OTHER_ORIGINS])
async def test_preflight_names_the_origin_and_what_the_rule_says(
    store: ObjectStore, http: httpx.AsyncClient, origin: str
) -> None:
    answer = await http.options(
        f"{store.endpoint_url}/{store.bucket}/any", headers=_preflight(origin, "PUT", "content-type")
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    allowed = {one.strip() for one in answer.headers["access-control-allow-methods"].split(",")}
    assert allowed == set(WEB_APP["may"])
    assert answer.headers["access-control-max-age"] == str(WEB_APP["remembered_for_seconds"])
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        ("https://evil.example", "GET", ()),
        ("http://localhost:5174", "PUT", ("content-type",)),
        ("https://localhost:5173", "PUT", ("content-type",)),
        ("http://localhost:5173.evil.example", "PUT", ("content-type",)),
        ("null", "PUT", ("content-type",)),
        (ORIGIN, "DELETE", ()),
        (ORIGIN, "POST", ()),
        (ORIGIN, "PUT", ("content-type", "x-amz-acl")),
        (ORIGIN, "PUT", ("authorization",)),
    ],
)
async def test_preflight_for_anything_else_is_refused(
    store: ObjectStore, http: httpx.AsyncClient, origin: str, method: str, headers: tuple[str, ...]
) -> None:
    answer = await http.options(
        f"{store.endpoint_url}/{store.bucket}/any", headers=_preflight(origin, method, *headers)
    )
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_another_origins_page_reads_nothing_though_the_url_is_good(
    store: ObjectStore, http: httpx.AsyncClient
) -> None:
    url = _stored(store, "tests/cors/stranger", b"kept")
    with pytest.raises(Blocked, match="the origin is not allowed: 200, no header"):
        await Page(http, "https://evil.example").fetch("GET", url)
    assert (await http.get(url)).status_code == 200, (
        "a client that is no web page sends no origin and is served"
    )


async def test_page_learns_that_a_url_is_refused(store: ObjectStore, page: Page) -> None:
    url = _stored(store, "tests/cors/refused", b"kept")
    assert (await page.fetch("GET", url[:-1] + ("0" if url[-1] != "0" else "1"))).status == 403


async def test_preflight_gives_no_access(store: ObjectStore, http: httpx.AsyncClient) -> None:
    answer = await http.options(f"{store.endpoint_url}/{store.bucket}/any")
    assert answer.status_code == 403
    foreign = await http.options(
        f"{store.endpoint_url}/v1/AUTH_resguardo/{store.bucket}", headers=_preflight(ORIGIN, "GET")
    )
    assert foreign.status_code == 403, "the bucket's rules do not apply to Swift's own API"


async def test_store_without_origins_serves_no_page(
    object_store: ObjectStore, http: httpx.AsyncClient
) -> None:
    with pytest.raises(Blocked):
        await Page(http, ORIGIN).fetch("GET", _stored(object_store, "tests/cors/none", b"kept"))
