-- The movable clock of the simulation, and functions that insert rows as the worker leaves them after a recording.
create schema moved;
update private.quotas set per_hour = 1000000;
create unlogged table moved.clock (at timestamptz not null);
insert into moved.clock values (clock_timestamp());

create or replace function private.now() returns timestamptz
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$ begin return (select c.at from moved.clock as c); end $$;

create function moved.person(is_staff text) returns table (user_id uuid, session_id uuid)
language plpgsql as $$
begin
    user_id := gen_random_uuid();
    session_id := gen_random_uuid();
    insert into auth.users (id, aud, role, email, created_at, updated_at)
    values (user_id, 'authenticated', 'authenticated', user_id || '@example.org', now(), now());
    insert into auth.sessions (id, user_id, aal) values (session_id, user_id, 'aal2');
    if is_staff is not null then
        insert into resguardo.staff (user_id, role) values (user_id, is_staff);
    end if;
    return next;
end $$;

create function moved.consult(consultation uuid, doctor uuid, patient uuid, kind text, born date, patient_user uuid)
returns void
language plpgsql as $$
begin
    insert into resguardo.patients (id, external_id, birth_date, user_id)
    values (patient, 'mrn-' || patient, born, patient_user) on conflict do nothing;
    insert into resguardo.consultations (
        id, external_id, doctor_id, patient_id, scheduled_at, kind, sensitivity, room_name
    ) values (
        consultation, 'visit-' || consultation, doctor, patient, private.now(), kind, 'ORDINARY',
        'test_' || consultation
    );
end $$;

-- Inserts a recording with this status. Returns its object key. For a microphone recording, the function also inserts
-- a new guest as the recording's participant.
create function moved.begin_recording(
    recording uuid, consultation uuid, of_medium text, of_video uuid, created timestamptz, of_status text
) returns text
language plpgsql as $$
declare
    made text;
    guest uuid;
begin
    if of_medium = 'MICROPHONE' then
        insert into resguardo.participants (id, consultation_id, doctor_id, patient_id, kind, guest_role)
        select gen_random_uuid(), c.id, c.doctor_id, c.patient_id, 'GUEST', 'INTERPRETER'
        from resguardo.consultations as c where c.id = consultation
        returning id into guest;
    end if;
    insert into resguardo.recordings (
        id, consultation_id, doctor_id, patient_id, requested_by, room_name, medium, video_id, participant_id, track_sid,
        status, egress_id, created_at
    )
    select
        recording, c.id, c.doctor_id, c.patient_id, c.doctor_id, c.room_name, of_medium, of_video, guest,
        case when guest is not null then 'TR_' || recording end, of_status, 'EG_' || recording, created
    from resguardo.consultations as c where c.id = consultation;
    insert into private.recording_secrets
    select r.id, private.first_object_key(r) from resguardo.recordings as r where r.id = recording
    returning object_key into made;
    return made;
end $$;

create function moved.end_recording(
    recording uuid, of_status text, ended timestamptz, bytes bigint, hash text, wrapped bytea
) returns void
language plpgsql as $$
begin
    update resguardo.recordings as r
    set status = of_status, ended_at = ended, stored_at = case when bytes > 0 then ended end,
        size_bytes = nullif(bytes, 0), sha256 = hash
    where r.id = recording;
    if wrapped is not null then
        insert into private.recording_keys (recording_id, wrapped_key, root_key_id)
        values (recording, wrapped, 'tests-1');
    end if;
end $$;

-- Inserts the transcript of a READY recording: one recording in three has a transcript with corrections, a subtitle
-- link, insights and a note draft, one is being transcribed, and one has none. Returns the number of inserted rows.
create function moved.say(recording uuid) returns integer
language plpgsql as $$
declare
    part constant integer := get_byte(uuid_send(recording), 15) % 3;
begin
    if part = 0 then
        update resguardo.transcripts as t
        set status = 'READY', chunks_total = 3, chunks_done = 3, run = 1, status_at = private.now()
        where t.recording_id = recording;
        insert into private.transcript_texts (recording_id, ciphertext, terms)
        values (recording, decode(repeat('ab', 99), 'hex'), '{1, 2, 3}');
        insert into private.transcript_corrections (recording_id, number, ciphertext, corrected_by)
        select recording, n.number, decode(repeat('cd', 99), 'hex'), t.doctor_id
        from resguardo.transcripts as t, generate_series(1, 2) as n (number) where t.recording_id = recording;
        insert into private.subtitle_links (secret_sha256, recording_id, claims, expires_at)
        values (sha256(uuid_send(recording)), recording, '{}', private.now() + interval '15 minutes');
        insert into private.thumbnails (recording_id, ciphertext) values (recording, decode(repeat('ab', 99), 'hex'));
        insert into private.thumbnail_links (secret_sha256, recording_id, claims, expires_at)
        values (sha256(uuid_send(recording)), recording, '{}', private.now() + interval '15 minutes');
        update resguardo.insights as i set status = 'RUNNING', part_count = 2, parts_done = 1
        where i.recording_id = recording;
        insert into private.insight_texts (recording_id, generation, ciphertext)
        values (recording, 1, decode(repeat('ab', 99), 'hex'));
        insert into private.insight_answers (recording_id, part, round, ciphertext)
        values (recording, 0, 0, decode(repeat('cd', 99), 'hex')), (recording, 1, 0, null);
        insert into private.insight_dismissals (recording_id, generation, line_number, dismissed_by)
        select recording, 1, 1, i.doctor_id from resguardo.insights as i where i.recording_id = recording;
        insert into private.note_drafts (recording_id, version, ciphertext)
        values (recording, 2, decode(repeat('ab', 99), 'hex'));
        insert into private.note_sections (recording_id, section) values (recording, 'P');
        insert into private.note_section_answers (recording_id, section, part, round)
        values (recording, 'P', 0, 0), (recording, 'P', 1, 0);
        return 14;
    elsif part = 1 then
        update resguardo.transcripts as t
        set status = 'RUNNING', chunks_total = 3, chunks_done = 1, run = 1, status_at = private.now()
        where t.recording_id = recording;
        insert into private.transcript_chunks (recording_id, number, sound, start_ms, end_ms, answer)
        select
            recording, n.number, recording, n.number, n.number + 1,
            case n.number when 0 then decode(repeat('ef', 99), 'hex') end
        from generate_series(0, 2) as n (number);
        return 3;
    end if;
    return 0;
