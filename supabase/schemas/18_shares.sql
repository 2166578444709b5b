-- Shares of consultations with colleagues, and the two functions by which policies decide what a clinician sees of
-- another doctor's consultation: by a share (this file), or by an emergency access (19_emergency_access.sql).

create table resguardo.shares (
    id uuid primary key default gen_random_uuid(),
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    colleague_id uuid not null constraint shares_colleague_id_fkey references resguardo.staff (user_id),
    shared_by uuid not null constraint shares_shared_by_fkey references resguardo.staff (user_id),
    purpose text not null
    constraint shares_purpose_is_known check (purpose in ('CARE_TEAM', 'COVERAGE', 'SECOND_OPINION', 'REFERRAL')),
    may_write_notes boolean not null,
    began_at timestamptz not null,
    ends_at timestamptz not null,
    ended_at timestamptz,
    ended_by uuid,
    end_reason text
    constraint shares_end_reason_is_known check (
        end_reason in (
            'ENDED_BY_DOCTOR', 'ENDED_BY_COLLEAGUE', 'CONSENT_WITHDRAWN', 'AUTHORIZATION_WITHDRAWN',
            'COLLEAGUE_SUSPENDED'
        )
    ),
    constraint shares_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint shares_term_is_possible check (
        ends_at > began_at and ends_at <= began_at + interval '366 days'
    ),
    constraint shares_end_is_whole check ((ended_at is null) = (end_reason is null))
);
alter table resguardo.shares enable row level security;
comment on column resguardo.shares.doctor_id is 'The doctor of the consultation.';
comment on column resguardo.shares.shared_by is 'The doctor of the consultation when the share was made.';
comment on column resguardo.shares.may_write_notes is
'Whether the colleague may write session notes of the consultation, and read the session notes that others wrote.';
comment on column resguardo.shares.ends_at is 'The end of the term. From then on the share gives no access.';
comment on column resguardo.shares.ended_at is 'When the share ended before its term; null if it did not.';
comment on column resguardo.shares.ended_by is
'The person whose action ended the share: the doctor, the colleague, or who withdrew a consent.';
create index shares_consultation_idx on resguardo.shares (consultation_id, doctor_id, patient_id);
create index shares_doctor_idx on resguardo.shares (doctor_id);
create index shares_patient_idx on resguardo.shares (patient_id);
create index shares_shared_by_idx on resguardo.shares (shared_by);
create index shares_colleague_idx on resguardo.shares (colleague_id, ends_at) where ended_at is null;
create index shares_of_colleague_idx on resguardo.shares (colleague_id, began_at desc, id desc);
create unique index shares_one_open_key on resguardo.shares (consultation_id, colleague_id) where ended_at is null;

-- Returns the versions of the consent text that name shares and emergency access. A test holds them equal to
-- `ABOUT_SHARING` in app/consents/texts.py.
create function private.texts_about_sharing() returns text[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return array['2027-02'];
end
$$;

-- Returns whether every required participant of a consultation has a standing consent to a text that names shares and
-- emergency access.
create function private.consents_to_sharing(of_consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select
            count(*) filter (where p.kind = 'PATIENT') = 1 and count(*) filter (where p.kind = 'DOCTOR') = 1
            and bool_and(
                coalesce(
                    n.decision = 'GIVEN' and n.text_version = any(private.texts_about_sharing()),
                    p.kind = 'GUEST' and p.joined_at is null
                )
            )
        from resguardo.participants as p
        left join lateral (
            select c.decision, c.text_version from resguardo.consents as c
            where c.participant_id = p.id
            order by c.recorded_at desc, c.id desc
            limit 1
        ) as n on true
        where p.consultation_id = of_consultation
    );
end
$$;

-- Returns the consultations that other doctors share with a clinician now.
create function private.consultations_shared_with(colleague uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
begin
    return array(
        select s.consultation_id from resguardo.shares as s
        where s.colleague_id = colleague and s.doctor_id <> colleague
            and s.ended_at is null and s.ends_at > moment and s.began_at <= moment
    );
end
$$;

-- Law 3: returns the consultations of other doctors that the caller sees now, by a share or by an emergency access.
-- The policies of clinicians call this function, and so does each function that bypasses the policies. Raises the same
-- errors as private.doctor().
create function private.shared_consultation_ids() returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    return private.consultations_shared_with(doctor) || private.consultations_in_emergency(doctor);
end
$$;

-- Returns why the caller sees a consultation: `treating_clinician`, `shared`, `emergency`, `compliance_review` or
-- `self`. Returns null if the caller does not see the consultation. Raises RG401 or RG403 if the caller has no live
-- session.
create function private.access_basis(consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    about resguardo.consultations;
    doctor uuid;
begin
    select c.* into about from resguardo.consultations as c where c.id = consultation;
    if current_setting('role') = 'patient' then
        return case when about.patient_id = private.patient() then 'self' end;
    elsif current_setting('role') = 'compliance' then
        perform private.person();
        return case when about.id is not null then 'compliance_review' end;
    end if;
    doctor := private.doctor();
    return case
        when about.doctor_id = doctor then 'treating_clinician'
        when consultation = any(private.consultations_shared_with(doctor)) then 'shared'
        when consultation = any(private.consultations_in_emergency(doctor)) then 'emergency'
    end;
end
$$;

-- Returns the basis of a clinician's audit row that names these consultations: `emergency` if the clinician sees any
-- of them only by an emergency access, else `shared` if the clinician sees any of them only by a share, else
-- `treating_clinician`. The function does not check the session, because the row of a refusal is written without one.
create function private.basis_of_clinician(clinician uuid, consultations uuid[]) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    shared constant uuid[] := private.consultations_shared_with(clinician);
    in_emergency constant uuid[] := private.consultations_in_emergency(clinician);
begin
    return case
        when exists (
            select from unnest(consultations) as c (id) where c.id = any(in_emergency) and c.id <> all(shared)
        ) then 'emergency'
        when consultations && shared then 'shared'
        else 'treating_clinician'
    end;
end
$$;
