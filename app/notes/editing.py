"""Edits a note draft: composes it from insights, replaces the lines of a section, and resolves flags. Pure.

Every function returns a new draft. The flags of a line follow from the line and the present turns, so a flag may come
or go after a correction of the transcript.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from app.errors import Conflict, InvalidInput, NotFound
from app.insights.drafts import Section
from app.insights.evidence import Evidence
from app.insights.flags.checker import Checker
from app.insights.model import Citation, Flag, Line
from app.insights.numbered import NumberedLine
from app.notes.model import (
    MAX_LINE_CHARACTERS,
    MAX_LINES,
    MAX_REMOVED,
    CheckedLine,
    Draft,
    DraftLine,
    LineAuthor,
    RemovedFlag,
    Resolution,
    ResolvedFlag,
    Writer,
)
from app.texts.unsafe_characters import has_unsafe_characters, remove_unsafe_characters
from app.transcripts.model import Turn

_ORDER: Final = {flag: place for place, flag in enumerate(Flag)}


@dataclass(frozen=True)
class LineEdit:
    """A line that a doctor sends for a section. `number` is the number of the line that it replaces, or None for a new
    line.
    """

    text: str = field(repr=False)
    number: int | None = None


class LineChecker:
    """Finds the flags of lines about one transcript."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._evidence = Evidence(turns)
        self._checker = Checker(turns)

    def flags_of(self, line: DraftLine) -> frozenset[Flag]:
        """Return the flags of the line, resolved or not. A line without a quote has none, because there is nothing to
        compare it with. A line has WEAK_SUPPORT if the transcript does not contain one of its quotes any more.
        """
        if not line.citations:
            return frozenset()
        quoted = self._evidence.verify(Line(line.text, line.citations))
        return frozenset({Flag.WEAK_SUPPORT}) if quoted is None else self._checker.flag(quoted)

    def check(self, line: DraftLine) -> CheckedLine:
        """Return the line with all its flags and their resolutions."""
        flags = self.flags_of(line)
        resolved = dict.fromkeys(line.changed - flags, Resolution.CHANGED)
        resolved |= dict.fromkeys(line.kept & flags, Resolution.KEPT)
        named = sorted(flags | line.changed, key=_ORDER.__getitem__)
        return CheckedLine(line, tuple(ResolvedFlag(flag, resolved.get(flag)) for flag in named))

    def has_open_flags(self, draft: Draft) -> bool:
        """Return whether a flag of the draft has no resolution."""
        return any(self.flags_of(line) - line.kept for line in draft.lines)


def compose_draft(
    note: Mapping[Section, Iterable[NumberedLine]],
    *,
    dismissed: Collection[int] = (),
    generation: int | None = None,
    writer: Writer | None = None,
) -> Draft:
    """Return the draft that the insights propose. The lines keep the numbers that they have in the insights.
    `dismissed` has the numbers of the lines that the doctor took out of view.
    """
    sections: dict[Section, tuple[DraftLine, ...]] = {}
    last = 0
    for section in Section:
        proposed = []
        for line in note.get(section, ()):
            last = max(last, line.number)
            text = remove_unsafe_characters(line.text)
            if text and line.number not in dismissed:
                citations = tuple(Citation(one.turn_number, one.quote) for one in line.citations)
                proposed.append(DraftLine(line.number, text, citations, LineAuthor.WRITER))
        sections[section] = tuple(proposed[:MAX_LINES])
    return Draft(sections, last + 1, (), generation, writer)


def edit_section(draft: Draft, section: Section, edits: Sequence[LineEdit], checker: LineChecker) -> Draft:
    """Return the draft with these lines in the section, in their order.

    A line that names the number of a line keeps its citations, and a line that names none keeps those of a line with
    the same text. If the text changed, the line is the doctor's, and its kept flags need a new confirmation. A new
    line has no citation. The flags of lines that are left out count as removed.

    Raises InvalidInput (note_line_..., note_too_many_lines), NotFound (note_line_unknown).
    """
    before = {line.number: line for line in draft.of(section)}
    texts = _check_texts(edits, {line.text for line in before.values()})
    same = _match_same_texts(edits, texts, before)
    lines = []
    number = draft.next_number
    for place, (edit, text) in enumerate(zip(edits, texts, strict=True)):
        known = before.get(edit.number) if edit.number is not None else same.get(place)
        if edit.number is not None and known is None:
            raise NotFound("note_line_unknown")
        if known is None:
            lines.append(DraftLine(number, text))
            number += 1
        else:
            lines.append(_reword(known, text, checker))
    left = {line.number for line in lines}
    gone = [line for key, line in before.items() if key not in left]
    removed = (*draft.removed, *_flags_of_removed(section, gone, checker))[-MAX_REMOVED:]
    return replace(draft.with_section(section, tuple(lines)), next_number=number, removed=removed)


