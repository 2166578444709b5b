"""Runs a SQL statement (a probe) for each cell of the access matrix, and translates the database's answer into the
words of the matrix.

A probe never commits its statement, because the caller rolls the transaction back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tests.policies.actors import ANA, BRUNO, CASES, SHA256, Actor, Case, Connection, enter, id_of

Keys = frozenset[str]
Insert = tuple[LiteralString, list[Any]]

_RAISED = {
    "session_over": "session over",
    "staff_suspended": "session over",
    "second_factor_needed": "second factor",
    "wrong_role": "wrong role",
    "the audit log is insert only": "insert only",
}


@dataclass(frozen=True)
class Relation:
    """A table or view of the matrix: its key column, the condition for the rows of one case, and the data that a
    probe writes.

    `of_case` is an SQL condition that selects the rows of one doctor's case, with one placeholder for the doctor's
    id. `of_case` is None if the rows belong to no case. `change` contains the SET and WHERE clauses of a harmless
    update that the table's rules permit. `shared` selects the rows of one consultation.
    """

    key: LiteralString
    of_case: LiteralString | None = None
    change: LiteralString | None = None
    changes: Callable[[Actor], frozenset[str]] | None = None
    add: Callable[[Case, Actor], Insert] | None = None
    shared: LiteralString = "consultation_id = %s"


def _consultation(case: Case, _: Actor) -> Insert:
    return (
        (
            "insert into resguardo.consultations (id, external_id, doctor_id, patient_id, scheduled_at, kind,"
            " sensitivity, room_name) values (%s, 'new', %s, %s, now(), 'first', 'ORDINARY', %s)"
        ),
        [case.id_of("new"), case.doctor_id, case.patient_id, case.room_of("new")],
    )


def _participant(case: Case, _: Actor) -> Insert:
    return (
        (
            "insert into resguardo.participants (id, consultation_id, doctor_id, patient_id, kind, guest_role)"
            " values (gen_random_uuid(), %s, %s, %s, 'GUEST', 'COMPANION')"
        ),
        [case.id_of("startable"), case.doctor_id, case.patient_id],
    )


def _consent(case: Case, who: Actor, kind: str, source: str) -> Insert:
    return (
        (
            "insert into resguardo.consents (id, consultation_id, doctor_id, patient_id, participant_id,"
            " participant_kind, decision, source, recorded_by, text_version, text_language, text_sha256)"
            " values (gen_random_uuid(), %s, %s, %s, %s, %s, 'GIVEN', %s, %s, '1', 'en', %s)"
        ),
        [
            case.id_of("startable"),
            case.doctor_id,
            case.patient_id,
            case.id_of(f"startable {kind}"),
            kind,
            source,
            id_of(who.user or "ana"),
            SHA256,
        ],
    )


def _recording(case: Case, who: Actor, consultation: str = "startable") -> Insert:
    return (
        (
            "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name)"
            " values (gen_random_uuid(), %s, %s, %s, %s, %s)"
        ),
        [
            case.id_of(consultation),
            case.doctor_id,
            case.patient_id,
            id_of(who.user or "ana"),
            case.room_of(consultation),
        ],
    )


def _import(case: Case, _: Actor, consultation: str = "startable") -> Insert:
    return (
        (
            "insert into resguardo.recording_imports (consultation_id, doctor_id, patient_id, content_type, size_bytes)"
            " values (%s, %s, %s, 'video/mp4', 1000)"
        ),
        [case.id_of(consultation), case.doctor_id, case.patient_id],
    )


def _of(who: Actor, *names: str) -> Keys:
    cases = [who.case] if who.case else list(CASES)
    return frozenset(str(case.id_of(name)) for case in cases for name in names)


def _joined_by(who: Actor) -> Keys:
    kind = "PATIENT" if who.role == "patient" else "DOCTOR"
    return _of(who, *(f"{name} {kind}" for name in ("over", "live", "unconsented", "startable")))


def _job(*_: object) -> Insert:
    return "insert into jobs.procrastinate_jobs (queue_name, task_name) values ('default', 'verify')", []


_BY_RECORDING: LiteralString = (
    "exists (select from resguardo.recordings as r where r.id = recording_id and r.doctor_id = %s)"
)
_BY_PARTICIPANT: LiteralString = (
    "exists (select from resguardo.participants as p where p.id = participant_id and p.doctor_id = %s)"
)
_BY_PATIENT: LiteralString = (
    "patient_id = (select patient_id from resguardo.consultations where doctor_id = %s limit 1)"
)
_STOP: LiteralString = "set status = 'STOPPING' where status = 'RECORDING'"
_TO_VERIFYING: LiteralString = "set status = 'VERIFYING' where status = 'RECORDING'"

RELATIONS: dict[str, Relation] = {
    "resguardo.staff": Relation("user_id", "user_id = %s"),
    "resguardo.access_reviews": Relation("id"),
    "resguardo.access_review_entries": Relation("id", "member_id = %s"),
    "resguardo.officer_proposals": Relation("id", "member_id = %s"),
    "resguardo.patients": Relation(
        "id",
        "id = (select patient_id from resguardo.consultations where doctor_id = %s limit 1)",
        shared="id = (select patient_id from resguardo.consultations where id = %s)",
    ),
    "resguardo.consultations": Relation("id", "doctor_id = %s", add=_consultation, shared="id = %s"),
    "resguardo.participants": Relation(
        "id", "doctor_id = %s", "set joined_at = now()", _joined_by, add=_participant
    ),
    "resguardo.consents": Relation(
        "id",
        "doctor_id = %s",
        add=lambda case, who: _consent(case, who, "PATIENT", "SELF" if who.role == "patient" else "ATTESTED"),
    ),
    "resguardo.recordings": Relation(
        "id", "doctor_id = %s", _STOP, lambda who: _of(who, "live RECORDING"), add=_recording
    ),
    "resguardo.shares": Relation("id", "doctor_id = %s"),
    "resguardo.sharing_authorizations": Relation("id", "doctor_id = %s"),
    "resguardo.emergency_accesses": Relation("id", "clinician_id = %s"),
    "resguardo.clips": Relation("id", "doctor_id = %s"),
    "resguardo.recording_imports": Relation("id", "doctor_id = %s", add=_import),
    "resguardo.standing_consents": Relation("participant_id", _BY_PARTICIPANT),
    "resguardo.legal_holds": Relation("id", _BY_PATIENT),
    "private.object_moves": Relation("recording_id", _BY_RECORDING),
    "resguardo.access_requests": Relation("id", _BY_PATIENT),
    "resguardo.retention_policies": Relation("name"),
    "resguardo.retention_approvals": Relation("policy_id"),
    "resguardo.deletions": Relation("id", "doctor_id = %s"),
    "resguardo.certificates": Relation("recording_id", "doctor_id = %s"),
    "private.recording_keys": Relation("recording_id", _BY_RECORDING),
    "private.patient_keys": Relation("patient_id", _BY_PATIENT),
    "private.consultation_labels": Relation("consultation_id", _BY_PATIENT),
    "resguardo.note_certificates": Relation("note_id", "doctor_id = %s"),
    "private.note_destructions": Relation(
        "note_id",
        "exists (select from resguardo.signed_notes as n where n.id = note_id and n.doctor_id = %s)",
    ),
    "resguardo.signed_notes": Relation("id", "doctor_id = %s"),
    "resguardo.signed_note_versions": Relation("note_id", "doctor_id = %s"),
    "private.signed_note_texts": Relation(
        "note_id",
        "exists (select from resguardo.signed_notes as n where n.id = note_id and n.doctor_id = %s)",
    ),
    "resguardo.transcripts": Relation("recording_id", "doctor_id = %s"),
    "private.transcript_texts": Relation("recording_id", _BY_RECORDING),
    "private.transcript_chunks": Relation("recording_id", _BY_RECORDING),
    "private.transcript_corrections": Relation("recording_id", _BY_RECORDING),
    "resguardo.insights": Relation("recording_id", "doctor_id = %s"),
    "private.insight_texts": Relation("recording_id", _BY_RECORDING),
    "private.insight_answers": Relation("recording_id", _BY_RECORDING),
    "private.insight_dismissals": Relation("recording_id", _BY_RECORDING),
    "private.note_drafts": Relation("recording_id", _BY_RECORDING),
    "private.note_sections": Relation("recording_id", _BY_RECORDING),
    "private.note_section_answers": Relation("recording_id", _BY_RECORDING),
    "private.thumbnails": Relation("recording_id", _BY_RECORDING),
    "private.thumbnail_links": Relation("recording_id", _BY_RECORDING),
    "private.subtitle_links": Relation("recording_id", _BY_RECORDING),
    "private.session_notes": Relation("recording_id", _BY_RECORDING),
    "private.session_note_versions": Relation("recording_id", _BY_RECORDING),
    "private.psychotherapy_notes": Relation("recording_id", _BY_RECORDING),
    "private.psychotherapy_note_versions": Relation("recording_id", _BY_RECORDING),
    "private.questions": Relation("id", _BY_RECORDING),
    "private.word_index_key": Relation("is_the_only_one"),
    "private.searches": Relation("id"),
    "private.shown_fields": Relation("field"),
    "audit.unsealed": Relation("event_id"),
    "audit.logs": Relation("log_year"),
    "audit.leaves": Relation("index"),
    "audit.unindexed": Relation("event_id"),
    "audit.event_blocks": Relation("number"),
    "audit.event_bitmaps": Relation("block"),
    "audit.tile_hashes": Relation("index"),
    "audit.published_logs": Relation("log_year"),
    "audit.publications": Relation("log_year"),
    "private.audit_actions": Relation("action"),
    "private.audit_terms": Relation("term"),
    "private.patient_report_actions": Relation("action"),
    "private.tasks": Relation("name"),
    "private.root_keys": Relation("id"),
    "private.deletion_objects": Relation(
        "deletion_id",
        "exists (select from resguardo.deletions as d where d.id = deletion_id and d.doctor_id = %s)",
    ),
    "private.viewings": Relation("id", "person_id = %s"),
    "private.recording_secrets": Relation("recording_id", _BY_RECORDING),
    "resguardo.alerts": Relation("id"),
    "private.fetches": Relation("entity_id"),
    "private.fetch_logs": Relation("sha256"),
    "resguardo.audit_exports": Relation("id"),
    "resguardo.review_cases": Relation("id"),
    "resguardo.review_policies": Relation("name"),
    "private.review_approvals": Relation("policy_id"),
    "private.review_positions": Relation("log_year"),
    "private.review_days": Relation("actor_id"),
    "private.review_counts": Relation("rule"),
    "private.related_pairs": Relation("staff_id"),
    "private.related_imports": Relation("relation"),
    "resguardo.review_case_events": Relation("id"),
    "resguardo.accounting_requests": Relation("id", _BY_PATIENT),
    "resguardo.amendments": Relation("id", "doctor_id = %s"),
    "private.amendment_statements": Relation(
        "id",
        "exists (select from resguardo.amendments as a where a.id = amendment_id and a.doctor_id = %s)",
    ),
    "resguardo.disclosures": Relation("id", _BY_PATIENT),
    "resguardo.disclosure_suspensions": Relation("id", _BY_PATIENT),
    "private.patient_texts": Relation("id", _BY_PATIENT),
    "resguardo.breach_assessments": Relation("id"),
    "resguardo.breach_patients": Relation("patient_id"),
    "resguardo.breach_recordings": Relation("recording_id"),
    "resguardo.breach_factors": Relation("factor"),
    "resguardo.breach_notices": Relation("id"),
    "resguardo.sanctions": Relation("id"),
    "resguardo.attestations": Relation("id"),
    "private.sanction_measures": Relation("measure"),
    "private.audit_export_files": Relation("export_id"),
    "resguardo.webhook_deliveries": Relation("id"),
    "resguardo.webhook_attempts": Relation("delivery_id"),
    "resguardo.vendor_agreements": Relation("id"),
    "private.webhook_endpoints": Relation("name"),
    "private.access_exports": Relation(
        "request_id",
        "exists (select from resguardo.access_requests as a join resguardo.consultations as c"
        " on c.patient_id = a.patient_id where a.id = request_id and c.doctor_id = %s)",
    ),
    "private.import_secrets": Relation(
        "import_id",
        "exists (select from resguardo.recording_imports as i where i.id = import_id and i.doctor_id = %s)",
    ),
    "private.invitations": Relation("participant_id", _BY_PARTICIPANT),
    "private.staff_invitations": Relation("id", "invited_by = %s"),
    "private.idempotency_keys": Relation("person_id", "person_id = %s"),
    "private.usage": Relation("person_id", "person_id = %s"),
    "private.quotas": Relation("meter"),
    "private.cost_entries": Relation("recording_id", _BY_RECORDING),
    "private.language_budget": Relation("singleton"),
    "private.language_budget_lifts": Relation("doctor_id", "doctor_id = %s"),
    "private.held_language_work": Relation("recording_id", _BY_RECORDING),
    "private.pending_audit_rows": Relation("action"),
    "private.livekit_events": Relation("event_id"),
    "private.deployment": Relation("singleton"),
    "private.keeping_clock": Relation("singleton"),
    "private.leadership": Relation("of"),
    "private.turns": Relation("of"),
    "private.drifts": Relation("topic"),
    "private.session_mac_keys": Relation("number"),
    "private.session_mac_rule": Relation("singleton"),
    "private.auth_reading": Relation("singleton"),
    "private.auth_hooks": Relation("hook"),
    "private.access_seals": Relation("object"),
    "jobs.procrastinate_jobs": Relation("id", change="set priority = 1", add=_job),
    "jobs.procrastinate_events": Relation(
        "id",
        change="set at = now()",
        add=lambda *_: (
            "insert into jobs.procrastinate_events (job_id) select min(id) from jobs.procrastinate_jobs",
            [],
        ),
    ),
    "jobs.procrastinate_workers": Relation(
        "id",
        change="set last_heartbeat = now()",
        add=lambda *_: ("insert into jobs.procrastinate_workers default values", []),
    ),
    "jobs.procrastinate_periodic_defers": Relation(
        "id",
        change="set periodic_id = 'x'",
        add=lambda *_: (
            "insert into jobs.procrastinate_periodic_defers (task_name) values ('reconcile')",
            [],
        ),
    ),
}
_EVENTS = Relation("id")
SHARED = (
    "resguardo.shares",
    "resguardo.patients",
    "resguardo.consultations",
    "resguardo.participants",
    "resguardo.consents",
    "resguardo.standing_consents",
    "resguardo.recordings",
    "resguardo.clips",
    "resguardo.transcripts",
    "resguardo.insights",
    "resguardo.signed_notes",
    "resguardo.signed_note_versions",
)
"""The relations whose rows of a shared consultation a colleague sees."""


@dataclass(frozen=True)
class Population:
    """The keys of all rows of a relation, of the rows of each case, and of the rows of Ana's consultation `over`."""

    everything: Keys
    of_case: dict[Case, Keys]
    shared: Keys = frozenset()


