"""Decoding a page cursor returns the value from which the cursor was made. The API refuses any text that is not a
valid cursor.
"""

import base64
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.postgres.paging import (
    DEFAULT_PAGE_SIZE,
    MAX_PAGE_SIZE,
    Cursor,
    Page,
    PageRequest,
    decode_cursor,
    page_request,
)

CURSOR = Cursor(datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC), UUID(int=7))
cursors = st.builds(Cursor, st.datetimes(timezones=st.just(UTC)), st.uuids())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def _cursor_or_refusal(text: str) -> Cursor | None:
    try:
        return decode_cursor(text)
    except InvalidInput as refusal:
        told = (refusal.reason, refusal.detail)
    assert told == ("bad_cursor", {})
    return None


@given(cursors)
def test_cursor_decodes_to_its_original_value(cursor: Cursor) -> None:
    text = cursor.encode()
    assert decode_cursor(text) == cursor
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=")


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()) | values.map(_encoded))
def test_garbage_is_a_bad_cursor(text: str) -> None:
    assert _cursor_or_refusal(text) is None


@given(st.integers(0, 200), st.characters())
def test_altered_cursor_is_refused_or_names_an_aware_time(position: int, character: str) -> None:
    text = CURSOR.encode()
    position %= len(text)
    altered = _cursor_or_refusal(text[:position] + character + text[position + 1 :])
    assert altered is None or altered.at.tzinfo is not None


@pytest.mark.parametrize(
    "value",
    [
        ["2026-11-21T12:00:00", str(UUID(int=7))],
        ["2026-11-21T12:00:00+00:00"],
        ["2026-11-21T12:00:00+00:00", "7"],
        ["2026-11-21T12:00:00+00:00", str(UUID(int=7)), 1],
        [20261121, str(UUID(int=7))],
        {"at": "2026-11-21T12:00:00+00:00", "id": str(UUID(int=7))},
    ],
)
def test_cursor_of_another_shape_is_refused(value: object) -> None:
    assert _cursor_or_refusal(_encoded(value)) is None


def test_overlong_cursor_is_refused_unread() -> None:
    assert _cursor_or_refusal(_encoded("[" * 100_000)) is None
    assert _cursor_or_refusal("=" * 201) is None


@pytest.mark.parametrize("first", [0, -1, MAX_PAGE_SIZE + 1, 2**40])
def test_page_size_out_of_bounds_is_refused_with_the_bounds(first: int) -> None:
    with pytest.raises(InvalidInput, match="bad_page_size") as refusal:
        page_request(first, None)
    assert refusal.value.detail == {"minimum": 1, "maximum": MAX_PAGE_SIZE}


@pytest.mark.parametrize("first", [1, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE])
def test_page_size_within_bounds_is_taken(first: int) -> None:
    assert page_request(first, None) == PageRequest(first, None)


def test_statement_fetches_one_row_more_after_the_cursor() -> None:
    assert page_request(10, CURSOR.encode()).parameters == {
        "before_at": CURSOR.at,
        "before_id": CURSOR.id,
        "page_size": 11,
        "first": 10,
    }
    beginning = page_request(10, None).parameters
    assert (beginning["before_at"], beginning["before_id"]) == (None, None)


@given(st.lists(st.integers(), max_size=6), st.integers(1, 5))
def test_page_has_the_requested_size_and_reports_more_rows(rows: list[int], first: int) -> None:
    page = Page.of(rows[: first + 1], PageRequest(first, None))
    assert page.items == tuple(rows[:first])
    assert page.has_next == (len(rows) > first)


def test_position_in_a_list_by_number_is_encoded_and_bounded() -> None:
    assert page_request(1, Cursor.of_number(7).encode()).after == Cursor.of_number(7)
    assert Cursor.of_number(7).number == 7
    assert Cursor(CURSOR.at, UUID(int=2**100)).number == 2**31 - 1
