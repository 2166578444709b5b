"""The consent texts that are shown, by version and language.

A version, once shown to anybody, is never edited: its SHA-256 is in consents. A change of words is a new version.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app.consents.model import ShownText
from app.errors import InvalidInput

CURRENT_VERSION = "2026-12"
LANGUAGES = ("en", "es")
ABOUT_WORDS = ("2026-11", "2026-12")
"""The versions that say that a recording may be turned into words by service providers."""
_DIRECTORY = Path(__file__).parent.parent / "texts" / "consent"


@dataclass(frozen=True)
class ConsentText:
    """Words to show, in Markdown, and the SHA-256 of their UTF-8 bytes in hex."""

    version: str
    language: str
    text: str
    sha256: str


@cache
def consent_texts() -> dict[tuple[str, str], ConsentText]:
    """Every text there is, by version and language."""
    texts = {}
    for path in sorted(_DIRECTORY.glob("*.md")):
        version, language = path.name.removesuffix(".md").rsplit(".", 1)
        content = path.read_bytes()
        texts[version, language] = ConsentText(
            version, language, content.decode(), hashlib.sha256(content).hexdigest()
        )
    return texts


def require_known(shown: ShownText) -> None:
    """Raises InvalidInput (consent_text_unknown, consent_text_differs) unless these very words are ours."""
    known = consent_texts().get((shown.version, shown.language))
    if known is None:
        raise InvalidInput("consent_text_unknown")
    if known.sha256 != shown.sha256:
        raise InvalidInput("consent_text_differs")
