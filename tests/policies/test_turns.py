"""Tests that transactions wait only for rows that our own SQL functions lock. A transaction never waits for an
advisory lock, because any login could hold one.
"""

from uuid import UUID, uuid4

import psycopg
import pytest

from tests.databases import Database

KEYED_BY_A_LOGIN = {"lock_login", "open_staff_invitation"}
"""Functions that take a lock for each login or address. A holder delays only that person."""


@pytest.mark.parametrize(
    "call",
    [
        "private.lock_keeping(true)",
        "private.lock_keeping(false)",
        "private.lock_policies()",
        "private.take_rules_turn(gen_random_uuid())",
    ],
)
def test_advisory_lock_of_the_apis_login_keeps_nobody_waiting(database: Database, call: str) -> None:
    with psycopg.connect(database.api_url) as api, psycopg.connect(database.superuser_url) as owner:
        for key in range(3):
            api.execute("select pg_advisory_lock(7164, %s)", (key,))
        owner.execute("set lock_timeout = 1000")
        owner.execute(f"select {call}".encode())


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        ("lock_keeping(true)", "lock_keeping(false)", True),
        ("lock_keeping(false)", "lock_keeping(true)", True),
        ("lock_keeping(true)", "lock_keeping(true)", True),
        ("lock_keeping(false)", "lock_keeping(false)", False),
        ("lock_policies()", "lock_policies()", True),
        ("lock_keeping(true)", "lock_policies()", False),
    ],
)
def test_transactions_take_turns_at_the_same_thing(
    database: Database, first: str, second: str, *, waits: bool
) -> None:
    with psycopg.connect(database.superuser_url) as one, psycopg.connect(database.superuser_url) as other:
        one.execute(f"select private.{first}".encode())
        other.execute("set lock_timeout = 50")
        if waits:
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute(f"select private.{second}".encode())
        else:
            other.execute(f"select private.{second}".encode())


def test_no_other_function_takes_an_advisory_lock(database: Database) -> None:
    query = "select proname from pg_proc where pronamespace = 'private'::regnamespace and prosrc ~ 'advisory'"
    with psycopg.connect(database.superuser_url) as owner:
        assert {name for (name,) in owner.execute(query)} == KEYED_BY_A_LOGIN


def test_rules_turn_is_given_to_one_process_until_it_is_given_back_or_ends(database: Database) -> None:
    first, second = uuid4(), uuid4()
    with psycopg.connect(database.worker_url, autocommit=True) as worker:

        def call(function: str, holder: UUID) -> bool | None:
            row = worker.execute(f"select private.{function}(%s)".encode(), (holder,)).fetchone()
            return None if row is None else row[0]

        assert call("take_rules_turn", first)
        assert not call("take_rules_turn", second)
        assert not call("renew_rules_turn", second)
        call("give_rules_turn_back", second)
        assert call("renew_rules_turn", first)
        with psycopg.connect(database.superuser_url) as owner:
            owner.execute("update private.turns set held_until = clock_timestamp() where of = 'bucket'")
        assert call("renew_rules_turn", first)
        with psycopg.connect(database.superuser_url) as owner:
            owner.execute("update private.turns set held_until = clock_timestamp() where of = 'bucket'")
        assert call("take_rules_turn", second)
        assert not call("renew_rules_turn", first)
        call("give_rules_turn_back", second)
        assert not call("renew_rules_turn", first)
        assert call("take_rules_turn", first)
        call("give_rules_turn_back", first)
