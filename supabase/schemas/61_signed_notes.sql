-- Signed notes: the notes that doctors signed, and their addenda. A signed note is encrypted with the data key of the
-- patient, so it outlives the recording, and is destroyed when its own retention term has passed.

create table resguardo.signed_notes (
    id uuid primary key,
    recording_id uuid not null constraint signed_notes_recording_id_key unique,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    status text not null default 'KEPT'
    constraint signed_notes_status_is_known check (status in ('KEPT', 'DESTROYING', 'DESTROYED')),
    signed_at timestamptz not null,
    version_count integer not null default 0
    constraint signed_notes_version_count_range check (version_count between 0 and 100),
    quote_count integer not null default 0 constraint signed_notes_quote_count_is_count check (quote_count >= 0),
    term_from timestamptz not null,
    due_at timestamptz,
    retention_policy integer
    constraint signed_notes_retention_policy_fkey references resguardo.retention_policies (id),
    constraint signed_notes_identity_key unique (id, consultation_id, doctor_id, patient_id),
    constraint signed_notes_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint signed_notes_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade
);
alter table resguardo.signed_notes enable row level security;
comment on column resguardo.signed_notes.version_count is
'The signed note is version 1, and each addendum is a version.';
comment on column resguardo.signed_notes.quote_count is 'How many quotes of the recording all versions keep.';
comment on column resguardo.signed_notes.term_from is 'When the newest version was signed. The term counts from it.';
create index signed_notes_recording_idx on resguardo.signed_notes (recording_id, consultation_id);
create index signed_notes_consultation_idx on resguardo.signed_notes (consultation_id, doctor_id, patient_id);
create index signed_notes_doctor_idx on resguardo.signed_notes (doctor_id, signed_at desc, id desc);
create index signed_notes_patient_idx on resguardo.signed_notes (patient_id, signed_at desc, id desc);
create index signed_notes_policy_idx on resguardo.signed_notes (retention_policy);
create index signed_notes_due_idx on resguardo.signed_notes (due_at) where status = 'KEPT';

create table resguardo.signed_note_versions (
    note_id uuid not null,
    version integer not null constraint signed_note_versions_version_is_positive check (version > 0),
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    signed_at timestamptz not null,
    sha256 text not null constraint signed_note_versions_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes integer not null constraint signed_note_versions_size_is_positive check (size_bytes > 0),
    quote_count integer not null constraint signed_note_versions_quote_count_is_count check (quote_count >= 0),
    constraint signed_note_versions_pkey primary key (note_id, version),
    constraint signed_note_versions_note_fkey foreign key (note_id, consultation_id, doctor_id, patient_id)
    references resguardo.signed_notes (id, consultation_id, doctor_id, patient_id) on update cascade
);
alter table resguardo.signed_note_versions enable row level security;
comment on table resguardo.signed_note_versions is
'The SHA-256 of each signed file. The file contains a random salt, so nobody can guess a note from its hash.';
create index signed_note_versions_note_idx
on resguardo.signed_note_versions (note_id, consultation_id, doctor_id, patient_id);
create index signed_note_versions_doctor_idx on resguardo.signed_note_versions (doctor_id);
create index signed_note_versions_patient_idx on resguardo.signed_note_versions (patient_id);

create table private.signed_note_texts (
    note_id uuid not null,
    version integer not null,
    ciphertext bytea not null
    constraint signed_note_texts_ciphertext_length check (length(ciphertext) between 29 and 16777216),
    constraint signed_note_texts_pkey primary key (note_id, version),
    constraint signed_note_texts_version_fkey foreign key (note_id, version)
    references resguardo.signed_note_versions (note_id, version)
);
comment on table private.signed_note_texts is 'Each signed file, encrypted with the data key of the patient.';

