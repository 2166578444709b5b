"""Tests of the functions behind `make bench-webhook`, with a few events: every sent event arrives, and the
benchmark passes or fails as it should.
"""

import json
from collections.abc import Iterator
from itertools import islice

import psycopg
import pytest

from app.integrations.livekit.client import WebhookVerifier
from benchmarks import practice, webhook
from benchmarks.loopback import UnexpectedAnswerError, connected, post
from benchmarks.notifications import EVENTS, notifications, signed
from benchmarks.practice import Practice
from benchmarks.webhook import Result, Sample
from tests.databases import Cluster

SECRET = "a-secret-of-more-than-thirty-two-bytes"


@pytest.fixture(scope="module")
def place(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Practice]:
    with practice.running(cluster, tmp_path_factory.mktemp("bench"), doctors=2, recordings=3) as made:
        yield made


@pytest.mark.anyio
async def test_every_insert_and_every_notification_of_a_run_is_in_the_inbox(place: Practice) -> None:
    result = await webhook.measure(place, events=len(EVENTS) * 2, rounds=1, senders=2)
    sent, kinds, rounds = len(EVENTS) * 2, 4, 2  # The warm-up is not counted
    measured = (result.bare, result.webhook, result.beside_readers, result.in_one_process)
    assert [len(sample.latencies) for sample in measured] == [sent] * kinds
    for reads in (result.reads, result.reads_of_one_process):
        assert len(reads.latencies) >= webhook.READERS
    with psycopg.connect(place.stack.project.superuser_url) as connection:
        query = "select count(*)::integer from private.livekit_events where event = %s"
        kept = {event: connection.execute(query, (event,)).fetchone() for event in set(EVENTS)}
        queued = connection.execute("select distinct task_name from jobs.procrastinate_jobs").fetchall()
    assert sum(row[0] for row in kept.values() if row) == sent * kinds * rounds
    assert {name for (name,) in queued} == {"watch_room", "follow_egress"}


@pytest.mark.anyio
async def test_benchmark_fails_after_an_answer_other_than_200(place: Practice) -> None:
    (body,) = islice(notifications(place.rooms), 1)
    unsigned = post(f"{place.webhooks_url}/webhooks/livekit", {}, body)
    async with connected(place.webhooks_url) as connection:
        with pytest.raises(UnexpectedAnswerError, match="401"):
            await connection.exchange(unsigned)


def test_notifications_are_distinct_and_pass_the_verifier() -> None:
    verifier = WebhookVerifier({"key": SECRET})
    bodies = list(islice(notifications(["room_a", "room_b"]), 2 * len(EVENTS)))
    events = [verifier.verify(body, _token(body)) for body in bodies]
    assert len({event.event_id for event in events}) == len(events)
    assert [event.event for event in events[::2]] == list(EVENTS)
    assert [event.event for event in events[1::2]] == [*EVENTS[1:], EVENTS[0]]
    assert {event.room_name for event in events} == {"room_a", "room_b"}
    assert len({event.egress_id for event in events if event.egress_id}) == 2
    assert all((event.egress_id is None) == (not event.event.startswith("egress_")) for event in events)
    assert all(json.loads(body)["id"] for body in bodies)


def _token(body: bytes) -> str:
    head, _, _ = signed("http://127.0.0.1:1/x", body, key="key", secret=SECRET).partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])
    return {name.lower(): value for name, value in headers.items()}["authorization"]


def _result(*, rate: float, p99_milliseconds: float) -> Result:
    slow = Sample("slow", 1, [p99_milliseconds / 1000] * 10)
    one = Sample("one process", 1, [0.5] * 10)
    return Result(
        Sample("bare", 1, [0.001] * 100), Sample("webhook", 100 / rate, [0.001] * 100), slow, slow, one, one
    )


@pytest.mark.parametrize(
    ("rate", "p99", "holds"), [(50, 19.9, True), (49, 19.9, False), (50, 20.0, False), (200, 1.0, True)]
)
def test_verdict_requires_half_the_rate_and_the_latency(rate: float, p99: float, holds: bool) -> None:
    result = _result(rate=rate, p99_milliseconds=p99)
    assert result.holds is holds
    last = webhook.report(result)[-1]
    assert last.startswith(f"bench-webhook: {'held' if holds else 'MISSED'}: ratio {rate / 100:.2f}")
    assert last.endswith("500.0 ms in one process with them")


def test_percentile_is_the_value_that_this_share_does_not_exceed() -> None:
    sample = Sample("any", 2, [number / 1000 for number in range(100, 0, -1)])
    assert (sample.per_second, sample.milliseconds(50), sample.milliseconds(99)) == (50, 50, 99)
