-- name: begin
-- Returns the time and the number of READY recordings at the start of a search.
select b.at, b.verified from private.begin_look() as b;

-- name: missing_objects
-- Returns the READY recordings with keys in this range whose object is not present.
select m.id, m.video_id, m.consultation_id, m.missing_since
from private.missing_objects(%(after_key)s, %(last_key)s, %(present)s::text[]) as m;

-- name: report_missing
-- Stores that an object is missing; returns false if that is already stored.
select private.report_missing(%(id)s, %(seen_at)s);

-- name: destroy_missing
-- Returns whether a video's deletion began; no row if its sound is not missing for long enough.
select private.destroy_missing(r.id)
from resguardo.recordings as r
where
    r.id = %(id)s
    and not exists (
        select from resguardo.recordings as s
        where
            s.video_id = r.id
            and s.status = 'READY'
            and (s.missing_since is null or s.missing_since > %(missing_before)s)
    );
