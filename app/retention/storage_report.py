"""The storage report: stored bytes, upcoming deletions, and cost. Pure. The prices come from the settings."""

from dataclasses import dataclass
from typing import Final

PERIOD_DAYS: Final = 30
_GIGABYTE: Final = 10**9


@dataclass(frozen=True)
class Prices:
    """Prices in US dollars. `as_of` is the day, month or year in which the prices were valid."""

    gb_month: float
    class_a_million: float
    class_b_million: float
    as_of: str


@dataclass(frozen=True)
class StoredBytes:
    """The bytes of one retention class in the bucket. A row of the report contains the objects that are at least
    `age_from_days` old and too young for the row with the next higher age.
    """

    retention_class: str
    age_from_days: int
    objects: int
    size_bytes: int


@dataclass(frozen=True)
class StorageChanges:
    """The recordings that will be destroyed within 30 days, the recordings that become due within 30 days but are
    under a legal hold, and the objects stored and URLs issued in the last 30 days.

    Sizes are in bytes. `recordings` counts a video and the sounds beside it as one recording, and `objects_stored`
    counts each object.
    """

    recordings: int
    size_bytes: int
    held_recordings: int
    held_bytes: int
    objects_stored: int
    urls_issued: int


@dataclass(frozen=True)
class StorageReport:
    """The counts and bytes of all stored recordings, with their cost. The report contains no data about a person."""

    stored: tuple[StoredBytes, ...]
    changes: StorageChanges
    prices: Prices

    @property
    def size_bytes(self) -> int:
        """Return the total size of the stored objects in bytes."""
        return sum(each.size_bytes for each in self.stored)

    @property
    def storage_per_month(self) -> float:
        """Return the monthly cost of storing these bytes, in US dollars. A gigabyte is 10^9 bytes."""
        return round(self.size_bytes / _GIGABYTE * self.prices.gb_month, 4)

    @property
    def operations_per_month(self) -> float:
        """Return the minimum cost of the bucket's operations in the last 30 days, in US dollars. The calculation
        assumes one write for each stored object and one read for each URL.
        """
        writes = self.changes.objects_stored * self.prices.class_a_million
        reads = self.changes.urls_issued * self.prices.class_b_million
        return round((writes + reads) / 1_000_000, 4)
