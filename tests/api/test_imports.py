"""Tests of imported recordings: declaration, upload, verification, and the refusal of wrong files."""

import asyncio
import gzip
import hashlib
import io
import logging
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest

from app.errors import Conflict, Forbidden, NotFound
from app.jobs.queue import defer_job
from app.postgres.database import Access, Asker, Database, Transaction
from app.recording_imports import service as imports
from app.recording_imports import store as import_store
from app.recording_imports.upload_signer import UploadSigner
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, ids_of
from tests.api.importing import (
    COMPLETE_IMPORT,
    COMPLETE_IMPORT_WHOLE,
    CONTENT,
    IMPORT,
    arrange_import,
    import_input,
    import_recording,
    prepare_import,
    send_import,
    upload,
)
from tests.api.test_consultations import unlike_request
from tests.integration.test_media_probe import DISGUISES, Contacts, _tar_of, _with_reference

pytestmark = pytest.mark.anyio

SHA256 = hashlib.sha256(CONTENT).hexdigest()
GRACE = timedelta(hours=2)
"""The duration that `private.upload_grace` returns."""


def _in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


@pytest.fixture
async def ready(case: Case) -> Case:
    """Return a consultation in which every participant has consented."""
    await case.consent()
    return case


async def _age(harness: ApiHarness, import_id: str, by: timedelta) -> None:
    await harness.rows(
        "update resguardo.recording_imports set expires_at = clock_timestamp() - %s where id = %s",
        by,
        import_id,
    )


async def _expire(harness: ApiHarness) -> int:
    worker = Database(harness.database.worker_url, application="test", max_size=1)
    await worker.open()
    try:
        return await UploadSigner(worker, cast("Any", None)).expire()
    finally:
        await worker.close()


async def _key(harness: ApiHarness, import_id: str) -> Any:
    (row,) = await harness.rows(
        "select object_key, upload_url from private.import_secrets where import_id = %s", import_id
    )
    return row


