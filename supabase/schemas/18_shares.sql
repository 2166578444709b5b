-- Shares of consultations with colleagues, and the functions with which policies find the consultations of other
-- doctors that a clinician sees. A clinician sees such a consultation by a share (this file) or by an emergency access
-- (19_emergency_access.sql).

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
'The person who ended the share, such as the doctor, the colleague or the participant who withdrew a consent.';
create index shares_consultation_idx
on resguardo.shares (consultation_id, doctor_id, patient_id, began_at desc, id desc);
create index shares_doctor_idx on resguardo.shares (doctor_id);
create index shares_patient_idx on resguardo.shares (patient_id);
create index shares_shared_by_idx on resguardo.shares (shared_by);
create index shares_colleague_idx on resguardo.shares (colleague_id, ends_at) where ended_at is null;
create index shares_of_colleague_idx on resguardo.shares (colleague_id, began_at desc, id desc);

create table resguardo.sharing_authorizations (
    id uuid primary key default gen_random_uuid(),
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    colleague_id uuid
    constraint sharing_authorizations_colleague_id_fkey references resguardo.staff (user_id),
    signed_on date not null,
    is_signed_by_representative boolean not null,
    expires_at timestamptz not null,
    recorded_by uuid not null
    constraint sharing_authorizations_recorded_by_fkey references resguardo.staff (user_id),
    recorded_at timestamptz not null,
    withdrawn_at timestamptz,
    constraint sharing_authorizations_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint sharing_authorizations_term_is_possible check (expires_at > recorded_at)
);
alter table resguardo.sharing_authorizations enable row level security;
comment on table resguardo.sharing_authorizations is
'Authorizations that a patient signed, so that a sensitive consultation may be shared or seen in an emergency.';
comment on column resguardo.sharing_authorizations.colleague_id is
'The colleague with whom the consultation may be shared. Null for an authorization of emergency access.';
comment on column resguardo.sharing_authorizations.signed_on is 'The date on the paper that the practice keeps.';
create index sharing_authorizations_consultation_idx
on resguardo.sharing_authorizations (consultation_id, doctor_id, patient_id, recorded_at desc, id desc);
create index sharing_authorizations_doctor_idx on resguardo.sharing_authorizations (doctor_id);
create index sharing_authorizations_patient_idx on resguardo.sharing_authorizations (patient_id);
create index sharing_authorizations_colleague_idx on resguardo.sharing_authorizations (colleague_id);
create index sharing_authorizations_recorded_by_idx on resguardo.sharing_authorizations (recorded_by);

-- Returns the versions of the consent text that name shares and emergency access. A test checks that the list equals
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

-- Returns until when a patient's authorization permits a sensitive consultation to be shared with a colleague, or to be
-- seen in an emergency if `colleague` is null. Returns null if no authorization permits it now.
create function private.authorized_until(of_consultation uuid, colleague uuid) returns timestamptz
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select max(a.expires_at) from resguardo.sharing_authorizations as a
        where a.consultation_id = of_consultation and a.colleague_id is not distinct from colleague
            and a.withdrawn_at is null and a.expires_at > private.now()
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

