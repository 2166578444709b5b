"""Tests of the embedded object store: it checks permissions, keeps its data after a restart, and ends when its
parent process dies.
"""

import io
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as SigningKey
from botocore.exceptions import ClientError

from app.integrations.storage.caller import Credentials
from devstack.object_store import ObjectStore, ObjectStoreError, running
from tests.buckets import s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CopySourceTypeDef

MIB = 1024 * 1024
PARTS_OF_5_MIB = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=2)


@pytest.fixture
def connect(object_store: ObjectStore) -> Iterator[Callable[[Credentials], "S3Client"]]:
    clients: list[S3Client] = []

    def client(credentials: Credentials) -> "S3Client":
        clients.append(s3_client(object_store, credentials))
        return clients[-1]

    yield client
    for made in clients:
        made.close()


@pytest.fixture
def writer(object_store: ObjectStore, connect: "Callable[[Credentials], S3Client]") -> "S3Client":
    return connect(object_store.writer)


@pytest.fixture
def recorder(object_store: ObjectStore, connect: "Callable[[Credentials], S3Client]") -> "S3Client":
    return connect(object_store.recorder)


@pytest.fixture
def reader(object_store: ObjectStore, connect: "Callable[[Credentials], S3Client]") -> "S3Client":
    return connect(object_store.reader)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"tests/{request.node.name}"


def _signed(
    store: ObjectStore, credentials: Credentials, method: str, path: str, **headers: str
) -> httpx.Response:
    """Sign a request with the S3 signature and send it without boto3, because boto3 cannot create this request."""
    request = AWSRequest(method, store.endpoint_url + path, headers=headers, data=b"")
    key = SigningKey(credentials.access_key_id, credentials.secret_access_key)
    S3SigV4Auth(key, "s3", store.region).add_auth(request)
    with httpx.Client(trust_env=False) as http:
        return http.request(method, store.endpoint_url + path, headers=dict(request.headers.items()))


def _status(call: Callable[[], Any]) -> int:
    with pytest.raises(ClientError) as refused:
        call()
    return refused.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_multipart_upload_works_for_the_recorder(
    object_store: ObjectStore, recorder: "S3Client", reader: "S3Client", key: str
) -> None:
    content = os.urandom(12 * MIB)

    recorder.upload_fileobj(
        io.BytesIO(content),
        object_store.bucket,
        key,
        Config=PARTS_OF_5_MIB,
        ExtraArgs={"ContentType": "video/mp4", "Metadata": {"egress": "EG_1"}},
    )

    stored = reader.get_object(Bucket=object_store.bucket, Key=key)
    assert stored["ETag"].strip('"').endswith("-3")
    assert (stored["ContentType"], stored["Metadata"]) == ("video/mp4", {"egress": "EG_1"})
    with stored["Body"] as body:
        assert body.read() == content


def _name_the_operation(client: "S3Client") -> None:
    """Add the name of the S3 operation to the query string of each request, as the AWS SDKs for Go and JavaScript
    do.
    """

    def add_name(request: AWSRequest, operation_name: str, **_: object) -> None:
        url = request.url or ""
        request.url = f"{url}{'&' if '?' in url else '?'}x-id={operation_name}"

    client.meta.events.register("before-sign.s3", add_name)


def test_upload_of_a_client_that_names_its_operation_is_taken(
    object_store: ObjectStore, recorder: "S3Client", reader: "S3Client", key: str
) -> None:
    bucket = object_store.bucket
    _name_the_operation(recorder)
    _name_the_operation(reader)
    recorder.put_object(Bucket=bucket, Key=key, Body=b"recorded")
    recorder.upload_fileobj(io.BytesIO(bytes(6 * MIB)), bucket, f"{key}/large", Config=PARTS_OF_5_MIB)
    assert reader.get_object(Bucket=bucket, Key=key)["Body"].read() == b"recorded"
    assert reader.head_object(Bucket=bucket, Key=f"{key}/large")["ContentLength"] == 6 * MIB


