-- name: store_draft
-- Stores a new version of a draft, and returns its number.
select private.store_note_draft(%(id)s, %(based_on)s, %(ciphertext)s, %(is_signed)s);

-- name: is_signed
-- Returns whether the caller has signed the note on a recording.
select count(*) > 0 from resguardo.signed_notes as n where n.recording_id = %(id)s;

-- name: signed_versions
-- Returns the signed versions of the caller's note on a recording, oldest first.
select
    v.note_id,
    v.version,
    v.signed_at,
    v.sha256
from resguardo.signed_notes as n
inner join resguardo.signed_note_versions as v on v.note_id = n.id
where n.recording_id = %(id)s
order by v.version;

-- name: is_own_recording
-- Returns whether the recording belongs to the caller.
select count(*) > 0 from resguardo.recordings as r where r.id = %(id)s;
