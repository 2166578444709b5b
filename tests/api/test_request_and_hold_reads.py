"""Access requests and legal holds show their patient and their consultation. Each reader gets what row level security
permits, and one audit row names everything that was shown.
"""

from typing import Any
from uuid import UUID

import pytest

from tests.api import requesting
from tests.api.harness import Answer, ApiHarness, Case, Person
from tests.api.holding import hold_input, place_hold
from tests.api.requesting import insert_access_request

pytestmark = pytest.mark.anyio

PATIENT = "patient { id externalId }"
CONSULTATION = f"""
  consultation {{
    id externalId kind scheduledAt doctor {{ id }} {PATIENT}
    participants {{ id kind mustConsent hasConsented }} consents {{ id decision participant {{ id }} }}
    recordingBlockers {{ reason participant {{ id }} }}
  }}
"""
RECORDINGS = """
  consultation {
    id recordings(first: 25) {
      edges { node { id status isHeld sizeBytes mediaFiles { id } transcription { status } deletion { id status } } }
    }
  }
"""
REQUESTS = """
query ($first: Int! = 25) {{ accessRequests(first: $first) {{ edges {{ node {{ id status {} }} }} }} }}
"""
HOLDS = """
query ($first: Int! = 25) {{ legalHolds(first: $first) {{ edges {{ node {{ id isActive {} }} }} }} }}
"""
MUTATION = "mutation ($input: {0}Input!) {{ {1}(input: $input) {{ {2} }} }}"


async def _request(harness: ApiHarness, case: Case) -> str:
    """Return the id of an access request for the recordings of the case's consultation."""
    (row,) = await harness.rows(
        "update resguardo.access_requests set consultation_id = %s where id = %s returning id",
        UUID(case.id),
        await insert_access_request(harness, case),
    )
    return str(row["id"])


async def _row(harness: ApiHarness, answer: Answer) -> tuple[dict[str, set[str]], Any]:
    """Return the entities of the one audit row of an answer, by their type, and the row."""
    (row,) = await harness.audit(answer.request_id)
    assert "unregistered" not in row["fields"]
    return {one["type"]: set(one["ids"]) for one in row["entities"]}, row


def _shown(case: Case) -> dict[str, Any]:
    """Return the patient and the consultation of a case as they are expected in an answer."""
    patient = {"id": case.patient_id, "externalId": case.registration["patientExternalId"]}
    return {
        "patient": patient,
        "consultation": {
            "id": case.id,
            "externalId": case.registration["externalId"],
            "patient": patient,
            "doctor": {"id": str(case.doctor.user_id)},
        },
    }


def _same(node: dict[str, Any], case: Case) -> bool:
    expected = _shown(case)
    consultation = {name: node["consultation"][name] for name in expected["consultation"]}
    return {"patient": node["patient"], "consultation": consultation} == expected


@pytest.mark.parametrize("reader", ["patient", "officer"])
async def test_reader_of_an_access_request_sees_its_patient_and_its_consultation(
    harness: ApiHarness, case: Case, officer: Person, reader: str
) -> None:
    await case.consent()
    request = await _request(harness, case)
    person = case.patient if reader == "patient" else officer
    answer = await person.send(REQUESTS.format(PATIENT + CONSULTATION), first=1)
    (edge,) = answer.value["edges"]
    node = edge["node"]
    assert node["id"] == request
    assert _same(node, case)
    consultation = node["consultation"]
    assert {one["kind"] for one in consultation["participants"]} == {"DOCTOR", "PATIENT"}
    assert [one["hasConsented"] for one in consultation["participants"]] == [True, True]
    assert len(consultation["consents"]) == 2
    entities, row = await _row(harness, answer)
    participants = {case.participant("DOCTOR"), case.participant("PATIENT")}
    assert entities == {
        "access_request": {request},
        "patient": {case.patient_id},
        "consultation": {case.id},
        "participant": participants,
        "consent": {one["id"] for one in consultation["consents"]},
    }
    assert {"status", "patient.externalId", "consultation.patient.externalId"} <= set(row["fields"])
    assert "consultation.consents.participant.id" in row["fields"]
    assert (row["action"], row["row_count"]) == ("access_request.list", 1)
    assert (row["patient_ids"], row["consultation_ids"]) == ([UUID(case.patient_id)], [UUID(case.id)])


