"""Tests that a failed root field hides no other root field of the operation, and that every root field leaves its
audit row.
"""

from uuid import uuid4

import pytest

from tests.api.harness import ApiHarness, Case, Person

pytestmark = pytest.mark.anyio

FAILING = {
    "not found": ('it: transcript(recordingId: "{id}") {{ __typename }}', "NOT_FOUND"),
    "forbidden": ("it: auditEvents {{ __typename }}", "FORBIDDEN"),
    "invalid input": ("it: auditEvents(first: 0) {{ __typename }}", "FORBIDDEN"),
    "invalid id": ('it: transcript(recordingId: "7") {{ __typename }}', "INVALID_INPUT"),
}


@pytest.mark.parametrize("kind", FAILING)
async def test_failing_query_keeps_the_data_of_its_siblings_and_their_audit_rows(
    harness: ApiHarness, case: Case, kind: str
) -> None:
    field, code = FAILING[kind]
    query = f"{{ recordings {{ edges {{ node {{ id }} }} }} {field.format(id=uuid4())} }}"
    recording = await harness.recording(case)
    answer = await case.doctor.send(query)
    assert answer.error.code == code
    assert answer.body["data"]["it"] is None
    assert [edge["node"]["id"] for edge in answer.body["data"]["recordings"]["edges"]] == [str(recording)]
    rows = {(row["action"], row["outcome"]) for row in await harness.audit(answer.request_id)}
    assert ("recording.list", "ALLOWED") in rows


async def test_rate_limited_query_keeps_the_data_of_its_siblings(
    harness: ApiHarness, other_doctor: Person
) -> None:
    await harness.spend(other_doctor, "pages", 1200)
    answer = await other_doctor.send("{ viewer { __typename } recordings { edges { cursor } } }")
    assert (answer.error.code, answer.error.reason) == ("RATE_LIMITED", "quota_pages")
    assert answer.body["data"] == {"viewer": {"__typename": "Viewer"}, "recordings": None}
    assert answer.error.details["retryAfterSeconds"] >= 1


async def test_bad_argument_of_one_field_keeps_the_data_of_the_other_fields(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    query = "query ($n: Int = 1) { recordings { edges { node { id } } } it: auditEvents(first: $n) { __typename } }"
    answer = await case.doctor.send(query, n=None)
    assert answer.error.code == "FORBIDDEN"
    assert answer.body["errors"][0]["path"] == ["it"]
    assert answer.body["data"]["it"] is None
    assert [edge["node"]["id"] for edge in answer.body["data"]["recordings"]["edges"]] == [str(recording)]
    rows = {(row["action"], row["outcome"]) for row in await harness.audit(answer.request_id)}
    assert rows == {("recording.list", "ALLOWED"), ("audit.list", "DENIED")}


async def test_reason_is_written_in_capitals_and_every_error_has_the_same_extensions(case: Case) -> None:
    for query in (
        "{ auditEvents { __typename } }",
        "{ nothing }",
        "{ recordings(",
        '{ consentText(language: "X") }',
    ):
        answer = await case.doctor.send(query)
        for error in answer.body["errors"]:
            extensions = error["extensions"]
            assert list(extensions) == ["code", "reason", "retryable", "requestId", "details"]
            assert extensions["reason"] is None or extensions["reason"].isupper()
            assert extensions["requestId"] == answer.request_id
            assert "Syntax Error" not in error["message"]
