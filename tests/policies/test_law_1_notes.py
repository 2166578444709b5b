"""Tests of law 1 for session notes and psychotherapy notes: only the consultation's doctor gets them, only after the
audit row is written, and no other function reads psychotherapy notes.
"""

import re
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.databases import Database
from tests.policies.acting import acting, refused, superuser
from tests.policies.actors import ANA, BRUNO, DATA_API_ROLES

OVER, READY = ANA.id_of("over"), ANA.id_of("over READY")
TABLES = ("session_notes", "session_note_versions", "psychotherapy_notes", "psychotherapy_note_versions")
GIVE_NOTES = {
    "open_session_notes": "private.record_notes(",
    "open_psychotherapy_notes": "private.record_notes(",
    "begin_note_change": "private.write_audit_later(",
    "export_session_notes": "private.write_audit(",
}
"""The functions that return an encrypted note, and the call in each that writes the audit row."""
GIVE_NONE = {
    "add_session_note", "change_session_note", "clear_session_notes", "delete_session_note", "find_note",
    "noted_recordings", "session_notes_version", "subjects_of", "announce_session_note", "lock_noted_recording",
    "reassignment_obstacle",
}  # fmt: skip
"""Functions that store, count or delete notes, or return ids of recordings and consultations."""
OF_PSYCHOTHERAPY = {
    "add_session_note", "begin_note_change", "change_session_note", "clear_session_notes", "delete_session_note",
    "find_note", "open_psychotherapy_notes", "reassignment_obstacle", "subjects_of",
}  # fmt: skip
"""The functions that use the tables of psychotherapy notes. The worker may call none of them."""
READS = {
    "session_note.read": "select * from private.open_session_notes(%s, %s, null, '[]', '{lines.text}', true)",
    "session_note.watch": "select * from private.open_session_notes(%s, %s, null, '[]', '{lines.text}', true)",
    "psychotherapy_note.read": (
        "select * from private.open_psychotherapy_notes(%s, %s, null, '[]', '{lines.text}', true)"
    ),
}


@pytest.fixture
def notes(practice: Database) -> Database:
    """Return the seeded database with the data keys of two recordings."""
    with superuser(practice) as connection:
        for doctor in (ANA, BRUNO):
            connection.execute(
                "insert into private.recording_keys values (%s, %s, 'first') on conflict do nothing",
                [doctor.id_of("over READY"), bytes(40)],
            )
    return practice


def _sources(database: Database, pattern: str) -> dict[str, str]:
    with superuser(database) as reader:
        return dict(
            reader.execute(
                "select proname, prosrc from pg_proc where prosrc ~ %s"
                " and pronamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')",
                [pattern],
            ).fetchall()
        )


def _newest(database: Database, action: str) -> tuple[object, ...] | None:
    with superuser(database) as reader:
        return reader.execute(
            "select outcome, actor_id, consultation_ids, row_count from audit.events where action = %s"
            " order by recorded_at desc, id desc limit 1",
            [action],
        ).fetchone()


def test_law_1_only_these_functions_use_notes_and_those_that_return_one_audit_first(notes: Database) -> None:
    sources = _sources(notes, r"private\.(" + "|".join(TABLES) + r")\y|'session_notes'")
    assert set(sources) == GIVE_NOTES.keys() | GIVE_NONE
    for name, writes in GIVE_NOTES.items():
        assert sources[name].index(writes) < sources[name].index("return query"), name


def test_psychotherapy_notes_are_read_by_no_function_of_the_worker(notes: Database) -> None:
    sources = _sources(notes, "psychotherapy_note(s|_versions)")
    assert set(sources) == OF_PSYCHOTHERAPY
    with superuser(notes) as reader:
        rows = reader.execute(
            "select proname from pg_proc where proname = any(%s) and ("
            "has_function_privilege('resguardo_worker', oid, 'execute')"
            " or has_function_privilege('compliance', oid, 'execute')"
            " or has_function_privilege('patient', oid, 'execute'))",
            [sorted(OF_PSYCHOTHERAPY)],
        ).fetchall()
    assert rows == []
    export = _sources(notes, "session_note.export")
    assert not any(re.search("psychotherapy", source) for source in export.values())


