-- name: request_deletion
-- Requests the destruction of a recording and returns the deletion's id; returns null if the caller may not see the
-- recording.
select private.request_deletion(%(recording_id)s, %(reason)s);

-- name: undo_deletion
-- Cancels a requested deletion and returns the deletion's id; returns null if the caller may not see the recording.
select private.undo_deletion(%(recording_id)s);

-- name: read_certificates
-- Returns a page of the certificates of destruction of a recording, by number, and whether another page follows.
select c.*, count(*) over () > %(first)s as has_next
from resguardo.certificates as c
where c.recording_id = %(recording_id)s and (%(after)s::integer is null or c.number > %(after)s)
order by c.number
limit (select %(first)s::bigint);

-- name: read_note_certificates
-- Returns a page of the certificates of destruction of the signed note on a recording, by number, and whether another
-- page follows.
select
    n.recording_id,
    c.patient_id,
    c.consultation_id,
    c.number,
    c.document,
    c.sha256,
    count(*) over () > %(first)s as has_next
from resguardo.note_certificates as c
inner join resguardo.signed_notes as n on n.id = c.note_id
where n.recording_id = %(recording_id)s and (%(after)s::integer is null or c.number > %(after)s)
order by c.number
limit (select %(first)s::bigint);

-- name: claim_deletions
-- Claims due deletions, and returns for each the number of the attempt and the prefixes and keys of the objects to
-- delete.
select c.* from private.claim_deletions(%(by_clock)s, %(most)s) as c;

-- name: database_time
-- Returns the database's time.
select private.now() as now;

-- name: keep_inventory
-- Stores the objects that the destroyer found in the bucket, and returns the ids of the claimed deletions that may
-- continue.
select
    private.keep_inventory(
        %(claimed)s::uuid[],
        %(attempts)s::integer[],
        %(deletions)s::uuid[],
        %(keys)s::text[],
        %(sizes)s::bigint[],
        %(etags)s::text[]
    );

-- name: shred_keys
-- Destroys the data keys of recordings that have no object left in the bucket, and returns the facts for each
-- certificate.
select s.*
from
    private.shred_keys(
        %(claimed)s::uuid[],
        %(attempts)s::integer[],
        %(deletions)s::uuid[],
        %(keys)s::text[],
        %(deleted)s::timestamptz[],
        %(gone)s::timestamptz[]
    ) as s;

-- name: finish_deletions
-- Stores the signed certificates of deletions, and sets the status of the destroyed recordings to DELETED.
select private.finish_deletions(%(deletions)s::uuid[], %(documents)s::text[]);

-- name: fail_deletion
-- Stores why an attempt to destroy a recording failed and returns the number of attempts; returns null if another
-- attempt has taken over.
select private.fail_deletion(%(id)s, %(attempt)s, %(reason)s);

-- name: call_off_missing
-- Cancels the deletion of a recording that was marked missing although its object exists.
select private.call_off_missing(%(id)s);

-- name: keep_earlier_certificates
-- Stores the certificates of a recording's earlier destructions, which are in the ledger.
select private.keep_earlier_certificates(%(id)s, %(documents)s::text[]);

-- name: restored_recordings
-- Returns those of the given recordings that are not DELETED in this database. The status is null if the recording
-- does not exist.
select r.* from private.restored_recordings(%(recordings)s::uuid[]) as r;

-- name: unknown_object_keys
-- Returns the given object keys that belong to no recording, no import and no move of an object, as one array.
select private.unknown_object_keys(%(keys)s::text[]);

-- name: find_moved_object
-- Stores that a recording's object is under keep/ and returns true; returns false if no recording matches the object.
select private.find_moved_object(%(key)s, %(size_bytes)s);

-- name: repeat_deletion
-- Begins to destroy a recording again that a restore brought back; returns false if the recording may not be
-- destroyed now.
select private.repeat_deletion(%(recording_id)s, %(documents)s::text[]);

-- name: destroy_due_notes
-- Destroys due signed notes, and returns the facts for each certificate that is not stored yet.
select
    n.note_id,
    n.attempt,
    n.facts
from private.destroy_due_notes(%(by_clock)s, %(most)s) as n;

-- name: finish_note_destructions
-- Stores the signed certificates of destroyed notes, and sets the status of the notes to DESTROYED.
select private.finish_note_destructions(%(notes)s::uuid[], %(documents)s::text[]);

-- name: fail_note_destruction
-- Stores why the certificate of a note could not be made and returns the number of attempts; returns null if another
-- attempt has taken over.
select private.fail_note_destruction(%(id)s, %(attempt)s, %(reason)s);

-- name: keep_earlier_note_certificates
-- Stores the certificates of a note's earlier destructions, which are in the ledger.
select private.keep_earlier_note_certificates(%(id)s, %(documents)s::text[]);

-- name: restored_notes
-- Returns those of the given ids that are signed notes in this database, with their state.
select
    n.note_id,
    n.is_destroyed,
    n.is_held,
    n.is_begun
from private.restored_notes(%(ids)s::uuid[]) as n;

-- name: repeat_note_destruction
-- Makes a signed note due now that a restore brought back; returns false if it may not be destroyed now.
select private.repeat_note_destruction(%(id)s, %(documents)s::text[]);
