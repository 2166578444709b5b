"""Chooses the language service that the settings select."""

from typing import Protocol

from app.insights.writing.extractive import ExtractiveWriter
from app.integrations import vendor_clients
from app.integrations.language.port import Language
from app.settings import LanguageApi, LanguageSettings


class OpenLanguage(Language, Protocol):
    """A language service whose connections the process closes when it ends."""

    async def aclose(self) -> None:
        """Close the connections."""


def make_language(settings: LanguageSettings) -> OpenLanguage | None:
    """Return the language service: a client, the extractive writer, or None if none is configured."""
    if settings.language_api is LanguageApi.EXTRACT:
        return ExtractiveWriter()
    return vendor_clients.make_language_client(settings)
