"""Sends sound to a speech service that is compatible with OpenAI's API, and returns the recognized text.

No module except this one sends sound to the speech service. This module sends each request to the speech service
only once. This client never repeats a request; `app.transcripts.transcription` does, because it knows which
requests the service may have charged for. The client checks each answer with the module `answers` before it returns
the answer.
"""

import asyncio
from io import BytesIO
from typing import Any, Final

import httpx2
import openai

from app.errors import AppError, InvalidInput, Timeout, UpstreamFailed
from app.integrations.openai_client import NOT_YET_SENT, make_openai_client, read_body
from app.integrations.speech.answers import UNCERTAIN_LOGPROB, SpeechAnswer, SpeechSegment, parse_answer
from app.integrations.speech.flac import duration_ms
from app.integrations.speech.refusals import translate_refusal
from app.media.sound_plans import Cut
from app.settings import SpeechApi
from app.settings.model_ends import OPENAI_URL

__all__ = ["MAX_CHUNK_BYTES", "MAX_CHUNK_MS", "Speech", "SpeechAnswer", "SpeechSegment"]

MAX_CHUNK_BYTES: Final = 25 * 1024 * 1024 - 16 * 1024
"""The vendor limits the whole form: "Maximum content size limit (26214400) exceeded" (as users quote it, checked
2026-11-21). The other fields of the form are far below 16 KiB.
"""

MAX_CHUNK_MS: Final = 20 * 60 * 1000
"""gpt-4o-transcribe-diarize accepts at most 1,400 s (as users quote its error, checked 2026-11-21)."""

MIN_CHUNK_MS: Final = 100
"""For shorter sound, OpenAI answers 400 `audio_too_short` (as users quote it, checked 2026-11-21)."""

_MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
_RETURN_LOGPROBS: Final = frozenset(
    ("gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-mini-transcribe-2025-12-15")
)
"""The models that return log probabilities with a text (openai 3.52, `transcription_create_params`)."""


class Speech:
    """A client of one speech service and one of its models. Close the client with `aclose`.

    `model` must support the answer format `api`. If `base_url` is None, the client sends the sound to OpenAI. Text
    with a mean log probability below `uncertain_logprob` is uncertain.
    """

    def __init__(
        self,
        *,
        api_key: str,
        model: str,
        api: SpeechApi,
        base_url: str | None = None,
        timeout_seconds: float = 300,
        uncertain_logprob: float = UNCERTAIN_LOGPROB,
    ) -> None:
        url = base_url or OPENAI_URL
        self._api = api
        self._model = model
        self._timeout_seconds = timeout_seconds
        self._uncertain_logprob = uncertain_logprob
        self._client = make_openai_client(api_key, url, timeout_seconds, translate_refusal)
        self._transcriptions = self._client.audio.transcriptions.with_streaming_response

    @property
    def vendor(self) -> str:
        """Return the host of the service."""
        return self._client.base_url.host

    @property
    def model(self) -> str:
        """Return the name of the model."""
        return self._model

    @property
    def cut(self) -> Cut:
        """Return how sound must be cut for the model: into windows if the model distinguishes voices, and into
        turns if not.
        """
        return Cut.WINDOWS if self._api is SpeechApi.DIARIZED_JSON else Cut.TURNS

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def transcribe(self, flac: bytes, *, language: str | None) -> SpeechAnswer:
        """Return the text of one chunk of sound, a FLAC file of at most `MAX_CHUNK_BYTES` and `MAX_CHUNK_MS`.

        `language` is a code of ISO 639-1, or None if the service is to detect the language. The client does not
        send a chunk shorter than `MIN_CHUNK_MS`, because such a chunk is too short to contain a word.

        The temporary errors are RateLimited (speech_busy) and UpstreamFailed (speech_failed). If the vendor states
        when to try again, the error's detail `retry_after_seconds` has this time, of at most an hour. The temporary
        errors after which the service may still charge for the request are Timeout (speech_timeout) and
        UpstreamFailed (speech_nonsense, also for a truncated answer). The permanent errors are Conflict and
        InvalidInput, with a reason from `refusals` such as speech_quota, speech_key_refused or speech_refused.
        """
        length_ms = duration_ms(flac)
        if len(flac) > MAX_CHUNK_BYTES or length_ms > MAX_CHUNK_MS:
            raise InvalidInput("speech_refused")
        if length_ms < MIN_CHUNK_MS:
            return SpeechAnswer(())
        answer = await self._answer(flac, language)
        return parse_answer(answer, self._api, length_ms, uncertain_logprob=self._uncertain_logprob)

    async def _answer(self, flac: bytes, language: str | None) -> bytes:
        failure: AppError
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._ask(flac, language)
        except (TimeoutError, openai.APITimeoutError, httpx2.TimeoutException) as error:
            is_sent = not isinstance(error.__cause__, NOT_YET_SENT)
            failure = Timeout("speech_timeout") if is_sent else UpstreamFailed("speech_failed")
        except openai.OpenAIError:
            failure = UpstreamFailed("speech_failed")
        except httpx2.HTTPError:  # the connection broke during the answer, which may have been paid for
            failure = UpstreamFailed("speech_nonsense")
        # Raised outside the except blocks, because the client's error, which may quote the answer, must not become its
        # context.
        raise failure

    async def _ask(self, flac: bytes, language: str | None) -> bytes:
        # httpx sends a file object in blocks, between which other tasks run. It sends bytes in one block.
        async with self._transcriptions.create(
            file=("chunk.flac", BytesIO(flac), "audio/flac"),
            model=self._model,
            **_options(self._api, self._model, language),
        ) as answer:
            return await _read(answer.http_response)


def _options(api: SpeechApi, model: str, language: str | None) -> dict[str, Any]:
    """Return the form fields for this answer format and model. For gpt-transcribe, the field `language` is called
    `languages` (OpenAI's transcription guide, checked 2026-11-21).
    """
    options: dict[str, Any] = {"response_format": "json" if api is SpeechApi.TEXT else api.value}
    if api is SpeechApi.TEXT and model in _RETURN_LOGPROBS:
        options["include"] = ["logprobs"]
    if api is SpeechApi.VERBOSE_JSON:
        options["timestamp_granularities"] = ["segment"]
    if api is SpeechApi.DIARIZED_JSON:
        options["chunking_strategy"] = "auto"
    if language is not None and model.startswith("gpt-transcribe"):
        options["languages"] = [language]
    elif language is not None:
        options["language"] = language
    return options


async def _read(response: httpx2.Response) -> bytes:
    body = await read_body(response, _MAX_ANSWER_BYTES)
    if body is None:
        raise UpstreamFailed("speech_nonsense")
    return body
