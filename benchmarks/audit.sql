-- name: fill_log
-- Writes events into the log, evenly spread over five years from 2026 on. Ids are numbers (benchmarks/audit_log.py).
-- The statement derives each column from the event's number modulo a number of its own. These moduli have no common
-- factor, so the attributes of an event are independent, except that a PATIENT_REQUEST is never OPERATIONS.
insert into audit.events (
    recorded_at, actor_id, actor_role, action, operation, outcome, purpose, basis, entities,
    patient_ids, consultation_ids, row_count, policy_version, session_fingerprint, address
)
select
    timestamptz '2026-01-01 00:00:00+00' + e.n * (interval '5 years' / %(events)s),
    lpad(to_hex(case when e.n %% 10007 = 9 then 99 when e.n %% 17 < 5 then 0 else 1 + e.n %% 23 end), 32, '0')::uuid,
    'clinician',
    case
        when e.n %% 2503 = 7 then 'hold.place'
        when e.n %% 11 = 5 then 'recording.list'
        else (array['recording.read', 'consultation.read', 'viewer.read', 'transcript.read'])[1 + e.n %% 4]
    end,
    'R',
    case when e.n %% 3001 = 11 then 'ABSENT' when e.n %% 199 = 3 then 'DENIED' else 'ALLOWED' end,
    case
        when e.n %% 4001 = 13 then 'LEGAL' when e.n %% 5 = 2 then 'PATIENT_REQUEST' when e.n %% 5 = 4 then 'OPERATIONS'
        else 'TREATMENT'
    end,
    'treating_clinician',
    private.entities_of(
        'recording',
        case
            when e.n %% 11 = 5 then array(
                select lpad(to_hex(3000001 + e.n / 500 + s), 32, '0')::uuid from generate_series(0, 9) as s
            )
            when e.n %% 29 = 1 then array[lpad(to_hex(3000000), 32, '0')::uuid]
            else array[lpad(to_hex(3000001 + e.n / 250), 32, '0')::uuid]
        end
    ),
    case
        when e.n %% 11 = 5 then array(
            select lpad(to_hex(1000001 + (e.n + s * 37) %% 5000), 32, '0')::uuid from generate_series(0, 9) as s
        )
        when e.n %% 13 = 1 then array[lpad(to_hex(1000000), 32, '0')::uuid]
        when e.n %% 20011 = 17 then array[lpad(to_hex(1009999), 32, '0')::uuid]
        else array[lpad(to_hex(1000001 + e.n %% 5000), 32, '0')::uuid]
    end,
    case
        when e.n %% 11 = 5 then array(
            select lpad(to_hex(2000001 + e.n / 400 + s), 32, '0')::uuid from generate_series(0, 9) as s
        )
        when e.n %% 13 = 1 and e.n < %(events)s / 3 then array[lpad(to_hex(2000000), 32, '0')::uuid]
        else array[lpad(to_hex(2000001 + e.n / 200), 32, '0')::uuid]
    end,
    1,
    'benchmark',
    case
        when e.n %% 31 < 6 then repeat('a', 64)
        when e.n %% 20021 = 19 then repeat('b', 64)
        else encode(sha256(int8send(e.n / 60)), 'hex')
    end,
    case
        when e.n %% 37 < 15 then inet '192.0.2.1'
        when e.n %% 20023 = 21 then inet '2001:db8::1'
        else inet '198.51.100.0' + (e.n / 1000 + e.n %% 7) %% 256
    end
from generate_series(%(first)s::integer, %(last)s::integer) as e (n);

-- name: queue_for_index
-- Inserts all events into the queue of the search index, as the log's trigger does for each new event.
insert into audit.unindexed (recorded_at, event_id) select e.recorded_at, e.id from audit.events as e
on conflict do nothing;

-- name: index_events
-- Moves the oldest 1,024 events of the queue into a block. Returns false if there are fewer events.
select private.index_audit_events();

-- name: officer
-- Adds a compliance officer with a session of the same id.
with person as (
    insert into auth.users (id, aud, role, email, created_at, updated_at)
    values (%(officer)s, 'authenticated', 'authenticated', 'officer@example.org', now(), now())
),

session as (
    insert into auth.sessions (id, user_id, aal) values (%(officer)s, %(officer)s, 'aal2')
)

insert into resguardo.staff (user_id, role) values (%(officer)s, 'compliance');

-- name: write_event
-- Writes one audit row, as a read of the list of recordings does.
select
    private.write_audit(
        'recording.list', 'ALLOWED', null, 'recording', %(patients)s, %(patients)s, %(consultations)s, '{}', 1, null
    );
