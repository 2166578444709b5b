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

-- name: find_signed_notes
-- Returns the ids of a page of signed notes that the person may see, newest first, and one more. If the person asked by
-- patient, each row has the patient's id, and there is always a row.
select
    n.id,
    p.patient_id
from (
    select
        coalesce(
            %(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)
        ) as patient_id
) as p
left join lateral (
    select o.id, o.signed_at
    from (
        (
            select
                s.id,
                s.signed_at
            from resguardo.signed_notes as s
            where
                s.doctor_id = (select private.doctor())
                and (%(recording_id)s::uuid is null or s.recording_id = %(recording_id)s::uuid)
                and (p.patient_id is null or s.patient_id = p.patient_id)
                and (
                    %(before_at)s::timestamptz is null
                    or (s.signed_at, s.id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
                )
            order by s.signed_at desc, s.id desc
            limit (select %(page_size)s::bigint)
        )
        union all
        (
            select
                s.id,
                s.signed_at
            from resguardo.signed_notes as s
            where
                s.consultation_id = any((select private.shared_consultation_ids())::uuid[])
                and (%(recording_id)s::uuid is null or s.recording_id = %(recording_id)s::uuid)
                and (p.patient_id is null or s.patient_id = p.patient_id)
                and (
                    %(before_at)s::timestamptz is null
                    or (s.signed_at, s.id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
                )
            order by s.signed_at desc, s.id desc
            limit (select %(page_size)s::bigint)
        )
    ) as o
    order by o.signed_at desc, o.id desc
    limit (select %(page_size)s::bigint)
) as n on true
order by n.signed_at desc, n.id desc;
