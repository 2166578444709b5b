"""The database does the same work for a hidden row as for an absent row, so the response time does not distinguish
them.

Postgres counts how often each database function is called. Each test opens a separate API with its own application
name, and counts only the database sessions of that API. Postgres's counts of function calls are complete only when
the database sessions have ended. The test ignores calls of the functions with which a row-level security policy
reads the session. A query plan calls the functions that read the session once if it reads a row, and never if an
index finds no row. The same holds for the functions with which a policy finds shared consultations, if the row is
named by its random id. For an external id, which a person can guess, the calls of these functions are equal, too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from tests.api import documents
from tests.api.harness import PATIENCE_SECONDS, ApiHarness, Case, Person, consent_input
from tests.databases import API_ROLE

pytestmark = pytest.mark.anyio

TIMES = 3
OF_POLICIES = {"claims", "uid", "live_session", "require_session_mac", "person", "doctor", "patient"}
OF_SHARES = {
    "shared_consultation_ids", "consultations_shared_with", "consultations_in_emergency", "patients_in_emergency",
    "latest_time", "now",
}  # fmt: skip


@asynccontextmanager
async def _counting(harness: ApiHarness) -> AsyncIterator[None]:
    """Make Postgres count function calls in new database sessions of the API's login. The database sessions of the
    harness's own API are already open, so Postgres does not count their function calls.
    """
    login = f"alter role {API_ROLE} in database {harness.database.name}"
    await harness.superuser.execute(f"{login} set track_functions = 'all'".encode())
    try:
        yield
    finally:
        await harness.superuser.execute(f"{login} reset track_functions".encode())


async def _until_ended(harness: ApiHarness, application: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await harness.rows(  # noqa: ASYNC110 - Postgres tells nobody
            "select pid from pg_stat_activity where application_name = %s", application
        ):
            await asyncio.sleep(0.01)


async def _work_of(
    harness: ApiHarness, person: Person, document: str, variables: dict[str, object], ignored: set[str]
) -> dict[str, int]:
    """Send the same request a few times to an API that serves no other request, so that the counted function calls
    belong to this request. Return how many function calls and audit rows the requests caused.
    """
    await harness.superuser.execute("delete from private.usage")
    await person.send(document, **variables)  # creates a row of the quota with room for the counted requests
    application = f"alike-{uuid4().hex}"
    counted = make_conninfo(harness.database.api_url, application_name=application)
    await harness.rows("select pg_stat_reset()")
    rows = 0
    async with _counting(harness), harness.another_api(api_database_url=SecretStr(counted)) as http:
        for _ in range(TIMES):
            answer = await replace(person, http=http).send(document, **variables)
            assert answer.error.code == "NOT_FOUND"
            rows += len(await harness.audit(answer.request_id))
    await _until_ended(harness, application)
    called = await harness.rows("select funcname as name, calls from pg_stat_user_functions where calls > 0")
    calls = {row["name"]: row["calls"] for row in called if row["name"] not in ignored}
    return calls | {"audit rows": rows}


@pytest.mark.parametrize(
    "field",
    [
        "consultation",
        "externalId",
        "recording",
        "issueDownloadUrl",
        "issuePlaybackUrl",
        "storedObject",
        "stop",
        "join",
        "consent",
    ],
)
async def test_hidden_and_absent_rows_cause_the_same_work(
    harness: ApiHarness, case: Case, other_doctor: Person, field: str
) -> None:
    recording = str(await harness.recording(case))
    asked: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
        "consultation": (documents.CONSULTATION, {"id": case.id}, {"id": str(uuid4())}),
        "externalId": (
            documents.CONSULTATION_BY_EXTERNAL_ID,
            {"externalId": case.registration["externalId"]},
            {"externalId": "visit-of-nobody"},
        ),
        "recording": (documents.RECORDING, {"id": recording}, {"id": str(uuid4())}),
        "issueDownloadUrl": (
            documents.ISSUE_URL,
            {"recordingId": recording, "purposeOfUse": "TREATMENT"},
            {"recordingId": str(uuid4()), "purposeOfUse": "TREATMENT"},
        ),
        "issuePlaybackUrl": (
            documents.ISSUE_PLAYBACK_URL,
            {"recordingId": recording, "purposeOfUse": "TREATMENT"},
            {"recordingId": str(uuid4()), "purposeOfUse": "TREATMENT"},
        ),
        "storedObject": (documents.STORED_OBJECT, {"id": recording}, {"id": str(uuid4())}),
        "stop": (documents.STOP, {"recordingId": recording}, {"recordingId": str(uuid4())}),
        "join": (documents.JOIN, {"consultationId": case.id}, {"consultationId": str(uuid4())}),
        "consent": (
            documents.RECORD_CONSENT,
            {"consent": consent_input(case.participant("PATIENT"))},
            {"consent": consent_input(str(uuid4()))},
        ),
    }
    document, hidden, absent = asked[field]
    ignored = OF_POLICIES if field == "externalId" else OF_POLICIES | OF_SHARES
    of_hidden = await _work_of(harness, other_doctor, document, hidden, ignored)
    of_absent = await _work_of(harness, other_doctor, document, absent, ignored)
    assert of_hidden == of_absent
    assert of_hidden["write_audit_of_entities"] == of_hidden["audit rows"] == TIMES
