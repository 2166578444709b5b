"""Writes the answers of `/v1/responses` and `/v1/chat/completions`, and the faults that orders demand.

The shapes are those of openai 3.57, `types/responses/response.py` and `types/chat/chat_completion.py` (checked
2026-11-30). The extractive writer of the product writes the text of an answer.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from app.insights.writing.extractive import answer_request
from devstack.openai.json_schemas import blank
from devstack.openai.language_requests import LanguageAsked

_CREATED: Final = 1_780_000_000
_CHARACTERS_PER_TOKEN: Final = 4
_REFUSAL: Final = "I'm sorry, but I can't help with that."
_COMMENTARY: Final = "I will first read the transcript, and then write the answer."
INJECTED: Final = "The patient may have opioids."


@dataclass(frozen=True)
class Tokens:
    """The tokens of one answer. The stand-in counts a token for each four characters."""

    input: int
    cached: int
    output: int


def compose_text(asked: LanguageAsked, order: str) -> str:
    """Return the JSON text of the answer, with the fault that the order demands. A request that is not one of the
    product's gets the emptiest JSON that follows its schema.
    """
    try:
        text = answer_request(asked.request)
    except (ValueError, KeyError):
        schema = asked.request.schema
        definitions = schema.get("$defs", {})
        text = json.dumps(blank(schema, definitions if isinstance(definitions, dict) else {}))
    if order in _FAULTS:
        document = json.loads(text)
        _FAULTS[order](document)
        text = json.dumps(document, ensure_ascii=False)
    return text[: len(text) // 2] if order in ("language_cut_json", "language_incomplete") else text


def count_tokens(asked: LanguageAsked, text: str, *, is_cached: bool) -> Tokens:
    """Return the tokens of the request and of the answer."""
    request = asked.request
    prefix = _tokens(request.instructions + json.dumps(request.schema) + request.transcript)
    return Tokens(prefix + _tokens(request.task), prefix if is_cached else 0, _tokens(text))


def write_response(asked: LanguageAsked, text: str, tokens: Tokens, order: str) -> dict[str, Any]:
    """Return the body of an answer of `/v1/responses`."""
    is_cut = order == "language_incomplete" or tokens.output > asked.request.max_output_tokens
    reason = "content_filter" if order == "language_filter" else "max_output_tokens" if is_cut else None
    output: list[dict[str, Any]] = [{"id": _id("rs", asked), "type": "reasoning", "summary": []}]
    if order == "language_commentary":
        output.append(
            _message(asked, "commentary", {"type": "output_text", "text": _COMMENTARY, "annotations": []})
        )
    if order == "language_refusal":
        output.append(_message(asked, "final_answer", {"type": "refusal", "refusal": _REFUSAL}))
    elif order != "language_filter":
        output.append(
            _message(asked, "final_answer", {"type": "output_text", "text": text, "annotations": []})
        )
    return {
        "id": _id("resp", asked),
        "object": "response",
        "created_at": _CREATED,
        "status": "completed" if reason is None else "incomplete",
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": asked.model,
        "output": output,
        "store": asked.is_stored,
        "usage": {
            "input_tokens": tokens.input,
            "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
            "output_tokens": tokens.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens.input + tokens.output,
        },
    }


def write_completion(asked: LanguageAsked, text: str, tokens: Tokens, order: str) -> dict[str, Any]:
    """Return the body of an answer of `/v1/chat/completions`."""
    is_cut = order == "language_incomplete" or tokens.output > asked.request.max_output_tokens
    reason = "content_filter" if order == "language_filter" else "length" if is_cut else "stop"
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    if order == "language_commentary":
        message["content"] = f"{_COMMENTARY}\n\n{text}"
    if order == "language_refusal":
        message |= {"content": None, "refusal": _REFUSAL}
    if order == "language_filter":
        message["content"] = ""
    return {
        "id": _id("chatcmpl", asked),
        "object": "chat.completion",
        "created": _CREATED,
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": tokens.input,
            "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
            "completion_tokens": tokens.output,
            "completion_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens.input + tokens.output,
        },
    }


def _message(asked: LanguageAsked, phase: str, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": _id("msg", asked),
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "phase": phase,
        "content": [content],
    }


def _id(prefix: str, asked: LanguageAsked) -> str:
    return f"{prefix}_{sha256(asked.request.task.encode()).hexdigest()[:24]}"


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _citations(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if {"turn", "quote"} <= value.keys():
            yield value
        for each in value.values():
            yield from _citations(each)
    elif isinstance(value, list):
        for each in value:
            yield from _citations(each)


def _name_unknown_turns(document: dict[str, Any]) -> None:
    for citation in _citations(document):
        citation["turn"] = "t999999"


def _alter_quotes(document: dict[str, Any]) -> None:
    for citation in _citations(document):
        citation["quote"] = f"{citation['quote']} zzyzx"


def _inject_claims(document: dict[str, Any]) -> None:
    """Add a line that nobody said to each list of lines, with the citation of a line that is there."""
    cited = next(_citations(document), {"turn": "t1"})
    claim = {
        "text": INJECTED,
        "citations": [{"turn": cited["turn"], "quote": "the patient may have opioids"}],
    }
    note = document.get("note", {})
    for lines in (
        document.get("summary"),
        document.get("key_points"),
        document.get("answer"),
        *note.values(),
    ):
        if isinstance(lines, list):
            lines.append(claim)


_FAULTS: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
    "language_unknown_turns": _name_unknown_turns,
    "language_altered_quotes": _alter_quotes,
    "language_claims": _inject_claims,
}
