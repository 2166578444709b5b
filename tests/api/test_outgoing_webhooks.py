"""Tests of the log of deliveries of outgoing webhooks, which compliance reads, and of redeliveries."""

from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest

from app.settings.outgoing_webhooks import WEBHOOK_EVENT_TYPES
from tests.api.deleting import destroy_recording
from tests.api.delivering import insert_delivery
from tests.api.documents import REDELIVER_WEBHOOK, WEBHOOK_DELIVERIES
from tests.api.harness import ApiHarness, Case, Person
from tests.api.shown import named_in, shown_in
from tests.api.signing import sign
from tests.api.speaking import store_transcript
from tests.api.writing_insights import store_insights

pytestmark = pytest.mark.anyio

DELIVERY: LiteralString = "select * from resguardo.webhook_deliveries where id = %s"


async def _row(harness: ApiHarness, delivery: UUID) -> dict[str, Any]:
    (row,) = await harness.rows(DELIVERY, delivery)
    return dict(row)


async def test_officer_reads_a_delivery_with_its_attempts(harness: ApiHarness, officer: Person) -> None:
    future = harness.practice.now() + timedelta(days=365)
    delivery = insert_delivery(harness, created_at=future)
    row = await _row(harness, delivery)
    answer = await officer.send(
        WEBHOOK_DELIVERIES, first=1, filter={"statuses": ["FAILED"]}, in_language="es"
    )
    node = answer.value["edges"][0]["node"]
    assert (node["id"], node["status"], node["eventType"]) == (str(delivery), "FAILED", "note.signed")
    assert (node["messageId"], node["entityIds"]) == (str(row["message_id"]), [str(row["entity_ids"][0])])
    assert (node["attemptCount"], node["statusCode"], node["nextAttemptAt"]) == (1, 503, None)
    assert node["problem"]["code"] == "ENDPOINT_BUSY"
    assert "saturado" in node["problem"]["message"]
    (attempt,) = node["attempts"]
    assert (attempt["number"], attempt["durationSeconds"], attempt["problem"]["code"]) == (
        1,
        0.25,
        "ENDPOINT_BUSY",
    )
    (audit,) = await harness.audit(answer.request_id)
    assert (audit["action"], audit["outcome"]) == ("webhook.list", "ALLOWED")
    assert named_in(audit) == shown_in(answer)


async def test_deliveries_are_paged_newest_first_and_filtered_by_status(
    harness: ApiHarness, officer: Person
) -> None:
    future = harness.practice.now() + timedelta(days=400)
    made = [
        insert_delivery(harness, "DELIVERED", created_at=future + timedelta(seconds=n), status_code=204)
        for n in range(3)
    ]
    insert_delivery(harness, "PENDING", created_at=future + timedelta(seconds=9))
    wanted = {"statuses": ["DELIVERED"]}
    first = await officer.ask(WEBHOOK_DELIVERIES, first=2, filter=wanted)
    assert [edge["node"]["id"] for edge in first["edges"]] == [str(made[2]), str(made[1])]
    after = first["pageInfo"]["endCursor"]
    rest = await officer.ask(WEBHOOK_DELIVERIES, first=1, after=after, filter=wanted)
    assert [edge["node"]["id"] for edge in rest["edges"]] == [str(made[0])]
    assert (await officer.ask(WEBHOOK_DELIVERIES, filter={"statuses": []}))["edges"] == []


