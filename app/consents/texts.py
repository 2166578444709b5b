"""The consent texts by version and language.

A version of the text that anyone has seen is never edited, because the stored consents contain its SHA-256. A
changed consent text becomes a new version.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app.consents.model import ShownText
from app.errors import InvalidInput

CURRENT_VERSION = "2027-02"
LANGUAGES = ("en", "es")
ABOUT_TRANSCRIPTION = ("2026-11", "2026-12", "2027-01", "2027-02")
"""The versions whose text says that service providers may transcribe a recording."""
ABOUT_INSIGHTS = ("2027-01", "2027-02")
"""The versions whose text names insights by a language service, clips, and quotes that are kept in the signed note. The
database has the same list in `private.texts_about_insights`.
"""
ABOUT_SHARING = ("2027-02",)
"""The versions whose text names shares with colleagues and emergency access. The database has the same list in
`private.texts_about_sharing`.
"""
_DIRECTORY = Path(__file__).parent.parent / "texts" / "consent"


@dataclass(frozen=True)
class ConsentText:
    """A consent text in Markdown, and the SHA-256 of its UTF-8 bytes in hex."""

    version: str
    language: str
    text: str
    sha256: str


@cache
def consent_texts() -> dict[tuple[str, str], ConsentText]:
    """Return all consent texts by version and language."""
    texts = {}
    for path in sorted(_DIRECTORY.glob("*.md")):
        version, language = path.name.removesuffix(".md").rsplit(".", 1)
        content = path.read_bytes()
        texts[version, language] = ConsentText(
            version, language, content.decode(), hashlib.sha256(content).hexdigest()
        )
    return texts


def find_text(language: str, version: str | None) -> ConsentText:
    """Return the consent text in this language and version. If `version` is None, return the current version.

    Raises InvalidInput (consent_text_unknown).
    """
    found = consent_texts().get((CURRENT_VERSION if version is None else version, language))
    if found is None:
        raise InvalidInput("consent_text_unknown")
    return found


def require_known(shown: ShownText) -> None:
    """Raise InvalidInput (consent_text_unknown, consent_text_differs) unless the text that the participant saw is
    one of these consent texts.
    """
    if find_text(shown.language, shown.version).sha256 != shown.sha256:
        raise InvalidInput("consent_text_differs")
