-- name: place_hold
-- Places a legal hold and returns its id with the numbers of covered recordings and signed notes; returns no row if
-- the consultation or patient does not exist.
select p.id, p.covered_recordings, p.recordings_in_destruction, p.covered_notes
from
    private.place_hold(
        coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
        coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
        %(recorded_since)s, %(recorded_until)s, %(matter)s, %(custodian)s
    ) as p;

-- name: release_hold
-- Releases a legal hold and returns its id; returns null if the hold does not exist.
select private.release_hold(%(id)s);

-- name: unprotected_videos
-- Returns the videos under r/ that must stay longer than the bucket's lifecycle rules permit, oldest first.
select v.id, v.lock_prefix, v.is_held, v.is_outgrown, v.may_move, v.movable from private.unprotected_videos() as v;

-- name: moving_videos
-- Returns the videos whose objects are being moved to keep/.
select m.id from private.moving_videos() as m (id);

-- name: begin_move
-- Begins or continues to move a video and the sounds beside it to keep/, and returns the old and new key of each
-- object.
select m.recording_id, m.source_key, m.target_key, m.is_verified, m.is_kept from private.begin_move(%(id)s) as m;

-- name: keep_object
-- Stores the new object key of a moved recording; returns false if the database has no such move or the recording is
-- being destroyed.
select private.keep_object(%(recording_id)s, %(source_key)s, %(target_key)s);

-- name: end_move
-- Stores that the move of a recording's object to keep/ has ended.
select private.end_move(%(recording_id)s);
