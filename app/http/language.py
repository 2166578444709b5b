"""Selects the language of an answer according to the header `Accept-Language` of the request."""

from app.http.header_preferences import parse_preferences
from app.texts import DEFAULT_LANGUAGE, LANGUAGES, Language


def pick_language(accept_language: str | None) -> Language:
    """Return the best supported language for an `Accept-Language` header, or English if it names no supported
    language.

    The region of a language tag is ignored: `es-MX` selects Spanish.
    """
    wanted = parse_preferences(accept_language or "")
    refused = {member.value.partition("-")[0] for member in wanted if member.quality == 0}
    for member in wanted:
        if member.quality == 0:
            break
        base = member.value.partition("-")[0]
        for language in LANGUAGES:
            if base == language or (base == "*" and language not in refused):
                return language
    return DEFAULT_LANGUAGE
