"""Reads the answers of OpenAI's Responses and Chat Completions.

Only the text of the final answer is returned. Commentary, reasoning and tool calls are never read. Every other result
is an error with a reason: a refusal, a content filter, a cut answer, a failure, an unknown form. No error and no
`repr` contains text of an answer. The module does not check whether the text follows the schema.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.errors import AppError
from app.integrations.language.port import AnswerRefused, AnswerUnusable, LanguageAnswer, LanguageUsage
from app.integrations.language.refusals import translate_failure

_MAX_TOKENS: Final = 10**9
"""More tokens than any model can read or write in one request."""


def read_response(body: bytes, vendor: str, model: str) -> LanguageAnswer:
    """Return the final answer of a response of `/v1/responses`. Raises the errors of `Language.write`."""
    document = _parse(body)
    usage = _usage(document, vendor, model, ("input_tokens", "output_tokens", "input_tokens_details"))
    match document.get("status"):
        case "completed":
            return LanguageAnswer(_final_text(document, usage), usage)
        case "incomplete":
            reason = _object(document, "incomplete_details").get("reason")
            is_filtered = reason == "content_filter"
            raise AnswerRefused("language_filtered" if is_filtered else "language_incomplete", usage)
        case "failed":
            raise _failure(_object(document, "error").get("code"), usage)
        case _:
            raise AnswerUnusable("language_nonsense", usage)


def read_completion(body: bytes, vendor: str, model: str) -> LanguageAnswer:
    """Return the final answer of a response of `/v1/chat/completions`. Raises the errors of `Language.write`."""
    document = _parse(body)
    usage = _usage(document, vendor, model, ("prompt_tokens", "completion_tokens", "prompt_tokens_details"))
    choices = _objects(document.get("choices"))
    choice = choices[0] if len(choices) == 1 else {}
    message = _object(choice, "message")
    if message.get("refusal"):
        raise AnswerRefused("language_refused", usage)
    text = message.get("content")
    match choice.get("finish_reason"):
        case "stop" if isinstance(text, str) and text:
            return LanguageAnswer(text, usage)
        case "length":
            raise AnswerRefused("language_incomplete", usage)
        case "content_filter":
            raise AnswerRefused("language_filtered", usage)
        case _:
            raise AnswerUnusable("language_nonsense", usage)


def _final_text(document: Mapping[str, Any], usage: LanguageUsage) -> str:
    """Return the text of the last message that is no commentary. A message without a phase, which older models and
    other servers write, is a final answer.
    """
    messages = [
        item
        for item in _objects(document.get("output"))
        if item.get("type") == "message" and item.get("phase") in (None, "final_answer")
    ]
    parts = _objects(messages[-1].get("content")) if messages else []
    if any(part.get("type") == "refusal" for part in parts):
        raise AnswerRefused("language_refused", usage)
    texts = [part.get("text") for part in parts if part.get("type") == "output_text"]
    text = "".join(one for one in texts if isinstance(one, str))
    if not text:
        raise AnswerUnusable("language_nonsense", usage)
    return text


def _failure(code: object, usage: LanguageUsage) -> AppError:
    error = translate_failure(code)
    return AnswerRefused(error.reason, usage) if not error.retryable else error


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        # Raised outside the except block, because the error of json, which quotes the text, must not be its context.
        raise AnswerUnusable("language_nonsense", None)
    return document


def _usage(
    document: Mapping[str, Any], vendor: str, model: str, names: tuple[str, str, str]
) -> LanguageUsage:
    usage = _object(document, "usage")
    input_tokens, output_tokens = _count(usage.get(names[0])), _count(usage.get(names[1]))
    cached = min(input_tokens, _count(_object(usage, names[2]).get("cached_tokens")))
    return LanguageUsage(vendor, model, input_tokens, cached, output_tokens)


def _count(value: object) -> int:
    return min(value, _MAX_TOKENS) if type(value) is int and value > 0 else 0


def _object(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> Sequence[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