async def test_recording_is_imported_from_declaration_to_ready(harness: ApiHarness, ready: Case) -> None:
    found = await prepare_import(harness, ready, sha256=SHA256.upper())
    assert (found["consultation"]["id"], found["status"]) == (ready.id, "AWAITING_UPLOAD")
    left = datetime.fromisoformat(found["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)
    [signed] = parse_qs(urlsplit(found["uploadUrl"]).query)["X-Amz-Expires"]
    assert 0 <= int(signed) - found["expiresInSeconds"] <= 10
    assert await upload(found) == 200

    recording = await ready.doctor.ask(COMPLETE_IMPORT, importId=found["id"])
    assert (recording["status"], recording["egressId"]) == ("VERIFYING", None)
    assert recording["consultation"]["externalId"] == ready.consultation["externalId"]
    await harness.work()

    done = await ready.doctor.ask(documents.RECORDING, id=recording["id"])
    assert (done["status"], done["problem"], done["isTruncated"]) == ("READY", None, False)
    assert (done["sizeBytes"], done["sha256"]) == (len(CONTENT), SHA256)
    stored = await ready.doctor.ask(documents.STORED_OBJECT, id=recording["id"])
    assert stored == {"exists": True, "sizeBytes": len(CONTENT), "contentType": "video/mp4"}


@pytest.mark.parametrize("declared", ["1990-01-01T00:00:00Z", "2019-07-01T09:30:15.123456+02:00"])
async def test_declared_time_is_the_start_and_does_not_change_the_retention_term(
    harness: ApiHarness, ready: Case, declared: str
) -> None:
    found = await prepare_import(harness, ready, recordedAt=declared)
    assert datetime.fromisoformat(found["recordedAt"]) == datetime.fromisoformat(declared)
    assert await upload(found) == 200
    imported = await ready.doctor.ask(COMPLETE_IMPORT, importId=found["id"])
    await harness.work()
    done = await ready.doctor.ask(documents.RECORDING, id=imported["id"])
    assert (done["status"], done["endedAt"]) == ("READY", None)
    assert datetime.fromisoformat(done["startedAt"]) == datetime.fromisoformat(declared)
    other = await import_recording(harness, ready)
    assert other["startedAt"] is None
    (dated,) = await harness.rows(
        "select every(r.term_from >= r.created_at) as ok, max(r.due_at) - min(r.due_at) as apart"
        " from resguardo.recordings as r where r.id = any (%s::uuid[])",
        [done["id"], other["id"]],
    )
    assert dated["ok"]
    assert dated["apart"] is None or dated["apart"] < timedelta(hours=1)


async def test_import_with_another_declared_time_is_another_import(harness: ApiHarness, ready: Case) -> None:
    times = (None, "2019-07-01T09:30:00Z", "2019-07-01T11:30:00+02:00", "2019-07-01T09:31:00Z")
    ids = [(await prepare_import(harness, ready, recordedAt=time))["id"] for time in times]
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3


async def test_import_that_began_slightly_in_the_future_is_accepted(harness: ApiHarness, ready: Case) -> None:
    declared = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    assert (await prepare_import(harness, ready, recordedAt=declared))["recordedAt"] is not None


async def test_law_1_upload_url_writes_an_audit_row(harness: ApiHarness, ready: Case) -> None:
    answer = await send_import(harness, ready)
    found = answer.value
    declared, row = await harness.audit(answer.request_id)
    assert (declared["action"], declared["outcome"]) == ("recording.import", "ALLOWED")
    assert {one["type"]: one["ids"] for one in declared["entities"]} == {
        "recording_import": [found["id"]],
        "consultation": [ready.id],
    }
    assert {"consultation.externalId", "expiresInSeconds", "id", "uploadUrl"} <= set(declared["fields"])
    assert (row["action"], row["fields"]) == ("recording.issue_upload_url", ["upload_url"])
    assert (row["outcome"], row["actor_id"]) == ("ALLOWED", ready.doctor.user_id)
    assert [str(one) for one in ids_of(row)] == [found["id"]]
    assert [str(one) for one in row["patient_ids"]] == [ready.patient_id]
    signed = await harness.rows(
        "select actor_role, basis from audit.events"
        " where action = 'recording.read_key' and entities -> 0 -> 'ids' = to_jsonb(%s::text[])",
        [found["id"]],
    )
    assert signed == [{"actor_role": "resguardo_worker", "basis": "prepare_import"}]


async def test_law_6_import_needs_everybodys_consent(case: Case) -> None:
    answer = await case.doctor.send(IMPORT, **{"import": import_input(case)})
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "consent_missing")
    assert [one["role"] for one in answer.error.details["missing"]] == ["DOCTOR", "PATIENT"]


async def test_law_6_consent_withdrawn_before_completion_prevents_the_import(
    harness: ApiHarness, ready: Case
) -> None:
    found = await prepare_import(harness, ready)
    await upload(found)
    await ready.patient.ask(documents.WITHDRAW_CONSENT, participantId=ready.participant("PATIENT"))
    refused = await ready.doctor.refused(COMPLETE_IMPORT, importId=found["id"])
    assert refused == ("CONFLICT", "consent_missing")


async def test_law_8_logs_and_jobs_contain_no_url_or_object_key(
    harness: ApiHarness, ready: Case, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = await send_import(harness, ready)
        found = answer.value
        key = (await _key(harness, found["id"]))["object_key"]
        await ready.doctor.ask(COMPLETE_IMPORT, importId=found["id"])
    jobs = await harness.rows(
        "select args from jobs.procrastinate_jobs where task_name = 'prepare_import' and args ->> 'id' = %s",
        found["id"],
    )
    assert jobs == [{"args": {"id": found["id"]}}]
    assert key in found["uploadUrl"]
    assert "X-Amz-Signature" not in caplog.text
    assert key not in caplog.text
    written = await harness.rows("select * from audit.events where request_id = %s", answer.request_id)
    assert key not in str(written)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"contentType": "video/webm"}, "import_type"),
        ({"contentType": "application/vnd.apple.mpegurl"}, "import_type"),
        ({"sizeBytes": 0}, "import_size"),
        ({"sizeBytes": -1}, "import_size"),
        ({"sizeBytes": 5_000_000_001}, "import_size"),
        ({"sha256": "ab"}, "bad_sha256"),
        ({"sha256": "zz" * 32}, "bad_sha256"),
        ({"recordedAt": "2026-11-21T09:00:00"}, "bad_variable"),
        ({"recordedAt": "1989-12-31T23:59:59Z"}, "recorded_at_too_early"),
        ({"recordedAt": "1970-01-01T00:00:00Z"}, "recorded_at_too_early"),
        ({"recordedAt": "0001-01-01T00:00:00+14:00"}, "recorded_at_too_early"),
        ({"recordedAt": "9999-12-31T23:59:59-12:00"}, "recorded_at_ahead"),
        ({"recordedAt": _in_an_hour()}, "recorded_at_ahead"),
    ],
)
async def test_unsupported_declaration_is_refused(ready: Case, given: dict[str, Any], reason: str) -> None:
    refused = await ready.doctor.refused(IMPORT, **{"import": import_input(ready, **given)})
    assert refused == ("INVALID_INPUT", reason)


