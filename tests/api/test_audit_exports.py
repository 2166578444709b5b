"""Tests of exports of the audit log through the API: who asks for one, and who gets its URL and its secret."""

import asyncio
import logging
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest

from tests.api import documents
from tests.api.exporting import (
    AUDIT_EXPORTS,
    EXPORT_AUDIT_EVENTS,
    ISSUE_AUDIT_EXPORT_URL,
    REVEAL_AUDIT_EXPORT_SECRET,
    SECRET,
    insert_audit_export,
)
from tests.api.harness import Answer, ApiHarness, Case, Person
from tests.api.shown import named_in, shown_in

pytestmark = pytest.mark.anyio


async def _audited(harness: ApiHarness, answer: Answer) -> list[tuple[Any, ...]]:
    return [(row["action"], row["outcome"], row["reason"]) for row in await harness.audit(answer.request_id)]


async def _export(harness: ApiHarness, export: str) -> dict[str, Any]:
    (row,) = await harness.rows(
        "select e.*, to_jsonb(e.filter) as wanted from resguardo.audit_exports as e where e.id = %s",
        UUID(export),
    )
    return dict(row)


async def _end_exports(harness: ApiHarness) -> None:
    """Set every export that is being made to FAILED."""
    await harness.rows(
        "update resguardo.audit_exports set status = 'FAILED', error = 'storage_failed'"
        " where status in ('PENDING', 'RUNNING') returning id"
    )


async def test_officer_asks_for_an_export_and_its_job_is_queued(harness: ApiHarness, officer: Person) -> None:
    answer = await officer.send(EXPORT_AUDIT_EVENTS, wanted={"format": "CSV"})
    made = answer.value
    assert (made["status"], made["format"], made["requestedBy"]["id"]) == (
        "PENDING",
        "CSV",
        str(officer.user_id),
    )
    assert (made["percentDone"], made["eventCount"], made["sha256"], made["problem"]) == (0, 0, None, None)
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["operation"], row["outcome"], row["actor_role"]) == (
        "audit.export",
        "E",
        "ALLOWED",
        "compliance",
    )
    assert named_in(row) == shown_in(answer) == {"audit_export": {made["id"]}}
    (job,) = await harness.rows(
        "select queue_name, args from jobs.procrastinate_jobs where task_name = 'export_audit_events'"
        " and args ->> 'id' = %s",
        made["id"],
    )
    assert (job["queue_name"], job["args"]) == ("media", {"id": made["id"]})


async def test_filter_of_an_export_is_the_filter_of_the_list(
    harness: ApiHarness, case: Case, officer: Person, recording: UUID
) -> None:
    wanted = {
        "actorId": str(case.doctor.user_id),
        "action": "recording.read",
        "outcomes": ["ALLOWED", "DENIED"],
        "purposes": ["TREATMENT"],
        "patient": {"externalId": case.registration["patientExternalId"]},
        "consultation": {"id": case.id},
        "recording": {"id": str(recording)},
        "address": "192.0.2.7",
        "sessionFingerprint": "ab" * 32,
        "recordedDuring": {"from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"},
    }
    listed = await officer.send(documents.AUDIT_EVENTS, filter=wanted)
    assert "errors" not in listed.body
    answer = await officer.send(EXPORT_AUDIT_EVENTS, wanted={"filter": wanted})
    stored = (await _export(harness, answer.value["id"]))["wanted"]
    assert stored == {
        "actor_id": wanted["actorId"],
        "action": "recording.read",
        "outcomes": stored["outcomes"],
        "purposes": ["TREATMENT"],
        "patient_id": case.patient_id,
        "consultation_id": case.id,
        "recording_id": str(recording),
        "address": "192.0.2.7",
        "session_fingerprint": "ab" * 32,
        "since": "2026-01-01T00:00:00+00:00",
        "until": "2027-01-01T00:00:00+00:00",
    }
    assert {*stored["outcomes"]} == {"ALLOWED", "DENIED"}
    (row,) = await harness.audit(answer.request_id)
    assert (row["patient_ids"], row["consultation_ids"]) == ([UUID(case.patient_id)], [UUID(case.id)])
    unknown = wanted | {"patient": {"externalId": "mrn-nobody"}}
    assert await officer.refused(EXPORT_AUDIT_EVENTS, wanted={"filter": unknown}) == (
        "NOT_FOUND",
        "audit_filter_not_found",
    )


async def test_officer_has_one_export_made_at_a_time(harness: ApiHarness, officer: Person) -> None:
    answers = await asyncio.gather(*(officer.send(EXPORT_AUDIT_EVENTS, wanted={}) for _ in range(4)))
    assert sorted("errors" in answer.body for answer in answers) == [False, True, True, True]
    refused = next(answer for answer in answers if "errors" in answer.body)
    assert (refused.error.code, refused.error.reason) == ("CONFLICT", "audit_export_in_progress")
    assert await _audited(harness, refused) == [("audit.export", "FAILED", "audit_export_in_progress")]
    another = await harness.staff("compliance")
    assert (await another.ask(EXPORT_AUDIT_EVENTS, wanted={}))["status"] == "PENDING"
    await _end_exports(harness)
    assert (await officer.ask(EXPORT_AUDIT_EVENTS, wanted={}))["status"] == "PENDING"


