"""Reads that write their audit row in the same statement.

Every such statement returns one row: `recorded`, from the function that wrote the audit row, and `found`, a JSON array.
One row comes back whatever was found, so the audit row is written for an empty result, too: a statement that joined the
two would not call the function if there was nothing to join.
"""

from dataclasses import dataclass
from typing import Generic, LiteralString, TypeVar

from pydantic import TypeAdapter

from app.postgres.database import Parameters, Transaction

Item = TypeVar("Item")


@dataclass(frozen=True)
class Look(Generic[Item]):
    """What was found. `is_allowed` is False if the entity that was named is hidden or does not exist."""

    found: list[Item]
    is_allowed: bool


async def look(
    tx: Transaction, sql: LiteralString, parameters: Parameters, items: TypeAdapter[list[Item]]
) -> Look[Item]:
    """The look, in the statement's order. Raises RuntimeError if the statement has written no audit row."""
    row = await tx.one(sql, parameters)
    if row is None or row["recorded"] is None:
        raise RuntimeError("the statement has written no audit row")
    return Look(items.validate_json(row["found"]), row["recorded"])


async def read_audited(
    tx: Transaction, sql: LiteralString, parameters: Parameters, items: TypeAdapter[list[Item]]
) -> list[Item]:
    """The same without whether it is allowed: what is hidden is not found."""
    return (await look(tx, sql, parameters, items)).found
