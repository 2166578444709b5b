-- Access requests, in which patients ask for a copy of their recordings.

create table resguardo.access_requests (
    id uuid primary key default gen_random_uuid(),
    patient_id uuid not null constraint access_requests_patient_id_fkey references resguardo.patients (id),
    consultation_id uuid,
    status text not null default 'OPEN'
    constraint access_requests_status_is_known check (
        status in ('OPEN', 'APPROVED', 'FULFILLED', 'DENIED', 'WITHDRAWN')
    ),
    channel text not null constraint access_requests_channel_is_known check (channel in ('LOGIN', 'WRITTEN')),
    filed_by uuid not null,
    representative_relationship text
    constraint access_requests_relationship_is_known check (
        representative_relationship in ('PARENT', 'LEGAL_GUARDIAN', 'HEALTH_CARE_PROXY', 'POWER_OF_ATTORNEY', 'OTHER')
    ),
    representative_name text
    constraint access_requests_representative_name_length check (length(representative_name) between 1 and 200),
    received_on date not null,
    due_on date not null,
    extension_reason text
    constraint access_requests_extension_reason_is_known check (
        extension_reason in ('VOLUME', 'STORED_ELSEWHERE', 'PROFESSIONAL_REVIEW', 'TECHNICAL_FAILURE', 'STAFF_ABSENCE')
    ),
    extended_at timestamptz,
    decided_by uuid,
    decided_at timestamptz,
    denial_ground text
    constraint access_requests_denial_ground_is_known check (
        denial_ground in (
            'EXCEPTED', 'CORRECTIONAL', 'RESEARCH', 'PRIVACY_ACT', 'CONFIDENTIAL_SOURCE', 'ENDANGERS_LIFE',
            'HARMS_ANOTHER', 'REPRESENTATIVE_HARMS'
        )
    ),
    determined_by uuid constraint access_requests_determined_by_fkey references resguardo.staff (user_id),
    review_asked_at timestamptz,
    reviewed_by uuid constraint access_requests_reviewed_by_fkey references resguardo.staff (user_id),
    reviewed_at timestamptz,
    review_outcome text
    constraint access_requests_review_outcome_is_known check (review_outcome in ('UPHELD', 'REVERSED')),
    export_status text
    constraint access_requests_export_status_is_known check (
        export_status in ('PREPARING', 'READY', 'NOTHING_RECORDED', 'FAILED', 'EXPIRED', 'DELETED')
    ),
    export_error text constraint access_requests_export_error_is_slug check (export_error ~ '^[a-z][a-z0-9_]{0,63}$'),
    export_size_bytes bigint constraint access_requests_export_size_is_positive check (export_size_bytes > 0),
    export_recordings integer,
    export_missing integer,
    export_notes integer,
    export_expires_at timestamptz,
    secret_revealed_at timestamptz,
    fulfilled_at timestamptz,
    created_at timestamptz not null default private.now(),
    constraint access_requests_consultation_fkey foreign key (consultation_id, patient_id)
    references resguardo.consultations (id, patient_id),
    constraint access_requests_representative_is_whole check (
        (representative_relationship is null) = (representative_name is null)
    ),
    constraint access_requests_extension_is_whole check ((extension_reason is null) = (extended_at is null)),
    constraint access_requests_clock_is_of_the_rule check (
        due_on >= received_on + 30
        and (due_on <= received_on + case when extended_at is null then 30 else 60 end or review_asked_at is not null)
    ),
    constraint access_requests_denial_is_whole check (status <> 'DENIED' or denial_ground is not null),
    constraint access_requests_determination_is_whole check (
        coalesce(denial_ground in ('ENDANGERS_LIFE', 'HARMS_ANOTHER', 'REPRESENTATIVE_HARMS'), false)
        = (determined_by is not null)
    ),
    constraint access_requests_review_is_whole check (
        (review_outcome is null) = (reviewed_at is null) and (reviewed_by is null) = (reviewed_at is null)
    ),
    constraint access_requests_fulfilment_is_whole check ((status = 'FULFILLED') = (fulfilled_at is not null)),
    constraint access_requests_failure_is_whole check ((export_status = 'FAILED') is true = (export_error is not null))
);
alter table resguardo.access_requests enable row level security;
comment on column resguardo.access_requests.consultation_id is
'Null if the request covers every recording of the patient.';
comment on column resguardo.access_requests.channel is
'LOGIN: the patient asked with their own login. WRITTEN: compliance entered a request that came on paper.';
comment on column resguardo.access_requests.due_on is
'The last day to act, in UTC: 30 days after receipt, extended once by 30 at most (164.524(b)(2)).';
comment on column resguardo.access_requests.determined_by is
'The licensed professional who determined the harm, if the ground of the denial is reviewable (164.524(a)(3)).';
comment on column resguardo.access_requests.export_status is
'The state of the copy. DELETED: a recording in it was destroyed, and the copy was destroyed too.';
comment on column resguardo.access_requests.export_notes is 'How many signed notes the copy contains.';
comment on column resguardo.access_requests.export_missing is
'How many files the copy lacks because the bucket does not have them or has another content.';
create unique index access_requests_one_open_key on resguardo.access_requests (
    patient_id, coalesce(consultation_id, '00000000-0000-0000-0000-000000000000')
) where status in ('OPEN', 'APPROVED');
create index access_requests_patient_idx on resguardo.access_requests (patient_id, created_at desc, id desc);
create index access_requests_consultation_idx on resguardo.access_requests (consultation_id, patient_id);
create index access_requests_created_idx on resguardo.access_requests (created_at desc, id desc);
create index access_requests_patient_status_idx
on resguardo.access_requests (patient_id, status, created_at desc, id desc);
create index access_requests_status_idx on resguardo.access_requests (status, created_at desc, id desc);
create index access_requests_due_idx on resguardo.access_requests (due_on) where status in ('OPEN', 'APPROVED');
create index access_requests_holding_idx on resguardo.access_requests (patient_id)
where status in ('OPEN', 'APPROVED', 'DENIED');
create index access_requests_determined_by_idx on resguardo.access_requests (determined_by);
create index access_requests_reviewed_by_idx on resguardo.access_requests (reviewed_by);

