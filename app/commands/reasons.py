"""Writes the page `docs/reasons.md`, with the tables of all error reasons, from the registry of reasons."""

from collections.abc import Iterator

from app.texts import problem_text
from app.texts.reasons import Reader, load_reasons

_HEAD = """\
# Reasons of errors

`resguardo reasons` generates this page from `app/texts/reasons.toml`, which also has every sentence in Spanish. Logs,
audit rows and commands spell a reason as here, and the API spells it in capitals (`CONSENT_MISSING`). Names in braces
stand for values from the error's `extensions.details`.
"""


def reasons_page() -> str:
    """Return the page `docs/reasons.md` in Markdown."""
    return "\n".join(
        (
            _HEAD,
            *_table("Answers of the API", "reason | code | message", _answers()),
            *_table(
                "Problems of recordings and their media files", "reason | message", _problems("recording")
            ),
            *_table("Problems of transcriptions", "reason | message", _problems("transcription")),
            *_table("Problems of insights", "reason | message", _problems("insights")),
            *_table("Problems of staff invitations", "reason | message", _problems("invitation")),
            *_table("Problems of deletions", "reason | message", _problems("deletion")),
            *_table("Problems of the copies of access requests", "reason | message", _problems("export")),
            *_table("Problems of clips", "reason | message", _problems("clip")),
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


def _problems(reader: Reader) -> Iterator[tuple[str, ...]]:
    return ((f"`{name}`", problem_text(reader, name, "en")) for name in _read_by(reader))


def _operators() -> Iterator[tuple[str, ...]]:
    for name in _read_by("operator", "log"):
        reason = load_reasons()[name]
        yield f"`{name}`", reason.text["en"], reason.operator_remedy["en"]
