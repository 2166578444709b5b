"""What is stored, what of it goes soon, and what it costs. Pure: the prices are the settings', never asked for."""

from dataclasses import dataclass
from typing import Final

COMING_DAYS: Final = 30
_GIGABYTE: Final = 10**9


@dataclass(frozen=True)
class Prices:
    """In US dollars. `as_of` is the day, month or year they were looked up."""

    gb_month: float
    class_a_million: float
    class_b_million: float
    as_of: str


@dataclass(frozen=True)
class StoredBytes:
    """What lies in one class of the bucket and is that many days old, up to the next row's."""

    retention_class: str
    age_from_days: int
    objects: int
    size_bytes: int


@dataclass(frozen=True)
class Coming:
    """What the next 30 days will delete, what is due then and held, and what the last 30 days brought.

    Sizes in bytes. Recordings are videos with their sound; `objects_stored` counts each apart.
    """

    recordings: int
    size_bytes: int
    held_recordings: int
    held_bytes: int
    objects_stored: int
    urls_issued: int


@dataclass(frozen=True)
class StorageReport:
    """Counts and bytes alone: it names nobody."""

    stored: tuple[StoredBytes, ...]
    coming: Coming
    prices: Prices

    @property
    def size_bytes(self) -> int:
        """Of everything that is stored."""
        return sum(each.size_bytes for each in self.stored)

    @property
    def storage_per_month(self) -> float:
        """In US dollars, of what is stored now; a gigabyte is 10^9 bytes."""
        return round(self.size_bytes / _GIGABYTE * self.prices.gb_month, 4)

    @property
    def operations_per_month(self) -> float:
        """In US dollars, the least that the last 30 days can have cost: one write an object, one read a URL."""
        writes = self.coming.objects_stored * self.prices.class_a_million
        reads = self.coming.urls_issued * self.prices.class_b_million
        return round((writes + reads) / 1_000_000, 4)
