-- The labels of consultations: a few words by which the doctor and the patient recognise a consultation. A label is
-- encrypted with the data key of the patient, and is deleted with this key.

create table private.consultation_labels (
    consultation_id uuid not null,
    patient_id uuid not null
    constraint consultation_labels_patient_key_fkey references private.patient_keys (patient_id) on delete cascade,
    ciphertext bytea not null
    constraint consultation_labels_ciphertext_length check (length(ciphertext) between 30 and 1024),
    changed_by uuid not null
    constraint consultation_labels_changed_by_fkey references resguardo.staff (user_id),
    changed_at timestamptz not null default private.now(),
    constraint consultation_labels_pkey primary key (consultation_id),
    constraint consultation_labels_consultation_fkey foreign key (consultation_id, patient_id)
    references resguardo.consultations (id, patient_id)
);
comment on table private.consultation_labels is
'The encrypted label of each consultation that has one. It is deleted with the data key of the patient.';
create index consultation_labels_patient_idx on private.consultation_labels (patient_id);
create index consultation_labels_consultation_idx on private.consultation_labels (consultation_id, patient_id);
create index consultation_labels_changed_by_idx on private.consultation_labels (changed_by);

-- Returns the encrypted label of a consultation with the patient's wrapped data key, to the doctor and the patient of
-- the consultation. Returns null for everybody else, and for a consultation without a label.
create function private.label_of(of_consultation uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_label jsonb;
begin
    perform private.require_person();
    if current_setting('role') not in ('clinician', 'patient') then
        return null;
    end if;
    select jsonb_build_object(
        'consultation_id', l.consultation_id, 'patient_id', l.patient_id,
        'ciphertext', encode(l.ciphertext, 'base64'), 'wrapped', encode(k.wrapped_key, 'base64'),
        'root_key', k.root_key_id
    )
    into found_label
    from private.consultation_labels as l
    inner join private.patient_keys as k on k.patient_id = l.patient_id
    where l.consultation_id = of_consultation and private.is_own_consultation(of_consultation);
    if found_label is not null then
        perform private.require_audit_of('label', 'consultation.read', 'consultation', of_consultation);
    end if;
    return found_label;
end
$$;

-- Returns whether a consultation had recordings, and all of them and its signed notes are destroyed.
create function private.is_consultation_destroyed(of_consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.recordings as r where r.consultation_id = of_consultation and r.status = 'DELETED'
    ) and not exists (
        select from resguardo.recordings as r
        where r.consultation_id = of_consultation and r.status not in ('DELETED', 'ABORTED')
    ) and not exists (
        select from resguardo.signed_notes as n where n.consultation_id = of_consultation and n.status <> 'DESTROYED'
    );
end
$$;

-- Begins to change the label of a consultation of the calling doctor: locks the consultation, and returns the data key
-- of the patient and the current label. If the patient has no key, the function stores the offered one. Without an
-- offered key, as for the removal of a label, it makes none. The commit writes the audit row. Returns no row if the
-- consultation does not exist or the caller may not see it. Raises RG409 (recording_deleted, root_key_unknown), RG429
-- (quota_pages).
create function private.begin_label(of_consultation uuid, offered bytea, offered_root_key text)
returns table (patient_id uuid, wrapped bytea, root_key text, ciphertext bytea)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    patient uuid;
begin
    perform private.use_quota(doctor, 'pages');
    if private.is_own_consultation(of_consultation) then
        select c.patient_id into patient from resguardo.consultations as c
        where c.id = of_consultation for no key update;
    end if;
    if patient is null then
        perform private.write_lookup(
            'consultation.set_label', 'consultation', 'consultation', of_consultation, false, '[]', '{}', '{}', 0,
            array['label']
        );
        return;
    end if;
    if offered is not null and private.is_consultation_destroyed(of_consultation) then
        raise exception 'recording_deleted' using errcode = 'RG409';
    end if;
    perform private.write_audit_later(
        'consultation.set_label', null, 'consultation', of_consultation, patient, of_consultation, array['label'], null
    );
    if offered is not null then
        perform private.make_patient_key(patient, of_consultation, offered, offered_root_key);
    end if;
    return query
    select patient, k.wrapped_key, k.root_key_id, l.ciphertext
    from (select patient as id) as p
    left join private.patient_keys as k on k.patient_id = p.id and offered is not null
    left join private.consultation_labels as l on l.consultation_id = of_consultation;
end
$$;

-- Stores or removes (null) the label of a consultation, whose change this transaction has begun. Raises RG403
-- (reserved_action).
create function private.store_label(of_consultation uuid, new_ciphertext bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    perform private.require_begun('consultation.set_label', of_consultation);
    if new_ciphertext is null then
        delete from private.consultation_labels as l where l.consultation_id = of_consultation;
        return;
    end if;
    insert into private.consultation_labels as l (consultation_id, patient_id, ciphertext, changed_by)
    select c.id, c.patient_id, new_ciphertext, doctor from resguardo.consultations as c where c.id = of_consultation
    on conflict (consultation_id) do update
    set ciphertext = excluded.ciphertext, changed_by = excluded.changed_by, changed_at = private.now();
end
$$;

-- Deletes the label of a consultation when the last of its recordings and signed notes is destroyed. Then destroys the
-- data key of the patient if it encrypts nothing any more.
create function private.delete_label() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not private.is_consultation_destroyed(new.consultation_id) then
        return null;
    end if;
    delete from private.consultation_labels as l where l.consultation_id = new.consultation_id;
    if not found then
        return null;
    end if;
    perform from private.patient_keys as k where k.patient_id = new.patient_id for update;
    delete from private.patient_keys as k
    where k.patient_id = new.patient_id
        and not exists (select from private.consultation_labels as l where l.patient_id = k.patient_id)
        and not exists (select from private.patient_texts as x where x.patient_id = k.patient_id)
        and not exists (
            select from private.signed_note_texts as t
            inner join resguardo.signed_notes as n on n.id = t.note_id
            where n.patient_id = k.patient_id
        );
    if found then
        perform private.write_audit(
            'patient.destroy_key', 'ALLOWED', null, 'patient', array[new.patient_id], array[new.patient_id],
            array[new.consultation_id], array['data_key'], 1, null
        );
    end if;
    return null;
end
$$;

create trigger recordings_delete_label after update of status on resguardo.recordings
for each row when (new.status = 'DELETED' and old.status <> 'DELETED') execute function private.delete_label();

create trigger signed_notes_delete_label after update of status on resguardo.signed_notes
for each row when (new.status = 'DESTROYED' and old.status <> 'DESTROYED') execute function private.delete_label();