def test_multipart_upload_can_be_aborted_by_the_recorder(
    object_store: ObjectStore, recorder: "S3Client", writer: "S3Client", key: str
) -> None:
    bucket = object_store.bucket
    upload = recorder.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    recorder.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"part")

    recorder.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)

    assert "Uploads" not in writer.list_multipart_uploads(Bucket=bucket, Prefix=key)


def test_reader_can_do_nothing_but_read_objects(
    object_store: ObjectStore, reader: "S3Client", writer: "S3Client", key: str
) -> None:
    bucket = object_store.bucket
    writer.put_object(Bucket=bucket, Key=key, Body=b"kept")
    refused: list[Callable[[], Any]] = [
        lambda: reader.put_object(Bucket=bucket, Key=key, Body=b"other"),
        lambda: reader.put_object(Bucket=bucket, Key=f"{key}/new", Body=b"other"),
        lambda: reader.copy_object(
            Bucket=bucket, Key=f"{key}/new", CopySource={"Bucket": bucket, "Key": key}
        ),
        lambda: reader.create_multipart_upload(Bucket=bucket, Key=key),
        lambda: reader.delete_object(Bucket=bucket, Key=key),
        lambda: reader.list_objects_v2(Bucket=bucket),
        lambda: reader.list_multipart_uploads(Bucket=bucket),
        lambda: reader.head_bucket(Bucket=bucket),
        lambda: reader.list_buckets(),
        lambda: reader.create_bucket(Bucket="readers-own"),
        lambda: reader.delete_bucket(Bucket=bucket),
    ]

    assert [_status(call) for call in refused] == [403] * len(refused)
    many = reader.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
    assert [error["Code"] for error in many["Errors"]] == ["AccessDenied"]
    assert reader.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(b"kept")
    assert _status(lambda: reader.head_object(Bucket=bucket, Key=f"{key}/new")) == 404


def test_recorder_can_do_nothing_but_put(
    object_store: ObjectStore, recorder: "S3Client", writer: "S3Client", key: str
) -> None:
    bucket = object_store.bucket
    recorder.put_object(Bucket=bucket, Key=key, Body=b"recorded")
    upload = recorder.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    source: CopySourceTypeDef = {"Bucket": bucket, "Key": key}
    refused: list[Callable[[], Any]] = [
        lambda: recorder.get_object(Bucket=bucket, Key=key),
        lambda: recorder.get_object(Bucket=bucket, Key=f"{key}/absent"),
        lambda: recorder.head_object(Bucket=bucket, Key=key),
        lambda: recorder.delete_object(Bucket=bucket, Key=key),
        lambda: recorder.list_objects_v2(Bucket=bucket),
        lambda: recorder.list_multipart_uploads(Bucket=bucket),
        lambda: recorder.list_parts(Bucket=bucket, Key=key, UploadId=upload),
        lambda: recorder.copy_object(Bucket=bucket, Key=f"{key}/copy", CopySource=source),
        lambda: recorder.upload_part_copy(
            Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, CopySource=source
        ),
        lambda: recorder.head_bucket(Bucket=bucket),
        lambda: recorder.list_buckets(),
        lambda: recorder.create_bucket(Bucket="recorders-own"),
    ]

    assert [_status(call) for call in refused] == [403] * len(refused)
    many = recorder.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
    assert [error["Code"] for error in many["Errors"]] == ["AccessDenied"]
    with writer.get_object(Bucket=bucket, Key=key)["Body"] as body:
        assert body.read() == b"recorded"
    recorder.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)


