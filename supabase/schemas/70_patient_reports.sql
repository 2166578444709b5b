-- The reports that a patient reads about themself: who looked at the patient's record, and what was recorded of the
-- patient.
--
-- The access report comes from the audit log. It has only the events of some actions (private.patient_report_actions)
-- and no event that an open case or a suspension hides for now. Patients read their own reports. A compliance officer
-- reads a patient's reports for the person who filed an approved access request, such as a representative.

create table private.patient_report_actions (
    action text not null,
    shown text not null constraint patient_report_actions_shown_is_known check (shown in ('ALWAYS', 'REFUSED')),
    is_shown_of_self boolean not null default false,
    constraint patient_report_actions_pkey primary key (action)
);
comment on table private.patient_report_actions is
'The actions in the access report. Only migrations write this table. app/texts has the text of each action.';
comment on column private.patient_report_actions.shown is
'ALWAYS: the report shows the action and refused attempts at it. REFUSED: the report shows only refused attempts.';
comment on column private.patient_report_actions.is_shown_of_self is
'Whether the report also shows the action if the patient did it.';

insert into private.patient_report_actions (action, shown, is_shown_of_self)
values
('access_report.read', 'ALWAYS', false),
('recording_report.read', 'ALWAYS', false),
('access_request.export', 'ALWAYS', true),
('access_request.issue_url', 'ALWAYS', true),
('access_request.reveal_secret', 'ALWAYS', false),
('consultation.read', 'ALWAYS', false),
('consultation.reassign', 'ALWAYS', false),
('consultation.share', 'ALWAYS', false),
('consultation.end_share', 'REFUSED', false),
('consultation.authorize_sharing', 'ALWAYS', false),
('consultation.withdraw_authorization', 'ALWAYS', false),
('patient.break_glass', 'ALWAYS', false),
('amendment.request', 'ALWAYS', false),
('amendment.extend', 'ALWAYS', false),
('amendment.decide', 'ALWAYS', false),
('amendment.dispute', 'ALWAYS', false),
('amendment.rebut', 'ALWAYS', false),
('amendment.include', 'ALWAYS', false),
('amendment.list', 'ALWAYS', false),
('accounting.issue', 'ALWAYS', false),
('accounting.file', 'REFUSED', false),
('accounting.withdraw', 'REFUSED', false),
('accounting.extend', 'REFUSED', false),
('clip.create', 'ALWAYS', false),
('insights.dismiss', 'ALWAYS', false),
('insights.read', 'ALWAYS', false),
('note.add_addendum', 'ALWAYS', false),
('note.read', 'ALWAYS', false),
('note.sign', 'ALWAYS', false),
('note_draft.edit', 'ALWAYS', false),
('note_draft.keep_flag', 'ALWAYS', false),
('note_draft.read', 'ALWAYS', false),
('note_draft.rewrite', 'ALWAYS', false),
('psychotherapy_note.delete', 'ALWAYS', false),
('psychotherapy_note.edit', 'ALWAYS', false),
('psychotherapy_note.read', 'ALWAYS', false),
('psychotherapy_note.write', 'ALWAYS', false),
('recording.issue_url', 'ALWAYS', false),
('recording.play', 'ALWAYS', false),
('recording.read', 'ALWAYS', false),
('recording.read_storage', 'ALWAYS', false),
('session_note.delete', 'ALWAYS', false),
('session_note.edit', 'ALWAYS', false),
('session_note.read', 'ALWAYS', false),
('session_note.watch', 'ALWAYS', false),
('session_note.write', 'ALWAYS', false),
('thumbnail.issue_url', 'ALWAYS', false),
('thumbnail.read', 'ALWAYS', false),
('transcript.ask', 'ALWAYS', false),
('transcript.correct', 'ALWAYS', false),
('transcript.issue_url', 'ALWAYS', false),
('transcript.read', 'ALWAYS', false),
('transcript.search', 'ALWAYS', false),
('access_request.approve', 'REFUSED', false),
('access_request.ask_review', 'REFUSED', false),
('access_request.deny', 'REFUSED', false),
('access_request.extend', 'REFUSED', false),
('access_request.file', 'REFUSED', false),
('access_request.review', 'REFUSED', false),
('access_request.withdraw', 'REFUSED', false),
('certificate.read', 'REFUSED', false),
('consent.give', 'REFUSED', false),
('consent.withdraw', 'REFUSED', false),
('consultation.join', 'REFUSED', false),
('consultation.register', 'REFUSED', false),
('consultation.set_label', 'REFUSED', false),
('consultation.switch_transcription', 'REFUSED', false),
('consultation.watch', 'REFUSED', false),
('guest.invite', 'REFUSED', false),
('insights.refresh', 'REFUSED', false),
('insights.retry', 'REFUSED', false),
('recording.complete_import', 'REFUSED', false),
('recording.delete', 'REFUSED', false),
('recording.import', 'REFUSED', false),
('recording.issue_upload_url', 'REFUSED', false),
('recording.start', 'REFUSED', false),
('recording.stop', 'REFUSED', false),
('recording.undo_delete', 'REFUSED', false),
('recording.watch', 'REFUSED', false),
('transcript.retry', 'REFUSED', false);

