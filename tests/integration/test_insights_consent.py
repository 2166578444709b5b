"""Tests which consents allow insights, clips and quotes in signed notes."""

from collections.abc import AsyncIterator

import pytest

from app.consents.texts import ABOUT_INSIGHTS, ABOUT_TRANSCRIPTION, CURRENT_VERSION
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.transcription_setup import (
    TranscriptionPractice,
    consents,
    open_transcription_practice,
)

pytestmark = pytest.mark.anyio
NEW, OLD = ABOUT_INSIGHTS[0], "2026-12"
OBJECTIONS = (
    "select array[private.transcription_objection(c.id), private.consent_objection(c.id),"
    " private.insights_objection(c.id)] from resguardo.consultations as c where c.id = %s"
)


@pytest.fixture
async def practice(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TranscriptionPractice]:
    async with open_transcription_practice(database, emptied_store, monkeypatch, 3) as practice:
        yield practice


async def test_database_and_api_name_the_same_texts_about_insights(practice: TranscriptionPractice) -> None:
    assert await practice.harness.value("select private.texts_about_insights()") == list(ABOUT_INSIGHTS)
    assert CURRENT_VERSION in ABOUT_INSIGHTS
    assert set(ABOUT_INSIGHTS) <= set(ABOUT_TRANSCRIPTION)


@pytest.mark.parametrize(
    ("patient", "objection"),
    [
        ([("GIVEN", NEW)], None),
        ([("GIVEN", OLD)], "consent_text"),
        ([("GIVEN", "2026-11")], "consent_text"),
        ([("GIVEN", OLD), ("GIVEN", NEW)], None),
        ([("GIVEN", NEW), ("GIVEN", OLD)], "consent_text"),
        ([("GIVEN", NEW), ("WITHDRAWN", NEW)], "consent_withdrawn"),
        ([("GIVEN", NEW), ("WITHDRAWN", NEW), ("GIVEN", NEW)], None),
    ],
)
@pytest.mark.parametrize("kind", ["DOCTOR", "PATIENT"])
async def test_insights_need_everyones_consent_to_a_text_that_names_them(
    practice: TranscriptionPractice, kind: str, patient: list[tuple[str, str]], objection: str | None
) -> None:
    consultation = await practice.harness.consultation()
    await consents(practice, consultation, "PATIENT" if kind == "DOCTOR" else "DOCTOR", ("GIVEN", NEW))
    await consents(practice, consultation, kind, *patient)
    withdrawn = objection if objection == "consent_withdrawn" else None
    assert await practice.harness.value(OBJECTIONS, consultation) == [withdrawn, objection, objection]


async def test_insights_are_off_but_clips_allowed_where_transcription_is_switched_off(
    practice: TranscriptionPractice,
) -> None:
    consultation = await practice.harness.consultation()
    await consents(practice, consultation, "DOCTOR", ("GIVEN", NEW))
    await consents(practice, consultation, "PATIENT", ("GIVEN", NEW))
    await practice.harness.rows(
        "update resguardo.consultations set sensitivity = 'PSYCHOTHERAPY' where id = %s", consultation
    )
    assert await practice.harness.value(OBJECTIONS, consultation) == ["switched_off", None, "switched_off"]