@pytest.mark.parametrize("user", ["reader", "recorder", "writer"])
def test_segments_of_multipart_uploads_are_addressable_by_nobody(
    object_store: ObjectStore, writer: "S3Client", key: str, user: str
) -> None:
    credentials: Credentials = getattr(object_store, user)
    bucket = object_store.bucket
    segments = f"{bucket}%2Bsegments"

    answers = [
        _signed(object_store, credentials, "GET", f"/{segments}"),
        _signed(object_store, credentials, "GET", f"/{segments}/any/part/1"),
        _signed(object_store, credentials, "DELETE", f"/{segments}/any/part/1"),
        _signed(
            object_store,
            credentials,
            "PUT",
            f"/{bucket}/stolen",
            **{"x-amz-copy-source": f"/{segments}/any/part/1"},
        ),
    ]

    assert [answer.status_code for answer in answers] == [403] * 4


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/{bucket}/object", {}),
        ("/{bucket}", {}),
        ("/", {}),
        ("/info", {}),
        ("/v1/AUTH_resguardo/{bucket}", {"X-Auth-Token": "AUTH_tk00"}),
        ("/auth/v1.0", {"X-Auth-User": "resguardo:writer", "X-Auth-Key": "{writer}"}),
        ("/{bucket}/object", {"Authorization": "AWS4-HMAC-SHA256 nonsense"}),
        ("/{bucket}/object", {"Authorization": "AWS resguardo:writer:c2ln"}),
        ("/v1.0/AUTH_resguardo/{bucket}", {"Authorization": "Bearer x"}),
    ],
)
def test_only_signed_s3_requests_are_answered(
    object_store: ObjectStore, path: str, headers: dict[str, str]
) -> None:
    secret = object_store.writer.secret_access_key
    sent = {name: value.replace("{writer}", secret) for name, value in headers.items()}
    with httpx.Client(trust_env=False) as http:
        answer = http.get(object_store.endpoint_url + path.format(bucket=object_store.bucket), headers=sent)

    assert answer.status_code in (400, 403)


def test_secrets_are_private_and_absent_from_what_is_printed(tmp_path: Path) -> None:
    with running(tmp_path / "store") as store:
        users = (store.reader, store.writer, store.recorder)
        assert len({user.secret_access_key for user in users}) == 3
        assert not any(user.secret_access_key in repr(store) for user in users)
        readable = [
            path
            for path in (tmp_path / "store").rglob("*")
            if path.is_file()
            and any(user.secret_access_key in path.read_text(errors="ignore") for user in users)
        ]
    assert {path.name for path in readable} == {"secrets.json", "proxy-server.conf"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in readable} == {0o600}


def test_a_second_start_finds_what_the_first_stored(tmp_path: Path) -> None:
    for turn in ("first", "second"):
        with running(tmp_path / "store", bucket="other-bucket") as store:
            client = s3_client(store, store.writer)
            if turn == "first":
                first = store
                client.put_object(Bucket="other-bucket", Key="kept", Body=b"kept")
            with client.get_object(Bucket="other-bucket", Key="kept")["Body"] as body:
                assert body.read() == b"kept"
            client.close()
    assert (store.reader, store.writer, store.recorder) == (first.reader, first.writer, first.recorder)


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with running(tmp_path), pytest.raises(ObjectStoreError, match="another object store"), running(tmp_path):
        pass


def test_a_child_that_ends_early_is_reported_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "devices").touch()
    expected = pytest.raises(ObjectStoreError, match=r"ended before it was ready(.|\n)*NotADirectoryError")
    with expected, running(tmp_path):
        pass
    assert _processes(tmp_path) == []


def test_a_file_system_without_attributes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(ObjectStoreError, match="keeps no extended attributes"), running(tmp_path):
        pass


def test_nothing_runs_after_the_block(tmp_path: Path) -> None:
    with running(tmp_path):
        assert len(_processes(tmp_path)) == 1
    assert _processes(tmp_path) == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_runs_after_the_parent_is_killed(tmp_path: Path, end: signal.Signals) -> None:
    script = (
        "import pathlib, sys, time\n"
        "from devstack.object_store import running\n"
        "with running(pathlib.Path(sys.argv[1])):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    store = tmp_path / "store"
    with subprocess.Popen([sys.executable, "-c", script, str(store)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        assert len(_processes(store)) == 2

        parent.send_signal(end)
        parent.wait(10)

    deadline = time.monotonic() + 10
    while _processes(store) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _processes(store) == []


def _processes(data_dir: Path) -> list[int]:
    """Return the ids of the processes that have this directory as a command-line argument."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (directory / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(data_dir).encode() in arguments:
            found.append(int(directory.name))
    return found
