"""Manages the root keys' check values in the database, and the data keys that the root keys wrap.

The database never receives a root key or an unwrapped data key. The code in `app/deletions` destroys the data key
of a recording, and the code in `app/notes` makes and destroys the data key of a patient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

import psycopg

from app.errors import Conflict
from app.keys.keyring import DataKey, Keyring
from app.postgres.database import Database, Transaction
from app.postgres.queries import Queries

BATCH = 200
"""How many data keys one transaction of a rotation wraps and locks."""

Owner = Literal["recording", "patient"]
_sql = Queries(Path(__file__).with_name("queries.sql"))
_ROTATIONS: Final = {
    "recording": (_sql["read_keys_to_rewrap"], _sql["rewrap_recording_keys"]),
    "patient": (_sql["read_patient_keys_to_rewrap"], _sql["rewrap_patient_keys"]),
}
"""The statements that read and replace one batch of the data keys of each kind of owner."""


@dataclass(frozen=True)
class Rotation:
    """The result of a rotation to the current root key. `unreadable` lists the recordings whose data key no
    configured root key can unwrap, and `unreadable_patients` the patients.
    """

    rewrapped: int
    unreadable: tuple[UUID, ...]
    is_word_index_unreadable: bool = False
    unreadable_patients: tuple[UUID, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Return whether the current root key now wraps every key, so that the old root keys are no longer needed."""
        return not (self.unreadable or self.unreadable_patients or self.is_word_index_unreadable)


@dataclass(frozen=True)
class KeyCount:
    """The number of keys of one kind that a root key wraps."""

    kind: Literal["recording", "patient", "word_index"]
    root_key_id: str
    count: int


async def require_root_keys(database: Database, keyring: Keyring) -> None:
    """Check the root keys. Raises Conflict: root_key_missing (data keys need a root key that is not configured),
    root_key_wrong, database_unmigrated.
    """
    values = keyring.check_values()
    try:
        async with database.as_service("start_up") as tx:
            await tx.run(
                _sql["require_root_keys"], {"ids": list(values), "check_values": list(values.values())}
            )
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction) as error:
        raise Conflict("database_unmigrated") from error


async def register_root_key(database: Database, keyring: Keyring) -> None:
    """Check the root keys as `require_root_keys` does, and register the current root key. Safe to repeat."""
    await require_root_keys(database, keyring)
    current = keyring.current_id
    async with database.as_service("start_up") as tx:
        await tx.run(
            _sql["register_root_key"], {"id": current, "check_value": keyring.check_values()[current]}
        )


async def count_keys(database: Database) -> list[KeyCount]:
    """Return how many keys each root key wraps, including root keys that are not configured. Changes nothing."""
    async with database.as_service("rotate_keys") as tx:
        rows = await tx.all(_sql["count_keys"])
    return [KeyCount(row["kind"], row["root_key"], row["keys"]) for row in rows]


async def make_recording_key(tx: Transaction, keyring: Keyring, recording_id: UUID) -> bool:
    """Create the data key of a READY video and write the audit row. Return False if the video already has a data
    key. Needs the worker's role.

    Raises Conflict (recording_not_ready, or root_key_unknown if the current root key is not registered).
    """
    made = keyring.new_data_key()
    is_new: bool = await tx.value(
        _sql["make_recording_key"],
        {"id": recording_id, "wrapped": made.wrapped, "root_key_id": made.root_key_id},
    )
    return is_new


async def rotate(
    database: Database,
    keyring: Keyring,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    batch: int = BATCH,
) -> Rotation:
    """Rewrap every key that is not wrapped by the current root key, one batch in each transaction. A second call
    continues.

    `on_progress` receives the number of data keys processed so far and the total number of data keys to process.
    Raises like `register_root_key`.
    """
    await register_root_key(database, keyring)
    is_rotated = await _rotate_word_index(database, keyring)
    async with database.as_service("rotate_keys") as tx:
        total = int(await tx.value(_sql["count_keys_to_rewrap"], {"root_key_id": keyring.current_id}))
    done = 0
    unreadable: dict[Owner, list[UUID]] = {"recording": [], "patient": []}
    on_progress(done, total)
    for owner, failed in unreadable.items():
        after = None
        while True:
            ids, some_failed = await _rotate_some(database, keyring, owner, after, batch)
            failed += some_failed
            if not ids:
                break
            done, after = done + len(ids), ids[-1]
            on_progress(done, total)
    return Rotation(
        done - sum(len(failed) for failed in unreadable.values()),
        tuple(unreadable["recording"]),
        not is_rotated,
        tuple(unreadable["patient"]),
    )


async def _rotate_word_index(database: Database, keyring: Keyring) -> bool:
    """Wrap the key of the word index with the current root key. Return False, and leave the key unchanged, if no
    configured root key can unwrap it.
    """
    async with database.as_service("rotate_keys") as tx:
        row = await tx.one(_sql["lock_word_index_key"], {"root_key_id": keyring.current_id})
        if row is None:
            return True
        made = _rewrapped(keyring, DataKey(row["wrapped"], row["root_key"]))
        if made is None:
            return False
        await tx.run(
            _sql["rewrap_word_index_key"], {"wrapped": made.wrapped, "root_key_id": made.root_key_id}
        )
        return True


async def _rotate_some(
    database: Database, keyring: Keyring, owner: Owner, after: UUID | None, batch: int
) -> tuple[list[UUID], list[UUID]]:
    """Wrap one batch of data keys, of recordings or of patients, with the current root key. Return the owners of the
    keys in the batch, and the owners whose data key could not be unwrapped.
    """
    read, rewrap = _ROTATIONS[owner]
    async with database.as_service("rotate_keys") as tx:
        rows = await tx.all(read, {"root_key_id": keyring.current_id, "after": after, "at_most": batch})
        found = {row["owner_id"]: DataKey(row["wrapped"], row["root_key"]) for row in rows}
        anew = {one: made for one, key in found.items() if (made := _rewrapped(keyring, key)) is not None}
        await tx.run(
            rewrap,
            {
                "ids": list(anew),
                "before": [found[one].wrapped for one in anew],
                "after": [made.wrapped for made in anew.values()],
                "root_key_id": keyring.current_id,
            },
        )
    return list(found), [one for one in found if one not in anew]


def _rewrapped(keyring: Keyring, key: DataKey) -> DataKey | None:
    try:
        return keyring.rewrap(key.wrapped, key.root_key_id)
    except Conflict:
        return None