end $$;

-- Inserts a session note with an earlier version, and a psychotherapy note. Returns the number of inserted rows.
create function moved.note(
    recording uuid, note uuid, apart uuid, earlier bytea, present bytea, of_psychotherapy bytea
) returns integer
language plpgsql as $$
begin
    insert into private.session_notes (
        id, recording_id, consultation_id, author_id, version, ciphertext, changed_by
    )
    select note, r.id, r.consultation_id, r.doctor_id, 2, present, r.doctor_id
    from resguardo.recordings as r where r.id = recording;
    insert into private.session_note_versions (note_id, version, recording_id, ciphertext, changed_by, changed_at)
    select note, 1, r.id, earlier, r.doctor_id, private.now() from resguardo.recordings as r where r.id = recording;
    insert into private.psychotherapy_notes (id, recording_id, consultation_id, author_id, ciphertext, changed_by)
    select apart, r.id, r.consultation_id, r.doctor_id, of_psychotherapy, r.doctor_id
    from resguardo.recordings as r where r.id = recording;
    return 3;
end $$;

-- Returns each table and recording for which a row remains, among the tables that must contain no row of a DELETED
-- recording.
create function moved.traces() returns table (place text, recording uuid)
language plpgsql as $$
begin
    return query
    select 'recording_secrets', coalesce(r.video_id, r.id)
    from private.recording_secrets as s join resguardo.recordings as r on r.id = s.recording_id
    union all
    select 'recording_keys', coalesce(r.video_id, r.id)
    from private.recording_keys as s join resguardo.recordings as r on r.id = s.recording_id
    union all
    select 'object_moves', coalesce(r.video_id, r.id)
    from private.object_moves as s join resguardo.recordings as r on r.id = s.recording_id
    union all
    select 'import_secrets', i.recording_id
    from private.import_secrets as s join resguardo.recording_imports as i on i.id = s.import_id
    where exists (select from resguardo.recordings as r where r.id = i.recording_id)
    union all
    select 'transcript_chunks', s.recording_id from private.transcript_chunks as s
    union all
    select 'transcript_texts', s.recording_id from private.transcript_texts as s
    union all
    select 'transcript_corrections', s.recording_id from private.transcript_corrections as s
    union all
    select 'subtitle_links', s.recording_id from private.subtitle_links as s
    union all
    select 'thumbnails', s.recording_id from private.thumbnails as s
    union all
    select 'thumbnail_links', s.recording_id from private.thumbnail_links as s
    union all
    select 'note_drafts', s.recording_id from private.note_drafts as s
    union all
    select 'note_sections', s.recording_id from private.note_sections as s
    union all
    select 'note_section_answers', s.recording_id from private.note_section_answers as s
    union all
    select 'session_notes', s.recording_id from private.session_notes as s
    union all
    select 'session_note_versions', s.recording_id from private.session_note_versions as s
    union all
    select 'psychotherapy_notes', s.recording_id from private.psychotherapy_notes as s
    union all
    select 'psychotherapy_note_versions', s.recording_id from private.psychotherapy_note_versions as s
    union all
    select 'insight_answers', s.recording_id from private.insight_answers as s
    union all
    select 'insight_texts', s.recording_id from private.insight_texts as s
    union all
    select 'insight_dismissals', s.recording_id from private.insight_dismissals as s
    union all
    select 'insights', s.recording_id from resguardo.insights as s where s.error is distinct from 'recording_destroyed'
    union all
    select 'transcripts', s.recording_id from resguardo.transcripts as s where s.status in ('READY', 'NO_SPEECH')
    union all
    select 'deletion_objects', d.recording_id
    from private.deletion_objects as o join resguardo.deletions as d on d.id = o.deletion_id
    union all
    select 'access_exports', coalesce(r.video_id, r.id)
    from private.access_exports as e
    join resguardo.recordings as r on r.id = any(e.recording_ids);
end $$;

create unlogged table moved.seen_notes (note uuid primary key, status text not null);

-- Returns the signed notes whose destruction has begun, or that were destroyed, since the last call.
create function moved.observe_notes() returns table (note uuid, status text)
language plpgsql as $$
begin
    return query
    insert into moved.seen_notes as s
    select n.id, n.status from resguardo.signed_notes as n where n.status <> 'KEPT'
    on conflict on constraint seen_notes_pkey do update set status = excluded.status
    where s.status <> excluded.status
    returning s.note, s.status;
end $$;

create unlogged table moved.seen (deletion uuid primary key);

-- Returns the recordings in destruction, and the recordings that were destroyed since the last call.
create function moved.observe() returns table (recording uuid, status text)
language plpgsql as $$
begin
    return query
    with new as (
        insert into moved.seen
        select d.id from resguardo.deletions as d
        where d.status = 'DELETED' and not exists (select from moved.seen as s where s.deletion = d.id)
        returning deletion
    )

    select d.recording_id, r.status
    from resguardo.deletions as d
    join resguardo.recordings as r on r.id = d.recording_id
    where d.status = 'DELETING' or d.id in (select n.deletion from new as n);
end $$;
