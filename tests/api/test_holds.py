"""Tests of legal holds: one compliance officer places a hold, a second officer releases it, and no held recording
is destroyed.
"""

import asyncio
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, ids_of
from tests.api.holding import LEGAL_HOLDS, PLACE_HOLD, RELEASE_HOLD, hold_input, on_patient, place_hold
from tests.api.shown import named_in, shown_in

pytestmark = pytest.mark.anyio

SINCE, UNTIL = "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"
HOLDS = "select id from resguardo.legal_holds where placed_by = %s"


async def test_hold_on_a_patient_counts_its_recordings_and_is_audited_with_the_patient(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    for _ in range(2):
        await harness.recording(case)
    await harness.recording(await harness.case())
    answer = await officer.send(PLACE_HOLD, hold=on_patient(case.patient_id))
    placed = answer.value
    assert (placed["coveredRecordingCount"], placed["destroyingRecordingCount"]) == (2, 0)
    hold = placed["legalHold"]
    assert (hold["patient"]["id"], hold["consultation"], hold["recordedFrom"]) == (
        case.patient_id,
        None,
        None,
    )
    assert (hold["matter"], hold["custodian"]) == ("Doe v. Roe, 26-cv-1", "Records office")
    assert (hold["placedBy"], hold["isActive"], hold["releasedAt"]) == (
        {"id": str(officer.user_id)},
        True,
        None,
    )
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["entities"][0]["type"]) == (
        "hold.place",
        "ALLOWED",
        "legal_hold",
    )
    assert named_in(row) == shown_in(answer)
    assert named_in(row)["legal_hold"] == {hold["id"]}
    assert row["patient_ids"] == [UUID(case.patient_id)]
    assert "Doe" not in str(row)


