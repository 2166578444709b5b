-- Drafts of SOAP notes. A draft follows from the insights until the doctor changes it, and is then stored, encrypted
-- with the recording's data key. A draft is deleted when its recording is destroyed. Signed notes are in
-- 61_signed_notes.sql.

create table private.note_drafts (
    recording_id uuid primary key
    constraint note_drafts_recording_id_fkey references resguardo.recordings (id),
    version integer not null constraint note_drafts_version_range check (version > 0),
    signed_from integer constraint note_drafts_signed_from_range check (signed_from >= 0),
    ciphertext bytea not null
    constraint note_drafts_ciphertext_length check (length(ciphertext) between 29 and 16777216),
    changed_at timestamptz not null default private.now()
);
comment on table private.note_drafts is
'Drafts that a doctor has changed. Without a row here, the draft of a recording is that of its insights.';
comment on column private.note_drafts.version is
'Counts the versions of the draft, from the generation of the insights with which it began.';
comment on column private.note_drafts.signed_from is
'The version that the doctor signed; null if the draft is not signed. A signed draft does not change any more.';

create table private.note_sections (
    recording_id uuid not null
    constraint note_sections_recording_id_fkey references resguardo.recordings (id),
    section text not null constraint note_sections_section_is_known check (section in ('S', 'O', 'A', 'P')),
    error text constraint note_sections_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    attempt integer not null default 1 constraint note_sections_attempt_range check (attempt > 0),
    run integer not null default 0 constraint note_sections_run_range check (run >= 0),
    requested_at timestamptz not null default private.now(),
    constraint note_sections_pkey primary key (recording_id, section)
);
comment on table private.note_sections is
'The sections that the doctor asked the language model to write again, until they are written.';
comment on column private.note_sections.error is 'Why the section could not be written; null while it is written.';
comment on column private.note_sections.run is
'Counts how often a worker began or resumed. Only the newest worker may send requests to the language service.';

create table private.note_section_answers (
    recording_id uuid not null,
    section text not null,
    part integer not null constraint note_section_answers_part_range check (part >= 0),
    round smallint not null constraint note_section_answers_round_range check (round in (0, 1)),
    request_count integer not null default 0
    constraint note_section_answers_request_count_range check (request_count >= 0),
    ciphertext bytea
    constraint note_section_answers_ciphertext_length check (length(ciphertext) between 29 and 16777216),
    constraint note_section_answers_pkey primary key (recording_id, section, part, round),
    constraint note_section_answers_section_fkey foreign key (recording_id, section)
    references private.note_sections (recording_id, section)
);
comment on table private.note_section_answers is
'The requests for a section and the answers of the language service, encrypted, until the section is made of them.';
comment on column private.note_section_answers.round is
'0 for the first request about a part. 1 for the second, which lists the errors of the first answer.';
comment on column private.note_section_answers.request_count is
'How many requests were sent, and possibly paid for. The count is stored before a request is sent.';

-- What a reader of a draft needs: the stored draft, the insights and the transcript of its recording, all encrypted,
-- with the recording's data key and the facts about how much of the consultation they cover.
create type private.opened_note_draft as (
    recording_id uuid,
    consultation_id uuid,
    patient_id uuid,
    doctor_id uuid,
    recording_sha256 text,
    duration_seconds double precision,
    is_truncated boolean,
    is_interrupted boolean,
    version integer,
    signed_from integer,
    written_sections text[], -- noqa: LT01
    failed_sections text[], -- noqa: LT01
    section_errors text[], -- noqa: LT01
    draft bytea,
    insights_status text,
    insights_generation integer,
    insights_vendor text,
    insights_model text,
    insights bytea,
    dismissed integer[], -- noqa: LT01
    transcript_status text,
    unused_track_count smallint,
    transcript bytea,
    corrections bytea[], -- noqa: LT01
    quotes_objection text,
    opened_at timestamptz,
    wrapped bytea,
    root_key text
);

