"""Tests that a long audit log does not make the list of released copies slower."""

from uuid import uuid4

from tests.databases import Database
from tests.policies.acting import acting, superuser, value
from tests.policies.actors import ANA

NOTE_READS = 20_000
MOST_BLOCKS = 100_000
"""The first call of a session plans a search of each partition for each of 11 actions, which reads some 30,000 blocks
of the catalogue. The walk through all reads of notes would read 375,000 more.
"""


def test_list_of_all_copies_walks_through_no_reads_of_notes_without_a_pdf(practice: Database) -> None:
    pdf = uuid4()
    with superuser(practice) as owner:
        owner.execute(
            "insert into audit.events (id, recorded_at, actor_id, actor_role, action, operation, outcome, purpose,"
            " basis, entities, patient_ids, consultation_ids, fields, policy_version)"
            " select case n when 1 then %s else gen_random_uuid() end, now() - (%s - n) * interval '1 second', %s,"
            " 'clinician', 'note.read', 'R', 'ALLOWED', 'TREATMENT', 'treating_clinician', '[]', '{}', '{}',"
            " case n when 1 then '{pdfBase64}'::text[] else '{versions}' end, '' from generate_series(1, %s) as n",
            [pdf, NOTE_READS, ANA.doctor_id, NOTE_READS],
        )
        while value(owner, "select private.index_audit_events()"):
            pass
        owner.execute("analyze audit.events")
    with acting(practice, "compliance") as officer:
        (plan,) = value(
            officer,
            "explain (analyze, buffers, format json)"
            " select * from private.read_released_copies(null, null, null, null, null, 2, '{}')",
        )
    with acting(practice, "compliance") as officer:
        found = officer.execute(
            "select c.id from private.read_released_copies(null, null, null, null, null, 101, '{}') as c"
            " where c.action = 'note.read'"
        ).fetchall()
    assert found == [(pdf,)]
    blocks = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    assert blocks < MOST_BLOCKS