async def test_access_request_for_all_recordings_has_no_consultation(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    request = await insert_access_request(harness, case)
    answer = await officer.send(REQUESTS.format(PATIENT + CONSULTATION), first=1)
    (edge,) = answer.value["edges"]
    assert (edge["node"]["id"], edge["node"]["consultation"]) == (str(request), None)
    entities, _ = await _row(harness, answer)
    assert entities == {"access_request": {str(request)}, "patient": {case.patient_id}}


async def test_officer_sees_the_recordings_of_the_consultation_without_their_content(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    recording = str(await harness.recording(case))
    request = await _request(harness, case)
    answer = await officer.send(REQUESTS.format(RECORDINGS), first=1)
    (edge,) = answer.value["edges"]
    (shown,) = edge["node"]["consultation"]["recordings"]["edges"]
    assert (shown["node"]["id"], shown["node"]["isHeld"]) == (recording, True)
    entities, row = await _row(harness, answer)
    assert entities["access_request"] == {request}
    assert entities["recording"] == {recording}
    assert "consultation.recordings.edges.node.isHeld" in row["fields"]


async def test_patient_sees_no_recordings_of_the_consultation(harness: ApiHarness, case: Case) -> None:
    await harness.recording(case)
    await _request(harness, case)
    answer = await case.patient.send(REQUESTS.format(RECORDINGS))
    (edge,) = answer.value["edges"]
    assert edge["node"]["consultation"] == {"id": case.id, "recordings": {"edges": []}}
    entities, _ = await _row(harness, answer)
    assert entities["consultation"] == {case.id}
    assert "recording" not in entities


async def test_patient_sees_no_access_request_of_another_patient(harness: ApiHarness, case: Case) -> None:
    await _request(harness, case)
    other = await harness.case()
    answer = await other.patient.send(REQUESTS.format(PATIENT + CONSULTATION))
    assert answer.value["edges"] == []
    entities, row = await _row(harness, answer)
    assert {name: ids for name, ids in entities.items() if ids} == {}
    assert row["patient_ids"] == []


@pytest.mark.parametrize("document", [REQUESTS, HOLDS])
async def test_doctor_reads_neither_access_requests_nor_holds(
    harness: ApiHarness, case: Case, document: str
) -> None:
    answer = await case.doctor.send(document.format(PATIENT + CONSULTATION))
    assert (answer.error.code, answer.error.reason) == ("FORBIDDEN", "wrong_role")
    entities, row = await _row(harness, answer)
    assert (entities.get("patient"), row["outcome"]) == (None, "DENIED")


async def test_patient_reads_no_holds(harness: ApiHarness, case: Case) -> None:
    await place_hold(harness, case)
    assert await case.patient.refused(HOLDS.format(PATIENT)) == ("FORBIDDEN", "wrong_role")


async def _ready(harness: ApiHarness, case: Case, field: str) -> tuple[str, dict[str, Any]]:
    """Return the id of an access request that the mutation can change, and the rest of the mutation's input."""
    request = str(
        await insert_access_request(harness, case, requesting.STAGES.get(field, "OPEN"), channel="WRITTEN")
    )
    await harness.rows(
        "update resguardo.access_requests set consultation_id = %s where id = %s", case.id, UUID(request)
    )
    reviewer = await harness.clinician()
    rest: dict[str, dict[str, Any]] = {
        "denyAccessRequest": {"ground": "ENDANGERS_LIFE", "determinedById": str(case.doctor.user_id)},
        "extendAccessRequest": {"reason": "VOLUME"},
        "recordAccessReview": {"reviewerId": str(reviewer.user_id), "outcome": "UPHELD"},
    }
    return request, rest.get(field, {})


CHANGES = {
    "withdrawAccessRequest": ("access_request.withdraw", "status"),
    "approveAccessRequest": ("access_request.approve", "status"),
    "denyAccessRequest": ("access_request.deny", "status"),
    "extendAccessRequest": ("access_request.extend", "status"),
    "askAccessReview": ("access_request.ask_review", "status"),
    "recordAccessReview": ("access_request.review", "status"),
    "revealAccessExportSecret": ("access_request.reveal_secret", "secret"),
}


@pytest.mark.parametrize("field", CHANGES)
async def test_change_of_an_access_request_and_all_that_it_shows_have_one_audit_row(
    harness: ApiHarness, case: Case, officer: Person, field: str
) -> None:
    recording = str(await harness.recording(case))
    request, rest = await _ready(harness, case, field)
    secret = "secret" if field == "revealAccessExportSecret" else ""
    payload = f"accessRequest {{ id status {PATIENT} {CONSULTATION} {RECORDINGS} }} {secret}"
    document = MUTATION.format(field[0].upper() + field[1:], field, payload)
    answer = await officer.send(document, input={"accessRequestId": request, **rest})
    node = answer.data[field]["accessRequest"]
    assert node["id"] == request
    assert _same(node, case)
    assert [one["node"]["id"] for one in node["consultation"]["recordings"]["edges"]] == [recording]
    entities, row = await _row(harness, answer)
    action, changed = CHANGES[field]
    assert (row["action"], row["outcome"], row["row_count"]) == (action, "ALLOWED", 1)
    assert entities == {
        "access_request": {request},
        "patient": {case.patient_id},
        "consultation": {case.id},
        "participant": {case.participant("DOCTOR"), case.participant("PATIENT")},
        "recording": {recording},
    }
    assert {changed, "patient.externalId", "consultation.recordings.edges.node.id"} <= set(row["fields"])


@pytest.mark.parametrize("field", ["requestAccess", "recordAccessRequest"])
async def test_filed_access_request_shows_the_state_after_the_change(
    harness: ApiHarness, case: Case, officer: Person, field: str
) -> None:
    is_written = field == "recordAccessRequest"
    recording = str(await harness.recording(case))
    (today,) = await harness.rows("select private.today()::text as today")
    written = {"patient": {"id": case.patient_id}, "receivedOn": today["today"]}
    given = {"consultation": {"id": case.id}, **(written if is_written else {})}
    nested = RECORDINGS if is_written else ""
    payload = f"accessRequest {{ id status {PATIENT} {CONSULTATION} {nested} }}"
    document = MUTATION.format(field[0].upper() + field[1:], field, payload)
    answer = await (officer if is_written else case.patient).send(document, input=given)
    node = answer.data[field]["accessRequest"]
    assert node["status"] == "OPEN"
    assert _same(node, case)
    if is_written:
        (edge,) = node["consultation"]["recordings"]["edges"]
        assert (edge["node"]["id"], edge["node"]["isHeld"]) == (recording, True), "the request holds it now"
    entities, row = await _row(harness, answer)
    assert (row["action"], row["outcome"]) == ("access_request.file", "ALLOWED")
    assert entities["access_request"] == {node["id"]}
    assert entities["patient"] == {case.patient_id}
    assert {"id", "status", "patient.externalId"} <= set(row["fields"])


async def test_secret_comes_with_the_access_request_that_it_changed(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    request = str(await insert_access_request(harness, case, "FULFILLED"))
    shown = await officer.ask(requesting.REVEAL_SECRET, requestId=request)
    assert shown["secret"] == "ABCD"
    assert shown["accessRequest"]["id"] == request
    assert shown["accessRequest"]["export"]["secretRevealedAt"] is not None


@pytest.mark.parametrize("field", ["withdrawAccessRequest", "askAccessReview"])
async def test_refused_change_shows_nothing_and_has_one_audit_row(
    harness: ApiHarness, case: Case, field: str
) -> None:
    request, _ = await _ready(harness, case, field)
    other = await harness.case()
    document = MUTATION.format(
        field[0].upper() + field[1:], field, f"accessRequest {{ id {PATIENT} {CONSULTATION} }}"
    )
    for person, code, outcome in (
        (other.patient, "NOT_FOUND", "DENIED"),
        (case.doctor, "FORBIDDEN", "DENIED"),
    ):
        answer = await person.send(document, input={"accessRequestId": request})
        assert (answer.error.code, answer.body["data"]) == (code, {field: None})
        entities, row = await _row(harness, answer)
        assert (entities, row["outcome"], row["fields"]) == ({"access_request": {request}}, outcome, [])


@pytest.mark.parametrize("kind", ["consultation", "patient", "recordedDuring"])
async def test_placed_and_released_hold_shows_its_scope_in_one_audit_row(
    harness: ApiHarness, case: Case, officer: Person, kind: str
) -> None:
    recording = str(await harness.recording(case))
    scopes: dict[str, dict[str, Any]] = {
        "consultation": {"externalId": case.registration["externalId"]},
        "patient": {"id": case.patient_id},
        "recordedDuring": {"from": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"},
    }
    nested = f"legalHold {{ id isActive {PATIENT} {CONSULTATION} {RECORDINGS} }}"
    placed = await officer.send(
        MUTATION.format("PlaceLegalHold", "placeLegalHold", f"{nested} coveredRecordingCount"),
        input=hold_input({kind: scopes[kind]}),
    )
    hold = placed.data["placeLegalHold"]["legalHold"]
    second = await harness.staff("compliance")
    released = await second.send(
        MUTATION.format("ReleaseLegalHold", "releaseLegalHold", nested), input={"legalHoldId": hold["id"]}
    )
    listed = await officer.send(HOLDS.format(PATIENT + CONSULTATION + RECORDINGS), first=1)
    after = released.data["releaseLegalHold"]["legalHold"]
    assert (hold["isActive"], after["isActive"]) == (True, False)
    for shown in (hold, after, listed.value["edges"][0]["node"]):
        assert (shown["patient"] is None) == (kind != "patient")
        assert (shown["consultation"] is None) == (kind != "consultation")
        expected = _shown(case)
        if kind == "patient":
            assert shown["patient"] == expected["patient"]
        if kind == "consultation":
            assert shown["consultation"]["patient"] == expected["patient"]
    if kind == "consultation":
        (before,) = hold["consultation"]["recordings"]["edges"]
        (later,) = after["consultation"]["recordings"]["edges"]
        assert (before["node"]["isHeld"], later["node"]["isHeld"]) == (True, False)
    patients = [] if kind == "recordedDuring" else [UUID(case.patient_id)]
    for answer, action in ((placed, "hold.place"), (released, "hold.release"), (listed, "hold.list")):
        entities, row = await _row(harness, answer)
        assert (row["action"], row["outcome"], row["row_count"]) == (action, "ALLOWED", 1)
        assert row["patient_ids"] == patients
        assert entities["legal_hold"] == {hold["id"]}
        assert entities.get("patient") == ({case.patient_id} if patients else None)
        assert entities.get("consultation") == ({case.id} if kind == "consultation" else None)
        assert entities.get("recording") == ({recording} if kind == "consultation" else None)
        assert {"isActive", "patient.externalId", "consultation.patient.externalId"} <= set(row["fields"])
        assert ("coveredRecordingCount" in row["fields"]) is (answer is placed)


@pytest.mark.parametrize("document", [REQUESTS, HOLDS])
async def test_page_of_25_with_everything_nested_is_one_statement_with_one_audit_row(
    harness: ApiHarness, officer: Person, document: str
) -> None:
    ids = []
    for _ in range(25):
        case = await harness.case()
        await harness.recording(case, "FAILED")
        ids.append(
            await _request(harness, case)
            if document is REQUESTS
            else str(harness.practice.hold(case.doctor.user_id, consultation_id=UUID(case.id)))
        )
    answer = await officer.send(document.format(PATIENT + CONSULTATION + RECORDINGS))
    nodes = [edge["node"] for edge in answer.value["edges"]]
    assert [one["id"] for one in nodes] == ids[::-1]
    assert all(len(one["consultation"]["recordings"]["edges"]) == 1 for one in nodes)
    entities, row = await _row(harness, answer)
    assert row["row_count"] == 25
    kind = "access_request" if document is REQUESTS else "legal_hold"
    assert {name: len(shown) for name, shown in entities.items()} == {
        kind: 25,
        "patient": 25,
        "consultation": 25,
        "participant": 50,
        "recording": 25,
    }
