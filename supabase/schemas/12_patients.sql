-- Patients, and the rule that a login is either a member of staff or a patient.

create table resguardo.patients (
    id uuid primary key default gen_random_uuid(),
    external_id text not null constraint patients_external_id_key unique
    constraint patients_external_id_length check (length(external_id) between 1 and 128),
    user_id uuid constraint patients_user_id_key unique,
    created_at timestamptz not null default now(),
    birth_date date,
    constraint patients_birth_date_is_possible check (birth_date >= date '1900-01-01')
);
alter table resguardo.patients enable row level security;
comment on column resguardo.patients.birth_date is
'Determines the retention term of a minor''s recordings; null for an adult.';

-- Returns the id of the patient with an external id, even if the caller may not see the patient, so that the audit row
-- of a lookup can say DENIED. Returns the max UUID (RFC 9562), which belongs to nobody, if no such patient exists, and
-- null for null.
create function private.patient_id_of(of_external_id text) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_person();
    if of_external_id is null then
        return null;
    end if;
    return coalesce(
        (select p.id from resguardo.patients as p where p.external_id = of_external_id),
        'ffffffff-ffff-ffff-ffff-ffffffffffff'
    );
end
$$;

-- Locks a login, so that no other transaction makes the login a patient or a member of staff at the same moment.
create function private.lock_login(login uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('resguardo.login ' || login::text, 0));
end
$$;

-- Raises RG409 (login_is_patient) if a member of staff would get a patient's login, and RG409 (patient_user_unknown)
-- if a patient would get the login of a member of staff.
create function private.guard_login() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if new.user_id is null then
        return new;
    end if;
    perform private.lock_login(new.user_id);
    if tg_table_name = 'staff' and exists (select from resguardo.patients as p where p.user_id = new.user_id) then
        raise exception 'login_is_patient' using errcode = 'RG409';
    elsif tg_table_name = 'patients' and exists (select from resguardo.staff as s where s.user_id = new.user_id) then
        raise exception 'patient_user_unknown' using errcode = 'RG409';
    end if;
    return new;
end
$$;

create trigger staff_guard_login before insert or update of user_id on resguardo.staff
for each row execute function private.guard_login();

create trigger patients_guard_login before insert or update of user_id on resguardo.patients
for each row execute function private.guard_login();

-- Returns the patient with an external id, and creates the patient if none exists. A login is linked to a patient
-- only when the patient is created. Every later doctor must name the patient's login again, so no consultation
-- becomes visible to a login that its doctor does not know. The patient's birth date can be set only once, when the
-- patient is created or later. A birth date that is set later can postpone the due date of a minor's existing
-- recordings, but never advance it. Raises RG409 (patient_user_unknown, patient_user_differs,
-- patient_birth_date_differs, patient_birth_date_ahead).
create function private.register_patient(of_external_id text, of_user uuid, of_birth_date date) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    known resguardo.patients;
begin
    perform private.person();
    if of_user is not null and (
        not exists (select from auth.users as u where u.id = of_user)
        or exists (select from resguardo.staff as s where s.user_id = of_user)
    ) then
        raise exception 'patient_user_unknown' using errcode = 'RG409';
    elsif of_birth_date > (private.now() at time zone 'Etc/GMT-14')::date then
        raise exception 'patient_birth_date_ahead' using errcode = 'RG409';
    end if;
    insert into resguardo.patients (external_id, user_id, birth_date)
    values (of_external_id, of_user, of_birth_date) on conflict do nothing;
    select p.* into known from resguardo.patients as p where p.external_id = of_external_id;
    if known.id is null or known.user_id is distinct from of_user then
        raise exception 'patient_user_differs' using errcode = 'RG409';
    end if;
    if known.birth_date is null and of_birth_date is not null then
        perform private.give_birth_date(known.id, of_birth_date);
    elsif known.birth_date <> of_birth_date then
        raise exception 'patient_birth_date_differs' using errcode = 'RG409';
    end if;
    return known.id;
end
$$;

-- Stores the birth date of a patient and updates the due dates of the patient's recordings and signed notes.
-- `give_birth_date` and the end of a recording both lock the patient's row, so the due date of each recording takes
-- the birth date into account.
create function private.give_birth_date(of_patient uuid, of_birth_date date) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    dated uuid[];
    consultations uuid[];
begin
    update resguardo.patients as p set birth_date = of_birth_date
    where p.id = of_patient and coalesce(p.birth_date, of_birth_date) = of_birth_date;
    if not found then
        raise exception 'patient_birth_date_differs' using errcode = 'RG409';
    end if;
    with later as (
        update resguardo.recordings as r set due_at = private.minor_until(p.terms, of_birth_date)
        from resguardo.retention_policies as p
        where r.patient_id = of_patient and p.id = r.retention_policy
            and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
            and r.due_at < private.minor_until(p.terms, of_birth_date)
        returning r.id, r.consultation_id
    )

    select array_agg(l.id), array_agg(distinct l.consultation_id) into dated, consultations from later as l;
    if dated is not null then
        perform private.write_audit(
            'recording.date', 'ALLOWED', 'birth_date_given', 'recording', dated, array[of_patient], consultations,
            array['due_at'], cardinality(dated), null
        );
    end if;
    dated := private.date_signed_notes(null, of_patient);
    if dated <> '{}' then
        perform private.write_audit(
            'note.date', 'ALLOWED', 'birth_date_given', 'signed_note', dated, array[of_patient], '{}',
            array['due_at'], cardinality(dated), null
        );
    end if;
end
$$;
