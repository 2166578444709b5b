"""Tests of the storage client with S3 servers other than R2: the embedded store, versitygw and MinIO (if they are
installed), and a server whose faults a test configures.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import boto3
import httpx
import pytest
from botocore.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.errors import InvalidInput, UpstreamFailed
from app.integrations.storage import sts_credentials
from app.integrations.storage.access_check import check_access
from app.integrations.storage.caller import Credentials
from app.integrations.storage.client import MARK_KEY, Storage
from app.integrations.storage.rules import StorageRules
from app.texts import operator_message
from devstack.object_store import ObjectStore
from tests.integration.recording_harness import served

pytestmark = pytest.mark.anyio

BUCKET: Final = "recordings"
REGION: Final = "eu-central-1"
ROOT = Credentials("root-key", "root-secret-of-a-test")
ROLE = "arn:aws:iam::123456789012:role/recorder"


@dataclass(frozen=True)
class Server:
    """An S3 server for this test, with a bucket and an access key. `has_roles` is true if the S3 server has a
    Security Token Service.
    """

    url: str
    bucket: str
    region: str
    key: Credentials
    has_roles: bool = False

    def storage(self, **changes: Any) -> Storage:
        of = {
            "endpoint_url": self.url,
            "bucket": self.bucket,
            "credentials": self.key,
            "region": self.region,
        }
        return Storage(**{**of, **changes})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def _process(command: list[str], environment: dict[str, str], port: int) -> Iterator[str]:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        url = f"http://127.0.0.1:{port}"
        boto3.client(
            "s3",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=ROOT.access_key_id,
            aws_secret_access_key=ROOT.secret_access_key,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 10}),
        ).create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield url
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _versitygw(binary: str, directory: Path) -> Iterator[Server]:
    for name in ("data", "side", "iam"):
        (directory / name).mkdir()
    port = _free_port()
    command = [binary, "--port", f"127.0.0.1:{port}", "--region", REGION, "--iam-dir", str(directory / "iam")]
    command += ["posix", "--sidecar", str(directory / "side"), str(directory / "data")]
    keys = {"ROOT_ACCESS_KEY": ROOT.access_key_id, "ROOT_SECRET_KEY": ROOT.secret_access_key}
    with _process(command, keys, port) as url:
        yield Server(url, BUCKET, REGION, ROOT)


@contextmanager
def _minio(binary: str, directory: Path) -> Iterator[Server]:
    port = _free_port()
    keys = {"MINIO_ROOT_USER": ROOT.access_key_id, "MINIO_ROOT_PASSWORD": ROOT.secret_access_key}
    command = [binary, "server", str(directory), "--address", f"127.0.0.1:{port}"]
    with _process(command, {**keys, "MINIO_REGION": REGION}, port) as url:
        yield Server(url, BUCKET, REGION, ROOT, has_roles=True)


@pytest.fixture(scope="module", params=["embedded", "versitygw", "minio"])
def server(
    request: pytest.FixtureRequest, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    if request.param == "embedded":
        yield Server(object_store.endpoint_url, object_store.bucket, object_store.region, object_store.writer)
        return
    binary = shutil.which(request.param)
    if binary is None:
        pytest.skip(f"{request.param} is not installed")
    start = {"versitygw": _versitygw, "minio": _minio}[request.param]
    with start(binary, tmp_path_factory.mktemp(request.param)) as running:
        yield running


async def _of_a_role(server: Server, object_key: str) -> Credentials:
    return await sts_credentials.recorder_credentials(
        endpoint_url=server.url,
        region=server.region,
        role_arn=ROLE,
        bucket=server.bucket,
        parent=server.key,
        object_key=object_key,
    )


async def _reason(storage: Storage, other: Storage | None = None) -> str:
    try:
        with pytest.raises(UpstreamFailed) as refused:
            await check_access(storage, url_lifetime_seconds=300, other_style=other)
    finally:
        storage.close()
    assert operator_message(refused.value.reason) != operator_message("no such reason")
    return refused.value.reason


async def test_access_is_proven_and_each_wrong_setting_has_its_own_reason(server: Server) -> None:
    await check_access(server.storage(), url_lifetime_seconds=300, other_style=None)
    assert await _reason(server.storage(region="mars-north-1")) == "storage_region_wrong"
    assert await _reason(server.storage(bucket="no-such-bucket")) == "storage_bucket_missing"
    assert await _reason(server.storage(endpoint_url="http://127.0.0.1:1")) == "storage_unreachable"
    for wrong in (
        Credentials("nobody", server.key.secret_access_key),
        Credentials(server.key.access_key_id, "x" * 40),
    ):
        assert await _reason(server.storage(credentials=wrong)) == "storage_credentials_refused"
    at_localhost = server.url.replace("127.0.0.1", "localhost")
    virtual = server.storage(endpoint_url=at_localhost, force_path_style=False)
    assert await _reason(virtual, server.storage(endpoint_url=at_localhost)) == "storage_path_style"


async def test_mark_objects_copies_and_conditional_writes_work(server: Server) -> None:
    storage = server.storage()
    prefix = f"r/{datetime.now(UTC).timestamp()}"
    body = b"x" * (5 * 1024 * 1024)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(2):
            yield body

    size = await storage.put_stream(
        f"{prefix}/a.mp4", chunks(), "video/mp4", filename="a.mp4", part_bytes=len(body)
    )
    stored = await storage.head(f"{prefix}/a.mp4")
    assert stored is not None
    assert stored.size_bytes == size == 2 * len(body)
    await storage.copy(f"{prefix}/a.mp4", f"{prefix}/b.mp4", stored)
    await storage.copy(f"{prefix}/a.mp4", f"{prefix}/c.mp4", stored, part_bytes=len(body))
    assert await storage.put_new(f"{prefix}/a.mp4", b"other", "video/mp4") is False
    listed = [one.key async for page in storage.list_objects(f"{prefix}/") for one in page.objects]
    assert listed == [f"{prefix}/{name}.mp4" for name in "abc"]
    await storage.delete(f"{prefix}/a.mp4")
    assert await storage.head(f"{prefix}/a.mp4") is None
    url = f"{server.url}/{server.bucket}/{prefix}/b.mp4"
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(url)).status_code in (401, 403)
    storage.close()


async def test_recorders_key_of_a_role_writes_its_object_and_nothing_else(server: Server) -> None:
    key = f"r/{datetime.now(UTC).timestamp()}/video.mp4"
    if not server.has_roles:
        with pytest.raises(UpstreamFailed) as refused:
            await _of_a_role(server, key)
        assert refused.value.reason in ("recorder_role_unsupported", "recorder_role_refused")
        return
    recorder = server.storage(credentials=await _of_a_role(server, key))
    assert await recorder.put_new(key, b"recorded", "video/mp4") is True
    for call in (
        lambda: recorder.put_new("r/another.mp4", b"x", "video/mp4"),
        lambda: recorder.get_small(key, 100),
        lambda: recorder.read_mark(),
        lambda: recorder.delete(key),
        lambda: anext(recorder.list_objects("r/")),
    ):
        with pytest.raises(UpstreamFailed, match="storage_access_denied"):
            await call()
    recorder.close()


async def test_server_without_lifecycle_says_that_it_has_none(server: Server) -> None:
    rules = StorageRules(
        endpoint_url=server.url, bucket=server.bucket, credentials=server.key, region=server.region
    )
    try:
        assert await rules.read_lifecycle() == ()
    except UpstreamFailed as refused:
        assert refused.reason == "storage_not_implemented"  # noqa: PT017 - some servers raise, others answer
    rules.close()


@dataclass
class Behaviour:
    """The answers of an S3 server that a test runs; the test configures them. The S3 server that a test runs with
    configured answers does not check signatures.
    """

    presigned: tuple[int, str] = (200, "")
    headers: dict[str, str] = field(default_factory=dict)
    versioning: str = ""
    overwrites: bool = False
    objects: dict[str, bytes] = field(default_factory=lambda: {MARK_KEY: b"one"})


@asynccontextmanager
async def _told(behaviour: Behaviour, *, date_header: bool = True) -> AsyncIterator[Storage]:
    def error(status: int, code: str) -> Response:
        return Response(f"<Error><Code>{code}</Code></Error>", status, behaviour.headers)

    async def answer(request: Request) -> Response:
        key = request.url.path.removeprefix(f"/{BUCKET}").removeprefix("/")
        query = request.query_params
        if "versioning" in query:
            status = f"<Status>{behaviour.versioning}</Status>" if behaviour.versioning else ""
            return Response(f"<VersioningConfiguration>{status}</VersioningConfiguration>")
        if "X-Amz-Signature" in query and behaviour.presigned[0] != 200:
            return error(*behaviour.presigned)
        if request.method == "PUT":
            if key in behaviour.objects and not behaviour.overwrites:
                return error(412, "PreconditionFailed")
            behaviour.objects[key] = await request.body()
            return Response(headers={"ETag": '"e"'})
        if key not in behaviour.objects:
            return error(404, "NoSuchKey")
        return Response(behaviour.objects[key], headers={"ETag": '"e"', "Last-Modified": _http_date()})

    routes = [Route("/{rest:path}", answer, methods=["GET", "HEAD", "PUT"])]
    async with served(Starlette(routes=routes), date_header=date_header) as url:
        storage = Storage(
            endpoint_url=url,
            bucket=BUCKET,
            credentials=Credentials("key", "secret"),
            region=REGION,
            attempts=1,
        )
        yield storage
        storage.close()


def _http_date(behind: timedelta = timedelta()) -> str:
    return format_datetime(datetime.now(UTC) - behind, usegmt=True)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (lambda: Behaviour(presigned=(403, "AccessDenied")), "storage_presigned_refused"),
        (lambda: Behaviour(presigned=(403, "SignatureDoesNotMatch")), "storage_presigned_refused"),
        (lambda: Behaviour(presigned=(400, "AuthorizationQueryParametersError")), "storage_region_wrong"),
        (lambda: Behaviour(presigned=(400, "ExpiredRequest")), "storage_clock"),
        (lambda: Behaviour(presigned=(503, "SlowDown")), "storage_busy"),
        (lambda: Behaviour(versioning="Enabled"), "storage_versioned"),
    ],
)
async def test_bucket_that_refuses_one_kind_of_request_names_the_kind(
    behaviour: Callable[[], Behaviour], reason: str
) -> None:
    async with _told(behaviour()) as storage:
        assert await _reason(storage) == reason


async def test_url_that_is_already_expired_is_reported_as_a_wrong_clock() -> None:
    """AWS answers AccessDenied to a request with an expired presigned URL. In this test, the Date header of the
    store is ten minutes ahead of our clock.
    """
    ahead = {"Date": _http_date(-timedelta(minutes=10))}
    behaviour = Behaviour(presigned=(403, "AccessDenied"), headers=ahead)
    async with _told(behaviour, date_header=False) as storage:
        assert await _reason(storage) == "storage_clock"


@pytest.mark.parametrize("objects", [{MARK_KEY: b"one"}, {}])
async def test_fresh_and_suspended_buckets_pass(objects: dict[str, bytes]) -> None:
    async with _told(Behaviour(objects=dict(objects), versioning="Suspended")) as storage:
        await check_access(storage, url_lifetime_seconds=300)


async def test_bucket_of_a_server_that_overwrites_is_not_claimed() -> None:
    async with _told(Behaviour(objects={}, overwrites=True)) as storage:
        with pytest.raises(UpstreamFailed, match="storage_overwrites"):
            await storage.claim("one")


async def test_role_request_is_for_one_object_and_twelve_hours() -> None:
    asked: list[dict[str, str]] = []

    async def answer(request: Request) -> Response:
        asked.append(dict(parse_qsl((await request.body()).decode())))
        return Response(
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            "<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>of-one-object</SecretAccessKey>"
            "<SessionToken>token</SessionToken><Expiration>2026-11-30T00:00:00Z</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>",
            media_type="text/xml",
        )

    async with served(Starlette(routes=[Route("/", answer, methods=["POST"])])) as url:
        made = await _of_a_role(Server(url, BUCKET, REGION, ROOT), "r/age-90/1/2/video.mp4")
    assert made == Credentials("ASIA", "of-one-object", "token")
    assert "of-one-object" not in repr(made)
    (form,) = asked
    assert (form["Action"], form["RoleArn"], form["DurationSeconds"]) == ("AssumeRole", ROLE, "43200")
    assert form["Policy"] == sts_credentials.recorder_policy(ROLE, BUCKET, "r/age-90/1/2/video.mp4")


@pytest.mark.parametrize("code", ["AccessDenied", "ValidationError", "MalformedPolicyDocument"])
async def test_refusal_of_a_role_names_the_role(code: str) -> None:
    async def answer(_: Request) -> Response:
        return Response(
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>words</Message></Error>"
            "</ErrorResponse>",
            403 if code == "AccessDenied" else 400,
            media_type="text/xml",
        )

    async with served(Starlette(routes=[Route("/", answer, methods=["POST"])])) as url:
        with pytest.raises(UpstreamFailed, match="recorder_role_refused") as refused:
            await _of_a_role(Server(url, BUCKET, REGION, ROOT), "r/x.mp4")
    assert "words" not in refused.value.summary + repr(refused.value.detail)


def test_policy_of_a_role_names_one_object() -> None:
    policy = sts_credentials.recorder_policy("arn:aws-cn:iam::1:role/x", BUCKET, "r/a/b.mp4")
    assert policy == (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:PutObject","s3:AbortMultipartUpload"],'
        '"Resource":"arn:aws-cn:s3:::recordings/r/a/b.mp4"}]}'
    )
    for key in ("", "r/*", "r/?.mp4", "r/${aws:username}"):
        with pytest.raises(InvalidInput):
            sts_credentials.recorder_policy(ROLE, BUCKET, key)


@pytest.mark.parametrize(
    ("s3", "expected"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "https://sts.eu-central-1.amazonaws.com"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "https://sts.cn-north-1.amazonaws.com.cn"),
        ("https://minio.example.org:9000", "https://minio.example.org:9000"),
        ("https://s3.example.org", "https://s3.example.org"),
    ],
)
def test_token_service_of_aws_has_its_own_host(s3: str, expected: str) -> None:
    assert sts_credentials.sts_endpoint(s3) == expected
