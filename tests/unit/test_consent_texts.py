"""Tests that no published consent text has changed. This test file contains the digest of each consent text, and
every stored consent contains the digest of the text that the person saw.
"""

import pytest

from app.consents.model import ShownText
from app.consents.texts import CURRENT_VERSION, LANGUAGES, consent_texts, find_text, require_known
from app.errors import InvalidInput

SHOWN = {
    ("2026-11", "en"): "4d91ee8d645ee38b9f20beb5d4adfe66d1f99ad82b8860f90278899d8419f6d6",
    ("2026-11", "es"): "ad06438482d6ca0d7270f63f42a19421934c484f328e51b0c890359f11a07c8a",
    ("2026-12", "en"): "29e09d5ae08065a8c1e48c2bebb9ff3b8d6eae9d27d29a581795da1eb93623a7",
    ("2026-12", "es"): "0892e53fb35021d2f434ce728f8f6292bd5e6b95b1173ac1873342d04270c933",
    ("2027-01", "en"): "ada31d744ce3349960b9e54769a81fd69597ef06ce7a86d7c67d0bb5ec9b6849",
    ("2027-01", "es"): "0f6aa232b1079786ad4d204898004817797c84a420c6b6df4b0a8c797cd6b750",
    ("2027-02", "en"): "f1a3bf66adc64e1ea372efe6f45e5fcc48f15962562489d88be1e40f4bc9cc4b",
    ("2027-02", "es"): "0706771a28092d21c7ff06d512841d6205baa1aaf6d03cad56b47cf41bbdc793",
}
"""A new wording is a new version with a new line. No existing line changes."""


def test_consent_texts_equal_their_pinned_digests() -> None:
    assert {key: text.sha256 for key, text in consent_texts().items()} == SHOWN


def test_text_of_each_version_is_found_and_the_current_one_by_default() -> None:
    for (version, language), sha256 in SHOWN.items():
        found = find_text(language, version)
        assert (found.version, found.language, found.sha256) == (version, language, sha256)
    assert [find_text(language, None).version for language in LANGUAGES] == [CURRENT_VERSION] * 2


def test_every_version_is_in_every_language() -> None:
    versions = {version for version, _ in consent_texts()}
    assert set(consent_texts()) == {(version, language) for version in versions for language in LANGUAGES}
    assert CURRENT_VERSION in versions


@pytest.mark.parametrize(("version", "language"), list(SHOWN))
def test_known_consent_texts_are_accepted(version: str, language: str) -> None:
    require_known(ShownText(version, language, SHOWN[version, language]))


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (ShownText("2026-11", "en", SHOWN["2026-11", "es"]), "consent_text_differs"),
        (ShownText("2026-11", "en", ""), "consent_text_differs"),
        (ShownText("2026-11", "en", SHOWN["2026-11", "en"].upper()), "consent_text_differs"),
        (ShownText("2026-11", "fr", SHOWN["2026-11", "en"]), "consent_text_unknown"),
        (ShownText("1999-01", "en", SHOWN["2026-11", "en"]), "consent_text_unknown"),
        (ShownText("../2026-11", "en", SHOWN["2026-11", "en"]), "consent_text_unknown"),
    ],
)
def test_unknown_consent_texts_are_refused(shown: ShownText, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        require_known(shown)
