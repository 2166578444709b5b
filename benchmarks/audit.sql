-- name: fill_log
-- Writes `events` rows into the log, spread evenly over five years from 2026 on. One row in ten is a list that names ten
-- patients and ten consultations. The ids of people, patients and consultations are those of named_id().
insert into audit.events (
    recorded_at, actor_id, actor_role, action, operation, outcome, purpose, basis, entity_type, entity_ids,
    patient_ids, consultation_ids, row_count, policy_version
)
select
    timestamptz '2026-01-01 00:00:00+00' + n * (interval '5 years' / %(events)s),
    bench.named_id('doctor', case when n %% 10 < 3 then 0 when n %% 10007 = 9 then 99 else n %% 20 end),
    'clinician',
    case
        when n %% 20011 = 7 then 'hold.place'
        when n %% 10 = 5 then 'recording.list'
        else (array['recording.read', 'consultation.read', 'viewer.read', 'transcript.read'])[1 + n %% 4]
    end,
    'R',
    case when n %% 50021 = 11 then 'ABSENT' when n %% 199 = 3 then 'DENIED' else 'ALLOWED' end,
    'TREATMENT',
    'treating_clinician',
    'recording',
    array[gen_random_uuid()],
    case
        when n %% 10 = 5 then array(
            select bench.named_id('patient', 1 + (n + s * 37) %% 5000) from generate_series(0, 9) as s
        )
        when n %% 20 = 1 then array[bench.named_id('patient', 0)]
        when n %% 100003 = 17 then array[bench.named_id('patient', 9999)]
        else array[bench.named_id('patient', 1 + n %% 5000)]
    end,
    case
        when n %% 10 = 5 then array(
            select bench.named_id('consultation', 1 + n / 400 + s) from generate_series(0, 9) as s
        )
        when n %% 20 = 1 and n < %(events)s / 3 then array[bench.named_id('consultation', 0)]
        else array[bench.named_id('consultation', 1 + n / 200)]
    end,
    1,
    'bench'
from generate_series(%(first)s, %(last)s) as n;
