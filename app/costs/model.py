"""Prices, the report of the cost ledger, and the estimate of a practice's costs. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final
from uuid import UUID

MAX_REPORT_DAYS: Final = 1830
MAX_GROUPS: Final = 1000
MAX_MINUTES: Final = 24 * 60
MAX_SESSIONS: Final = 1_000_000

BYTES_PER_MINUTE: Final = 500_000_000 // 60
"""A video of an hour has about 500 MB."""
TOKENS_PER_MINUTE: Final = 320
"""The transcript of a minute: about 150 words in about ten turns, each with its number, times and speaker."""
REQUEST_TOKENS: Final = 2_500
"""The instructions, the schema and the task of one request."""
OUTPUT_TOKENS_PER_MINUTE: Final = 60
OUTPUT_TOKENS: Final = 1_500

_GIGABYTE: Final = 10**9
_MILLION: Final = 10**6
_DAYS_PER_MONTH: Final = 30
_MILLISECONDS_PER_MINUTE: Final = 60_000


class CostGrouping(StrEnum):
    """How a cost report groups its rows."""

    MONTH = "MONTH"
    DOCTOR = "DOCTOR"
    VENDOR = "VENDOR"


@dataclass(frozen=True)
class CostPrices:
    """The configured prices in US dollars. `as_of` and `storage_as_of` are the day, month or year in which somebody
    looked them up.
    """

    egress_minute: float
    speech_minute: float
    gb_month: float
    million_input_tokens: float
    million_cached_tokens: float
    million_output_tokens: float
    as_of: str
    storage_as_of: str


@dataclass(frozen=True)
class CostQuantity:
    """A quantity of one kind and unit in one group of the report. STORAGE is in byte days."""

    month: date | None
    doctor_id: UUID | None
    vendor: str | None
    model: str | None
    kind: str
    unit: str
    quantity: int


@dataclass(frozen=True)
class CostGroup:
    """One group of a cost report: what it used, and what that costs in US dollars."""

    month: date | None
    doctor_id: UUID | None
    vendor: str | None
    model: str | None
    egress_minutes: float
    transcribed_minutes: float
    stored_gb_months: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    egress_usd: float
    speech_usd: float
    storage_usd: float
    language_usd: float

    @property
    def total_usd(self) -> float:
        """Return the sum of the costs."""
        return round(self.egress_usd + self.speech_usd + self.storage_usd + self.language_usd, 6)


@dataclass(frozen=True)
class CostReport:
    """What the recordings cost in a period. `is_cut` says that only the groups with the highest costs are in it."""

    grouping: CostGrouping
    groups: tuple[CostGroup, ...]
    total_usd: float
    is_cut: bool
    prices: CostPrices


@dataclass(frozen=True)
class CostEstimate:
    """What one session costs in US dollars, and what a month of sessions costs. Storage is the cost of the first month
    after the session.
    """

    size_bytes: int
    input_tokens: int
    output_tokens: int
    egress_usd: float
    speech_usd: float
    storage_usd: float
    language_usd: float
    sessions_per_month: int
    prices: CostPrices

    @property
    def session_usd(self) -> float:
        """Return the cost of one session."""
        return round(self.egress_usd + self.speech_usd + self.storage_usd + self.language_usd, 6)

    @property
    def month_usd(self) -> float:
        """Return the cost of a month's sessions."""
        return round(self.sessions_per_month * self.session_usd, 6)


def estimate_costs(
    minutes: int, sessions_per_month: int, prices: CostPrices, *, has_language_model: bool
) -> CostEstimate:
    """Return the cost of sessions of this length: egress of one video, its transcription, its storage, and one request
    for insights. Without a language model, the insights cost nothing.
    """
    size = minutes * BYTES_PER_MINUTE
    read = minutes * TOKENS_PER_MINUTE + REQUEST_TOKENS if has_language_model else 0
    written = minutes * OUTPUT_TOKENS_PER_MINUTE + OUTPUT_TOKENS if has_language_model else 0
    return CostEstimate(
        size_bytes=size,
        input_tokens=read,
        output_tokens=written,
        egress_usd=round(minutes * prices.egress_minute, 6),
        speech_usd=round(minutes * prices.speech_minute, 6),
        storage_usd=round(size / _GIGABYTE * prices.gb_month, 6),
        language_usd=_language_usd(read, 0, written, prices),
        sessions_per_month=sessions_per_month,
        prices=prices,
    )


def build_report(
    grouping: CostGrouping, quantities: Iterable[CostQuantity], prices: CostPrices
) -> CostReport:
    """Return the report: months in order, and other groups with the highest costs first, at most `MAX_GROUPS`."""
    sums: dict[tuple[date | None, UUID | None, str | None, str | None], dict[tuple[str, str], int]] = (
        defaultdict(dict)
    )
    for each in quantities:
        sums[(each.month, each.doctor_id, each.vendor, each.model)][(each.kind, each.unit)] = each.quantity
    groups = [_group(*key, used, prices) for key, used in sums.items()]
    groups.sort(
        key=lambda group: (
            group.month or date.min,
            -group.total_usd,
            str(group.doctor_id),
            group.vendor or "",
            group.model or "",
        )
    )
    total = round(sum(group.total_usd for group in groups), 6)
    return CostReport(grouping, tuple(groups[:MAX_GROUPS]), total, len(groups) > MAX_GROUPS, prices)


def _group(
    month: date | None,
    doctor_id: UUID | None,
    vendor: str | None,
    model: str | None,
    used: Mapping[tuple[str, str], int],
    prices: CostPrices,
) -> CostGroup:
    egress = used.get(("EGRESS", "MILLISECONDS"), 0) / _MILLISECONDS_PER_MINUTE
    speech = used.get(("SPEECH", "MILLISECONDS"), 0) / _MILLISECONDS_PER_MINUTE
    stored = used.get(("STORAGE", "BYTES"), 0) / _GIGABYTE / _DAYS_PER_MONTH
    read, cached, written = (
        used.get(("LANGUAGE", unit), 0) for unit in ("INPUT_TOKENS", "CACHED_TOKENS", "OUTPUT_TOKENS")
    )
    return CostGroup(
        month=month,
        doctor_id=doctor_id,
        vendor=vendor,
        model=model,
        egress_minutes=round(egress, 3),
        transcribed_minutes=round(speech, 3),
        stored_gb_months=round(stored, 6),
        input_tokens=read,
        cached_tokens=cached,
        output_tokens=written,
        egress_usd=round(egress * prices.egress_minute, 6),
        speech_usd=round(speech * prices.speech_minute, 6),
        storage_usd=round(stored * prices.gb_month, 6),
        language_usd=_language_usd(read, cached, written, prices),
    )


def _language_usd(read: int, cached: int, written: int, prices: CostPrices) -> float:
    """Return the cost of tokens. Cached tokens are part of those that were read."""
    cost = (
        (read - cached) * prices.million_input_tokens
        + cached * prices.million_cached_tokens
        + written * prices.million_output_tokens
    )
    return round(cost / _MILLION, 6)
