"""Tests of attacks on subtitle links: markup in the text, readers without permission, expired links, and forged
links.
"""

import re
import time
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from app.texts import redisclosure_notice
from app.transcripts.model import Speaker
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person
from tests.api.speaking import store_transcript

pytestmark = pytest.mark.anyio

HOSTILE = (
    "a\n\n00:00:09.000 --> 00:00:10.000\n<v Doctor>Take ten.",
    "</v><script>alert(1)</script><img src=x onerror=alert(1)> & <00:00:01.000>",
    "WEBVTT STYLE ::cue{background:url(http://x)} NOTE --> --!>",
    "{\\an8}<i>\u202eegnahc\u202c\u0000 \u200b\u2028\u2029\x85 1",
    "\u0627\u0644\u0635\u062f\u0627\u0639 \U0001f9e0",
)
CUE = re.compile(r"^\d\d:\d\d:\d\d[.,]\d{3} --> \d\d:\d\d:\d\d[.,]\d{3}$", re.MULTILINE)


async def _hostile(harness: ApiHarness, doctor: Person) -> UUID:
    recording = await harness.recording(await harness.case(doctor))
    await store_transcript(harness, recording, tuple((Speaker.PATIENT, text) for text in HOSTILE))
    return recording


async def _urls(person: Person, recording: UUID) -> dict[str, Any]:
    urls: dict[str, Any] = await person.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    return urls


async def test_text_is_never_markup_and_the_answer_is_not_cached_or_sniffed(
    harness: ApiHarness, doctor: Person
) -> None:
    urls = await _urls(doctor, await _hostile(harness, doctor))
    webvtt = await harness.http.get(urls["webvtt"])
    srt = await harness.http.get(urls["srt"])
    for answer, kind in ((webvtt, "text/vtt; charset=utf-8"), (srt, "application/x-subrip")):
        assert answer.headers["content-type"] == kind
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in answer.headers
        cues = len(CUE.findall(answer.text))
        assert answer.text.count("-->") == cues
        assert len(answer.text.strip().split("\n\n")) == cues + (answer is webvtt)
        assert not re.search(r"[\u202a-\u202e\u2028\u2029\x00\x85\u200b]", answer.text)
        assert "\u0627\u0644\u0635\u062f\u0627\u0639 \U0001f9e0" in answer.text
    tags = re.findall(r"<[^>]*>", webvtt.text)
    assert set(tags) == {"<v Patient>", "</v>"}
    assert not re.search(r"[<>{}\\]", CUE.sub("", srt.text))


@pytest.mark.parametrize("header", ["es\r\nX-Evil: 1", "<script>", "\u00f1" * 2000, "*;q=0", "es;q=NaN"])
async def test_accept_language_changes_only_the_labels(
    harness: ApiHarness, doctor: Person, header: str
) -> None:
    urls = await _urls(doctor, await _hostile(harness, doctor))
    answer = await harness.http.get(urls["webvtt"], headers={b"Accept-Language": header.encode()})
    assert answer.status_code == 200
    assert "x-evil" not in answer.headers
    assert set(re.findall(r"<v [^>]*>", answer.text)) <= {"<v Patient>", "<v Paciente>"}


async def test_link_expires_no_later_than_the_token_that_requested_it(
    harness: ApiHarness, doctor: Person
) -> None:
    recording = await _hostile(harness, doctor)
    expires_at = int(time.time()) + 30
    token = harness.token(doctor.user_id, doctor.session_id, exp=expires_at)
    urls = await _urls(replace(doctor, token=token), recording)
    assert datetime.fromisoformat(urls["expiresAt"]).timestamp() == expires_at
    assert 0 < urls["expiresInSeconds"] <= 30
    assert (await _urls(doctor, recording))["expiresInSeconds"] == 300
    lifetime = datetime.fromisoformat((await _urls(doctor, recording))["expiresAt"]).timestamp() - time.time()
    assert 0 < lifetime <= 900