def relation_of(name: str) -> Relation:
    """Return the relation (table or view) with this name. The audit log and its partitions have the same key
    column.
    """
    return _EVENTS if name.startswith("audit.events") else RELATIONS[name]


def population_of(connection: Connection, name: str) -> Population:
    """Return the keys of all rows, which only a superuser sees, because no row policy applies to a superuser."""
    relation = relation_of(name)
    read = sql.SQL("select {}::text from {}").format(sql.SQL(relation.key), _table(name))
    everything = _keys(connection.execute(read))
    if relation.of_case is None:
        return Population(everything, {case: frozenset() for case in CASES})
    of_case = sql.SQL("{} where {}").format(read, sql.SQL(relation.of_case))
    shared: Keys = frozenset()
    if name in SHARED:
        of_shared = sql.SQL("{} where {}").format(read, sql.SQL(relation.shared))
        shared = _keys(connection.execute(of_shared, [ANA.id_of("over")]))
    return Population(
        everything, {case: _keys(connection.execute(of_case, [case.doctor_id])) for case in CASES}, shared
    )


def answer(connection: Connection, who: Actor, name: str, operation: str, there: Population) -> str:
    """Return the matrix's word for the database's answer when the actor tries the operation. The database stays
    unchanged. KeyError: unknown operation.
    """
    relation = relation_of(name)
    match operation:
        case "select":
            read = sql.SQL("select {}::text from {}").format(sql.SQL(relation.key), _table(name))
            return _reach(connection, who, read, there, None)
        case "update":
            wanted = relation.changes(who) if relation.changes else None
            return _reach(connection, who, _changing(name, relation.change), there, wanted)
        case "update: to VERIFYING":
            return _reach(connection, who, _changing(name, _TO_VERIFYING), there, _of(who, "live RECORDING"))
        case "delete":
            return _delete(connection, who, name, there)
        case "truncate":
            return _attempt(connection, who, sql.SQL("truncate {}").format(_table(name)), [])
        case "insert":
            return _insert(connection, who, relation.add or _nothing_of(name))
    return _insert(connection, who, SPECIAL_INSERTS[operation])