async def test_repeated_call_with_the_same_key_returns_the_same_export(
    harness: ApiHarness, officer: Person
) -> None:
    wanted = {"idempotencyKey": str(uuid4()), "filter": {"outcomes": ["DENIED", "ABSENT", "FAILED"]}}
    first, again = [await officer.ask(EXPORT_AUDIT_EVENTS, wanted=wanted) for _ in range(2)]
    assert first == again
    refused = await officer.refused(EXPORT_AUDIT_EVENTS, wanted=wanted | {"format": "CSV"})
    assert refused == ("CONFLICT", "idempotency_key_reused")


@pytest.mark.parametrize(
    "wanted",
    [
        {"patient": {"externalId": "mrn-nobody"}},
        {"patient": {"id": str(uuid4())}},
        {"consultation": {"externalId": "visit-nowhere"}},
        {"recording": {"id": str(uuid4())}},
        {"recording": {"egressId": "EG_nothing"}},
    ],
)
async def test_export_about_something_unknown_is_not_made(
    harness: ApiHarness, officer: Person, wanted: dict[str, Any]
) -> None:
    answer = await officer.send(EXPORT_AUDIT_EVENTS, wanted={"filter": wanted})
    assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "audit_filter_not_found")
    assert await _audited(harness, answer) == [("audit.export", "ABSENT", "not_found")]


async def test_exports_count_against_a_quota(harness: ApiHarness, officer: Person) -> None:
    await harness.spend(officer, "exports", 100_000)
    refused = await officer.refused(EXPORT_AUDIT_EVENTS, wanted={})
    assert refused == ("RATE_LIMITED", "quota_exports")


async def test_export_needs_a_recent_code_of_the_authenticator_app(harness: ApiHarness) -> None:
    officer = await harness.staff("compliance", totp_at=1)
    export = str(await insert_audit_export(harness, officer))
    assert await officer.refused(EXPORT_AUDIT_EVENTS, wanted={}) == ("FORBIDDEN", "totp_stale")
    for document in (ISSUE_AUDIT_EXPORT_URL, REVEAL_AUDIT_EXPORT_SECRET):
        assert await officer.refused(document, exportId=export) == ("FORBIDDEN", "totp_stale")


async def test_officers_see_the_exports_of_all_officers(harness: ApiHarness, officer: Person) -> None:
    another = await harness.staff("compliance")
    export = await insert_audit_export(harness, another)
    answer = await officer.send(AUDIT_EXPORTS, first=1)
    (edge,) = answer.data["auditExports"]["edges"]
    node = edge["node"]
    assert (node["id"], node["requestedBy"]["id"]) == (str(export), str(another.user_id))
    assert (node["status"], node["sha256"], node["sizeBytes"]) == ("READY", "ab" * 32, 1000)
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["row_count"]) == ("audit.export_list", 1)
    assert named_in(row) == shown_in(answer)
    assert await officer.ask(AUDIT_EXPORTS, filter={"statuses": []}) == {
        "edges": [],
        "pageInfo": {"hasNextPage": False, "endCursor": None},
    }
    for edge in (await officer.ask(AUDIT_EXPORTS, filter={"statuses": ["RUNNING", "PENDING"]}))["edges"]:
        assert edge["node"]["status"] in ("RUNNING", "PENDING")


async def test_failed_export_says_why(harness: ApiHarness, officer: Person) -> None:
    export = await insert_audit_export(harness, officer, "RUNNING")
    await harness.rows(
        "update resguardo.audit_exports set status = 'FAILED', error = 'audit_export_too_large' where id = %s"
        " returning id",
        export,
    )
    (edge,) = (await officer.ask(AUDIT_EXPORTS, first=1))["edges"]
    assert edge["node"]["problem"]["code"] == "AUDIT_EXPORT_TOO_LARGE"
    assert "10 million" in edge["node"]["problem"]["message"]


async def test_officer_gets_the_url_of_the_own_export_for_a_few_minutes(
    harness: ApiHarness, officer: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "app")
    export = await insert_audit_export(harness, officer)
    answer = await officer.send(ISSUE_AUDIT_EXPORT_URL, exportId=str(export))
    issued = answer.value
    assert parse_qs(urlsplit(issued["url"]).query)["X-Amz-Expires"] == [str(issued["expiresInSeconds"])]
    assert f"/exports/{export}/" in issued["url"]
    assert "7-Zip" in issued["instructions"]
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["operation"], row["byte_count"], row["digest"]) == (
        "audit.export_url",
        "E",
        1000,
        "ab" * 32,
    )
    assert issued["url"] not in caplog.text


