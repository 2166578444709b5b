-- What becomes of a request for access: its patient withdraws it, or has a denial reviewed; compliance decides.

-- The request for its patient, or for compliance on the patient's written word, locked; all null as by
-- lock_access_request. Raises RG409 (request_not_written), RG429 (quota_pages).
create function private.lock_for_patient(
    of_request uuid, of_action text, quota integer
) returns resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    perform private.use_quota(private.require_person(), 'pages', quota);
    wanted := private.lock_access_request(of_request, of_action);
    if current_setting('role') <> 'patient' and wanted.channel <> 'WRITTEN' then
        raise exception 'request_not_written' using errcode = 'RG409';
    end if;
    return wanted;
end
$$;

-- By its patient, or by compliance where it came in writing; again, nothing changes. Raises RG409
-- (access_request_closed, request_not_written), RG429 (quota_pages).
create function private.withdraw_access_request(
    of_request uuid, quota integer
) returns setof resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    wanted := private.lock_for_patient(of_request, 'access_request.withdraw', quota);
    if wanted.id is null then
        return;
    elsif wanted.status not in ('OPEN', 'APPROVED', 'WITHDRAWN') then
        raise exception 'access_request_closed' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set status = 'WITHDRAWN', export_status = null, export_error = null
    where a.id = of_request returning a.* into wanted;
    perform private.audit_request('access_request.withdraw', wanted, array['status']);
    return next wanted;
end
$$;

-- By compliance: the copy is made, or made anew where that failed; while one is being made, no other is begun. Raises
-- RG409 (access_request_closed, review_pending), RG429 (quota_pages).
create function private.approve_access_request(
    of_request uuid, quota integer
) returns setof resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted resguardo.access_requests;
begin
    perform private.use_quota(person, 'pages', quota);
    wanted := private.lock_access_request(of_request, 'access_request.approve');
    if wanted.id is null then
        return;
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
    return next wanted;
end
$$;

-- By compliance, on a ground of 164.524(a)(2), or of (a)(3) that a clinician determined. Raises RG409
-- (access_request_closed, review_pending, clinician_unknown, request_has_no_representative).
create function private.deny_access_request(
    of_request uuid, ground text, determined uuid
) returns setof resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted resguardo.access_requests;
begin
    wanted := private.lock_access_request(of_request, 'access_request.deny');
    if wanted.id is null then
        return;
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
    perform private.audit_request('access_request.deny', wanted, array['status', 'denial_ground', 'determined_by']);
    return next wanted;
end
$$;

-- By compliance, once, on or before the day it is due, by 30 days at most. Raises RG409 (access_request_closed,
-- review_pending, extended_already, past_due).
create function private.extend_access_request(
    of_request uuid, days integer, reason text
) returns setof resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    perform private.person();
    wanted := private.lock_access_request(of_request, 'access_request.extend');
    if wanted.id is null then
        return;
    elsif wanted.status not in ('OPEN', 'APPROVED') then
        raise exception 'access_request_closed' using errcode = 'RG409';
    elsif wanted.status = 'OPEN' and wanted.review_asked_at is not null then
        raise exception 'review_pending' using errcode = 'RG409';
    elsif wanted.extended_at is not null then
        raise exception 'extended_already' using errcode = 'RG409';
    elsif private.today() > wanted.due_on then
        raise exception 'past_due' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set due_on = a.due_on + days, extension_reason = reason, extended_at = private.now()
    where a.id = of_request returning a.* into wanted;
    perform private.audit_request('access_request.extend', wanted, array['due_on', 'extension_reason']);
    return next wanted;
end
$$;

-- By its patient, or by compliance where it came in writing, of a denial on a reviewable ground: the request is open
-- again, and holds, until the review is recorded; for that we give ourselves 30 days (the rule: "within a reasonable
-- period of time", (d)(4)). Again, nothing changes. Raises RG409 (not_reviewable, reviewed_already,
-- access_request_open_already, request_not_written), RG429 (quota_pages).
create function private.ask_access_review(
    of_request uuid, quota integer
) returns setof resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    wanted := private.lock_for_patient(of_request, 'access_request.ask_review', quota);
    if wanted.id is null then
        return;
    elsif wanted.status = 'OPEN' and wanted.review_asked_at is not null then
        perform private.audit_request('access_request.ask_review', wanted, array['status']);
        return next wanted;
        return;
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
    perform private.audit_request('access_request.ask_review', wanted, array['status', 'due_on']);
    return next wanted;
end
$$;

-- By compliance: what another clinician, who took no part in the denial, has come to. Raises RG409 (no_review_asked,
-- clinician_unknown, reviewer_took_part).
create function private.record_access_review(
    of_request uuid, reviewer uuid, outcome text
) returns setof resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    perform private.person();
    wanted := private.lock_access_request(of_request, 'access_request.review');
    if wanted.id is null then
        return;
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
    perform private.audit_request('access_request.review', wanted, array['status', 'review_outcome', 'reviewed_by']);
    return next wanted;
end
$$;