async def test_import_into_a_hidden_consultation_is_not_found(
    harness: ApiHarness, ready: Case, other_doctor: Person
) -> None:
    theirs = replace(ready, consultation={"id": str(uuid4())})
    hidden, absent = [
        await other_doctor.send(IMPORT, **{"import": import_input(case)}) for case in (ready, theirs)
    ]
    assert (hidden.error.code, hidden.error.reason) == ("NOT_FOUND", "consultation_not_found")
    assert unlike_request(hidden.body) == unlike_request(absent.body)
    outcomes = [[row["outcome"] for row in await harness.audit(one.request_id)] for one in (hidden, absent)]
    assert outcomes == [["DENIED"], ["ABSENT"]]


async def test_hidden_import_is_not_found(harness: ApiHarness, ready: Case, other_doctor: Person) -> None:
    found = await arrange_import(harness, ready)
    hidden, absent = [await other_doctor.send(COMPLETE_IMPORT, importId=one) for one in (found, str(uuid4()))]
    assert (hidden.error.code, hidden.error.reason) == ("NOT_FOUND", "import_not_found")
    assert unlike_request(hidden.body) == unlike_request(absent.body)
    (denied,), (missing,) = [await harness.audit(one.request_id) for one in (hidden, absent)]
    assert (denied["outcome"], missing["outcome"]) == ("DENIED", "ABSENT")
    assert [str(one) for one in denied["patient_ids"]] == [ready.patient_id]


async def test_repeated_import_returns_the_pending_import(harness: ApiHarness, ready: Case) -> None:
    first = await prepare_import(harness, ready)
    assert await prepare_import(harness, ready) == first
    assert (await prepare_import(harness, ready, sha256=SHA256))["id"] != first["id"]
    assert (await prepare_import(harness, ready, CONTENT[1:]))["id"] != first["id"]


async def test_concurrent_equal_imports_create_one_import(harness: ApiHarness, ready: Case) -> None:
    both = await asyncio.gather(prepare_import(harness, ready), prepare_import(harness, ready))
    assert both[0] == both[1]


async def test_same_declaration_after_completion_creates_another_import(
    harness: ApiHarness, ready: Case
) -> None:
    first = await prepare_import(harness, ready)
    await ready.doctor.ask(COMPLETE_IMPORT, importId=first["id"])
    assert (await prepare_import(harness, ready))["id"] != first["id"]


async def test_import_without_a_worker_times_out_and_is_returned_by_the_next_call(
    harness: ApiHarness, ready: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "PATIENCE_SECONDS", 0.05)
    answer = await ready.doctor.send(IMPORT, **{"import": import_input(ready)})
    assert (answer.error.code, answer.error.reason) == ("TIMEOUT", "import_not_prepared")
    assert answer.error.extensions["retryable"] is True
    await harness.work()
    again = await ready.doctor.ask(IMPORT, **{"import": import_input(ready)})
    rows = await harness.rows(
        "select id from resguardo.recording_imports where consultation_id = %s", ready.id
    )
    assert [str(row["id"]) for row in rows] == [again["id"]]


