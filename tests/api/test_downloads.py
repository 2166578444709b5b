"""Tests of presigned download URLs: who receives a URL, which file it returns, how long it is valid, and how many
URLs a person may request.
"""

import os
import time
from datetime import datetime
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest

from app.texts import redisclosure_notice
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, ids_of

pytestmark = pytest.mark.anyio

HOUR = 3600
TOTP_MAX_AGE = 43200
PURPOSES = ["TREATMENT", "PAYMENT", "OPERATIONS", "PATIENT_REQUEST", "LEGAL"]


def _asked(recording: object, purpose: str = "TREATMENT") -> dict[str, str]:
    return {"recordingId": str(recording), "purposeOfUse": purpose}


async def test_url_downloads_the_exact_bytes_as_a_file(harness: ApiHarness, case: Case) -> None:
    content = os.urandom(300_000)
    recording = await harness.recording(case, content=content)
    issued = await case.doctor.ask(documents.ISSUE_URL, **_asked(recording))
    async with httpx.AsyncClient(trust_env=False) as http:
        downloaded = await http.get(issued["url"])
        altered = await http.get(issued["url"][:-1] + ("0" if issued["url"][-1] != "0" else "1"))
    assert downloaded.content == content
    assert downloaded.headers["content-disposition"] == f'attachment; filename="{recording}.mp4"'
    assert altered.status_code == 403
    lifetime = datetime.fromisoformat(issued["expiresAt"]).timestamp() - time.time()
    assert 290 < lifetime <= 300
    assert parse_qs(urlsplit(issued["url"]).query)["X-Amz-Expires"] == ["300"]
    assert issued["expiresInSeconds"] == 300


@pytest.mark.parametrize("sensitivity", ["ORDINARY", "PSYCHOTHERAPY", "SUBSTANCE_USE"])
async def test_notice_accompanies_the_url_of_a_recording_about_substance_use(
    harness: ApiHarness, sensitivity: str
) -> None:
    case = await harness.case(sensitivity=sensitivity)
    issued = await case.doctor.ask(documents.ISSUE_URL, **_asked(await harness.recording(case)))
    notice = redisclosure_notice("en") if sensitivity == "SUBSTANCE_USE" else None
    assert issued["redisclosureNotice"] == notice


async def test_url_is_valid_for_the_configured_time(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    async with harness.another_api(url_lifetime_seconds=900) as http:
        doctor = Person(http, case.doctor.user_id, case.doctor.session_id, case.doctor.token)
        issued = await doctor.ask(documents.ISSUE_URL, **_asked(recording))
    assert parse_qs(urlsplit(issued["url"]).query)["X-Amz-Expires"] == ["900"]
    assert issued["expiresInSeconds"] == 900
    assert 890 < datetime.fromisoformat(issued["expiresAt"]).timestamp() - time.time() <= 900


@pytest.mark.parametrize("purpose", PURPOSES)
async def test_purpose_of_use_is_in_the_audit_row(harness: ApiHarness, case: Case, purpose: str) -> None:
    recording = await harness.recording(case)
    answer = await case.doctor.send(documents.ISSUE_URL, **_asked(recording, purpose))
    assert answer.data
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["purpose"]) == ("recording.issue_url", "ALLOWED", purpose)


async def test_url_with_an_unknown_purpose_is_refused(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    code, _ = await case.doctor.refused(documents.ISSUE_URL, **_asked(recording, "CURIOSITY"))
    assert code == "INVALID_INPUT"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("VERIFYING", "recording_not_ready"),
        ("FAILED", "recording_failed"),
        ("ABORTED", "recording_aborted"),
        ("LOST", "recording_lost"),
        ("DELETED", "recording_deleted"),
    ],
)
async def test_url_of_a_recording_that_is_not_ready_is_an_audited_conflict_with_the_reason(
    harness: ApiHarness, case: Case, status: str, reason: str
) -> None:
    recording = await harness.recording(case, status)
    answer = await case.doctor.send(documents.ISSUE_URL, **_asked(recording))
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", reason)
    assert ("not ready yet" in answer.error.message) == (status == "VERIFYING")
    (row,) = await harness.audit(answer.request_id)
    assert (row["outcome"], row["reason"]) == ("FAILED", reason)


async def test_url_of_an_unknown_recording_is_not_found(other_doctor: Person) -> None:
    assert await other_doctor.refused(documents.ISSUE_URL, **_asked(uuid4())) == (
        "NOT_FOUND",
        "recording_not_found",
    )


async def test_old_totp_authentication_is_refused_and_a_recent_one_accepted(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    now = time.time()
    stale = await harness.with_session(case.doctor, totp_at=now - TOTP_MAX_AGE - 60)
    answer = await stale.send(documents.ISSUE_URL, **_asked(recording))
    assert (answer.error.code, answer.error.reason) == ("FORBIDDEN", "totp_stale")
    assert "authenticator" in answer.error.message
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["reason"]) == ("recording.issue_url", "DENIED", "totp_stale")
    younger = await harness.with_session(case.doctor, totp_at=now - TOTP_MAX_AGE + 60)
    assert (await younger.ask(documents.ISSUE_URL, **_asked(recording)))["url"]
    found = await stale.ask(documents.STORED_OBJECT, id=str(recording))
    assert found["exists"], "a look at the size needs no fresh code"


async def test_session_without_a_totp_time_gets_no_url(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    token = harness.token(case.doctor.user_id, case.doctor.session_id, amr=["password", "otp"])
    person = Person(harness.http, case.doctor.user_id, case.doctor.session_id, token)
    assert await person.refused(documents.ISSUE_URL, **_asked(recording)) == ("FORBIDDEN", "totp_stale")


async def test_urls_beyond_the_quota_are_refused_and_audited(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    await harness.spend(case.doctor, "urls", 59)
    assert (await case.doctor.ask(documents.ISSUE_URL, **_asked(recording)))["url"]
    answer = await case.doctor.send(documents.ISSUE_URL, **_asked(recording))
    assert (answer.error.code, answer.error.reason) == ("RATE_LIMITED", "quota_urls")
    assert answer.error.extensions["retryable"] is True
    assert 1 <= answer.error.details["retryAfterSeconds"] <= 3600
    assert answer.response.headers["retry-after"] == str(answer.error.details["retryAfterSeconds"])
    (row,) = await harness.audit(answer.request_id)
    assert (row["outcome"], row["reason"]) == ("DENIED", "quota_urls")
    assert [str(one) for one in ids_of(row)] == [str(recording)]
    looked = await case.doctor.refused(documents.STORED_OBJECT, id=str(recording))
    assert looked == ("RATE_LIMITED", "quota_urls")


async def test_requests_that_find_nothing_use_the_quota(harness: ApiHarness, other_doctor: Person) -> None:
    await harness.spend(other_doctor, "urls", 59)
    refusals = [await other_doctor.refused(documents.ISSUE_URL, **_asked(uuid4())) for _ in range(2)]
    assert [code for code, _ in refusals] == ["NOT_FOUND", "RATE_LIMITED"]