-- Begins the signature of a version of a note, and returns what the signed file must contain and the data key of the
-- patient, which is `offered` if the patient has none yet. Version 1 is the note, and each later version an addendum.
-- Version 1 needs the recording; an addendum does not. The transaction must then call store_signed_note(), and its
-- commit writes the audit row. If the call repeats an earlier one, the transaction stores nothing, and the audit row
-- has the reason `repeated` and no digest. Returns no row if the recording does not belong to the caller; the function
-- then writes an audit row with DENIED or ABSENT. The session's TOTP code must be no older than the given maximum age.
-- Raises RG403 (totp_stale), RG409 (recording_being_deleted, recording_deleted, signed_note_destroyed,
-- signed_note_version_taken, signed_note_full).
create function private.begin_signing(
    of_recording uuid, of_version integer, totp_max_age_seconds integer, offered bytea, offered_root_key text
) returns table (
    note_id uuid, patient_id uuid, consultation_id uuid, signed_at timestamptz, wrapped bytea, root_key text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    action constant text := case of_version when 1 then 'note.sign' else 'note.add_addendum' end;
    wanted resguardo.recordings;
    note resguardo.signed_notes;
    note_of_version uuid;
begin
    perform private.require_recent_totp(totp_max_age_seconds);
    select r.* into wanted from resguardo.recordings as r
    where r.id = of_recording and r.doctor_id = doctor and r.medium = 'VIDEO' for no key update;
    if wanted.id is null then
        perform private.write_lookup(
            action, 'recording', 'recording', of_recording, false, '[]', '{}', '{}', 0, array['signedNote']
        );
        return;
    end if;
    select n.* into note from resguardo.signed_notes as n where n.recording_id = of_recording for update;
    if note.id is not null and note.status <> 'KEPT' then
        raise exception 'signed_note_destroyed' using errcode = 'RG409';
    elsif of_version is distinct from coalesce(note.version_count, 0) + 1 then
        raise exception 'signed_note_version_taken' using errcode = 'RG409';
    elsif of_version > 100 then
        raise exception 'signed_note_full' using errcode = 'RG409';
    elsif note.id is null and wanted.status = 'DELETED' then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif note.id is null and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    note_of_version := coalesce(note.id, gen_random_uuid());
    perform private.write_audit_later(
        action, 'repeated', 'signed_note', note_of_version, wanted.patient_id, wanted.consultation_id,
        array['signedNote'], null
    );
    perform private.make_patient_key(wanted.patient_id, wanted.consultation_id, offered, offered_root_key);
    return query
    select note_of_version, wanted.patient_id, wanted.consultation_id, private.now(), k.wrapped_key, k.root_key_id
    from private.patient_keys as k where k.patient_id = wanted.patient_id;
end
$$;

-- Stores the version of a note whose signature began in this transaction: its metadata, its ciphertext, and in the
-- pending audit row the SHA-256 of the signed file. The note's retention term then counts from this version. Raises
-- RG409 (note_quotes_not_permitted) if the version has quotes and the consents do not allow quotes in signed notes.
create function private.store_signed_note(
    of_note uuid, of_recording uuid, of_version integer, of_signed_at timestamptz, new_ciphertext bytea, of_sha256 text,
    of_size integer, of_quotes integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    about resguardo.recordings;
begin
    lock table resguardo.signed_notes in row exclusive mode;
    select r.* into about from resguardo.recordings as r where r.id = of_recording and r.doctor_id = doctor;
    update private.pending_audit_rows as p set digest = of_sha256, byte_count = of_size, reason = null
    where p.transaction_id = pg_current_xact_id() and p.entity_type = 'signed_note' and p.entity_id = of_note
        and p.action = case of_version when 1 then 'note.sign' else 'note.add_addendum' end;
    if not found or about.id is null
        or of_signed_at not between private.now() - interval '5 minutes' and private.now()
    then
        raise exception 'signature_not_begun' using errcode = 'RG403';
    elsif of_quotes > 0 and private.consent_objection(about.consultation_id) is not null then
        raise exception 'note_quotes_not_permitted' using errcode = 'RG409';
    end if;
    insert into resguardo.signed_notes as n (
        id, recording_id, consultation_id, doctor_id, patient_id, signed_at, term_from, retention_policy
    ) values (
        of_note, of_recording, about.consultation_id, about.doctor_id, about.patient_id, of_signed_at, of_signed_at,
        (private.active_policy()).id
    )
    on conflict (recording_id) do nothing;
    update resguardo.signed_notes as n
    set version_count = of_version, quote_count = n.quote_count + of_quotes,
        term_from = greatest(n.term_from, of_signed_at, private.latest_time())
    where n.id = of_note and n.version_count = of_version - 1 and n.status = 'KEPT';
    if not found then
        raise exception 'signed_note_version_taken' using errcode = 'RG409';
    end if;
    insert into resguardo.signed_note_versions (
        note_id, version, consultation_id, doctor_id, patient_id, signed_at, sha256, size_bytes, quote_count
    ) values (
        of_note, of_version, about.consultation_id, about.doctor_id, about.patient_id, of_signed_at, of_sha256, of_size,
        of_quotes
    );
    insert into private.signed_note_texts (note_id, version, ciphertext) values (of_note, of_version, new_ciphertext);
    perform from resguardo.patients as p where p.id = about.patient_id for share;
    perform private.date_signed_notes(of_note, null);
end
$$;

-- Computes the due date of one signed note, of all signed notes of a patient, or, if both are null, of all signed notes
-- to which the active retention policy applies. A due date of a note never becomes earlier, unless a policy that
-- applies to existing records shortens it; it then becomes no earlier than now. Returns the notes whose due date has
-- changed.
create function private.date_signed_notes(of_note uuid, of_patient uuid) returns uuid[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    active constant resguardo.retention_policies := private.active_policy();
    is_for_all constant boolean := of_note is null and of_patient is null;
    dated uuid[];
begin
    with dates as (
        select n.id, p.id as policy_id, n.due_at as due_before,
            private.due_of(p.terms, c.kind, s.birth_date, n.term_from, 'signed_note_days') as due_after
        from resguardo.signed_notes as n
        inner join resguardo.consultations as c on c.id = n.consultation_id
        inner join resguardo.patients as s on s.id = n.patient_id
        inner join resguardo.retention_policies as p on p.id = case
            when n.retention_policy is null or (is_for_all and (active.terms ->> 'applies_to_existing')::boolean)
                then active.id
            else n.retention_policy
        end
        where n.status = 'KEPT' and (of_note is null or n.id = of_note)
            and (of_patient is null or n.patient_id = of_patient)
    ),

    changed as (
        update resguardo.signed_notes as n
        set retention_policy = d.policy_id,
            due_at = case
                when is_for_all then greatest(d.due_after, least(d.due_before, private.now()))
                else greatest(d.due_after, d.due_before)
            end
        from dates as d
        where n.id = d.id
            and (n.retention_policy is distinct from d.policy_id or n.due_at is distinct from d.due_after)
        returning n.id
    )

    select array_agg(c.id) into dated from changed as c;
    return coalesce(dated, '{}');
end
$$;

-- Returns whether the audit log has a signature of a file with this hash, in this consultation.
create function private.is_signature_logged(of_consultation uuid, of_sha256 text) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from audit.events as e
        where e.digest = of_sha256 and e.consultation_ids @> array[of_consultation]
            and e.action in ('note.sign', 'note.add_addendum')
    );
end
$$;

-- Writes the audit row, and returns the versions of those signed notes in `shown` that the caller sees, oldest version
-- first, with their ciphertexts and the data key of the patient. `asked` is the recording or the patient by which the
-- doctor asked, or null for all notes. `is_logged` says whether the audit log has the hash of the version. A destroyed
-- note has no ciphertext and no key. Raises RG409 (signed_note_shared) if the caller asks for the PDF or a signed file
-- of another doctor's note, because a share or an emergency access never permits a download.
create function private.read_signed_notes(asked_type text, asked uuid, shown jsonb, of_fields text[])
returns table (
    note_id uuid, status text, patient_id uuid, consultation_id uuid, recording_id uuid, version integer,
    signed_at timestamptz, sha256 text, quote_count integer, is_logged boolean, ciphertext bytea, wrapped bytea,
    root_key text, has_notice boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    others constant uuid[] := private.shared_consultation_ids();
    ids uuid[];
    patients uuid[];
    consultations uuid[];
begin
    perform private.use_quota(doctor, 'pages');
    select array_agg(n.id), array_agg(distinct n.patient_id), array_agg(distinct n.consultation_id)
    into ids, patients, consultations
    from resguardo.signed_notes as n
    where (n.doctor_id = doctor or n.consultation_id = any(others)) and n.id in (
        select (i.id)::uuid
        from jsonb_array_elements(shown) as e (entry)
        cross join lateral jsonb_array_elements_text(e.entry -> 'ids') as i (id)
        where e.entry ->> 'type' = 'signed_note'
    );
    if of_fields && array['pdfBase64', 'versions.json'] and exists (
        select from resguardo.signed_notes as n where n.id = any(ids) and n.doctor_id <> doctor
    ) then
        raise exception 'signed_note_shared' using errcode = 'RG409';
    end if;
    perform private.write_lookup(
        'note.read', case asked_type when 'recording' then 'recording' else 'signed_note' end,
        coalesce(asked_type, 'signed_note'), asked,
        exists (
            select from resguardo.consultations as c
            where asked_type = 'patient' and c.patient_id = asked and (c.doctor_id = doctor or c.id = any(others))
        ) or exists (
            select from resguardo.recordings as r
            where asked_type = 'recording' and r.id = asked
                and (r.doctor_id = doctor or r.consultation_id = any(others))
        ),
        shown, patients, consultations, coalesce(cardinality(ids), 0), of_fields
    );
    return query
    select
        n.id, n.status, n.patient_id, n.consultation_id, n.recording_id, v.version, v.signed_at, v.sha256,
        v.quote_count,
        private.is_signature_logged(n.consultation_id, v.sha256),
        t.ciphertext, k.wrapped_key, k.root_key_id,
        exists (
            select from resguardo.consultations as c
            where c.id = n.consultation_id and c.sensitivity = 'SUBSTANCE_USE'
        )
    from resguardo.signed_notes as n
    inner join resguardo.signed_note_versions as v on v.note_id = n.id
    left join private.signed_note_texts as t on t.note_id = v.note_id and t.version = v.version
    left join private.patient_keys as k on k.patient_id = n.patient_id and t.note_id is not null
    where n.id = any(ids)
    order by n.id, v.version;
end
$$;