def _as_if_another(case: Case, who: Actor) -> Insert:
    return _consent(case, who, "PATIENT", "ATTESTED" if who.role == "patient" else "SELF")


SPECIAL_INSERTS: dict[str, Callable[[Case, Actor], Insert]] = {
    "insert: as if another had given it": _as_if_another,
    "insert: without consent": lambda case, who: _recording(case, who, "unconsented"),
    "insert: imported without consent": lambda case, who: _import(case, who, "unconsented"),
}


def _nothing_of(name: str) -> Callable[[Case, Actor], Insert]:
    return lambda *_: (f"insert into {name} default values", [])


def _changing(name: str, change: LiteralString | None) -> sql.Composed:
    """Return a statement that tries to update rows of the relation. If the relation has no `change`, the statement
    sets the key column to the value that it has.
    """
    key = sql.SQL(relation_of(name).key)
    what = sql.SQL(change) if change else sql.SQL("set {} = {}").format(key, key)
    return sql.SQL("update {} {} returning {}::text").format(_table(name), what, key)


def _reach(
    connection: Connection, who: Actor, statement: sql.Composed, there: Population, wanted: Keys | None
) -> str:
    """Return the matrix's word for the set of rows that the statement reached. `wanted` contains the keys of the
    rows that the statement tries to reach. None means all rows.
    """
    try:
        with _as(connection, who):
            reached = _keys(connection.execute(statement))
    except psycopg.Error as error:
        return said(error)
    ours = there.of_case[ANA]
    own = there.of_case[who.case] if who.case else frozenset[str]()
    if reached and reached == (wanted if who.case is None and wanted is not None else there.everything):
        return "all rows"
    if who.sees_shared and reached and reached == there.shared:
        return "shared rows"
    if who.sees_shared and not reached & ours:
        return "nothing"
    if who.case is ANA and reached and reached == (own if wanted is None else wanted):
        return "own rows"
    if who.case is not BRUNO and not reached:
        return "nothing"
    if who.case is BRUNO and not reached & ours and reached <= own:
        return "nothing"
    return f"{len(reached & ours)} rows of Ana's case and {len(reached - ours)} others"


