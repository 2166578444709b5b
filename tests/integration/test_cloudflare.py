"""Tests of our Cloudflare client against a stand-in that is as strict as Cloudflare's documentation."""

import json
import logging
import traceback
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from app.errors import AppError, InvalidInput, Timeout, UpstreamFailed
from app.integrations.cloudflare.client import MAX_LOCK_RULES, Cloudflare, LockRule, PublicDomain
from app.texts import operator_message
from devstack.cloudflare import Bucket, CloudflareConfig, create_cloudflare_app
from devstack.cloudflare.config import load_config, save_config

pytestmark = pytest.mark.anyio

ACCOUNT = "0123456789abcdef0123456789abcdef"
TOKEN = "token-that-nobody-may-see"
READING = "token-that-reads"
CONFIG = CloudflareConfig(account_id=ACCOUNT, bucket="recordings", token=TOKEN, reading_token=READING)
API = "http://cloudflare.test/client/v4"
LOCK = f"/client/v4/accounts/{ACCOUNT}/r2/buckets/recordings/lock"
RULES = (
    LockRule("fixed-audit", "audit/"),
    LockRule("aged", "logs/", max_age_seconds=604_800),
    LockRule("dated", "", enabled=False, until=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
async def http(bucket: Bucket) -> AsyncIterator[httpx.AsyncClient]:
    async with _http(create_cloudflare_app(CONFIG, bucket)) as client:
        yield client


@pytest.fixture
def cloudflare(http: httpx.AsyncClient) -> Cloudflare:
    return _client(http)


def _http(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://cloudflare.test")


def _client(http: httpx.AsyncClient, **changes: str) -> Cloudflare:
    of: dict[str, Any] = {"account_id": ACCOUNT, "bucket": "recordings", "token": TOKEN, "api_url": API}
    return Cloudflare(**{**of, **changes}, http=http)


def _answering(handle: Any) -> Cloudflare:
    return _client(httpx.AsyncClient(transport=httpx.MockTransport(handle)))


async def test_locks_come_back_as_they_were_put(cloudflare: Cloudflare) -> None:
    assert await cloudflare.read_locks() == ()
    await cloudflare.replace_locks(RULES)
    assert await cloudflare.read_locks() == RULES
    await cloudflare.replace_locks(RULES[:1])
    assert await cloudflare.read_locks() == RULES[:1]
    assert [rule.is_indefinite for rule in RULES] == [True, False, False]


async def test_put_is_the_documented_request() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"success": True, "errors": [], "messages": [], "result": {}})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    await _client(client, jurisdiction="eu").replace_locks(RULES)
    [request] = seen
    assert (request.method, str(request.url)) == ("PUT", "http://cloudflare.test" + LOCK)
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["cf-r2-jurisdiction"] == "eu"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content) == {
        "rules": [
            {"id": "fixed-audit", "prefix": "audit/", "enabled": True, "condition": {"type": "Indefinite"}},
            {
                "id": "aged",
                "prefix": "logs/",
                "enabled": True,
                "condition": {"type": "Age", "maxAgeSeconds": 604800},
            },
            {
                "id": "dated",
                "prefix": "",
                "enabled": False,
                "condition": {"type": "Date", "date": "2030-01-02T03:04:05Z"},
            },
        ]
    }


async def test_a_thousand_rules_are_taken_and_one_more_is_not(
    cloudflare: Cloudflare, bucket: Bucket, http: httpx.AsyncClient
) -> None:
    rules = [LockRule(f"hold-{number}", f"r/d90/{number}/") for number in range(MAX_LOCK_RULES + 1)]
    await cloudflare.replace_locks(rules[:-1])
    assert len(await cloudflare.read_locks()) == MAX_LOCK_RULES
    with pytest.raises(InvalidInput, match="lock_rules_limit"):
        await cloudflare.replace_locks(rules)
    body = {"rules": [*bucket.rules, {"id": "x", "enabled": True, "condition": {"type": "Indefinite"}}]}
    assert (await http.put(LOCK, json=body, headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 400
    assert bucket.puts == 1


async def test_two_rules_of_one_id_are_not_sent(cloudflare: Cloudflare, bucket: Bucket) -> None:
    with pytest.raises(InvalidInput, match="lock_rule_twice"):
        await cloudflare.replace_locks([LockRule("a", "x/"), LockRule("a", "y/")])
    assert bucket.puts == 0


async def test_rule_of_an_unknown_kind_is_never_lost_in_a_write(
    cloudflare: Cloudflare, bucket: Bucket
) -> None:
    bucket.rules = [{"id": "new", "enabled": True, "condition": {"type": "Governance"}}]
    with pytest.raises(UpstreamFailed, match="cloudflare_lock_unknown"):
        await cloudflare.read_locks()


async def test_a_date_without_a_time_is_understood(cloudflare: Cloudflare, bucket: Bucket) -> None:
    condition = {"type": "Date", "date": "2030-01-02"}
    bucket.rules = [{"id": "new", "enabled": True, "condition": condition}]
    assert await cloudflare.read_locks() == (LockRule("new", "", until=datetime(2030, 1, 2, tzinfo=UTC)),)


async def test_public_addresses_are_listed(cloudflare: Cloudflare, bucket: Bucket) -> None:
    assert await cloudflare.managed_domain() == PublicDomain(bucket.managed["domain"], enabled=False)
    assert await cloudflare.custom_domains() == ()
    bucket.managed["enabled"] = True
    bucket.attach("media.example.org", enabled=True)
    bucket.attach("old.example.org", enabled=False)
    assert (await cloudflare.managed_domain()).enabled
    assert await cloudflare.custom_domains() == (
        PublicDomain("media.example.org", enabled=True),
        PublicDomain("old.example.org", enabled=False),
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"token": "another"}, "cloudflare_token_refused"),
        ({"token": ""}, "cloudflare_token_refused"),
        ({"account_id": "f" * 32}, "cloudflare_token_refused"),
        ({"bucket": "another"}, "cloudflare_bucket_missing"),
        ({"jurisdiction": "eu"}, "cloudflare_bucket_missing"),
        ({"jurisdiction": "mars"}, "cloudflare_failed"),
        ({"api_url": "http://cloudflare.test/client/v5"}, "cloudflare_account_unknown"),
    ],
)
async def test_each_refusal_has_its_own_error(
    http: httpx.AsyncClient, changes: dict[str, str], reason: str
) -> None:
    with pytest.raises(UpstreamFailed, match=reason):
        await _client(http, **changes).read_locks()


