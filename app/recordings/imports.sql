-- name: insert_import
insert into resguardo.recording_imports (
    consultation_id, doctor_id, patient_id, content_type, size_bytes, sha256, recorded_at
) values (
    %(consultation_id)s, %(doctor_id)s, %(patient_id)s, %(content_type)s, %(size_bytes)s, %(sha256)s, %(recorded_at)s
)
returning id;

-- name: pending_import
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
select i.* from resguardo.recording_imports as i where i.id = %(id)s;

-- name: release_upload_url
select private.release_upload_url(%(id)s);

-- name: complete_import
select private.complete_import(%(id)s);

-- name: read_import_key
select k.object_key, k.content_type, k.size_bytes, k.seconds_left
from private.read_import_key(%(id)s) as k;

-- name: keep_upload_url
select private.keep_upload_url(%(id)s, %(url)s);

-- name: expire_imports
select private.expire_imports();
