"""Tests of the register of business associate agreements: who may record and read it, and that no process starts in
production without a valid agreement for each service that receives PHI.
"""

from datetime import date, timedelta
from typing import Any

import psycopg
import pytest

from app.alerts.service import Alerts
from app.errors import Conflict
from app.settings import Environment
from app.settings.services import VendorService
from app.texts import operator_message
from app.vendor_agreements.service import AgreementWatch, require_agreements
from app.worker import process
from tests.api.delivering import AGREEMENT
from tests.api.documents import RECORD_VENDOR_AGREEMENT, VENDOR_AGREEMENTS
from tests.api.harness import ApiHarness, Person
from tests.api.shown import named_in, shown_in

pytestmark = pytest.mark.anyio

TODAY = date.today()  # noqa: DTZ011 - the register counts in days
PRODUCTION = {"environment": Environment.PRODUCTION}


async def _record(officer: Person, **given: Any) -> Any:
    return await officer.ask(RECORD_VENDOR_AGREEMENT, agreement={**AGREEMENT, **given})


async def test_officer_records_an_agreement_and_reads_the_register(
    harness: ApiHarness, officer: Person
) -> None:
    wanted = {**AGREEMENT, "vendor": "Example, Inc.", "basis": "AGREEMENT", "expiresOn": "2031-01-30"}
    answer = await officer.send(RECORD_VENDOR_AGREEMENT, agreement=wanted)
    node = answer.value
    assert {name: node[name] for name in wanted} == wanted
    assert node["recordedBy"] == {"id": str(officer.user_id)}
    (audit,) = await harness.audit(answer.request_id)
    assert (audit["action"], audit["outcome"]) == ("vendor_agreement.record", "ALLOWED")
    assert named_in(audit) == shown_in(answer)
    assert "Example" not in str(audit)
    page = await officer.ask(VENDOR_AGREEMENTS, first=1, filter={"services": ["OTHER"]})
    assert [edge["node"] for edge in page["edges"]] == [node]
    again = await _record(officer, **wanted)
    assert again["id"] == node["id"], "the same entry is recorded once"
    changed = await _record(officer, **{**wanted, "expiresOn": "2030-01-30"})
    assert changed["id"] != node["id"]


@pytest.mark.parametrize("statement", ["update %s set vendor = 'x'", "delete from %s", "truncate %s"])
async def test_register_is_insert_only_for_the_owner_too(
    harness: ApiHarness, officer: Person, statement: str
) -> None:
    await _record(officer)
    with (
        psycopg.connect(harness.database.owner_url) as owner,
        pytest.raises(psycopg.Error, match="insert only"),
    ):
        owner.execute((statement % "resguardo.vendor_agreements").encode())


@pytest.mark.parametrize(
    "given",
    [
        {"vendor": ""},
        {"vendor": " "},
        {"vendor": "x" * 201},
        {"version": "one\ntwo"},
        {"signatory": "a\u2028b"},
        {"signatory": "\x00"},
        {"signedOn": "2026-02-01", "expiresOn": "2026-01-31"},
    ],
)
async def test_malformed_agreement_is_refused(officer: Person, given: dict[str, str]) -> None:
    refusal = await officer.refused(RECORD_VENDOR_AGREEMENT, agreement={**AGREEMENT, **given})
    assert refusal == ("INVALID_INPUT", "bad_agreement")


async def test_agreement_that_is_signed_in_the_future_is_refused(officer: Person) -> None:
    ahead = {**AGREEMENT, "signedOn": str(TODAY + timedelta(days=2))}
    refusal = await officer.refused(RECORD_VENDOR_AGREEMENT, agreement=ahead)
    assert refusal == ("CONFLICT", "agreement_signed_ahead")


async def test_doctor_neither_reads_nor_records_agreements(doctor: Person) -> None:
    assert await doctor.refused(VENDOR_AGREEMENTS) == ("FORBIDDEN", "wrong_role")
    assert await doctor.refused(RECORD_VENDOR_AGREEMENT, agreement=AGREEMENT) == ("FORBIDDEN", "wrong_role")


async def test_production_starts_only_with_valid_agreements(harness: ApiHarness, officer: Person) -> None:
    worker = harness.worker_settings.model_copy(update=PRODUCTION)
    with pytest.raises(Conflict) as missing:
        async with harness.another_api(**PRODUCTION):
            pass
    assert missing.value.reason == "vendor_agreement_missing"
    assert missing.value.detail == {"services": "DATABASE (missing), STORAGE (missing), VIDEO (missing)"}
    message = operator_message(missing.value.reason, missing.value.detail)
    assert "VIDEO (missing)" in message
    assert "resguardo agreements record" in message
    with pytest.raises(Conflict, match="vendor_agreement_missing"):
        await process.run(worker)
    for service in ("DATABASE", "STORAGE"):
        await _record(officer, service=service, basis="SELF_OPERATED")
    await _record(officer, service="VIDEO", expiresOn="2026-02-01")
    with pytest.raises(Conflict) as expired:
        async with harness.another_api(**PRODUCTION):
            pass
    assert expired.value.detail == {"services": "VIDEO (expired on 2026-02-01)"}
    await _record(officer, service="VIDEO", expiresOn=str(TODAY + timedelta(days=1)))
    async with harness.another_api(**PRODUCTION):
        pass
    services = [VendorService.VIDEO, VendorService.DATABASE, VendorService.LANGUAGE]
    watch = AgreementWatch(harness.services.database, Alerts(harness.services.database), services)
    await watch.run_once()
    opened = (
        "select key, status from resguardo.alerts where kind = 'VENDOR_AGREEMENT_EXPIRING' order by opened_at"
    )
    assert [tuple(row.values()) for row in await harness.rows(opened)] == [("VIDEO", "OPEN")]
    await _record(officer, service="VIDEO", expiresOn=str(TODAY + timedelta(days=365)))
    await watch.run_once()
    assert [tuple(row.values()) for row in await harness.rows(opened)] == [("VIDEO", "CLOSED")]


async def test_last_day_of_an_agreement_is_a_valid_day(harness: ApiHarness, officer: Person) -> None:
    (row,) = await harness.rows("select private.today() as today")
    await _record(officer, service="SPEECH", signedOn="2026-01-01", expiresOn=str(row["today"]))
    await require_agreements(harness.services.database, [VendorService.SPEECH])
    yesterday = row["today"] - timedelta(days=1)
    await _record(officer, service="SPEECH", signedOn="2026-01-01", expiresOn=str(yesterday))
    with pytest.raises(Conflict, match="vendor_agreement_missing"):
        await require_agreements(harness.services.database, [VendorService.SPEECH])
