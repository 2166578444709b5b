-- name: practice
with person as (
    insert into auth.users (id, aud, role, email, created_at, updated_at)
    select d.id, 'authenticated', 'authenticated', d.id || '@example.org', now(), now()
    from unnest(cast(%(doctors)s as uuid[])) as d (id)
),

session as (
    insert into auth.sessions (id, user_id, aal)
    select d.id, d.id, 'aal2' from unnest(cast(%(doctors)s as uuid[])) as d (id)
),

staff as (
    insert into resguardo.staff (user_id, role)
    select d.id, 'clinician' from unnest(cast(%(doctors)s as uuid[])) as d (id)
),

patient as (
    insert into resguardo.patients (external_id) select 'bench-' || n from generate_series(1, %(patients)s) as n
    returning id
),

numbered as (
    select
        p.id,
        row_number() over (order by p.id) - 1 as place
    from patient as p
),

visit as (
    select
        r.id,
        gen_random_uuid() as consultation_id,
        case
            when mod(r.number - 1, 100) < %(share)s then (cast(%(doctors)s as uuid[]))[1]
            else (cast(%(doctors)s as uuid[]))[2 + mod(r.number, cardinality(cast(%(doctors)s as uuid[])) - 1)]
        end as doctor_id,
        p.id as patient_id,
        now() - r.number * interval '50 minutes' as scheduled_at,
        case when mod(r.number, 10) = 7 then 'PSYCHOTHERAPY' else 'ORDINARY' end as sensitivity
    from unnest(cast(%(recordings)s as uuid[])) with ordinality as r (id, number)
    inner join numbered as p on p.place = mod(r.number, %(patients)s)
),

consultation as (
    insert into resguardo.consultations
    (id, external_id, doctor_id, patient_id, scheduled_at, kind, sensitivity, room_name)
    select
        v.consultation_id,
        'bench-' || v.consultation_id,
        v.doctor_id,
        v.patient_id,
        v.scheduled_at,
        'follow_up',
        v.sensitivity,
        'bench_' || v.consultation_id
    from visit as v
),

recording as (
    insert into resguardo.recordings
    (id, consultation_id, doctor_id, patient_id, requested_by, status, room_name, sha256, size_bytes)
    select
        v.id,
        v.consultation_id,
        v.doctor_id,
        v.patient_id,
        v.doctor_id,
        'READY',
        'bench_' || v.consultation_id,
        encode(sha256('recorded'), 'hex'),
        8
    from visit as v
)

insert into resguardo.transcripts
(recording_id, consultation_id, doctor_id, patient_id, status, language, chunks_total)
select
    v.id,
    v.consultation_id,
    v.doctor_id,
    v.patient_id,
    'READY',
    'en',
    0
from visit as v;

-- name: peer
create schema peer;
create text search dictionary peer.stem (template = snowball, language = english);
create text search configuration peer.words (copy = pg_catalog.simple);
alter text search configuration peer.words alter mapping replace simple with peer.stem;
create function peer.without_accents(of_text text) returns text language sql immutable
return translate(lower(of_text), 'áéíóúüñ', 'aeiouun');
create table peer.texts (recording_id uuid primary key, body text not null);
grant usage on schema peer to clinician;

-- name: peer_filled
create table peer.transcripts as
select
    t.recording_id,
    t.consultation_id,
    t.doctor_id,
    t.patient_id,
    c.scheduled_at,
    c.sensitivity,
    x.body,
    to_tsvector('peer.words', peer.without_accents(x.body)) as found
from peer.texts as x
inner join resguardo.transcripts as t on t.recording_id = x.recording_id
inner join resguardo.consultations as c on c.id = t.consultation_id;
drop table peer.texts;
alter table peer.transcripts add primary key (recording_id);
create index transcripts_doctor_idx on peer.transcripts (doctor_id, scheduled_at desc);
create index transcripts_found_idx on peer.transcripts using gin (found) with (fastupdate = off);
create function peer.search(
    wanted text, with_sensitive boolean, with_snippets boolean, most integer
)
returns table (recording_id uuid, consultation_id uuid, scheduled_at timestamptz, shown text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set enable_seqscan = off
as $$
declare
    person constant uuid := private.person();
    asked constant tsquery := websearch_to_tsquery('peer.words', peer.without_accents(wanted));
    hits uuid[];
begin
    perform private.use_quota(person, 'pages');
    hits := array(
        with matching as materialized (
            select t.recording_id, t.doctor_id, t.sensitivity, t.scheduled_at, t.found
            from peer.transcripts as t
            where t.found @@ asked
        )

        select m.recording_id
        from matching as m
        where m.doctor_id = person and (with_sensitive or m.sensitivity = 'ORDINARY')
        order by ts_rank(m.found, asked) desc, m.scheduled_at desc, m.recording_id desc
        limit most
    );
    perform private.write_audit(
        'transcript.search', 'ALLOWED', null, 'recording', hits,
        array(select distinct t.patient_id from peer.transcripts as t where t.recording_id = any (hits)),
        array(select distinct t.consultation_id from peer.transcripts as t where t.recording_id = any (hits)),
        array['text'], cardinality(hits), null
    );
    return query
    select t.recording_id, t.consultation_id, t.scheduled_at,
        case when with_snippets then ts_headline('peer.words', t.body, asked) end
    from unnest(hits) with ordinality as h (id, place)
    inner join peer.transcripts as t on t.recording_id = h.id
    order by h.place;
end
$$;
grant execute on function peer.search(text, boolean, boolean, integer) to clinician;

-- name: peer_search
select
    s.recording_id,
    s.consultation_id,
    s.scheduled_at,
    s.shown
from peer.search(%(wanted)s, false, %(with_snippets)s, %(most)s) as s;
