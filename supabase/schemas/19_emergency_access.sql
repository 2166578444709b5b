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
'When the clinician last used the access. The access is not valid while the database''s clock is before this time.';
comment on column resguardo.emergency_accesses.ended_at is
'When the access ended before its term because the clinician was suspended or got another role. Null otherwise.';
create index emergency_accesses_patient_idx on resguardo.emergency_accesses (patient_id);
create index emergency_accesses_clinician_idx on resguardo.emergency_accesses (clinician_id, ends_at);
create index emergency_accesses_began_idx on resguardo.emergency_accesses (began_at desc, id desc);

-- Returns the patients whom a clinician may see now in an emergency. An access is not valid while the clock is before
-- the time of the access's last use, so a clock that jumps back does not prolong it.
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
    );
end
$$;

-- Returns the consultations of other doctors that a clinician sees now by an emergency access: those whose
-- participants consent to a text that names it. A sensitive consultation needs an authorization of the patient, too.
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
            and (c.sensitivity = 'ORDINARY' or private.authorized_until(c.id, null) is not null)
            and private.consents_to_sharing(c.id)
    );
end
$$;

-- Stores the current time as the last use of a clinician's emergency access to these patients. If the clock then jumps
-- back, the access is not valid until the clock has passed this time again.
create function private.note_emergency_use(clinician uuid, patients uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
begin
    update resguardo.emergency_accesses as e set seen_at = moment
    where e.clinician_id = clinician and e.patient_id = any(patients) and e.ended_at is null and e.ends_at > moment
        and e.seen_at < moment;
end
$$;

-- Gives the caller access to the patient with an external id for one hour, and returns the id of the access. The same
-- transaction writes the audit row, opens the review case and opens the alert. If the caller has such an access
-- already, the function returns that access and does not prolong it. The session's TOTP code must be at most 5 minutes
-- old. Returns null, and writes an audit row, if no such patient exists. Raises RG403 (totp_stale), RG429
-- (quota_emergencies), RG409 (emergency_own_patient).
create function private.break_glass(of_external_id text, of_reason text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor uuid := private.doctor();
    moment timestamptz;
    patient uuid;
    access uuid;
    event uuid;
begin
    perform private.require_recent_totp(300);
    perform private.use_quota(doctor, 'emergencies');
    perform from resguardo.staff as s where s.user_id = doctor for no key update;
    doctor := private.doctor();  -- checked again under the lock because the doctor may have been suspended
    moment := private.now();
    patient := (select p.id from resguardo.patients as p where p.external_id = of_external_id);
    if patient is null then
        perform private.write_audit(
            'patient.break_glass', 'ABSENT', 'not_found', 'patient', '{}', '{}', '{}', array['reason'], 0, null
        );
        return null;
    elsif exists (
        select from resguardo.consultations as c where c.patient_id = patient and c.doctor_id = doctor
    ) then
        raise exception 'emergency_own_patient' using errcode = 'RG409';
    end if;
    select e.id into access from resguardo.emergency_accesses as e
    where e.clinician_id = doctor and e.patient_id = patient and e.ended_at is null
        and e.ends_at > moment and e.began_at <= moment and e.seen_at <= moment;
    if access is not null then
        perform private.write_audit_of_entities(
            'patient.break_glass', 'ALLOWED', 'repeated',
            private.entities_of('emergency_access', array[access])
            || private.entities_of('patient', array[patient]),
            array[patient], '{}', array['reason'], 1, null
        );
        return access;
    end if;
    insert into resguardo.emergency_accesses as e (clinician_id, patient_id, reason, began_at, ends_at, seen_at)
    values (doctor, patient, of_reason, moment, moment + interval '1 hour', moment)
    returning e.id into access;
    event := private.write_audit_of_entities(
        'patient.break_glass', 'ALLOWED', lower(of_reason),
        private.entities_of('emergency_access', array[access]) || private.entities_of('patient', array[patient]),
        array[patient],
        array(
            select c.id from resguardo.consultations as c
            where c.patient_id = patient and c.id = any(private.consultations_in_emergency(doctor))
        ),
        array['reason', 'endsAt'], 1, null
    );
    perform private.open_case('break_glass', doctor, array[patient], '{}', array[event], access::text);
    perform private.open_alert('EMERGENCY_ACCESS', access::text, 'emergency_access', array[access]);
    return access;
end
$$;
