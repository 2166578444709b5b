"""Tests of idempotency keys in the database: a key belongs to one person and one mutation, concurrent claims wait for
each other, and keys are deleted after 24 hours.
"""

from typing import Any
from uuid import UUID, uuid4

import pytest

from app.idempotency.service import BATCH
from tests.databases import Database
from tests.policies.acting import acting, at_once, refused, superuser, value
from tests.policies.actors import ANA, Connection

OWNER = "clinician who owns"
KEY = b"k" * 32
INPUT, OTHER_INPUT = b"i" * 32, b"o" * 32
ENTITY = UUID(int=7)


def _claim(
    connection: Connection, *, given: bytes = INPUT, key: bytes = KEY, mutation: str = "startRecording"
) -> Any:
    return value(connection, "select private.claim_idempotency_key(%s, %s, %s)", mutation, key, given)


def _settle(connection: Connection, *, given: bytes = INPUT, entity: UUID = ENTITY) -> None:
    value(
        connection,
        "select private.settle_idempotency_key('startRecording', %s, %s, %s)::text",
        KEY,
        given,
        entity,
    )


def _call_once(database: Database) -> None:
    with acting(database, OWNER) as doctor:
        assert _claim(doctor) is None
        _settle(doctor)


def test_repeated_claim_returns_the_entity_of_the_first_call(practice: Database) -> None:
    _call_once(practice)
    with acting(practice, OWNER) as doctor:
        assert _claim(doctor) == ENTITY
        _settle(doctor, entity=uuid4())
    with acting(practice, OWNER) as doctor:
        assert _claim(doctor) == ENTITY
    with refused("RG409", "idempotency_key_reused"), acting(practice, OWNER) as doctor:
        _claim(doctor, given=OTHER_INPUT)


def test_key_belongs_to_one_person_and_one_mutation(practice: Database) -> None:
    _call_once(practice)
    for who, mutation in (
        ("clinician who does not", "startRecording"),
        ("patient", "startRecording"),
        (OWNER, "inviteGuest"),
    ):
        with acting(practice, who) as person:
            assert _claim(person, given=OTHER_INPUT, mutation=mutation) is None


def test_key_of_a_call_that_did_not_succeed_may_have_other_input(practice: Database) -> None:
    """A call that ends with NotFound commits its transaction, and with it the claim."""
    with acting(practice, OWNER) as doctor:
        assert _claim(doctor) is None
    with acting(practice, OWNER) as doctor:
        assert _claim(doctor, given=OTHER_INPUT) is None
        _settle(doctor, given=OTHER_INPUT)
    with acting(practice, OWNER) as doctor:
        assert _claim(doctor, given=OTHER_INPUT) == ENTITY
    with refused("RG409", "idempotency_key_reused"), acting(practice, OWNER) as doctor:
        _claim(doctor)


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.parametrize("is_known", [True, False])
def test_concurrent_claim_waits_for_the_first(
    practice: Database, *, is_committed: bool, is_known: bool
) -> None:
    """`is_known` means that the key already has a row, because an earlier call was refused."""
    if is_known:
        with acting(practice, OWNER) as doctor:
            _claim(doctor)

    def second() -> Any:
        with acting(practice, OWNER) as doctor:
            return _claim(doctor)

    with acting(practice, OWNER) as first:
        assert _claim(first) is None
        with at_once(practice, first, second) as waiting:
            _settle(first)
            if is_committed:
                first.commit()
            else:
                first.rollback()
        assert waiting.result() == (ENTITY if is_committed else None)


def test_only_keys_older_than_24_hours_are_deleted_in_batches(practice: Database) -> None:
    _call_once(practice)
    with superuser(practice) as owner:
        owner.execute("delete from private.idempotency_keys")
        owner.execute(
            "insert into private.idempotency_keys (person_id, mutation, key_sha256, input_mac, created_at)"
            " select %s, 'inviteGuest', sha256(n::text::bytea), sha256(''),"
            " now() - interval '24 hours' - n * interval '1 minute' from generate_series(-9, %s) as n",
            [ANA.doctor_id, BATCH + 5],
        )
    deleted = []
    for _ in range(3):
        with acting(practice, "resguardo_worker") as worker:
            deleted.append(value(worker, "select private.delete_old_idempotency_keys()"))
    assert deleted == [BATCH, 6, 0]
    with superuser(practice) as owner:
        assert value(owner, "select count(*) from private.idempotency_keys") == 9


def test_deletion_reads_old_keys_by_an_index(practice: Database) -> None:
    """The cost of a deletion does not depend on the number of younger keys."""
    with superuser(practice) as owner:
        owner.execute(
            "insert into private.idempotency_keys (person_id, mutation, key_sha256, input_mac)"
            " select %s, 'inviteGuest', sha256(n::text::bytea), sha256('') from generate_series(1, 20000) as n",
            [ANA.doctor_id],
        )
        owner.execute("analyze private.idempotency_keys")
        plan = "\n".join(
            line
            for (line,) in owner.execute(
                "explain select o.key_sha256 from private.idempotency_keys as o"
                " where o.created_at < now() - interval '24 hours' order by o.created_at limit 1000"
            )
        )
    assert "idempotency_keys_created_idx" in plan
    assert "Seq Scan" not in plan


def test_table_contains_no_text_of_a_client(practice: Database) -> None:
    with superuser(practice) as owner:
        kinds = owner.execute(
            "select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute as a"
            " where a.attrelid = 'private.idempotency_keys'::regclass and a.attnum > 0 order by a.attnum"
        ).fetchall()
    assert kinds == [
        ("person_id", "uuid"),
        ("mutation", "text"),
        ("key_sha256", "bytea"),
        ("input_mac", "bytea"),
        ("entity_id", "uuid"),
        ("created_at", "timestamp with time zone"),
    ]