def replace_section(
    draft: Draft, section: Section, lines: Iterable[Line], checker: LineChecker, *, writer: Writer
) -> Draft:
    """Return the draft with the lines that the writer wrote anew for the section. The other sections stay as they
    are.
    """
    texts = ((remove_unsafe_characters(line.text), line) for line in lines)
    written = [(text, line) for text, line in texts if text][:MAX_LINES]
    proposed = tuple(
        DraftLine(draft.next_number + place, text, line.citations, LineAuthor.WRITER)
        for place, (text, line) in enumerate(written)
    )
    gone = _flags_of_removed(section, draft.of(section), checker)
    return replace(
        draft.with_section(section, proposed),
        next_number=draft.next_number + len(proposed),
        removed=(*draft.removed, *gone)[-MAX_REMOVED:],
        writer=writer,
    )


def keep_flag(draft: Draft, number: int, flag: Flag, checker: LineChecker) -> Draft:
    """Return the draft in which the doctor has confirmed a flagged line as it is. If the flag is already kept, the
    draft does not change.

    Raises NotFound (note_line_unknown), Conflict (note_flag_gone) if the line does not have the flag.
    """
    for section in Section:
        for line in draft.of(section):
            if line.number != number:
                continue
            if flag not in checker.flags_of(line):
                raise Conflict("note_flag_gone")
            kept = replace(line, kept=line.kept | {flag})
            return draft.with_section(
                section, tuple(kept if one is line else one for one in draft.of(section))
            )
    raise NotFound("note_line_unknown")


def check_text(text: str, known: Collection[str] = ()) -> str:
    """Return the text of a line in NFC, with single spaces between words. The length limit does not apply to a text
    that is already in the draft (`known`), because the writer may have quoted a long sentence.

    Raises InvalidInput (note_line_characters, note_line_too_long, note_line_empty).
    """
    if has_unsafe_characters(text):
        raise InvalidInput("note_line_characters")
    words = remove_unsafe_characters(text)
    if words not in known and max(len(text), len(words)) > MAX_LINE_CHARACTERS:
        raise InvalidInput("note_line_too_long", maximum=MAX_LINE_CHARACTERS)
    if not words:
        raise InvalidInput("note_line_empty")
    return words


def _check_texts(edits: Sequence[LineEdit], known: Collection[str]) -> list[str]:
    if len(edits) > MAX_LINES:
        raise InvalidInput("note_too_many_lines", maximum=MAX_LINES)
    numbers = [edit.number for edit in edits if edit.number is not None]
    if len(set(numbers)) != len(numbers):
        raise InvalidInput("note_line_twice")
    return [check_text(edit.text, known) for edit in edits]


def _match_same_texts(
    edits: Sequence[LineEdit], texts: Sequence[str], before: Mapping[int, DraftLine]
) -> dict[int, DraftLine]:
    """Return the line with the same text for each edit that names no line. No line is returned twice."""
    named = {edit.number for edit in edits}
    free = [line for number, line in before.items() if number not in named]
    same: dict[int, DraftLine] = {}
    for place, (edit, text) in enumerate(zip(edits, texts, strict=True)):
        found = next((line for line in free if line.text == text), None) if edit.number is None else None
        if found is not None:
            free.remove(found)
            same[place] = found
    return same


def _reword(line: DraftLine, text: str, checker: LineChecker) -> DraftLine:
    if text == line.text:
        return line
    reworded = replace(line, text=text, author=LineAuthor.DOCTOR, kept=frozenset())
    changed = line.changed | checker.flags_of(line)
    return replace(reworded, changed=changed - checker.flags_of(reworded))


def _flags_of_removed(
    section: Section, lines: Iterable[DraftLine], checker: LineChecker
) -> list[RemovedFlag]:
    return [
        RemovedFlag(section, flag)
        for line in lines
        for flag in sorted(checker.flags_of(line), key=_ORDER.__getitem__)
    ]