-- Returns what a reader of a recording's draft needs, or null if the recording has no transcript or no data key. The
-- caller has checked the right to read the draft, and has written the audit row.
create function private.gather_note_draft(of_recording uuid) returns private.opened_note_draft
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    opened private.opened_note_draft;
begin
    select
        r.id, r.consultation_id, r.patient_id, r.doctor_id, r.sha256, r.duration_seconds, r.truncated, r.interrupted,
        private.note_draft_version(r.id), d.signed_from,
        array(select s.section from private.note_sections as s where s.recording_id = r.id and s.error is null),
        array(
            select s.section from private.note_sections as s
            where s.recording_id = r.id and s.error is not null order by s.section
        ),
        array(
            select s.error from private.note_sections as s
            where s.recording_id = r.id and s.error is not null order by s.section
        ),
        d.ciphertext, i.status, w.generation, i.vendor, i.model,
        w.ciphertext,
        array(
            select x.line_number from private.insight_dismissals as x
            where x.recording_id = w.recording_id and x.generation = w.generation order by x.line_number
        ),
        t.status, t.unused_track_count, y.ciphertext,
        array(
            select c.ciphertext from private.transcript_corrections as c
            where c.recording_id = r.id order by c.number
        ),
        private.consent_objection(r.consultation_id), private.now(), k.wrapped_key, k.root_key_id
    into opened
    from resguardo.recordings as r
    inner join resguardo.transcripts as t on t.recording_id = r.id
    inner join private.recording_keys as k on k.recording_id = r.id
    left join private.transcript_texts as y on y.recording_id = r.id and t.status = 'READY'
    left join resguardo.insights as i on i.recording_id = r.id
    left join private.insight_texts as w on w.recording_id = r.id and i.status in ('READY', 'STALE')
    left join private.note_drafts as d on d.recording_id = r.id
    where r.id = of_recording and r.status = 'READY';
    return opened;
end
$$;

-- Returns the version of a recording's draft. A draft that no doctor has changed has the generation of the insights as
-- its version, or 0 without insights.
create function private.note_draft_version(of_recording uuid) returns integer
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        (select d.version from private.note_drafts as d where d.recording_id = of_recording),
        (
            select w.generation
            from private.insight_texts as w
            inner join resguardo.insights as i on i.recording_id = w.recording_id and i.status in ('READY', 'STALE')
            where w.recording_id = of_recording
        ),
        0
    );
end
$$;

-- Returns the draft of the caller's own recording for the given action. Before that, writes the audit row, which also
-- names the entities in `shown` and the fields in `of_fields`. If the doctor signs the note, the audit row is that of
-- begin_signing(), which the transaction has called, or a row of this function if the note is already signed. If the
-- action changes the draft, the function locks the recording's transcript, so that changes of one draft, and the
-- destruction of the recording, wait for each other. Returns no row if the recording belongs to a different doctor,
-- does not exist or is not READY, so the caller cannot tell these cases apart. Raises RG409 (recording_deleted,
-- recording_being_deleted), RG429 (quota_pages), RG403 (unknown_action).
create function private.open_note_draft(of_action text, of_recording uuid, shown jsonb, of_fields text[])
returns setof private.opened_note_draft
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    is_own boolean;
    is_deleted boolean;
    opened private.opened_note_draft;
begin
    if of_action is null or of_action not in (
        'note_draft.read', 'note_draft.edit', 'note_draft.keep_flag', 'note_draft.rewrite', 'note.sign'
    ) then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.use_quota(private.person(), 'pages');
    select r.doctor_id = doctor, r.status = 'DELETED' into is_own, is_deleted
    from resguardo.recordings as r where r.id = of_recording and r.medium = 'VIDEO';
    if is_own and is_deleted then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif is_own and of_action <> 'note_draft.read' then
        perform from resguardo.transcripts as t where t.recording_id = of_recording for update;
    end if;
    if is_own then
        opened := private.gather_note_draft(of_recording);
    end if;
    if of_action <> 'note.sign' or opened.recording_id is null or opened.signed_from is not null then
        perform private.write_lookup(
            of_action, 'recording', 'recording', of_recording, is_own,
            private.entities_of('recording', array_remove(array[opened.recording_id], null)) || shown,
            array[opened.patient_id], array[opened.consultation_id], (opened.recording_id is not null)::integer,
            of_fields
        );
    elsif not exists (
        select from private.pending_audit_rows as p
        where p.transaction_id = pg_current_xact_id() and p.action = of_action
    ) then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    if opened.recording_id is null then
        return;
    elsif private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    return next opened;
end
$$;