-- Law 3: returns whether the caller, a clinician, sees a row of this doctor and consultation. A function that bypasses
-- the policies calls this function if the policies of the row's table show shared rows. Raises the same errors as
-- private.doctor().
create function private.sees_consultation(of_doctor uuid, of_consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    return coalesce(of_doctor = doctor or of_consultation = any(private.shared_consultation_ids()), false);
end
$$;

-- Law 3: returns whether the caller, a clinician, may read and write session notes of this doctor and consultation. The
-- doctor may, and a colleague may if the share permits it. An emergency access never permits it.
create function private.may_write_session_notes(of_doctor uuid, of_consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    return coalesce(of_doctor = doctor, false) or exists (
        select from resguardo.shares as s
        where s.consultation_id = of_consultation and s.colleague_id = doctor and s.may_write_notes
            and s.ended_at is null and s.ends_at > private.now()
            and s.consultation_id = any(private.consultations_shared_with(doctor))
    );
end
$$;

-- Returns the time at which the caller's access to another doctor's consultation ends. No URL may be valid after it.
-- Returns infinity for the doctor of the consultation, and null if the caller does not see it.
create function private.access_ends_at(of_consultation uuid) returns timestamptz
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    about resguardo.consultations;
begin
    select c.* into about from resguardo.consultations as c where c.id = of_consultation;
    if about.doctor_id = doctor then
        return 'infinity';
    elsif not private.sees_consultation(about.doctor_id, about.id) then
        return null;
    end if;
    return (
        select max(e.ends_at)
        from (
            select s.ends_at from resguardo.shares as s
            where s.consultation_id = of_consultation and s.colleague_id = doctor and s.ended_at is null
            union all
            select least(
                a.ends_at,
                case when about.sensitivity <> 'ORDINARY' then private.authorized_until(of_consultation, null) end
            )
            from resguardo.emergency_accesses as a
            where a.patient_id = about.patient_id and a.clinician_id = doctor and a.ended_at is null
                and of_consultation = any(private.consultations_in_emergency(doctor))
        ) as e
    );
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

-- Returns the basis of a clinician's audit row that names these consultations: `emergency` if the clinician sees any of
-- them only by an emergency access, else `shared` if the clinician sees any of them only by a share, else
-- `treating_clinician`. The function does not check the session, because a refused call may have no valid session and
-- still needs its audit row. The function first checks whether the clinician has any share or emergency access, because
-- most clinicians have none.
create function private.basis_of_clinician(clinician uuid, consultations uuid[]) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    shared uuid[];
begin
    if not exists (
        select from resguardo.shares as s
        where s.colleague_id = clinician and s.ended_at is null and s.ends_at > moment
    ) and not exists (
        select from resguardo.emergency_accesses as e where e.clinician_id = clinician and e.ends_at > moment
    ) then
        return 'treating_clinician';
    end if;
    shared := private.consultations_shared_with(clinician);
    return case
        when exists (
            select from unnest(private.consultations_in_emergency(clinician)) as c (id)
            where c.id = any(consultations) and c.id <> all(shared)
        ) then 'emergency'
        when consultations && shared then 'shared'
        else 'treating_clinician'
    end;
end
$$;

-- Ends the open shares of a consultation, or only those with one colleague, and writes one audit row about them. Each
-- subscription to the consultation reads it again, and the subscriptions of the colleagues end.
create function private.end_shares(of_consultation uuid, of_colleague uuid, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    ended resguardo.shares[];
begin
    with gone as (
        update resguardo.shares as s set ended_at = moment, ended_by = private.uid(), end_reason = why
        where (of_consultation is null or s.consultation_id = of_consultation)
            and (of_colleague is null or s.colleague_id = of_colleague)
            and coalesce(of_consultation, of_colleague) is not null
            and s.ended_at is null and s.ends_at > moment
        returning s.*
    )

    select array_agg(row(g.*)::resguardo.shares) into ended from gone as g;
    if ended is not null then
        perform private.write_audit_of_entities(
            'consultation.end_share', 'ALLOWED', lower(why),
            private.entities_of('share', array(select e.id from unnest(ended) as e)),
            array(select distinct e.patient_id from unnest(ended) as e),
            array(select distinct e.consultation_id from unnest(ended) as e),
            array['endedAt', 'endReason'], cardinality(ended), null
        );
        perform pg_notify('resguardo_changes', concat_ws(' ', e.consultation_id, e.doctor_id))
        from (select distinct d.consultation_id, d.doctor_id from unnest(ended) as d) as e;
    end if;
end
$$;

-- Law 6: a share lasts only while every required participant consents. When a consent changes or a further participant
-- must consent, the function ends the shares of the consultation if a consent is missing. The name of the trigger sorts
-- after consents_guard, so the trigger runs after consents_guard has locked the consultation.
create function private.recheck_shares() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from resguardo.shares as s
        where s.consultation_id = new.consultation_id and s.ended_at is null and s.ends_at > private.now()
    ) and not private.consents_to_sharing(new.consultation_id) then
        perform private.end_shares(new.consultation_id, null, 'CONSENT_WITHDRAWN');
    end if;
    return null;
end
$$;

create trigger consents_recheck_shares after insert on resguardo.consents
for each row execute function private.recheck_shares();

create trigger participants_recheck_shares after insert or update of joined_at on resguardo.participants
for each row execute function private.recheck_shares();

-- Ends the shares with a member of staff and the member's emergency accesses when the member is suspended or gets
-- another role. A reinstatement does not restore them.
create function private.end_access_of_member() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.end_shares(null, new.user_id, 'COLLEAGUE_SUSPENDED');
    update resguardo.emergency_accesses as e set ended_at = private.now()
    where e.clinician_id = new.user_id and e.ended_at is null and e.ends_at > private.now();
    return null;
end
$$;

create trigger staff_end_access after update of status, role on resguardo.staff
for each row when (new.status = 'suspended' or new.role <> old.role) execute function private.end_access_of_member();

-- Shares the caller's own consultation with a colleague, and returns the id of the share. Returns null, and writes an
-- audit row, if the consultation belongs to another doctor or does not exist. Otherwise, the statement that shows the
-- share writes the audit row. The function locks the colleague and the consultation, so that a concurrent suspension of
-- the colleague or withdrawal of a consent also ends the new share. Raises RG409 (colleague_not_found,
-- colleague_suspended, shared_with_oneself, shared_already, share_term, share_consent, share_not_authorized,
-- too_many_shares).
create function private.share_consultation(
    of_consultation uuid, of_colleague uuid, of_purpose text, with_notes boolean, until timestamptz
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    moment constant timestamptz := private.now();
    colleague resguardo.staff;
    about resguardo.consultations;
    made uuid;
begin
    perform from resguardo.staff as s where s.user_id in (doctor, of_colleague) order by s.user_id for share;
    select s.* into colleague from resguardo.staff as s where s.user_id = of_colleague;
    select c.* into about from resguardo.consultations as c
    where c.id = of_consultation and c.doctor_id = doctor for update;
    perform private.doctor();  -- checked again under the lock because the doctor may have been suspended meanwhile
    if about.id is null then
        perform private.write_lookup(
            'consultation.share', 'consultation', 'consultation', of_consultation, false, '[]', '{}', '{}', 0,
            array['share']
        );
        return null;
    elsif of_colleague = doctor then
        raise exception 'shared_with_oneself' using errcode = 'RG409';
    elsif colleague.role is distinct from 'clinician' then
        raise exception 'colleague_not_found' using errcode = 'RG409';
    elsif colleague.status <> 'active' then
        raise exception 'colleague_suspended' using errcode = 'RG409';
    elsif until is null or until <= moment or until > moment + interval '366 days' then
        raise exception 'share_term' using errcode = 'RG409';
    elsif not private.consents_to_sharing(of_consultation) then
        raise exception 'share_consent' using errcode = 'RG409';
    elsif about.sensitivity <> 'ORDINARY'
        and (until <= private.authorized_until(of_consultation, of_colleague)) is not true
    then
        raise exception 'share_not_authorized' using errcode = 'RG409';
    elsif exists (
        select from resguardo.shares as s
        where s.consultation_id = of_consultation and s.colleague_id = of_colleague
            and s.ended_at is null and s.ends_at > moment
    ) then
        raise exception 'shared_already' using errcode = 'RG409';
    elsif (
        select count(*) from (
            select from resguardo.shares as s
            where s.colleague_id = of_colleague and s.ended_at is null and s.ends_at > moment
            limit 1000
        ) as o
    ) >= 1000 then
        raise exception 'too_many_shares' using errcode = 'RG409';
    end if;
    insert into resguardo.shares as s (
        consultation_id, doctor_id, patient_id, colleague_id, shared_by, purpose, may_write_notes, began_at, ends_at
    ) values (
        of_consultation, doctor, about.patient_id, of_colleague, doctor, of_purpose, with_notes, moment, until
    )
    returning s.id into made;
    perform private.write_audit_later(
        'consultation.share', null, 'share', made, about.patient_id, of_consultation,
        array['colleague', 'purpose', 'mayWriteNotes', 'endsAt'], null
    );
    return made;
end
$$;

-- Ends a share at once, and returns its id. The caller is the doctor of the consultation or the colleague. If the share
-- has ended, the function changes nothing. Returns null, and writes an audit row, if the caller may not see the share
-- or it does not exist.
create function private.end_share(of_share uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    moment constant timestamptz := private.now();
    wanted resguardo.shares;
begin
    select s.* into wanted from resguardo.shares as s
    where s.id = of_share and (s.doctor_id = doctor or s.colleague_id = doctor) for update;
    if wanted.id is null then
        perform private.write_lookup(
            'consultation.end_share', 'share', 'share', of_share, false, '[]', '{}', '{}', 0, array['endedAt']
        );
        return null;
    elsif wanted.ended_at is null and wanted.ends_at > moment then
        update resguardo.shares as s
        set ended_at = moment, ended_by = doctor,
            end_reason = case when s.doctor_id = doctor then 'ENDED_BY_DOCTOR' else 'ENDED_BY_COLLEAGUE' end
        where s.id = of_share;
        perform pg_notify('resguardo_changes', concat_ws(' ', wanted.consultation_id, wanted.doctor_id));
    end if;
    perform private.write_audit_later(
        'consultation.end_share', null, 'share', of_share, wanted.patient_id, wanted.consultation_id,
        array['endedAt', 'endReason'], null
    );
    return of_share;
end
$$;

-- Records an authorization that the patient of the caller's own sensitive consultation signed, and returns its id.
-- `of_colleague` is the colleague that it names, or null for emergency access. Returns null, and writes an audit row,
-- if the consultation belongs to another doctor or does not exist. Raises RG409 (authorization_not_needed,
-- authorization_dates, colleague_not_found, too_many_authorizations).
create function private.authorize_sharing(
    of_consultation uuid, of_colleague uuid, of_signed_on date, by_representative boolean, until timestamptz
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    moment constant timestamptz := private.now();
    about resguardo.consultations;
    made uuid;
begin
    select c.* into about from resguardo.consultations as c
    where c.id = of_consultation and c.doctor_id = doctor for no key update;
    if about.id is null then
        perform private.write_lookup(
            'consultation.authorize_sharing', 'consultation', 'consultation', of_consultation, false, '[]', '{}', '{}',
            0, array['sharingAuthorization']
        );
        return null;
    elsif about.sensitivity = 'ORDINARY' then
        raise exception 'authorization_not_needed' using errcode = 'RG409';
    elsif of_signed_on > (moment at time zone 'Etc/GMT-14')::date or of_signed_on < date '1900-01-01'
        or until <= moment or until > moment + interval '10 years'
    then
        raise exception 'authorization_dates' using errcode = 'RG409';
    elsif of_colleague is not null and (
        of_colleague = doctor or not exists (
            select from resguardo.staff as s where s.user_id = of_colleague and s.role = 'clinician'
        )
    ) then
        raise exception 'colleague_not_found' using errcode = 'RG409';
    elsif (
        select count(*) from resguardo.sharing_authorizations as a where a.consultation_id = of_consultation
    ) >= 1000 then
        raise exception 'too_many_authorizations' using errcode = 'RG409';
    end if;
    insert into resguardo.sharing_authorizations as a (
        consultation_id, doctor_id, patient_id, colleague_id, signed_on, is_signed_by_representative, expires_at,
        recorded_by, recorded_at
    ) values (
        of_consultation, doctor, about.patient_id, of_colleague, of_signed_on, by_representative, until, doctor, moment
    )
    returning a.id into made;
    perform private.write_audit_later(
        'consultation.authorize_sharing', null, 'sharing_authorization', made, about.patient_id, of_consultation,
        array['sharingAuthorization'], null
    );
    return made;
end
$$;

-- Records that the patient has withdrawn an authorization, which ends the share with its colleague, and returns its id.
-- A repeated call changes nothing. Returns null, and writes an audit row, if the authorization is of another doctor's
-- consultation or does not exist.
create function private.withdraw_sharing_authorization(of_authorization uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    wanted resguardo.sharing_authorizations;
begin
    select a.* into wanted from resguardo.sharing_authorizations as a where a.id = of_authorization and a.doctor_id = doctor;
    perform from resguardo.consultations as c where c.id = wanted.consultation_id for update;
    select a.* into wanted from resguardo.sharing_authorizations as a
    where a.id = of_authorization and a.doctor_id = doctor for update;
    if wanted.id is null then
        perform private.write_lookup(
            'consultation.withdraw_authorization', 'sharing_authorization', 'sharing_authorization', of_authorization,
            false, '[]', '{}', '{}', 0, array['sharingAuthorization']
        );
        return null;
    elsif wanted.withdrawn_at is null then
        update resguardo.sharing_authorizations as a set withdrawn_at = private.now() where a.id = of_authorization;
        if wanted.colleague_id is not null then
            perform private.end_shares(wanted.consultation_id, wanted.colleague_id, 'AUTHORIZATION_WITHDRAWN');
        end if;
    end if;
    perform private.write_audit_later(
        'consultation.withdraw_authorization', null, 'sharing_authorization', of_authorization, wanted.patient_id,
        wanted.consultation_id, array['sharingAuthorization'], null
    );
    return of_authorization;
end
$$;
