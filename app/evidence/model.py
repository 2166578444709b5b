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
    """The description of one section of a pack. `rule` is the rule of 45 CFR that the section answers. `place` is the
    section's file or folder in the pack. `sentence` says in plain words what the section contains, or that it is empty.
    If `is_built` is false, this version of Resguardo has no such section.
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
