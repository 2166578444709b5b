-- name: is_overdue
-- Returns whether the access request p is overdue.
select p.status in ('OPEN', 'APPROVED') and p.due_on < (select private.today());

-- name: file_access_request
-- Files a request and returns it, or the open request that it repeats; no row if the patient is hidden.
select a.*, a.status in ('OPEN', 'APPROVED') and a.due_on < private.today() as is_overdue
from private.file_access_request(
    %(patient_id)s::uuid, %(consultation_id)s::uuid, %(received_on)s::date, %(relationship)s, %(name)s
) as a;

-- name: withdraw_access_request
-- Withdraws a request and returns it; no row if it is hidden or does not exist.
select a.*, false as is_overdue from private.withdraw_access_request(%(id)s) as a;

-- name: approve_access_request
-- Approves a request and returns it; no row if it does not exist.
select a.*, a.due_on < private.today() as is_overdue from private.approve_access_request(%(id)s) as a;

-- name: deny_access_request
-- Denies a request and returns it; no row if it does not exist.
select a.*, false as is_overdue from private.deny_access_request(%(id)s, %(ground)s, %(determined_by)s::uuid) as a;

-- name: extend_access_request
-- Extends the due day of a request and returns the request; no row if it does not exist.
select a.*, a.due_on < private.today() as is_overdue
from private.extend_access_request(%(id)s, %(days)s::integer, %(reason)s) as a;

-- name: ask_access_review
-- Asks for the review of a denial and returns the request; no row if it is hidden or does not exist.
select a.*, a.due_on < private.today() as is_overdue from private.ask_access_review(%(id)s) as a;

-- name: record_access_review
-- Stores the outcome of a review and returns the request; no row if it does not exist.
select a.*, a.status = 'APPROVED' and a.due_on < private.today() as is_overdue
from private.record_access_review(%(id)s, %(reviewer_id)s::uuid, %(outcome)s) as a;

-- name: release_export_key
-- Returns the object key of a copy: null if the request is hidden, an empty text if it has no copy.
select private.release_export_key(%(id)s);

-- name: reveal_export_secret
-- Returns the passphrase of a copy, once: null for an unknown request, an empty text afterwards.
select private.reveal_export_secret(%(id)s);

-- name: begin_export
-- Begins a copy and returns one row for each recording to copy; no row if no copy is needed.
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
-- Returns whether the copy of this attempt fulfils the request.
select private.finish_export(%(id)s, %(object_key)s, %(size_bytes)s::bigint, %(contents)s::uuid[]);

-- name: fail_export
-- Stores why no copy could be made.
select private.fail_export(%(id)s, %(reason)s);

-- name: ended_exports
-- Returns the copies to delete, at most 100.
select e.request_id, e.object_key from private.ended_exports() as e;

-- name: expire_export
-- Marks a copy as ended; returns false if another attempt has replaced it.
select private.expire_export(%(id)s, %(object_key)s);

-- name: overdue_access_requests
-- Returns the ids of the requests that nobody acted on before their due day, as one array.
select private.overdue_access_requests();

-- name: clock
-- Returns the database's time.
select private.now();

-- name: unknown_export_keys
-- Returns those of the given object keys that belong to no copy, as one array.
select private.unknown_export_keys(%(keys)s::text[]);

-- name: record_sweep
-- Writes the audit row of a deletion by the sweep and returns one row; no row if a copy has the object key.
select private.record_service('object.sweep_orphan', 'ALLOWED', 'no_export_has_it', 'access_request', %(id)s)
where private.unknown_export_keys(array[%(object_key)s::text]) = array[%(object_key)s::text];
