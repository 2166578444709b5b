"""Tests of the field `viewer`, and of the consent text that is shown before a person consents."""

import hashlib

import pytest

from app.integrations.supabase.client import SupabaseAdmin
from devstack.sign_in import enrol_totp, sign_in
from tests.api import documents
from tests.api.harness import PUBLISHABLE_KEY, SECRET_KEY, ApiHarness, Case, Person

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("role", ["clinician", "compliance"])
async def test_viewer_of_staff_is_their_role_with_both_factors(harness: ApiHarness, role: str) -> None:
    person = await harness.staff(role)
    assert await person.ask(documents.VIEWER) == {
        "userId": str(person.user_id),
        "role": role,
        "aal": "aal2",
        "patientId": None,
    }


async def test_viewer_of_a_patient_names_the_patient(case: Case) -> None:
    assert await case.patient.ask(documents.VIEWER) == {
        "userId": str(case.patient.user_id),
        "role": "patient",
        "aal": "aal1",
        "patientId": case.patient_id,
    }


async def test_viewer_is_refused_for_who_is_not_registered(harness: ApiHarness) -> None:
    person = await harness.user()
    assert await person.refused(documents.VIEWER) == ("FORBIDDEN", "not_registered")


async def test_viewer_signed_in_by_the_vendors_client_is_known(harness: ApiHarness) -> None:
    admin = SupabaseAdmin(harness.supabase_url, SECRET_KEY)
    login = (harness.supabase_url, PUBLISHABLE_KEY, "vera@example.org", "correct horse battery")
    user_id = await admin.create_user(*login[2:])
    await admin.aclose()
    harness.practice.member(user_id)
    session = await sign_in(*login, await enrol_totp(*login))
    person = Person(harness.http, user_id, user_id, session.access_token)
    viewer = await person.ask(documents.VIEWER)
    assert (viewer["userId"], viewer["role"], viewer["aal"]) == (str(user_id), "clinician", "aal2")
    weak = Person(harness.http, user_id, user_id, (await sign_in(*login)).access_token)
    assert await weak.refused(documents.VIEWER) == ("FORBIDDEN", "second_factor_needed")


@pytest.mark.parametrize(("language", "word"), [("EN", "consent"), ("ES", "consentimiento")])
async def test_consent_text_is_what_its_sha256_says(harness: ApiHarness, language: str, word: str) -> None:
    shown = await harness.stranger().ask(documents.CONSENT_TEXT, language=language)
    assert hashlib.sha256(shown["text"].encode()).hexdigest() == shown["sha256"]
    assert shown["language"] == language.lower()
    assert word in shown["text"].lower()


async def test_consent_text_is_refused_in_another_language(harness: ApiHarness) -> None:
    answer = await harness.stranger().send("{ consentText(language: DE) { text } }")
    assert answer.error.code in ("BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED")
