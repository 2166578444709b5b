"""Tests of the scalars of the schema: what each accepts as an input, and the text that each writes."""

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
import strawberry
from graphql import GraphQLScalarType
from hypothesis import given
from hypothesis import strategies as st
from strawberry.schema.config import StrawberryConfig

from graphql_schema.document_limits import Limits, limit_extensions
from graphql_schema.error_masking import MaskedSchema
from graphql_schema.references import DateTimeRangeInput
from graphql_schema.scalars import SCALARS, BigInt, Url
from graphql_schema.schema import make_schema
from tests.api.small_api import Context

LARGEST = 2**53 - 1
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00")


@strawberry.type
class Query:
    @strawberry.field
    def size(self, n: BigInt) -> BigInt:
        return n

    @strawberry.field
    def moment(self, at: datetime) -> datetime:
        return at

    @strawberry.field
    def day(self, on: date) -> date:
        return on

    @strawberry.field
    def address(self, at: Url) -> Url:
        return at

    @strawberry.field
    def ends(self, during: DateTimeRangeInput) -> list[datetime | None]:
        return [during.from_, during.until]


SCHEMA = MaskedSchema(
    Query,
    config=StrawberryConfig(scalar_map=SCALARS),
    extensions=limit_extensions(Limits(), allow_introspection=False),
)
FIELDS = {
    "BigInt": "size(n: {})",
    "DateTime": "moment(at: {})",
    "Date": "day(on: {})",
    "URL": "address(at: {})",
}


def _scalar(name: str) -> GraphQLScalarType:
    found = SCHEMA._schema.type_map[name]
    assert isinstance(found, GraphQLScalarType)
    return found


def _ask(kind: str, value: Any, *, is_literal: bool) -> Any:
    """Send a value as a variable or as a literal, and return the field's value or the code of the only error."""
    field = FIELDS[kind].format(json.dumps(value) if is_literal else "$v")
    query = f"{{ it: {field} }}" if is_literal else f"query ($v: {kind}!) {{ it: {field} }}"
    ran = SCHEMA.execute(query, {} if is_literal else {"v": value}, context_value=Context("en", "r1"))
    result = asyncio.run(ran)
    if result.errors:
        (error,) = result.errors
        assert error.extensions is not None
        return error.extensions["code"]
    assert result.data is not None
    return result.data["it"]


@pytest.mark.parametrize("is_literal", [True, False], ids=["literal", "variable"])
@pytest.mark.parametrize("value", [0, 7, -7, LARGEST, -LARGEST, 5e3])
def test_big_int_accepts_whole_numbers(value: Any, is_literal: bool) -> None:
    assert _ask("BigInt", value, is_literal=is_literal) == value


BAD_VALUES = {
    "BigInt": [1.9, True, " 12 ", "12", "", [12], {"n": 1}, LARGEST + 1, -LARGEST - 1, 2.0**53, 1e300],
    "DateTime": [
        "2026-11-21T15:00:00",
        "2026-11-21",
        "2026-11-21T15:00Z",
        "2026-11-21 15:00:00Z",
        "20261121T150000Z",
        "2026-11-21T24:00:00Z",
        "2026-02-29T15:00:00Z",
        "2026-11-21T15:00:00+25:00",
        "2026-11-21T15:00:00+00:00:00.000001",
        "2026-11-21T15:00:00Z\n",
        "٢٠٢٦-11-21T15:00:00Z",
        1795273200,
        True,
        [],
    ],
    "Date": [
        "2026-11-21T00:00:00Z",
        "20261121",
        "2026-W47-6",
        "2026-02-29",
        "2026-1-1",
        " 2026-11-21",
        7,
        {},
    ],
    "URL": ["//host/path", "host/path", "ftp://host", "javascript:alert(1)", "https://", "https://[", 7],
}


@pytest.mark.parametrize("is_literal", [True, False], ids=["literal", "variable"])
@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, values in BAD_VALUES.items() for value in values], ids=repr
)
def test_bad_value_is_invalid_input(kind: str, value: Any, is_literal: bool) -> None:
    if is_literal and isinstance(value, dict):
        pytest.skip("an object literal is not JSON")
    assert _ask(kind, value, is_literal=is_literal) == "INVALID_INPUT"