async def test_hold_on_a_consultation_covers_only_its_recordings_and_is_audited_with_its_patient(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    await harness.recording(case)
    answer = await officer.send(PLACE_HOLD, hold=hold_input({"consultation": {"id": case.id}}))
    assert answer.value["coveredRecordingCount"] == 1
    (row,) = await harness.audit(answer.request_id)
    assert (row["patient_ids"], row["consultation_ids"]) == ([UUID(case.patient_id)], [UUID(case.id)])


async def test_refused_hold_on_an_external_id_names_the_patient_in_the_audit_log(
    harness: ApiHarness, case: Case
) -> None:
    for external_id, patients in (
        (case.registration["patientExternalId"], [UUID(case.patient_id)]),
        ("unknown", []),
    ):
        answer = await case.doctor.send(PLACE_HOLD, hold=hold_input({"patient": {"externalId": external_id}}))
        assert answer.error.code == "FORBIDDEN"
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"], row["patient_ids"]) == ("hold.place", "DENIED", patients)
        assert row["entities"] == [{"type": "patient", "ids": [str(one) for one in patients]}]


async def test_hold_on_a_range_covers_the_recordings_in_the_range(
    harness: ApiHarness, officer: Person
) -> None:
    recording = await harness.recording(await harness.case(scheduledAt="1980-01-01T09:00:00Z"))
    (row,) = await harness.rows("select created_at from resguardo.recordings where id = %s", recording)
    at = row["created_at"].isoformat()
    for since, until, covered in (("1999-01-01T00:00:00Z", at, 0), (at, "2100-01-01T00:00:00Z", 1)):
        placed = await officer.ask(
            PLACE_HOLD, hold=hold_input({"recordedDuring": {"from": since, "until": until}})
        )
        ids = await harness.rows(
            "select v.id from resguardo.legal_holds as h, private.videos_under(h) as v (id)"
            " where h.id = %s and v.id = %s",
            placed["legalHold"]["id"],
            recording,
        )
        assert len(ids) == covered
        assert placed["coveredRecordingCount"] >= covered
    await harness.rows(
        "delete from resguardo.legal_holds where placed_by = %s", officer.user_id
    )  # The hold covered every recording


async def test_hold_counts_recordings_in_destruction(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    recording = await harness.recording(case)
    await harness.recording(case)
    await harness.rows(
        "insert into resguardo.deletions (recording_id, consultation_id, doctor_id, patient_id, ground, status)"
        " select id, consultation_id, doctor_id, patient_id, 'RETENTION', 'DELETING' from resguardo.recordings"
        " where id = %s",
        recording,
    )
    placed = await officer.ask(PLACE_HOLD, hold=on_patient(case.patient_id))
    assert (placed["coveredRecordingCount"], placed["destroyingRecordingCount"]) == (2, 1)
    await harness.rows("delete from resguardo.deletions where recording_id = %s", recording)


RANGE = {"from": SINCE, "until": UNTIL}
PATIENT = {"patient": {"id": str(uuid4())}}


@pytest.mark.parametrize(
    ("scope", "texts", "reason"),
    [
        ({"recordedDuring": {"from": SINCE}}, {}, "hold_dates"),
        ({"recordedDuring": {"until": UNTIL}}, {}, "hold_dates"),
        ({"recordedDuring": {}}, {}, "hold_dates"),
        ({"recordedDuring": {"from": UNTIL, "until": SINCE}}, {}, "hold_dates"),
        ({"recordedDuring": {"from": SINCE, "until": SINCE}}, {}, "hold_dates"),
        ({"recordedDuring": {"from": "2026-01-01T00:00:00", "until": UNTIL}}, {}, "bad_variable"),
        ({"patient": {"id": "7"}}, {}, "bad_id"),
        (PATIENT, {"matter": ""}, "hold_matter"),
        (PATIENT, {"matter": " \t"}, "hold_matter"),
        (PATIENT, {"matter": "m" * 201}, "hold_matter"),
        (PATIENT, {"custodian": ""}, "hold_custodian"),
        (PATIENT, {"custodian": "c" * 201}, "hold_custodian"),
        (PATIENT, {"custodian": "c\0"}, "bad_text"),
        ({"patient": {"externalId": "m\0"}}, {}, "bad_text"),
    ],
)
async def test_invalid_hold_is_refused(
    harness: ApiHarness, officer: Person, scope: dict[str, object], texts: dict[str, object], reason: str
) -> None:
    assert await officer.refused(PLACE_HOLD, hold=hold_input(scope, **texts)) == ("INVALID_INPUT", reason)
    assert await harness.rows(HOLDS, officer.user_id) == []


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"patient": None},
        {"patient": {}},
        {"patient": {"id": str(uuid4()), "externalId": "mrn"}},
        {"consultation": {"id": str(uuid4())}} | PATIENT,
        {"recordedDuring": RANGE} | PATIENT,
    ],
)
async def test_hold_without_exactly_one_scope_is_refused(
    harness: ApiHarness, officer: Person, scope: dict[str, object]
) -> None:
    answer = await officer.send(PLACE_HOLD, hold=hold_input(scope))
    assert answer.error.code == "INVALID_INPUT"
    assert await harness.rows(HOLDS, officer.user_id) == []


NOBODY = UUID(int=2**128 - 1)


@pytest.mark.parametrize("key", ["id", "externalId"])
@pytest.mark.parametrize("kind", ["consultation", "patient"])
async def test_hold_on_an_unknown_patient_or_consultation_is_not_found_and_audited(
    harness: ApiHarness, officer: Person, kind: str, key: str
) -> None:
    unknown = uuid4()
    answer = await officer.send(PLACE_HOLD, hold=hold_input({kind: {key: str(unknown)}}))
    assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", f"{kind}_not_found")
    (row,) = await harness.audit(answer.request_id)
    named = [unknown if key == "id" else NOBODY]
    assert (row["action"], row["outcome"], row["entities"][0]["type"]) == ("hold.place", "ABSENT", kind)
    assert ids_of(row) == named
    assert await harness.rows(HOLDS, officer.user_id) == []


