-- name: begin_signing
-- Begins the signature of a version of a note, and returns what its file must contain and the patient's data key; no
-- row if the recording does not belong to the caller.
select
    s.note_id,
    s.patient_id,
    s.consultation_id,
    s.signed_at,
    s.wrapped,
    s.root_key
from
    private.begin_signing(
        %(recording_id)s, %(version)s, %(totp_max_age_seconds)s, %(wrapped)s, %(root_key_id)s
    ) as s;

-- name: store_signed_note
-- Stores a signed version, encrypted, and adds the SHA-256 of its file to the audit row of the signature.
select
    private.store_signed_note(
        %(note_id)s, %(recording_id)s, %(version)s, %(signed_at)s, %(ciphertext)s, %(sha256)s, %(size_bytes)s,
        %(quote_count)s
    );
