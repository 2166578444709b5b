"""Writes the page `docs/reasons.md`, with the tables of all error reasons, from the registry of reasons."""

from collections.abc import Iterator

from app.texts import reason_text, recording_error_text, transcription_error_text
from app.texts.reasons import Reader, load_reasons

_HEAD = """\
# Reasons of errors

`resguardo reasons` generates this page from `app/texts/reasons.toml`, which also has every sentence in Spanish. Names
in braces stand for values from the error's `extensions`.
"""


def reasons_page() -> str:
    """Return the page `docs/reasons.md` in Markdown."""
    return "\n".join(
        (
            _HEAD,
            *_table("Answers of the API", "reason | code | message", _answers()),
            *_table("Errors of recordings and their sounds", "error | `errorText`", _recordings()),
            *_table("Errors of transcriptions", "error | `errorText`", _transcriptions()),
            *_table("Errors of staff invitations", "error | `errorText`", _invitations()),
            *_table("For operators", "reason | what happened | remedy", _operators()),
        )
    )


def _table(title: str, columns: str, rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"## {title}"
    yield f"| {columns} |"
    yield "|" + "---|" * (columns.count("|") + 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _read_by(*readers: Reader) -> Iterator[str]:
    return (name for name, reason in sorted(load_reasons().items()) if set(readers) & set(reason.readers))


def _answers() -> Iterator[tuple[str, ...]]:
    for name in _read_by("caller"):
        reason = load_reasons()[name]
        codes = ", ".join(f"`{code}`" for code in reason.codes)
        yield f"`{name}`", codes, f"{reason.text['en']} {reason.remedy['en']}"


def _recordings() -> Iterator[tuple[str, ...]]:
    return ((f"`{name}`", recording_error_text(name, "en")) for name in _read_by("recording"))


def _transcriptions() -> Iterator[tuple[str, ...]]:
    return ((f"`{name}`", transcription_error_text(name, "en")) for name in _read_by("transcription"))


def _invitations() -> Iterator[tuple[str, ...]]:
    return ((f"`{name}`", reason_text(name, "en")) for name in _read_by("invitation"))


def _operators() -> Iterator[tuple[str, ...]]:
    for name in _read_by("operator", "log"):
        reason = load_reasons()[name]
        yield f"`{name}`", reason.text["en"], reason.operator_remedy["en"]
