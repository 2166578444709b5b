"""Attacks with a restore of the database, and attacks on the objects of the first bucket."""

import secrets
from collections.abc import Callable
from typing import Final

from app.bucket.object_keys import compose_audit_prefix, compose_checkpoint_key, compose_latest_checkpoint_key
from app.transparency_log.checkpoints import Checkpoint
from app.transparency_log.tiles import ENTRY_LEVEL, TileId
from tests.attack_audit.attack import BUCKET, DATABASE, KEY_AND_BUCKET, LOG_KEY, Attack
from tests.attack_audit.attacker import Attacker
from tests.attack_audit.on_trees import edited_leaves


def _go_on_without_publishing(attacker: Attacker) -> None:
    """Append other events to the log of yesterday, and sign it with the stolen key."""
    year = attacker.targets.year
    leaves = attacker.leaves(year)
    for _ in range(400):
        event = attacker.insert_event(attacker.targets.events[12])
        leaves.append(attacker.leaf_of(attacker.copy_of(event)))
    attacker.store_checkpoint(year, attacker.sign(attacker.rebuild(year, leaves)))


def _restore_and_seal_others(attacker: Attacker) -> None:
    attacker.restore_yesterday()
    _go_on_without_publishing(attacker)


def _restore_and_let_worker_run(attacker: Attacker) -> None:
    attacker.restore_yesterday()
    attacker.let_worker_run()


def _remove_newer_objects(attacker: Attacker) -> None:
    """Remove everything from the bucket that yesterday's publication did not have."""
    year = attacker.targets.year
    sizes = attacker.published_sizes(year)
    (row,) = attacker.rows("select size from audit.logs where log_year = %s", year)
    kept = max(size for size in sizes if size <= row["size"])
    for size in sizes:
        if size > kept:
            attacker.bucket.delete(compose_checkpoint_key(attacker.origin(year), size))
    prefix = compose_audit_prefix(attacker.origin(year))
    for key in attacker.published(year):
        if "tile/" in key:
            tile = TileId.parse(key.removeprefix(prefix))
            if tile.index * 256 + tile.width > kept >> 8 * max(tile.level, 0):
                attacker.bucket.delete(key)
    attacker.put_latest(year, attacker.numbered_checkpoint(year, kept))


def _restore_and_publish_old_latest(attacker: Attacker) -> None:
    attacker.restore_yesterday()
    year = attacker.targets.year
    (row,) = attacker.rows("select size from audit.logs where log_year = %s", year)
    kept = max(size for size in attacker.published_sizes(year) if size <= row["size"])
    attacker.put_latest(year, attacker.numbered_checkpoint(year, kept))


def _restore_and_remove_newer(attacker: Attacker) -> None:
    attacker.restore_yesterday()
    _remove_newer_objects(attacker)


def _restore_remove_and_seal_others(attacker: Attacker) -> None:
    attacker.restore_yesterday()
    _remove_newer_objects(attacker)
    _go_on_without_publishing(attacker)
    year = attacker.targets.year
    note = attacker.publish(year, attacker.leaves(year))
    attacker.store_checkpoint(year, note)


def _begin_anew(attacker: Attacker) -> None:
    year = attacker.targets.year
    attacker.execute(f"delete from audit.events_{year}")
    attacker.rebuild(year, [])
    leaves = []
    for _ in range(20):
        event = attacker.insert_event(attacker.targets.former_events[0], recorded_at=_now(attacker))
        leaves.append(attacker.leaf_of(attacker.copy_of(event)))
    attacker.store_checkpoint(year, attacker.sign(attacker.rebuild(year, leaves)))


def _now(attacker: Attacker) -> object:
    (row,) = attacker.rows("select private.now() as at")
    return row["at"]


def _change_object(tile: TileId, change: Callable[[bytes], bytes]) -> Callable[[Attacker], None]:
    def run(attacker: Attacker) -> None:
        key = attacker.tile_key(attacker.targets.year, tile)
        content = attacker.bucket.get(key)
        attacker.bucket.put(key, change(content))

    return run


def _flip(content: bytes) -> bytes:
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


