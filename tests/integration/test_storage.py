"""Tests of the storage client with a real S3 server. The client must tell the server's errors apart, and the server
must refuse a presigned URL that was altered.
"""

import datetime as dt
import hashlib
import io
import os
import re
import socket
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore import auth as botocore_auth

from app.errors import Conflict, InvalidInput, NotFound, Timeout, UpstreamFailed
from app.integrations.storage.caller import Credentials
from app.integrations.storage.client import MARK_KEY, Storage
from app.integrations.storage.objects import StoredObject
from devstack.object_store import ObjectStore, running
from tests.buckets import s3_client

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


Connect = Callable[..., Storage]


@pytest.fixture
def connect(object_store: ObjectStore) -> Iterator[Connect]:
    """Return a function that opens a storage client for the running S3 server. The caller can change some settings
    of the client.
    """
    made: list[Storage] = []

    def storage(
        credentials: Credentials = object_store.writer,
        endpoint_url: str = object_store.endpoint_url,
        bucket: str = object_store.bucket,
        call_timeout_seconds: float = 30.0,
    ) -> Storage:
        made.append(
            Storage(
                endpoint_url=endpoint_url,
                bucket=bucket,
                credentials=credentials,
                region=object_store.region,
                call_timeout_seconds=call_timeout_seconds,
            )
        )
        return made[-1]

    yield storage
    for storage_made in made:
        storage_made.close()


@pytest.fixture
def writer(connect: Connect) -> Storage:
    return connect()


@pytest.fixture
def reader(connect: Connect, object_store: ObjectStore) -> Storage:
    return connect(object_store.reader)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"tests/{re.sub('[^a-z0-9_]', '-', request.node.name)}"


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(url)


def _upload_as_recorder(store: ObjectStore, key: str, content: bytes) -> None:
    client = s3_client(store, store.recorder)
    parts = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    client.upload_fileobj(io.BytesIO(content), store.bucket, key, Config=parts)
    client.close()


async def test_presigned_url_downloads_the_object_as_a_file(
    writer: Storage, reader: Storage, key: str
) -> None:
    await writer.put_new(key, b"recorded", "video/mp4")

    answer = await _get(reader.presign_get(key, expires_in_seconds=300, filename="consultation.mp4"))

    assert (answer.status_code, answer.content) == (200, b"recorded")
    assert answer.headers["content-disposition"] == 'attachment; filename="consultation.mp4"'
    assert answer.headers["content-type"] == "video/mp4"


def _flip(character: str) -> str:
    return "1" if character != "1" else "2"


