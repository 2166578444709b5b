"""What the attacker can do: change every row of the audit log's tables, compute the tree again as the sealer does, sign
with a stolen key, and write into the first bucket if he holds its credentials.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from app.bucket.object_keys import (
    compose_audit_prefix,
    compose_checkpoint_key,
    compose_latest_checkpoint_key,
    compose_tile_key,
)
from app.transparency_log.checkpoints import Checkpoint, Ed25519Signer, sign_checkpoint
from app.transparency_log.events import compute_entry, format_canonical_event
from app.transparency_log.merkle import Frontier, leaf_hash
from app.transparency_log.notes import NoteSignature, SignedNote
from app.transparency_log.tiles import TILE_WIDTH, TileId, format_entry_bundle, tiles_of_tree
from tests.attack_audit.objects import Objects

_OWN: Final = ("id", "recorded_at", "salt")
_TABLES: Final = (
    "select c.oid::regclass::text from pg_catalog.pg_class as c"
    " where c.relnamespace = 'audit'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition"
    " union all"
    " select c.oid::regclass::text from pg_catalog.pg_class as c"
    " where c.relnamespace = 'audit'::regnamespace and c.relkind = 'r' and c.relispartition"
)
_TRIGGERS: Final = (
    "select t.tgrelid::regclass::text, t.tgname from pg_catalog.pg_trigger as t"
    " join pg_catalog.pg_class as c on c.oid = t.tgrelid"
    " where c.relnamespace = 'audit'::regnamespace and t.tgenabled = 'A' and not t.tgisinternal"
)


@dataclass(frozen=True)
class Leaf:
    """One leaf of a log. The attacker knows the entry of an event that is still there."""

    event_id: UUID | None
    recorded_at: datetime
    entry: bytes

    @property
    def hash(self) -> bytes:
        """Return the leaf hash."""
        return leaf_hash(self.entry)


@dataclass(frozen=True)
class Targets:
    """What the attacks change. `closed_year` is over, and `year` is the current year. `events` are sealed events of
    the current year in the order of their indexes, which the auditor's kept checkpoint covers. `denied` is one of
    them. All events of `patient` are sealed. `former_events` are events of the closed year.
    """

    year: int
    closed_year: int
    events: tuple[UUID, ...]
    denied: UUID
    patient: UUID
    former_events: tuple[UUID, ...]


@dataclass(frozen=True)
class Files:
    """The files that the practice hands to the auditor: an event with its receipt, the receipt of another event, and an
    export with the receipt of the export.
    """

    event: Path
    proof: Path
    other_proof: Path
    export: Path
    export_event: Path
    export_proof: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return all files."""
        return tuple(getattr(self, one.name) for one in fields(self))


