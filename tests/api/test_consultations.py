"""Tests of the registration and the reading of one consultation."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, consultation_input

pytestmark = pytest.mark.anyio


def unlike_request(body: Any) -> Any:
    """Return the API's answer without the parts, such as the request id, that differ between any two answers."""
    for error in body["errors"]:
        error["extensions"].pop("requestId")
    return body


async def test_registration_creates_a_consultation_with_doctor_and_patient(harness: ApiHarness) -> None:
    doctor, wanted = await harness.clinician(), consultation_input(sensitivity="PSYCHOTHERAPY")
    made = await doctor.ask(documents.REGISTER, consultation=wanted)
    assert made["externalId"] == wanted["externalId"]
    assert made["doctor"]["id"] == str(doctor.user_id)
    assert (made["kind"], made["sensitivity"]) == ("follow_up", "PSYCHOTHERAPY")
    assert datetime.fromisoformat(made["scheduledAt"]) == datetime.fromisoformat(str(wanted["scheduledAt"]))
    assert made["roomName"] == f"tests_{made['id']}"
    assert [(one["kind"], one["hasConsented"]) for one in made["participants"]] == [
        ("DOCTOR", False),
        ("PATIENT", False),
    ]


async def test_repeated_registration_returns_the_existing_consultation(case: Case) -> None:
    await case.consent()
    again = await case.doctor.ask(documents.REGISTER, consultation=case.registration)
    assert again["id"] == case.id
    assert len(again["consents"]) == 2
    assert all(one["hasConsented"] for one in again["participants"])


async def test_concurrent_registrations_create_one_consultation(harness: ApiHarness) -> None:
    doctor, wanted = await harness.clinician(), consultation_input()
    made = await asyncio.gather(
        *(doctor.ask(documents.REGISTER, consultation=wanted) for _ in range(4)),
    )
    assert len({one["id"] for one in made}) == 1
    assert len(made[0]["participants"]) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "first_visit"},
        {"sensitivity": "SUBSTANCE_USE"},
        {"scheduledAt": "2026-11-22T15:00:00Z"},
        {"patientExternalId": "mrn-somebody-else"},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_registration_with_other_data_is_a_conflict(
    harness: ApiHarness, changed: dict[str, str]
) -> None:
    doctor, wanted = await harness.clinician(), consultation_input()
    await doctor.ask(documents.REGISTER, consultation=wanted)
    refused = await doctor.refused(documents.REGISTER, consultation=wanted | changed)
    assert refused == ("CONFLICT", "external_id_taken")


async def test_registration_with_another_doctors_external_id_is_a_conflict_that_reveals_nothing(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    wanted = consultation_input(externalId=case.consultation["externalId"])
    answer = await other_doctor.send(documents.REGISTER, consultation=wanted)
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "external_id_taken")
    assert case.id not in answer.response.text
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("consultation.register", "FAILED")
    assert row["reason"] == "external_id_taken"


async def test_registration_for_another_doctor_is_forbidden(
    harness: ApiHarness, other_doctor: Person
) -> None:
    doctor = await harness.clinician()
    wanted = consultation_input(doctorId=str(other_doctor.user_id))
    assert await doctor.refused(documents.REGISTER, consultation=wanted) == ("FORBIDDEN", "not_permitted")


async def test_registration_with_the_callers_own_doctor_id_is_accepted(harness: ApiHarness) -> None:
    doctor = await harness.clinician()
    wanted = consultation_input(doctorId=str(doctor.user_id))
    assert (await doctor.ask(documents.REGISTER, consultation=wanted))["doctor"]["id"] == str(doctor.user_id)


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"kind": "Follow Up"}, ("INVALID_INPUT", "bad_kind")),
        ({"kind": ""}, ("INVALID_INPUT", "bad_kind")),
        ({"kind": "x" * 41}, ("INVALID_INPUT", "bad_kind")),
        ({"scheduledAt": "2026-11-21T15:00:00"}, ("INVALID_INPUT", "bad_variable")),
        ({"scheduledAt": "tomorrow"}, ("INVALID_INPUT", "bad_variable")),
        ({"scheduledAt": "2026-02-30T15:00:00Z"}, ("INVALID_INPUT", "bad_variable")),
        ({"externalId": ""}, ("INVALID_INPUT", "bad_external_id")),
        ({"externalId": "x" * 129}, ("INVALID_INPUT", "bad_external_id")),
        ({"externalId": " padded "}, ("INVALID_INPUT", "bad_external_id")),
        ({"externalId": "nul\0"}, ("INVALID_INPUT", "bad_external_id")),
        ({"patientExternalId": "two\nlines"}, ("INVALID_INPUT", "bad_external_id")),
        ({"patientUserId": "somebody"}, ("INVALID_INPUT", "bad_id")),
        ({"doctorId": ""}, ("INVALID_INPUT", "bad_id")),
        ({"sensitivity": "SECRET"}, ("INVALID_INPUT", "bad_variable")),
    ],
)
async def test_registration_with_bad_data_is_refused(
    harness: ApiHarness, given: dict[str, str], refusal: tuple[str, str]
) -> None:
    doctor = await harness.clinician()
    assert await doctor.refused(documents.REGISTER, consultation=consultation_input(**given)) == refusal