ALTERATIONS: dict[str, Callable[[str], str]] = {
    "signature_last_byte": lambda url: url[:-1] + _flip(url[-1]),
    "signature_first_byte": lambda url: re.sub(
        r"(X-Amz-Signature=)(.)", lambda found: found[1] + _flip(found[2]), url
    ),
    "signature_missing": lambda url: re.sub(r"&X-Amz-Signature=[0-9a-f]+", "", url),
    "object_key": lambda url: url.replace("-1?", "-2?"),
    "stretched_expiry": lambda url: url.replace("X-Amz-Expires=300", "X-Amz-Expires=900"),
    "expiry_missing": lambda url: url.replace("X-Amz-Expires=300&", ""),
    "date": lambda url: re.sub(
        r"(X-Amz-Date=\d{8}T\d{5})(\d)", lambda found: found[1] + _flip(found[2]), url
    ),
    "known_key_id": lambda url: url.replace("%3Areader", "%3Awriter"),
    "unknown_key_id": lambda url: url.replace("%3Areader", "%3Areadez"),
    "filename": lambda url: url.replace("consultation.mp4", "consultation.exe"),
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
async def test_an_altered_url_is_refused(writer: Storage, reader: Storage, key: str, alteration: str) -> None:
    await writer.put_new(f"{key}-1", b"mine", "video/mp4")
    await writer.put_new(f"{key}-2", b"another's", "video/mp4")
    url = reader.presign_get(f"{key}-1", expires_in_seconds=300, filename="consultation.mp4")
    altered = ALTERATIONS[alteration](url)
    assert altered != url

    answers = [await _get(altered), await _get(url)]

    assert [answer.status_code for answer in answers] == [403, 200]
    assert b"mine" not in answers[0].content


async def test_an_expired_url_is_refused(
    writer: Storage, reader: Storage, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await writer.put_new(key, b"recorded", "video/mp4")
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    answers = []
    for age_seconds in (890, 901):
        signed_at = now - dt.timedelta(seconds=age_seconds)
        monkeypatch.setattr(botocore_auth, "get_current_datetime", lambda at=signed_at: at)
        answers.append(await _get(reader.presign_get(key, expires_in_seconds=900, filename="a.mp4")))

    assert [answer.status_code for answer in answers] == [200, 403]


async def test_an_expired_url_with_a_stretched_expiry_is_refused(
    writer: Storage, reader: Storage, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await writer.put_new(key, b"recorded", "video/mp4")
    signed_at = dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(seconds=400)
    monkeypatch.setattr(botocore_auth, "get_current_datetime", lambda: signed_at)
    url = reader.presign_get(key, expires_in_seconds=300, filename="a.mp4")

    answer = await _get(url.replace("X-Amz-Expires=300", "X-Amz-Expires=900"))

    assert answer.status_code == 403


async def test_an_unsigned_url_is_refused(writer: Storage, key: str) -> None:
    await writer.put_new(key, b"recorded", "video/mp4")
    url = writer.presign_get(key, expires_in_seconds=300, filename="a.mp4")

    assert (await _get(url.partition("?")[0])).status_code == 403


@pytest.mark.parametrize("seconds", [0, -1, 901])
async def test_presign_refuses_a_lifetime_out_of_bounds(reader: Storage, seconds: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        reader.presign_get("k", expires_in_seconds=seconds, filename="a.mp4")
    assert refused.value.reason == "url_lifetime"


@pytest.mark.parametrize("filename", ["", 'a".mp4', "a\r\nb", "../a", ".hidden", "a b", "ñ.mp4", "a" * 101])
async def test_presign_refuses_an_unsafe_filename(reader: Storage, filename: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        reader.presign_get("k", expires_in_seconds=60, filename=filename)
    assert refused.value.reason == "filename"


async def test_head_returns_the_metadata(writer: Storage, reader: Storage, key: str) -> None:
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=2)
    await writer.put_new(key, b"recorded", "video/mp4")

    stored = await reader.head(key)

    assert stored is not None
    assert (stored.size_bytes, stored.content_type) == (8, "video/mp4")
    assert stored.etag == hashlib.md5(b"recorded", usedforsecurity=False).hexdigest()
    assert before <= stored.last_modified <= before + dt.timedelta(seconds=60)


async def test_head_is_none_for_an_absent_object_only(
    reader: Storage, connect: Connect, object_store: ObjectStore
) -> None:
    assert await reader.head("tests/absent") is None

    with pytest.raises(UpstreamFailed) as refused:
        await connect(object_store.recorder).head("tests/absent")
    assert refused.value.reason == "storage_access_denied"
    assert refused.value.detail == {"operation": "head", "status": 403}


async def _head(reader: Storage, key: str) -> StoredObject:
    stored = await reader.head(key)
    assert stored is not None
    return stored


@pytest.mark.parametrize("size_bytes", [0, 1, 8 * MIB, 8 * MIB + 1, 20 * MIB])
async def test_sha256_equals_hashlib(writer: Storage, reader: Storage, key: str, size_bytes: int) -> None:
    content = os.urandom(size_bytes)
    await writer.put_new(key, content, "video/mp4")

    assert await reader.sha256(key, await _head(reader, key)) == hashlib.sha256(content).hexdigest()


async def test_sha256_equals_hashlib_for_a_multipart_upload(
    object_store: ObjectStore, reader: Storage, key: str
) -> None:
    content = os.urandom(12 * MIB)
    await anyio.to_thread.run_sync(_upload_as_recorder, object_store, key, content)

    assert await reader.sha256(key, await _head(reader, key)) == hashlib.sha256(content).hexdigest()


async def test_sha256_of_an_object_replaced_meanwhile_is_a_conflict(
    object_store: ObjectStore, writer: Storage, reader: Storage, key: str
) -> None:
    await writer.put_new(key, b"old", "video/mp4")
    stored = await _head(reader, key)
    await anyio.to_thread.run_sync(_upload_as_recorder, object_store, key, b"new")

    with pytest.raises(Conflict) as refused:
        await reader.sha256(key, stored)
    assert refused.value.reason == "storage_object_changed"


@pytest.mark.parametrize(("start", "length"), [(0, 1), (0, 8), (3, 4), (7, 1)])
async def test_read_range_returns_exactly_these_bytes(
    writer: Storage, reader: Storage, key: str, start: int, length: int
) -> None:
    await writer.put_new(key, b"recorded", "video/mp4")
    stored = await reader.head(key)
    assert stored is not None

    for etag in (None, stored.etag):
        assert await reader.read_range(key, start, length, etag=etag) == b"recorded"[start : start + length]


@pytest.mark.parametrize(("start", "length"), [(0, 9), (7, 2), (8, 1), (100, 1)])
async def test_read_range_past_the_end_fails(
    writer: Storage, reader: Storage, key: str, start: int, length: int
) -> None:
    await writer.put_new(key, b"recorded", "video/mp4")
    with pytest.raises(UpstreamFailed) as failed:
        await reader.read_range(key, start, length)
    assert failed.value.reason == "storage_failed"


async def test_read_range_of_another_object_is_a_conflict(writer: Storage, reader: Storage, key: str) -> None:
    await writer.put_new(key, b"recorded", "video/mp4")
    for other in (key, "tests/absent"):
        with pytest.raises(Conflict) as refused:
            await reader.read_range(other, 0, 1, etag="0" * 32)
        assert refused.value.reason == "storage_object_changed"


async def test_read_range_of_an_absent_object_is_not_found(reader: Storage) -> None:
    with pytest.raises(NotFound) as refused:
        await reader.read_range("tests/absent", 0, 1)
    assert refused.value.reason == "storage_object_missing"


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 0), (0, -1)])
async def test_read_range_refuses_an_invalid_range(reader: Storage, start: int, length: int) -> None:
    with pytest.raises(ValueError, match="range"):
        await reader.read_range("k", start, length)


async def test_put_new_never_overwrites(writer: Storage, key: str) -> None:
    outcomes: list[tuple[bytes, bool]] = []

    async def put(body: bytes) -> None:
        outcomes.append((body, await writer.put_new(key, body, "text/plain")))

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(put, b"%d" % number)

    winners = [body for body, is_new in outcomes if is_new]
    assert len(winners) == 1
    assert await writer.get_small(key, 10) == winners[0]
    assert await writer.put_new(key, winners[0], "text/plain") is False


async def test_objects_are_listed_in_pages_with_the_stores_time(writer: Storage, key: str) -> None:
    keys = [f"{key}/{number}" for number in range(5)]
    for one in [*keys, f"{key}-beside"]:
        await writer.put_new(one, b"recorded", "video/mp4")

    pages = [page async for page in writer.list_objects(f"{key}/", page_size=2)]

    assert [[one.key for one in page.objects] for page in pages] == [keys[:2], keys[2:4], keys[4:]]
    listed, stored = pages[0].objects[0], await writer.head(keys[0])
    assert stored is not None
    assert (listed.size_bytes, listed.etag, listed.last_modified) == (
        stored.size_bytes,
        stored.etag,
        stored.last_modified,
    )
    ages = [page.listed_at - one.last_modified for page in pages for one in page.objects]
    assert all(dt.timedelta(seconds=-2) <= age <= dt.timedelta(seconds=60) for age in ages)


async def test_a_multipart_object_has_one_etag_in_the_list_and_by_itself(
    object_store: ObjectStore, writer: Storage, key: str
) -> None:
    await anyio.to_thread.run_sync(_upload_as_recorder, object_store, key, os.urandom(6 * MIB))

    (page,) = [page async for page in writer.list_objects(key)]

    stored = await writer.head(key)
    assert stored is not None
    assert [one.etag for one in page.objects] == [stored.etag]


async def test_prefix_without_objects_is_one_empty_page(writer: Storage, key: str) -> None:
    assert [page.objects async for page in writer.list_objects(f"{key}/")] == [()]
    assert [page.uploads async for page in writer.list_uploads(f"{key}/")] == [()]


@pytest.mark.parametrize("page_size", [1, 2, 1000])
async def test_unfinished_uploads_are_listed_in_pages(
    connect: Connect, object_store: ObjectStore, writer: Storage, key: str, page_size: int
) -> None:
    begin = partial(
        connect(object_store.recorder)._s3.client.create_multipart_upload, Bucket=object_store.bucket
    )
    begun = {(one, begin(Key=one)["UploadId"]) for one in (f"{key}/1", f"{key}/1", f"{key}/2", f"{key}/3")}
    begin(Key=f"{key}-beside")

    pages = [page async for page in writer.list_uploads(f"{key}/", page_size=page_size)]

    listed = [(one.key, one.upload_id) for page in pages for one in page.uploads]
    assert (len(listed), set(listed)) == (4, begun)
    assert all(len(page.uploads) <= page_size for page in pages)
    ages = [page.listed_at - one.initiated_at for page in pages for one in page.uploads]
    assert all(dt.timedelta(seconds=-2) <= age <= dt.timedelta(seconds=60) for age in ages)


async def test_an_upload_is_aborted_once(
    connect: Connect, object_store: ObjectStore, writer: Storage, key: str
) -> None:
    recorder = connect(object_store.recorder)._s3.client
    upload_id = recorder.create_multipart_upload(Bucket=object_store.bucket, Key=key)["UploadId"]
    recorder.upload_part(
        Bucket=object_store.bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=b"recorded"
    )

    assert await writer.abort_upload(key, upload_id) is True
    assert await writer.abort_upload(key, upload_id) is False
    assert [page.uploads async for page in writer.list_uploads(key)] == [()]


async def test_a_deleted_object_is_gone_and_can_be_deleted_again(writer: Storage, key: str) -> None:
    await writer.put_new(key, b"recorded", "video/mp4")

    await writer.delete(key)
    await writer.delete(key)

    assert await writer.head(key) is None


@pytest.mark.parametrize("user", ["reader", "recorder"])
async def test_only_the_workers_credentials_list_and_delete(
    connect: Connect, object_store: ObjectStore, writer: Storage, key: str, user: str
) -> None:
    await writer.put_new(key, b"recorded", "video/mp4")
    storage = connect(getattr(object_store, user))

    for ask in (
        lambda: anext(storage.list_objects(key)),
        lambda: anext(storage.list_uploads(key)),
        lambda: storage.delete(key),
    ):
        with pytest.raises(UpstreamFailed) as refused:
            await ask()
        # Swift 2.38 answers SignatureDoesNotMatch to a user without the right to list uploads.
        assert refused.value.reason in ("storage_access_denied", "storage_credentials_refused")
    assert await writer.head(key) is not None


async def test_get_small_refuses_a_larger_object(writer: Storage, reader: Storage, key: str) -> None:
    await writer.put_new(key, b"12345", "text/plain")

    assert await reader.get_small(key, 5) == b"12345"
    assert await reader.get_small("tests/absent", 5) is None
    with pytest.raises(UpstreamFailed) as refused:
        await reader.get_small(key, 4)
    assert refused.value.reason == "storage_object_too_large"


async def test_bucket_has_the_mark_of_one_deployment(tmp_path: Path) -> None:
    with running(tmp_path) as store:
        storage = Storage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)
        assert await storage.read_mark() is None

        await storage.claim("one")
        await storage.claim("one")
        with pytest.raises(Conflict) as refused:
            await storage.claim("two")

        assert refused.value.reason == "storage_of_another_deployment"
        assert await storage.read_mark() == "one"
        assert await storage.get_small(MARK_KEY, 10) == b"one"
        storage.close()


