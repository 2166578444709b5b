"""Tests of Accept-Language and of the error texts in both languages."""

from string import Formatter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import app.errors
from app.errors import AppError, MissingConsent
from app.http.language import pick_language
from app.texts import LANGUAGES, error_message, error_texts


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("es", "es"),
        ("ES-mx", "es"),
        ("fr, es;q=0.3", "es"),
        ("en;q=0.4, es;q=0.5", "es"),
        ("es;q=0.4, en;q=0.5", "en"),
        ("es, en", "es"),
        ("de, *;q=0.1", "en"),
        ("en;q=0, *", "es"),
        ("es;q=0", "en"),
        ("es;q=nan", "en"),
        ("es;q=x, en", "en"),
        ("estonian", "en"),
        (",;,;q=1", "en"),
    ],
)
def test_language_is_picked_by_quality(header: str | None, language: str) -> None:
    assert pick_language(header) == language


@given(st.text(max_size=60))
def test_language_is_always_one_of_ours(header: str) -> None:
    assert pick_language(header) in LANGUAGES


def _blanks(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def test_texts_have_the_same_keys_and_blanks_in_both_languages() -> None:
    english, spanish = error_texts("en"), error_texts("es")
    for ours, theirs in (
        (english["codes"], spanish["codes"]),
        (english["certificate"], spanish["certificate"]),
        (english["access_request"], spanish["access_request"]),
        (english["roles"], spanish["roles"]),
        (english["subtitles"], spanish["subtitles"]),
    ):
        assert ours.keys() == theirs.keys()
        assert {key: _blanks(text) for key, text in ours.items()} == {
            key: _blanks(text) for key, text in theirs.items()
        }


def test_every_code_has_a_text() -> None:
    kinds = {
        kind.code
        for kind in vars(app.errors).values()
        if isinstance(kind, type) and issubclass(kind, AppError)
    }
    assert kinds | {"TOO_COMPLEX"} == error_texts("en")["codes"].keys()


def test_missing_consent_is_named_by_role_in_the_readers_language() -> None:
    detail = {"missing": (MissingConsent(UUID(int=1), "PATIENT"), MissingConsent(UUID(int=2), "doctor"))}
    assert (
        error_message("CONFLICT", "consent_missing", "en", detail)
        == "Consent is missing from: patient, doctor. Ask them for consent first."
    )
    assert error_message("CONFLICT", "consent_missing", "es", detail) == (
        "Falta el consentimiento de: paciente, médico. Pídaselo primero."
    )


def test_text_falls_back_to_the_code_without_detail_or_reason() -> None:
    conflict = error_texts("en")["codes"]["CONFLICT"]
    forbidden = error_texts("en")["codes"]["FORBIDDEN"]
    assert error_message("CONFLICT", "consent_missing", "en", {}) == conflict
    assert error_message("FORBIDDEN", "unheard_of", "en", {}) == forbidden
    assert error_message("UNHEARD_OF", None, "en", {}) == error_texts("en")["codes"]["INTERNAL"]


def test_detail_is_never_a_template() -> None:
    detail = {"recording_id": "{missing} {0} {x.__class__}"}
    assert detail["recording_id"] in error_message("CONFLICT", "live_recording_exists", "en", detail)
