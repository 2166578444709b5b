"""Parses the form of a transcription request by the documented API of its model.

Source: openai 3.52, `types/audio/transcription_create_params.py` (checked 2026-11-21). `gpt-transcribe` takes
`languages` and ignores `language`. The stand-in treats two kinds of valid parameters as wrong: formats that it does
not write (text, srt, vtt), and parameters that our code never sends.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

from devstack.openai.forms import Form
from devstack.openai.refusals import Refusal, invalid

DIARIZE: Final = "gpt-4o-transcribe-diarize"
SUCCESSOR: Final = "gpt-transcribe"
MODELS: Final = {
    SUCCESSOR: ("json",),
    "gpt-4o-transcribe": ("json",),
    "gpt-4o-mini-transcribe": ("json",),
    "gpt-4o-mini-transcribe-2025-12-15": ("json",),
    "whisper-1": ("json", "verbose_json"),
    DIARIZE: ("json", "diarized_json"),
}
"""The answer formats of each model."""

SUFFIXES: Final = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")
SHORTEST_SECONDS: Final = 0.1
_LONGEST_UNCHUNKED_SECONDS: Final = 30
_LONGEST_DIARIZED_SECONDS: Final = 1400
_SCALARS: Final = frozenset(
    ("model", "response_format", "language", "chunking_strategy", "prompt", "temperature")
)
_LISTS: Final = frozenset(("include[]", "languages[]", "timestamp_granularities[]"))
_GIVE_LOGPROBS: Final = frozenset(
    ("gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-mini-transcribe-2025-12-15")
)


@dataclass(frozen=True)
class Asked:
    """One request. `suffix` is the suffix of the file's name."""

    model: str
    response_format: str
    suffix: str
    content: bytes
    is_chunked: bool
    with_logprobs: bool = False


def asked(form: Form) -> Asked:
    """Parse the form. Raises Refusal."""
    fields = _known(form)
    model = fields.get("model", "")
    if model not in MODELS:
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise Refusal(404, message, code="model_not_found")
    response_format = fields.get("response_format", "json")
    if response_format not in MODELS[model]:
        message = f"response_format '{response_format}' is not compatible with model '{model}'."
        raise invalid(message, "response_format", "unsupported_value")
    _check_languages(form, fields, model)
    _check_granularities(form, response_format)
    if "prompt" in fields and model == DIARIZE:
        raise invalid("prompt is not supported for diarization models", "prompt")
    suffix, content = _file(form)
    return Asked(
        model,
        response_format,
        suffix,
        content,
        _is_chunked(fields.get("chunking_strategy")),
        _with_logprobs(form, model, response_format),
    )


def check_length(request: Asked, seconds: float) -> None:
    """Raise Refusal if the sound is longer than the requested model accepts."""
    if seconds < SHORTEST_SECONDS:
        message = "Audio file is too short. Minimum audio length is 0.1 seconds."
        raise invalid(message, "file", "audio_too_short")
    if request.model != DIARIZE:
        return
    if seconds > _LONGEST_UNCHUNKED_SECONDS and not request.is_chunked:
        raise invalid("chunking_strategy is required for diarization models", "chunking_strategy")
    if seconds > _LONGEST_DIARIZED_SECONDS:
        longest = f"{_LONGEST_DIARIZED_SECONDS} seconds which is the maximum for this model"
        raise Refusal(400, f"audio duration {seconds} seconds is longer than {longest}", code="invalid_value")


def _known(form: Form) -> dict[str, str]:
    for name, values in form.fields.items():
        if name not in _SCALARS | _LISTS:
            raise invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        if name in _SCALARS and len(values) != 1:
            raise invalid(f"Duplicate parameter: '{name}'.", name)
    if set(form.files) != {"file"}:
        raise invalid("Missing required parameter: 'file'.", "file", "missing_required_parameter")
    return {name: values[0] for name, values in form.fields.items() if name in _SCALARS}


def _check_languages(form: Form, fields: dict[str, str], model: str) -> None:
    given = form.fields.get("languages[]", [])
    if given and model != SUCCESSOR:
        raise invalid(f"languages is not supported for model '{model}'", "languages")
    for code in (*given, *([fields["language"]] if "language" in fields else ())):
        if re.fullmatch(r"[a-z]{2}", code) is None:
            message = f"Invalid language '{code}'. Language must be specified in ISO-639-1 format."
            raise invalid(message, "language")


def _check_granularities(form: Form, response_format: str) -> None:
    given = form.fields.get("timestamp_granularities[]", [])
    if given and response_format != "verbose_json":
        raise invalid("timestamp_granularities needs verbose_json", "timestamp_granularities")
    if not set(given) <= {"word", "segment"}:
        raise invalid("Unknown granularity", "timestamp_granularities")


def _with_logprobs(form: Form, model: str, response_format: str) -> bool:
    given = form.fields.get("include[]", [])
    if not set(given) <= {"logprobs"}:
        raise invalid("Unknown value in include", "include")
    if given and (model not in _GIVE_LOGPROBS or response_format != "json"):
        raise invalid(f"logprobs is not supported for model '{model}'", "include", "unsupported_value")
    return bool(given)


def _is_chunked(strategy: str | None) -> bool:
    if strategy in (None, "auto"):
        return strategy is not None
    try:
        wanted = json.loads(strategy or "")
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict) or wanted.get("type") != "server_vad":
        raise invalid("Invalid chunking_strategy", "chunking_strategy")
    return True


def _file(form: Form) -> tuple[str, bytes]:
    name, content = form.files["file"]
    suffix = name.rpartition(".")[2].lower()
    if suffix not in SUFFIXES:
        raise Refusal(400, f"Invalid file format. Supported formats: {list(SUFFIXES)}")
    return suffix, content
