"""Which of our languages a client reads."""

from app.http.negotiation import preferences
from app.texts import DEFAULT_LANGUAGE, LANGUAGES, Language


def pick_language(accept_language: str | None) -> Language:
    """The best of our languages by an `Accept-Language` header; English where it names none of them.

    Regions are not told apart: `es-MX` is Spanish.
    """
    wanted = preferences(accept_language or "")
    refused = {member.value.partition("-")[0] for member in wanted if member.quality == 0}
    for member in wanted:
        if member.quality == 0:
            break
        base = member.value.partition("-")[0]
        for language in LANGUAGES:
            if base == language or (base == "*" and language not in refused):
                return language
    return DEFAULT_LANGUAGE
