-- Emergency access ("break-glass"): a clinician sees another doctor's patient for at most one hour.

create table resguardo.emergency_accesses (
    id uuid primary key default gen_random_uuid(),
    clinician_id uuid not null
    constraint emergency_accesses_clinician_id_fkey references resguardo.staff (user_id),
    patient_id uuid not null constraint emergency_accesses_patient_id_fkey references resguardo.patients (id),
    reason text not null
    constraint emergency_accesses_reason_is_known check (
        reason in ('MEDICAL_EMERGENCY', 'RISK_OF_HARM', 'DOCTOR_UNREACHABLE', 'DISASTER')
    ),
    began_at timestamptz not null,
    ends_at timestamptz not null,
    seen_at timestamptz not null,
    ended_at timestamptz,
    constraint emergency_accesses_term_is_an_hour check (
        ends_at > began_at and ends_at <= began_at + interval '1 hour'
    )
);
alter table resguardo.emergency_accesses enable row level security;
comment on column resguardo.emergency_accesses.ends_at is
'The end of the access by the database''s clock, at most one hour after it began.';
comment on column resguardo.emergency_accesses.seen_at is
'The latest time at which the access was used. While the database''s clock is before this time, it gives no access.';
comment on column resguardo.emergency_accesses.ended_at is
'When the clinician''s suspension ended the access before its term; null if nothing did.';
create index emergency_accesses_patient_idx on resguardo.emergency_accesses (patient_id);
create index emergency_accesses_clinician_idx on resguardo.emergency_accesses (clinician_id, ends_at);
create index emergency_accesses_began_idx on resguardo.emergency_accesses (began_at desc, id desc);

-- Returns the patients whom a clinician may see now in an emergency. A clock that jumps back does not prolong an
-- access: it gives no access while the clock is before the time of its last use.
create function private.patients_in_emergency(clinician uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
begin
    return array(
        select e.patient_id from resguardo.emergency_accesses as e
        where e.clinician_id = clinician and e.ended_at is null and e.ends_at > moment
            and e.began_at <= moment and e.seen_at <= moment
            and e.ends_at > private.latest_time()
    );
end
$$;

-- Returns the consultations of other doctors that a clinician sees now by an emergency access: those whose
-- participants consent to a text that names it. A sensitive kind of consultation is left out.
create function private.consultations_in_emergency(clinician uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    patients constant uuid[] := private.patients_in_emergency(clinician);
begin
    if patients = '{}' then
        return '{}';
    end if;
    return array(
        select c.id from resguardo.consultations as c
        where c.patient_id = any(patients) and c.doctor_id <> clinician
            and c.sensitivity = 'ORDINARY' and private.consents_to_sharing(c.id)
    );
end
$$;
