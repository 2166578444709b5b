"""Tests of the field `storage` of a recording, which costs a request to the bucket. Only the query `recording`
returns `storage`. Every root field except `recording` refuses the selection of `storage` before it has any side
effect.
"""

from collections import deque

import pytest
from graphql import GraphQLField, GraphQLObjectType, get_named_type

from tests.api.harness import ApiHarness, Case, Person
from tests.api.socket_client import open_socket
from tests.api.test_authorization import FIELDS, good_document

pytestmark = pytest.mark.anyio


def _path_to_recording(field: GraphQLField) -> list[str] | None:
    """Return the names of the fields that lead from the value of a root field to a `Recording`. The returned list
    of names is empty if the root field itself returns a `Recording`.
    """
    left: deque[tuple[object, list[str]]] = deque([(get_named_type(field.type), [])])
    seen: set[str] = set()
    while left:
        kind, path = left.popleft()
        if not isinstance(kind, GraphQLObjectType) or kind.name in seen:
            continue
        if kind.name == "Recording":
            return path
        seen.add(kind.name)
        left += [(get_named_type(below.type), [*path, name]) for name, below in kind.fields.items()]
    return None


PATHS = {name: path for name, (_, field) in FIELDS.items() if (path := _path_to_recording(field)) is not None}


def _document(name: str) -> str:
    selection = "...f"
    for step in reversed(PATHS[name]):
        selection = f"{step} {{ {selection} }}"
    fragment = "fragment f on Recording { id ... on Recording { stored: storage { exists } } }"
    return f"{good_document(name, selection)} {fragment}"


def test_root_fields_that_return_recordings_are_found() -> None:
    assert PATHS.keys() == {
        "recording",
        "recordings",
        "startRecording",
        "stopRecording",
        "completeImport",
        "retryTranscription",
        "recordingChanged",
        "recordingsChanged",
    }


@pytest.mark.parametrize(
    "name", sorted(PATHS.keys() - {"recording", "recordingChanged", "recordingsChanged"})
)
async def test_storage_is_refused_except_on_one_recording(other_doctor: Person, name: str) -> None:
    assert await other_doctor.refused(_document(name)) == ("INVALID_INPUT", "storage_in_list")


@pytest.mark.parametrize("name", ["recordingChanged", "recordingsChanged"])
async def test_storage_is_refused_in_a_subscription(
    harness: ApiHarness, other_doctor: Person, name: str
) -> None:
    async with open_socket(harness.api_url, origin=None) as client:
        await client.init(other_doctor)
        await client.subscribe(_document(name))
        extensions = (await client.error())["extensions"]
    assert (extensions["code"], extensions["reason"].lower()) == ("INVALID_INPUT", "storage_in_list")


async def test_start_with_storage_selected_starts_nothing(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    document = """
      mutation ($id: ID!) {
        startRecording(input: {consultationId: $id}) { recording { id storage { exists } } }
      }
    """
    answer = await case.doctor.send(document, id=case.id)
    assert (answer.error.code, answer.error.reason) == ("INVALID_INPUT", "storage_in_list")
    assert await harness.rows("select id from resguardo.recordings where consultation_id = %s", case.id) == []
    assert await harness.audit(answer.request_id) == []


async def test_stop_with_storage_selected_stops_nothing(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    recording = await harness.recording(case, "RECORDING")
    document = """
      mutation ($id: ID!) { stopRecording(input: {recordingId: $id}) { recording { storage { exists } } } }
    """
    assert await case.doctor.refused(document, id=str(recording)) == ("INVALID_INPUT", "storage_in_list")
    (row,) = await harness.rows("select status from resguardo.recordings where id = %s", recording)
    assert row["status"] == "RECORDING"
