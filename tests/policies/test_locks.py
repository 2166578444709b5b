"""Tests that SQL functions that only read lock no rows, and that nobody can lock somebody else's rows."""

from contextlib import suppress
from typing import LiteralString
from uuid import UUID

import psycopg
import pytest

from tests.databases import Database
from tests.policies.acting import acting, superuser, value
from tests.policies.actors import ANA, Connection

TABLES = (
    "resguardo.consultations",
    "resguardo.recordings",
    "resguardo.recording_imports",
    "resguardo.transcripts",
    "resguardo.insights",
    "resguardo.access_requests",
    "resguardo.participants",
    "private.turns",
)
READY = ANA.id_of("over READY")

BY_A_CLINICIAN: dict[LiteralString, UUID] = {
    "select private.open_transcript('transcript.read', %s, '[]', '{}')": READY,
    "select private.open_transcript('transcript.correct', %s, '[]', '{}')": READY,
    "select private.correct_transcript(%s, 2, '', '{}')": READY,
    "select private.open_note_draft('note_draft.read', %s, '[]', '{}')": READY,
    "select private.open_note_draft('note_draft.edit', %s, '[]', '{}')": READY,
    "select private.store_note_draft(%s, 2, '', false)": READY,
    "select private.request_note_section(%s, 'S', 2)": READY,
    "select private.store_subtitle_link(%s, sha256('x'), 60)": READY,
    "select private.store_thumbnail_link(%s, sha256('x'), 60)": READY,
    "select private.open_thumbnail(%s)": READY,
    "select private.retry_transcription(%s)": READY,
    "select private.search_transcripts('{1}', null, null, %s, null, null, true, 500, '{}')": READY,
    "select private.switch_transcription(%s, true)": ANA.id_of("over"),
    "select private.open_insights('insights.read', %s, '[]', '{}')": READY,
    "select private.open_insights('insights.dismiss', %s, '[]', '{}')": READY,
    "select private.dismiss_insight(%s, 1, 2)": READY,
    "select private.retry_insights(%s)": READY,
    "select private.refresh_insights(%s)": READY,
    "select private.release_object_key('recording.issue_url', %s, null)": READY,
    "select private.request_deletion(%s, 'OTHER')": READY,
    "select private.undo_deletion(%s)": READY,
    "select private.lock_consultation(%s)": ANA.id_of("over"),
    "select private.complete_import(%s)": ANA.id_of("import"),
    "select private.release_upload_url(%s)": ANA.id_of("import"),
    "select private.has_live_recording(%s)": ANA.id_of("over"),
    "select from resguardo.recordings where id = %s for update": READY,
}
BY_A_PATIENT: dict[LiteralString, str] = {
    "select private.withdraw_access_request(%s)": "request",
    "select private.ask_access_review(%s)": "request",
    "select private.release_export_key(%s)": "request",
    "select private.lock_consultation(%s)": "over",
    "select private.file_access_request(null, %s, null, null, null)": "over",
}
READS: tuple[LiteralString, ...] = (
    "select private.open_note_draft('note_draft.read', %s, '[]', '{}')",
    "select private.open_transcript('transcript.read', %s, '[]', '{}')",
    "select private.open_insights('insights.read', %s, '[]', '{}')",
    "select private.open_thumbnail(%s)",
    "select private.search_transcripts('{1}', null, null, %s, null, null, true, 500, '{}')",
    "select private.release_object_key('recording.issue_url', %s, null)",
)


def _locked(database: Database) -> list[str]:
    """Return the names of the tables in which a row is locked."""
    found = []
    with superuser(database) as other:
        for table in TABLES:
            try:
                other.execute(f"select from {table} for update nowait")
            except psycopg.errors.LockNotAvailable:
                found.append(table)
    return found


def _advisory_locks(database: Database, holder: Connection) -> int:
    with superuser(database) as other:
        locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = %s"
        return int(value(other, locks, holder.info.backend_pid))


def _tried(connection: Connection, statement: LiteralString, entity: UUID) -> None:
    with suppress(psycopg.DatabaseError), connection.transaction():
        connection.execute(statement, [entity])


@pytest.mark.parametrize("statement", BY_A_CLINICIAN)
def test_stranger_locks_nothing_of_a_doctors(practice: Database, statement: LiteralString) -> None:
    with acting(practice, "clinician who does not") as stranger:
        _tried(stranger, statement, BY_A_CLINICIAN[statement])
        assert _locked(practice) == []
        assert _advisory_locks(practice, stranger) == 0


@pytest.mark.parametrize("statement", BY_A_PATIENT)
def test_stranger_locks_nothing_of_a_patients(practice: Database, statement: LiteralString) -> None:
    with acting(practice, "other patient") as stranger:
        _tried(stranger, statement, ANA.id_of(BY_A_PATIENT[statement]))
        assert _locked(practice) == []
        assert _advisory_locks(practice, stranger) == 0


@pytest.mark.parametrize("statement", READS)
def test_read_of_ones_own_locks_nothing(practice: Database, statement: LiteralString) -> None:
    with acting(practice, "clinician who owns") as owner:
        owner.execute(statement, [READY])
        assert _locked(practice) == []


def test_completion_of_a_completed_import_locks_nothing(practice: Database) -> None:
    with superuser(practice) as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute(
            "update resguardo.recording_imports set status = 'COMPLETED' where id = %s", [ANA.id_of("import")]
        )
    with acting(practice, "clinician who owns") as doctor:
        completed = value(doctor, "select private.complete_import(%s)", ANA.id_of("import"))
        assert completed == ANA.id_of("imported")
        assert _locked(practice) == []


def test_owner_reads_a_transcript_while_a_stranger_reads_and_somebody_holds_it(practice: Database) -> None:
    read: LiteralString = "select private.open_transcript('transcript.read', %s, '[]', '{}')"
    with (
        acting(practice, "clinician who does not") as stranger,
        psycopg.connect(practice.superuser_url) as holder,
        acting(practice, "clinician who owns") as owner,
    ):
        stranger.execute(read, [READY])
        holder.execute("select from resguardo.transcripts for update")
        owner.execute("set local lock_timeout = '50ms'")
        owner.execute(read, [READY])


def test_correction_still_waits_for_another_of_the_same_transcript(practice: Database) -> None:
    opened: LiteralString = "select private.open_transcript('transcript.correct', %s, '[]', '{}')"
    with acting(practice, "clinician who owns") as first, acting(practice, "clinician who owns") as second:
        first.execute(opened, [READY])
        second.execute("set local lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            second.execute(opened, [READY])


def test_officer_without_a_second_factor_locks_no_member_of_staff(practice: Database) -> None:
    with acting(practice, "compliance without second factor") as officer:
        with suppress(psycopg.DatabaseError), officer.transaction():
            officer.execute("select private.suspend_staff(%s)", [ANA.doctor_id])
        with superuser(practice) as other:
            other.execute("select from resguardo.staff for update nowait")
