"""The storage report: stored bytes, upcoming deletions, and cost. Pure. Prices come from the settings."""

from dataclasses import dataclass
from typing import Final

PERIOD_DAYS: Final = 30
_GIGABYTE: Final = 10**9


@dataclass(frozen=True)
class Prices:
    """Prices in US dollars. `as_of` is the day, month or year of the prices."""

    gb_month: float
    class_a_million: float
    class_b_million: float
    as_of: str


@dataclass(frozen=True)
class StoredBytes:
    """The bytes of one retention class in the bucket, in objects from this age up to the age of the next row."""

    retention_class: str
    age_from_days: int
    objects: int
    size_bytes: int


@dataclass(frozen=True)
class StorageChanges:
    """The deletions of the next 30 days, the held recordings due by then, and the additions of the last 30 days.

    Sizes are in bytes. A recording is a video with its sound; `objects_stored` counts each object.
    """

    recordings: int
    size_bytes: int
    held_recordings: int
    held_bytes: int
    objects_stored: int
    urls_issued: int


@dataclass(frozen=True)
class StorageReport:
    """The counts and bytes of all recordings, with their cost. The report names no person."""

    stored: tuple[StoredBytes, ...]
    changes: StorageChanges
    prices: Prices

    @property
    def size_bytes(self) -> int:
        """Return the size of everything that is stored, in bytes."""
        return sum(each.size_bytes for each in self.stored)

    @property
    def storage_per_month(self) -> float:
        """Return the monthly price of the stored bytes in US dollars. A gigabyte has 10^9 bytes."""
        return round(self.size_bytes / _GIGABYTE * self.prices.gb_month, 4)

    @property
    def operations_per_month(self) -> float:
        """Return a lower bound of the operations' cost of the last 30 days in US dollars: one write for each
        object, one read for each URL.
        """
        writes = self.changes.objects_stored * self.prices.class_a_million
        reads = self.changes.urls_issued * self.prices.class_b_million
        return round((writes + reads) / 1_000_000, 4)
