"""Loads named SQL: the statements in the `queries.sql` of each feature, under `-- name: <identifier>`."""

import re
from pathlib import Path
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: ([a-z_][a-z0-9_]*)$", re.MULTILINE)


class Queries:
    """The SQL statements of one file by name.

    Raises ValueError if the file has text before its first statement's name, or has two statements of the same
    name.
    """

    def __init__(self, path: Path) -> None:
        head, *parts = _NAME.split(path.read_text(encoding="utf-8"))
        names, bodies = parts[::2], parts[1::2]
        if head.strip() or len(set(names)) != len(names):
            raise ValueError(f"{path.name}: statements must have names of their own")
        self._statements = {
            name: cast("LiteralString", body.strip().rstrip(";"))
            for name, body in zip(names, bodies, strict=True)
        }

    def __getitem__(self, name: str) -> LiteralString:
        return self._statements[name]