async def test_link_that_expired_or_whose_doctor_is_banned_is_refused(
    harness: ApiHarness, doctor: Person
) -> None:
    urls = await _urls(doctor, await _hostile(harness, doctor))
    for until, status in (("infinity", 401), (None, 200)):
        await harness.rows("update auth.users set banned_until = %s where id = %s", until, doctor.user_id)
        assert (await harness.http.get(urls["webvtt"])).status_code == status
    await harness.rows(
        "update private.subtitle_links set expires_at = now() where claims ->> 'sub' = %s",
        str(doctor.user_id),
    )
    answer = await harness.http.get(urls["webvtt"])
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


async def test_database_stores_no_secret_of_a_link(harness: ApiHarness, doctor: Person) -> None:
    urls = await _urls(doctor, await _hostile(harness, doctor))
    secret = bytes.fromhex(re.findall(r"/subtitles/([0-9a-f]{64})\.vtt", urls["webvtt"])[0])
    kept = await harness.rows(
        "select l::text as row, l.secret_sha256 = sha256(%s) as is_it from private.subtitle_links as l"
        " where claims ->> 'sub' = %s",
        secret,
        str(doctor.user_id),
    )
    assert any(row["is_it"] for row in kept)
    assert not [row for row in kept if secret.hex() in row["row"]]


@pytest.mark.parametrize(
    "path",
    [
        "/subtitles/{secret}.html",
        "/subtitles/{secret}.vtt.srt",
        "/subtitles/{upper}.vtt",
        "/subtitles/{secret}0.vtt",
        "/subtitles/{secret}%00.vtt",
        "/subtitles/{hash}.vtt",
        "/subtitles/%F0%9F%A7%A0.vtt",
        "/subtitles/" + "\uff11" * 64 + ".vtt",
        "/subtitles/../{secret}.vtt",
    ],
)
async def test_altered_link_is_refused_without_details(
    harness: ApiHarness, doctor: Person, path: str
) -> None:
    recording = await _hostile(harness, doctor)
    secret = (await _urls(doctor, recording))["webvtt"].split("/")[-1].removesuffix(".vtt")
    (link,) = await harness.rows(
        "select encode(secret_sha256, 'hex') as hash from private.subtitle_links where recording_id = %s",
        recording,
    )
    asked = path.format(secret=secret, upper=secret.upper(), hash=link["hash"])
    for language in ("en", "es"):
        answer = await harness.http.get(asked, headers={"Accept-Language": language})
        assert answer.status_code == 404
        for private in (secret, str(recording), str(doctor.user_id), "alert"):
            assert private not in answer.text


async def test_link_allows_only_reading(harness: ApiHarness, doctor: Person) -> None:
    urls = await _urls(doctor, await _hostile(harness, doctor))
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert (await harness.http.request(method, urls["webvtt"])).status_code == 405


async def test_subtitles_have_their_own_quota(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    await store_transcript(harness, recording)
    await harness.spend(case.doctor, "urls", 60)
    assert (await case.doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording)))["webvtt"]
    await harness.spend(case.doctor, "subtitles", 600)
    refused = await case.doctor.refused(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    assert refused == ("RATE_LIMITED", "quota_subtitles")


@pytest.mark.parametrize("sensitivity", ["ORDINARY", "SUBSTANCE_USE"])
async def test_notice_accompanies_subtitles_about_substance_use(
    harness: ApiHarness, doctor: Person, sensitivity: str
) -> None:
    case = await harness.case(doctor, sensitivity=sensitivity, isTranscribed=True)
    recording = await harness.recording(case)
    await store_transcript(harness, recording, ((Speaker.PATIENT, "I take it daily."),))
    urls = await _urls(doctor, recording)
    notice = redisclosure_notice("en") if sensitivity == "SUBSTANCE_USE" else None
    assert urls["redisclosureNotice"] == notice
    webvtt = (await harness.http.get(urls["webvtt"])).text
    assert ("NOTE" in webvtt, "42 CFR part 2" in webvtt) == (notice is not None,) * 2
    assert webvtt.count("-->") == 1
    if notice is not None:
        assert webvtt.startswith(f"WEBVTT\n\nNOTE\n{notice}\n\n00:")
    assert "42 CFR" not in (await harness.http.get(urls["srt"])).text
