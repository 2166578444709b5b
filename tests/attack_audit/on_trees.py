"""Attacks on the tree and the checkpoints in the database and in the first bucket."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from app.transparency_log.checkpoints import Checkpoint, Ed25519Cosigner
from app.transparency_log.notes import NoteSignature, SignedNote
from tests.attack_audit.attack import BUCKET, DATABASE, KEY_AND_BUCKET, LOG_KEY, Attack
from tests.attack_audit.attacker import Attacker, Leaf


def edit_denied(attacker: Attacker) -> UUID:
    """Turn the denied access into an allowed access. Return the event."""
    event = attacker.targets.denied
    attacker.execute("update audit.events set outcome = 'ALLOWED', reason = null where id = %s", event)
    return event


def edited_leaves(attacker: Attacker) -> list[Leaf]:
    """Edit one event. Return the leaves of the current year that fit the edited event."""
    edit_denied(attacker)
    return attacker.leaves(attacker.targets.year)


def _edit_with_leaf(attacker: Attacker) -> None:
    event, year = attacker.targets.denied, attacker.targets.year
    place = [leaf.event_id for leaf in attacker.leaves(year)].index(event)
    edit_denied(attacker)
    attacker.write_leaf(year, place, attacker.leaf_of(attacker.copy_of(event)))


def _edit_and_rebuild(attacker: Attacker) -> None:
    attacker.rebuild(attacker.targets.year, edited_leaves(attacker))


def _exchange_leaves(attacker: Attacker) -> None:
    year = attacker.targets.year
    leaves = attacker.leaves(year)
    for index, leaf in ((10, leaves[20]), (20, leaves[10])):
        attacker.execute("delete from audit.leaves where log_year = %s and index = %s", year, index)
        attacker.execute("delete from audit.leaves where event_id = %s", leaf.event_id)
    attacker.write_leaf(year, 10, leaves[20])
    attacker.write_leaf(year, 20, leaves[10])


def _change_tile_hash(attacker: Attacker) -> None:
    attacker.execute(
        "update audit.tile_hashes set hash = %s where log_year = %s and level = 1 and index = 0",
        secrets.token_bytes(32),
        attacker.targets.year,
    )


def _change_frontier(attacker: Attacker) -> None:
    attacker.execute(
        "update audit.logs set frontier = %s || substr(frontier, 33) where log_year = %s",
        secrets.token_bytes(32),
        attacker.targets.year,
    )


def _lose(attacker: Attacker) -> None:
    event = attacker.targets.events[11]
    attacker.execute("update audit.leaves set event_id = null, recorded_at = null where event_id = %s", event)
    attacker.execute("delete from audit.events where id = %s", event)


def _lose_behind_adoption(attacker: Attacker) -> None:
    _lose(attacker)
    attacker.with_triggers("select private.write_log_event('audit_log.adopt', 1, null)")
    attacker.let_worker_run()


def _unchanged(attacker: Attacker) -> Checkpoint:
    return Checkpoint.parse(attacker.checkpoint(attacker.targets.year).text)


def _forge_key(attacker: Attacker) -> None:
    note = attacker.sign(_unchanged(attacker), secrets.token_bytes(32))
    attacker.store_checkpoint(attacker.targets.year, note)


def _forge_size(attacker: Attacker) -> None:
    year = attacker.targets.year
    real, checkpoint = attacker.checkpoint(year), _unchanged(attacker)
    attacker.store_checkpoint(
        year, SignedNote(replace(checkpoint, size=checkpoint.size + 1).format(), real.signatures)
    )


def _remove_checkpoint(attacker: Attacker) -> None:
    attacker.execute("update audit.logs set checkpoint = null where log_year = %s", attacker.targets.year)


def _sign_again(attacker: Attacker) -> None:
    _re_sign(attacker)


def _re_sign(attacker: Attacker) -> SignedNote:
    year = attacker.targets.year
    note = attacker.sign(attacker.rebuild(year, edited_leaves(attacker)))
    attacker.store_checkpoint(year, note)
    return note


def _cosignatures(attacker: Attacker) -> tuple[NoteSignature, ...]:
    """Return the cosignatures of the newest published checkpoint."""
    year = attacker.targets.year
    note = attacker.numbered_checkpoint(year, attacker.published_sizes(year)[-1])
    return tuple(one for one in note.signatures if one.name != attacker.origin(year))


def _put_with(attacker: Attacker, cosignatures: Sequence[NoteSignature]) -> None:
    year = attacker.targets.year
    attacker.rebuild(year, edited_leaves(attacker))
    note = attacker.publish(year, attacker.leaves(year), cosignatures)
    attacker.store_checkpoint(year, replace(note, signatures=note.signatures[:1]))


def _forge_cosignature(attacker: Attacker) -> None:
    (real,) = _cosignatures(attacker)
    forger = Ed25519Cosigner.from_seed(real.name, secrets.token_bytes(32))
    year = attacker.targets.year
    attacker.rebuild(year, edited_leaves(attacker))
    attacker.publish(year, attacker.leaves(year))
    for size in attacker.published_sizes(year):
        note = attacker.numbered_checkpoint(year, size)
        note = note.with_signatures([forger.cosign(note.text, 1_800_000_000)])
        attacker.put_checkpoint(year, size, note)
        attacker.put_latest(year, note)
    attacker.store_checkpoint(year, replace(note, signatures=note.signatures[:1]))


def _move_cosignatures(attacker: Attacker) -> None:
    _put_with(attacker, _cosignatures(attacker))


def _remove_cosignatures(attacker: Attacker) -> None:
    year = attacker.targets.year
    for size in attacker.published_sizes(year):
        note = attacker.numbered_checkpoint(year, size)
        attacker.put_checkpoint(year, size, replace(note, signatures=note.signatures[:1]))
        attacker.put_latest(year, replace(note, signatures=note.signatures[:1]))


def _reseal(attacker: Attacker) -> None:
    year = attacker.targets.year
    leaves = attacker.leaves(year)
    note = attacker.sign(attacker.rebuild(year, leaves[:50] + leaves[:49:-1]))
    attacker.store_checkpoint(year, note)


TREES: Final = (
    Attack(
        "edit an event and compute its leaf again",
        DATABASE,
        "edited",
        "the tile in the bucket",
        _edit_with_leaf,
    ),
    Attack(
        "edit an event and compute the whole tree again",
        DATABASE,
        "leaf_changed",
        "the tile in the bucket",
        _edit_and_rebuild,
    ),
    Attack("exchange two leaves", DATABASE, "reordered", "the tile in the bucket", _exchange_leaves),
    Attack("change a hash of a tile", DATABASE, "tile_hash_changed", "the leaves below", _change_tile_hash),
    Attack("change the frontier", DATABASE, "root_differs", "the signed root", _change_frontier),
    Attack(
        "delete an event as if a restore had lost it",
        DATABASE,
        "deleted",
        "no event of an adoption",
        _lose,
    ),
    Attack(
        "delete an event behind a forged adoption",
        DATABASE,
        "adopted_after_a_restore",
        "the event of the adoption",
        _lose_behind_adoption,
    ),
)

CHECKPOINTS: Final = (
    Attack(
        "sign a checkpoint with another key under the log's name",
        DATABASE,
        "checkpoint_forged",
        "the policy file",
        _forge_key,
    ),
    Attack("change the size in a checkpoint", DATABASE, "checkpoint_forged", "the signature", _forge_size),
    Attack(
        "remove the checkpoint", DATABASE, "checkpoint_missing", "the size of the log", _remove_checkpoint
    ),
    Attack(
        "replace the checkpoint by one of another log",
        DATABASE,
        "checkpoint_forged",
        "the origin",
        lambda a: a.store_checkpoint(a.targets.year, a.checkpoint(a.targets.closed_year)),
    ),
    Attack(
        "edit an event, compute the tree again and sign it",
        LOG_KEY,
        "re_signed",
        "the tile in the bucket",
        _sign_again,
    ),
    Attack(
        "publish such a checkpoint as the latest one",
        KEY_AND_BUCKET,
        "split_view",
        "the numbered checkpoints",
        lambda a: a.put_latest(a.targets.year, _re_sign(a)),
    ),
    Attack(
        "cosign such a checkpoint under the witness's name",
        KEY_AND_BUCKET,
        "not_cosigned",
        "the policy file",
        _forge_cosignature,
    ),
    Attack(
        "attach the cosignatures of a real checkpoint to it",
        KEY_AND_BUCKET,
        "checkpoint_forged",
        "the cosignature",
        _move_cosignatures,
    ),
    Attack("remove the cosignatures", BUCKET, "not_cosigned", "the policy file", _remove_cosignatures),
    Attack("seal all events again in another order", LOG_KEY, "re_signed", "the tile in the bucket", _reseal),
)
