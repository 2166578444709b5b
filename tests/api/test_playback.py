"""Tests of playback URLs: the file plays in the browser, each URL has an audit row, and the URLs of one viewing name
the same viewing.
"""

import os
import time
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest

from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person

pytestmark = pytest.mark.anyio

TOTP_MAX_AGE = 43200


def _asked(recording: object, purpose: str = "TREATMENT", **others: object) -> dict[str, object]:
    return {"recordingId": str(recording), "purposeOfUse": purpose, **others}


async def _play(
    person: Person, recording: object, purpose: str = "TREATMENT", **others: object
) -> dict[str, str]:
    issued = await person.ask(documents.ISSUE_PLAYBACK_URL, **_asked(recording, purpose, **others))
    return {key: str(value) for key, value in issued.items()}


async def _viewings(harness: ApiHarness, recording: UUID) -> list[tuple[str, str | None, list[str]]]:
    """Return the outcome, the reason and the viewings of each playback audit row, oldest first."""
    rows = await harness.rows(
        "select e.outcome, e.reason, e.entities from audit.events as e"
        " where e.action = 'recording.play' and e.entities @> jsonb_build_array(jsonb_build_object("
        "'type', 'recording', 'ids', jsonb_build_array(%s::text))) order by e.recorded_at",
        str(recording),
    )
    return [
        (
            row["outcome"],
            row["reason"],
            [one for entity in row["entities"] if entity["type"] == "viewing" for one in entity["ids"]],
        )
        for row in rows
    ]


async def test_url_plays_the_exact_bytes_inline_and_by_ranges(harness: ApiHarness, case: Case) -> None:
    content = os.urandom(300_000)
    recording = await harness.recording(case, content=content)
    issued = await _play(case.doctor, recording)
    async with httpx.AsyncClient(trust_env=False) as http:
        whole = await http.get(issued["url"])
        part = await http.get(issued["url"], headers={"Range": "bytes=1000-1999"})
        saved = await http.get(issued["url"].replace("inline", "attachment"))
    assert whole.content == content
    assert whole.headers["content-disposition"] == f'inline; filename="{recording}.mp4"'
    assert whole.headers["content-type"] == "video/mp4"
    assert (part.status_code, part.content) == (206, content[1000:2000])
    assert saved.status_code == 403, "the signature covers the disposition"
    assert parse_qs(urlsplit(issued["url"]).query)["X-Amz-Expires"] == ["300"]
    assert issued["expiresInSeconds"] == "300"


async def test_object_that_was_stored_as_a_page_is_still_played_as_a_video(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case, content=b"<html>")
    issued = await _play(case.doctor, recording)
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(issued["url"])).headers["content-type"] == "video/mp4"


async def test_download_stays_an_attachment(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    issued = await case.doctor.ask(documents.ISSUE_URL, **_asked(recording))
    assert "attachment" in parse_qs(urlsplit(issued["url"]).query)["response-content-disposition"][0]


async def test_renewals_name_the_first_issue(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    first = await _play(case.doctor, recording)
    renewed = [await _play(case.doctor, recording, viewingId=first["viewingId"]) for _ in range(2)]
    other = await _play(case.doctor, recording)
    assert {one["viewingId"] for one in renewed} == {first["viewingId"]}
    assert other["viewingId"] != first["viewingId"]
    assert await _viewings(harness, recording) == [
        ("ALLOWED", None, [first["viewingId"]]),
        ("ALLOWED", "renewal", [first["viewingId"]]),
        ("ALLOWED", "renewal", [first["viewingId"]]),
        ("ALLOWED", None, [other["viewingId"]]),
    ]


async def test_renewal_of_another_viewing_is_refused_and_audited(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    recording, another = await harness.recording(case), await harness.recording(await harness.case())
    first = await _play(case.doctor, recording)
    foreign = await harness.case()
    theirs = await _play(foreign.doctor, await harness.recording(foreign))
    for given in (
        _asked(recording, viewingId=str(uuid4())),
        _asked(recording, viewingId=theirs["viewingId"]),
        _asked(recording, "LEGAL", viewingId=first["viewingId"]),
    ):
        answer = await case.doctor.send(documents.ISSUE_PLAYBACK_URL, **given)
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "viewing_not_renewable")
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"]) == ("recording.play", "FAILED")
        assert row["reason"] == "viewing_not_renewable"
    hidden = await other_doctor.refused(
        documents.ISSUE_PLAYBACK_URL, **_asked(another, viewingId=first["viewingId"])
    )
    assert hidden == ("NOT_FOUND", "recording_not_found")


async def test_viewing_ends_after_twelve_hours(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    first = await _play(case.doctor, recording)
    await harness.rows(
        "update private.viewings set began_at = now() - interval '12 hours 1 second' where id = %s",
        first["viewingId"],
    )
    refused = await case.doctor.refused(
        documents.ISSUE_PLAYBACK_URL, **_asked(recording, viewingId=first["viewingId"])
    )
    assert refused == ("CONFLICT", "viewing_not_renewable")


async def test_old_viewings_are_deleted_when_another_begins(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    first = await _play(case.doctor, recording)
    await harness.rows(
        "update private.viewings set began_at = now() - interval '25 hours' where id = %s", first["viewingId"]
    )
    await _play(case.doctor, recording)
    assert await harness.rows("select from private.viewings where id = %s", first["viewingId"]) == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("VERIFYING", "recording_not_ready"),
        ("FAILED", "recording_failed"),
        ("ABORTED", "recording_aborted"),
        ("LOST", "recording_lost"),
        ("DELETED", "recording_deleted"),
    ],
)
async def test_recording_that_is_not_ready_is_not_played(
    harness: ApiHarness, case: Case, status: str, reason: str
) -> None:
    recording = await harness.recording(case, status)
    answer = await case.doctor.send(documents.ISSUE_PLAYBACK_URL, **_asked(recording))
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", reason)
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["reason"]) == ("recording.play", "FAILED", reason)
    assert await harness.rows("select from private.viewings where recording_id = %s", recording) == []


async def test_old_totp_authentication_plays_nothing(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    first = await _play(case.doctor, recording)
    stale = await harness.with_session(case.doctor, totp_at=time.time() - TOTP_MAX_AGE - 60)
    for given in (_asked(recording), _asked(recording, viewingId=first["viewingId"])):
        refused = await stale.refused(documents.ISSUE_PLAYBACK_URL, **given)
        assert refused == ("FORBIDDEN", "totp_stale")


async def test_playback_has_its_own_quota(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    await harness.spend(case.doctor, "urls", 1000)
    await harness.spend(case.doctor, "playbacks", 179)
    first = await _play(case.doctor, recording)
    answer = await case.doctor.send(
        documents.ISSUE_PLAYBACK_URL, **_asked(recording, viewingId=first["viewingId"])
    )
    assert (answer.error.code, answer.error.reason) == ("RATE_LIMITED", "quota_playbacks")
    (row,) = await harness.audit(answer.request_id)
    assert (row["outcome"], row["reason"]) == ("DENIED", "quota_playbacks")


async def test_recording_that_is_being_deleted_is_not_played(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    first = await _play(case.doctor, recording)
    await case.doctor.ask(documents.DELETE_RECORDING, id=str(recording), reason="DUPLICATE")
    for given in (_asked(recording), _asked(recording, viewingId=first["viewingId"])):
        refused = await case.doctor.refused(documents.ISSUE_PLAYBACK_URL, **given)
        assert refused == ("CONFLICT", "recording_being_deleted")
