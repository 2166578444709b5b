"""Attacks on sealed events, and insertions of events."""

from typing import Final

from tests.attack_audit.attack import DATABASE, Attack
from tests.attack_audit.attacker import Attacker


def _delete(attacker: Attacker, place: int) -> None:
    attacker.execute("delete from audit.events where id = %s", attacker.targets.events[place])


def _delete_with_leaf(attacker: Attacker) -> None:
    event = attacker.targets.events[2]
    attacker.execute("delete from audit.leaves where event_id = %s", event)
    attacker.execute("delete from audit.events where id = %s", event)


def _delete_and_renumber(attacker: Attacker) -> None:
    event, year = attacker.targets.events[3], attacker.targets.year
    attacker.execute("delete from audit.events where id = %s", event)
    attacker.rebuild(year, attacker.leaves(year))


def _delete_patient(attacker: Attacker) -> None:
    attacker.execute(
        "delete from audit.events where patient_ids @> array[%s::uuid]", attacker.targets.patient
    )


def _delete_hour(attacker: Attacker) -> None:
    recorded_at = attacker.copy_of(attacker.targets.events[0])["recorded_at"]
    attacker.execute(
        "delete from audit.events where recorded_at between %s and %s::timestamptz + interval '1 hour'",
        recorded_at,
        recorded_at,
    )


def _truncate(attacker: Attacker) -> None:
    attacker.execute(f"truncate audit.events_{attacker.targets.year}")


def _detach(attacker: Attacker) -> None:
    attacker.execute(f"alter table audit.events detach partition audit.events_{attacker.targets.year}")


def _set(attacker: Attacker, assignments: str, event: str = "") -> None:
    chosen = attacker.targets.denied if event else attacker.targets.events[4]
    changed = attacker.execute(f"update audit.events set {assignments} where id = %s", chosen)
    if changed != 1:
        raise AssertionError("the attack changed nothing")


def _exchange_contents(attacker: Attacker) -> None:
    one, other = attacker.targets.events[5], attacker.targets.denied
    columns = "actor_id, action, outcome, reason, entities, patient_ids, consultation_ids, salt"
    attacker.execute(
        f"update audit.events as e set ({columns}) ="
        f" (select {columns} from audit.events as o where o.id = case e.id when %s then %s else %s end::uuid)"
        " where e.id in (%s, %s)",
        one, other, one, one, other,
    )  # fmt: skip


def _redact(attacker: Attacker) -> None:
    attacker.with_triggers("select private.redact_event(%s, 'patient_request')", attacker.targets.denied)
    attacker.let_worker_run()


def _backdate(attacker: Attacker) -> None:
    recorded_at = attacker.copy_of(attacker.targets.events[6])["recorded_at"]
    attacker.insert_event(attacker.targets.events[6], with_triggers=True, recorded_at=recorded_at)
    attacker.let_worker_run()


def _insert_silently(attacker: Attacker) -> None:
    attacker.insert_event(attacker.targets.denied, outcome="ALLOWED")


def _take_from_queue(attacker: Attacker) -> None:
    event = attacker.insert_event(attacker.targets.denied, with_triggers=True, outcome="ALLOWED")
    if attacker.execute("delete from audit.unsealed where event_id = %s", event) != 1:
        raise AssertionError("the event was not queued")


def _drop_trigger(attacker: Attacker) -> None:
    attacker.execute("drop trigger events_queue_for_sealing on audit.events")
    for _ in range(3):
        attacker.insert_event(attacker.targets.events[7], with_triggers=True)
    attacker.execute(
        "create trigger events_queue_for_sealing after insert on audit.events"
        " for each row execute function private.queue_for_sealing()"
    )
    attacker.let_worker_run()


def _insert_leaf(attacker: Attacker) -> None:
    year, like = attacker.targets.year, attacker.targets.events[8]
    leaves = attacker.leaves(year)
    place = next(index for index, leaf in enumerate(leaves) if leaf.event_id == like)
    recorded_at = attacker.copy_of(like)["recorded_at"]
    made = attacker.copy_of(attacker.insert_event(like, recorded_at=recorded_at))
    leaves.insert(place, attacker.leaf_of(made))
    attacker.rebuild(year, leaves)


def _give_leaf(attacker: Attacker) -> None:
    event = attacker.targets.events[9]
    recorded_at = attacker.copy_of(event)["recorded_at"]
    other = attacker.insert_event(event, recorded_at=recorded_at, outcome="DENIED")
    attacker.execute("update audit.leaves set event_id = %s where event_id = %s", other, event)
    attacker.execute("delete from audit.events where id = %s", event)


def _append_leaf(attacker: Attacker) -> None:
    year = attacker.targets.year
    leaf = attacker.leaf_of(attacker.copy_of(attacker.insert_event(attacker.targets.denied)))
    attacker.execute("delete from audit.events where id = %s", leaf.event_id)
    attacker.write_leaf(year, len(attacker.leaves(year)), leaf)