async def test_a_reading_token_reads_and_does_not_write(http: httpx.AsyncClient, bucket: Bucket) -> None:
    reading = _client(http, token=READING)
    assert await reading.read_locks() == ()
    with pytest.raises(UpstreamFailed, match="cloudflare_token_refused"):
        await reading.replace_locks(RULES)
    assert bucket.puts == 0


@pytest.mark.parametrize(
    "body",
    [
        {"rules": [{"id": "a", "enabled": True}]},
        {"rules": [{"id": "a", "enabled": True, "condition": {"type": "Forever"}}]},
        {"rules": [{"id": "a", "enabled": True, "condition": {"type": "Age"}}]},
        {"rules": [{"id": "a", "enabled": True, "condition": {"type": "Age", "maxAgeSeconds": "60"}}]},
        {"rules": [{"id": "a", "enabled": True, "condition": {"type": "Indefinite", "date": "2030-01-01"}}]},
        {"rules": [{"id": "a", "enabled": True, "condition": {"type": "Date", "date": "tomorrow"}}]},
        {"rules": [{"id": "a", "enabled": "yes", "condition": {"type": "Indefinite"}}]},
        {"rules": [{"id": "a", "enabled": True, "condition": {"type": "Indefinite"}, "note": "x"}]},
        {"rules": [{"enabled": True, "condition": {"type": "Indefinite"}}]},
        {"rules": [{"id": "a", "enabled": True, "condition": {"type": "Indefinite"}}] * 2},
        {"rule": []},
        [],
    ],
)
async def test_stand_in_refuses_what_is_not_documented(
    http: httpx.AsyncClient, bucket: Bucket, body: object
) -> None:
    answer = await http.put(LOCK, json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 400
    assert answer.json()["success"] is False
    assert answer.json()["errors"]
    assert bucket.puts == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(429, json={"success": False, "errors": [{"code": 971}]}), "cloudflare_limited"),
        (httpx.Response(502, text="<html>"), "cloudflare_failed"),
        (httpx.Response(200, text="[]"), "cloudflare_failed"),
        (httpx.Response(200, json={"success": False, "errors": [], "result": {}}), "cloudflare_failed"),
        (httpx.Response(200, json={"success": True, "result": None}), "cloudflare_failed"),
        (httpx.Response(200, json={"success": True, "result": {"rules": [{}]}}), "cloudflare_failed"),
        (httpx.Response(302, headers={"location": "https://elsewhere.test"}), "cloudflare_failed"),
    ],
)
async def test_malformed_answer_is_a_failure(answer: httpx.Response, reason: str) -> None:
    with pytest.raises(UpstreamFailed, match=reason):
        await _answering(lambda _: answer).read_locks()


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, 10042, "cloudflare_not_enabled"),
        (403, 10003, "cloudflare_access_denied"),
        (403, 9109, "cloudflare_token_refused"),
        (404, 7003, "cloudflare_account_unknown"),
        (404, 10006, "cloudflare_bucket_missing"),
        (429, 10058, "cloudflare_limited"),
        (503, 10043, "cloudflare_unavailable"),
    ],
)
async def test_refusal_of_cloudflare_keeps_its_name(status: int, code: int, reason: str) -> None:
    answer = httpx.Response(status, json={"success": False, "errors": [{"code": code, "message": "x"}]})
    with pytest.raises(UpstreamFailed) as refused:
        await _answering(lambda _: answer).read_locks()
    assert refused.value.reason == reason
    assert operator_message(reason) != operator_message("no such reason")


async def test_unknown_code_of_cloudflare_is_kept_in_the_error() -> None:
    answer = httpx.Response(409, json={"success": False, "errors": [{"code": 10073, "message": "words"}]})
    with pytest.raises(UpstreamFailed) as refused:
        await _answering(lambda _: answer).read_locks()
    assert refused.value.summary == "cloudflare_failed (10073)"


@pytest.mark.parametrize(
    ("raised", "kind", "reason"),
    [
        (httpx.ReadTimeout("x"), Timeout, "cloudflare_timeout"),
        (httpx.ConnectError("x"), UpstreamFailed, "cloudflare_unreachable"),
        (httpx.ReadError("x"), UpstreamFailed, "cloudflare_failed"),
    ],
)
async def test_broken_connection_is_a_failure(raised: Exception, kind: type[AppError], reason: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise raised

    with pytest.raises(kind, match=reason):
        await _answering(answer).replace_locks(RULES)


async def test_the_token_is_in_no_error_and_no_log(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(UpstreamFailed) as caught:
        await _client(http, bucket="another").read_locks()
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.detail) + caplog.text
    assert TOKEN not in told
    assert TOKEN not in repr(CONFIG)


def test_stand_in_reads_its_config_back(tmp_path: Path) -> None:
    config = replace(CONFIG, jurisdiction="eu", port=1)
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config
    assert (tmp_path / "config.json").stat().st_mode & 0o077 == 0