async def test_officer_has_a_failed_message_sent_again(harness: ApiHarness, officer: Person) -> None:
    delivery = insert_delivery(harness, attempts_left=0)
    before = await _row(harness, delivery)
    await harness.rows(
        "update private.webhook_endpoints set disabled_at = now(), paused_until = now() + interval '1 hour'"
        " where name = %s returning name",
        before["endpoint"],
    )
    answer = await officer.send(REDELIVER_WEBHOOK, deliveryId=str(delivery))
    node = answer.value
    assert (node["id"], node["status"], node["problem"], node["finishedAt"]) == (
        str(delivery),
        "PENDING",
        None,
        None,
    )
    after = await _row(harness, delivery)
    assert (after["message_id"], after["attempts_left"]) == (before["message_id"], 10)
    (endpoint,) = await harness.rows(
        "select disabled_at, paused_until from private.webhook_endpoints where name = %s", before["endpoint"]
    )
    assert endpoint == {"disabled_at": None, "paused_until": None}
    (audit,) = await harness.audit(answer.request_id)
    assert (audit["action"], audit["outcome"]) == ("webhook.redeliver", "ALLOWED")
    assert named_in(audit) == shown_in(answer)


async def test_message_of_a_removed_endpoint_is_not_sent_again(harness: ApiHarness, officer: Person) -> None:
    delivery = insert_delivery(harness)
    await harness.rows(
        "update private.webhook_endpoints as e set is_configured = false from resguardo.webhook_deliveries as d"
        " where d.id = %s and d.endpoint = e.name returning e.name",
        delivery,
    )
    assert await officer.refused(REDELIVER_WEBHOOK, deliveryId=str(delivery)) == (
        "CONFLICT",
        "endpoint_removed",
    )
    assert (await _row(harness, delivery))["status"] == "FAILED"


async def test_unknown_delivery_is_not_found(officer: Person) -> None:
    refusal = await officer.refused(REDELIVER_WEBHOOK, deliveryId=str(uuid4()))
    assert refusal == ("NOT_FOUND", "webhook_delivery_not_found")


async def test_doctor_reads_no_delivery(doctor: Person) -> None:
    assert await doctor.refused(WEBHOOK_DELIVERIES) == ("FORBIDDEN", "wrong_role")


async def test_recordings_texts_notes_and_deletions_are_announced(
    harness: ApiHarness, case: Case, doctor: Person
) -> None:
    """Each event is announced once, by the code that makes it true."""
    endpoint = f"all-{uuid4().hex[:8]}"
    harness.practice.insert(
        "private.webhook_endpoints", name=endpoint, url_digest="0" * 64, event_types=list(WEBHOOK_EVENT_TYPES)
    )
    await case.consent()
    ready = await harness.recording(case)
    transcript = await store_transcript(harness, ready)
    failed, verified = await harness.recording(case, "STOPPING"), await harness.recording(case, "VERIFYING")
    changes: list[tuple[LiteralString, UUID]] = [
        (
            "update resguardo.recordings set status = 'FAILED', error = 'egress_failed' where id = %s returning id",
            failed,
        ),
        ("update resguardo.recordings set status = 'READY' where id = %s returning id", verified),
    ]
    for statement, of in changes:
        await harness.rows(statement, of)
    await store_insights(harness, ready, transcript)
    await sign(harness, doctor, ready)
    await destroy_recording(harness, verified)
    (note,) = await harness.rows("select id from resguardo.signed_notes where recording_id = %s", ready)
    (deletion,) = await harness.rows("select id from resguardo.deletions where recording_id = %s", verified)
    sent = await harness.rows(
        "select event_type, entity_type, entity_ids from resguardo.webhook_deliveries where endpoint = %s"
        " and entity_ids && %s::uuid[]",
        endpoint,
        [ready, failed, verified, note["id"], deletion["id"]],
    )
    await harness.rows(
        "update private.webhook_endpoints set is_configured = false where name = %s returning 1", endpoint
    )
    assert sorted((row["event_type"], row["entity_type"], row["entity_ids"]) for row in sent) == [
        ("deletion.done", "deletion", [deletion["id"]]),
        ("insights.ready", "recording", [ready]),
        ("note.signed", "signed_note", [note["id"]]),
        ("recording.failed", "recording", [failed]),
        ("recording.ready", "recording", [verified]),
        ("transcript.ready", "recording", [ready]),
    ]
