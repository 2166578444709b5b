-- name: begin
-- Begins to write a note, and returns the consultation, the data key and the duration of the recording; returns no row
-- if the caller may not see the recording.
select
    b.consultation_id,
    b.wrapped,
    b.root_key,
    b.duration_seconds
from private.begin_session_note(%(action)s, %(recording_id)s, %(new_keys)s, %(new_root_keys)s) as b;

-- name: add
-- Stores a new note.
select private.add_session_note(%(action)s, %(recording_id)s, %(note_id)s, %(start_ms)s, %(ciphertext)s);

-- name: begin_change
-- Begins to edit or to delete a note, and returns its newest version and the data key; returns no row if the caller may
-- not see the note.
select
    b.recording_id,
    b.consultation_id,
    b.wrapped,
    b.root_key,
    b.version,
    b.start_ms,
    b.ciphertext,
    b.changed_by,
    b.duration_seconds
from private.begin_note_change(%(action)s, %(note_id)s) as b;

-- name: change
-- Replaces the newest version of a note.
select private.change_session_note(%(action)s, %(note_id)s, %(based_on)s, %(start_ms)s, %(ciphertext)s);

-- name: delete
-- Deletes a note with all its versions.
select private.delete_session_note(%(action)s, %(note_id)s, %(based_on)s);

-- name: version
-- Returns a text that differs after each change of the consultation's session notes, or null if the caller may not see
-- the consultation.
select private.session_notes_version(%(consultation_id)s);
