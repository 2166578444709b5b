-- How the worker turns a recording into words: it begins, keeps its plan, asks for a piece at a time, and finishes.
-- Each step finds out anew whether it is still wanted, and whether the recording is still there.

alter table resguardo.transcripts add column run integer not null default 0
constraint transcripts_run_range check (run >= 0);
comment on column resguardo.transcripts.run is
'How often a worker began or went on: the last one asks, whoever was taken for dead and is not asks no more.';

alter table resguardo.transcripts add column sound uuid
constraint transcripts_sound_fkey references resguardo.recordings (id);
create index transcripts_sound_idx on resguardo.transcripts (sound);
comment on column resguardo.transcripts.sound is
'Whose sound is heard: the speakers'' own, or the video''s. Once it is planned it stays, whatever turns up.';

alter table private.transcript_pieces add column spoilt integer not null default 0
constraint transcript_pieces_spoilt_range check (spoilt >= 0);
comment on column private.transcript_pieces.spoilt is
'How often it was asked, and may have been paid for, without an answer that is of use.';

-- Puts an end to it, with its audit row.
create function private.end_transcription(of_recording uuid, ended_as text, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ended resguardo.transcripts;
begin
    update resguardo.transcripts as t set status = ended_as, error = why, status_at = private.now()
    where t.recording_id = of_recording
    returning t.* into ended;
    perform private.write_audit(
        'transcript.transition', case ended_as when 'FAILED' then 'FAILED' else 'ALLOWED' end, why, 'recording',
        array[of_recording], array[ended.patient_id], array[ended.consultation_id], array['transcript'], 1, null
    );
end
$$;

-- The transcript, locked, where the worker may go on with it: not finished, not switched off meanwhile, and of a
-- recording that is not to be destroyed. No row otherwise; what was switched off is OFF from now on.
create function private.lock_transcription(of_recording uuid) returns resguardo.transcripts
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.transcripts;
begin
    select t.* into wanted from resguardo.transcripts as t where t.recording_id = of_recording for update;
    if wanted.recording_id is null or wanted.status not in ('PENDING', 'RUNNING')
        or private.is_to_be_destroyed(of_recording)
    then
        return null;
    end if;
    if not private.wants_words(wanted.consultation_id) then
        perform private.end_transcription(of_recording, 'OFF', 'switched_off');
        return null;
    end if;
    return wanted;
end
$$;

-- How much later than the video the sound beside it begins, in milliseconds, below zero where it begins before; 0 where
-- nobody said, and for the video itself. An hour at most: it is LiveKit's word.
create function private.lateness_ms(of_sound resguardo.recordings, of_video uuid) returns integer
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    seconds numeric;
begin
    select extract(epoch from of_sound.started_at - v.started_at) into seconds
    from resguardo.recordings as v where v.id = of_video;
    return round(1000 * greatest(-3600, least(3600, coalesce(seconds, 0))));
end
$$;

-- Begins or goes on, after the audit row: whose sound it is, where that is, and the data key. No row where there is
-- nothing to do. `sound` is null while the speakers' own recording is still to come. Whoever began before is overtaken.
create function private.begin_transcription(of_recording uuid, texts text[])
returns table (
    sound uuid, medium text, object_key text, size_bytes bigint, wrapped bytea, root_key text, is_planned boolean,
    run integer, late_ms integer, is_of_two boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
    speakers resguardo.recordings;
    heard uuid := case when wanted.pieces_total is not null then wanted.sound end;
begin
    if wanted.recording_id is null then
        return;
    end if;
    if not private.text_allows_words(wanted.consultation_id, texts) then
        perform private.end_transcription(of_recording, 'OFF', 'consent_text');
        return;
    end if;
    select r.* into speakers from resguardo.recordings as r
    where r.beside = of_recording and r.medium = 'SPEAKERS'
    order by (r.status = 'READY') desc, private.is_finished(r.status), r.created_at desc limit 1;
    if heard is null and speakers.id is not null and not private.is_finished(speakers.status) then
        return query select null::uuid, null::text, null::text, null::bigint, null::bytea, null::text, false, 0, 0,
            false;
        return;
    end if;
    if not exists (select from private.recording_keys as k where k.recording_id = of_recording) then
        perform private.end_transcription(of_recording, 'FAILED', 'data_key_missing');
        return;
    end if;
    heard := coalesce(heard, case when speakers.status = 'READY' then speakers.id else of_recording end);
    update resguardo.transcripts as t
    set run = t.run + 1, status = 'RUNNING', sound = heard,
        status_at = case t.status when 'PENDING' then private.now() else t.status_at end
    where t.recording_id = of_recording;
    if wanted.status = 'PENDING' then
        update private.transcript_pieces as p set spoilt = 0 where p.recording_id = of_recording and p.spoilt > 0;
    end if;
    perform private.write_audit(
        'transcript.begin', 'ALLOWED', null, 'recording', array[of_recording], array[wanted.patient_id],
        array[wanted.consultation_id], array['object_key', 'data_key'], 1, null
    );
    return query
    select r.id, r.medium, s.object_key, r.size_bytes, k.wrapped_key, k.root_key_id, wanted.pieces_total is not null,
        wanted.run + 1, private.lateness_ms(r, of_recording),
        r.medium = 'SPEAKERS' and not exists (
            select from resguardo.participants as p
            where p.consultation_id = r.consultation_id and p.kind = 'GUEST' and p.joined_at is not null
        )
    from resguardo.recordings as r
    inner join private.recording_secrets as s on s.recording_id = r.id
    inner join private.recording_keys as k on k.recording_id = of_recording
    where r.id = heard;
end
$$;

-- Keeps which pieces there are to be heard, once; a sound without speech is finished by it.
create function private.keep_pieces(of_recording uuid, channels smallint[], starts integer[], ends integer[])
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null or wanted.pieces_total is not null then
        return;
    end if;
    insert into private.transcript_pieces (recording_id, number, channel, start_ms, end_ms)
    select of_recording, p.number - 1, p.channel, p.start_ms, p.end_ms
    from unnest(channels, starts, ends) with ordinality as p (channel, start_ms, end_ms, number);
    update resguardo.transcripts as t set pieces_total = cardinality(starts) where t.recording_id = of_recording;
    if cardinality(starts) = 0 then
        perform private.end_transcription(of_recording, 'NO_SPEECH', null);
    end if;
end
$$;

-- What is still to be heard; nothing where it is not wanted any more.
create function private.pieces_left(of_recording uuid)
returns table (number integer, channel smallint, start_ms integer, end_ms integer)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    return query
    select p.number, p.channel, p.start_ms, p.end_ms
    from private.transcript_pieces as p
    where p.recording_id = wanted.recording_id and p.heard is null
    order by p.number;
end
$$;

-- Whether a piece is to be asked for, right before it is: false where it was heard meanwhile, null where nothing is
-- wanted any more. Raises RG409 (transcription_overtaken) for a worker that was taken for dead.
create function private.wants_piece(of_recording uuid, of_run integer, of_piece integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null then
        return null;
    end if;
    if wanted.run <> of_run then
        raise exception 'transcription_overtaken' using errcode = 'RG409';
    end if;
    return exists (
        select from private.transcript_pieces as p
        where p.recording_id = of_recording and p.number = of_piece and p.heard is null
    );
end
$$;

-- Counts that a piece was asked for, and may have been paid for, in vain: how often that was.
create function private.keep_spoilt(of_recording uuid, of_piece integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    times integer;
begin
    update private.transcript_pieces as p set spoilt = p.spoilt + 1
    where p.recording_id = of_recording and p.number = of_piece
    returning p.spoilt into times;
    return coalesce(times, 0);
end
$$;

-- Keeps what was heard of one piece, encrypted, once, whoever asked: it is paid for. Nothing where it is not wanted any
-- more.
create function private.keep_heard(of_recording uuid, of_piece integer, sealed bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    update private.transcript_pieces as p set heard = sealed
    where p.recording_id = wanted.recording_id and p.number = of_piece and p.heard is null;
    if found then
        update resguardo.transcripts as t set pieces_done = t.pieces_done + 1 where t.recording_id = of_recording;
    end if;
end
$$;

-- All that was heard, after the audit row; nothing while a piece is missing.
create function private.read_heard(of_recording uuid)
returns table (number integer, heard bytea)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null or wanted.pieces_done is distinct from wanted.pieces_total then
        return;
    end if;
    perform private.write_audit(
        'transcript.assemble', 'ALLOWED', null, 'recording', array[of_recording], array[wanted.patient_id],
        array[wanted.consultation_id], array['words'], wanted.pieces_total, null
    );
    return query
    select p.number, p.heard
    from private.transcript_pieces as p
    where p.recording_id = of_recording
    order by p.number;
end
$$;

-- Keeps the words and what they are found by, forgets the pieces, and it is READY; without words it is NO_SPEECH.
create function private.finish_transcription(of_recording uuid, of_language text, words bytea, found_by bigint[])
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null then
        return;
    end if;
    if words is not null then
        insert into private.transcript_words (recording_id, sealed, terms) values (of_recording, words, found_by);
    end if;
    delete from private.transcript_pieces as p where p.recording_id = of_recording;
    update resguardo.transcripts as t set language = of_language where t.recording_id = of_recording;
    perform private.end_transcription(
        of_recording, case when words is null then 'NO_SPEECH' else 'READY' end, null
    );
end
$$;

-- Gives up, visibly: FAILED, or OFF where nothing was tried.
create function private.give_up_transcription(of_recording uuid, ended_as text, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is not null then
        perform private.end_transcription(of_recording, ended_as, why);
    end if;
end
$$;

-- The speakers' own recording is over, one way or the other: what waited for its sound goes on.
create function private.resume_transcription() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from resguardo.transcripts as t where t.recording_id = new.beside and t.status = 'PENDING'
    ) then
        perform private.put_job('transcribe_recording', new.beside);
    end if;
    return null;
end
$$;

create trigger recordings_resume_transcription after update of status on resguardo.recordings
for each row when (
    new.beside is not null and new.status <> old.status and new.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
)
execute function private.resume_transcription();

-- The key of the word index, made by whoever comes first: what is kept is given back.
create function private.word_index_key(new_wrapped bytea, new_root_key text)
returns table (wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.word_index_key (wrapped_key, root_key_id) values (new_wrapped, new_root_key)
    on conflict do nothing;
    return query select k.wrapped_key, k.root_key_id from private.word_index_key as k;
end
$$;

-- Puts a job for each transcription under way that has none: a worker that was taken for dead can end the job of the
-- one that goes on. Those that wait for the speakers' sound get one too, which finds nothing to do. How many those are.
create function private.resume_transcriptions() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    idle constant uuid[] := array(
        select t.recording_id from resguardo.transcripts as t
        where t.status in ('PENDING', 'RUNNING') and not private.is_to_be_destroyed(t.recording_id)
            and not exists (
                select from jobs.procrastinate_jobs as j
                where j.lock = 'transcribe_recording:' || t.recording_id and j.status in ('todo', 'doing')
            )
    );
begin
    perform private.put_job('transcribe_recording', i.id) from unnest(idle) as i (id);
    return cardinality(idle);
end
$$;