async def test_registration_with_another_login_for_a_known_patient_is_refused(harness: ApiHarness) -> None:
    doctor, known = await harness.clinician(), f"mrn-{uuid4()}"
    first, second = await harness.user(), await harness.user()
    await doctor.ask(
        documents.REGISTER,
        consultation=consultation_input(patientExternalId=known, patientUserId=str(first.user_id)),
    )
    for wanted in (
        consultation_input(patientExternalId=known, patientUserId=str(second.user_id)),
        consultation_input(patientUserId=str(first.user_id)),
    ):
        refused = await doctor.refused(documents.REGISTER, consultation=wanted)
        assert refused == ("CONFLICT", "patient_user_differs")


async def test_doctor_and_patient_find_the_consultation_by_either_id(case: Case) -> None:
    for person in (case.doctor, case.patient):
        by_id = await person.ask(documents.CONSULTATION, id=case.id)
        by_external_id = await person.ask(
            documents.CONSULTATION_BY_EXTERNAL_ID, externalId=case.consultation["externalId"]
        )
        assert by_id == by_external_id == {**case.consultation}


async def test_consultation_lists_all_statements_of_consent_oldest_first(case: Case) -> None:
    await case.consent()
    await case.patient.ask(documents.WITHDRAW_CONSENT, participantId=case.participant("PATIENT"))
    found = await case.doctor.ask(documents.CONSULTATION, id=case.id)
    assert [one["decision"] for one in found["consents"]] == ["GIVEN", "GIVEN", "WITHDRAWN"]
    assert {one["kind"]: one["hasConsented"] for one in found["participants"]} == {
        "DOCTOR": True,
        "PATIENT": False,
    }


async def test_consultation_needs_exactly_one_of_both_ids(case: Case) -> None:
    document = "query ($by: ConsultationBy!) { consultation(by: $by) { id } }"
    both = {"id": case.id, "externalId": case.consultation["externalId"]}
    for by in ({}, both, {"id": None}, {"id": case.id, "externalId": None}):
        assert (await case.doctor.refused(document, by=by))[0] == "INVALID_INPUT"
    assert (await case.doctor.ask(document, by={"externalId": both["externalId"]}))["id"] == case.id


async def test_consultation_with_a_malformed_id_is_invalid(case: Case) -> None:
    assert await case.doctor.refused(documents.CONSULTATION, id="7") == ("INVALID_INPUT", "bad_id")


@pytest.mark.parametrize("text", ["nul\0", "\U0001f600", "'; drop table x; --", "x" * 5000])
async def test_consultation_with_an_unusual_external_id_causes_no_internal_error(
    case: Case, text: str
) -> None:
    code, _ = await case.doctor.refused(documents.CONSULTATION_BY_EXTERNAL_ID, externalId=text)
    assert code in ("NOT_FOUND", "INVALID_INPUT")


@pytest.mark.parametrize("by", ["id", "externalId"])
async def test_hidden_consultation_is_answered_as_absent_and_audited_as_denied(
    harness: ApiHarness, case: Case, other_doctor: Person, by: str
) -> None:
    hidden = await other_doctor.send(documents.CONSULTATION_BY[by], **{by: case.consultation[by]})
    absent = await other_doctor.send(documents.CONSULTATION_BY[by], **{by: str(uuid4())})
    assert hidden.error.code == "NOT_FOUND"
    assert hidden.response.status_code == absent.response.status_code
    assert len(hidden.response.content) == len(absent.response.content)
    assert unlike_request(hidden.body) == unlike_request(absent.body)
    (denied,), (missing,) = await harness.audit(hidden.request_id), await harness.audit(absent.request_id)
    assert (denied["outcome"], missing["outcome"]) == ("DENIED", "ABSENT")
    assert [str(one) for one in denied["consultation_ids"]] == [case.id]
    assert [str(one) for one in denied["patient_ids"]] == [case.patient_id]
    assert missing["patient_ids"] == missing["consultation_ids"] == []


async def test_another_patient_does_not_find_the_consultation(harness: ApiHarness, case: Case) -> None:
    stranger = (await harness.case()).patient
    code, reason = await stranger.refused(documents.CONSULTATION, id=case.id)
    assert (code, reason) == ("NOT_FOUND", "consultation_not_found")


@pytest.mark.parametrize("language", ["ES", "MIXED", None])
async def test_language_of_a_consultation_is_stored_as_given(
    harness: ApiHarness, doctor: Person, language: str | None
) -> None:
    case = await harness.case(doctor, language=language)
    read = await doctor.ask(documents.CONSULTATION, id=case.id)
    assert read["language"] == language
