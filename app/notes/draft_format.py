"""Formats and parses the stored form of a note draft, before encryption. Pure.

The stored form is compact JSON with a version. The parser is strict, and no error contains text of the draft.
"""

import json
from typing import Final

from app.errors import Conflict
from app.insights.drafts import Section
from app.insights.model import Citation, Flag
from app.notes.model import Draft, DraftLine, LineAuthor, RemovedFlag, Writer

DRAFT_FORMAT: Final = 1


def format_draft(draft: Draft) -> bytes:
    """Return the draft as JSON."""
    written = {
        "draft": DRAFT_FORMAT,
        "sections": {section.value: [_line_row(line) for line in draft.of(section)] for section in Section},
        "next": draft.next_number,
        "removed": [[one.section.value, one.flag.value] for one in draft.removed],
        "generation": draft.generation,
        "writer": draft.writer and [draft.writer.vendor, draft.writer.model],
    }
    return json.dumps(written, ensure_ascii=False, separators=(",", ":")).encode("utf-8", errors="replace")


def parse_draft(stored: bytes) -> Draft:
    """Return the draft. Raises Conflict (note_draft_malformed, note_draft_format_unknown)."""
    try:
        read = json.loads(stored.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Conflict("note_draft_malformed") from None
    if not isinstance(read, dict) or type(read.get("draft")) is not int:
        raise Conflict("note_draft_malformed")
    if read["draft"] != DRAFT_FORMAT:
        raise Conflict("note_draft_format_unknown", version=read["draft"])
    try:
        match read:
            case {
                "sections": dict(sections),
                "next": int(next_number),
                "removed": list(removed),
                "generation": int() | None as generation,
                "writer": [str(), str()] | None as writer,
            } if len(read) == 6 and sections.keys() == set(Section):
                return Draft(
                    {section: tuple(_parse_line(row) for row in sections[section]) for section in Section},
                    next_number,
                    tuple(RemovedFlag(Section(section), Flag(flag)) for section, flag in removed),
                    generation,
                    writer and Writer(*writer),
                )
    except (ValueError, TypeError):
        pass
    raise Conflict("note_draft_malformed")


def _line_row(line: DraftLine) -> list[object]:
    citations = [[citation.turn_number, citation.quote] for citation in line.citations]
    return [
        line.number,
        line.text,
        citations,
        line.author.value,
        _flag_row(line.kept),
        _flag_row(line.changed),
    ]


def _flag_row(flags: frozenset[Flag]) -> list[str]:
    return sorted(flag.value for flag in flags)


def _parse_line(row: object) -> DraftLine:
    match row:
        case [int(number), str(text), list(citations), str(author), list(kept), list(changed)] if text:
            return DraftLine(
                number,
                text,
                tuple(_parse_citation(one) for one in citations),
                LineAuthor(author),
                frozenset(Flag(flag) for flag in kept),
                frozenset(Flag(flag) for flag in changed),
            )
    raise ValueError("no line")


def _parse_citation(row: object) -> Citation:
    match row:
        case [int(turn_number), str(quote)] if turn_number >= 0 and quote:
            return Citation(turn_number, quote)
    raise ValueError("no citation")