async def test_import_counts_against_the_quota_of_urls(harness: ApiHarness, ready: Case) -> None:
    await harness.spend(ready.doctor, "urls", 60)
    refused = await ready.doctor.refused(IMPORT, **{"import": import_input(ready)})
    assert refused == ("RATE_LIMITED", "quota_urls")


async def test_completing_twice_returns_the_same_recording(harness: ApiHarness, ready: Case) -> None:
    done = await import_recording(harness, ready)
    (row,) = await harness.rows(
        "select id, status from resguardo.recording_imports where recording_id = %s", done["id"]
    )
    assert row["status"] == "COMPLETED"
    assert await ready.doctor.ask(COMPLETE_IMPORT, importId=str(row["id"])) == done
    await ready.patient.ask(documents.WITHDRAW_CONSENT, participantId=ready.participant("PATIENT"))
    assert (await ready.doctor.ask(COMPLETE_IMPORT, importId=str(row["id"])))["id"] == done["id"]


async def test_completed_import_is_returned_with_its_recording_and_without_an_upload_url(
    harness: ApiHarness, ready: Case
) -> None:
    begun = await prepare_import(harness, ready, recordedAt="2019-07-01T09:30:15Z")
    for _ in range(2):
        answer = await ready.doctor.send(COMPLETE_IMPORT_WHOLE, importId=begun["id"])
        completed = answer.value
        assert completed["recordingImport"] == begun | {
            "status": "COMPLETED",
            "uploadUrl": None,
            "uploadHeaders": [],
            "expiresInSeconds": 0,
        }
        assert completed["recording"]["status"] == "VERIFYING"
        assert completed["recording"]["consultation"] == {"id": ready.id}
        rows = await harness.audit(answer.request_id)
        (row,) = (row for row in rows if row["action"] != "recording.transition")
        assert (row["action"], row["outcome"], row["row_count"]) == (
            "recording.complete_import",
            "ALLOWED",
            1,
        )
        assert {one["type"]: one["ids"] for one in row["entities"]} == {
            "recording_import": [begun["id"]],
            "consultation": [ready.id],
            "recording": [completed["recording"]["id"]],
        }
        assert {"consultation.externalId", "recording.consultation.id", "recording.status", "status"} <= set(
            row["fields"]
        )
        assert "unregistered" not in row["fields"]


async def test_only_doctors_import(harness: ApiHarness, ready: Case, officer: Person) -> None:
    found = await arrange_import(harness, ready)
    for person in (ready.patient, officer):
        for document, variables in (
            (IMPORT, {"import": import_input(ready)}),
            (COMPLETE_IMPORT_WHOLE, {"importId": found}),
        ):
            assert await person.refused(document, **variables) == ("FORBIDDEN", "wrong_role")


async def test_concurrent_completions_create_one_recording(harness: ApiHarness, ready: Case) -> None:
    found = await arrange_import(harness, ready)
    answers = await asyncio.gather(*(ready.doctor.ask(COMPLETE_IMPORT, importId=found) for _ in range(4)))
    assert len({one["id"] for one in answers}) == 1
    rows = await harness.rows(
        "select source, medium, requested_by from resguardo.recordings where consultation_id = %s", ready.id
    )
    assert rows == [{"source": "IMPORT", "medium": "VIDEO", "requested_by": ready.doctor.user_id}]


async def test_pending_import_does_not_prevent_a_recording(harness: ApiHarness, ready: Case) -> None:
    await ready.doctor.ask(documents.START, consultationId=ready.id)
    found = await arrange_import(harness, ready)
    assert (await ready.doctor.ask(COMPLETE_IMPORT, importId=found))["status"] == "VERIFYING"


async def test_completion_of_an_import_erases_its_url(harness: ApiHarness, ready: Case) -> None:
    found = await prepare_import(harness, ready)
    assert (await _key(harness, found["id"]))["upload_url"] == found["uploadUrl"]
    await ready.doctor.ask(COMPLETE_IMPORT, importId=found["id"])
    assert (await _key(harness, found["id"]))["upload_url"] is None


