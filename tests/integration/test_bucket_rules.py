"""Tests of the calls that read and write lifecycle and CORS rules with boto3. The tests run against moto, and
against an HTTP server that records the bytes of each request.
"""

import base64
import logging
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import boto3
import pytest
from moto import mock_aws

from app.bucket import policy_documents
from app.bucket.model import Part, Rules, derive_rules
from app.bucket.rule_plan import PartPlan, plan_rules
from app.errors import InvalidInput, UpstreamFailed
from app.integrations.storage.caller import Credentials
from app.integrations.storage.rules import MAX_LIFECYCLE_RULES, CorsRule, LifecycleRule, StorageRules
from devstack.object_store import ObjectStore

pytestmark = pytest.mark.anyio

ADMIN = Credentials("AKIAADMIN", "secret-that-nobody-may-see")
WANTED = derive_rules(policy_documents.load(), {30}, ["https://app.example.org", "https://b.example.org"])
LIFECYCLE, CORS = WANTED.lifecycle or (), WANTED.cors or ()


@pytest.fixture
def moto() -> Iterator[Any]:
    """Yield a boto3 client of moto, an S3 stand-in in this process, with one bucket. No port is opened."""
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        client.create_bucket(Bucket="recordings")
        yield client


@pytest.fixture
async def rules(moto: Any) -> AsyncIterator[StorageRules]:
    made = StorageRules(
        endpoint_url="https://s3.us-east-1.amazonaws.com",
        bucket="recordings",
        credentials=ADMIN,
        region="us-east-1",
    )
    yield made
    made.close()


async def test_a_bucket_without_rules_has_none(rules: StorageRules) -> None:
    assert await rules.read_lifecycle() == ()
    assert await rules.read_cors() == ()


async def test_lifecycle_comes_back_as_it_was_put(rules: StorageRules, moto: Any) -> None:
    await rules.replace_lifecycle(LIFECYCLE)
    assert await rules.read_lifecycle() == LIFECYCLE
    [first, *_] = moto.get_bucket_lifecycle_configuration(Bucket="recordings")["Rules"]
    assert first == {
        "ID": "backstop-d30",
        "Filter": {"Prefix": "r/d30/"},
        "Status": "Enabled",
        "Expiration": {"Days": 37},
    }


async def test_cors_comes_back_as_it_was_put(rules: StorageRules) -> None:
    await rules.replace_cors(CORS)
    assert await rules.read_cors() == CORS


async def test_empty_list_of_rules_removes_all_rules(rules: StorageRules) -> None:
    await rules.replace_lifecycle(LIFECYCLE)
    await rules.replace_cors(CORS)
    await rules.replace_lifecycle(())
    await rules.replace_cors(())
    assert (await rules.read_lifecycle(), await rules.read_cors()) == ((), ())


async def test_a_foreign_rule_survives_ours_word_for_word(rules: StorageRules, moto: Any) -> None:
    foreign = {
        "ID": "theirs",
        "Filter": {"Prefix": "logs/"},
        "Status": "Enabled",
        "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}],
        "Expiration": {"Days": 400},
    }
    moto.put_bucket_lifecycle_configuration(Bucket="recordings", LifecycleConfiguration={"Rules": [foreign]})
    found = await rules.read_lifecycle()
    assert (found[0].delete_after_days, found[0].other) == (400, ("Transitions",))
    part = planned(Rules(found, None, None))
    await rules.replace_lifecycle(part.result)  # type: ignore[arg-type]
    kept = moto.get_bucket_lifecycle_configuration(Bucket="recordings")["Rules"]
    assert kept[0] == foreign
    assert [one["ID"] for one in kept[1:]] == [rule.id for rule in LIFECYCLE]
    assert not planned(Rules(await rules.read_lifecycle(), None, None)).has_changes


async def test_what_is_applied_is_found_as_meant(rules: StorageRules) -> None:
    await rules.replace_lifecycle(LIFECYCLE)
    await rules.replace_cors(CORS)
    found = Rules(await rules.read_lifecycle(), await rules.read_cors(), WANTED.locks)
    assert not any(part.lines for part in plan_rules(WANTED, found))


async def test_older_shape_of_a_rule_is_understood(rules: StorageRules, moto: Any) -> None:
    old = {"ID": "backstop-d30", "Prefix": "r/d30/", "Status": "Enabled", "Expiration": {"Days": 37}}
    moto.put_bucket_lifecycle_configuration(Bucket="recordings", LifecycleConfiguration={"Rules": [old]})
    assert await rules.read_lifecycle() == LIFECYCLE[:1]


async def test_a_rule_with_a_date_or_a_tag_is_not_taken_for_ours(rules: StorageRules, moto: Any) -> None:
    odd = {
        "ID": "backstop-d30",
        "Filter": {"And": {"Prefix": "r/d30/", "Tags": [{"Key": "a", "Value": "b"}]}},
        "Status": "Enabled",
        "Expiration": {"Days": 37},
    }
    moto.put_bucket_lifecycle_configuration(Bucket="recordings", LifecycleConfiguration={"Rules": [odd]})
    [found] = await rules.read_lifecycle()
    assert found.other == ("Filter.And",)
    assert found != LIFECYCLE[0]


