"""Tests that a change has one audit row, which a read of the same transaction writes, or else the commit."""

from typing import Any, LiteralString
from uuid import UUID

import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tests.databases import Database
from tests.policies.acting import acting, refused, superuser, value
from tests.policies.actors import ANA, BRUNO, Connection

READY = ANA.id_of("over READY")
REQUEST: LiteralString = "select private.request_deletion(%s, 'OTHER')"
UNDO: LiteralString = "select private.undo_deletion(%s)"
LOOKUP: LiteralString = (
    "select private.record_lookup(%s, 'deletion', 'deletion', %s, false, %s, %s, %s, 1, %s, null)"
)


@pytest.fixture(autouse=True)
def not_held(practice: Database) -> None:
    """Remove what forbids the deletion of the recording."""
    with superuser(practice) as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute("delete from resguardo.legal_holds")
        owner.execute("delete from private.access_exports")
        owner.execute("delete from resguardo.access_requests")


def _rows(database: Database, action: str) -> list[dict[str, Any]]:
    with superuser(database) as reader:
        reader.row_factory = dict_row  # type: ignore[assignment] # rows are dictionaries from here on
        return reader.execute(  # type: ignore[return-value] # the same
            "select reason, entities, patient_ids, consultation_ids, fields, row_count, byte_count, outcome, actor_id"
            " from audit.events where action = %s order by recorded_at",
            [action],
        ).fetchall()


def _look(connection: Connection, action: str, deletion: UUID) -> None:
    shown = [{"type": "deletion", "ids": [str(deletion)]}, {"type": "recording", "ids": [str(READY)]}]
    about = ([ANA.patient_id], [ANA.id_of("over")])
    connection.execute(LOOKUP, [action, deletion, Jsonb(shown), *about, ["status", "recording.status"]])


def test_change_without_a_read_has_its_audit_row_after_the_commit(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        doctor.execute(REQUEST, [READY])
    (row,) = _rows(practice, "recording.delete")
    assert row["entities"] == [{"type": "recording", "ids": [str(READY)]}]
    assert (row["reason"], row["fields"], row["row_count"]) == ("other", ["deletion"], 1)
    assert (row["patient_ids"], row["outcome"]) == ([ANA.patient_id], "ALLOWED")
    assert row["actor_id"] == ANA.doctor_id
    with superuser(practice) as reader:
        assert (
            value(reader, "select count(*) from private.pending_audit_rows where action = 'recording.delete'")
            == 0
        )


def test_read_of_the_same_transaction_writes_the_audit_row_of_the_change(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        deletion = value(doctor, REQUEST, READY)
        _look(doctor, "recording.delete", deletion)
    with acting(practice, "clinician who owns") as doctor:
        _look(doctor, "recording.undo_delete", value(doctor, UNDO, READY))
    for action, reason in (("recording.delete", "other"), ("recording.undo_delete", None)):
        (row,) = _rows(practice, action)
        assert row["entities"] == [
            {"type": "deletion", "ids": [str(deletion)]},
            {"type": "recording", "ids": [str(READY)]},
        ]
        assert (row["reason"], row["fields"]) == (reason, ["status", "recording.status"])
        assert (row["patient_ids"], row["consultation_ids"]) == ([ANA.patient_id], [ANA.id_of("over")])
    with superuser(practice) as reader:
        size = value(reader, "select size_bytes from resguardo.recordings where id = %s", READY)
        assert _rows(practice, "recording.delete")[0]["byte_count"] == size


@pytest.mark.parametrize("who", ["clinician who owns", "compliance"])
def test_reserved_action_without_a_change_is_refused(practice: Database, who: str) -> None:
    with acting(practice, who) as person, refused("RG403", "reserved_action"):
        _look(person, "recording.delete", READY)


def test_row_of_another_transaction_or_action_is_not_written_by_a_read(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        deletion = value(doctor, REQUEST, READY)
        with acting(practice, "clinician who owns") as second, refused("RG403", "reserved_action"):
            _look(second, "recording.delete", deletion)
        with refused("RG403", "reserved_action"), doctor.transaction():
            _look(doctor, "recording.undo_delete", deletion)
    assert len(_rows(practice, "recording.delete")) == 1


def test_change_that_is_rolled_back_has_no_audit_row(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        doctor.execute(REQUEST, [READY])
        doctor.rollback()
    assert _rows(practice, "recording.delete") == []


def test_refused_change_has_its_audit_row_at_once(practice: Database) -> None:
    with acting(practice, "clinician who owns") as doctor:
        assert value(doctor, REQUEST, BRUNO.id_of("over READY")) is None
    (row,) = _rows(practice, "recording.delete")
    assert row["outcome"] == "DENIED"


def test_change_without_a_consultation_names_only_its_patient(practice: Database) -> None:
    with acting(practice, "patient") as patient:
        patient.execute("set constraints all immediate")
        request = value(patient, "select private.file_access_request(null, null, null, null, null)")
    (row,) = _rows(practice, "access_request.file")
    assert row["entities"] == [{"type": "access_request", "ids": [str(request)]}]
    assert (row["patient_ids"], row["consultation_ids"]) == ([ANA.patient_id], [])
