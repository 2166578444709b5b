"""Tests that each S3 error code that an operator must remedy in a particular way becomes a separate reason."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.errors import AppError
from app.integrations.storage.caller import Credentials
from app.integrations.storage.client import Storage
from app.integrations.storage.refusals import OF_STATUS, REASONS
from app.texts.reasons import load_reasons
from tests.integration.recording_harness import served

pytestmark = pytest.mark.anyio

SECRET = "vendor words that nobody may see"
KEY = "r/age-90/1/2/video.mp4"


def _xml(code: str, more: str = "") -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{SECRET}</Message>{more}</Error>'
    ).encode()


@asynccontextmanager
async def _store(status: int, body: bytes, kind: str = "application/xml") -> AsyncIterator[Storage]:
    """Run an S3 server that gives every request the same answer. As in S3, the server's answer to a HEAD request
    has no body.
    """

    async def answer(request: Request) -> Response:
        return Response(b"" if request.method == "HEAD" else body, status, media_type=kind)

    methods = ["GET", "HEAD", "PUT", "POST", "DELETE"]
    async with served(Starlette(routes=[Route("/{rest:path}", answer, methods=methods)])) as url:
        storage = Storage(
            endpoint_url=url, bucket="recordings", credentials=Credentials("key-id", "secret"), attempts=1
        )
        try:
            yield storage
        finally:
            storage.close()


CALLS: dict[str, Callable[[Storage], Awaitable[object]]] = {
    "get": lambda storage: storage.get_small(KEY, 10),
    "head": lambda storage: storage.head(KEY),
    "put": lambda storage: storage.put_new(KEY, b"recorded", "video/mp4"),
    "delete": lambda storage: storage.delete(KEY),
    "list": lambda storage: anext(storage.list_objects("r/")),
}


async def _refused(status: int, body: bytes, call: str, **more: Any) -> AppError:
    async with _store(status, body, **more) as storage:
        with pytest.raises(AppError) as refused:
            await CALLS[call](storage)
    assert SECRET not in repr(refused.value) + repr(refused.value.detail) + refused.value.summary
    return refused.value


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("RequestTimeTooSkewed", 403, "storage_clock"),
        ("InvalidAccessKeyId", 403, "storage_credentials_refused"),
        ("SignatureDoesNotMatch", 403, "storage_credentials_refused"),
        ("Unauthorized", 401, "storage_credentials_refused"),
        ("AccessDenied", 403, "storage_access_denied"),
        ("ExpiredToken", 400, "storage_token_expired"),
        ("NotEntitled", 403, "storage_account_suspended"),
        ("AccountProblem", 403, "storage_account_suspended"),
        ("NoSuchBucket", 404, "storage_bucket_missing"),
        ("AuthorizationHeaderMalformed", 400, "storage_region_wrong"),
        ("PermanentRedirect", 301, "storage_region_wrong"),
        ("SlowDown", 503, "storage_busy"),
        ("TooManyRequests", 429, "storage_busy"),
        ("QuotaExceeded", 403, "storage_full"),
        ("XMinioStorageFull", 507, "storage_full"),
        ("ObjectLockedByBucketPolicy", 403, "storage_object_locked"),
        ("InvalidObjectState", 403, "storage_object_archived"),
        ("NotImplemented", 501, "storage_not_implemented"),
        ("KMS.DisabledException", 400, "storage_encryption_key"),
    ],
)
async def test_refusal_of_the_store_has_its_reason_in_every_call(code: str, status: int, reason: str) -> None:
    """If an S3 server refuses a request, every method of the storage client raises an error with the reason of the
    refusal. A HEAD request that is answered with 404 is an exception: it always counts as a missing object, even if
    the bucket is missing.
    """
    for call in CALLS.keys() - ({"head"} if status == 404 else set()):
        refused = await _refused(status, _xml(code), call)
        assert (call, refused.reason) == (call, reason)


@pytest.mark.parametrize("reason", sorted({*REASONS.values(), *OF_STATUS.values(), "storage_not_s3"}))
def test_every_reason_of_the_store_has_texts_for_all_its_readers(reason: str) -> None:
    assert {"caller", "transcription", "operator"} <= set(load_reasons()[reason].readers)


async def test_region_that_the_store_expects_is_named() -> None:
    body = _xml("AuthorizationHeaderMalformed", "<Region>eu-central-1</Region>")
    refused = await _refused(400, body, "put")
    assert (refused.reason, refused.detail["region"]) == ("storage_region_wrong", "eu-central-1")


@pytest.mark.parametrize("region", ["http://evil.test/", "a b", "x" * 64, ""])
async def test_invalid_region_is_not_repeated(region: str) -> None:
    refused = await _refused(400, _xml("AuthorizationHeaderMalformed", f"<Region>{region}</Region>"), "put")
    assert "region" not in refused.detail


async def test_unknown_refusal_keeps_the_stores_code() -> None:
    refused = await _refused(409, _xml("OperationAborted"), "get")
    assert (refused.reason, refused.detail["vendor_code"]) == ("storage_failed", "OperationAborted")
    assert refused.summary == "storage_failed (OperationAborted)"


@pytest.mark.parametrize(
    "code", ["Mrs Jones", "a" * 65, "sk-live-4242", "x\ny", "../etc", "<b>", "AKIA4242424242424242", "é"]
)
async def test_code_that_is_no_identifier_is_not_repeated(code: str) -> None:
    refused = await _refused(418, _xml(code.replace("<", "&lt;")), "get")
    assert (refused.reason, refused.summary) == ("storage_failed", "storage_failed")


@pytest.mark.parametrize("status", [200, 404, 405])
async def test_answer_of_a_web_server_is_a_wrong_endpoint(status: int) -> None:
    for call in ("get", "list"):
        refused = await _refused(status, b"<html><body>hello</body></html>", call, kind="text/html")
        assert (call, refused.reason) == (call, "storage_not_s3")
