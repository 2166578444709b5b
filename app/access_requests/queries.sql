-- name: list_access_requests
select a.*, a.status in ('OPEN', 'APPROVED') and a.due_on < (select private.today()) as is_overdue
from resguardo.access_requests as a
where %(status)s::text is null or a.status = %(status)s;

-- name: file_access_request
select a.*, a.status in ('OPEN', 'APPROVED') and a.due_on < private.today() as is_overdue
from private.file_access_request(
    %(patient_id)s::uuid, %(consultation_id)s::uuid, %(received_on)s::date, %(relationship)s, %(name)s
) as a;

-- name: withdraw_access_request
select a.*, false as is_overdue from private.withdraw_access_request(%(id)s) as a;

-- name: approve_access_request
select a.*, a.due_on < private.today() as is_overdue from private.approve_access_request(%(id)s) as a;

-- name: deny_access_request
select a.*, false as is_overdue from private.deny_access_request(%(id)s, %(ground)s, %(determined_by)s::uuid) as a;

-- name: extend_access_request
select a.*, a.due_on < private.today() as is_overdue
from private.extend_access_request(%(id)s, %(days)s::integer, %(reason)s) as a;

-- name: ask_access_review
select a.*, a.due_on < private.today() as is_overdue from private.ask_access_review(%(id)s) as a;

-- name: record_access_review
select a.*, a.status = 'APPROVED' and a.due_on < private.today() as is_overdue
from private.record_access_review(%(id)s, %(reviewer_id)s::uuid, %(outcome)s) as a;

-- name: release_export_key
select private.release_export_key(%(id)s);

-- name: reveal_export_secret
select private.reveal_export_secret(%(id)s);

-- name: begin_export
select
    e.object_key,
    e.recording_id,
    e.video_id,
    e.medium,
    e.participant_id,
    e.participant_kind,
    e.guest_role,
    e.number,
    e.recorded_at,
    e.size_bytes,
    e.sha256,
    e.recording_key
from private.begin_export(%(id)s, %(secret)s) as e;

-- name: finish_export
select private.finish_export(%(id)s, %(object_key)s, %(size_bytes)s::bigint, %(contents)s::uuid[]);

-- name: fail_export
select private.fail_export(%(id)s, %(reason)s);

-- name: ended_exports
select e.request_id, e.object_key from private.ended_exports() as e;

-- name: expire_export
select private.expire_export(%(id)s, %(object_key)s);

-- name: overdue_access_requests
select private.overdue_access_requests();

-- name: clock
select private.now();

-- name: unknown_export_keys
select private.unknown_export_keys(%(keys)s::text[]);

-- name: record_sweep
select private.record_service('object.sweep_orphan', 'ALLOWED', 'no_export_has_it', 'access_request', %(id)s)
where private.unknown_export_keys(array[%(object_key)s::text]) = array[%(object_key)s::text];
