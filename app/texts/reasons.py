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
Reader = Literal[
    "caller",
    "recording",
    "transcription",
    "insights",
    "invitation",
    "deletion",
    "export",
    "audit_export",
    "officer_proposal",
    "webhook",
    "signed_note",
    "clip",
    "operator",
    "log",
]
Sentences = Mapping[Language, str]


@dataclass(frozen=True)
class Reason:
    """An error reason, and the texts that people read about it."""

    #: The codes of the AppErrors that carry the reason. Empty if only a status carries it.
    codes: tuple[str, ...]
    readers: tuple[Reader, ...]
    #: What happened.
    text: Sentences
    #: What happened, for the reader of a recording's `problem`.
    recording_text: Sentences
    #: What the reader can do.
    remedy: Sentences
    #: What the operator of the service can do.
    operator_remedy: Sentences
    #: What a reader of one kind can do, if that differs from `remedy`.
    remedy_for: Mapping[Reader, Sentences]
    #: The names of the values in the sentences, which the error's detail has.
    parameters: tuple[str, ...] = field(default=())


@cache
def load_reasons() -> Mapping[str, Reason]:
    """Return every registered reason by its name."""
    tables = tomllib.loads(files(__package__).joinpath("reasons.toml").read_text("utf-8"))
    return {name: _reason(entry, tables["remedies"]) for name, entry in tables["reasons"].items()}


def _reason(entry: Mapping[str, Any], shared: Mapping[str, Sentences]) -> Reason:
    def find(remedy: str | Sentences) -> Sentences:
        return shared[remedy] if isinstance(remedy, str) else remedy

    remedy = find(entry["remedy"])
    return Reason(
        codes=tuple(entry["codes"]),
        readers=cast("tuple[Reader, ...]", tuple(entry["readers"])),
        text=entry["text"],
        recording_text=entry.get("recording_text", entry["text"]),
        remedy=remedy,
        operator_remedy=find(entry.get("operator_remedy", remedy)),
        remedy_for={reader: find(its_own) for reader, its_own in entry.get("remedy_for", {}).items()},
        parameters=tuple(entry.get("parameters", ())),
    )
