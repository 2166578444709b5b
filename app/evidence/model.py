"""Types of evidence packs. Pure."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Range:
    """The range of time of a pack: from `since`, and before `until`."""

    since: datetime
    until: datetime


@dataclass(frozen=True)
class SectionReport:
    """What one section of a pack contains. `rule` is the rule of 45 CFR that it answers, `place` is its file or folder
    in the pack, and `sentence` says in plain words what was found, or that there was nothing. If `is_built` is false,
    this version has no such part.
    """

    title: str
    rule: str
    place: str
    sentence: str
    is_built: bool = True


@dataclass(frozen=True)
class Pack:
    """A finished pack."""

    file_count: int
    size_bytes: int
    sha256: str
    sections: tuple[SectionReport, ...]
    is_sealed: bool
