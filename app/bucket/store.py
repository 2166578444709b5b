"""The database rows about the bucket: terms in use, held folders, and found differences."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from app.bucket.drift import Drift, Look, Prefix
from app.bucket.model import Part
from app.postgres.database import Transaction
from app.postgres.queries import Queries

_sql: Final = Queries(Path(__file__).with_name("queries.sql"))


async def lock(tx: Transaction) -> None:
    """Lock the bucket's rules against other writers until the transaction ends."""
    await tx.run(_sql["lock_bucket"])


async def retention_days(tx: Transaction) -> tuple[int, ...]:
    """Return the terms, in days, of the policy in force and of the objects under r/."""
    return tuple(await tx.value(_sql["retention_days"]))


async def protected_prefixes(tx: Transaction) -> tuple[Prefix, ...]:
    """Return the folders of consultations under r/ that a legal hold or an access request protects."""
    return _prefixes(await tx.all(_sql["protected_prefixes"]))


async def endangered_prefixes(tx: Transaction) -> tuple[Prefix, ...]:
    """Return the folders of consultations under r/ that the bucket would delete before they are due."""
    return _prefixes(await tx.all(_sql["endangered_prefixes"]))


async def access_standing(tx: Transaction) -> tuple[str, tuple[str, ...] | None]:
    """Return the database's version of policies/access, and what was changed since it was sealed (None before any
    seal).
    """
    row = await tx.one(_sql["access_standing"])
    assert row is not None  # noqa: S101 - the function returns one row
    return row["policy_version"], None if row["changed"] is None else tuple(row["changed"])


async def record_change(tx: Transaction, part: Part, outcome: str) -> None:
    """Write the audit row before a part of the bucket's rules is written, or after it could not be written."""
    await tx.run(_sql["record_change"], {"part": part.value, "outcome": outcome})


async def settle(
    tx: Transaction, look: Look
) -> tuple[frozenset[tuple[str, str]], tuple[tuple[str, str], ...]]:
    """Store the result of a check, and audit new and ended differences. Return the code and subject of each."""
    rows = await tx.all(
        _sql["settle_drifts"],
        {
            "topics": [topic.value for topic in look.looked],
            "drifts": Jsonb([_to_row(one) for one in look.drifts]),
        },
    )
    begun = frozenset((row["drift_code"], row["drift_subject"]) for row in rows if not row["is_over"])
    return begun, tuple((row["drift_code"], row["drift_subject"]) for row in rows if row["is_over"])


def _prefixes(rows: Iterable[DictRow]) -> tuple[Prefix, ...]:
    return tuple(Prefix(row["consultation_id"], row["prefix"], row["is_finished"]) for row in rows)


def _to_row(drift: Drift) -> dict[str, str | None]:
    consultation = drift.consultation_id
    return {
        "topic": drift.topic.value,
        "code": drift.code,
        "subject": drift.subject,
        "consultation_id": None if consultation is None else str(consultation),
    }
