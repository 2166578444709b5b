"""Attacks on closed years, on the hours between events, and on the files that the practice gives to the auditor."""

import json
from typing import Final

from tests.attack_audit.attack import DATABASE, KEY_AND_BUCKET, LOG_KEY, Attack
from tests.attack_audit.attacker import Attacker


def _grow_closed_year(attacker: Attacker) -> None:
    year = attacker.targets.closed_year
    former = attacker.targets.former_events[1]
    recorded_at = attacker.copy_of(former)["recorded_at"]
    made = attacker.insert_event(former, recorded_at=recorded_at)
    leaves = [*attacker.leaves(year), attacker.leaf_of(attacker.copy_of(made))]
    attacker.store_checkpoint(year, attacker.sign(attacker.rebuild(year, leaves)))


def _rewrite_closed_year(attacker: Attacker) -> None:
    year, former = attacker.targets.closed_year, attacker.targets.former_events[2]
    attacker.execute("delete from audit.events where id = %s", former)
    leaves = attacker.leaves(year)
    attacker.rebuild(year, leaves)
    attacker.store_checkpoint(year, attacker.publish(year, leaves))


def _remove_closed_year(attacker: Attacker) -> None:
    year = attacker.targets.closed_year
    attacker.execute(f"delete from audit.events_{year}")
    for table in ("leaves", "tile_hashes", "logs"):
        attacker.execute(f"delete from audit.{table} where log_year = %s", year)


def _stop_sealer(attacker: Attacker) -> None:
    attacker.insert_event(attacker.targets.events[13], with_triggers=True)
    attacker.pass_hours(1)


def _delete_marks(attacker: Attacker) -> None:
    if not attacker.execute("delete from audit.events where action = 'audit_log.mark_hour'"):
        raise AssertionError("no hour was marked")


def _stop_sealer_for_hours(attacker: Attacker) -> None:
    attacker.pass_hours(4)
    attacker.let_worker_run()


def _edit_event_file(attacker: Attacker) -> None:
    path = attacker.files.event
    event = json.loads(path.read_bytes())
    event["outcome"] = "DENIED"
    path.write_text(json.dumps(event, separators=(",", ":"), sort_keys=True))


def _exchange_receipts(attacker: Attacker) -> None:
    attacker.files.proof.write_bytes(attacker.files.other_proof.read_bytes())


def _edit_export(attacker: Attacker) -> None:
    path = attacker.files.export
    path.write_bytes(path.read_bytes().replace(b'"DENIED"', b'"ALLOWED"', 1))


def _shorten_export(attacker: Attacker) -> None:
    path = attacker.files.export
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))


YEARS: Final = (
    Attack(
        "append an event to a closed year and sign it",
        LOG_KEY,
        "closed_year_grew",
        "the event that closed the year",
        _grow_closed_year,
    ),
    Attack(
        "rewrite a closed year without one event",
        KEY_AND_BUCKET,
        "closed_year_changed",
        "the event that closed the year",
        _rewrite_closed_year,
    ),
    Attack(
        "remove a closed year from the database", DATABASE, "log_missing", "the bucket", _remove_closed_year
    ),
    Attack("stop the sealer", DATABASE, "unsealed_too_long", "the queue", _stop_sealer),
    Attack("delete the hour marks", DATABASE, "deleted", "their leaves", _delete_marks),
    Attack(
        "stop the sealer for four hours", DATABASE, "hours_missing", "the hour marks", _stop_sealer_for_hours
    ),
)

FILES: Final = (
    Attack(
        "change the event beside a receipt",
        DATABASE,
        "event_changed",
        "the receipt's proof",
        _edit_event_file,
    ),
    Attack(
        "give the receipt of another event",
        DATABASE,
        "event_changed",
        "the receipt's proof",
        _exchange_receipts,
    ),
    Attack("change a line of an export", DATABASE, "export_changed", "the tiles", _edit_export),
    Attack(
        "remove a line from an export", DATABASE, "export_changed", "the export's receipt", _shorten_export
    ),
)
