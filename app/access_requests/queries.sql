-- name: file_access_request
-- Files an access request and returns its id, or returns the id of the open request with the same scope. Returns null
-- if the caller may not see the patient or the consultation, or if one of them does not exist.
select private.file_access_request(
    coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
    coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
    %(received_on)s::date, %(relationship)s, %(name)s
);

-- name: withdraw_access_request
-- Withdraws an access request and returns its id; returns null if the caller may not see the request or it does not
-- exist.
select private.withdraw_access_request(%(id)s);

-- name: approve_access_request
-- Approves an access request and returns its id; returns null if the request does not exist.
select private.approve_access_request(%(id)s);

-- name: deny_access_request
-- Denies an access request and returns its id; returns null if the request does not exist.
select private.deny_access_request(%(id)s, %(ground)s, %(determined_by)s::uuid);

-- name: extend_access_request
-- Extends the due day of an access request and returns its id; returns null if the request does not exist.
select private.extend_access_request(%(id)s, %(days)s::integer, %(reason)s);

-- name: ask_access_review
-- Asks for the review of a denial and returns the id of the access request; returns null if the caller may not see the
-- request or it does not exist.
select private.ask_access_review(%(id)s);

-- name: record_access_review
-- Stores the outcome of the review of a denial and returns the id of the access request; returns null if the request
-- does not exist.
select private.record_access_review(%(id)s, %(reviewer_id)s::uuid, %(outcome)s);

-- name: release_export_key
-- Returns the object key of the encrypted copy. Returns null if the caller may not see the access request, and an
-- empty text if the request has no copy.
select private.release_export_key(%(id)s);

-- name: reveal_export_secret
-- Returns the secret of an encrypted copy once. Returns null for an unknown access request.
select private.reveal_export_secret(%(id)s);

-- name: begin_export
-- Begins the encrypted copy for an access request and returns one row for each recording to copy; returns no row if
-- no copy is needed.
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
    e.recording_key,
    e.has_notice
from private.begin_export(%(id)s, %(secret)s) as e;

-- name: export_session_notes
-- Returns every version of the session notes that the copy of an access request must contain.
select
    e.recording_id,
    e.recorded_at,
    e.wrapped,
    e.root_key,
    e.note_id,
    e.author_id,
    e.written_at,
    e.version,
    e.start_ms,
    e.ciphertext,
    e.changed_by,
    e.changed_at
from private.export_session_notes(%(id)s) as e;

-- name: uncopied_texts
-- Returns the texts that exist and that the copy does not contain, each with the id of its video.
select
    t.recording_id,
    t.kind
from private.uncopied_texts(%(id)s) as t;

-- name: finish_export
-- Marks an access request as fulfilled by this attempt's copy and returns true; returns false if this copy must be
-- deleted.
select private.finish_export(
    %(id)s, %(object_key)s, %(size_bytes)s::bigint, %(contents)s::uuid[], %(noted)s::uuid[]
);

-- name: fail_export
-- Stores why no copy could be made for an access request.
select private.fail_export(%(id)s, %(reason)s);

-- name: ended_exports
-- Returns at most 100 encrypted copies that expired or whose access request was withdrawn.
select e.request_id, e.object_key from private.ended_exports() as e;

-- name: expire_export
-- Marks an encrypted copy as expired and returns true; returns false if the copy of a later attempt has replaced it.
select private.expire_export(%(id)s, %(object_key)s);

-- name: clock
-- Returns the database's time.
select private.now();

-- name: export_signed_notes
-- Returns the versions of the signed notes in the copy for an access request, encrypted, with the patient's data key.
select n.*
from private.export_signed_notes(%(id)s) as n;
