"""Sends transcripts to a language service that is compatible with OpenAI's API, and returns the final answers.

No module except this one sends a transcript to a language service. This module sends each request only once, and
never repeats one. The service is always asked to store nothing (`store` is false). A request never contains an id of
ours, a conversation, or a reference to an earlier response.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.responses import ResponseFormatTextJSONSchemaConfigParam, ResponseInputTextParam
from openai.types.shared_params.response_format_json_schema import JSONSchema, ResponseFormatJSONSchema

from app.errors import AppError, Timeout, UpstreamFailed
from app.integrations.language.answers import read_completion, read_response
from app.integrations.language.port import AnswerUnusable, LanguageAnswer, LanguageRequest
from app.integrations.language.refusals import translate_refusal
from app.integrations.openai_client import NOT_YET_SENT, make_openai_client, read_body

_MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
_NO_CACHE: Final = {"mode": "explicit"}
"""Without breakpoints, this mode disables prompt caching (openai 3.57, `PromptCacheOptions`)."""


class LanguageClient:
    """A client of one language service and one of its models. Close the client with `aclose`."""

    def __init__(
        self,
        *,
        api_key: str,
        model: str,
        base_url: str,
        timeout_seconds: float = 180,
        caches_prompts: bool = False,
    ) -> None:
        self._vendor = urlsplit(base_url).hostname or ""
        self._model = model
        self._timeout_seconds = timeout_seconds
        self._client = make_openai_client(api_key, base_url, timeout_seconds, translate_refusal)
        self._options: dict[str, Any] = {"model": model, "store": False}
        if not caches_prompts:
            self._options["prompt_cache_options"] = _NO_CACHE

    @property
    def vendor(self) -> str:
        """Return the host of the service."""
        return self._vendor

    @property
    def model(self) -> str:
        """Return the name of the model."""
        return self._model

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def write(self, request: LanguageRequest) -> LanguageAnswer:
        """Return the model's final answer. Raises the errors of `Language.write`."""
        body = await self._receive(self._send(request))
        if body is None:
            raise AnswerUnusable("language_nonsense", None)
        return self._read(body, self._vendor, self._model)

    async def require_reachable(self) -> None:
        """List the service's models, which costs nothing. Raises the errors of `Language.write`."""
        await self._receive(self._client.models.with_streaming_response.list())

    async def _receive(self, sending: AbstractAsyncContextManager[Any]) -> bytes | None:
        """Send the request and return the body of the answer, or None if the body is too large."""
        failure: AppError
        try:
            async with asyncio.timeout(self._timeout_seconds), sending as answer:
                return await read_body(answer.http_response, _MAX_ANSWER_BYTES)
        except (TimeoutError, openai.APITimeoutError, httpx2.TimeoutException) as error:
            is_sent = not isinstance(error.__cause__, NOT_YET_SENT)
            failure = Timeout("language_timeout") if is_sent else UpstreamFailed("language_unavailable")
        except (openai.OpenAIError, httpx2.HTTPError):
            failure = UpstreamFailed("language_unavailable")
        # Raised outside the except blocks, because the client's error, which may quote the answer, must not become its
        # context.
        raise failure

    def _send(self, request: LanguageRequest) -> AbstractAsyncContextManager[Any]:
        raise NotImplementedError

    _read: Callable[[bytes, str, str], LanguageAnswer]


class ResponsesLanguage(LanguageClient):
    """A language service that is called by `/v1/responses`."""

    _read = staticmethod(read_response)

    def _send(self, request: LanguageRequest) -> AbstractAsyncContextManager[Any]:
        form = ResponseFormatTextJSONSchemaConfigParam(
            type="json_schema", name=request.schema_name, strict=True, schema=dict(request.schema)
        )
        parts = [ResponseInputTextParam(type="input_text", text=text) for text in _texts(request)]
        return self._client.responses.with_streaming_response.create(
            **self._options,
            instructions=request.instructions,
            text={"format": form},
            input=[{"role": "user", "content": [*parts]}],
            max_output_tokens=request.max_output_tokens,
            truncation="disabled",
        )


class ChatLanguage(LanguageClient):
    """A language service that is called by `/v1/chat/completions`."""

    _read = staticmethod(read_completion)

    def _send(self, request: LanguageRequest) -> AbstractAsyncContextManager[Any]:
        schema = JSONSchema(name=request.schema_name, strict=True, schema=dict(request.schema))
        return self._client.chat.completions.with_streaming_response.create(
            **self._options,
            response_format=ResponseFormatJSONSchema(type="json_schema", json_schema=schema),
            messages=[
                {"role": "system", "content": request.instructions},
                {"role": "user", "content": [{"type": "text", "text": text} for text in _texts(request)]},
            ],
            max_completion_tokens=request.max_output_tokens,
        )


def _texts(request: LanguageRequest) -> tuple[str, str]:
    """Return the two texts of the user's message, in order."""
    return request.transcript, request.task