def _change_partial_tile(attacker: Attacker) -> None:
    year = attacker.targets.year
    size = attacker.published_sizes(year)[-1]
    tile = TileId(0, size // 256, size % 256)
    _change_object(tile, _flip)(attacker)


def _remove_tile(attacker: Attacker) -> None:
    attacker.bucket.delete(attacker.tile_key(attacker.targets.year, TileId(0, 1)))


def _remove_numbered_checkpoint(attacker: Attacker) -> None:
    year = attacker.targets.year
    size = attacker.published_sizes(year)[-2]
    attacker.bucket.delete(compose_checkpoint_key(attacker.origin(year), size))


def _forge_numbered_checkpoint(attacker: Attacker) -> None:
    year = attacker.targets.year
    size = attacker.published_sizes(year)[-2]
    checkpoint = Checkpoint.parse(attacker.numbered_checkpoint(year, size).text)
    attacker.put_checkpoint(year, size, attacker.sign(checkpoint, secrets.token_bytes(32)))


def _remove_year(attacker: Attacker) -> None:
    year = attacker.targets.closed_year
    for key in attacker.published(year):
        attacker.bucket.delete(key)
    attacker.bucket.delete(compose_latest_checkpoint_key(attacker.origin(year)))


def _rewrite(attacker: Attacker) -> None:
    year = attacker.targets.year
    attacker.rebuild(year, edited_leaves(attacker))
    attacker.store_checkpoint(year, attacker.publish(year, attacker.leaves(year)))


RESTORES: Final = (
    Attack(
        "restore the database of yesterday",
        DATABASE,
        "rolled_back",
        "the bucket",
        lambda a: a.restore_yesterday(),
    ),
    Attack(
        "restore it and seal other events",
        LOG_KEY,
        "re_signed",
        "the tile in the bucket",
        _restore_and_seal_others,
    ),
    Attack(
        "restore it and let the worker go on",
        DATABASE,
        "adopted_after_a_restore",
        "the event of the adoption",
        _restore_and_let_worker_run,
    ),
    Attack(
        "restore it, and publish the old checkpoint as the latest one",
        BUCKET,
        "rolled_back",
        "the numbered checkpoints",
        _restore_and_publish_old_latest,
    ),
    Attack(
        "restore it, and remove the newer objects from the bucket",
        BUCKET,
        "rolled_back",
        "the second bucket",
        _restore_and_remove_newer,
    ),
    Attack(
        "restore it, remove the newer objects, and seal other events",
        KEY_AND_BUCKET,
        "split_view",
        "the second bucket",
        _restore_remove_and_seal_others,
    ),
    Attack("empty the log and begin a new one", LOG_KEY, "rolled_back", "the bucket", _begin_anew),
)

BUCKETS: Final = (
    Attack(
        "change one byte of a full tile",
        BUCKET,
        "tile_changed",
        "the signed root",
        _change_object(TileId(0, 0), _flip),
    ),
    Attack("remove a full tile", BUCKET, "tile_missing", "the signed size", _remove_tile),
    Attack(
        "shorten a full tile",
        BUCKET,
        "tile_changed",
        "the signed size",
        _change_object(TileId(0, 0), lambda content: content[:-32]),
    ),
    Attack("change a partial tile", BUCKET, "tile_changed", "the signed root", _change_partial_tile),
    Attack(
        "change an entry bundle",
        BUCKET,
        "tile_changed",
        "the tile of level 0",
        _change_object(TileId(ENTRY_LEVEL, 0), _flip),
    ),
    Attack(
        "remove a numbered checkpoint",
        BUCKET,
        "checkpoint_missing",
        "the second bucket",
        _remove_numbered_checkpoint,
    ),
    Attack(
        "sign a numbered checkpoint with another key",
        BUCKET,
        "checkpoint_forged",
        "the policy file",
        _forge_numbered_checkpoint,
    ),
    Attack("remove the log of a year", BUCKET, "checkpoint_missing", "the database", _remove_year),
    Attack(
        "rewrite the database and the first bucket with one event edited",
        KEY_AND_BUCKET,
        "split_view",
        "the second bucket",
        _rewrite,
    ),
)