class Attacker:
    """The superuser of the database, with the triggers of the audit log turned off.

    `seed` is None unless he stole the log's key, and `bucket` is None unless he holds the credentials of the first
    bucket. `yesterday` restores the database of yesterday, and `work` lets the deployment's worker seal and publish.
    """

    def __init__(
        self,
        superuser_url: str,
        targets: Targets,
        *,
        seed: bytes,
        bucket: Objects,
        restore_yesterday: Callable[[], None],
        work: Callable[[], None],
        seal: Callable[[], None],
        files: Files,
        pass_hours: Callable[[int], None],
    ) -> None:
        self._url = superuser_url
        self.targets = targets
        self.seed = seed
        self.bucket = bucket
        self._restore_yesterday = restore_yesterday
        self._work = work
        self._seal = seal
        self.files = files
        self.pass_hours = pass_hours
        self.connection = self._connect()

    def close(self) -> None:
        """Turn the triggers on again, so that the attack leaves no other trace, and close the connection."""
        self._enable_triggers()
        self.connection.close()

    def execute(self, query: str, *parameters: object) -> int:
        """Run a statement as the superuser. Return the number of its rows."""
        return self.connection.execute(query.encode(), parameters).rowcount

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        return self.connection.execute(query.encode(), parameters).fetchall()

    def restore_yesterday(self) -> None:
        """Replace the database by the backup of yesterday."""
        self.connection.close()
        self._restore_yesterday()
        self.connection = self._connect()

    def let_worker_run(self) -> None:
        """Let the deployment's worker seal and publish, with all triggers turned on."""
        self._let(self._work)

    def let_sealer_run(self) -> None:
        """Let the deployment's worker seal, and die before it publishes."""
        self._let(self._seal)

    def _let(self, run: Callable[[], None]) -> None:
        self._enable_triggers()
        self.connection.close()
        run()
        self.connection = self._connect()

    def with_triggers(self, query: str, *parameters: object) -> None:
        """Run a statement while all triggers are turned on."""
        self._enable_triggers()
        self.execute(query, *parameters)
        self._disable_triggers()

    def _connect(self) -> psycopg.Connection[dict[str, Any]]:
        self.connection = psycopg.connect(self._url, autocommit=True, row_factory=dict_row)
        self._triggers = [(row["tgrelid"], row["tgname"]) for row in self.rows(_TRIGGERS)]
        self._disable_triggers()
        return self.connection

    def _disable_triggers(self) -> None:
        for row in self.rows(_TABLES):
            self.execute(f"alter table {row['oid']} disable trigger all")

    def _enable_triggers(self) -> None:
        for row in self.rows(_TABLES):
            self.execute(f"alter table {row['oid']} enable trigger all")
        existing = {
            (row["tgrelid"], row["tgname"]) for row in self.rows(_TRIGGERS.replace("= 'A'", "<> 'A'"))
        }
        for table, name in self._triggers:
            if (table, name) in existing:
                self.execute(f"alter table {table} enable always trigger {name}")

    # Events

    def copy_of(self, event: UUID) -> dict[str, Any]:
        """Return the row of an event."""
        (row,) = self.rows("select e.* from audit.events as e where e.id = %s", event)
        return row

    def insert_event(self, like: UUID, *, with_triggers: bool = False, **changes: object) -> UUID:
        """Insert a new event that equals another event except for its id, time, salt and the changes."""
        columns = [name for name in self.copy_of(like) if name not in (*_OWN, *changes)]
        query = (
            f"insert into audit.events ({', '.join((*columns, *changes))})"
            f" select {', '.join((*(f'e.{name}' for name in columns), *('%s' for _ in changes)))}"
            " from audit.events as e where e.id = %s"
        )
        if with_triggers:
            self._enable_triggers()
        before = {row["id"] for row in self.rows("select id from audit.events")}
        self.execute(query, *changes.values(), like)
        if with_triggers:
            self._disable_triggers()
        (made,) = {row["id"] for row in self.rows("select id from audit.events")} - before
        return UUID(str(made))

    # The tree

    def origin(self, year: int) -> str:
        """Return the origin of a year's log."""
        (row,) = self.rows("select origin from audit.logs where log_year = %s", year)
        return str(row["origin"])

    def leaves(self, year: int) -> list[Leaf]:
        """Return the leaves that a sealer would compute today from the events, in the order of their indexes."""
        rows = self.rows(
            "select e.* from audit.leaves as l join audit.events as e on e.id = l.event_id"
            " where l.log_year = %s order by l.index",
            year,
        )
        return [self.leaf_of(row) for row in rows]

    def leaf_of(self, row: Mapping[str, Any]) -> Leaf:
        """Return the leaf that a sealer would compute from the row of an event."""
        return Leaf(
            row["id"], row["recorded_at"], compute_entry(bytes(row["salt"]), format_canonical_event(row))
        )

    def write_leaf(self, year: int, index: int, leaf: Leaf) -> None:
        """Replace the leaf at an index, or append it."""
        self.execute("delete from audit.leaves where log_year = %s and index = %s", year, index)
        self.execute(
            "insert into audit.leaves (log_year, index, event_id, recorded_at, entry, leaf_hash)"
            " values (%s, %s, %s, %s, %s, %s)",
            year, index, leaf.event_id, leaf.recorded_at, leaf.entry, leaf.hash,
        )  # fmt: skip

    def rebuild(self, year: int, leaves: Sequence[Leaf], note: SignedNote | None = None) -> Checkpoint:
        """Write this tree into the database, as the sealer would have. The stored checkpoint becomes `note`, if there
        is one. Return the unsigned checkpoint of the tree.
        """
        self.execute("delete from audit.leaves where log_year = %s", year)
        self.execute("delete from audit.tile_hashes where log_year = %s", year)
        for index, leaf in enumerate(leaves):
            self.write_leaf(year, index, leaf)
        frontier, roots = Frontier().extend_with_roots(leaf.hash for leaf in leaves)
        for root in roots:
            self.execute(
                "insert into audit.tile_hashes (log_year, level, index, hash) values (%s, %s, %s, %s)",
                year, root.level, root.index, root.hash,
            )  # fmt: skip
        self.execute(
            "update audit.logs set size = %s, frontier = %s where log_year = %s",
            frontier.size, frontier.to_bytes(), year,
        )  # fmt: skip
        if note is not None:
            self.store_checkpoint(year, note)
        return Checkpoint(self.origin(year), frontier.size, frontier.root)

    def store_checkpoint(self, year: int, note: SignedNote) -> None:
        """Replace the newest checkpoint in the database."""
        self.execute(
            "update audit.logs set checkpoint = %s where log_year = %s", note.format().decode(), year
        )

    def checkpoint(self, year: int) -> SignedNote:
        """Return the newest checkpoint in the database."""
        (row,) = self.rows("select checkpoint from audit.logs where log_year = %s", year)
        return SignedNote.parse(row["checkpoint"].encode())

    def published_checkpoint(self, year: int) -> SignedNote:
        """Return the newest published checkpoint without its cosignatures, as the database stores it."""
        (row,) = self.rows("select checkpoint from audit.published_logs where log_year = %s", year)
        note = SignedNote.parse(row["checkpoint"].encode())
        return replace(note, signatures=note.signatures[:1])

    def sign(self, checkpoint: Checkpoint, seed: bytes | None = None) -> SignedNote:
        """Sign with the stolen key of the log, or with the key of another seed."""
        return sign_checkpoint(checkpoint, Ed25519Signer.from_seed(checkpoint.origin, seed or self.seed))

    # The first bucket

    def published(self, year: int) -> list[str]:
        """Return the keys of a year's objects in the first bucket."""
        return self.bucket.keys(compose_audit_prefix(self.origin(year)))

    def published_sizes(self, year: int) -> list[int]:
        """Return the sizes of the published checkpoints, the smallest first."""
        prefix = f"{compose_audit_prefix(self.origin(year))}checkpoints/"
        return sorted(int(key.removeprefix(prefix)) for key in self.bucket.keys(prefix))

    def numbered_checkpoint(self, year: int, size: int) -> SignedNote:
        """Return a published checkpoint with its cosignatures."""
        return SignedNote.parse(self.bucket.get(compose_checkpoint_key(self.origin(year), size)))

    def put_checkpoint(self, year: int, size: int, note: SignedNote) -> None:
        """Overwrite a published checkpoint."""
        self.bucket.put(compose_checkpoint_key(self.origin(year), size), note.format())

    def put_latest(self, year: int, note: SignedNote) -> None:
        """Overwrite the latest checkpoint."""
        self.bucket.put(compose_latest_checkpoint_key(self.origin(year)), note.format())

    def tile_key(self, year: int, tile: TileId) -> str:
        """Return the key of a tile."""
        return compose_tile_key(self.origin(year), tile.path)

    def publish(
        self, year: int, leaves: Sequence[Leaf], cosignatures: Sequence[NoteSignature] = ()
    ) -> SignedNote:
        """Replace the log of a year in the first bucket by the log with these leaves, signed with the stolen key: all
        tiles and a checkpoint for each published size.
        """
        sizes = [size for size in self.published_sizes(year) if size < len(leaves)] + [len(leaves)]
        for key in self.published(year):
            self.bucket.delete(key)
        note = self.checkpoint(year)
        for size in sizes:
            checkpoint = Checkpoint(
                self.origin(year), size, Frontier().extend(one.hash for one in leaves[:size]).root
            )
            note = self.sign(checkpoint)
            note = replace(note, signatures=(*note.signatures, *cosignatures))
            for tile, content in tiles_of(leaves[:size]).items():
                self.bucket.put(self.tile_key(year, tile), content)
            self.put_checkpoint(year, size, note)
        self.put_latest(year, note)
        return note


def tiles_of(leaves: Sequence[Leaf]) -> dict[TileId, bytes]:
    """Return all tiles and entry bundles of a tree."""
    levels: dict[int, list[bytes]] = {0: [leaf.hash for leaf in leaves]}
    for root in Frontier().extend_with_roots(levels[0])[1]:
        levels.setdefault(root.level, []).append(root.hash)
    made = {}
    for tile in tiles_of_tree(len(leaves)):
        start, end = tile.index * TILE_WIDTH, tile.index * TILE_WIDTH + tile.width
        if tile.level < 0:
            made[tile] = format_entry_bundle(leaf.entry for leaf in leaves[start:end])
        else:
            made[tile] = b"".join(levels[tile.level][start:end])
    return made