async def test_import_without_an_upload_is_never_ready(harness: ApiHarness, ready: Case) -> None:
    found = await prepare_import(harness, ready)
    recording = await ready.doctor.ask(COMPLETE_IMPORT, importId=found["id"])
    await harness.work()
    after = await ready.doctor.ask(documents.RECORDING, id=recording["id"])
    assert after["status"] in ("VERIFYING", "LOST", "FAILED")


async def test_verified_object_cannot_be_overwritten(harness: ApiHarness, ready: Case) -> None:
    found = await prepare_import(harness, ready)
    assert await upload(found) == 200
    recording = await ready.doctor.ask(COMPLETE_IMPORT, importId=found["id"])
    await harness.work()
    assert (await ready.doctor.ask(documents.RECORDING, id=recording["id"]))["status"] == "READY"

    assert await upload(found, bytes(len(CONTENT))) == 412

    key = (await _key(harness, found["id"]))["object_key"]
    stored = await harness.bucket.head(key)
    assert stored is not None
    assert await harness.bucket.sha256(key, stored) == SHA256


async def test_upload_that_differs_from_the_declaration_fails(harness: ApiHarness, ready: Case) -> None:
    done = await import_recording(harness, ready, sha256="0" * 64)
    assert (done["status"], done["problem"]["code"]) == ("FAILED", "OBJECT_DIGEST_DIFFERS")


async def test_late_completion_within_the_grace_time_is_accepted(harness: ApiHarness, ready: Case) -> None:
    found = await arrange_import(harness, ready)
    await _age(harness, found, GRACE - timedelta(minutes=1))
    assert (await ready.doctor.ask(COMPLETE_IMPORT, importId=found))["status"] == "VERIFYING"


async def test_completion_after_the_grace_time_is_refused(harness: ApiHarness, ready: Case) -> None:
    found = await arrange_import(harness, ready)
    await _age(harness, found, GRACE + timedelta(seconds=1))
    for _ in range(2):
        answer = await ready.doctor.send(COMPLETE_IMPORT, importId=found)
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "import_expired")
        assert [row["outcome"] for row in await harness.audit(answer.request_id)] == ["FAILED"]
        await _expire(harness)


async def test_expiry_erases_the_url_and_ends_the_import_after_the_grace_time(
    harness: ApiHarness, ready: Case
) -> None:
    found = await prepare_import(harness, ready)
    object_key = (await _key(harness, found["id"]))["object_key"]
    status = "select status from resguardo.recording_imports where id = %s"
    unknown = "select private.unknown_object_keys(array[%s, 'r/x']) as keys"

    await _age(harness, found["id"], timedelta(seconds=1))
    assert await _expire(harness) == 0
    assert (await _key(harness, found["id"]))["upload_url"] is None
    assert await harness.rows(status, found["id"]) == [{"status": "AWAITING_UPLOAD"}]
    assert await harness.rows(unknown, object_key) == [{"keys": ["r/x"]}]

    await _age(harness, found["id"], GRACE + timedelta(seconds=1))
    assert await _expire(harness) == 1
    assert await _expire(harness) == 0
    assert await harness.rows(status, found["id"]) == [{"status": "EXPIRED"}]
    assert [sorted(row["keys"]) for row in await harness.rows(unknown, object_key)] == [[object_key, "r/x"]]
    rows = await harness.rows(
        "select actor_role from audit.events"
        " where action = 'recording.expire_import' and entities -> 0 -> 'ids' = to_jsonb(%s::text[])",
        [found["id"]],
    )
    assert rows == [{"actor_role": "resguardo_worker"}]


async def test_object_key_of_a_completed_import_is_known(harness: ApiHarness, ready: Case) -> None:
    found = await prepare_import(harness, ready)
    object_key = (await _key(harness, found["id"]))["object_key"]
    await ready.doctor.ask(COMPLETE_IMPORT, importId=found["id"])
    rows = await harness.rows("select private.unknown_object_keys(array[%s]) as keys", object_key)
    assert rows == [{"keys": []}]


