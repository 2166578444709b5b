"""Tests of the list of alerts, which compliance reads."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.alerts.model import AlertKind
from app.texts.alerts import load_alert_texts
from tests.api.documents import ALERTS
from tests.api.harness import ApiHarness, Person
from tests.api.shown import named_in, shown_in

pytestmark = pytest.mark.anyio


async def _insert(harness: ApiHarness, kind: AlertKind, key: str, **given: Any) -> str:
    alert = uuid4()
    harness.practice.insert("resguardo.alerts", id=alert, kind=kind.value, key=key, **given)
    return str(alert)


async def _listed(officer: Person, **wanted: Any) -> list[str]:
    page = await officer.ask(ALERTS, filter=wanted)
    return [edge["node"]["id"] for edge in page["edges"]]


async def test_officer_reads_an_alert_with_its_text_and_remedy(harness: ApiHarness, officer: Person) -> None:
    key, recordings = str(uuid4()), [uuid4(), uuid4()]
    alert = await _insert(
        harness, AlertKind.STRAY_EGRESS, key, entity_type="recording", entity_ids=recordings, entity_count=2
    )
    answer = await officer.send(ALERTS, first=1, filter={"kinds": ["STRAY_EGRESS"]}, in_language="es")
    (edge,) = answer.value["edges"]
    node, texts = edge["node"], load_alert_texts()["STRAY_EGRESS"]
    assert (node["id"], node["kind"], node["key"], node["status"]) == (alert, "STRAY_EGRESS", key, "OPEN")
    assert (node["entityType"], node["entityCount"], node["closedAt"]) == ("recording", 2, None)
    assert node["entityIds"] == [str(one) for one in recordings]
    assert (node["message"], node["remedy"]) == (texts.text["es"], texts.remedy["es"])
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["row_count"]) == ("alert.list", "ALLOWED", 1)
    assert named_in(row) == shown_in(answer)


async def test_filters_select_by_kind_and_by_status(harness: ApiHarness, officer: Person) -> None:
    now = harness.practice.now()
    opened = await _insert(harness, AlertKind.JOB_FAILED, str(uuid4()))
    closed = await _insert(harness, AlertKind.JOB_FAILED, str(uuid4()), closed_at=now)
    other = await _insert(harness, AlertKind.EXPORT_NOT_DELETED, str(uuid4()))
    assert await _listed(officer, kinds=["JOB_FAILED"]) == [closed, opened]
    assert await _listed(officer, kinds=["JOB_FAILED"], statuses=["OPEN"]) == [opened]
    assert await _listed(officer, kinds=["JOB_FAILED"], statuses=["CLOSED"]) == [closed]
    assert await _listed(officer, kinds=["JOB_FAILED", "EXPORT_NOT_DELETED"], statuses=["OPEN"]) == [
        other,
        opened,
    ]
    assert {opened, other} <= set(await _listed(officer, statuses=["OPEN"]))
    assert closed not in await _listed(officer, statuses=["OPEN"])
    assert await _listed(officer, kinds=[]) == await _listed(officer, statuses=[]) == []


async def test_alerts_are_paged_newest_first(harness: ApiHarness, officer: Person) -> None:
    now = harness.practice.now()
    made = [
        await _insert(
            harness, AlertKind.BAN_FAILED, str(uuid4()), opened_at=now + timedelta(seconds=n), seen_at=now
        )
        for n in range(3)
    ]
    first = await officer.ask(ALERTS, first=2, filter={"kinds": ["BAN_FAILED"]})
    assert [edge["node"]["id"] for edge in first["edges"]] == [made[2], made[1]]
    after = first["pageInfo"]["endCursor"]
    rest = await officer.ask(ALERTS, first=2, after=after, filter={"kinds": ["BAN_FAILED"]})
    assert [edge["node"]["id"] for edge in rest["edges"]] == [made[0]]
    assert rest["pageInfo"]["hasNextPage"] is False


async def test_doctor_reads_no_alert(doctor: Person) -> None:
    assert await doctor.refused(ALERTS) == ("FORBIDDEN", "wrong_role")