@pytest.mark.parametrize("kind", ["consultation", "patient"])
async def test_external_id_places_the_same_hold_as_the_id(
    harness: ApiHarness, case: Case, officer: Person, kind: str
) -> None:
    entity = case.id if kind == "consultation" else case.patient_id
    registered = {
        "consultation": case.registration["externalId"],
        "patient": case.registration["patientExternalId"],
    }
    named = [
        await officer.ask(PLACE_HOLD, hold=hold_input({kind: by}))
        for by in ({"id": entity}, {"externalId": registered[kind]})
    ]
    assert named[0]["legalHold"] == named[1]["legalHold"]
    assert named[0]["legalHold"][kind]["id"] == entity


async def test_equal_holds_are_placed_once_per_officer(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    wanted = on_patient(case.patient_id)
    first, again = [await officer.ask(PLACE_HOLD, hold=wanted) for _ in range(2)]
    assert first["legalHold"] == again["legalHold"]
    together = await asyncio.gather(*(officer.ask(PLACE_HOLD, hold=wanted) for _ in range(5)))
    assert {one["legalHold"]["id"] for one in together} == {first["legalHold"]["id"]}
    other = await harness.staff("compliance")
    assert (await other.ask(PLACE_HOLD, hold=wanted))["legalHold"]["id"] != first["legalHold"]["id"]
    differs = await officer.ask(PLACE_HOLD, hold={**wanted, "matter": "another"})
    assert differs["legalHold"]["id"] != first["legalHold"]["id"]
    assert len(await harness.rows(HOLDS, officer.user_id)) == 2


async def test_only_another_officer_releases_a_hold(harness: ApiHarness, case: Case, officer: Person) -> None:
    hold = (await officer.ask(PLACE_HOLD, hold=on_patient(case.patient_id)))["legalHold"]
    refused = await officer.send(RELEASE_HOLD, holdId=hold["id"])
    assert (refused.error.code, refused.error.reason) == ("CONFLICT", "own_hold")
    (row,) = await harness.audit(refused.request_id)
    assert (row["action"], row["outcome"], row["reason"]) == ("hold.release", "FAILED", "own_hold")
    assert row["patient_ids"] == [UUID(case.patient_id)]
    second = await harness.staff("compliance")
    answer = await second.send(RELEASE_HOLD, holdId=hold["id"])
    released = answer.value
    assert (released["isActive"], released["releasedBy"]) == (False, {"id": str(second.user_id)})
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["patient_ids"]) == (
        "hold.release",
        "ALLOWED",
        [UUID(case.patient_id)],
    )
    assert await second.ask(RELEASE_HOLD, holdId=hold["id"]) == released
    third = await harness.staff("compliance")
    assert await third.refused(RELEASE_HOLD, holdId=hold["id"]) == ("CONFLICT", "hold_released")
    assert await officer.refused(RELEASE_HOLD, holdId=hold["id"]) == ("CONFLICT", "own_hold")


async def test_audit_row_of_the_release_of_a_consultations_hold_names_its_patient(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    hold = (await officer.ask(PLACE_HOLD, hold=hold_input({"consultation": {"id": case.id}})))["legalHold"]
    second = await harness.staff("compliance")
    for person in (officer, second):
        answer = await person.send(RELEASE_HOLD, holdId=hold["id"])
        (row,) = await harness.audit(answer.request_id)
        assert (row["patient_ids"], row["consultation_ids"]) == ([UUID(case.patient_id)], [UUID(case.id)])


async def test_only_one_of_two_concurrent_releases_succeeds(harness: ApiHarness, case: Case) -> None:
    hold = str(await place_hold(harness, case))
    people = [await harness.staff("compliance") for _ in range(4)]
    answers = await asyncio.gather(*(person.send(RELEASE_HOLD, holdId=hold) for person in people))
    refused = [answer.error.reason for answer in answers if "errors" in answer.body]
    assert refused == ["hold_released"] * 3


async def test_release_of_an_unknown_hold_is_not_found_and_audited(
    harness: ApiHarness, officer: Person
) -> None:
    unknown = uuid4()
    answer = await officer.send(RELEASE_HOLD, holdId=str(unknown))
    assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "hold_not_found")
    (row,) = await harness.audit(answer.request_id)
    assert (row["outcome"], ids_of(row)) == ("ABSENT", [unknown])
    assert await officer.refused(RELEASE_HOLD, holdId="7") == ("INVALID_INPUT", "bad_id")


