-- name: insert_import
-- Inserts an import and returns its id.
insert into resguardo.recording_imports (
    consultation_id, doctor_id, patient_id, content_type, size_bytes, sha256, recorded_at
) values (
    %(consultation_id)s, %(doctor_id)s, %(patient_id)s, %(content_type)s, %(size_bytes)s, %(sha256)s, %(recorded_at)s
)
returning id;

-- name: pending_import
-- Returns the id of the newest pending import that has the same declaration and stays open for at least the given
-- time.
select i.id
from resguardo.recording_imports as i
where
    i.consultation_id = %(consultation_id)s
    and i.content_type = %(content_type)s
    and i.size_bytes = %(size_bytes)s
    and i.sha256 is not distinct from %(sha256)s
    and i.recorded_at is not distinct from %(recorded_at)s::timestamptz
    and i.status in ('AWAITING_URL', 'AWAITING_UPLOAD')
    and i.expires_at > clock_timestamp() + %(at_least)s
order by i.created_at desc, i.id desc
limit 1;

-- name: read_import
-- Returns an import; no row if the import is hidden from the caller.
select i.* from resguardo.recording_imports as i where i.id = %(id)s;

-- name: release_upload_url
-- Returns the upload URL of an import and in how many seconds it expires. The URL is null if the worker has not signed
-- it yet, or if the import is hidden from the caller.
select
    private.release_upload_url(%(id)s) as url,
    (
        select floor(extract(epoch from i.expires_at - clock_timestamp()))::integer
        from resguardo.recording_imports as i
        where i.id = %(id)s
    ) as expires_in_seconds;

-- name: complete_import
-- Completes an import and returns the id of its recording.
select private.complete_import(%(id)s);

-- name: read_import_key
-- Returns the object key of an import and for how many seconds its upload URL may be valid; no row if the import
-- needs no URL.
select k.object_key, k.content_type, k.size_bytes, k.seconds_left
from private.read_import_key(%(id)s) as k;

-- name: store_upload_url
-- Stores the upload URL that the worker signed.
select private.store_upload_url(%(id)s, %(url)s);

-- name: expire_imports
-- Ends the imports that nobody completed in time, and returns how many it ended.
select private.expire_imports();