-- Stores a new version of the draft of the caller's own recording, and returns its number. `is_signed` says whether the
-- doctor signs the draft in this transaction; nobody changes the draft afterwards. Raises RG409 (note_draft_changed) if
-- the draft has another version than `based_on`, or the recording is being destroyed, RG409 (note_signed) if the draft
-- is signed, and RG409 (note_section_in_progress) if the doctor signs while a section is being written.
create function private.store_note_draft(of_recording uuid, based_on integer, new_text bytea, is_signed boolean)
returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    perform from resguardo.transcripts as t
    where t.recording_id = of_recording and t.doctor_id = doctor for update;
    if not found or private.is_to_be_destroyed(of_recording)
        or private.note_draft_version(of_recording) is distinct from based_on
    then
        raise exception 'note_draft_changed' using errcode = 'RG409';
    elsif exists (
        select from private.note_drafts as d where d.recording_id = of_recording and d.signed_from is not null
    ) then
        raise exception 'note_signed' using errcode = 'RG409';
    elsif is_signed and exists (
        select from private.note_sections as s where s.recording_id = of_recording and s.error is null
    ) then
        raise exception 'note_section_in_progress' using errcode = 'RG409';
    end if;
    insert into private.note_drafts as d (recording_id, version, ciphertext, signed_from)
    values (of_recording, based_on + 1, new_text, case when is_signed then based_on end)
    on conflict (recording_id) do update
    set version = excluded.version, ciphertext = excluded.ciphertext, signed_from = excluded.signed_from,
        changed_at = private.now();
    return based_on + 1;
end
$$;

-- Queues the job that writes a section of the draft again, after the draft was opened for it in this transaction. If
-- the section is already being written, the function changes nothing. Answers of the language service that are already
-- stored are used again. Raises RG409 (note_draft_changed, note_signed, note_without_transcript, and `insights_` with a
-- reason of insights_objection()).
create function private.request_note_section(of_recording uuid, of_section text, based_on integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    wanted resguardo.transcripts;
    objection text;
begin
    select t.* into wanted from resguardo.transcripts as t
    where t.recording_id = of_recording and t.doctor_id = doctor for update;
    if wanted.recording_id is null or private.is_to_be_destroyed(of_recording) then
        raise exception 'note_draft_changed' using errcode = 'RG409';
    elsif exists (
        select from private.note_drafts as d where d.recording_id = of_recording and d.signed_from is not null
    ) then
        raise exception 'note_signed' using errcode = 'RG409';
    elsif wanted.status <> 'READY' then
        raise exception 'note_without_transcript' using errcode = 'RG409';
    end if;
    if exists (
        select from private.note_sections as s
        where s.recording_id = of_recording and s.section = of_section and s.error is null
    ) then
        return;
    end if;
    objection := private.insights_objection(wanted.consultation_id);
    if objection is not null then
        raise exception 'insights_%', objection using errcode = 'RG409';
    elsif private.note_draft_version(of_recording) is distinct from based_on then
        raise exception 'note_draft_changed' using errcode = 'RG409';
    end if;
    update private.note_section_answers as a set request_count = 0
    where a.recording_id = of_recording and a.section = of_section and a.ciphertext is null;
    insert into private.note_sections as s (recording_id, section) values (of_recording, of_section)
    on conflict (recording_id, section) do update
    set error = null, attempt = s.attempt + 1, requested_at = private.now();
    perform private.put_job('write_note_section', of_recording);
end
$$;

-- Deletes the draft of a recording, and returns how many rows it deleted from each table. A change of the draft locks
-- the recording's transcript, so clear_note_draft() waits for the change and then deletes it, too.
create function private.clear_note_draft(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array['note_section_answers', 'note_sections', 'note_drafts'];
    of_table text;
    rows_cleared bigint;
    cleared jsonb := '[]';
begin
    perform from resguardo.transcripts as t where t.recording_id = of_recording for update;
    foreach of_table in array tables loop
        execute format('delete from private.%I where recording_id = $1', of_table) using of_recording;
        get diagnostics rows_cleared = row_count;
        if rows_cleared > 0 then
            cleared := cleared || jsonb_build_object('table', of_table, 'rows', rows_cleared);
        end if;
    end loop;
    return cleared;
end
$$;
