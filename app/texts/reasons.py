"""Reads the registry of error reasons. For each reason, the registry `reasons.toml` contains the error codes, the
readers, the texts and the remedies. The page `docs/reasons.md` is generated from the registry.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal, cast

Language = Literal["en", "es"]
Reader = Literal["caller", "recording", "transcription", "invitation", "operator", "log"]
Sentences = Mapping[Language, str]


@dataclass(frozen=True)
class Reason:
    """An error reason, and the texts that people read about it."""

    #: The codes of the AppErrors that carry the reason. Empty if only a status carries it.
    codes: tuple[str, ...]
    readers: tuple[Reader, ...]
    #: What happened.
    text: Sentences
    #: What happened, for the reader of a recording's `errorText`.
    recording_text: Sentences
    #: What the reader can do.
    remedy: Sentences
    #: What the operator of the service can do.
    operator_remedy: Sentences
    #: The names of the values in the sentences, which the error's detail has.
    parameters: tuple[str, ...] = field(default=())


@cache
def load_reasons() -> Mapping[str, Reason]:
    """Return every registered reason by its name."""
    tables = tomllib.loads(files(__package__).joinpath("reasons.toml").read_text("utf-8"))
    return {name: _reason(entry, tables["remedies"]) for name, entry in tables["reasons"].items()}


def _reason(entry: Mapping[str, Any], shared: Mapping[str, Sentences]) -> Reason:
    remedy = entry["remedy"]
    if isinstance(remedy, str):
        remedy = shared[remedy]
    return Reason(
        codes=tuple(entry["codes"]),
        readers=cast("tuple[Reader, ...]", tuple(entry["readers"])),
        text=entry["text"],
        recording_text=entry.get("recording_text", entry["text"]),
        remedy=remedy,
        operator_remedy=entry.get("operator_remedy", remedy),
        parameters=tuple(entry.get("parameters", ())),
    )