@pytest.mark.parametrize("user", ["reader", "writer"])
async def test_reachable_returns_with_valid_credentials(
    connect: Connect, object_store: ObjectStore, user: str
) -> None:
    await connect(getattr(object_store, user)).reachable()


async def test_reachable_reports_refused_credentials(connect: Connect, object_store: ObjectStore) -> None:
    wrong_secret = replace(object_store.reader, secret_access_key="0" * 64)
    unknown_key = replace(object_store.reader, access_key_id="resguardo:nobody")
    for credentials, reason in (
        (wrong_secret, "storage_credentials_refused"),
        (unknown_key, "storage_credentials_refused"),
        (object_store.recorder, "storage_access_denied"),
    ):
        with pytest.raises(UpstreamFailed) as refused:
            await connect(credentials).reachable()
        assert refused.value.reason == reason


async def test_reachable_reports_a_missing_bucket(connect: Connect) -> None:
    with pytest.raises(UpstreamFailed) as refused:
        await connect(bucket="no-such-bucket").reachable()
    assert refused.value.reason == "storage_bucket_missing"


async def test_reachable_reports_an_unreachable_endpoint(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UpstreamFailed) as refused:
        await connect(endpoint_url=f"http://127.0.0.1:{port}").reachable()
    assert refused.value.reason == "storage_unreachable"


