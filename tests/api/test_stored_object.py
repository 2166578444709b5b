"""Tests of the query `storedObject`, which costs a request to the bucket. No other field returns a stored object, so
neither a list nor a mutation nor a subscription asks the bucket.
"""

from collections import deque
from uuid import UUID, uuid4

import pytest
from graphql import GraphQLField, GraphQLObjectType, get_named_type

from app.integrations.storage.client import Storage
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person
from tests.api.test_authorization import FIELDS

pytestmark = pytest.mark.anyio


def _shown_types(field: GraphQLField) -> set[str]:
    """Return the names of all object types that a selection of the root field can show, however deep."""
    left = deque([get_named_type(field.type)])
    seen: set[str] = set()
    while left:
        kind = left.popleft()
        if isinstance(kind, GraphQLObjectType) and kind.name not in seen:
            seen.add(kind.name)
            left += [get_named_type(below.type) for below in kind.fields.values()]
    return seen


def test_only_one_query_shows_a_stored_object() -> None:
    shown = {name: _shown_types(field) for name, (_, field) in FIELDS.items()}
    assert {name for name, types in shown.items() if "StoredObject" in types} == {"storedObject"}
    assert {
        "completeImport",
        "recording",
        "recordingChanged",
        "recordings",
        "recordingsChanged",
        "retryTranscription",
        "startRecording",
        "stopRecording",
    } <= {name for name, types in shown.items() if "Recording" in types}


async def test_recording_that_is_not_ready_has_no_stored_object(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    recording = await harness.recording(case, "RECORDING")
    answer = await case.doctor.send(documents.STORED_OBJECT, id=str(recording))
    assert answer.body["data"] == {"storedObject": None}
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "recording_not_ready")
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("recording.read_storage", "FAILED")
    assert row["entities"] == [{"type": "recording", "ids": [str(recording)]}]


async def test_stored_object_is_described_by_the_bucket(harness: ApiHarness, case: Case) -> None:
    recording = str(await harness.recording(case, content=b"twelve bytes"))
    found = await case.doctor.ask(documents.STORED_OBJECT, id=recording)
    assert found == {"exists": True, "sizeBytes": 12, "contentType": "video/mp4"}


async def test_missing_stored_object_is_reported(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    await harness.rows(
        "update private.recording_secrets set object_key = %s where recording_id = %s",
        f"keep/{case.id}/{recording}/gone.mp4",
        recording,
    )
    found = await case.doctor.ask(documents.STORED_OBJECT, id=str(recording))
    assert found == {"exists": False, "sizeBytes": None, "contentType": None}


async def test_bucket_is_not_asked_about_the_recording_of_another_doctor(
    harness: ApiHarness, case: Case, other_doctor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: object, key: str) -> None:
        raise AssertionError(key)

    monkeypatch.setattr(Storage, "head", refuse)
    recording = await harness.recording(case)
    answers = [await other_doctor.send(documents.STORED_OBJECT, id=str(one)) for one in (recording, uuid4())]
    assert {(answer.error.code, answer.error.reason) for answer in answers} == {
        ("NOT_FOUND", "recording_not_found")
    }
    (hidden,), (absent,) = [await harness.audit(answer.request_id) for answer in answers]
    assert (hidden["outcome"], absent["outcome"]) == ("DENIED", "ABSENT")
    assert (hidden["patient_ids"], absent["patient_ids"]) == ([UUID(case.patient_id)], [])
