"""Tests of shares and emergency access through the API."""

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.api import documents, sharing
from tests.api.harness import ApiHarness, Case, Person

LIST = "query { consultations(first: 10) { edges { node { id accessBasis } } } }"
ONE = "query ($id: ID!) { consultation(by: {id: $id}) { id accessBasis shares { edges { node { id } } } } }"


async def _share(harness: ApiHarness, **given: object) -> tuple[Case, Person, str]:
    """Return a case that its doctor shares, the colleague, and the id of the share."""
    case, colleague = await harness.case(), await harness.clinician()
    await case.consent()
    wanted = sharing.share_input(case, colleague.user_id, **given)
    made = await case.doctor.ask(sharing.SHARE_CONSULTATION, share=wanted)
    return case, colleague, made["id"]


async def test_colleague_finds_the_shared_consultation_in_the_list_until_the_share_ends(
    harness: ApiHarness,
) -> None:
    case, colleague, share = await _share(harness)
    own = await harness.case(colleague)
    listed = await colleague.ask(LIST)
    assert {edge["node"]["id"]: edge["node"]["accessBasis"] for edge in listed["edges"]} == {
        case.id: "SHARED",
        own.id: "TREATING_CLINICIAN",
    }
    assert (await colleague.ask(ONE, id=case.id))["shares"]["edges"] == [{"node": {"id": share}}]
    ended = await case.doctor.ask(sharing.END_SHARE, shareId=share)
    assert (ended["isActive"], ended["endReason"]) == (False, "ENDED_BY_DOCTOR")
    assert [edge["node"]["id"] for edge in (await colleague.ask(LIST))["edges"]] == [own.id]
    assert await colleague.refused(ONE, id=case.id) == ("NOT_FOUND", "consultation_not_found")


async def test_list_page_has_own_and_shared_rows_in_the_order_of_time(harness: ApiHarness) -> None:
    case, colleague, _ = await _share(harness)
    own = [await harness.case(colleague, scheduledAt=f"2026-11-2{day}T15:00:00+00:00") for day in (0, 3)]
    listed = await colleague.ask(LIST)
    assert [edge["node"]["id"] for edge in listed["edges"]] == [own[1].id, case.id, own[0].id]


async def test_playback_url_of_a_colleague_is_valid_no_longer_than_the_share(harness: ApiHarness) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=40)).isoformat()
    case, colleague, _ = await _share(harness, endsAt=soon)
    recording = str(await harness.recording(case))
    about = {"recordingId": recording, "purposeOfUse": "TREATMENT"}
    issued = await colleague.ask(documents.ISSUE_PLAYBACK_URL, **about)
    assert 1 <= issued["expiresInSeconds"] <= 40
    assert await colleague.refused(documents.ISSUE_URL, **about) == ("NOT_FOUND", "recording_not_found")


@pytest.mark.parametrize(
    ("document", "refusal"),
    [
        (documents.STOP, {("FORBIDDEN", "not_permitted")}),
        (documents.START, {("FORBIDDEN", "not_permitted")}),
        (documents.JOIN, {("NOT_FOUND", "consultation_not_found")}),
    ],
)
async def test_colleague_changes_nothing_and_joins_no_room(
    harness: ApiHarness, document: str, refusal: set[tuple[str, str]]
) -> None:
    case, colleague, _ = await _share(harness)
    variables: dict[str, object] = {"consultationId": case.id}
    if document is documents.STOP:
        variables = {"recordingId": str(await harness.recording(case, "RECORDING"))}
    assert await colleague.refused(document, **variables) in refusal


async def test_withdrawal_of_the_patient_ends_the_share_at_once(harness: ApiHarness) -> None:
    case, colleague, _ = await _share(harness)
    await case.patient.ask(documents.WITHDRAW_CONSENT, participantId=case.participant("PATIENT"))
    assert await colleague.refused(ONE, id=case.id) == ("NOT_FOUND", "consultation_not_found")


async def test_share_without_the_new_text_is_refused(harness: ApiHarness) -> None:
    case = await harness.case()
    wanted = sharing.share_input(case, (await harness.clinician()).user_id)
    assert await case.doctor.refused(sharing.SHARE_CONSULTATION, share=wanted) == (
        "CONFLICT",
        "share_consent",
    )


async def test_break_glass_shows_one_patient_with_the_basis_emergency(harness: ApiHarness) -> None:
    case, other = await harness.case(), await harness.case()
    for one in (case, other):
        await one.consent()
    clinician = await harness.clinician()
    glass = {"patientExternalId": await sharing.external_id_of(harness, case), "reason": "RISK_OF_HARM"}
    answer = await clinician.send(sharing.BREAK_GLASS, glass=glass)
    begun = answer.body["data"]["breakGlass"]["emergencyAccess"]
    assert (begun["patient"]["externalId"], begun["isActive"]) == (glass["patientExternalId"], True)
    events = [one for one in await harness.audit(answer.request_id) if one["action"] == "patient.break_glass"]
    assert [(one["basis"], one["reason"]) for one in events] == [("emergency", "risk_of_harm")]
    read = await clinician.send(ONE, id=case.id)
    assert read.body["data"]["consultation"]["accessBasis"] == "EMERGENCY"
    assert [event["basis"] for event in await harness.audit(read.request_id)] == ["emergency"]
    assert await clinician.refused(ONE, id=other.id) == ("NOT_FOUND", "consultation_not_found")
    officer = await harness.staff("compliance")
    listed = await officer.ask(sharing.EMERGENCY_ACCESSES)
    assert begun["id"] in {edge["node"]["id"] for edge in listed["edges"]}
    rows = await harness.rows("select status from resguardo.review_cases where case_key = %s", begun["id"])
    assert [row["status"] for row in rows] == ["OPEN"]


async def test_break_glass_with_an_old_code_or_on_an_own_patient_is_refused(harness: ApiHarness) -> None:
    case = await harness.case()
    glass = {"patientExternalId": await sharing.external_id_of(harness, case), "reason": "DISASTER"}
    stale = await harness.clinician(totp_at=time.time() - 600)
    assert await stale.refused(sharing.BREAK_GLASS, glass=glass) == ("FORBIDDEN", "totp_stale")
    assert await case.doctor.refused(sharing.BREAK_GLASS, glass=glass) == (
        "CONFLICT",
        "emergency_own_patient",
    )
    unknown = {"patientExternalId": "nobody knows", "reason": "DISASTER"}
    clinician = await harness.clinician()
    assert await clinician.refused(sharing.BREAK_GLASS, glass=unknown) == ("NOT_FOUND", "patient_not_found")


async def test_registration_with_the_external_id_of_a_shared_consultation_is_refused(
    harness: ApiHarness,
) -> None:
    case, colleague, _ = await _share(harness)
    (row,) = await harness.rows(
        "select c.external_id, p.external_id as patient, c.scheduled_at from resguardo.consultations as c"
        " inner join resguardo.patients as p on p.id = c.patient_id where c.id = %s",
        UUID(case.id),
    )
    wanted = {
        "externalId": row["external_id"],
        "patientExternalId": row["patient"],
        "scheduledAt": row["scheduled_at"].isoformat(),
        "kind": "follow_up",
    }
    code, _ = await colleague.refused(documents.REGISTER, consultation=wanted)
    assert code == "CONFLICT"