@pytest.mark.parametrize("action", [*READS, "session_note.write", "viewer.read", "", None])
def test_law_1_notes_are_not_opened_under_another_name(notes: Database, action: str | None) -> None:
    for own, statement in READS.items():
        if action is not None and own.split(".")[0] == action.split(".")[0]:
            continue
        with refused("RG403", "unknown_action"), acting(notes, "clinician who owns") as connection:
            connection.execute(statement.encode(), [action, OVER])


@pytest.mark.parametrize("action", ["session_note.write", "session_note.edit", "session_note.delete"])
def test_law_1_answer_of_a_change_is_not_read_without_the_change(notes: Database, action: str) -> None:
    with refused("RG403", "reserved_action"), acting(notes, "clinician who owns") as connection:
        connection.execute(READS["session_note.read"].encode(), [action, OVER])


@pytest.mark.parametrize(
    "statement",
    [
        "select private.add_session_note('session_note.write', %(id)s, gen_random_uuid(), null, %(text)s)",
        "select private.change_session_note('session_note.edit', %(id)s, 1, null, %(text)s)",
        "select private.delete_session_note('session_note.delete', %(id)s, 1)",
    ],
)
def test_law_1_nothing_is_changed_without_a_begun_change(notes: Database, statement: str) -> None:
    for entity in (READY, ANA.id_of("private.session_notes"), uuid4()):
        with refused("RG403", "reserved_action"), acting(notes, "clinician who owns") as connection:
            connection.execute(statement.encode(), {"id": entity, "text": bytes(40)})


def test_law_1_begun_change_is_in_the_audit_log_even_if_nothing_follows(notes: Database) -> None:
    with acting(notes, "clinician who owns") as connection:
        found = connection.execute(
            "select ciphertext from private.begin_note_change('session_note.edit', %s)",
            [ANA.id_of("private.session_notes")],
        ).fetchall()
    assert found == [(bytes(40),)]
    assert _newest(notes, "session_note.edit") == ("ALLOWED", ANA.doctor_id, [OVER], 1)


@pytest.mark.parametrize(
    "statement",
    [
        "select private.open_session_notes('session_note.read', gen_random_uuid(), null, '[]', '{}', true)",
        "select private.open_psychotherapy_notes('psychotherapy_note.read', gen_random_uuid(), null, '[]', '{}', true)",
        "select private.begin_note_change('session_note.edit', gen_random_uuid())",
        "select private.session_notes_version(gen_random_uuid())",
        *(f"select from private.{table}" for table in TABLES),
    ],
)
def test_law_1_only_a_doctor_gets_notes(notes: Database, statement: str) -> None:
    for who in ("compliance", "patient", "resguardo_api", "resguardo_worker", *DATA_API_ROLES):
        with refused("42501"), acting(notes, who) as connection:
            connection.execute(statement.encode())


@pytest.mark.parametrize("action", READS)
@pytest.mark.parametrize(
    ("who", "consultation", "outcome", "rows"),
    [
        ("clinician who owns", OVER, "ALLOWED", 1),
        ("clinician who does not", OVER, "DENIED", 0),
        ("clinician who owns", uuid4(), "ABSENT", 0),
    ],
)
def test_law_1_no_note_without_an_audit_row(
    notes: Database, who: str, consultation: UUID, outcome: str, rows: int, action: str
) -> None:
    with acting(notes, who) as connection:
        found = connection.execute(READS[action].encode(), [action, consultation]).fetchall()
    assert len(found) == rows
    doctor = ANA if who == "clinician who owns" else BRUNO
    about = [] if outcome == "ABSENT" else [consultation]
    assert _newest(notes, action) == (outcome, doctor.doctor_id, about, rows)


def test_version_of_the_notes_of_another_doctor_is_null(notes: Database) -> None:
    statement = b"select private.session_notes_version(%s)"
    with acting(notes, "clinician who owns") as connection:
        assert connection.execute(statement, [OVER]).fetchone() != (None,)
        assert connection.execute(statement, [uuid4()]).fetchone() in [(None,), None]
    with acting(notes, "clinician who does not") as connection:
        assert connection.execute(statement, [OVER]).fetchone() in [(None,), None]


def test_note_belongs_to_the_consultation_of_its_recording(notes: Database) -> None:
    with superuser(notes) as connection, pytest.raises(psycopg.errors.ForeignKeyViolation):
        connection.execute(
            "update private.session_notes set consultation_id = %s where recording_id = %s",
            [BRUNO.id_of("over"), READY],
        )
