"""Tests of keyset pagination of consultations and recordings."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.postgres.paging import Cursor, decode_cursor
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person
from tests.api.requesting import ACCESS_REQUESTS, REQUEST_ACCESS

pytestmark = pytest.mark.anyio

LISTS = {"consultations": documents.CONSULTATIONS, "recordings": documents.RECORDINGS}


async def _ids(person: Person, document: str, **variables: object) -> list[str]:
    page = await person.ask(document, **variables)
    return [edge["node"]["id"] for edge in page["edges"]]


async def _walk(person: Person, document: str, first: int) -> list[str]:
    seen: list[str] = []
    after, has_next = None, True
    while has_next:
        page = await person.ask(document, first=first, after=after)
        assert len(page["edges"]) <= first
        seen += [edge["node"]["id"] for edge in page["edges"]]
        after, has_next = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    return seen


async def _consultations(harness: ApiHarness, doctor: Person, count: int, **given: object) -> list[Case]:
    day = datetime(2026, 11, 21, 9, tzinfo=UTC)
    return [
        await harness.case(doctor, **({"scheduledAt": (day + timedelta(hours=hour)).isoformat()} | given))
        for hour in range(count)
    ]


async def test_consultations_are_listed_newest_appointment_first_in_pages(harness: ApiHarness) -> None:
    doctor = await harness.clinician()
    cases = await _consultations(harness, doctor, 5)
    newest_first = [case.id for case in reversed(cases)]
    assert await _walk(doctor, documents.CONSULTATIONS, 2) == newest_first
    assert await _ids(doctor, documents.CONSULTATIONS) == newest_first
    assert await _ids(cases[0].patient, documents.CONSULTATIONS) == [cases[0].id]


async def test_consultations_at_the_same_time_are_listed_once(harness: ApiHarness) -> None:
    doctor = await harness.clinician()
    cases = await _consultations(harness, doctor, 5, scheduledAt="2026-11-21T09:00:00Z")
    seen = await _walk(doctor, documents.CONSULTATIONS, 2)
    assert sorted(seen) == sorted(case.id for case in cases)


async def test_page_info_has_the_cursors_and_no_previous_page(harness: ApiHarness) -> None:
    doctor = await harness.clinician()
    await _consultations(harness, doctor, 3)
    page = await doctor.ask(documents.CONSULTATIONS, first=2)
    assert page["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": page["edges"][0]["cursor"],
        "endCursor": page["edges"][1]["cursor"],
    }
    rest = await doctor.ask(documents.CONSULTATIONS, after=page["pageInfo"]["endCursor"])
    assert (len(rest["edges"]), rest["pageInfo"]["hasNextPage"]) == (1, False)


async def test_empty_list_has_no_cursors(other_doctor: Person) -> None:
    for document in LISTS.values():
        assert await other_doctor.ask(document) == {
            "edges": [],
            "pageInfo": {
                "hasNextPage": False,
                "hasPreviousPage": False,
                "startCursor": None,
                "endCursor": None,
            },
        }


async def test_next_page_does_not_depend_on_new_rows(harness: ApiHarness) -> None:
    doctor = await harness.clinician()
    cases = await _consultations(harness, doctor, 4)
    first = await doctor.ask(documents.CONSULTATIONS, first=2)
    await harness.case(doctor, scheduledAt="2026-12-24T09:00:00Z")
    await harness.case(doctor, scheduledAt="2026-11-21T10:30:00Z")
    after = first["pageInfo"]["endCursor"]
    second = await _ids(doctor, documents.CONSULTATIONS, first=10, after=after)
    assert [id_ for id_ in second if id_ in {case.id for case in cases}] == [cases[1].id, cases[0].id]
    assert len(second) == 3


async def test_cursor_of_another_doctor_shows_only_the_callers_rows(harness: ApiHarness) -> None:
    doctor, other = await harness.clinician(), await harness.clinician()
    (mine,), (theirs,) = [await _consultations(harness, one, 1) for one in (doctor, other)]
    cursor = Cursor(datetime(2030, 1, 1, tzinfo=UTC), UUID(theirs.id)).encode()
    assert await _ids(doctor, documents.CONSULTATIONS, after=cursor) == [mine.id]


@pytest.mark.parametrize("document", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("first", [0, -1, 101, 2_147_483_647])
async def test_page_size_out_of_bounds_is_refused(other_doctor: Person, document: str, first: int) -> None:
    assert await other_doctor.refused(document, first=first) == ("INVALID_INPUT", "bad_page_size")


async def test_page_size_error_names_the_limits(other_doctor: Person) -> None:
    answer = await other_doctor.send("{ recordings(first: 101) { edges { cursor } } }")
    assert answer.error.message == "The page size must be from 1 to 100. Correct the request."
    assert await other_doctor.ask("{ recordings(first: 100) { edges { cursor } } }") == {"edges": []}


def _cursor(*values: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


BAD_CURSORS = [
    "",
    "x",
    "not base64!",
    "é",
    "A" * 201,
    _cursor(),
    _cursor(1, 2),
    _cursor(None, None),
    _cursor("2026-11-21T09:00:00", str(UUID(int=1))),
    _cursor("yesterday", str(UUID(int=1))),
    _cursor("2026-11-21T09:00:00Z", "7"),
    _cursor("2026-11-21T09:00:00Z", str(UUID(int=1)), "more"),
]


@pytest.mark.parametrize("document", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("cursor", BAD_CURSORS, ids=range(len(BAD_CURSORS)))
async def test_bad_cursor_is_refused(other_doctor: Person, document: str, cursor: str) -> None:
    assert await other_doctor.refused(document, after=cursor) == ("INVALID_INPUT", "bad_cursor")


@pytest.mark.parametrize(
    "at",
    [
        "2026-11-21T09:00:00+00:00:00.000001",
        "2026-11-21T09:00:00-23:59:59",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
    ],
)
async def test_cursor_with_an_extreme_time_is_accepted_or_refused(case: Case, at: str) -> None:
    answer = await case.doctor.send(documents.CONSULTATIONS, after=_cursor(at, str(uuid4())))
    assert "errors" not in answer.body or answer.error.reason == "bad_cursor"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
_TEXTS = st.text(max_size=250) | st.one_of(
    st.binary(max_size=120), _JSON.map(lambda value: json.dumps(value).encode())
).map(lambda raw: base64.urlsafe_b64encode(raw).decode())


@given(_TEXTS)
@example(_cursor("9999-12-31T23:59:59-23:59", str(uuid4())))
@settings(max_examples=300)
def test_arbitrary_text_as_a_cursor_is_accepted_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        found = decode_cursor(text)
        assert decode_cursor(found.encode()) == found


@given(st.datetimes(timezones=st.timezones()), st.uuids())
def test_cursor_survives_its_encoding(at: datetime, row_id: UUID) -> None:
    try:
        at = at.astimezone(UTC)
    except OverflowError:
        return
    assert decode_cursor(Cursor(at, row_id).encode()) == Cursor(at, row_id)


@pytest.fixture
async def three(harness: ApiHarness, case: Case) -> dict[str, str]:
    """Return three recordings of one consultation: the oldest is FAILED, the other two are READY."""
    ages = {"old": ("FAILED", 3), "middle": ("READY", 2), "new": ("READY", 1)}
    return {
        name: str(await harness.recording(case, status, age=timedelta(days=days)))
        for name, (status, days) in ages.items()
    }


async def test_recordings_are_listed_newest_first_with_their_consultation(
    case: Case, three: dict[str, str]
) -> None:
    page = await case.doctor.ask(documents.RECORDINGS)
    assert [edge["node"]["id"] for edge in page["edges"]] == [three["new"], three["middle"], three["old"]]
    assert page["edges"][0]["node"]["consultation"] == {
        name: case.consultation[name] for name in ("id", "externalId", "scheduledAt", "kind", "sensitivity")
    }
    assert await _walk(case.doctor, documents.RECORDINGS, 1) == [three["new"], three["middle"], three["old"]]


def _days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, ["new", "middle", "old"]),
        ({"statuses": ["FAILED"]}, ["old"]),
        ({"statuses": ["READY", "LOST"]}, ["new", "middle"]),
        ({"statuses": []}, []),
        ({"createdDuring": {"from": _days_ago(2.5)}}, ["new", "middle"]),
        ({"createdDuring": {"until": _days_ago(1.5)}}, ["middle", "old"]),
        ({"createdDuring": {"from": _days_ago(2.5), "until": _days_ago(1.5)}}, ["middle"]),
        ({"statuses": ["READY"], "createdDuring": {"until": _days_ago(1.5)}}, ["middle"]),
        ({"roomName": "tests_nowhere"}, []),
        ({"consultation": {"id": str(uuid4())}}, []),
        ({"consultation": {"externalId": "visit-nowhere"}}, []),
    ],
)
async def test_recordings_are_filtered(
    case: Case, three: dict[str, str], wanted: dict[str, Any], names: list[str]
) -> None:
    assert await _ids(case.doctor, documents.RECORDINGS, filter=wanted) == [three[name] for name in names]


ENUM_FILTERS = [
    (documents.DELETIONS, {"statuses": []}),
    (documents.DELETIONS, {"statuses": [], "isFailing": True}),
    (ACCESS_REQUESTS, {"statuses": []}),
    (documents.AUDIT_EVENTS, {"outcomes": []}),
    (documents.AUDIT_EVENTS, {"outcomes": [], "action": "audit.list"}),
    (documents.STAFF, {"roles": []}),
    (documents.STAFF, {"statuses": []}),
]


@pytest.mark.parametrize(("document", "wanted"), ENUM_FILTERS)
async def test_filter_with_no_value_of_an_enum_selects_nothing(
    case: Case, officer: Person, recording: UUID, document: str, wanted: dict[str, Any]
) -> None:
    await case.doctor.ask(documents.DELETE_RECORDING, id=str(recording), reason="OTHER")
    await case.patient.ask(REQUEST_ACCESS, request={})
    await officer.ask(documents.AUDIT_EVENTS)
    assert await _ids(officer, document, filter=wanted) == []
    assert await _ids(officer, document, filter={}) != []


async def test_recordings_are_filtered_by_consultation_and_room(
    harness: ApiHarness, three: dict[str, str]
) -> None:
    doctor = await harness.clinician()
    cases = await _consultations(harness, doctor, 2)
    ids = [str(await harness.recording(case)) for case in cases]
    (by_id, by_external_id) = ({key: cases[1].consultation[key]} for key in ("id", "externalId"))
    room = {"roomName": cases[1].consultation["roomName"]}
    both = {"consultation": by_id, "patient": {"externalId": cases[1].consultation["patient"]["externalId"]}}
    for wanted in ({"consultation": by_id}, {"consultation": by_external_id}, room, both):
        assert await _ids(doctor, documents.RECORDINGS, filter=wanted) == [ids[1]]
    assert not await _ids(doctor, documents.RECORDINGS, filter={"roomName": "nul\0"[:3]})


async def test_only_their_doctor_finds_the_recordings_of_a_consultation(
    harness: ApiHarness, other_doctor: Person, case: Case
) -> None:
    recording = await harness.recording(case)
    for key in ("id", "externalId"):
        wanted = {"consultation": {key: case.consultation[key]}}
        assert await _ids(case.doctor, documents.RECORDINGS, filter=wanted) == [str(recording)]
        assert await _ids(other_doctor, documents.RECORDINGS, filter=wanted) == []


@pytest.mark.parametrize(
    ("wanted", "refusal"),
    [
        ({"consultation": {"externalId": "nul\0"}}, ("INVALID_INPUT", "bad_text")),
        ({"consultation": {}}, ("INVALID_INPUT", "not_one_field")),
        ({"egressId": "EG_1"}, ("INVALID_INPUT", "unknown_input_field")),
        ({"createdDuring": {"from": "2026-11-21T09:00:00"}}, ("INVALID_INPUT", "bad_variable")),
        ({"createdDuring": {"until": "2026-11-21"}}, ("INVALID_INPUT", "bad_variable")),
        ({"createdDuring": {"until": "soon"}}, ("INVALID_INPUT", "bad_variable")),
        ({"statuses": ["DONE"]}, ("INVALID_INPUT", "bad_variable")),
        ({"consultation": {"id": "7"}}, ("INVALID_INPUT", "bad_id")),
        ({"roomName": "nul\0"}, ("INVALID_INPUT", "bad_text")),
    ],
)
async def test_bad_filter_of_recordings_is_refused(
    other_doctor: Person, wanted: dict[str, Any], refusal: tuple[str, str]
) -> None:
    assert await other_doctor.refused(documents.RECORDINGS, filter=wanted) == refusal


@pytest.mark.parametrize("at", ["2026-11-21T09:00:00+00:00:00.000001", "9999-12-31T23:59:59-23:59"])
async def test_extreme_dates_cause_no_internal_error(other_doctor: Person, at: str) -> None:
    answer = await other_doctor.send(documents.RECORDINGS, filter={"createdDuring": {"until": at}})
    assert "errors" not in answer.body or answer.error.code in ("INVALID_INPUT", "INVALID_INPUT")


async def test_pages_beyond_the_quota_are_refused_and_audited(
    harness: ApiHarness, other_doctor: Person
) -> None:
    await harness.spend(other_doctor, "pages", 1200)
    answer = await other_doctor.send(documents.RECORDINGS)
    assert (answer.error.code, answer.error.reason) == ("RATE_LIMITED", "quota_pages")
    assert answer.error.extensions["retryable"] is True
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["reason"]) == ("recording.list", "DENIED", "quota_pages")


@pytest.mark.parametrize("who", ["doctor", "patient"])
async def test_consultations_are_filtered_by_patient_and_time(harness: ApiHarness, who: str) -> None:
    first = await harness.case(scheduledAt="2026-11-21T15:00:00Z")
    second = await harness.case(first.doctor, scheduledAt="2026-11-22T15:00:00Z")
    person = first.doctor if who == "doctor" else first.patient
    own = {first.id, second.id} if who == "doctor" else {first.id}
    others = await harness.case()
    for wanted, expected in (
        ({}, own),
        ({"patient": {"id": first.patient_id}}, {first.id}),
        ({"patient": {"externalId": first.registration["patientExternalId"]}}, {first.id}),
        ({"patient": {"id": others.patient_id}}, set()),
        ({"patient": {"externalId": "nobody"}}, set()),
        ({"scheduledDuring": {"from": "2026-11-21T15:00:00Z", "until": "2026-11-22T15:00:00Z"}}, {first.id}),
        ({"scheduledDuring": {"from": "2026-11-21T15:00:01Z"}}, own - {first.id}),
        ({"scheduledDuring": {"until": "2026-11-21T15:00:00Z"}}, set()),
        (
            {"patient": {"id": first.patient_id}, "scheduledDuring": {"from": "2026-11-22T00:00:00Z"}},
            set(),
        ),
    ):
        page = await person.ask(
            "query ($filter: ConsultationFilter) {"
            " consultations(filter: $filter) { edges { node { id } } pageInfo { hasNextPage } } }",
            filter=wanted,
        )
        assert {edge["node"]["id"] for edge in page["edges"]} == expected, wanted


async def test_recordings_are_filtered_by_patient(harness: ApiHarness) -> None:
    first = await harness.case()
    second = await harness.case(first.doctor)
    others = await harness.case()
    recording = str(await harness.recording(first))
    await harness.recording(second)
    await harness.recording(others)
    for by, expected in (
        ({"id": first.patient_id}, [recording]),
        ({"externalId": first.registration["patientExternalId"]}, [recording]),
        ({"id": others.patient_id}, []),
        ({"externalId": others.registration["patientExternalId"]}, []),
    ):
        page = await first.doctor.ask(documents.RECORDINGS, filter={"patient": by})
        assert [edge["node"]["id"] for edge in page["edges"]] == expected
