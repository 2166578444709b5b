"""Tests of the report of the cost ledger, and of the estimate, at known prices."""

from datetime import date
from uuid import UUID

import pytest

from app.costs.model import (
    MAX_GROUPS,
    CostGrouping,
    CostPrices,
    CostQuantity,
    build_report,
    estimate_costs,
)

PRICES = CostPrices(
    egress_minute=0.01,
    speech_minute=0.006,
    gb_month=0.015,
    million_input_tokens=10,
    million_cached_tokens=1,
    million_output_tokens=20,
    as_of="2025",
    storage_as_of="2026",
)


def _used(
    kind: str, unit: str, quantity: int, *, month: date | None = None, doctor: int | None = None
) -> CostQuantity:
    return CostQuantity(month, None if doctor is None else UUID(int=doctor), None, None, kind, unit, quantity)


def test_session_of_an_hour_costs_about_a_dollar_without_a_language_model() -> None:
    made = estimate_costs(60, 100, PRICES, has_language_model=False)
    assert (made.egress_usd, made.speech_usd, made.language_usd) == (0.6, 0.36, 0)
    assert made.size_bytes == pytest.approx(500_000_000, rel=1e-6)
    assert made.storage_usd == pytest.approx(0.0075)
    assert 100 * made.storage_usd == pytest.approx(0.75)
    assert made.session_usd == pytest.approx(0.9675)
    assert made.month_usd == pytest.approx(96.75)


def test_estimate_adds_the_tokens_of_one_request_for_insights() -> None:
    made = estimate_costs(60, 1, PRICES, has_language_model=True)
    assert made.input_tokens > made.output_tokens > 0
    assert made.language_usd == pytest.approx((made.input_tokens * 10 + made.output_tokens * 20) / 1e6)


def test_estimate_of_nothing_is_free() -> None:
    made = estimate_costs(0, 0, PRICES, has_language_model=False)
    assert (made.session_usd, made.month_usd) == (0, 0)


def test_report_adds_up_each_group_and_the_whole() -> None:
    [june, july] = [date(2026, 6, 1), date(2026, 7, 1)]
    report = build_report(
        CostGrouping.MONTH,
        [
            _used("STORAGE", "BYTES", 30 * 10**9, month=july),
            _used("EGRESS", "MILLISECONDS", 90_000, month=june),
            _used("SPEECH", "MILLISECONDS", 120_000, month=june),
            _used("LANGUAGE", "INPUT_TOKENS", 2_000_000, month=june),
            _used("LANGUAGE", "CACHED_TOKENS", 500_000, month=june),
            _used("LANGUAGE", "OUTPUT_TOKENS", 100_000, month=june),
        ],
        PRICES,
    )
    first, second = report.groups
    assert (first.month, first.egress_minutes, first.transcribed_minutes) == (june, 1.5, 2.0)
    assert (first.egress_usd, first.speech_usd) == (0.015, 0.012)
    assert first.language_usd == pytest.approx(15 + 0.5 + 2)
    assert (second.month, second.stored_gb_months, second.storage_usd) == (july, 1.0, 0.015)
    assert report.total_usd == pytest.approx(first.total_usd + second.total_usd)
    assert not report.is_cut


def test_report_shows_the_highest_costs_and_says_that_it_is_cut() -> None:
    used = [_used("EGRESS", "MILLISECONDS", 60_000 * n, doctor=n) for n in range(1, MAX_GROUPS + 2)]
    report = build_report(CostGrouping.DOCTOR, used, PRICES)
    assert len(report.groups) == MAX_GROUPS
    assert report.is_cut
    assert report.groups[0].doctor_id == UUID(int=MAX_GROUPS + 1)
    assert report.total_usd == pytest.approx(sum(0.01 * n for n in range(1, MAX_GROUPS + 2)))
