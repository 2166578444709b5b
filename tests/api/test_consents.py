"""Tests of consents: who may record or withdraw a consent, for whom, and to which consent text."""

from typing import Any

import pytest

from app.consents.texts import consent_texts
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, consent_input

pytestmark = pytest.mark.anyio

PARENT = {"relationship": "PARENT", "name": "Rosa Quispe"}


async def _give(person: Person, participant_id: str, **given: object) -> Any:
    return await person.ask(documents.RECORD_CONSENT, consent=consent_input(participant_id, **given))


async def _refused(person: Person, participant_id: str, **given: object) -> tuple[str, str | None]:
    return await person.refused(documents.RECORD_CONSENT, consent=consent_input(participant_id, **given))


async def _withdraw(person: Person, participant_id: str) -> Any:
    return await person.ask(documents.WITHDRAW_CONSENT, participantId=participant_id)


async def _invited(case: Case) -> str:
    guest = await case.doctor.ask(documents.INVITE, consultationId=case.id, role="INTERPRETER")
    return str(guest["participant"]["id"])


@pytest.mark.parametrize("kind", ["DOCTOR", "PATIENT"])
async def test_own_consent_has_the_source_self(case: Case, kind: str) -> None:
    person = case.doctor if kind == "DOCTOR" else case.patient
    given = await _give(person, case.participant(kind))
    assert (given["decision"], given["source"]) == ("GIVEN", "SELF")
    assert given["recordedBy"]["id"] == str(person.user_id)
    assert given["participant"]["id"] == case.participant(kind)
    assert given["representative"] is None
    assert {name: given[name] for name in documents.SHOWN} == documents.SHOWN
    assert given["textLanguage"] == "EN"


async def test_consent_to_the_spanish_text_stores_that_text(case: Case) -> None:
    text = consent_texts()[documents.SHOWN["textVersion"], "es"]
    given = await _give(
        case.patient, case.participant("PATIENT"), language="ES", textSha256=text.sha256.upper()
    )
    assert (given["textLanguage"], given["textSha256"]) == ("ES", text.sha256)


@pytest.mark.parametrize("whose", ["patient", "guest"])
async def test_consent_recorded_by_the_doctor_for_others_is_attested(case: Case, whose: str) -> None:
    participant = case.participant("PATIENT") if whose == "patient" else await _invited(case)
    given = await _give(case.doctor, participant, representative=PARENT)
    assert given["source"] == "ATTESTED"
    assert given["recordedBy"]["id"] == str(case.doctor.user_id)
    assert given["representative"] == PARENT


async def test_name_of_a_representative_is_stored_without_surrounding_spaces(case: Case) -> None:
    given = await _give(
        case.patient, case.participant("PATIENT"), representative=PARENT | {"name": "  Rosa Quispe "}
    )
    assert given["representative"] == PARENT


@pytest.mark.parametrize("name", ["", "   ", "x" * 201])
async def test_representative_with_an_empty_or_too_long_name_is_refused(case: Case, name: str) -> None:
    representative = PARENT | {"name": name}
    participant = case.participant("PATIENT")
    bad = ("INVALID_INPUT", "bad_representative")
    assert await _refused(case.patient, participant, representative=representative) == bad
    variables = {"participantId": participant, "representative": representative}
    assert await case.patient.refused(documents.WITHDRAW_CONSENT, **variables) == bad


async def test_representative_name_with_a_nul_is_refused(case: Case) -> None:
    refused = await _refused(
        case.patient, case.participant("PATIENT"), representative=PARENT | {"name": "Rosa\0"}
    )
    assert refused == ("INVALID_INPUT", "bad_text")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"textVersion": "1999-01"}, "consent_text_unknown"),
        ({"textVersion": ""}, "consent_text_unknown"),
        ({"textSha256": "ab" * 32}, "consent_text_differs"),
        ({"textSha256": ""}, "consent_text_differs"),
        ({"language": "ES"}, "consent_text_differs"),
    ],
)
async def test_consent_to_another_text_is_refused(case: Case, given: dict[str, str], reason: str) -> None:
    refused = await _refused(case.patient, case.participant("PATIENT"), **given)
    assert refused == ("INVALID_INPUT", reason)


async def test_patient_cannot_consent_for_the_doctor_or_a_guest(harness: ApiHarness, case: Case) -> None:
    for participant in (case.participant("DOCTOR"), await _invited(case)):
        answer = await case.patient.send(documents.RECORD_CONSENT, consent=consent_input(participant))
        assert (answer.error.code, answer.error.reason) == ("FORBIDDEN", "not_permitted")
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"]) == ("consent.give", "DENIED")


