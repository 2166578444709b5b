"""Tests of the files of events in exports of the audit log: NDJSON that a verifier can hash, and CSV that a spreadsheet
can open without danger.
"""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit_exports.event_files import COLUMNS, format_events, format_header
from app.audit_exports.model import AuditExportFormat, BegunExport, Place, compute_percent
from app.transparency_log.events import compute_entry, format_canonical_event

NDJSON, CSV = AuditExportFormat.NDJSON, AuditExportFormat.CSV
NOW = datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=UTC)
ORIGIN = "resguardo/practice/2026"
DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def _event(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {
        "id": uuid4(),
        "recorded_at": NOW,
        "actor_id": UUID(int=5),
        "actor_role": "compliance",
        "action": "audit.list",
        "operation": "R",
        "outcome": "ALLOWED",
        "purpose": "OPERATIONS",
        "basis": "compliance_review",
        "entities": [{"type": "recording", "ids": [str(UUID(int=7))]}],
        "patient_ids": [UUID(int=1), UUID(int=2)],
        "consultation_ids": [],
        "fields": ["id", "patient.externalId"],
        "row_count": 2,
        "byte_count": 2**60,
        "address": ip_address("2001:db8::1"),
        "policy_version": "0f",
    }
    return row | {"salt": bytes(range(16)), "canonical_version": 1} | changes


def _csv(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_line_of_ndjson_has_the_bytes_from_which_the_leaf_is_computed() -> None:
    event = _event()
    line = format_events(NDJSON, [event], {event["id"]: Place(ORIGIN, 123)})
    assert line.endswith(b"}\n")
    parsed = json.loads(line)
    assert list(parsed) == ["log", "index", "salt", "event"]
    assert (parsed["log"], parsed["index"]) == (ORIGIN, 123)
    raw = line[line.index(b'"event":') + len(b'"event":') : line.rindex(b"}")]
    assert raw == format_canonical_event(event)
    assert sha256(bytes.fromhex(parsed["salt"]) + raw).digest() == compute_entry(event["salt"], raw)


def test_event_that_is_not_sealed_has_no_place_and_no_salt() -> None:
    event = _event()
    places = {event["id"]: Place(ORIGIN, None)}
    parsed = json.loads(format_events(NDJSON, [event], places))
    assert (parsed["log"], parsed["index"], parsed["salt"]) == (ORIGIN, None, None)
    assert parsed["event"]["id"] == str(event["id"])
    (row,) = _csv(format_header(CSV) + format_events(CSV, [event], places))
    assert (row["log"], row["index"]) == (ORIGIN, "")


def test_csv_has_every_column_of_the_canonical_form() -> None:
    event = _event()
    assert sorted(COLUMNS) == sorted(json.loads(format_canonical_event(event)))
    (row,) = _csv(format_header(CSV) + format_events(CSV, [event], {event["id"]: Place(ORIGIN, 0)}))
    assert (row["log"], row["index"], row["id"]) == (ORIGIN, "0", str(event["id"]))
    assert row["recorded_at"] == "2026-11-30T12:00:00.123456Z"
    assert row["patient_ids"] == f"{UUID(int=1)} {UUID(int=2)}"
    assert json.loads(row["entities"]) == event["entities"]
    assert (row["byte_count"], row["row_count"], row["reason"]) == (str(2**60), "2", "")
    assert row["address"] == "2001:db8::1"


@pytest.mark.parametrize("first", DANGEROUS)
def test_cell_that_a_spreadsheet_would_calculate_is_quoted(first: str) -> None:
    event = _event(reason=f"{first}HYPERLINK(1)", fields=[f"{first}cmd|' /C calc'!A0"])
    (row,) = _csv(format_header(CSV) + format_events(CSV, [event], {event["id"]: Place(ORIGIN, 1)}))
    assert row["reason"] == f"'{first}HYPERLINK(1)"
    assert row["fields"].startswith(f"'{first}")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_stays_in_its_cell_and_begins_no_formula(text: str) -> None:
    event = _event(reason=text)
    (row,) = _csv(format_header(CSV) + format_events(CSV, [event], {event["id"]: Place(ORIGIN, None)}))
    assert row["reason"].removeprefix("'") == text.removeprefix("'")
    assert not row["reason"].startswith(DANGEROUS)
    assert list(row) == ["log", "index", *COLUMNS]


@pytest.mark.parametrize(
    ("reached", "percent"), [(0, 0), (25, 25), (99.9, 99), (100, 99), (150, 99), (-3, 0)]
)
def test_progress_is_the_part_of_the_range_of_time_that_is_read(reached: float, percent: int) -> None:
    begun = BegunExport("exports/x", 1, NDJSON, {}, uuid4(), NOW, NOW - timedelta(hours=100))
    assert compute_percent(begun, NOW - timedelta(hours=reached)) == percent


def test_progress_of_an_empty_range_is_complete() -> None:
    begun = BegunExport("exports/x", 1, NDJSON, {}, uuid4(), NOW, NOW)
    assert compute_percent(begun, NOW) == 99
