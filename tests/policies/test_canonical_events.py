"""Tests that the canonical form of an audit event is the one that Postgres's own functions give."""

import random
from ipaddress import IPv6Address
from typing import LiteralString

import psycopg
import pytest
import rfc8785
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from app.transparency_log.events import (
    ADDRESS_COLUMNS,
    BIGINT_COLUMNS,
    SALT_COLUMN,
    VERSION_COLUMN,
    format_canonical_event,
)
from tests.databases import Database

COLUMNS: LiteralString = (
    "select column_name, case data_type when 'ARRAY' then udt_name else data_type end as type"
    " from information_schema.columns where table_schema = 'audit' and table_name = 'events'"
)
INSERT: LiteralString = (
    "insert into audit.events (recorded_at, occurred_at, actor_id, actor_role, action, operation, outcome, purpose,"
    " basis, entities, patient_ids, fields, row_count, byte_count, digest, address, policy_version) values ("
    "'2026-03-01 01:02:03.000004+02', '1999-12-31 23:59:59.999999+00', gen_random_uuid(), 'doctor',"
    " 'recording.read', 'R', 'ALLOWED', 'TREATMENT', 'check', %(entities)s,"
    " array[gen_random_uuid(), gen_random_uuid()], '{é,\"a b\",null}', 2147483647, 9223372036854775807,"
    " repeat('0f', 32), %(address)s, '1') returning id"
)
EXPECTED: LiteralString = (
    "select to_jsonb(e) - %(outside)s::text[] || jsonb_build_object("
    " 'byte_count', e.byte_count::text, 'address', host(e.address),"
    " 'recorded_at', to_char(e.recorded_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),"
    " 'occurred_at', to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')) as expected"
    " from audit.events as e where e.id = %(id)s"
)
ENTITIES = [
    {"type": "Recording", "ids": ["b", "a", None, True]},
    {"": {"z": 1.5, "é": 1.25e-7, "a": 9007199254740991}},
]
ADDRESSES = (
    "192.0.2.1",
    "10.0.0.0/8",
    "2001:db8::1/64",
    "::ffff:192.0.2.1",
    "::192.0.2.1",
    "::1",
    "::",
    "::0.1.0.0",
)


def test_every_type_of_column_has_a_canonical_form(practice: Database) -> None:
    with psycopg.connect(practice.superuser_url) as connection:
        types = {str(name): str(of) for name, of in connection.execute(COLUMNS)}
    assert {name for name, of in types.items() if of == "bigint"} == BIGINT_COLUMNS
    assert {name for name, of in types.items() if of == "inet"} == ADDRESS_COLUMNS
    others = {
        of for name, of in types.items() if name not in (SALT_COLUMN, *BIGINT_COLUMNS, *ADDRESS_COLUMNS)
    }
    assert others == {
        "_text",
        "_uuid",
        "integer",
        "jsonb",
        "smallint",
        "text",
        "timestamp with time zone",
        "uuid",
    }


@pytest.mark.writes_unregistered_terms
@pytest.mark.parametrize("address", [*ADDRESSES, None])
def test_the_canonical_form_is_that_of_postgres(practice: Database, address: str | None) -> None:
    with psycopg.connect(practice.superuser_url, row_factory=dict_row) as connection:
        connection.execute("set time zone 'Asia/Kathmandu'")
        new = connection.execute(INSERT, {"entities": Jsonb(ENTITIES), "address": address}).fetchone()
        assert new is not None
        row = connection.execute("select * from audit.events where id = %(id)s", new).fetchone()
        outside = [SALT_COLUMN, VERSION_COLUMN]
        expected = connection.execute(EXPECTED, {**new, "outside": outside}).fetchone()
        connection.rollback()
    assert row is not None
    assert expected is not None
    assert format_canonical_event(row) == rfc8785.dumps(expected["expected"])


def make_addresses() -> list[IPv6Address]:
    """Return addresses with many groups of zeros, always the same."""
    chosen = random.Random(7)  # noqa: S311 - no secrets
    groups = ([chosen.choice((0, 0, 0, 1, 0xFFFF, 0xDB8)) for _ in range(8)] for _ in range(2000))
    return [IPv6Address(":".join(f"{one:x}" for one in each)) for each in groups]


def test_an_address_has_the_text_of_postgres(practice: Database) -> None:
    addresses = make_addresses()
    with psycopg.connect(practice.superuser_url) as connection:
        asked: LiteralString = (
            "select host(a::inet) from unnest(%s::text[]) with ordinality as u (a, n) order by n"
        )
        hosts = [str(host) for (host,) in connection.execute(asked, [[one.exploded for one in addresses]])]
    for address, host in zip(addresses, hosts, strict=True):
        assert format_canonical_event({"address": address}) == rfc8785.dumps({"address": host})