async def test_holds_are_listed_newest_first_in_pages_and_the_read_is_audited(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    ids = [str(await place_hold(harness, case)) for _ in range(3)]
    await officer.ask(RELEASE_HOLD, holdId=ids[1])
    for is_active, expected in ((None, ids), (True, [ids[0], ids[2]]), (False, [ids[1]])):
        seen: list[str] = []
        after = None
        while True:
            page = await officer.ask(LEGAL_HOLDS, first=1, after=after, filter={"isActive": is_active})
            seen += [edge["node"]["id"] for edge in page["edges"]]
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"] or set(expected) <= set(seen):
                break
        assert [one for one in seen if one in ids] == list(reversed(expected))
    answer = await officer.send(LEGAL_HOLDS, first=2)
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["row_count"]) == ("hold.list", 2)
    assert UUID(case.patient_id) in row["patient_ids"]
    assert named_in(row) == shown_in(answer)
    assert len(named_in(row)["legal_hold"]) == 2


async def test_bad_pages_are_refused(officer: Person) -> None:
    assert await officer.refused(LEGAL_HOLDS, first=0) == ("INVALID_INPUT", "bad_page_size")
    assert await officer.refused(LEGAL_HOLDS, first=101) == ("INVALID_INPUT", "bad_page_size")
    assert await officer.refused(LEGAL_HOLDS, after="x") == ("INVALID_INPUT", "bad_cursor")


async def test_page_of_holds_counts_against_the_quota(harness: ApiHarness, officer: Person) -> None:
    await harness.spend(officer, "pages", 10_000)
    assert await officer.refused(LEGAL_HOLDS) == ("RATE_LIMITED", "quota_pages")


async def test_hold_and_the_start_of_a_destruction_wait_for_each_other(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    """Tests law 7: the start of each destruction takes a shared lock, and the placing of a legal hold takes the
    exclusive lock.
    """
    async with await psycopg.AsyncConnection.connect(harness.database.superuser_url) as destroying:
        await destroying.execute("select private.lock_keeping(false)")
        placing = asyncio.create_task(officer.ask(PLACE_HOLD, hold=on_patient(case.patient_id)))
        await asyncio.sleep(0.3)
        assert not placing.done()
        await destroying.commit()
    assert (await placing)["legalHold"]["isActive"]


async def test_placing_and_releasing_a_hold_each_queue_the_protection_job(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    queued = (
        "select status from jobs.procrastinate_jobs where task_name = 'secure_held' and args ->> 'id' = %s"
    )
    hold = (await officer.ask(PLACE_HOLD, hold=on_patient(case.patient_id)))["legalHold"]["id"]
    assert len(await harness.rows(queued, hold)) == 1
    second = await harness.staff("compliance")
    await second.ask(RELEASE_HOLD, holdId=hold)
    await second.ask(RELEASE_HOLD, holdId=hold)
    assert len(await harness.rows(queued, hold)) == 2
    await harness.work()
    assert {row["status"] for row in await harness.rows(queued, hold)} <= {"succeeded"}


async def test_doctor_and_patient_cannot_see_a_hold(harness: ApiHarness, case: Case, officer: Person) -> None:
    await officer.ask(PLACE_HOLD, hold=hold_input({"consultation": {"id": case.id}}))
    for person in (case.doctor, case.patient):
        assert (await person.refused(LEGAL_HOLDS))[0] == "FORBIDDEN"
    seen = await case.doctor.send(documents.CONSULTATION, id=case.id)
    assert "Doe" not in seen.response.text
