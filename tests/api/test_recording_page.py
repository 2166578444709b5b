"""Tests of the page of one recording as one operation: if one part fails, the other parts keep their data, and each
part has its own audit row.
"""

from dataclasses import dataclass
from functools import partialmethod
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from app.integrations.livekit.client import LiveKit
from app.integrations.storage.client import Storage
from tests.api import documents
from tests.api.deleting import request_deletion
from tests.api.harness import ApiHarness, Case, Person
from tests.api.speaking import store_transcript
from tests.api.test_page_limits import whole_page
from tests.api.writing_insights import store_insights
from tests.faults.database import address
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.anyio

PAGE = """
query RecordingPage($recordingId: ID!, $transcriptOf: ID!, $insightsOf: ID!, $storedOf: ID!) {
  viewer { user { id } role }
  recording(by: { id: $recordingId }) {
    id status startedAt durationSeconds sizeBytes isTruncated isInterrupted isHeld retentionEndsAt
    problem { code message }
    consultation {
      id externalId scheduledAt patient { id externalId } recordingBlockers { reason participant { id } }
      participants { id kind guestRole mustConsent hasConsented }
    }
    mediaFiles { id kind participant { id kind } status durationSeconds problem { code message } }
    transcription { status chunksDone chunkCount problem { code message } }
    insights { status partsDone partCount problem { code message } }
    deletion { id status reason requestedAt undoUntil problem { code message } }
  }
  transcript(recordingId: $transcriptOf) { turns { number startSeconds endSeconds speaker text originalText } }
  insights(recordingId: $insightsOf) {
    isStale summary { text citations { turnNumber startSeconds quote } } keyPoints { number text flags }
  }
  storedObject(recordingId: $storedOf) { exists sizeBytes contentType }
  activeRooms { sid }
  consentText { version sha256 }
}
"""
ROWS = {
    "recording": "recording.read",
    "transcript": "transcript.read",
    "insights": "insights.read",
    "storedObject": "recording.read_storage",
    "activeRooms": "rooms.list",
    "viewer": "viewer.read",
}
"""The action of the audit row of each part. The consent text leaves no row, because everyone may read it."""


@dataclass(frozen=True)
class Page:
    """A recording with a transcript and an undone deletion, and the answer when no part fails."""

    harness: ApiHarness
    case: Case
    recording: UUID
    whole: dict[str, Any]

    async def ask(
        self, person: Person, **other: UUID
    ) -> tuple[dict[str, Any], dict[str, str], dict[str, set[str]]]:
        """Return the data, the code of each refused part, and the outcomes of each audited action."""
        ids = dict.fromkeys(("recordingId", "transcriptOf", "insightsOf", "storedOf"), str(self.recording))
        answer = await person.send(PAGE, **ids | {name: str(value) for name, value in other.items()})
        refused = {str(one["path"][0]): one["extensions"]["code"] for one in answer.body.get("errors", [])}
        outcomes: dict[str, set[str]] = {}
        for row in await self.harness.audit(answer.request_id):
            outcomes.setdefault(row["action"], set()).add(row["outcome"])
        return answer.body["data"], refused, outcomes

    async def check(self, person: Person, refused: dict[str, str], **other: UUID) -> dict[str, set[str]]:
        """Require that exactly these parts are refused, and that all other parts are as on the whole page. Return the
        outcomes of the refused parts in the audit log.
        """
        data, codes, outcomes = await self.ask(person, **other)
        assert codes == refused
        assert {name for name, value in data.items() if value is None} == refused.keys()
        for name in self.whole.keys() - refused.keys():
            assert data[name] == self.whole[name], name
        for name, action in ROWS.items():
            if name not in refused:
                assert outcomes[action] == {"ALLOWED"}, name
        return {name: outcomes.get(ROWS[name], set()) for name in refused}


@pytest.fixture
async def page(harness: ApiHarness) -> Page:
    case = await harness.case()
    await case.consent()
    recording = await harness.recording(case)
    await store_insights(harness, recording, await store_transcript(harness, recording))
    await request_deletion(harness, recording)
    await case.doctor.ask(documents.JOIN, consultationId=case.id)
    await case.doctor.ask(documents.UNDO_DELETION, id=case.id, recordingId=str(recording))
    page = Page(harness, case, recording, {})
    data, refused, outcomes = await page.ask(case.doctor)
    assert refused == {}
    assert outcomes == {action: {"ALLOWED"} for action in ROWS.values()}
    assert data["recording"]["deletion"]["status"] == "UNDONE"
    assert data["recording"]["consultation"]["patient"]["id"] == case.patient_id
    assert len(data["transcript"]["turns"]) == 3
    assert data["insights"]["summary"][0]["citations"][0]["quote"] == "For two weeks"
    assert data["storedObject"]["exists"] is True
    return Page(harness, case, recording, data)


async def test_part_that_is_not_found_is_null_and_the_others_are_shown(page: Page) -> None:
    for part, variable in (
        ("recording", "recordingId"),
        ("transcript", "transcriptOf"),
        ("insights", "insightsOf"),
        ("storedObject", "storedOf"),
    ):
        rows = await page.check(page.case.doctor, {part: "NOT_FOUND"}, **{variable: uuid4()})
        assert rows == {part: {"ABSENT"}}


