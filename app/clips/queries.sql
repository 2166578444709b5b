-- name: request_clip
-- Requests a clip and returns its id; returns null if the caller may not see the recording.
select private.request_clip(%(recording_id)s, %(start_ms)s, %(end_ms)s, %(totp_max_age_seconds)s);

-- name: begin_clip
-- Begins an attempt to make a clip, and returns the object to cut; returns no row if the clip needs no work.
select b.* from private.begin_clip(%(id)s) as b;

-- name: report_clip
-- Stores how much of a clip is encoded. Returns false if the attempt must end.
select private.report_clip(%(id)s, %(run)s, %(percent)s);

-- name: begin_storing_clip
-- Returns the object key under which the finished clip is to be stored; returns null if the attempt must end.
select private.begin_storing_clip(%(id)s, %(run)s);

-- name: finish_clip
-- Makes a stored clip READY. Returns false if the attempt must end.
select private.finish_clip(%(id)s, %(run)s, %(key)s, %(sha256)s, %(size_bytes)s);

-- name: fail_clip
-- Sets a clip to FAILED with a reason that the doctor sees.
select private.fail_clip(%(id)s, %(run)s, %(reason)s);
