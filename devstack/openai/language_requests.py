"""Parses the requests for `/v1/responses` and `/v1/chat/completions`, as strictly as OpenAI.

Source: openai 3.57, `types/responses/response_create_params.py` and `types/chat/completion_create_params.py` (checked
2026-11-30). The stand-in treats valid parameters that our code never sends as unknown, so that a test finds a request
that would leave state at the vendor (`background`, `conversation`, `previous_response_id`, `metadata`, `user`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from openai.types.shared import ChatModel

from app.integrations.language.port import LanguageRequest
from app.settings.model_ends import MODEL_ENDS, today
from devstack.openai.json_schemas import check_schema
from devstack.openai.refusals import Refusal, invalid

_LEAST_OUTPUT_TOKENS: Final = 16
_MOST_CHARACTERS: Final = 10_485_760
"""The maximum length of a text (as users quote OpenAI's error `string_above_max_length`, checked 2026-11-30)."""

_RESPONSES: Final = frozenset(
    (
        "model",
        "instructions",
        "input",
        "text",
        "store",
        "max_output_tokens",
        "truncation",
        "prompt_cache_options",
    )
)
_CHAT: Final = frozenset(
    ("model", "messages", "response_format", "store", "max_completion_tokens", "prompt_cache_options")
)


@dataclass(frozen=True)
class LanguageAsked:
    """One request. `is_cacheable` says whether the request permits prompt caching."""

    model: str
    is_chat: bool
    request: LanguageRequest = field(repr=False)
    is_stored: bool
    is_cacheable: bool


def parse_response_request(body: bytes) -> LanguageAsked:
    """Parse a request for `/v1/responses`. Raises Refusal."""
    fields = _fields(body, _RESPONSES)
    messages = _messages(fields.get("input"), "input", "input_text")
    if [role for role, _ in messages] != ["user"]:
        raise invalid("The stand-in expects one message of the user", "input")
    form = _object(_object(fields, "text"), "format")
    schema = _schema(form, form.get("type"), "text.format")
    if fields.get("truncation", "disabled") != "disabled":
        raise invalid("The stand-in expects truncation 'disabled'", "truncation")
    return _asked(fields, False, _string(fields, "instructions"), messages[0][1], schema, "max_output_tokens")


def parse_chat_request(body: bytes) -> LanguageAsked:
    """Parse a request for `/v1/chat/completions`. Raises Refusal."""
    fields = _fields(body, _CHAT)
    messages = _messages(fields.get("messages"), "messages", "text")
    if [role for role, _ in messages] != ["system", "user"]:
        raise invalid("The stand-in expects a message of the system and one of the user", "messages")
    form = _object(fields, "response_format")
    schema = _schema(_object(form, "json_schema"), form.get("type"), "response_format.json_schema")
    instructions = "\n".join(messages[0][1])
    return _asked(fields, True, instructions, messages[1][1], schema, "max_completion_tokens")


def _asked(
    fields: Mapping[str, Any],
    is_chat: bool,
    instructions: str,
    texts: Sequence[str],
    schema: tuple[str, Mapping[str, Any]],
    limit_name: str,
) -> LanguageAsked:
    limit = fields.get(limit_name)
    if type(limit) is not int or limit < _LEAST_OUTPUT_TOKENS:
        raise invalid(
            f"Invalid '{limit_name}': integer below minimum value", limit_name, "integer_below_min_value"
        )
    store = fields.get("store", True)
    if not isinstance(store, bool):
        raise invalid("Invalid type for 'store'", "store", "invalid_type")
    cache = fields.get("prompt_cache_options", {})
    if (
        not isinstance(cache, dict)
        or cache.keys() - {"mode", "ttl"}
        or cache.get("mode", "implicit")
        not in (
            "implicit",
            "explicit",
        )
    ):
        raise invalid("Invalid 'prompt_cache_options'", "prompt_cache_options")
    request = LanguageRequest(
        instructions=instructions,
        transcript=texts[0],
        task="\n".join(texts[1:]),
        schema_name=schema[0],
        schema=schema[1],
        max_output_tokens=limit,
    )
    return LanguageAsked(_model(fields), is_chat, request, store, cache.get("mode") != "explicit")


def _fields(body: bytes, known: frozenset[str]) -> Mapping[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Refusal(400, "We could not parse the JSON body of your request.")
    for name in fields.keys() - known:
        raise invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    return fields


def _model(fields: Mapping[str, Any]) -> str:
    model = fields.get("model")
    end = MODEL_ENDS.get(model) if isinstance(model, str) else None
    if model not in get_args(ChatModel) or (end is not None and end <= today()):
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise Refusal(404, message, code="model_not_found")
    return str(model)


def _schema(form: Mapping[str, Any], kind: object, param: str) -> tuple[str, Mapping[str, Any]]:
    if kind != "json_schema":
        raise invalid("The stand-in expects a JSON schema", param)
    return str(form.get("name")), check_schema(
        form.get("name"), form.get("schema"), form.get("strict"), param
    )


def _messages(value: object, param: str, part_type: str) -> list[tuple[str, list[str]]]:
    if not isinstance(value, list) or not value:
        raise invalid(f"Invalid type for '{param}'", param, "invalid_type")
    return [_message(each, param, part_type) for each in value]


def _message(message: object, param: str, part_type: str) -> tuple[str, list[str]]:
    if not isinstance(message, dict) or message.keys() - {"role", "content", "type"}:
        raise invalid(f"Invalid value in '{param}'", param)
    content = message.get("content")
    parts = [{"type": part_type, "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts:
        raise invalid(f"Invalid value in '{param}'", param)
    texts = []
    for part in parts:
        if (
            not isinstance(part, dict)
            or part.get("type") != part_type
            or not isinstance(part.get("text"), str)
        ):
            raise invalid(f"Invalid value in '{param}'", param)
        if len(part["text"]) > _MOST_CHARACTERS:
            raise invalid("string too long", param, "string_above_max_length")
        texts.append(part["text"])
    return str(message.get("role")), texts


def _object(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    if not isinstance(value, dict):
        raise invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    return value


def _string(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise invalid(f"Invalid type for '{name}'", name, "invalid_type")
    return value