async def test_store_that_does_not_answer_is_a_timeout(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        storage = connect(
            endpoint_url=f"http://127.0.0.1:{silent.getsockname()[1]}", call_timeout_seconds=0.2
        )
        with anyio.fail_after(5), pytest.raises(Timeout) as refused:
            await storage.head("k")
    assert refused.value.reason == "storage_timeout"


async def test_no_secret_or_signature_is_in_a_traceback(connect: Connect, object_store: ObjectStore) -> None:
    with pytest.raises(UpstreamFailed) as refused:
        await connect(replace(object_store.reader, access_key_id="resguardo:writer")).get_small("k", 1)

    told = "".join(traceback.format_exception(refused.value))
    assert object_store.reader.secret_access_key not in told
    assert not re.search(r"Signature=|StringToSign|Credential=", told)
    assert "secret" not in repr(object_store.reader)


async def test_put_replacing_overwrites_and_put_new_does_not(writer: Storage, key: str) -> None:
    await writer.put_replacing(key, b"first", "text/plain; charset=utf-8")
    await writer.put_replacing(key, b"second", "text/plain; charset=utf-8")
    assert not await writer.put_new(key, b"third", "text/plain; charset=utf-8")
    stored = await writer.head(key)
    assert stored is not None
    assert stored.content_type == "text/plain; charset=utf-8"
    assert await writer.get_small(key, 100) == b"second"