-- Returns whether an access request forbids the destruction of the recordings that it covers. An access request
-- forbids the destruction of its recordings while it is OPEN or APPROVED. If the patient may ask for a review of the
-- denial, the recordings are kept for 60 days after the denial, so that a review is not too late. When the outcome of
-- the review is recorded, the protection of the recordings from destruction ends.
create function private.request_holds(asked resguardo.access_requests) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        asked.status in ('OPEN', 'APPROVED')
        or (
            asked.status = 'DENIED' and asked.determined_by is not null and asked.reviewed_at is null
            and asked.decided_at > private.now() - interval '60 days'
        ),
        false
    );
end
$$;

-- Writes the audit row of a change of an access request before the commit (private.write_audit_later).
create function private.audit_request(of_action text, asked resguardo.access_requests, of_fields text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_later(
        of_action, null, 'access_request', asked.id, asked.patient_id, asked.consultation_id, of_fields, null
    );
end
$$;

-- Returns an access request. A compliance officer may see every access request, and a patient only the patient's own.
-- If the caller may not see the request or it does not exist, the function writes an audit row with DENIED or ABSENT
-- and returns nulls.
create function private.find_access_request(of_request uuid, of_action text) returns resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    is_patient constant boolean := current_setting('role') = 'patient';
    patient uuid;
    wanted resguardo.access_requests;
begin
    if is_patient then
        patient := private.patient();
    else
        perform private.person();
        if current_setting('role') <> 'compliance' then
            raise exception 'wrong_role' using errcode = 'RG403';
        end if;
    end if;
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request;
    if wanted.id is null or (is_patient and wanted.patient_id <> patient) then
        perform private.write_audit(
            of_action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'access_request',
            array[of_request], array_remove(array[wanted.patient_id], null),
            array_remove(array[wanted.consultation_id], null), '{}', 0, null
        );
        return null;
    end if;
    return wanted;
end
$$;

-- Locks and returns an access request, so that the caller can change it. If the caller is a patient and the request
-- belongs to a different patient, the function does not lock the request.
create function private.lock_access_request(of_request uuid, of_action text) returns resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests := private.find_access_request(of_request, of_action);
begin
    if wanted.id is not null then
        select a.* into wanted from resguardo.access_requests as a where a.id = of_request for update;
    end if;
    return wanted;
end
$$;

-- Locks and returns the open access request for all recordings of a patient, or for one consultation; returns nulls
-- if no such request is open.
create function private.lock_open_request(of_patient uuid, of_consultation uuid) returns resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    select a.* into wanted
    from resguardo.access_requests as a
    where a.patient_id = of_patient and a.consultation_id is not distinct from of_consultation
        and a.status in ('OPEN', 'APPROVED')
    for update;
    return wanted;
end
$$;

-- Merges a repeated access request into the open access request. The merged access request has the earlier of the two
-- days of receipt. The patient's representative is added if the open access request names no representative and is
-- not decided yet. Raises RG409 (representative_differs).
create function private.join_request(
    wanted resguardo.access_requests, received date, relationship text, representative text
) returns resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    joined resguardo.access_requests;
begin
    if representative is not null
        and (wanted.representative_relationship, wanted.representative_name)
        is distinct from (relationship, representative)
        and (wanted.representative_name is not null or wanted.status <> 'OPEN')
    then
        raise exception 'representative_differs' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set received_on = least(a.received_on, received),
        due_on = a.due_on
        - case when a.review_asked_at is null then greatest(a.received_on - received, 0) else 0 end,
        representative_relationship = coalesce(a.representative_relationship, relationship),
        representative_name = coalesce(a.representative_name, representative)
    where a.id = wanted.id
    returning a.* into joined;
    return joined;
end
$$;

-- Files an access request, which keeps the recordings that it covers from being destroyed. Patients file access
-- requests for themselves, and a compliance officer files one for a patient who asked in writing within the last 60
-- days. Returns the id of the access request. If a request for the same patient and consultation is already open, the
-- function returns the id of the open request. Returns null if the patient or the consultation does not exist, or if
-- the caller may not see it. Raises RG409 (bad_received_on, representative_differs), RG429 (quota_pages).
create function private.file_access_request(
    of_patient uuid, of_consultation uuid, received date, relationship text, representative text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_patient constant boolean := current_setting('role') = 'patient';
    today constant date := private.today();
    patient uuid;
    filed resguardo.access_requests;
begin
    if not is_patient and current_setting('role') <> 'compliance' then
        raise exception 'wrong_role' using errcode = 'RG403';
    end if;
    perform private.use_quota(person, 'pages');
    if is_patient then  -- no `case` expression below: its plan would evaluate this condition for compliance too
        of_patient := private.patient();
    end if;
    if not is_patient and (received is null or received > today or received < today - 60) then
        raise exception 'bad_received_on' using errcode = 'RG409';
    end if;
    select p.id into patient
    from resguardo.patients as p
    where p.id = of_patient
        and (
            of_consultation is null or exists (
                select from resguardo.consultations as c where c.id = of_consultation and c.patient_id = p.id
            )
        );
    if patient is null then
        perform private.write_audit(
            'access_request.file',
            case when not exists (select from resguardo.consultations as c where c.id = of_consultation)
                or not exists (select from resguardo.patients as p where p.id = of_patient)
                then 'ABSENT' when is_patient then 'DENIED' else 'FAILED' end,
            'not_found', case when of_consultation is null then 'patient' else 'consultation' end,
            array_remove(array[coalesce(of_consultation, of_patient)], null),
            array(select c.patient_id from resguardo.consultations as c where c.id = of_consultation),
            array(select c.id from resguardo.consultations as c where c.id = of_consultation), '{}', 0, null
        );
        return null;
    end if;
    received := case when is_patient then today else received end;
    filed := private.lock_open_request(patient, of_consultation);
    if filed.id is null then
        perform private.lock_keeping(true);
        filed := private.lock_open_request(patient, of_consultation);
    end if;
    if filed.id is not null then
        filed := private.join_request(filed, received, relationship, representative);
    else
        insert into resguardo.access_requests (
            patient_id, consultation_id, channel, filed_by, representative_relationship, representative_name,
            received_on, due_on
        ) values (
            patient, of_consultation, case when is_patient then 'LOGIN' else 'WRITTEN' end, person, relationship,
            representative, received, received + 30
        )
        returning * into filed;
    end if;
    perform private.audit_request('access_request.file', filed, array['status', 'receivedOn', 'dueOn']);
    return filed.id;
end
$$;

-- Locks an access request and returns it to its patient, or to a compliance officer if the patient asked in writing.
-- Returns nulls if the access request does not exist or the caller may not see it. Raises RG409
-- (request_not_written), RG429 (quota_pages).
create function private.lock_for_patient(of_request uuid, of_action text) returns resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    perform private.use_quota(private.require_person(), 'pages');
    wanted := private.lock_access_request(of_request, of_action);
    if current_setting('role') <> 'patient' and wanted.channel <> 'WRITTEN' then
        raise exception 'request_not_written' using errcode = 'RG409';
    end if;
    return wanted;
end
$$;

-- Withdraws an access request; the caller is its patient, or a compliance officer if the request came in writing. A
-- second withdrawal of an access request changes nothing. This function and those below return the id of the access
-- request, or null if it does not exist or the caller may not see it. Raises RG409 (access_request_closed,
-- request_not_written), RG429 (quota_pages).
create function private.withdraw_access_request(of_request uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    wanted := private.lock_for_patient(of_request, 'access_request.withdraw');
    if wanted.id is null then
        return null;
    elsif wanted.status not in ('OPEN', 'APPROVED', 'WITHDRAWN') then
        raise exception 'access_request_closed' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set status = 'WITHDRAWN', export_status = null, export_error = null
    where a.id = of_request returning a.* into wanted;
    perform private.audit_request('access_request.withdraw', wanted, array['status']);
    return wanted.id;
end
$$;

-- Records that a compliance officer approves an access request, and queues the job that makes the encrypted copy. If
-- an earlier attempt to make the encrypted copy failed, the job tries again. If an encrypted copy is already being
-- made, the function begins no second copy. Raises RG409 (access_request_closed, review_pending), RG429
-- (quota_pages).
create function private.approve_access_request(of_request uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted resguardo.access_requests;
begin
    perform private.use_quota(person, 'pages');
    wanted := private.lock_access_request(of_request, 'access_request.approve');
    if wanted.id is null then
        return null;
    elsif wanted.status not in ('OPEN', 'APPROVED') then
        raise exception 'access_request_closed' using errcode = 'RG409';
    elsif wanted.status = 'OPEN' and wanted.review_asked_at is not null then
        raise exception 'review_pending' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set status = 'APPROVED', decided_by = coalesce(a.decided_by, person),
        decided_at = coalesce(a.decided_at, private.now()), export_status = 'PREPARING', export_error = null
    where a.id = of_request returning a.* into wanted;
    if not exists (
        select from jobs.procrastinate_jobs as j
        where j.lock = 'export_access_request:' || of_request and j.status in ('todo', 'doing')
    ) then
        perform private.put_job('export_access_request', of_request);
    end if;
    perform private.audit_request('access_request.approve', wanted, array['status']);
    return wanted.id;
end
$$;

-- Records that a compliance officer denies an access request on a ground of 45 CFR 164.524(a)(2), or on a ground of
-- (a)(3) that a clinician determined. Raises RG409 (access_request_closed, review_pending, clinician_unknown,
-- request_has_no_representative).
create function private.deny_access_request(
    of_request uuid, ground text, determined uuid
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted resguardo.access_requests;
begin
    wanted := private.lock_access_request(of_request, 'access_request.deny');
    if wanted.id is null then
        return null;
    elsif wanted.status <> 'OPEN' then
        raise exception 'access_request_closed' using errcode = 'RG409';
    elsif wanted.review_asked_at is not null then
        raise exception 'review_pending' using errcode = 'RG409';
    elsif determined is not null and not private.is_active_clinician(determined) then
        raise exception 'clinician_unknown' using errcode = 'RG409';
    elsif ground = 'REPRESENTATIVE_HARMS' and wanted.representative_name is null then
        raise exception 'request_has_no_representative' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set status = 'DENIED', decided_by = person, decided_at = private.now(), denial_ground = ground,
        determined_by = determined
    where a.id = of_request returning a.* into wanted;
    perform private.audit_request(
        'access_request.deny', wanted, array['status', 'denial.ground', 'denial.determinedBy.id']
    );
    return wanted.id;
end
$$;

-- Raises RG409 (extended_already, past_due) if the deadline of a patient's request was extended before, or has passed.
create function private.require_extendable(extended_at timestamptz, due_on date) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if extended_at is not null then
        raise exception 'extended_already' using errcode = 'RG409';
    elsif private.today() > due_on then
        raise exception 'past_due' using errcode = 'RG409';
    end if;
end
$$;

-- Extends the deadline of an access request once, by at most 30 days, if a compliance officer asks for this on or
-- before the due day. Raises RG409 (access_request_closed, review_pending, extended_already, past_due).
create function private.extend_access_request(
    of_request uuid, days integer, reason text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    perform private.person();
    wanted := private.lock_access_request(of_request, 'access_request.extend');
    if wanted.id is null then
        return null;
    elsif wanted.status not in ('OPEN', 'APPROVED') then
        raise exception 'access_request_closed' using errcode = 'RG409';
    elsif wanted.status = 'OPEN' and wanted.review_asked_at is not null then
        raise exception 'review_pending' using errcode = 'RG409';
    end if;
    perform private.require_extendable(wanted.extended_at, wanted.due_on);
    update resguardo.access_requests as a
    set due_on = a.due_on + days, extension_reason = reason, extended_at = private.now()
    where a.id = of_request returning a.* into wanted;
    perform private.audit_request('access_request.extend', wanted, array['dueOn', 'extension.reason']);
    return wanted.id;
end
$$;

-- Asks for the review of a denial on a reviewable ground; the caller is the patient, or a compliance officer if the
-- request came in writing. When a review is asked for, the access request is open again, and its recordings are kept
-- until the outcome of the review is recorded. The deadline for the review is 30 days; 45 CFR 164.524(d)(4) only says
-- "within a reasonable period of time". If the review was already asked for, the function changes nothing. Raises
-- RG409 (not_reviewable, reviewed_already, access_request_open_already, request_not_written), RG429 (quota_pages).
create function private.ask_access_review(of_request uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    wanted := private.lock_for_patient(of_request, 'access_request.ask_review');
    if wanted.id is null then
        return null;
    elsif wanted.status = 'OPEN' and wanted.review_asked_at is not null then
        perform private.audit_request('access_request.ask_review', wanted, array['status']);
        return wanted.id;
    elsif wanted.reviewed_at is not null then
        raise exception 'reviewed_already' using errcode = 'RG409';
    elsif wanted.status <> 'DENIED' or wanted.determined_by is null then
        raise exception 'not_reviewable' using errcode = 'RG409';
    end if;
    perform private.lock_keeping(true);
    if exists (
        select from resguardo.access_requests as a
        where a.patient_id = wanted.patient_id and a.consultation_id is not distinct from wanted.consultation_id
            and a.status in ('OPEN', 'APPROVED')
    ) then
        raise exception 'access_request_open_already' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set status = 'OPEN', review_asked_at = private.now(), due_on = greatest(a.due_on, private.today() + 30)
    where a.id = of_request returning a.* into wanted;
    perform private.audit_request('access_request.ask_review', wanted, array['status', 'dueOn']);
    return wanted.id;
end
$$;

-- Records, for a compliance officer, the outcome of a review by a clinician who took no part in the denial of the
-- access request. Raises RG409 (no_review_asked, clinician_unknown, reviewer_took_part).
create function private.record_access_review(
    of_request uuid, reviewer uuid, outcome text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    perform private.person();
    wanted := private.lock_access_request(of_request, 'access_request.review');
    if wanted.id is null then
        return null;
    elsif wanted.status <> 'OPEN' or wanted.review_asked_at is null then
        raise exception 'no_review_asked' using errcode = 'RG409';
    elsif not private.is_active_clinician(reviewer) then
        raise exception 'clinician_unknown' using errcode = 'RG409';
    elsif reviewer = wanted.determined_by then
        raise exception 'reviewer_took_part' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set status = case outcome when 'REVERSED' then 'APPROVED' else 'DENIED' end,
        export_status = case outcome when 'REVERSED' then 'PREPARING' end,
        reviewed_by = reviewer, reviewed_at = private.now(), review_outcome = outcome
    where a.id = of_request returning a.* into wanted;
    if wanted.status = 'APPROVED' then
        perform private.put_job('export_access_request', of_request);
    end if;
    perform private.audit_request(
        'access_request.review', wanted, array['status', 'denial.reviewOutcome', 'denial.reviewedBy.id']
    );
    return wanted.id;
end
$$;

-- Returns the access requests that compliance neither approved nor denied before their due day.
create function private.overdue_access_requests() returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select a.id from resguardo.access_requests as a
        where a.status in ('OPEN', 'APPROVED') and a.due_on < private.today()
        order by a.due_on, a.id
    );
end
$$;
