"""Fills a migrated database with many rows, for plan tests and benchmarks. The module fills only the tables that
lists read.

The doctor `big` and the patient `big` have `size` consultations, recordings and deletions, and at most 20,000 holds
and access requests. The doctor `small` and the patient `small` have 50 rows of each kind. Every other doctor has
fewer rows than `big`, and shares some consultations with `big` and `small`. The oldest rows of `big` and `small` have
the rare statuses, so a read that looks for them from the newest row on reads every row in between.
"""

from typing import Final, LiteralString

import psycopg

from tests.policies.actors import id_of

SMALL: Final = 50
RARE: Final = 11
"""How many rows of `big` and of `small` have each rare status."""

_STATEMENTS: Final[tuple[LiteralString, ...]] = (
    # One row for each consultation: its doctor, its patient, and its place among the doctor's rows, newest first.
    """
    create temporary table places as
    select
        p.doctor_id, p.patient_id, n.place, p.size,
        date_trunc('day', now()) - n.place * interval '1 minute' - p.seconds * interval '1 second' as at,
        gen_random_uuid() as consultation_id, gen_random_uuid() as recording_id, gen_random_uuid() as sound_id,
        gen_random_uuid() as doctor_participant_id, gen_random_uuid() as patient_participant_id,
        case
            when p.seconds > 2 or n.place <= p.size - 2 * %(rare)s then 0
            when n.place <= p.size - %(rare)s then 2
            else 1
        end as rarity
    from unnest(%(doctors)s::uuid[], %(patients)s::uuid[], %(sizes)s::integer[])
        with ordinality as p (doctor_id, patient_id, size, seconds)
    cross join lateral generate_series(1, p.size) as n (place)
    """,
    "create temporary table newest as select * from places order by at",
    """
    insert into auth.users (id, email) select u, u || '@example.org'
    from unnest(%(doctors)s::uuid[] || %(logins)s::uuid[] || %(officer)s::uuid) as u
    """,
    """
    insert into auth.sessions (id, user_id, aal)
    select u.session, u.id, 'aal2'
    from unnest(%(people)s::uuid[], %(sessions)s::uuid[]) as u (id, session)
    """,
    """
    insert into resguardo.staff (user_id, role)
    select d, 'clinician' from unnest(%(doctors)s::uuid[]) as d union all select %(officer)s, 'compliance'
    """,
    """
    insert into resguardo.patients (id, external_id, user_id)
    select p.id, 'mrn-' || p.id, p.login
    from unnest(%(patients)s::uuid[], %(logins)s::uuid[]) as p (id, login)
    """,
    """
    insert into resguardo.consultations
    (id, external_id, doctor_id, patient_id, scheduled_at, kind, sensitivity, room_name)
    select
        n.consultation_id, 'c-' || n.consultation_id, n.doctor_id, n.patient_id, n.at, 'follow_up', 'ORDINARY',
        'plans_' || n.consultation_id
    from newest as n
    """,
    """
    insert into resguardo.participants (id, consultation_id, doctor_id, patient_id, kind, joined_at)
    select
        n.doctor_participant_id, n.consultation_id, n.doctor_id, n.patient_id, 'DOCTOR',
        case when n.place <= 5 then now() else n.at - interval '1 day' end
    from newest as n
    where n.place <= 5000
    union all
    select
        n.patient_participant_id, n.consultation_id, n.doctor_id, n.patient_id, 'PATIENT', n.at - interval '1 day'
    from newest as n
    where n.place <= 5000
    """,
    """
    insert into resguardo.consents (
        id, consultation_id, doctor_id, patient_id, participant_id, participant_kind, decision, source, recorded_by,
        text_version, text_language, text_sha256, recorded_at
    )
    select
        gen_random_uuid(), n.consultation_id, n.doctor_id, n.patient_id, n.patient_participant_id, 'PATIENT', 'GIVEN',
        'ATTESTED', n.doctor_id, '1', 'en', %(sha256)s, n.at
    from newest as n
    where n.place <= 5000
    """,
    """
    insert into resguardo.recordings (
        id, consultation_id, doctor_id, patient_id, requested_by, status, room_name, egress_id, sha256, size_bytes,
        created_at
    )
    select
        n.recording_id, n.consultation_id, n.doctor_id, n.patient_id, n.doctor_id,
        (array['READY', 'LOST', 'FAILED'])[n.rarity + 1], 'plans_' || n.consultation_id, 'EG_' || n.recording_id,
        %(sha256)s, 1000, n.at
    from newest as n
    """,
    """
    insert into resguardo.recordings (
        id, consultation_id, doctor_id, patient_id, requested_by, status, room_name, sha256, size_bytes, created_at,
        medium, video_id, participant_id, track_sid
    )
    select
        gen_random_uuid(), n.consultation_id, n.doctor_id, n.patient_id, n.doctor_id, 'READY',
        'plans_' || n.consultation_id, %(sha256)s, 1000, n.at, 'MICROPHONE', n.recording_id, n.doctor_participant_id,
        'TR_' || t.number
    from newest as n cross join generate_series(1, 2) as t (number)
    where n.place <= 20
    """,
    """
    insert into resguardo.transcripts (recording_id, consultation_id, doctor_id, patient_id, status)
    select n.recording_id, n.consultation_id, n.doctor_id, n.patient_id, 'READY' from newest as n where n.place <= 1000
    """,
    """
    insert into resguardo.insights (recording_id, consultation_id, doctor_id, patient_id, status)
    select n.recording_id, n.consultation_id, n.doctor_id, n.patient_id, 'READY' from newest as n where n.place <= 1000
    """,
    """
    insert into resguardo.deletions (
        id, recording_id, consultation_id, doctor_id, patient_id, ground, status, requested_at, error
    )
    select
        gen_random_uuid(), n.recording_id, n.consultation_id, n.doctor_id, n.patient_id, 'RETENTION',
        (array['DELETED', 'DELETING', 'UNDONE'])[n.rarity + 1], n.at, case n.rarity when 1 then 'bucket_down' end
    from newest as n
    """,
    """
    insert into resguardo.legal_holds (id, consultation_id, matter, custodian, placed_by, placed_at, released_by,
        released_at)
    select
        gen_random_uuid(), n.consultation_id, 'matter', 'custodian', %(officer)s, n.at,
        case n.rarity when 0 then n.doctor_id end, case n.rarity when 0 then n.at end
    from newest as n
    where n.place <= 20000 or n.rarity > 0
    """,
    """
    insert into resguardo.access_requests (
        id, patient_id, consultation_id, channel, filed_by, received_on, due_on, status, denial_ground, created_at
    )
    select
        gen_random_uuid(), n.patient_id, n.consultation_id, 'WRITTEN', %(officer)s, n.at::date, n.at::date + 30,
        (array['WITHDRAWN', 'OPEN', 'DENIED'])[n.rarity + 1], case n.rarity when 2 then 'EXCEPTED' end, n.at
    from newest as n
    where n.place <= 20000 or n.rarity > 0
    """,
    # Other doctors share 10 consultations with `big` and 10 with `small`.
    """
    insert into resguardo.shares (
        consultation_id, doctor_id, patient_id, colleague_id, shared_by, purpose, may_write_notes, began_at, ends_at
    )
    select
        n.consultation_id, n.doctor_id, n.patient_id, c.id, n.doctor_id, 'CARE_TEAM', false, now(),
        now() + interval '30 days'
    from newest as n cross join unnest((%(doctors)s::uuid[])[1:2]) as c (id)
    where n.doctor_id <> all((%(doctors)s::uuid[])[1:2]) and n.place %% 200 = 1
    order by n.consultation_id, c.id
    limit 20
    """,
)


def fill(superuser_url: str, size: int, *, others: int = 40, of_each: int = 250) -> None:
    """Insert and commit the practice's rows, and let Postgres gather statistics about the tables."""
    names = ["big", "small", *(f"other {number}" for number in range(others))]
    doctors, logins = ([f"{kind} {name}" for name in names] for kind in ("doctor", "patient"))
    people = [*doctors, *logins, "officer"]
    parameters = {
        "doctors": [id_of(name) for name in doctors],
        "patients": [id_of(f"patient {name}") for name in logins],
        "logins": [id_of(name) for name in logins],
        "officer": id_of("officer"),
        "people": [id_of(name) for name in people],
        "sessions": [id_of(f"{name} session") for name in people],
        "sizes": [size, SMALL, *[of_each] * others],
        "rare": RARE,
        "sha256": "ab" * 32,
    }
    with psycopg.connect(superuser_url) as connection:
        connection.execute("set session_replication_role = replica")  # Triggers off
        for statement in _STATEMENTS:
            connection.execute(statement, parameters)
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute("analyze")
