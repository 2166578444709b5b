"""Tests of insights in the API: only the recording's doctor reads them, and each read writes an audit row."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api import documents
from tests.api.deleting import destroy_recording, request_deletion
from tests.api.harness import ApiHarness, Case, Person
from tests.api.shown import named_in, shown_in
from tests.api.socket_client import open_socket
from tests.api.speaking import store_transcript
from tests.api.writing_insights import MODEL, VENDOR, store_insights

pytestmark = pytest.mark.anyio

QUOTE_OF_DOSE = {
    "turnNumber": 2,
    "startSeconds": 10.0,
    "endSeconds": 14.0,
    "quote": "Take ibuprofen, 400 mg, twice a day",
}
QUOTE_OF_WEEKS = {"turnNumber": 1, "startSeconds": 5.0, "endSeconds": 9.0, "quote": "For two weeks"}


@pytest.fixture
async def recording(harness: ApiHarness, case: Case) -> UUID:
    """Return a READY recording with insights, of a consultation in which everybody has consented."""
    await case.consent()
    made = await harness.recording(case)
    await store_insights(harness, made, await store_transcript(harness, made))
    return made


def _line(number: int, text: str, citation: object, *flags: str) -> dict[str, object]:
    return {"number": number, "text": text, "flags": list(flags), "citations": [citation]}


async def test_doctor_reads_every_line_with_its_quotes_after_an_audit_row(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    answer = await case.doctor.send(documents.INSIGHTS, id=str(recording))
    read = answer.data["insights"]
    weeks, dose = "Headaches for two weeks.", "Ibuprofen 400 mg twice a day."
    assert read["summary"] == [_line(1, weeks, QUOTE_OF_WEEKS)]
    assert read["keyPoints"] == [
        _line(2, weeks, QUOTE_OF_WEEKS),
        _line(3, "Ibuprofen 600 mg twice a day.", QUOTE_OF_DOSE, "NUMBER"),
    ]
    assert read["actionItems"] == [_line(4, dose, QUOTE_OF_DOSE) | {"who": "PATIENT", "when": "twice a day"}]
    assert [(topic["number"], topic["name"]) for topic in read["topics"]] == [
        (5, "headaches"),
        (6, "ibuprofen"),
    ]
    assert [(one["number"], one["title"], one["startSeconds"]) for one in read["chapters"]] == [
        (7, "Headaches", 0.0)
    ]
    assert read["highlights"] == [
        _line(8, dose, QUOTE_OF_DOSE) | {"reason": "MEDICATION", "startSeconds": 10.0, "endSeconds": 14.0}
    ]
    assert [(line["section"], line["number"], line["text"]) for line in read["noteLines"]] == [
        ("S", 9, weeks),
        ("P", 10, dose),
    ]
    assert read["uncitedTurns"] == [
        {"turnNumber": 1, "kinds": ["MEDICATION"], "quotes": ["the pills do nothing"]}
    ]
    assert (read["isStale"], read["isRefreshed"], read["generationNumber"]) == (False, False, 1)
    assert (read["languageCode"], read["droppedCount"], read["dismissedCount"]) == ("en", 2, 0)
    assert read["writer"] == {"vendor": VENDOR, "model": MODEL}
    assert read["coverage"]["coveredSeconds"] == 14.0
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["row_count"]) == ("insights.read", "ALLOWED", 1)
    assert named_in(row) == shown_in(answer)
    assert "unregistered" not in row["fields"]
    assert {"keyPoints.citations.quote", "recording.consultation.patient.externalId"} <= set(row["fields"])
    assert (row["consultation_ids"], row["patient_ids"]) == ([UUID(case.id)], [UUID(case.patient_id)])


async def test_hidden_absent_and_unwritten_insights_get_the_same_answer(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    other, unwritten = await harness.clinician(), await harness.recording(case)
    await store_transcript(harness, unwritten)
    for person, wanted, outcome in (
        (other, recording, "DENIED"),
        (other, uuid4(), "ABSENT"),
        (case.doctor, await harness.recording(case), "ALLOWED"),
        (case.doctor, unwritten, "ALLOWED"),
    ):
        answer = await person.send(documents.INSIGHTS, id=str(wanted))
        assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "insights_not_found")
        (row,) = await harness.audit(answer.request_id)
        assert (row["outcome"], row["row_count"]) == (outcome, 0)


async def test_hidden_and_absent_insights_are_not_changed(harness: ApiHarness, recording: UUID) -> None:
    other = await harness.clinician()
    for wanted in (recording, uuid4()):
        for document, given in (
            (documents.RETRY_INSIGHTS, {}),
            (documents.REFRESH_INSIGHTS, {}),
            (documents.DISMISS_INSIGHT, {"line": 3}),
        ):
            refusal = await other.refused(document, id=str(wanted), **given)
            assert refusal == ("NOT_FOUND", "insights_not_found")


async def test_recording_tells_the_progress_of_its_insights(
    harness: ApiHarness, case: Case, recording: UUID, officer: Person
) -> None:
    waiting = await harness.recording(case)
    await store_transcript(harness, waiting)
    shown = await case.doctor.ask(documents.RECORDING, id=str(waiting))
    assert (shown["insights"]["status"], shown["insights"]["partCount"]) == ("PENDING", None)
    for person in (case.doctor, officer):
        shown = (await person.ask(documents.RECORDING, id=str(recording)))["insights"]
        assert (shown["status"], shown["partsDone"], shown["partCount"]) == ("READY", 1, 1)
        assert (shown["attempt"], shown["droppedCount"], shown["dismissedCount"]) == (1, 2, 0)
        assert (shown["problem"], shown["isRefreshed"]) == (None, False)
    without = await case.doctor.ask(documents.RECORDING, id=str(await harness.recording(case)))
    assert without["insights"] is None


@pytest.mark.parametrize(("language", "words"), [("en", "language service"), ("es", "servicio de lenguaje")])
async def test_failed_insights_have_their_reason_and_are_retried(
    harness: ApiHarness, case: Case, language: str, words: str
) -> None:
    await case.consent()
    made = await harness.recording(case)
    await store_transcript(harness, made)
    retry: dict[str, Any] = {"id": str(made)}
    refusal = ("CONFLICT", "insights_not_failed")
    assert await case.doctor.refused(documents.RETRY_INSIGHTS, **retry) == refusal
    await harness.rows(
        "update resguardo.insights set status = 'FAILED', error = 'insights_unusable' where recording_id = %s",
        made,
    )
    answer = await case.doctor.send(documents.RECORDING, in_language=language, id=str(made))
    shown = answer.value["insights"]
    assert (shown["status"], shown["problem"]["code"]) == ("FAILED", "INSIGHTS_UNUSABLE")
    assert words in shown["problem"]["message"]
    retried = await case.doctor.ask(documents.RETRY_INSIGHTS, **retry)
    assert retried == await case.doctor.ask(documents.RECORDING, id=str(made))
    assert (retried["insights"]["status"], retried["insights"]["attempt"]) == ("PENDING", 2)
    assert retried["insights"]["problem"] is None
    assert await case.doctor.refused(documents.RETRY_INSIGHTS, **retry) == refusal


async def test_withdrawn_consent_forbids_a_retry_and_leaves_the_written_insights(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    other = await harness.recording(case)
    await store_transcript(harness, other)
    await harness.rows(
        "update resguardo.insights set status = 'FAILED', error = 'insights_unusable' where recording_id = %s",
        other,
    )
    await case.patient.ask(documents.WITHDRAW_CONSENT, participantId=case.participant("PATIENT"))
    refusal = await case.doctor.refused(documents.RETRY_INSIGHTS, id=str(other))
    assert refusal == ("CONFLICT", "insights_consent_withdrawn")
    assert (await case.doctor.ask(documents.INSIGHTS, id=str(recording)))["isStale"] is False


async def test_insights_are_stale_after_a_correction_and_stay_readable_during_the_refresh(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    doctor = case.doctor
    refusal = ("CONFLICT", "insights_not_stale")
    assert await doctor.refused(documents.REFRESH_INSIGHTS, id=str(recording)) == refusal
    await doctor.ask(documents.CORRECT_TRANSCRIPT, id=str(recording), turn=2, text="Take ibuprofen, 600 mg.")
    shown = await doctor.ask(documents.RECORDING, id=str(recording))
    assert (shown["insights"]["status"], shown["topics"]) == ("STALE", ["headaches", "ibuprofen"])
    before = await doctor.ask(documents.INSIGHTS, id=str(recording))
    assert (before["isStale"], before["isRefreshed"]) == (True, False)
    for _ in range(2):
        refreshed = await doctor.ask(documents.REFRESH_INSIGHTS, id=str(recording))
        assert (refreshed["insights"]["status"], refreshed["insights"]["isRefreshed"]) == ("STALE", True)
    during = await doctor.ask(documents.INSIGHTS, id=str(recording))
    assert during == before | {"isRefreshed": True, "recording": during["recording"]}


async def test_dismissed_line_is_out_of_view_and_counted_once(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    given: dict[str, Any] = {"id": str(recording), "line": 3}
    answer = await case.doctor.send(documents.DISMISS_INSIGHT, **given)
    assert [line["number"] for line in answer.value["keyPoints"]] == [2]
    assert answer.value["dismissedCount"] == 1
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["operation"], row["outcome"]) == ("insights.dismiss", "U", "ALLOWED")
    again = await case.doctor.ask(documents.DISMISS_INSIGHT, **given)
    assert again == answer.value
    topic = await case.doctor.ask(documents.DISMISS_INSIGHT, id=str(recording), line=5)
    assert (topic["dismissedCount"], [one["name"] for one in topic["topics"]]) == (2, ["ibuprofen"])
    shown = await case.doctor.ask(documents.RECORDING, id=str(recording))
    assert (shown["insights"]["dismissedCount"], shown["topics"]) == (2, ["ibuprofen"])
    refusal = await case.doctor.refused(documents.DISMISS_INSIGHT, id=str(recording), line=99)
    assert refusal == ("NOT_FOUND", "insight_line_unknown")
    refusal = await case.doctor.refused(documents.DISMISS_INSIGHT, **given, generation=2)
    assert refusal == ("CONFLICT", "insights_changed")


async def test_recording_in_deletion_and_destroyed_recording_have_no_insights(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    await request_deletion(harness, recording)
    refusals = {
        await case.doctor.refused(documents.INSIGHTS, id=str(recording)),
        await case.doctor.refused(documents.DISMISS_INSIGHT, id=str(recording), line=3),
    }
    assert refusals == {("CONFLICT", "recording_being_deleted")}
    shown = await case.doctor.ask(documents.RECORDING, id=str(recording))
    assert shown["topics"] is None
    await case.doctor.ask(documents.UNDO_DELETION, recordingId=str(recording))
    await destroy_recording(harness, recording)
    for document in (documents.INSIGHTS, documents.RETRY_INSIGHTS, documents.REFRESH_INSIGHTS):
        refusal = await case.doctor.refused(document, id=str(recording))
        assert refusal == ("CONFLICT", "recording_deleted")
    shown = await case.doctor.ask(documents.RECORDING, id=str(recording))
    assert (shown["insights"]["status"], shown["topics"]) == ("OFF", None)
    assert shown["insights"]["problem"]["code"] == "RECORDING_DESTROYED"


async def test_ended_session_reads_no_insights(harness: ApiHarness, case: Case, recording: UUID) -> None:
    await harness.end_session(case.doctor)
    for document in (documents.INSIGHTS, documents.RETRY_INSIGHTS, documents.REFRESH_INSIGHTS):
        refusal = await case.doctor.refused(document, id=str(recording))
        assert refusal == ("UNAUTHENTICATED", "session_over")


async def test_reads_count_as_pages(harness: ApiHarness, case: Case, recording: UUID) -> None:
    await harness.spend(case.doctor, "pages", 1200)
    refusal = await case.doctor.refused(documents.INSIGHTS, id=str(recording))
    assert refusal == ("RATE_LIMITED", "quota_pages")


async def test_subscription_sends_each_step_of_the_insights(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    made = await harness.recording(case)
    async with open_socket(harness.api_url, origin=None) as client:
        await client.send_init(case.doctor)
        await client.subscribe(
            "subscription ($id: ID!) { recordingChanged(consultationId: $id) { id topics insights { status } } }",
            "1",
            id=case.id,
        )
        assert await client.receive() == {"type": "connection_ack"}
        first = await client.receive()
        assert first["payload"]["data"]["recordingChanged"]["insights"] is None
        await store_insights(harness, made, await store_transcript(harness, made))
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(20):
            while not seen or seen[-1]["insights"] != {"status": "READY"}:
                seen.append((await client.receive())["payload"]["data"]["recordingChanged"])
    assert seen[-1] == {
        "id": str(made),
        "topics": ["headaches", "ibuprofen"],
        "insights": {"status": "READY"},
    }


# ---- Topics in a list


async def test_list_of_recordings_has_their_topics_in_its_one_audit_row(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    without = await harness.recording(case)
    answer = await case.doctor.send(documents.TOPICS, first=100)
    shown = {edge["node"]["id"]: edge["node"]["topics"] for edge in answer.value["edges"]}
    assert shown == {str(recording): ["headaches", "ibuprofen"], str(without): None}
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["fields"]) == ("recording.list", ["id", "topics"])
    assert set(row["entities"][0]["ids"]) == {str(recording), str(without)}


async def test_officer_and_other_doctor_get_no_topics(
    harness: ApiHarness, case: Case, recording: UUID, officer: Person, other_doctor: Person
) -> None:
    assert (await officer.ask(documents.RECORDING, id=str(recording)))["topics"] is None
    assert (await other_doctor.ask(documents.TOPICS, first=100))["edges"] == []
    nested = "query ($id: ID!) { consultation(by: { id: $id }) { recordings { edges { node { topics } } } } }"
    for person, topics in ((case.doctor, ["headaches", "ibuprofen"]), (officer, None)):
        shown = await person.ask(nested, id=case.id)
        assert shown["recordings"]["edges"] == [{"node": {"topics": topics}}]


async def test_topics_that_cannot_be_decrypted_are_an_error_of_this_recording_alone(
    harness: ApiHarness, case: Case, recording: UUID
) -> None:
    other = await harness.recording(case)
    await store_insights(harness, other, await store_transcript(harness, other))
    await harness.rows(
        "update private.insight_texts set topics = set_byte(topics, 30, 255 - get_byte(topics, 30))"
        " where recording_id = %s",
        other,
    )
    answer = await case.doctor.send(documents.TOPICS, first=100)
    shown = {
        edge["node"]["id"]: edge["node"]["topics"] for edge in answer.body["data"]["recordings"]["edges"]
    }
    assert shown == {str(recording): ["headaches", "ibuprofen"], str(other): None}
    assert answer.error.reason == "field_unreadable"
