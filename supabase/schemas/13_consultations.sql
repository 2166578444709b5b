-- Consultations.
--
-- Every table that belongs to a consultation repeats the consultation's doctor and patient, and a composite foreign key
-- keeps the three together. A policy therefore reads columns of the row itself.

create table resguardo.consultations (
    id uuid primary key,
    external_id text not null constraint consultations_external_id_key unique
    constraint consultations_external_id_length check (length(external_id) between 1 and 128),
    doctor_id uuid not null constraint consultations_doctor_id_fkey references resguardo.staff (user_id),
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
comment on column resguardo.consultations.auto_record is
'Recorded as soon as the doctor and the patient are in the room and everybody consents, once.';
comment on column resguardo.consultations.separate_speakers is
'Beside the video the sound of each microphone is recorded apart.';
comment on column resguardo.consultations.language is
'The language that is spoken, as the doctor gave it; null if nobody did.';
comment on column resguardo.consultations.transcribe is 'What the doctor said of it; null is the default.';
comment on column resguardo.consultations.is_transcribed is
'Whether its recordings are turned into words: by default, unless the kind is sensitive.';
create index consultations_doctor_idx on resguardo.consultations (doctor_id, scheduled_at desc, id desc);
create index consultations_patient_idx on resguardo.consultations (patient_id, scheduled_at desc, id desc);

-- A person asks about consultations of their own alone; a service, or a function on nobody's behalf, about any. Raises
-- RG403 (not_own_consultation) for a hidden one and an unknown one alike.
create function private.require_own_consultation(consultation uuid) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person uuid;
begin
    if current_setting('role') not in ('clinician', 'compliance', 'patient') then
        return;
    end if;
    person := private.require_person();
    if not exists (
        select
        from resguardo.consultations as c
        join resguardo.patients as p on p.id = c.patient_id
        where c.id = consultation
            and case current_setting('role') when 'patient' then p.user_id else c.doctor_id end = person
    ) then
        raise exception 'not_own_consultation' using errcode = 'RG403';
    end if;
end
$$;

-- Takes the lock under which consents, joins and starts of one consultation happen one after the other. Whoever may not
-- see the consultation locks nothing: a stranger cannot hold it up.
create function private.lock_consultation(consultation uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
begin
    perform
    from resguardo.consultations as c
    join resguardo.patients as p on p.id = c.patient_id
    where c.id = consultation and person in (c.doctor_id, p.user_id)
    for update of c;
end
$$;

-- Which consultation has that external id, hidden or not, for the audit row of a look that found nothing; the nil UUID
-- where there is none.
create function private.consultation_id_of(of_external_id text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_person();
    return coalesce(
        (select c.id from resguardo.consultations as c where c.external_id = of_external_id),
        '00000000-0000-0000-0000-000000000000'
    );
end
$$;
