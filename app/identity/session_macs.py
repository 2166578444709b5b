"""Switches the requirement of session MACs on or off, and makes their keys. The command `resguardo migrate` uses
this module as the owner of the database.

Only the database knows the key of the MACs. The functions `private.add_session_mac` and `private.has_session_mac`
of the database make and check the MACs.
"""

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from app.postgres.owner import as_owner

_REQUIRE = "update private.session_mac_rule set is_required = %s, changed_at = now() where is_required <> %s"
_STANDING = """
select r.is_required, (select max(k.number) from private.session_mac_keys as k) as key_number
from private.session_mac_rule as r
"""


@dataclass(frozen=True)
class SessionMacs:
    """The settings of session MACs: whether sessions need a MAC, and the number of the newest signing key."""

    is_required: bool
    key_number: int


def set_session_macs(
    owner_url: str, *, is_required: bool | None = None, new_key: bool = False
) -> SessionMacs:
    """In one transaction, store whether sessions need a MAC (unless `is_required` is None), and make a new signing
    key if `new_key` is true.

    After a new signing key is made, MACs made with the previous key stay valid. Raises UpstreamFailed
    (database_unreachable).
    """
    with as_owner(owner_url) as connection:
        if new_key:
            connection.execute("select private.rotate_session_mac_key()")
        if is_required is not None:
            connection.execute(_REQUIRE, (is_required, is_required))
        required, number = _row(connection, _STANDING)
    return SessionMacs(required, number)


def _row(connection: psycopg.Connection, statement: LiteralString) -> tuple[Any, ...]:
    row = connection.execute(statement).fetchone()
    assert row is not None, "the migration makes the one row"  # noqa: S101 - narrows the type
    return tuple(row)
