"""Tests of the field `viewer`, and of the consent text that is shown before a person consents."""

import hashlib

import pytest

from app.consents.texts import CURRENT_VERSION, consent_texts
from app.integrations.supabase.client import SupabaseAdmin
from devstack.sign_in import enrol_totp, sign_in
from tests.api import documents
from tests.api.harness import PUBLISHABLE_KEY, SECRET_KEY, ApiHarness, Case, Person

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("role", ["clinician", "compliance"])
async def test_viewer_of_staff_has_their_role_and_assurance_level(harness: ApiHarness, role: str) -> None:
    person = await harness.staff(role)
    assert await person.ask(documents.VIEWER) == {
        "user": {"id": str(person.user_id)},
        "role": role.upper(),
        "assuranceLevel": "AAL2",
        "patient": None,
    }


async def test_viewer_of_a_patient_names_the_patient(case: Case) -> None:
    assert await case.patient.ask(documents.VIEWER) == {
        "user": {"id": str(case.patient.user_id)},
        "role": "PATIENT",
        "assuranceLevel": "AAL1",
        "patient": {"id": case.patient_id, "externalId": case.registration["patientExternalId"]},
    }


async def test_viewer_is_not_found_for_an_unregistered_person(harness: ApiHarness) -> None:
    person = await harness.user()
    assert await person.refused(documents.VIEWER) == ("FORBIDDEN", "not_registered")


async def test_viewer_with_a_session_of_the_supabase_client_is_accepted(harness: ApiHarness) -> None:
    admin = SupabaseAdmin(harness.supabase_url, SECRET_KEY)
    login = (harness.supabase_url, PUBLISHABLE_KEY, "vera@example.org", "correct horse battery")
    user_id = await admin.create_user(*login[2:])
    await admin.aclose()
    harness.practice.member(user_id)
    session = await sign_in(*login, await enrol_totp(*login))
    person = Person(harness.http, user_id, user_id, session.access_token)
    viewer = await person.ask(documents.VIEWER)
    found = viewer["user"]["id"], viewer["role"], viewer["assuranceLevel"]
    assert found == (str(user_id), "CLINICIAN", "AAL2")
    weak = Person(harness.http, user_id, user_id, (await sign_in(*login)).access_token)
    assert await weak.refused(documents.VIEWER) == ("FORBIDDEN", "second_factor_needed")


@pytest.mark.parametrize(("language", "word"), [("EN", "consent"), ("ES", "consentimiento")])
async def test_consent_text_matches_its_sha256(harness: ApiHarness, language: str, word: str) -> None:
    shown = await harness.stranger().ask(documents.CONSENT_TEXT, language=language)
    assert hashlib.sha256(shown["markdown"].encode()).hexdigest() == shown["sha256"]
    assert shown["language"] == language
    assert word in shown["markdown"].lower()


@pytest.mark.parametrize(("version", "language"), list(consent_texts()))
async def test_consent_text_of_every_version_can_be_read(
    harness: ApiHarness, version: str, language: str
) -> None:
    shown = await harness.stranger().ask(documents.CONSENT_TEXT, version=version, language=language.upper())
    published = consent_texts()[version, language]
    assert shown == {
        "version": version,
        "language": language.upper(),
        "markdown": published.text,
        "sha256": published.sha256,
    }


async def test_consent_text_without_a_version_is_the_current_one(harness: ApiHarness) -> None:
    for variables in ({}, {"version": None}):
        shown = await harness.stranger().ask(documents.CONSENT_TEXT, **variables)
        assert (shown["version"], shown["language"]) == (CURRENT_VERSION, "EN")


@pytest.mark.parametrize("version", ["", "1999-01", "2026-12.en", "../2026-12", "2026-12\0", "x" * 5000])
async def test_consent_text_of_an_unknown_version_is_refused(harness: ApiHarness, version: str) -> None:
    answer = await harness.stranger().send(documents.CONSENT_TEXT, version=version)
    assert (answer.error.code, answer.error.reason) == ("INVALID_INPUT", "consent_text_unknown")
    assert answer.body["data"] == {"consentText": None}


async def test_consent_text_is_refused_in_another_language(harness: ApiHarness) -> None:
    answer = await harness.stranger().send("{ consentText(language: DE) { markdown } }")
    assert answer.error.code in ("INVALID_INPUT", "GRAPHQL_VALIDATION_FAILED")