async def test_more_rules_than_a_bucket_takes_are_not_sent(rules: StorageRules) -> None:
    many = [
        LifecycleRule(f"x{number}", f"x{number}/", delete_after_days=1)
        for number in range(MAX_LIFECYCLE_RULES + 1)
    ]
    with pytest.raises(InvalidInput, match="lifecycle_rules_limit"):
        await rules.replace_lifecycle(many)
    assert await rules.read_lifecycle() == ()


async def test_missing_bucket_raises_an_error(moto: Any) -> None:
    other = StorageRules(
        endpoint_url="https://s3.us-east-1.amazonaws.com",
        bucket="elsewhere",
        credentials=ADMIN,
        region="us-east-1",
    )
    with pytest.raises(UpstreamFailed, match="storage_bucket_missing"):
        await other.read_lifecycle()


async def test_store_without_support_for_rules_raises_an_error(object_store: ObjectStore) -> None:
    """The embedded object store does not support lifecycle rules, so a call that replaces them raises an error."""
    rules = StorageRules(
        endpoint_url=object_store.endpoint_url,
        bucket=object_store.bucket,
        credentials=object_store.reader,
        region=object_store.region,
    )
    with pytest.raises(UpstreamFailed):
        await rules.replace_lifecycle(LIFECYCLE)
    rules.close()


class Wire:
    """An HTTP server that takes the place of the object store. The server records each request and gives the answer
    that the test configured.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.status = 200
        wire = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                size = int(self.headers.get("content-length", "0"))
                headers = {name.lower(): value for name, value in self.headers.items()}
                wire.requests.append((self.command, self.path, headers, self.rfile.read(size)))
                self.send_response(wire.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    thread = Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
async def wired(wire: Wire) -> AsyncIterator[StorageRules]:
    made = StorageRules(endpoint_url=wire.url, bucket="recordings", credentials=ADMIN)
    yield made
    made.close()


async def test_the_lifecycle_request_on_the_wire(wire: Wire, wired: StorageRules) -> None:
    await wired.replace_lifecycle([LIFECYCLE[0], LIFECYCLE[-1]])
    [(method, path, headers, body)] = wire.requests
    assert (method, path) == ("PUT", "/recordings?lifecycle")
    assert body.decode() == (
        '<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        "<Rule><ID>backstop-d30</ID><Filter><Prefix>r/d30/</Prefix></Filter><Status>Enabled</Status>"
        "<Expiration><Days>37</Days></Expiration></Rule>"
        "<Rule><ID>unfinished-uploads</ID><Filter><Prefix /></Filter><Status>Enabled</Status>"
        "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation>"
        "</AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>"
    )
    assert_checksummed(headers, body)


async def test_the_cors_request_on_the_wire(wire: Wire, wired: StorageRules) -> None:
    await wired.replace_cors(
        [CorsRule("web-app", ("https://a.example",), ("GET", "PUT"), ("range",), (), 60)]
    )
    [(method, path, headers, body)] = wire.requests
    assert (method, path) == ("PUT", "/recordings?cors")
    assert body.decode() == (
        '<CORSConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><CORSRule><ID>web-app</ID>'
        "<AllowedOrigin>https://a.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
        "<AllowedMethod>PUT</AllowedMethod><AllowedHeader>range</AllowedHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule>"
        "</CORSConfiguration>"
    )
    assert_checksummed(headers, body)


def assert_checksummed(headers: dict[str, str], body: bytes) -> None:
    """Require that a request has an unchunked body, a signature of version 4, a CRC32 checksum and no MD5 checksum.
    botocore sends the CRC32 even if checksums are set to "when required".
    """
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAADMIN/")
    assert "/auto/s3/aws4_request" in headers["authorization"]
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    assert headers["x-amz-checksum-crc32"] == crc
    assert headers["x-amz-sdk-checksum-algorithm"] == "CRC32"
    assert not {"content-md5", "transfer-encoding", "x-amz-trailer"} & headers.keys()
    assert int(headers["content-length"]) == len(body)


async def test_a_refusal_names_the_operation_and_no_key(
    wire: Wire, wired: StorageRules, caplog: pytest.LogCaptureFixture
) -> None:
    wire.status = 403
    with caplog.at_level(logging.INFO), pytest.raises(UpstreamFailed) as refused:
        await wired.replace_lifecycle(LIFECYCLE)
    assert refused.value.reason == "storage_credentials_refused"
    assert refused.value.detail == {"operation": "replace_lifecycle", "status": 403}
    assert ADMIN.secret_access_key not in f"{refused.value!r} {caplog.text}"


def planned(
    found: Rules, which: Callable[[PartPlan], bool] = lambda one: one.part is Part.LIFECYCLE
) -> PartPlan:
    [part] = filter(which, plan_rules(WANTED, found))
    return part
