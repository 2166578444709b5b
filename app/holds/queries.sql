-- name: place_hold
select p.id, p.placed_by, p.placed_at, p.covered_recordings, p.recordings_in_destruction
from
    private.place_hold(
        %(consultation_id)s, %(patient_id)s, %(recorded_since)s, %(recorded_until)s, %(matter)s, %(custodian)s
    ) as p;

-- name: release_hold
select
    h.id, h.consultation_id, h.patient_id, h.recorded_since, h.recorded_until, h.matter, h.custodian, h.placed_by,
    h.placed_at, h.released_by, h.released_at
from private.release_hold(%(id)s) as h;

-- name: list_holds
select h.*
from resguardo.legal_holds as h
where %(is_active)s::boolean is null or (h.released_at is null) = %(is_active)s;

-- name: unprotected_videos
select v.id, v.lock_prefix, v.is_held, v.is_outgrown, v.may_move, v.movable from private.unprotected_videos() as v;

-- name: moving_videos
select m.id from private.moving_videos() as m (id);

-- name: begin_move
select m.recording_id, m.source_key, m.target_key, m.is_verified, m.is_kept from private.begin_move(%(id)s) as m;

-- name: keep_object
select private.keep_object(%(recording_id)s, %(source_key)s, %(target_key)s);

-- name: end_move
select private.end_move(%(recording_id)s);

-- name: lock_bucket
select private.lock_bucket();