async def test_expired_import_gets_no_upload_url(
    harness: ApiHarness, ready: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "PATIENCE_SECONDS", 0.05)
    await ready.doctor.send(IMPORT, **{"import": import_input(ready)})
    (row,) = await harness.rows(
        "select id from resguardo.recording_imports where consultation_id = %s", ready.id
    )
    await _age(harness, str(row["id"]), timedelta(0))
    await harness.work()
    assert (await _key(harness, str(row["id"])))["upload_url"] is None


@asynccontextmanager
async def _acting(harness: ApiHarness, person: Person) -> AsyncIterator[Transaction]:
    """Open a database transaction with the person's role and claims, for SQL statements that the API never sends."""
    claims: dict[str, object] = {
        "sub": str(person.user_id),
        "session_id": str(person.session_id),
        "aal": "aal2",
        "exp": int(time.time()) + 3600,
    }
    api = Database(harness.database.api_url, application="test", max_size=1)
    await api.open()
    try:
        access = Access("recording.import", {"clinician"}, "recording_import")
        async with api.as_user(Asker(claims, uuid4(), None), access) as tx:
            yield tx
    finally:
        await api.close()


async def test_law_2_only_its_doctor_gets_the_upload_url(
    harness: ApiHarness, ready: Case, other_doctor: Person
) -> None:
    found = UUID(await arrange_import(harness, ready))
    async with _acting(harness, other_doctor) as tx:
        assert await import_store.release_upload_url(tx, found) is None
        assert await import_store.release_upload_url(tx, uuid4()) is None
    async with _acting(harness, ready.doctor) as tx:
        released = await import_store.release_upload_url(tx, found)
    assert released is not None
    assert released[0] == "https://store.test/upload"
    assert 890 <= released[1] <= 900
    rows = await harness.rows(
        "select outcome from audit.events where action = 'recording.issue_upload_url' and actor_id = any(%s)"
        " order by recorded_at",
        [other_doctor.user_id, ready.doctor.user_id],
    )
    assert [row["outcome"] for row in rows] == ["DENIED", "ABSENT", "ALLOWED"]


async def test_law_2_import_of_another_doctor_cannot_be_completed_or_prepared(
    harness: ApiHarness, ready: Case, other_doctor: Person
) -> None:
    found = UUID(await arrange_import(harness, ready))
    with pytest.raises(NotFound, match="import_not_found"):
        async with _acting(harness, other_doctor) as tx:
            await import_store.complete(tx, found)
    with pytest.raises(NotFound, match="consultation_not_found"):
        async with _acting(harness, other_doctor) as tx:
            await defer_job(tx, "prepare_import", found)


async def _lost(harness: ApiHarness, case: Case) -> str:
    """Return the id of a new recording whose status is LOST."""
    recording: str = (await case.doctor.ask(documents.START, consultationId=case.id))["id"]
    for status in ("STARTING", "LOST"):
        await harness.rows("update resguardo.recordings set status = %s where id = %s", status, recording)
    return recording


async def _declare(harness: ApiHarness, case: Case, **chosen: str) -> None:
    """Declare an import in SQL as the doctor, with ids that the doctor chose."""
    columns = "".join(f"{name}, " for name in chosen)
    values = "".join(f"%({name})s, " for name in chosen)
    async with _acting(harness, case.doctor) as tx:
        await tx.run(
            f"insert into resguardo.recording_imports ({columns} consultation_id, doctor_id, patient_id,"  # noqa: S608
            f" content_type, size_bytes) select {values} c.id, c.doctor_id, c.patient_id, 'video/mp4', %(size)s"
            " from resguardo.consultations as c where c.id = %(consultation)s",
            {**chosen, "size": len(CONTENT), "consultation": case.id},
        )


@pytest.mark.parametrize("column", ["id", "recording_id"])
async def test_law_2_doctor_cannot_choose_the_ids_of_an_import(
    harness: ApiHarness, ready: Case, column: str
) -> None:
    recording = await _lost(harness, ready)
    with pytest.raises(Forbidden, match="not_permitted"):
        await _declare(harness, ready, **{column: recording})
    await _declare(harness, ready)


