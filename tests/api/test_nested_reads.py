"""One statement reads a root field however deep its fields are nested, and one audit row names all that was shown."""

from uuid import UUID

import pytest

from tests.api.harness import ApiHarness, Case
from tests.api.shown import named_in, shown_in

PAGE = """
query ($id: ID!, $after: String, $with: Boolean! = true) {
  consultation(by: {id: $id}) {
    id patient { id externalId }
    participants { id kind mustConsent }
    newest: recordings(first: 1) { edges { node { id status } } pageInfo { hasNextPage endCursor } }
    rest: recordings(first: 25, after: $after) {
      edges { node { id ...Whole @include(if: $with) } } pageInfo { hasNextPage }
    }
  }
}
fragment Whole on Recording { consultation { externalId participants { id } } }
"""


@pytest.fixture
async def case(harness: ApiHarness) -> Case:
    return await harness.case()


async def test_pages_inside_an_entity_follow_one_another(harness: ApiHarness, case: Case) -> None:
    ids = [str(await harness.recording(case, "FAILED")) for _ in range(3)]
    first = await case.doctor.ask(PAGE, id=case.id)
    (edge,) = first["newest"]["edges"]
    assert (edge["node"], first["newest"]["pageInfo"]["hasNextPage"]) == (
        {"id": ids[-1], "status": "FAILED"},
        True,
    )
    later = await case.doctor.ask(PAGE, id=case.id, after=first["newest"]["pageInfo"]["endCursor"])
    assert [one["node"]["id"] for one in later["rest"]["edges"]] == ids[-2::-1]
    assert later["rest"]["pageInfo"]["hasNextPage"] is False
    nested = later["rest"]["edges"][0]["node"]["consultation"]
    assert nested["externalId"] == case.consultation["externalId"]
    assert len(nested["participants"]) == 2


PAGE_IN_PAGE = "recordings(first: 1) { edges { node { consultation { ...inner @include(if: $deep) } } } }"
DEEP = f"""
query ($deep: Boolean! = false) {{
  recordings {{ edges {{ node {{ consultation {{ ...outer }} }} }} }}
}}
fragment outer on Consultation {{ a: {PAGE_IN_PAGE} }}
fragment inner on Consultation {{ b: recordings(first: 1) {{ edges {{ node {{ id }} }} }} }}
"""


@pytest.mark.parametrize("is_deep", [False, True])
async def test_page_in_a_nested_page_is_refused_before_anything_is_read(
    harness: ApiHarness, case: Case, is_deep: bool
) -> None:
    await harness.recording(case, "FAILED")
    answer = await case.doctor.send(DEEP, deep=is_deep)
    assert "data" not in answer.body
    assert (answer.error.code, answer.error.reason) == ("TOO_COMPLEX", "page_in_nested_page")
    assert "operation of its own" in answer.error.message
    assert await harness.audit(answer.request_id) == []


async def test_operation_with_too_large_pages_is_refused_before_anything_is_read(
    harness: ApiHarness, case: Case
) -> None:
    await harness.recording(case, "FAILED")
    document = """
    query ($first: Int!, $nested: Int! = 25) {
      consultations(first: $first) { edges { node {
        a: recordings(first: $nested) { edges { node { id } } }
        ...later
      } } }
    }
    fragment later on Consultation { b: recordings(first: $nested) { edges { cursor } } }
    """
    answer = await case.doctor.send(document, first=100)
    assert (answer.error.code, answer.error.reason) == ("TOO_COMPLEX", "too_many_page_objects")
    assert answer.error.details == {"count": 5100, "limit": 3000}
    assert await harness.audit(answer.request_id) == []
    assert (await case.doctor.send(document, first=50)).data["consultations"]["edges"]
    assert (await case.doctor.send(document, first=100, nested=14)).data["consultations"]["edges"]


async def test_one_audit_row_names_every_entity_that_was_shown(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case, "FAILED")
    answer = await case.doctor.send(PAGE, id=case.id)
    (row,) = await harness.audit(answer.request_id)
    shown = {one["type"]: set(one["ids"]) for one in row["entities"]}
    assert shown == {
        "consultation": {case.id},
        "patient": {case.patient_id},
        "participant": {case.participant("DOCTOR"), case.participant("PATIENT")},
        "recording": {str(recording)},
    }
    assert {"patient.externalId", "recordings.edges.node.consultation.externalId"} <= set(row["fields"])
    assert "unregistered" not in row["fields"]
    assert row["patient_ids"] == [UUID(case.patient_id)]


async def test_fields_that_a_directive_excludes_are_neither_read_nor_audited(
    harness: ApiHarness, case: Case
) -> None:
    await harness.recording(case, "FAILED")
    answer = await case.doctor.send(PAGE, id=case.id, **{"with": False})
    assert answer.data["consultation"]["rest"]["edges"][0]["node"].keys() == {"id"}
    (row,) = await harness.audit(answer.request_id)
    assert not [path for path in row["fields"] if "node.consultation" in path]


@pytest.mark.parametrize("first", [0, 26, -1])
async def test_page_inside_an_entity_has_at_most_25_items(case: Case, first: int) -> None:
    document = """
    query ($id: ID!, $first: Int!) {
      consultation(by: {id: $id}) { recordings(first: $first) { edges { node { id } } } }
    }
    """
    assert await case.doctor.refused(document, id=case.id, first=first) == ("INVALID_INPUT", "bad_page_size")


async def test_recording_of_another_doctor_is_in_no_page(harness: ApiHarness, case: Case) -> None:
    other = await harness.case()
    await harness.recording(other, "FAILED")
    document = "query ($id: ID!) { consultation(by: {id: $id}) { recordings { edges { node { id } } } } }"
    assert (await case.doctor.ask(document, id=case.id))["recordings"]["edges"] == []
    assert await case.doctor.refused(document, id=other.id) == ("NOT_FOUND", "consultation_not_found")


async def test_alias_with_other_fields_gets_both_selections(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case, "FAILED")
    document = """
    query ($id: ID!) {
      recording(by: {id: $id}) { a: consultation { id } b: consultation { kind patient { externalId } } }
    }
    """
    shown = await case.doctor.ask(document, id=str(recording))
    assert shown["a"] == {"id": case.id}
    assert shown["b"]["kind"] == "follow_up"


async def test_audit_row_names_the_participants_of_recording_blockers_if_they_are_shown(
    harness: ApiHarness, case: Case
) -> None:
    whole = "query ($id: ID!) { consultation(by: {id: $id}) { id recordingBlockers { reason participant { id } } } }"
    for document, shows_people in ((whole, True), (whole.replace("participant { id }", ""), False)):
        answer = await case.doctor.send(document, id=case.id)
        (row,) = await harness.audit(answer.request_id)
        assert named_in(row) == shown_in(answer)
        assert ("participant" in named_in(row)) is shows_people


async def test_patient_sees_an_own_consultation_without_its_recordings(
    harness: ApiHarness, case: Case
) -> None:
    await harness.recording(case, "FAILED")
    shown = await case.patient.ask(PAGE, id=case.id)
    assert (shown["id"], shown["patient"]["id"]) == (case.id, case.patient_id)
    for page in (shown["newest"], shown["rest"]):
        assert (page["edges"], page["pageInfo"]["hasNextPage"]) == ([], False)
