"""Splits a migration into statements as the Supabase CLI does, so that both write the same ledger row.

A port, state for state, of the tokenizer in supabase/cli (pkg/parser/state.go, read 2026-11-21), with its
quirks: a semicolon ends a statement unless it stands in a quote, a dollar quote, a comment, parentheses or a
`begin atomic` body; comments stay with the statement they precede. It knows no SQL beyond that: what is split
wrongly fails when it is run, and its file rolls back.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

_BEGIN_ATOMIC = re.compile(r"(?<![\w$])begin\s+atomic\Z", re.IGNORECASE)
_LONGEST_BEGIN_ATOMIC = 200


def split(text: str) -> list[str]:
    """The statements in order, without their final semicolons and the white space around; empty ones are left
    out.
    """
    statements, start = [], 0
    state: _State = _Ready()
    for at in range(len(text)):
        following = state.after(text, at)
        if following is None:
            statements.append(text[start : at + 1])
            start = at + 1
        state = following or _Ready()
    statements.append(text[start:])
    trimmed = (statement.rstrip(";").strip() for statement in statements)
    return [statement for statement in trimmed if statement]


class _State(Protocol):
    def after(self, text: str, at: int) -> "_State | None":
        """The state once the character at `at` is read; None if it ended a statement."""


@dataclass
class _Ready:
    def after(self, text: str, at: int) -> "_State | None":
        character = text[at]
        if character == ";":
            return None
        if character in _OPENING:
            return _OPENING[character](at)
        if character in "cC" and _BEGIN_ATOMIC.search(text, max(0, at - _LONGEST_BEGIN_ATOMIC), at + 1):
            return _Nested("END")
        return self


@dataclass
class _Dash:
    def after(self, text: str, at: int) -> _State | None:
        return _Verbatim("\n") if text[at] == "-" else _Ready().after(text, at)


@dataclass
class _Block:
    depth: int = 0

    def after(self, text: str, at: int) -> _State | None:
        edge = text[at - 1 : at + 1]
        if edge == "/*":
            self.depth += 1
            return self
        if self.depth == 0:
            return _Ready().after(text, at)
        if edge == "*/":
            self.depth -= 1
        return self if self.depth else _Ready()


@dataclass
class _Quote:
    delimiter: str
    closed: bool = False

    def after(self, text: str, at: int) -> _State | None:
        is_delimiter = text[at] == self.delimiter
        if self.closed and not is_delimiter:
            return _Ready().after(text, at)
        self.closed = is_delimiter and not self.closed
        return self


@dataclass
class _Verbatim:
    """A line comment or a dollar quote: nothing counts but its end."""

    delimiter: str

    def after(self, text: str, at: int) -> _State | None:
        return _Ready() if text.endswith(self.delimiter, 0, at + 1) else self


@dataclass
class _Tag:
    opened_at: int

    def after(self, text: str, at: int) -> _State | None:
        if text[at] == "$":
            return _Verbatim(text[self.opened_at : at + 1])
        if text[at].isalpha() or text[at].isdigit() or text[at] == "_":
            return self
        return _Ready().after(text, at)


@dataclass
class _Escape:
    def after(self, text: str, at: int) -> _State | None:
        return _Ready()


@dataclass
class _Nested:
    """Parentheses or a `begin atomic` body, in which semicolons end nothing."""

    delimiter: str
    inner: _State = field(default_factory=_Ready)

    def after(self, text: str, at: int) -> _State | None:
        self.inner = self.inner.after(text, at) or self.inner
        is_quoted = not isinstance(self.inner, _Ready)
        if is_quoted or text[at + 1 - len(self.delimiter) : at + 1].upper() != self.delimiter:
            return self
        return _Ready()


_OPENING: dict[str, Callable[[int], _State]] = {
    "$": _Tag,
    "'": lambda at: _Quote("'"),
    '"': lambda at: _Quote('"'),
    "-": lambda at: _Dash(),
    "/": lambda at: _Block(),
    "\\": lambda at: _Escape(),
    "(": lambda at: _Nested(")"),
}
