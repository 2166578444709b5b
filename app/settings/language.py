"""The settings of the language model that writes insights and answers questions."""

import re
from enum import StrEnum
from typing import Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from app.settings.base import split_url
from app.settings.database_url import SettingProblem
from app.settings.model_ends import OPENAI_URL, is_openai, require_current_model
from app.settings.services import VendorService
from app.settings.vendors import OpenAISettings

DEFAULT_LANGUAGE_MODEL: Final = "gpt-6-sol"
"""OpenAI has published no end of it (openai 3.57, `types/shared/chat_model.py`, checked 2026-11-30)."""


class LanguageApi(StrEnum):
    """How a language model is called: by OpenAI's Responses or Chat Completions, or the extractive writer."""

    RESPONSES = "responses"
    CHAT = "chat"
    EXTRACT = "extract"


class LanguageSettings(OpenAISettings):
    """The settings of insights, questions and note drafts."""

    language_api: LanguageApi = Field(
        LanguageApi.RESPONSES,
        description="How the language model is called: `responses` (OpenAI), or `chat` for a server whose Responses "
        "API does not enforce JSON schemas. `extract` calls no model: Resguardo quotes the transcript, and no PHI "
        "leaves.",
    )
    openai_model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description=f"The language model. OpenAI's default is {DEFAULT_LANGUAGE_MODEL}. Another service has no "
        "default.",
    )
    language_base_url: str | None = Field(
        None,
        description="The address of the OpenAI-compatible language service, if it is not the speech service.",
    )
    language_api_key: SecretStr | None = Field(
        None,
        min_length=1,
        description="The key of the language service. Without LANGUAGE_BASE_URL, OPENAI_API_KEY is the default.",
    )
    language_prompt_cache: bool = Field(
        False,
        description="`true`: the language service may keep the beginning of a request, which includes the transcript, "
        "to answer the next request about it more cheaply. Ask first whether your BAA covers this.",
    )
    language_timeout_seconds: float = Field(
        180, ge=1, le=1800, description="The maximum duration of one request to the language service."
    )

    @property
    def language_url(self) -> str:
        """Return the base URL of the language service."""
        return self.language_base_url or self.openai_base_url or OPENAI_URL

    @property
    def language_key(self) -> SecretStr | None:
        """Return the key of the language service, or None if no language service is configured."""
        if self.language_api_key is not None or self.language_base_url is not None:
            return self.language_api_key
        return self.openai_api_key

    @property
    def language_model(self) -> str | None:
        """Return the name of the language model, or None if another service than OpenAI has no configured model."""
        return self.openai_model or (DEFAULT_LANGUAGE_MODEL if is_openai(self.language_url) else None)

    @field_validator("language_api_key")
    @classmethod
    def _require_header_of_language(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise SettingProblem("must be visible ASCII characters without spaces: it is sent in a header")
        return value

    @model_validator(mode="after")
    def _check_language(self) -> Self:
        if self.language_base_url is not None:
            self._require_service("LANGUAGE_BASE_URL", self.language_base_url)
        if self.language_api is LanguageApi.EXTRACT:
            return self
        if self.language_base_url is not None and self.language_api_key is None:
            raise SettingProblem("LANGUAGE_API_KEY: is needed with LANGUAGE_BASE_URL")
        if self.language_base_url is not None and self.language_model is None:
            raise SettingProblem(
                "OPENAI_MODEL: is needed, because the service at LANGUAGE_BASE_URL is not OpenAI"
            )
        if self.language_model is not None:
            require_current_model("OPENAI_MODEL", self.language_model, self.language_url)
        return self

    @property
    def agreement_services(self) -> frozenset[VendorService]:
        """Return the services that receive PHI with these settings."""
        services = {VendorService.DATABASE, VendorService.STORAGE, VendorService.VIDEO}
        if self.openai_api_key is not None or self.openai_base_url is not None:
            services.add(VendorService.SPEECH)
        has_own_service = self.language_base_url is not None and not self._is_speech_service
        if has_own_service and self.language_api is not LanguageApi.EXTRACT:
            services.add(VendorService.LANGUAGE)
        return frozenset(services)

    @property
    def _is_speech_service(self) -> bool:
        speech = split_url("OPENAI_BASE_URL", self.openai_base_url or OPENAI_URL)
        language = split_url("LANGUAGE_BASE_URL", self.language_url)
        return (speech.hostname, speech.port) == (language.hostname, language.port)
