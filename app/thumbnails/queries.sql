-- name: begin_thumbnail
-- Returns the video of which a thumbnail is made, with its data key; returns no row if the thumbnail needs no work.
select
    b.object_key,
    b.size_bytes,
    b.duration_seconds,
    b.wrapped,
    b.root_key
from private.begin_thumbnail(%(id)s) as b;

-- name: finish_thumbnail
-- Stores an encrypted thumbnail, or, if it is null, that no picture of the video is suitable.
select private.finish_thumbnail(%(id)s, %(ciphertext)s);

-- name: fail_thumbnail
-- Sets a thumbnail to FAILED.
select private.fail_thumbnail(%(id)s, %(reason)s);

-- name: store_thumbnail_link
-- Stores a thumbnail link and returns when it expires, or nulls if the recording has no thumbnail for the caller.
with stored as materialized (
    select private.store_thumbnail_link(%(id)s, %(secret_sha256)s, %(lifetime_seconds)s) as expires_at
)

select
    s.expires_at,
    floor(extract(epoch from s.expires_at - now()))::integer as expires_in_seconds
from stored as s;

-- name: read_thumbnail_link
-- Returns the claims and the recording of a thumbnail link, or no row if the link is unknown or expired.
select
    l.claims,
    l.of_recording
from private.read_thumbnail_link(%(secret)s) as l;

-- name: open_thumbnail
-- Returns an encrypted thumbnail with the recording's data key, or no row if the recording has none for the caller.
select
    o.ciphertext,
    o.wrapped,
    o.root_key
from private.open_thumbnail(%(id)s) as o;