async def test_recording_of_another_doctor_is_hidden_in_each_part(page: Page) -> None:
    foreign = await page.harness.recording(await page.harness.case())
    for part, variable in (
        ("recording", "recordingId"),
        ("transcript", "transcriptOf"),
        ("insights", "insightsOf"),
        ("storedObject", "storedOf"),
    ):
        rows = await page.check(page.case.doctor, {part: "NOT_FOUND"}, **{variable: foreign})
        assert rows == {part: {"DENIED"}}


async def test_compliance_sees_the_metadata_and_no_content(page: Page) -> None:
    officer = await page.harness.staff("compliance")
    data, refused, outcomes = await page.ask(officer)
    assert refused == dict.fromkeys(("transcript", "insights", "storedObject", "activeRooms"), "FORBIDDEN")
    shown = ("id", "status", "consultation", "deletion")
    assert {name: data["recording"][name] for name in shown} == {
        name: page.whole["recording"][name] for name in shown
    }
    assert data["viewer"]["role"] == "COMPLIANCE"
    assert outcomes.pop("recording.read") == outcomes.pop("viewer.read") == {"ALLOWED"}
    assert set().union(*outcomes.values()) == {"DENIED"}
    assert outcomes.keys() == {ROWS[name] for name in refused}


async def test_used_up_quota_refuses_only_the_parts_that_count(page: Page) -> None:
    await page.harness.spend(page.case.doctor, "urls", 10_000)
    rows = await page.check(page.case.doctor, {"storedObject": "RATE_LIMITED"})
    assert rows == {"storedObject": {"DENIED"}}


async def test_used_up_quota_of_pages_leaves_the_parts_that_count_no_page(page: Page) -> None:
    await page.harness.spend(page.case.doctor, "pages", 10_000)
    refused = dict.fromkeys(("recording", "transcript", "insights", "activeRooms"), "RATE_LIMITED")
    assert await page.check(page.case.doctor, refused) == {name: {"DENIED"} for name in refused}


async def test_requested_deletion_is_shown_in_place_of_the_content(page: Page) -> None:
    await request_deletion(page.harness, page.recording)
    data, refused, outcomes = await page.ask(page.case.doctor)
    assert refused == dict.fromkeys(("transcript", "insights", "storedObject"), "CONFLICT")
    assert data["recording"]["deletion"]["status"] == "REQUESTED"
    assert outcomes == {action: {"FAILED" if name in refused else "ALLOWED"} for name, action in ROWS.items()}


async def test_damaged_transcript_leaves_the_metadata(page: Page) -> None:
    await page.harness.rows(
        "update private.transcript_texts set ciphertext = ciphertext || 'x'::bytea where recording_id = %s",
        page.recording,
    )
    rows = await page.check(page.case.doctor, {"transcript": "CONFLICT"})
    assert rows == {"transcript": {"ALLOWED"}}


async def test_invalid_id_of_one_part_leaves_the_others(page: Page) -> None:
    document = PAGE.replace("transcript(recordingId: $transcriptOf)", 'transcript(recordingId: "7")').replace(
        ", $transcriptOf: ID!", ""
    )
    ids = dict.fromkeys(("recordingId", "insightsOf", "storedOf"), str(page.recording))
    answer = await page.case.doctor.send(document, **ids)
    assert (answer.error.code, answer.body["errors"][0]["path"]) == ("INVALID_INPUT", ["transcript"])
    assert answer.body["data"] == page.whole | {"transcript": None}


SERVICES = {"activeRooms": "livekit_url", "storedObject": "r2_endpoint_url"}


@pytest.mark.parametrize("is_frozen", [False, True], ids=["down", "frozen"])
@pytest.mark.parametrize("part", SERVICES)
async def test_service_that_does_not_answer_leaves_the_other_parts(
    page: Page, part: str, is_frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API reaches LiveKit or the bucket through a proxy, which stops only after the API has started. The API
    writes the audit row of a stored object before it asks the bucket, and that of the rooms after LiveKit's answer.
    """
    monkeypatch.setattr(Storage, "__init__", partialmethod(Storage.__init__, call_timeout_seconds=2.0))
    monkeypatch.setattr(LiveKit, "__init__", partialmethod(LiveKit.__init__, timeout_seconds=2.0))
    doctor, url = page.case.doctor, getattr(page.harness.settings, SERVICES[part])
    async with Proxy(address(url)).running() as proxy:
        changed = {SERVICES[part]: f"{urlsplit(url).scheme}://127.0.0.1:{proxy.port}"}
        async with page.harness.another_api(**changed) as http:
            elsewhere = Person(http, doctor.user_id, doctor.session_id, doctor.token)
            with proxy.frozen() if is_frozen else proxy.broken():
                rows = await page.check(elsewhere, {part: "TIMEOUT" if is_frozen else "UPSTREAM_FAILED"})
            assert rows == {part: {"FAILED" if part == "activeRooms" else "ALLOWED"}}
            await page.check(elsewhere, {})


async def test_page_of_fifty_recordings_with_every_field_is_one_row(harness: ApiHarness) -> None:
    case = await harness.case()
    await case.consent()
    for _ in range(50):
        await harness.recording(case, "FAILED")
    answer = await case.doctor.send(whole_page("recordings", 50))
    edges = answer.data["recordings"]["edges"]
    assert len(edges) == 50
    assert edges[0]["node"]["consultation"]["participants"][0]["id"]
    (row,) = await harness.audit(answer.request_id)
    assert (row["row_count"], row["outcome"]) == (50, "ALLOWED")
    assert "unregistered" not in row["fields"]
    assert {one["type"] for one in row["entities"] if one["ids"]} == {
        "recording",
        "consultation",
        "patient",
        "participant",
        "consent",
    }