async def test_secret_is_revealed_once(harness: ApiHarness, officer: Person) -> None:
    export = str(await insert_audit_export(harness, officer))
    answers = await asyncio.gather(
        *(officer.send(REVEAL_AUDIT_EXPORT_SECRET, exportId=export) for _ in range(4))
    )
    assert sorted("errors" in answer.body for answer in answers) == [False, True, True, True]
    (shown,) = [answer for answer in answers if "errors" not in answer.body]
    assert shown.data["revealAuditExportSecret"]["secret"] == SECRET
    (row,) = await harness.audit(shown.request_id)
    assert (row["action"], row["operation"]) == ("audit.export_secret", "R")
    assert "secret" in row["fields"]
    again = await officer.send(REVEAL_AUDIT_EXPORT_SECRET, exportId=export)
    assert (again.error.code, again.error.reason) == ("CONFLICT", "export_secret_gone")
    assert SECRET not in str(await harness.rows("select * from audit.events"))
    (row,) = await harness.rows(
        "select secret from private.audit_export_files where export_id = %s", UUID(export)
    )
    assert row["secret"] is None


@pytest.mark.parametrize("document", [ISSUE_AUDIT_EXPORT_URL, REVEAL_AUDIT_EXPORT_SECRET])
async def test_another_officer_gets_neither_url_nor_secret(
    harness: ApiHarness, officer: Person, document: str
) -> None:
    export = str(await insert_audit_export(harness, await harness.staff("compliance")))
    answer = await officer.send(document, exportId=export)
    assert (answer.error.code, answer.error.reason) == ("FORBIDDEN", "audit_export_of_another")
    ((_, outcome, reason),) = await _audited(harness, answer)
    assert (outcome, reason) == ("DENIED", "audit_export_of_another")


@pytest.mark.parametrize("document", [ISSUE_AUDIT_EXPORT_URL, REVEAL_AUDIT_EXPORT_SECRET])
async def test_export_that_is_not_ready_has_neither_url_nor_secret(
    harness: ApiHarness, officer: Person, document: str
) -> None:
    running = await insert_audit_export(harness, officer, "RUNNING")
    over = await insert_audit_export(harness, officer)
    await harness.rows(
        "update resguardo.audit_exports set expires_at = now() where id = %s returning id", over
    )
    for export in (running, over):
        answer = await officer.send(document, exportId=str(export))
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "audit_export_not_ready")
    await _end_exports(harness)


@pytest.mark.parametrize("document", [ISSUE_AUDIT_EXPORT_URL, REVEAL_AUDIT_EXPORT_SECRET])
async def test_session_that_has_ended_gives_neither_url_nor_secret(
    harness: ApiHarness, document: str
) -> None:
    officer = await harness.staff("compliance")
    export = str(await insert_audit_export(harness, officer))
    await harness.end_session(officer)
    assert await officer.refused(document, exportId=export) == ("UNAUTHENTICATED", "session_over")
    back = await harness.with_session(officer)
    assert "errors" not in (await back.send(document, exportId=export)).body


async def test_suspension_stops_the_exports_of_the_officer(harness: ApiHarness, officer: Person) -> None:
    suspect = await harness.staff("compliance")
    ready = await insert_audit_export(harness, suspect)
    asked = (await suspect.ask(EXPORT_AUDIT_EVENTS, wanted={}))["id"]
    answer = await officer.send(documents.SUSPEND, userId=str(suspect.user_id))
    assert "errors" not in answer.body
    for export in (str(ready), asked):
        found = await _export(harness, export)
        assert (found["status"], found["error"]) == ("STOPPED", "officer_lost_access")
        assert not await harness.rows(
            "select secret from private.audit_export_files where export_id = %s", UUID(export)
        )
    assert sorted(await _audited(harness, answer)) == [
        ("audit.export_stop", "ALLOWED", "officer_lost_access"),
        ("audit.export_stop", "ALLOWED", "officer_lost_access"),
        ("staff.suspend", "ALLOWED", None),
    ]
    (edge, *_) = (await officer.ask(AUDIT_EXPORTS, first=1))["edges"]
    problem = edge["node"]["problem"]
    assert problem["code"] == "OFFICER_LOST_ACCESS"
    assert problem["message"].startswith("The officer who asked for this export was suspended")


async def test_export_and_suspension_at_the_same_time_leave_no_export(
    harness: ApiHarness, officer: Person
) -> None:
    for _ in range(5):
        suspect = await harness.staff("compliance")
        await asyncio.gather(
            suspect.send(EXPORT_AUDIT_EVENTS, wanted={}),
            officer.send(documents.SUSPEND, userId=str(suspect.user_id)),
        )
        found = await harness.rows(
            "select status from resguardo.audit_exports where requested_by = %s", suspect.user_id
        )
        assert {row["status"] for row in found} <= {"STOPPED"}