@pytest.mark.parametrize("document", [documents.RECORD_CONSENT, documents.WITHDRAW_CONSENT])
async def test_participants_of_other_consultations_are_not_found(
    harness: ApiHarness, case: Case, other_doctor: Person, document: str
) -> None:
    for person in (other_doctor, (await harness.case()).patient):
        for participant in (case.participant("PATIENT"), case.id):
            variables = {"consent": consent_input(participant), "participantId": participant}
            refused = await person.refused(document, **variables)
            assert refused == ("NOT_FOUND", "participant_not_found")
    assert await other_doctor.refused(document, consent=consent_input("7"), participantId="7") == (
        "INVALID_INPUT",
        "bad_id",
    )


async def test_withdrawal_is_a_separate_statement_and_a_repeated_one_changes_nothing(case: Case) -> None:
    participant = case.participant("PATIENT")
    given = await _give(case.patient, participant)
    first, second = await _withdraw(case.patient, participant), await _withdraw(case.patient, participant)
    assert first == second
    assert (first["decision"], first["source"]) == ("WITHDRAWN", "SELF")
    assert first["id"] != given["id"]
    assert first["textSha256"] == given["textSha256"]


async def test_withdrawal_without_any_consent_is_a_conflict(case: Case) -> None:
    refused = await case.patient.refused(
        documents.WITHDRAW_CONSENT, participantId=case.participant("PATIENT")
    )
    assert refused == ("CONFLICT", "no_consent_to_withdraw")


async def test_doctor_cannot_attest_a_consent_that_the_participant_withdrew(case: Case) -> None:
    participant = case.participant("PATIENT")
    await _give(case.patient, participant)
    await _withdraw(case.patient, participant)
    assert await _refused(case.doctor, participant) == ("CONFLICT", "withdrawn_in_person")
    assert (await _give(case.patient, participant))["decision"] == "GIVEN"


async def test_doctor_may_attest_a_consent_again_that_the_doctor_withdrew(case: Case) -> None:
    participant = case.participant("PATIENT")
    await _give(case.doctor, participant)
    withdrawn = await _withdraw(case.doctor, participant)
    assert (withdrawn["decision"], withdrawn["source"]) == ("WITHDRAWN", "ATTESTED")
    assert (await _give(case.doctor, participant))["decision"] == "GIVEN"


async def test_withdrawal_stops_the_running_recording(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    started = await case.doctor.ask(documents.START, consultationId=case.id)
    await _withdraw(case.patient, case.participant("PATIENT"))
    await harness.work()
    found = await case.doctor.ask(documents.RECORDING, id=started["id"])
    assert (found["status"], found["problem"]["code"]) == ("ABORTED", "CONSENT_WITHDRAWN")


STATEMENT = """
  consent { id decision }
  participant { id hasConsented }
  consultation { id consents { id } participants { id hasConsented } recordingBlockers { reason participant { id } } }
"""
RECORD = f"mutation ($input: RecordConsentInput!) {{ recordConsent(input: $input) {{ {STATEMENT} }} }}"
WITHDRAW = f"mutation ($input: WithdrawConsentInput!) {{ withdrawConsent(input: $input) {{ {STATEMENT} }} }}"


@pytest.mark.parametrize("kind", ["DOCTOR", "PATIENT"])
async def test_statement_is_returned_with_its_consultation_as_it_is_now_in_one_audit_row(
    harness: ApiHarness, case: Case, kind: str
) -> None:
    await case.consent()
    person = case.doctor if kind == "DOCTOR" else case.patient
    participant = case.participant(kind)
    withdrawn = await person.send(WITHDRAW, input={"participantId": participant})
    given = await person.send(RECORD, input=consent_input(participant))
    blocked = [{"reason": "CONSENT_WITHDRAWN", "participant": {"id": participant}}]
    for answer, action, blockers, has_consented in (
        (withdrawn, "consent.withdraw", blocked, False),
        (given, "consent.give", [], True),
    ):
        found = answer.value["consultation"]
        assert (found["id"], found["recordingBlockers"]) == (case.id, blockers)
        assert {one["id"]: one["hasConsented"] for one in found["participants"]}[participant] is has_consented
        assert answer.value["participant"] == {"id": participant, "hasConsented": has_consented}
        assert found["consents"][-1]["id"] == answer.value["consent"]["id"]
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"]) == (action, "ALLOWED")
        assert {one["type"] for one in row["entities"]} == {"consent", "participant", "consultation"}
        assert {"consultation.recordingBlockers.reason", "decision", "participant.hasConsented"} <= set(
            row["fields"]
        )