@pytest.mark.parametrize("is_literal", [True, False], ids=["literal", "variable"])
@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("2026-11-21T15:00:00Z", "2026-11-21T15:00:00+00:00"),
        ("2026-11-21t15:00:00z", "2026-11-21T15:00:00+00:00"),
        ("2026-11-21T15:00:00-05:00", "2026-11-21T20:00:00+00:00"),
        ("2026-11-21T15:00:00.5+00:00", "2026-11-21T15:00:00.500000+00:00"),
        ("2026-11-21T15:00:00.123456789Z", "2026-11-21T15:00:00.123456+00:00"),
    ],
)
def test_date_time_accepts_every_offset_and_is_written_in_utc(
    value: str, written: str, is_literal: bool
) -> None:
    assert _ask("DateTime", value, is_literal=is_literal) == written


def _in_postgres_json(at: datetime) -> str:
    """Return a timestamp as Postgres writes it into a JSON value: without the zeros at the end of the fraction."""
    text = at.isoformat()
    head, dot, rest = text.partition(".")
    fraction, offset = rest[:6], rest[6:]
    return f"{head}.{fraction.rstrip('0')}{offset}" if dot else text


@given(
    st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001 - gets its zone below
    st.integers(-15 * 60, 15 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_moment_is_written_alike_from_python_and_from_postgres_json(at: datetime, zone: timezone) -> None:
    write: Callable[[Any], Any] = _scalar("DateTime").serialize
    moment = at.replace(tzinfo=UTC)
    written = write(moment)
    assert written == write(moment.astimezone(zone)) == write(_in_postgres_json(moment))
    assert written == write(_in_postgres_json(moment.astimezone(zone)))
    assert RFC_3339.fullmatch(written)
    assert datetime.fromisoformat(written) == moment


def test_date_is_written_alike_from_python_and_from_postgres_json() -> None:
    write = _scalar("Date").serialize
    assert write(date(2026, 11, 21)) == write("2026-11-21") == "2026-11-21"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("DateTime", datetime(2026, 11, 21, 15)),  # noqa: DTZ001 - the missing time zone is tested
        ("DateTime", "yesterday"),
        ("DateTime", 7),
        ("Date", datetime(2026, 11, 21, tzinfo=UTC)),
        ("Date", "yesterday"),
        ("BigInt", 1.5),
        ("BigInt", "12"),
        ("BigInt", True),
        ("BigInt", LARGEST + 1),
        ("URL", "/relative"),
    ],
)
def test_value_that_the_scalar_cannot_write_is_an_error(kind: str, value: Any) -> None:
    with pytest.raises(ValueError, match="not "):
        _scalar(kind).serialize(value)


@pytest.mark.parametrize(
    "url", ["https://bucket.example.org/a?X-Amz-Signature=b", "wss://livekit.example.org"]
)
def test_url_is_written_as_it_is(url: str) -> None:
    assert _scalar("URL").serialize(url) == _ask("URL", url, is_literal=False) == url


def test_range_is_named_from_and_until_and_may_lack_either() -> None:
    query = 'query ($r: DateTimeRangeInput!) { a: ends(during: {until: "2026-11-21T15:00:00Z"}) b: ends(during: $r) }'
    ran = SCHEMA.execute(query, {"r": {"from": "2026-11-21T15:00:00Z"}}, context_value=Context("en", "r1"))
    result = asyncio.run(ran)
    assert result.errors is None
    assert result.data == {
        "a": [None, "2026-11-21T15:00:00+00:00"],
        "b": ["2026-11-21T15:00:00+00:00", None],
    }


def test_every_scalar_of_the_schema_names_its_specification() -> None:
    kinds = make_schema(is_production=False)._schema.type_map.values()
    scalars = {kind.name: kind for kind in kinds if isinstance(kind, GraphQLScalarType)}
    assert {"BigInt", "Date", "DateTime"} <= set(scalars)
    for name in set(scalars) - {"Boolean", "Float", "ID", "Int", "String"}:
        assert scalars[name].specified_by_url, name
        assert scalars[name].description, name