-- Returns at most 101 events of the access report before (before_at, before_id), newest first. With a consultation, the
-- events concern this consultation. A call reads at most 2,000 blocks of the search index, and reads no further block
-- once it has found 20,000 events. If the call stops before the page is full, the page has every event after
-- `reached_at`, and its last row has only `reached_at`. The next page begins at this time.
--
-- An event in an open case is hidden until the case is decided. While a suspension of the patient's accounting is in
-- effect, an event with the purpose LEGAL is hidden. A hidden event leaves no gap, because the next event takes its
-- place in the page.
--
-- A block's bitmaps say which of its 1,024 events concern the patient, have an action and an outcome that the patient
-- reads about, and are not the patient's own (46_audit_search.sql). The newest block is read first, and the walk ends
-- when the events of all older blocks are older than the events that are found.
create function private.find_patient_report(
    of_patient uuid, of_consultation uuid, before_at timestamptz, before_id uuid, page_size integer
) returns table (event audit.events, reached_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    most constant integer := least(page_size, 101);
    latest constant timestamptz := coalesce(before_at, 'infinity');
    nothing constant bit(1024) := repeat('0', 1024)::bit(1024);
    is_suspended constant boolean := exists (select from private.disclosure_suspensions(of_patient));
    login constant uuid := (select p.user_id from resguardo.patients as p where p.id = of_patient);
    always constant text[] := array(
        select a.action from private.patient_report_actions as a where a.shown = 'ALWAYS'
    );
    refusable constant text[] := array(select a.action from private.patient_report_actions as a);
    of_self constant text[] := array(
        select a.action from private.patient_report_actions as a where a.is_shown_of_self
    );
    times timestamptz[];
    ids uuid[];
    walked integer := 0;
    examined integer := 0;
    of_block integer;
    walked_block record;
    found_event record;
    reached timestamptz;
    last_of_page timestamptz;
begin
    select coalesce(array_agg(f.recorded_at), '{}'), coalesce(array_agg(f.id), '{}') into times, ids
    from (
        select e.recorded_at, e.id
        from (select u.recorded_at, u.event_id as id from audit.unindexed as u) as q
        cross join lateral (
            select a.* from audit.events as a where a.id = q.id and a.recorded_at = q.recorded_at limit 1
        ) as e
        where e.patient_ids @> array[of_patient]
            and (of_consultation is null or e.consultation_ids @> array[of_consultation])
            and (
                (e.outcome = 'ALLOWED' and e.action = any(always))
                or (e.outcome = 'DENIED' and e.action = any(refusable))
            )
            and (login is null or e.actor_id is distinct from login or e.action = any(of_self))
            and (before_at is null or (q.recorded_at, q.id) < (before_at, before_id))
            and not (is_suspended and e.purpose = 'LEGAL')
            and not private.is_in_open_case(e.id)
        order by q.recorded_at desc, q.id desc limit most
    ) as f;
    for walked_block in
        select
            p.block, b.started_at, b.ended_at, b.latest_at, b.recorded_at, b.event_ids,
            p.bits & coalesce(c.bits, ~nothing)
            & ((a.always & coalesce(o.allowed, nothing)) | (a.refusable & coalesce(o.denied, nothing)))
            & (~coalesce(s.bits, nothing) | coalesce(a.of_self, nothing)) as bits
        from audit.event_bitmaps as p
        cross join lateral (
            select k.* from audit.event_blocks as k where k.number = p.block and k.started_at <= latest limit 1
        ) as b
        left join lateral (
            select t.bits from audit.event_bitmaps as t
            where t.attribute = 'consultation' and t.value = of_consultation::text and t.block = p.block
        ) as c on true
        cross join lateral (
            select
                coalesce(bit_or(t.bits) filter (where t.value = any(always)), nothing) as always,
                coalesce(bit_or(t.bits), nothing) as refusable,
                bit_or(t.bits) filter (where t.value = any(of_self)) as of_self
            from audit.event_bitmaps as t
            where t.attribute = 'action' and t.value = any(refusable) and t.block = p.block
        ) as a
        cross join lateral (
            select
                bit_or(t.bits) filter (where t.value = 'ALLOWED') as allowed,
                bit_or(t.bits) filter (where t.value = 'DENIED') as denied
            from audit.event_bitmaps as t
            where t.attribute = 'outcome' and t.value = any('{ALLOWED,DENIED}') and t.block = p.block
        ) as o
        left join lateral (
            select t.bits from audit.event_bitmaps as t
            where t.attribute = 'actor' and t.value = login::text and t.block = p.block
        ) as s on true
        where p.attribute = 'patient' and p.value = of_patient::text
            and (of_consultation is null or c.bits is not null)
        order by p.block desc
    loop
        if cardinality(times) >= most then
            select k.recorded_at into last_of_page
            from unnest(times) as k (recorded_at) order by 1 desc offset most - 1 limit 1;
            exit when last_of_page > walked_block.latest_at;
        elsif (walked >= 2000 or examined >= 20000) and walked_block.latest_at < latest then
            reached := walked_block.latest_at;
            exit;
        end if;
        walked := walked + 1;
        of_block := 0;
        continue when walked_block.bits = nothing;
        for found_event in
            select e.recorded_at, e.id, e.purpose
            from (
                select walked_block.recorded_at[i.place + 1] as recorded_at, walked_block.event_ids[i.place + 1] as id
                from generate_series(
                    case
                        when walked_block.ended_at <= latest then 1023
                        else width_bucket(latest, walked_block.recorded_at) - 1
                    end, 0, -1
                ) as i (place)
                where get_bit(walked_block.bits, i.place) = 1
                offset 0
            ) as q
            cross join lateral (
                select a.* from audit.events as a where a.id = q.id and a.recorded_at = q.recorded_at limit 1
            ) as e
            where e.patient_ids @> array[of_patient]
                and (before_at is null or (e.recorded_at, e.id) < (before_at, before_id))
        loop
            examined := examined + 1;
            continue when (is_suspended and found_event.purpose = 'LEGAL')
                or private.is_in_open_case(found_event.id);
            times := times || found_event.recorded_at;
            ids := ids || found_event.id;
            of_block := of_block + 1;
            exit when of_block >= most;
        end loop;
    end loop;
    return query
    select e.event, null::timestamptz
    from (
        select distinct k.recorded_at, k.id from unnest(times, ids) as k (recorded_at, id)
        where reached is null or k.recorded_at > reached
        order by k.recorded_at desc, k.id desc limit most
    ) as k
    cross join lateral (
        select a as event from audit.events as a where a.id = k.id and a.recorded_at = k.recorded_at limit 1
    ) as e
    order by k.recorded_at desc, k.id desc;
    if reached is not null then
        return query select null::audit.events, reached;
    end if;
end
$$;

-- Returns the patient and the consultation that a report is about: of the calling patient, or of an approved access
-- request, for which a compliance officer reads the report. Returns nulls, and writes the audit row, if the request or
-- the consultation does not exist or the caller may not see it. Raises RG400 (report_of_whom) if an officer names no
-- request, or if the caller names both, and RG409 (access_request_not_approved).
create function private.subject_of_report(
    of_action text, of_request uuid, of_consultation uuid, out patient uuid, out consultation uuid
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    asked resguardo.access_requests;
begin
    perform private.use_quota(private.require_person(), 'pages');
    if of_request is not null then
        asked := private.find_access_request(of_request, of_action);
        if asked.id is null then
            return;
        elsif of_consultation is not null then
            raise exception 'report_of_whom' using errcode = 'RG400';
        elsif asked.status not in ('APPROVED', 'FULFILLED') then
            raise exception 'access_request_not_approved' using errcode = 'RG409';
        end if;
        patient := asked.patient_id;
        consultation := asked.consultation_id;
    elsif current_setting('role') <> 'patient' then
        raise exception 'report_of_whom' using errcode = 'RG400';
    elsif of_consultation is null or private.is_own_consultation(of_consultation) then
        patient := private.patient();
        consultation := of_consultation;
    else
        perform private.write_lookup(
            of_action, 'consultation', 'consultation', of_consultation, false, '[]', '{}', '{}', 0, '{}'
        );
    end if;
end
$$;

-- Writes the audit row of a read of a report.
create function private.audit_report(
    of_action text, of_patient uuid, of_consultation uuid, of_request uuid, shown_fields text[], shown_rows integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        of_action, 'ALLOWED', null,
        private.entities_of('patient', array[of_patient])
        || private.entities_of('access_request', array_remove(array[of_request], null)),
        array[of_patient], array_remove(array[of_consultation], null), shown_fields, shown_rows, null
    );
end
$$;

-- Raises RG400 (bad_time_zone) if Postgres does not know the time zone.
create function private.require_time_zone(time_zone text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    perform now() at time zone time_zone;
exception when invalid_parameter_value then
    raise exception 'bad_time_zone' using errcode = 'RG400';
end
$$;

-- Returns one page of the report of who looked at a patient's record, newest first, and writes the audit row. Another
-- page follows if the result has one row more than the page, or a last row with `reached_at`. `local_at` is the time of
-- day in the given time zone. `relation` says how the person who looked relates to the patient. Of the consultations, a
-- row names only those of the patient. The row after the last one has no id. Returns no row at all if the subject of
-- the report does not exist. Raises RG400 (bad_time_zone) and the errors of private.subject_of_report().
create function private.read_access_report(
    of_request uuid, of_consultation uuid, before_at timestamptz, before_id uuid, page_size integer, time_zone text,
    with_names boolean, shown_fields text[]
) returns table (
    id uuid, recorded_at timestamptz, local_at timestamp, action text, outcome text, reason text, purpose text,
    basis text, relation text, actor_name text, consultation_ids uuid[], reached_at timestamptz
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    subject record;
    looked record;
    shown_rows integer := 0;
begin
    perform private.require_time_zone(time_zone);
    select s.patient, s.consultation, p.user_id as login into subject
    from private.subject_of_report('access_report.read', of_request, of_consultation) as s
    inner join resguardo.patients as p on p.id = s.patient;
    if subject.patient is null then
        return;
    end if;
    for looked in
        select (f.event).*, f.reached_at as reached
        from private.find_patient_report(subject.patient, subject.consultation, before_at, before_id, page_size) as f
    loop
        reached_at := looked.reached;
        exit when looked.id is null;
        id := looked.id;
        recorded_at := looked.recorded_at;
        local_at := looked.recorded_at at time zone time_zone;
        action := looked.action;
        outcome := looked.outcome;
        reason := looked.reason;
        purpose := looked.purpose;
        basis := looked.basis;
        consultation_ids := array(
            select c.id from resguardo.consultations as c
            where c.id = any(looked.consultation_ids) and c.patient_id = subject.patient order by c.id
        );
        relation := case
            when looked.actor_id = subject.login then 'SELF'
            when looked.actor_role = 'clinician' and looked.actor_id in (
                select c.doctor_id from resguardo.consultations as c
                where c.id = any(read_access_report.consultation_ids)
            ) then 'DOCTOR'
            when looked.actor_role = 'clinician' then 'CLINICIAN'
            when looked.actor_role = 'compliance' then 'COMPLIANCE'
            when looked.actor_role = 'patient' then 'OTHER_PATIENT'
            when looked.actor_id is null then 'SYSTEM'
            else 'OTHER'
        end;
        actor_name := case when with_names then private.published_name(looked.actor_id) end;
        shown_rows := shown_rows + 1;
        return next;
    end loop;
    perform private.audit_report(
        'access_report.read', subject.patient, subject.consultation, of_request, shown_fields,
        least(shown_rows, page_size - 1)
    );
    id := null;
    return next;
end
$$;

-- Returns one page of the report of what was recorded of a patient, newest first, and writes the audit row. The page
-- has the videos that were stored or that began, with the newest certificate of each destroyed one. `is_kept_longer`
-- says that the term is over and the recording is still kept. The row after the last one has no id. Another page
-- follows if the result has one row more than the page. Returns no row at all if the subject of the report does not
-- exist. Raises RG400 (bad_time_zone) and the errors of private.subject_of_report().
create function private.read_recording_report(
    of_request uuid, of_consultation uuid, before_at timestamptz, before_id uuid, page_size integer, time_zone text,
    with_names boolean, shown_fields text[]
) returns table (
    id uuid, created_at timestamptz, consultation_id uuid, recorded_at timestamptz, local_at timestamp,
    doctor_name text, duration_seconds double precision, status text, kept_until timestamptz, kept_until_day date,
    is_kept_longer boolean, destroyed_at timestamptz, destroyed_day date, certificate_number integer,
    certificate_sha256 text, certificate_json text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    subject record;
    shown_rows integer;
begin
    perform private.require_time_zone(time_zone);
    select s.patient, s.consultation into subject
    from private.subject_of_report('recording_report.read', of_request, of_consultation) as s;
    if subject.patient is null then
        return;
    end if;
    return query
    select
        r.id, r.created_at, r.consultation_id, coalesce(r.started_at, r.created_at),
        coalesce(r.started_at, r.created_at) at time zone time_zone,
        case when with_names then private.published_name(r.doctor_id) end, r.duration_seconds,
        case
            when r.status = 'DELETED' then 'DESTROYED'
            when r.status = 'LOST' or (r.status = 'READY' and r.missing_since is not null) then 'LOST'
            when r.status = 'READY' then 'KEPT'
            when r.status in ('FAILED', 'ABORTED') then 'FAILED'
            else 'IN_PROGRESS'
        end,
        case when r.status <> 'DELETED' then r.due_at end,
        case when r.status <> 'DELETED' then (r.due_at at time zone time_zone)::date end,
        coalesce(r.status <> 'DELETED' and r.due_at <= private.now(), false),
        d.finished_at, (d.finished_at at time zone time_zone)::date, d.number, d.sha256, d.document
    from (
        select a.* from resguardo.recordings as a
        where a.patient_id = subject.patient and a.medium = 'VIDEO'
            and (a.started_at is not null or a.status in ('READY', 'DELETED', 'LOST'))
            and (subject.consultation is null or a.consultation_id = subject.consultation)
            and (before_at is null or (a.created_at, a.id) < (before_at, before_id))
        order by a.created_at desc, a.id desc limit least(page_size, 101)
    ) as r
    left join lateral (
        select e.finished_at, c.number, c.sha256, c.document
        from resguardo.certificates as c
        inner join resguardo.deletions as e on e.id = c.deletion_id
        where c.recording_id = r.id and r.status = 'DELETED'
        order by c.number desc limit 1
    ) as d on true
    order by r.created_at desc, r.id desc;
    get diagnostics shown_rows = row_count;
    perform private.audit_report(
        'recording_report.read', subject.patient, subject.consultation, of_request, shown_fields,
        least(shown_rows, page_size - 1)
    );
    id := null;
    return next;
end
$$;