def _insert_future(attacker: Attacker) -> None:
    (row,) = attacker.rows("select private.now() + interval '3 hours' as at")
    attacker.insert_event(attacker.targets.events[6], with_triggers=True, recorded_at=row["at"])
    attacker.let_worker_run()
    attacker.insert_event(attacker.targets.events[6], with_triggers=True)
    attacker.let_worker_run()


def _insert_former(attacker: Attacker) -> None:
    former = attacker.targets.former_events[0]
    recorded_at = attacker.copy_of(former)["recorded_at"]
    attacker.insert_event(former, with_triggers=True, recorded_at=recorded_at)
    attacker.let_worker_run()


EVENTS: Final = (
    Attack("delete one event", DATABASE, "deleted", "its leaf", lambda a: _delete(a, 1)),
    Attack("delete an event and its leaf", DATABASE, "deleted", "the tile in the bucket", _delete_with_leaf),
    Attack(
        "delete an event and its leaf, and renumber the later leaves",
        DATABASE,
        "deleted",
        "the tile in the bucket",
        _delete_and_renumber,
    ),
    Attack("delete every event of one patient", DATABASE, "deleted", "their leaves", _delete_patient),
    Attack("delete the events of one hour", DATABASE, "deleted", "their leaves", _delete_hour),
    Attack("truncate the year's partition", DATABASE, "deleted", "the leaves", _truncate),
    Attack("detach the year's partition", DATABASE, "deleted", "the leaves", _detach),
    Attack(
        "turn a denied access into an allowed access",
        DATABASE,
        "edited",
        "its leaf",
        lambda a: _set(a, "outcome = 'ALLOWED', reason = null", event="denied"),
    ),
    Attack(
        "replace the actor of an event",
        DATABASE,
        "edited",
        "its leaf",
        lambda a: _set(a, "actor_id = gen_random_uuid()"),
    ),
    Attack(
        "remove a patient from a list",
        DATABASE,
        "edited",
        "its leaf",
        lambda a: _set(a, "patient_ids = '{}'"),
    ),
    Attack(
        "change one character of the entities",
        DATABASE,
        "edited",
        "its leaf",
        lambda a: _set(a, "entities = overlay(entities::text placing 'f' from 12 for 1)::jsonb"),
    ),
    Attack(
        "give an event an earlier time",
        DATABASE,
        "edited",
        "its leaf",
        lambda a: _set(a, "recorded_at = recorded_at - interval '1 minute'"),
    ),
    Attack(
        "move an event into another year",
        DATABASE,
        "edited",
        "its leaf",
        lambda a: _set(a, "recorded_at = recorded_at - interval '100 days'"),
    ),
    Attack("exchange the contents of two events", DATABASE, "edited", "their leaves", _exchange_contents),
    Attack(
        "edit an event and give it a new salt",
        DATABASE,
        "edited",
        "its leaf",
        lambda a: _set(a, "outcome = 'ALLOWED', salt = uuid_send(gen_random_uuid())", event="denied"),
    ),
    Attack(
        "change the version of an event's canonical form",
        DATABASE,
        "edited",
        "its leaf",
        lambda a: _set(a, "canonical_version = 2"),
    ),
    Attack(
        "empty an event without a redaction",
        DATABASE,
        "edited",
        "its leaf",
        lambda a: _set(a, "salt = '', entities = '[]', patient_ids = '{}', consultation_ids = '{}'"),
    ),
    Attack(
        "hide an event behind a redaction",
        DATABASE,
        "redacted",
        "the event of the redaction",
        _redact,
    ),
)

INSERTIONS: Final = (
    Attack("insert an event into the past", DATABASE, "backdated", "its place in the log", _backdate),
    Attack(
        "insert an event with all triggers off",
        DATABASE,
        "never_queued",
        "the event without a leaf",
        _insert_silently,
    ),
    Attack(
        "insert an event and take it from the queue",
        DATABASE,
        "never_queued",
        "the event without a leaf",
        _take_from_queue,
    ),
    Attack(
        "drop the queue's trigger for a while",
        DATABASE,
        "never_queued",
        "the events without a leaf",
        _drop_trigger,
    ),
    Attack(
        "insert an event and its leaf into the past",
        DATABASE,
        "leaf_changed",
        "the tile in the bucket",
        _insert_leaf,
    ),
    Attack(
        "give the leaf of an event to another event",
        DATABASE,
        "edited",
        "its leaf",
        _give_leaf,
    ),
    Attack("append a leaf without an event", DATABASE, "leaf_changed", "the signed size", _append_leaf),
    Attack("insert an event from the future", DATABASE, "clock_leap", "its place in the log", _insert_future),
    Attack(
        "insert an event into a closed year",
        DATABASE,
        "closed_year_grew",
        "the event that closed the year",
        _insert_former,
    ),
)