async def test_import_never_uses_the_object_key_of_a_lost_recording(harness: ApiHarness, ready: Case) -> None:
    """The object of an import never has the key of a LOST recording, even if the import has the recording's id.
    Only the database owner can give an import the id of an existing recording.
    """
    recording = await _lost(harness, ready)
    (row,) = await harness.rows(
        "insert into resguardo.recording_imports"
        " (consultation_id, doctor_id, patient_id, recording_id, content_type, size_bytes)"
        " select c.id, c.doctor_id, c.patient_id, %s, 'video/mp4', %s"
        " from resguardo.consultations as c where c.id = %s returning id",
        recording,
        len(CONTENT),
        ready.id,
    )
    await harness.rows("select private.defer_job('prepare_import', %s)", row["id"])
    found = await prepare_import(harness, ready)
    assert found["id"] == str(row["id"])
    assert await upload(found) == 200
    assert (await _key(harness, found["id"]))["object_key"].endswith(f"/{recording}/import.mp4")

    await harness.services.reconciler.run_once()
    await harness.work()
    assert (await ready.doctor.ask(documents.RECORDING, id=recording))["status"] == "LOST"

    with pytest.raises(Conflict, match="recordings_pkey"):
        async with _acting(harness, ready.doctor) as tx:
            await import_store.complete(tx, row["id"])
    rows = await harness.rows("select status, source from resguardo.recordings where id = %s", recording)
    assert rows == [{"status": "LOST", "source": "EGRESS"}]


async def test_recording_cannot_be_given_the_object_key_of_an_import(
    harness: ApiHarness, ready: Case
) -> None:
    started = await ready.doctor.ask(documents.START, consultationId=ready.id)
    (row,) = await harness.rows(
        "select object_key from private.recording_secrets where recording_id = %s", started["id"]
    )
    key = row["object_key"].replace("video.mp4", "import.mp4")
    with pytest.raises(psycopg.Error, match="object_key_of_another"):
        await harness.rows("select private.change_object_key(%s, %s)", started["id"], key)


async def test_repeated_job_keeps_the_upload_url(harness: ApiHarness, ready: Case) -> None:
    found = await prepare_import(harness, ready)
    await harness.rows("select private.defer_job('prepare_import', %s)", UUID(found["id"]))
    await harness.work()
    await harness.rows("select private.store_upload_url(%s, 'https://late.test')", UUID(found["id"]))
    assert (await _key(harness, found["id"]))["upload_url"] == found["uploadUrl"]


@pytest.fixture
def contacts() -> Iterator[Contacts]:
    listening = Contacts()
    yield listening
    listening.close()


def _zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("recording.mp4", CONTENT)
    return target.getvalue()


ATTACKS: dict[str, Callable[[int], bytes]] = {
    **{
        name: lambda port, name=name: DISGUISES[name](CONTENT, port)  # type: ignore[misc]  # the loop's own name
        for name in ("hls", "dash", "concat", "concat_local", "sdp", "html", "ftyp_then_hls", "moov_missing")
    },
    "zip": lambda _: _zip(),
    "tar.gz": lambda _: gzip.compress(_tar_of(CONTENT)),
    "ftyp_then_zip": lambda _: CONTENT[:32] + _zip(),
    "data_reference": lambda _: _with_reference(CONTENT, "/etc/passwd"),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_file_disguised_as_a_video_is_refused(
    harness: ApiHarness, ready: Case, contacts: Contacts, attack: str
) -> None:
    done = await import_recording(harness, ready, ATTACKS[attack](contacts.port))
    assert (done["status"], done["problem"]["code"]) == ("FAILED", "MEDIA_UNREADABLE")
    assert (done["sha256"], contacts.count) == (None, 0)
    refused = await ready.doctor.refused(
        documents.ISSUE_URL, recordingId=done["id"], purposeOfUse="TREATMENT"
    )
    assert refused == ("CONFLICT", "recording_failed")
