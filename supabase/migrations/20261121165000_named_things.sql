-- Which things an audit row may say were done, and which jobs there are: rows of tables from here on, so that another
-- one is a row and not a new version of a long function.

create table private.audit_actions (
    action text primary key constraint audit_actions_action_is_dotted check (action ~ '^[a-z_]+[.][a-z_]+$'),
    operation text not null constraint audit_actions_operation_is_known check (operation in ('C', 'R', 'U', 'D', 'E')),
    is_reserved boolean not null
);
comment on column private.audit_actions.is_reserved is
'Written by functions alone: no statement of a person may claim it (private.record_access).';

insert into private.audit_actions (action, operation, is_reserved)
values
('viewer.read', 'R', false),
('consultation.register', 'C', false),
('consultation.read', 'R', false),
('consultation.list', 'R', false),
('consultation.join', 'E', false),
('guest.invite', 'C', false),
('guest.join', 'E', true),
('consent.give', 'C', false),
('consent.withdraw', 'C', false),
('recording.list', 'R', false),
('recording.read', 'R', false),
('recording.watch', 'R', false),
('recording.start', 'C', false),
('recording.stop', 'U', false),
('recording.import', 'C', false),
('recording.issue_upload_url', 'R', true),
('recording.complete_import', 'C', false),
('recording.expire_import', 'U', true),
('recording.transition', 'U', true),
('recording.issue_url', 'R', true),
('recording.read_storage', 'R', true),
('recording.read_key', 'R', true),
('egress.stop_stray', 'E', true),
('object.report_orphan', 'R', true),
('object.sweep_orphan', 'D', true),
('object.abort_upload', 'D', true),
('rooms.list', 'R', false),
('audit.list', 'R', true),
('staff.invite', 'C', true),
('staff.list_invitations', 'R', true),
('staff.add', 'C', true),
('staff.map', 'U', true),
('staff.suspend', 'U', true),
('staff.ban', 'U', true),
('recording.delete', 'D', true),
('recording.undo_delete', 'U', true),
('recording.destroy', 'D', true),
('recording.make_key', 'C', true),
('recording.rewrap_key', 'U', true),
('recording.date', 'U', true),
('deletion.list', 'R', false),
('deletion.fail', 'U', true),
('certificate.read', 'R', false),
('retention.propose', 'C', true),
('retention.approve', 'U', true),
('retention.reject', 'U', true),
('retention.activate', 'U', true),
('retention.list', 'R', false),
('retention.preview', 'R', true),
('hold.place', 'C', true),
('hold.release', 'U', true),
('hold.list', 'R', false),
('access_request.file', 'C', true),
('access_request.withdraw', 'U', true),
('access_request.approve', 'U', true),
('access_request.deny', 'U', true),
('access_request.extend', 'U', true),
('access_request.ask_review', 'U', true),
('access_request.review', 'U', true),
('access_request.list', 'R', false),
('access_request.export', 'E', true),
('access_request.issue_url', 'E', true),
('access_request.reveal_secret', 'R', true),
('access_request.expire_export', 'D', true),
('storage.report', 'R', true),
('object.report_missing', 'R', true),
('object.keep', 'U', true),
('bucket.drift', 'R', true),
('bucket.apply', 'U', true),
('restore.check', 'R', true),
('restore.repeat', 'D', true),
('request.reject', 'E', true),
('webhook.reject', 'E', true),
('transcript.transition', 'U', true),
('transcript.begin', 'R', true),
('transcript.assemble', 'R', true),
('transcript.read', 'R', true),
('transcript.correct', 'U', true),
('transcript.search', 'R', true),
('transcript.retry', 'U', true),
('transcript.issue_url', 'R', true),
('transcript.rewrap_index_key', 'U', true),
('consultation.switch_transcription', 'U', true);

create or replace function private.operation_of(action text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select a.operation from private.audit_actions as a where a.action = operation_of.action);
end
$$;

create or replace function private.record_access(
    action text, entity_type text, asked uuid, found_ids uuid[], patient_ids uuid[], consultation_ids uuid[],
    fields text[], meter text, quota integer
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_missing constant boolean := asked is not null and cardinality(found_ids) = 0;
    hidden private.subjects;
begin
    if exists (
        select from private.audit_actions as a where a.action = record_access.action and a.is_reserved
    ) then
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
    if meter is not null then
        perform private.use_quota(person, meter, quota);
    end if;
    if not is_missing then
        perform private.write_audit(
            action, 'ALLOWED', null, entity_type, found_ids, patient_ids, consultation_ids, fields,
            cardinality(found_ids), null
        );
        return true;
    end if;
    hidden := private.subjects_of(entity_type, asked);
    perform private.write_audit(
        action, case when hidden.patient_ids is null then 'ABSENT' else 'DENIED' end, 'not_found',
        entity_type, array[asked], hidden.patient_ids, hidden.consultation_ids, fields, 0, null
    );
    return true;
end
$$;

create table private.tasks (
    name text primary key constraint tasks_name_is_slug check (name ~ '^[a-z][a-z_]{0,63}$'),
    queue text not null constraint tasks_queue_is_known check (queue in ('default', 'starts', 'media', 'words')),
    may_defer text[] not null
);
comment on column private.tasks.may_defer is 'The roles of people that may ask for it, each for what is its own.';

insert into private.tasks (name, queue, may_defer)
values
('start_recording', 'starts', '{clinician}'),
('stop_recording', 'default', '{clinician}'),
('enforce_consent', 'default', '{clinician, patient}'),
('verify_recording', 'media', '{}'),
('ban_user', 'default', '{}'),
('invite_staff', 'default', '{}'),
('prepare_import', 'default', '{clinician}'),
('secure_held', 'default', '{}'),
('export_access_request', 'media', '{}'),
('transcribe_recording', 'words', '{}');

create or replace function private.put_job(task text, argument uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform jobs.procrastinate_defer_jobs_v1(array[
        row(
            (select t.queue from private.tasks as t where t.name = task),
            task, 0, task || ':' || argument, null,
            jsonb_build_object('id', argument), null
        )::jobs.procrastinate_job_to_defer_v1
    ]);
end
$$;

create or replace function private.defer_job(task text, argument uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    asker constant text := current_setting('role');
begin
    if not exists (
        select from private.tasks as t
        where t.name = task and (asker not in ('clinician', 'patient') or asker = any (t.may_defer))
    ) then
        raise exception 'unknown_task' using errcode = 'RG403';
    end if;
    if asker in ('clinician', 'patient') then
        perform private.require_own_consultation(
            case task
                when 'enforce_consent' then argument
                when 'prepare_import' then (
                    select i.consultation_id from resguardo.recording_imports as i where i.id = argument
                )
                else (select r.consultation_id from resguardo.recordings as r where r.id = argument)
            end
        );
    end if;
    perform private.put_job(task, argument);
end
$$;
