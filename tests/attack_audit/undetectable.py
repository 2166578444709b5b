"""The attacks that no log of this kind can show. Each attack runs, and the audit finds nothing."""

from typing import Final

from app.transparency_log.checkpoints import Checkpoint
from tests.attack_audit.attack import DATABASE, UndetectableAttack
from tests.attack_audit.attacker import Attacker

_QUERIES: Final = (
    "select pg_get_functiondef(p.oid) as text from pg_catalog.pg_proc as p"
    " where p.pronamespace = 'private'::regnamespace and p.proname in ('find_unqueued', 'count_log')"
)


def _delete_unsealed(attacker: Attacker) -> None:
    event = attacker.insert_event(attacker.targets.denied, with_triggers=True)
    attacker.execute("delete from audit.unsealed where event_id = %s", event)
    attacker.execute("delete from audit.events where id = %s", event)
    attacker.let_worker_run()


def _edit_unsealed(attacker: Attacker) -> None:
    event = attacker.insert_event(attacker.targets.denied, with_triggers=True)
    attacker.execute("update audit.events set outcome = 'ALLOWED', reason = null where id = %s", event)
    attacker.let_worker_run()


def _remove_unpublished(attacker: Attacker) -> None:
    """Remove the leaves that no publication has, and seal them again without one event."""
    event = attacker.insert_event(attacker.targets.denied, with_triggers=True)
    attacker.let_sealer_run()
    year = attacker.targets.year
    leaves, published = attacker.leaves(year), attacker.published_checkpoint(year)
    size = Checkpoint.parse(published.text).size
    attacker.rebuild(year, leaves[:size], published)
    attacker.execute("delete from audit.events where id = %s", event)
    for leaf in leaves[size:]:
        if leaf.event_id != event:
            attacker.execute(
                "insert into audit.unsealed (recorded_at, event_id) values (%s, %s)",
                leaf.recorded_at,
                leaf.event_id,
            )
    attacker.let_worker_run()


def _write_in_another_name(attacker: Attacker) -> None:
    attacker.insert_event(
        attacker.targets.denied,
        with_triggers=True,
        actor_id=attacker.copy_of(attacker.targets.events[0])["actor_id"],
    )
    attacker.let_worker_run()


def _read_without_event(attacker: Attacker) -> None:
    attacker.rows("select p.id, p.external_id from resguardo.patients as p")


def _insert_and_hide(attacker: Attacker) -> None:
    event = attacker.insert_event(attacker.targets.denied, outcome="ALLOWED")
    for row in attacker.rows(_QUERIES):
        hiding = row["text"].replace(
            "from audit.events as e", f"from (select * from audit.events where id <> '{event}') as e"
        )
        attacker.execute(hiding.replace("%", "%%"))


UNDETECTABLE: Final = (
    UndetectableAttack(
        "delete an event and its place in the queue before it is sealed",
        DATABASE,
        "the seal lag",
        "seal_lag",
        _delete_unsealed,
    ),
    UndetectableAttack(
        "edit an event before it is sealed", DATABASE, "the seal lag", "seal_lag", _edit_unsealed
    ),
    UndetectableAttack(
        "remove an event that is sealed but not published yet",
        DATABASE,
        "AUDIT_PUBLISH_SECONDS and the seal lag",
        "publication",
        _remove_unpublished,
    ),
    UndetectableAttack(
        "write a new event in the name of another person",
        DATABASE,
        "no limit: the log proves when the event was written, and that nobody changed it since",
        None,
        _write_in_another_name,
    ),
    UndetectableAttack(
        "read patient data without an event",
        DATABASE,
        "no limit: a superuser reads tables and backups without our functions",
        None,
        _read_without_event,
    ),
    UndetectableAttack(
        "insert an event without a leaf, and hide it from the audit's own queries",
        DATABASE,
        "no limit: the database answers every query as its superuser wants",
        None,
        _insert_and_hide,
    ),
)
