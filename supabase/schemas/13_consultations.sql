-- Consultations.
--
-- Every table that belongs to a consultation repeats the consultation's doctor and patient, and a composite foreign
-- key keeps the three columns consistent. Because of these repeated columns, a row-level security policy reads only
-- columns of the row that it checks. A reassignment changes the doctor of the consultation, and the foreign keys change
-- the repeated columns (on update cascade).

create table resguardo.consultations (
    id uuid primary key,
    external_id text not null constraint consultations_external_id_key unique
    constraint consultations_external_id_length check (length(external_id) between 1 and 128),
    doctor_id uuid not null constraint consultations_doctor_id_fkey references resguardo.staff (user_id),
    conducted_by uuid constraint consultations_conducted_by_fkey references resguardo.staff (user_id),
    patient_id uuid not null constraint consultations_patient_id_fkey references resguardo.patients (id),
    scheduled_at timestamptz not null,
    kind text not null constraint consultations_kind_is_slug check (kind ~ '^[a-z][a-z0-9_]{0,39}$'),
    sensitivity text not null
    constraint consultations_sensitivity_is_known check (
        sensitivity in ('ORDINARY', 'PSYCHOTHERAPY', 'SUBSTANCE_USE')
    ),
    room_name text not null constraint consultations_room_name_key unique,
    created_at timestamptz not null default now(),
    auto_record boolean not null default false,
    separate_speakers boolean not null default false,
    transcribe boolean,
    is_transcribed boolean not null
    generated always as (coalesce(transcribe, sensitivity = 'ORDINARY')) stored,
    language text
    constraint consultations_language_is_known check (language in ('EN', 'ES', 'MIXED')),
    constraint consultations_people_key unique (id, doctor_id, patient_id),
    constraint consultations_room_is_own check (right(room_name, 37) = '_' || id::text),
    constraint consultations_of_patient_key unique (id, patient_id)
);
alter table resguardo.consultations enable row level security;
comment on column resguardo.consultations.conducted_by is
'The doctor who held a consultation that was later reassigned to another doctor. Null if it was not.';
comment on column resguardo.consultations.auto_record is
'Recording starts once, by itself, when doctor and patient are in the room and every participant consents.';
comment on column resguardo.consultations.separate_speakers is
'Whether the sound of each microphone is recorded separately beside the video.';
comment on column resguardo.consultations.language is
'The spoken language, as the doctor stated it; null if not stated.';
comment on column resguardo.consultations.transcribe is 'The doctor''s choice; null for the default.';
comment on column resguardo.consultations.is_transcribed is
'Whether the recordings are transcribed. The default is true, unless the consultation kind is sensitive.';
create index consultations_conducted_by_idx on resguardo.consultations (conducted_by);
create index consultations_doctor_idx on resguardo.consultations (doctor_id, scheduled_at desc, id desc);
create index consultations_doctor_patient_idx
on resguardo.consultations (doctor_id, patient_id, scheduled_at desc, id desc);
create index consultations_patient_idx on resguardo.consultations (patient_id, scheduled_at desc, id desc);
create index consultations_scheduled_idx on resguardo.consultations (scheduled_at desc, id desc);

-- Notifies the API's subscriptions of a change, when the transaction commits. The notification contains only ids: of
-- the consultation, of its doctor, and of the recording that changed, if a recording changed. A change of a sound
-- recording, a transcript, insights, a clip or a deletion is a change of its video.
create function private.announce_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    consultation uuid;
    recording uuid;
begin
    if tg_table_name = 'consultations' then
        consultation := new.id;
    else
        consultation := new.consultation_id;
    end if;
    if tg_table_name = 'recordings' then
        recording := coalesce(new.video_id, new.id);
    elsif tg_table_name in ('transcripts', 'insights', 'deletions', 'clips') then
        recording := new.recording_id;
        new.changed_at := private.now();
    end if;
    perform pg_notify('resguardo_changes', concat_ws(' ', consultation, new.doctor_id, recording));
    return new;
end
$$;

create trigger consultations_announce after update on resguardo.consultations
for each row when (new is distinct from old) execute function private.announce_change();

-- Returns whether the caller is the doctor or the patient of the consultation.
create function private.is_own_consultation(consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    patient uuid;
    doctor uuid;
begin
    if current_setting('role') = 'patient' then
        patient := private.patient();
        return exists (select from resguardo.consultations as c where c.id = consultation and c.patient_id = patient);
    end if;
    doctor := private.doctor();
    return exists (select from resguardo.consultations as c where c.id = consultation and c.doctor_id = doctor);
end
$$;

-- Raises RG404 (consultation_not_found) if a person names another person's consultation or one that does not exist. A
-- service, or a function that runs without a person's claims, may name any consultation.
create function private.require_own_consultation(consultation uuid) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('role') in ('clinician', 'compliance', 'patient')
        and not private.is_own_consultation(consultation)
    then
        raise exception 'consultation_not_found' using errcode = 'RG404';
    end if;
end
$$;

-- Locks a consultation's row, so that consents, joins and starts of recordings in one consultation happen one after
-- the other. A person who may not see the consultation gets no lock, so a stranger cannot delay the consultation.
create function private.lock_consultation(consultation uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if private.is_own_consultation(consultation) then
        perform from resguardo.consultations as c where c.id = consultation for update;
    end if;
end
$$;

-- Returns the id of the consultation with an external id, even if the caller may not see it, so that the audit row of a
-- lookup can say DENIED. Returns the max UUID (RFC 9562), which belongs to nobody, if no such consultation exists, and
-- null for null.
create function private.consultation_id_of(of_external_id text) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_person();
    if of_external_id is null then
        return null;
    end if;
    return coalesce(
        (select c.id from resguardo.consultations as c where c.external_id = of_external_id),
        'ffffffff-ffff-ffff-ffff-ffffffffffff'
    );
end
$$;