def _delete(connection: Connection, who: Actor, name: str, there: Population) -> str:
    try:
        with _as(connection, who):
            deleted = connection.execute(sql.SQL("delete from {}").format(_table(name))).rowcount
    except psycopg.Error as error:
        return said(error)
    return (
        "nothing" if deleted == 0 else "all rows" if deleted == len(there.everything) else f"{deleted} rows"
    )


def _insert(connection: Connection, who: Actor, add: Callable[[Case, Actor], Insert]) -> str:
    """Return the answer when the actor inserts a row into Ana's case and, if that succeeds, a row into Bruno's
    case.
    """
    for_ana = _attempt(connection, who, *_statement(add(ANA, who)))
    if for_ana != "done":
        return for_ana
    return "all rows" if _attempt(connection, who, *_statement(add(BRUNO, who))) == "done" else "own rows"


def _attempt(connection: Connection, who: Actor, statement: sql.Composable, values: list[Any]) -> str:
    try:
        with _as(connection, who):
            connection.execute(statement.as_bytes(connection), values)
    except psycopg.Error as error:
        return said(error)
    return "done"


def said(error: psycopg.Error) -> str:
    """Return the matrix's word for a refusal by the database. Return the text of an error that is no refusal."""
    message = error.diag.message_primary or ""
    if error.sqlstate == "42501":
        return "nothing" if "row-level security policy" in message else "refused"
    if error.sqlstate == "55000" and "view" in message:
        return "refused"
    return _RAISED.get(message, f"{error.sqlstate} {message}")


@contextmanager
def _as(connection: Connection, who: Actor) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        enter(connection, who)
        yield


def _statement(insert: Insert) -> tuple[sql.SQL, list[Any]]:
    return sql.SQL(insert[0]), insert[1]


def _table(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split(".", 1))


def _keys(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Keys:
    return frozenset(key for (key,) in cursor)
