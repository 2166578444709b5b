"""Tests of the reports that a patient reads: who looked at the record, who was refused, and what was recorded."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api import documents
from tests.api.deleting import destroy_recording
from tests.api.harness import ADDRESS, ApiHarness, Case, Person
from tests.api.requesting import insert_access_request
from tests.api.speaking import store_transcript

pytestmark = pytest.mark.anyio

PLAY = documents.ISSUE_PLAYBACK_URL
REPORT, RECORDED = documents.ACCESS_ENTRIES, documents.RECORDING_SUMMARIES


async def _looks(person: Person, **variables: object) -> list[dict[str, Any]]:
    report = await person.ask(REPORT, **variables)
    return [edge["node"] for edge in report["edges"]]


async def _texts(person: Person, **variables: object) -> list[str]:
    return [look["text"] for look in await _looks(person, **variables)]


async def _log(harness: ApiHarness, case: Case, action: str, **columns: object) -> UUID:
    """Insert an audit event about the patient of the case. Return its id."""
    values: dict[str, object] = {
        "recorded_at": datetime.now(UTC),
        "actor_id": case.doctor.user_id,
        "actor_role": "clinician",
        "operation": "R",
        "outcome": "ALLOWED",
        "reason": None,
        "purpose": "TREATMENT",
        "basis": "treating_clinician",
        "patient_ids": [UUID(case.patient_id)],
        "consultation_ids": [UUID(case.id)],
        "address": "192.0.2.77",
        **columns,
    }
    (row,) = await harness.rows(
        "insert into audit.events (recorded_at, actor_id, actor_role, action, operation, outcome, reason, purpose,"
        " basis, patient_ids, consultation_ids, address, policy_version)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, '0f') returning id",
        *[values[name] for name in ("recorded_at", "actor_id", "actor_role")],
        action,
        *[values[name] for name in ("operation", "outcome", "reason", "purpose", "basis")],
        *[values[name] for name in ("patient_ids", "consultation_ids", "address")],
    )
    return UUID(str(row["id"]))


async def test_patient_reads_who_read_the_transcript_when_and_why(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case, "READY")
    await store_transcript(harness, recording)
    await case.doctor.ask(documents.TRANSCRIPT, id=str(recording))
    (look,) = await _looks(case.patient)
    assert look["text"] == "Your doctor read the text of what was said in your recording."
    assert look["why"] == "For your treatment, as the doctor of the consultation."
    assert (look["who"], look["relation"]) == ("Your doctor", "DOCTOR")
    assert (look["isRefused"], look["refusal"], look["consultationIds"]) == (False, None, [case.id])
    (event,) = await harness.rows("select recorded_at from audit.events where id = %s", UUID(look["id"]))
    assert datetime.fromisoformat(look["recordedAt"]) == event["recorded_at"]


async def test_report_is_in_spanish_with_times_of_the_given_time_zone(
    harness: ApiHarness, case: Case
) -> None:
    await _log(harness, case, "transcript.read", recorded_at=datetime(2026, 3, 1, 3, 5, tzinfo=UTC))
    answer = await case.patient.send(REPORT, in_language="es", timeZone="America/New_York")
    (edge,) = answer.value["edges"]
    assert edge["node"]["text"] == "Su médico o médica leyó el texto de lo que se dijo en su grabación."
    assert edge["node"]["when"] == "28 de febrero de 2026 a las 22:05 (America/New_York)"
    (look,) = await _looks(case.patient, timeZone="America/New_York")
    assert look["when"] == "February 28, 2026 at 22:05 (America/New_York)"


async def test_refused_stranger_is_in_the_report_without_names_or_addresses(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case, "READY")
    stranger = await harness.clinician()
    await stranger.send(documents.RECORDING, id=str(recording))
    await stranger.send(documents.DELETE_RECORDING, id=str(recording), reason="OTHER")
    answer = await case.patient.send(REPORT)
    refused = [edge["node"] for edge in answer.value["edges"]]
    assert [look["text"] for look in refused] == [
        "A clinician of the practice tried to have your recording destroyed. The request was refused.",
        "A clinician of the practice tried to open the page of your recording. The request was refused.",
    ]
    assert {look["relation"] for look in refused} == {"CLINICIAN"}
    assert {look["why"] for look in refused} == {None}
    assert {look["refusal"] for look in refused} == {
        "The person had no right to it, or asked for something that they may not see."
    }
    assert ADDRESS not in answer.response.text
    assert str(stranger.user_id) not in answer.response.text


async def test_report_shows_neither_lists_nor_own_reads_nor_the_work_of_programs(
    harness: ApiHarness, case: Case
) -> None:
    await harness.recording(case, "READY")
    await case.doctor.ask(documents.RECORDINGS)
    await case.patient.ask(documents.CONSULTATION, id=case.id)
    await case.patient.ask(REPORT)
    assert await _texts(case.patient) == []


async def test_patient_reads_about_copies_that_their_own_login_took(harness: ApiHarness, case: Case) -> None:
    own = {"actor_id": case.patient.user_id, "actor_role": "patient", "basis": "self"}
    await _log(harness, case, "access_request.issue_url", **own)
    await _log(harness, case, "consultation.read", **own)
    (look,) = await _looks(case.patient)
    assert look["text"] == "You got a link to download the requested copy of your recordings."
    assert look["relation"] == "SELF"


async def test_report_names_no_consultation_of_another_patient(harness: ApiHarness, case: Case) -> None:
    other = await harness.case(case.doctor)
    both = [UUID(case.id), UUID(other.id)]
    patients = [UUID(case.patient_id), UUID(other.patient_id)]
    await _log(harness, case, "transcript.search", patient_ids=patients, consultation_ids=both)
    (look,) = await _looks(case.patient)
    assert look["consultationIds"] == [case.id]


async def test_pages_are_complete_and_repeat_nothing(harness: ApiHarness, case: Case) -> None:
    moment = datetime.now(UTC)
    expected = []
    for number in range(7):
        expected.append(
            await _log(harness, case, "note.read", recorded_at=moment - timedelta(hours=number // 2))
        )
        await _log(harness, case, "recording.list", recorded_at=moment - timedelta(hours=number // 2))
    found: list[str] = []
    after = None
    while True:
        page = await case.patient.ask(REPORT, first=2, after=after)
        found += [edge["node"]["id"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        assert page["edges"][-1]["cursor"] == after
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert sorted(found) == sorted(str(one) for one in expected)
    assert len(found) == len(set(found))


async def test_report_of_one_consultation_has_only_its_looks(harness: ApiHarness, case: Case) -> None:
    await _log(harness, case, "note.read")
    assert len(await _looks(case.patient, of={"id": case.id})) == 1
    assert await case.patient.refused(REPORT, of={"id": str(uuid4())}) == (
        "NOT_FOUND",
        "consultation_not_found",
    )
    other = await harness.case()
    answer = await case.patient.send(REPORT, of={"id": other.id})
    assert answer.error.code == "NOT_FOUND"
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("access_report.read", "DENIED")
    assert await _texts(other.patient) == [
        (
            "Another person with a patient's login tried to open this report for the person who asked for it."
            " The request was refused."
        )
    ]


async def test_law_1_read_of_the_report_is_audited_with_its_fields(harness: ApiHarness, case: Case) -> None:
    await _log(harness, case, "note.read")
    answer = await case.patient.send("{ accessEntries { edges { node { text when } } } }")
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["operation"], row["outcome"]) == ("access_report.read", "R", "ALLOWED")
    assert (row["actor_role"], row["purpose"], row["row_count"]) == ("patient", "PATIENT_REQUEST", 1)
    assert row["patient_ids"] == [UUID(case.patient_id)]
    assert row["fields"] == ["text", "when"]
    answer = await case.patient.send("{ recordingSummaries { edges { node { text } } } }")
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["patient_ids"]) == ("recording_report.read", [UUID(case.patient_id)])


async def test_officer_reads_the_report_only_for_an_approved_request(harness: ApiHarness, case: Case) -> None:
    officer = await harness.staff("compliance")
    await _log(harness, case, "note.read")
    assert await officer.refused(REPORT) == ("INVALID_INPUT", "report_of_whom")
    pending = await insert_access_request(harness, case)
    assert await officer.refused(REPORT, requestId=str(pending)) == (
        "CONFLICT",
        "access_request_not_approved",
    )
    await harness.rows(
        "update resguardo.access_requests set status = 'APPROVED', decided_at = now(), consultation_id = %s,"
        " representative_relationship = 'PARENT', representative_name = 'Rosa Quispe' where id = %s returning id",
        UUID(case.id),
        pending,
    )
    assert await officer.refused(REPORT, requestId=str(pending), of={"id": case.id}) == (
        "INVALID_INPUT",
        "report_of_whom",
    )
    await _log(harness, case, "transcript.read", consultation_ids=[])
    answer = await officer.send(REPORT, requestId=str(pending))
    assert [edge["node"]["text"] for edge in answer.value["edges"]] == [
        "Your doctor read the signed note about your consultation."
    ], "the request covers one consultation"
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["purpose"], row["patient_ids"]) == (
        "access_report.read",
        "PATIENT_REQUEST",
        [UUID(case.patient_id)],
    )
    assert str(pending) in str(row["entities"])
    text, *_ = await _texts(case.patient)
    assert text == "A compliance officer of the practice opened this report for the person who asked for it."


async def test_time_zone_must_exist(harness: ApiHarness, case: Case) -> None:
    for unknown in ("Mars/Olympus", "", "UTC; drop", "x" * 65, "../etc"):
        assert await case.patient.refused(REPORT, timeZone=unknown) == ("INVALID_INPUT", "bad_time_zone")


async def test_patient_reads_what_was_recorded_and_until_when_it_is_kept(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case, "READY")
    await harness.rows(
        "update resguardo.recordings set due_at = '2033-05-06 12:00Z' where id = %s returning id",
        recording,
    )
    report = await case.patient.ask(RECORDED)
    (edge,) = report["edges"]
    shown = edge["node"]
    assert (shown["id"], shown["consultationId"], shown["doctor"]) == (str(recording), case.id, "Your doctor")
    assert (shown["fate"], shown["certificate"], shown["destroyedAt"]) == ("KEPT", None, None)
    assert shown["text"] == "The practice keeps it until May 6, 2033."
    assert shown["keptUntil"].startswith("2033-05-06T12:00:00")
    await harness.rows(
        "update resguardo.recordings set due_at = private.now() - interval '1 day' where id = %s returning id",
        recording,
    )
    ((edge,),) = [(await case.patient.ask(RECORDED))["edges"]]
    assert edge["node"]["text"].endswith("and still keeps it.")


async def test_destroyed_recording_is_in_the_report_with_its_certificate(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case, "READY")
    await destroy_recording(harness, recording)
    (edge,) = (await case.patient.ask(RECORDED))["edges"]
    shown = edge["node"]
    assert (shown["fate"], shown["keptUntil"]) == ("DESTROYED", None)
    assert shown["text"].startswith("It was destroyed on ")
    assert shown["certificate"]["number"] == 1
    assert str(recording) in shown["certificate"]["json"]
    assert shown["destroyedAt"] is not None


async def test_patient_reads_nothing_of_another_patient(harness: ApiHarness, case: Case) -> None:
    other = await harness.case(case.doctor)
    await harness.recording(other, "READY")
    await _log(harness, other, "note.read")
    assert await _looks(case.patient) == []
    assert (await case.patient.ask(RECORDED))["edges"] == []
    request = await insert_access_request(harness, other, "FULFILLED")
    for document in (REPORT, RECORDED):
        answer = await case.patient.send(document, requestId=str(request))
        assert answer.error.reason == "access_request_not_found"
        (row,) = await harness.audit(answer.request_id)
        assert row["outcome"] == "DENIED"


async def test_entry_in_an_open_case_is_hidden_until_the_case_ends(harness: ApiHarness, case: Case) -> None:
    moment = datetime.now(UTC)
    ids = [
        await _log(harness, case, "note.read", recorded_at=moment - timedelta(minutes=minutes))
        for minutes in range(4)
    ]
    (row,) = await harness.rows(
        "select private.open_case('self', %s, %s, '{}', %s, %s) as id",
        case.doctor.user_id,
        [UUID(case.patient_id)],
        [ids[1]],
        str(uuid4()),
    )
    page = await case.patient.ask(REPORT, first=2)
    assert [edge["node"]["id"] for edge in page["edges"]] == [str(ids[0]), str(ids[2])]
    assert page["pageInfo"]["hasNextPage"]
    page = await case.patient.ask(REPORT, first=3)
    assert len(page["edges"]) == 3
    assert not page["pageInfo"]["hasNextPage"], "no page reveals the hidden entry"
    await harness.rows(
        "update resguardo.review_cases set status = 'DECIDED', disposition = 'APPROPRIATE', disposition_text = 'Seen.',"
        " decided_by = %s, decided_at = now() where id = %s returning id",
        uuid4(),
        row["id"],
    )
    assert [look["id"] for look in await _looks(case.patient)] == [str(one) for one in ids]


async def test_names_are_in_the_reports_only_if_the_practice_chooses_so(
    harness: ApiHarness, case: Case
) -> None:
    await _log(harness, case, "note.read")
    await harness.recording(case, "READY")
    await harness.rows(
        "update resguardo.staff set published_name = 'Dr. Ana Ruiz' where user_id = %s returning user_id",
        case.doctor.user_id,
    )
    (look,) = await _looks(case.patient)
    assert look["who"] == "Your doctor"
    async with harness.another_api(patient_report_names="name") as http:
        patient = replace(case.patient, http=http)
        (look,) = await _looks(patient)
        assert look["who"] == "Dr. Ana Ruiz (your doctor)"
        assert look["text"] == "Dr. Ana Ruiz (your doctor) read the signed note about your consultation."
        (edge,) = (await patient.ask(RECORDED))["edges"]
        assert edge["node"]["doctor"] == "Dr. Ana Ruiz (your doctor)"
        await harness.rows(
            "update resguardo.staff set published_name = null where user_id = %s returning user_id",
            case.doctor.user_id,
        )
        (look,) = await _looks(patient)
        assert look["who"] == "Your doctor"


async def test_legal_entries_are_hidden_while_a_suspension_is_in_effect(
    harness: ApiHarness, case: Case
) -> None:
    await _log(harness, case, "recording.issue_url", purpose="LEGAL")
    await _log(harness, case, "note.read")
    officer = await harness.staff("compliance")
    (row,) = await harness.rows(
        "insert into resguardo.disclosure_suspensions (patient_id, agency, is_written, starts_at, ends_at, placed_by)"
        " values (%s, 'LAW_ENFORCEMENT', true, private.now() - interval '1 day', private.now() + interval '1 day', %s)"
        " returning id",
        UUID(case.patient_id),
        officer.user_id,
    )
    page = await case.patient.ask(REPORT, first=1)
    assert [edge["node"]["why"] for edge in page["edges"]] == [
        "For your treatment, as the doctor of the consultation."
    ]
    assert not page["pageInfo"]["hasNextPage"]
    await harness.rows(
        "update resguardo.disclosure_suspensions set lifted_at = private.now(), lifted_by = %s where id = %s"
        " returning id",
        officer.user_id,
        row["id"],
    )
    assert [look["why"] for look in await _looks(case.patient)] == [
        "For your treatment, as the doctor of the consultation.",
        "For a legal matter, as the doctor of the consultation.",
    ]
