"""Tests of disclosures and of their suspensions (45 CFR 164.528) through the API."""

import asyncio
import logging
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from app.texts import disclosure_words
from tests.api import documents
from tests.api.disclosing import (
    DISCLOSURES,
    LIFT_SUSPENSION,
    RECORD_DISCLOSURE,
    RELEASED_COPIES,
    SUSPEND_DISCLOSURES,
    SUSPENSIONS,
    disclosure_input,
    suspension_input,
)
from tests.api.harness import ApiHarness, Case, Person
from tests.api.shown import named_in, shown_in

pytestmark = pytest.mark.anyio

EXCEPTED = ("TREATMENT", "PAYMENT", "OPERATIONS", "PATIENT_REQUEST")


async def _record(officer: Person, case: Case, **other: object) -> dict[str, object]:
    recorded: dict[str, object] = await officer.ask(
        RECORD_DISCLOSURE, disclosure=disclosure_input(case.patient_id, **other)
    )
    return recorded


async def _accounted(officer: Person, case: Case) -> list[object]:
    wanted = {"patient": {"id": case.patient_id}, "onlyAccounted": True}
    page = await officer.ask(DISCLOSURES, filter=wanted)
    return [edge["node"]["id"] for edge in page["edges"]]


async def test_officer_records_a_disclosure_and_reads_it_again(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    answer = await officer.send(
        RECORD_DISCLOSURE,
        disclosure=disclosure_input(
            case.patient_id, purposeStatement="Measles", lastDisclosedOn="2026-10-09", disclosureCount=3
        ),
    )
    made = answer.value
    assert made["recipient"] == {"name": "Health Department", "address": "1 Main Street"}
    assert (made["description"], made["purpose"], made["purposeStatement"]) == (
        "Report of one case",
        "PUBLIC_HEALTH",
        "Measles",
    )
    assert (made["disclosedOn"], made["lastDisclosedOn"], made["disclosureCount"]) == (
        "2026-10-05",
        "2026-10-09",
        3,
    )
    assert (made["isAccounted"], made["isSuspended"], made["authorization"]) == (True, False, None)
    assert made["recordedBy"]["id"] == str(officer.user_id)
    (row, *made_key) = sorted(
        await harness.audit(answer.request_id), key=lambda one: one["action"] != "disclosure.record"
    )
    assert [one["action"] for one in made_key] == ["patient.make_key"]
    assert (row["action"], row["operation"], row["outcome"], row["row_count"]) == (
        "disclosure.record",
        "C",
        "ALLOWED",
        1,
    )
    assert named_in(row) == shown_in(answer)
    page = await officer.ask(DISCLOSURES, filter={"patient": {"id": case.patient_id}})
    assert [edge["node"] for edge in page["edges"]] == [made]


async def test_text_of_a_disclosure_is_stored_encrypted_and_never_logged(
    harness: ApiHarness, case: Case, officer: Person, caplog: pytest.LogCaptureFixture
) -> None:
    secret = f"Recipient {uuid4().hex}"
    with caplog.at_level(logging.DEBUG):
        made = await _record(officer, case, recipient={"name": secret}, description=secret)
    assert made["description"] == secret
    (stored,) = await harness.rows(
        "select position(%s in encode(t.ciphertext, 'escape')) as place, length(t.ciphertext) as size"
        " from private.patient_texts as t where t.id = %s",
        secret,
        UUID(str(made["id"])),
    )
    assert stored["place"] == 0
    assert stored["size"] > len(secret)
    rows = await harness.rows(
        "select e.* from audit.events as e where e.patient_ids @> array[%s]", UUID(case.patient_id)
    )
    assert rows
    assert secret not in repr(rows)
    assert secret not in caplog.text


async def test_statutory_list_has_neither_care_nor_the_patient_s_own(case: Case, officer: Person) -> None:
    listed = await _record(officer, case, purpose="HEALTH_OVERSIGHT")
    for purpose in EXCEPTED:
        assert (await _record(officer, case, purpose=purpose))["isAccounted"] is False
    signed = {"signedOn": "2026-10-01", "expiresOn": "2026-12-31", "reference": "Folder 7"}
    authorized = await _record(officer, case, purpose="AUTHORIZATION", authorization=signed)
    assert authorized["authorization"] == signed
    assert await _accounted(officer, case) == [listed["id"]]
    everything = await officer.ask(DISCLOSURES, filter={"patient": {"id": case.patient_id}})
    assert len(everything["edges"]) == len(EXCEPTED) + 2


async def test_suspension_hides_the_disclosures_to_its_agency_until_it_ends(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    hidden = await _record(officer, case, purpose="LAW_ENFORCEMENT", disclosedOn="2026-10-06")
    shown = await _record(officer, case, purpose="HEALTH_OVERSIGHT")
    suspension = suspension_input(harness, case.patient_id)
    placed = await officer.ask(SUSPEND_DISCLOSURES, suspension=suspension)
    legal = await harness.rows(
        "select e.action from audit.events as e where e.patient_ids @> array[%s] and e.purpose = 'LEGAL'",
        UUID(case.patient_id),
    )
    assert sorted(row["action"] for row in legal) == [
        *("disclosure.record", "disclosure.record"),
        "disclosure.suspend",
    ]
    assert (placed["agency"], placed["official"], placed["isActive"]) == (
        "LAW_ENFORCEMENT",
        "Sheriff of the county",
        True,
    )
    assert await _accounted(officer, case) == [shown["id"]]
    page = await officer.ask(DISCLOSURES, filter={"patient": {"id": case.patient_id}})
    assert [edge["node"]["isSuspended"] for edge in page["edges"]] == [True, False]
    in_effect = await harness.rows(
        "select s.suspension_id from private.disclosure_suspensions(%s) as s", UUID(case.patient_id)
    )
    assert [str(row["suspension_id"]) for row in in_effect] == [placed["id"]]
    await harness.rows(
        "update resguardo.disclosure_suspensions set starts_at = starts_at - interval '2 years',"
        " ends_at = private.now() where id = %s returning id",
        UUID(placed["id"]),
    )
    assert await _accounted(officer, case) == [hidden["id"], shown["id"]]


async def test_officer_lifts_a_suspension_once(harness: ApiHarness, case: Case, officer: Person) -> None:
    suspension = suspension_input(harness, case.patient_id)
    placed = await officer.ask(SUSPEND_DISCLOSURES, suspension=suspension)
    lifted = await officer.ask(LIFT_SUSPENSION, suspensionId=placed["id"])
    assert (lifted["isActive"], lifted["liftedBy"]["id"]) == (False, str(officer.user_id))
    other = await harness.staff("compliance")
    assert await other.ask(LIFT_SUSPENSION, suspensionId=placed["id"]) == lifted
    page = await officer.ask(SUSPENSIONS, filter={"patient": {"id": case.patient_id}})
    assert [edge["node"] for edge in page["edges"]] == [lifted]
    assert await officer.refused(LIFT_SUSPENSION, suspensionId=str(uuid4())) == (
        "NOT_FOUND",
        "suspension_not_found",
    )


async def test_oral_statement_suspends_once_for_thirty_days(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    def oral(days: int) -> dict[str, object]:
        ends_at = (harness.practice.now() + timedelta(days=days)).isoformat()
        return suspension_input(harness, case.patient_id, isWritten=False, endsAt=ends_at)

    too_long = await officer.refused(SUSPEND_DISCLOSURES, suspension=oral(31))
    assert too_long == ("CONFLICT", "suspension_too_long")
    assert await officer.refused(SUSPEND_DISCLOSURES, suspension=oral(-1)) == ("CONFLICT", "suspension_over")
    answers = await asyncio.gather(
        *(officer.send(SUSPEND_DISCLOSURES, suspension=oral(29)) for _ in range(3))
    )
    assert sorted("errors" in answer.body for answer in answers) == [False, True, True]
    refused = await officer.refused(SUSPEND_DISCLOSURES, suspension=oral(5))
    assert refused == ("CONFLICT", "suspension_not_written")
    written = suspension_input(harness, case.patient_id)
    assert (await officer.ask(SUSPEND_DISCLOSURES, suspension=written))["isActive"]


@pytest.mark.parametrize(
    ("other", "refusal"),
    [
        ({"disclosedOn": "2199-01-01"}, ("CONFLICT", "disclosed_on_ahead")),
        ({"description": "  "}, ("INVALID_INPUT", "bad_disclosure")),
        ({"description": "x" * 2001}, ("INVALID_INPUT", "bad_disclosure")),
        ({"recipient": {"name": "a\x00b"}}, ("INVALID_INPUT", "bad_disclosure")),
        ({"disclosureCount": 2}, ("INVALID_INPUT", "bad_disclosure")),
        ({"disclosureCount": 0}, ("INVALID_INPUT", "bad_disclosure")),
        ({"disclosureCount": 2, "lastDisclosedOn": "2026-10-04"}, ("INVALID_INPUT", "bad_disclosure")),
        ({"purpose": "AUTHORIZATION"}, ("INVALID_INPUT", "bad_disclosure")),
        (
            {
                "purpose": "AUTHORIZATION",
                "authorization": {"signedOn": "2026-01-01", "expiresOn": "2026-02-01"},
            },
            ("CONFLICT", "authorization_expired"),
        ),
        (
            {"purpose": "AUTHORIZATION", "authorization": {"signedOn": "2026-10-06"}},
            ("CONFLICT", "authorization_expired"),
        ),
        ({"patient": {"id": str(uuid4())}}, ("NOT_FOUND", "patient_not_found")),
        ({"patient": {"externalId": "mrn-nobody"}}, ("NOT_FOUND", "patient_not_found")),
        ({"consultation": {"id": str(uuid4())}}, ("NOT_FOUND", "consultation_not_found")),
    ],
)
async def test_bad_disclosure_is_refused(
    case: Case, officer: Person, other: dict[str, object], refusal: tuple[str, str]
) -> None:
    given = disclosure_input(case.patient_id, **other)
    assert await officer.refused(RECORD_DISCLOSURE, disclosure=given) == refusal


async def test_disclosure_names_only_a_consultation_of_its_patient(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    another = await harness.case()
    given = disclosure_input(case.patient_id, consultation={"id": another.id})
    refused = await officer.send(RECORD_DISCLOSURE, disclosure=given)
    assert (refused.error.code, refused.error.reason) == ("NOT_FOUND", "consultation_not_found")
    made = await _record(officer, case, consultation={"id": case.id})
    assert made["consultation"] == {"id": case.id}


async def test_repeated_call_with_a_key_records_once(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    key = str(uuid4())
    first, second = await asyncio.gather(
        _record(officer, case, idempotencyKey=key), _record(officer, case, idempotencyKey=key)
    )
    assert first == second
    other = disclosure_input(case.patient_id, idempotencyKey=key, description="Another")
    refused = await officer.refused(RECORD_DISCLOSURE, disclosure=other)
    assert refused == ("CONFLICT", "idempotency_key_reused")


async def test_notice_accompanies_information_about_substance_use(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    assert (await _record(officer, case, consultation={"id": case.id}))["redisclosureNotice"] is None
    await harness.rows(
        "update resguardo.consultations set sensitivity = 'SUBSTANCE_USE' where id = %s returning id",
        UUID(case.id),
    )
    notice = disclosure_words("en")["redisclosure_notice"]
    assert notice.startswith("This record which has been disclosed to you is protected by Federal")
    for given in ({"consultation": {"id": case.id}}, {}):
        assert (await _record(officer, case, **given))["redisclosureNotice"] == notice


async def test_pages_of_disclosures_follow_each_other(case: Case, officer: Person) -> None:
    for day in ("2026-09-01", "2026-09-03", "2026-09-02", "2026-09-03"):
        await _record(officer, case, disclosedOn=day)
    seen, after = [], None
    while True:
        wanted = {"patient": {"id": case.patient_id}, "earliestDate": "2026-09-02"}
        page = await officer.ask(DISCLOSURES, first=2, after=after, filter=wanted)
        seen += [edge["node"]["disclosedOn"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == ["2026-09-03", "2026-09-03", "2026-09-02"]


async def test_everything_that_left_the_system_is_listed(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    recording = await harness.recording(case)
    issued = await case.doctor.send(documents.ISSUE_URL, recordingId=str(recording), purposeOfUse="TREATMENT")
    assert "errors" not in issued.body
    for purpose in ("TREATMENT", "RESEARCH", "PUBLIC_HEALTH"):
        await _record(officer, case, purpose=purpose)
    kinds, after = [], None
    while True:
        wanted = {"patient": {"id": case.patient_id}}
        page = await officer.ask(RELEASED_COPIES, first=3, after=after, filter=wanted)
        kinds += [edge["node"]["kind"] for edge in page["edges"]]
        assert all(case.patient_id in edge["node"]["event"]["patientIds"] for edge in page["edges"])
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert kinds == ["DISCLOSURE", "DISCLOSURE", "DISCLOSURE", "DOWNLOAD"]
