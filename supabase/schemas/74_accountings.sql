-- Requests for an accounting of disclosures (45 CFR 164.528(c)), and the accountings that the practice has issued.

create table resguardo.accounting_requests (
    id uuid primary key default gen_random_uuid(),
    patient_id uuid not null constraint accounting_requests_patient_id_fkey references resguardo.patients (id),
    status text not null default 'OPEN'
    constraint accounting_requests_status_is_known check (status in ('OPEN', 'FULFILLED', 'WITHDRAWN')),
    channel text not null constraint accounting_requests_channel_is_known check (channel in ('LOGIN', 'WRITTEN')),
    filed_by uuid not null,
    received_on date not null,
    due_on date not null,
    earliest_date date not null,
    latest_date date not null,
    is_free boolean not null,
    extension_reason text
    constraint accounting_requests_extension_reason_is_known check (
        extension_reason in ('VOLUME', 'STORED_ELSEWHERE', 'PROFESSIONAL_REVIEW', 'TECHNICAL_FAILURE', 'STAFF_ABSENCE')
    ),
    extended_at timestamptz,
    issued_by uuid constraint accounting_requests_issued_by_fkey references resguardo.staff (user_id),
    issued_at timestamptz,
    entry_count integer constraint accounting_requests_entry_count_is_count check (entry_count >= 0),
    sha256 text constraint accounting_requests_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    created_at timestamptz not null default private.now(),
    constraint accounting_requests_range check (
        earliest_date <= latest_date and latest_date <= received_on
        and earliest_date >= received_on - interval '6 years'
    ),
    constraint accounting_requests_extension_is_whole check ((extension_reason is null) = (extended_at is null)),
    constraint accounting_requests_clock_is_of_the_rule check (
        due_on between received_on + 60 and received_on + case when extended_at is null then 60 else 90 end
    ),
    constraint accounting_requests_issue_is_whole check (
        num_nonnulls(issued_by, issued_at, entry_count, sha256) = case status when 'FULFILLED' then 4 else 0 end
    )
);
alter table resguardo.accounting_requests enable row level security;
comment on column resguardo.accounting_requests.due_on is
'The last day to act, in UTC: 60 days after receipt, extended once by 30 at most (164.528(c)(1)).';
comment on column resguardo.accounting_requests.is_free is
'Whether it is the patient''s first request in 12 months, for which no fee may be charged (164.528(c)(2)).';
comment on column resguardo.accounting_requests.sha256 is 'The SHA-256 of the issued accounting, in hex.';
create unique index accounting_requests_one_open_key on resguardo.accounting_requests (patient_id)
where status = 'OPEN';
create index accounting_requests_patient_idx
on resguardo.accounting_requests (patient_id, created_at desc, id desc);
create index accounting_requests_patient_status_idx
on resguardo.accounting_requests (patient_id, status, created_at desc, id desc);
create index accounting_requests_created_idx on resguardo.accounting_requests (created_at desc, id desc);
create index accounting_requests_status_idx on resguardo.accounting_requests (status, created_at desc, id desc);
create index accounting_requests_due_idx on resguardo.accounting_requests (due_on) where status = 'OPEN';
create index accounting_requests_issued_by_idx on resguardo.accounting_requests (issued_by);

-- Writes the audit row of a change of a request before the commit.
create function private.audit_accounting(of_action text, asked resguardo.accounting_requests, of_fields text[])
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_later(
        of_action, null, 'accounting_request', asked.id, asked.patient_id, null, of_fields, null
    );
end
$$;

-- Locks and returns a request. A compliance officer may change every request, and a patient only the patient's own. If
-- the caller may not see the request or it does not exist, the function writes an audit row and returns nulls.
create function private.lock_accounting_request(of_request uuid, of_action text)
returns resguardo.accounting_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_patient constant boolean := current_setting('role') = 'patient';
    patient uuid;
    wanted resguardo.accounting_requests;
begin
    perform private.use_quota(person, 'pages');
    if is_patient then
        patient := private.patient();
    elsif current_setting('role') <> 'compliance' then
        raise exception 'wrong_role' using errcode = 'RG403';
    end if;
    select a.* into wanted from resguardo.accounting_requests as a where a.id = of_request;
    if wanted.id is null or (is_patient and wanted.patient_id <> patient) then
        perform private.write_audit(
            of_action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'accounting_request',
            array[of_request], array_remove(array[wanted.patient_id], null), '{}', '{}', 0, null
        );
        return null;
    end if;
    select a.* into wanted from resguardo.accounting_requests as a where a.id = of_request for update;
    return wanted;
end
$$;

-- Files a request for an accounting of the disclosures in a range of days, which is at most the six years before the
-- day of receipt. Patients file for themselves, and a compliance officer for a patient who asked in writing within the
-- last 90 days. Returns the id of the request, or of the open request of the same patient. Returns null if the patient
-- does not exist. Raises RG409 (bad_accounting_dates), RG429 (quota_pages).
create function private.file_accounting_request(of_patient uuid, received date, earliest date, latest date)
returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_patient constant boolean := current_setting('role') = 'patient';
    today constant date := private.today();
    filed resguardo.accounting_requests;
begin
    perform private.use_quota(person, 'pages');
    if is_patient then
        of_patient := private.patient();
        received := today;
    elsif current_setting('role') <> 'compliance' then
        raise exception 'wrong_role' using errcode = 'RG403';
    else
        of_patient := private.require_patient('accounting.file', of_patient, null);
    end if;
    if of_patient is null then
        return null;
    end if;
    latest := coalesce(latest, received);
    earliest := coalesce(earliest, (received - interval '6 years')::date);
    if received is null or received > today or received < today - 90 or earliest > latest or latest > received
        or earliest < received - interval '6 years'
    then
        raise exception 'bad_accounting_dates' using errcode = 'RG409';
    end if;
    perform from resguardo.patients as p where p.id = of_patient for no key update;
    select a.* into filed from resguardo.accounting_requests as a
    where a.patient_id = of_patient and a.status = 'OPEN' for update;
    if filed.id is null then
        insert into resguardo.accounting_requests as a (
            patient_id, channel, filed_by, received_on, due_on, earliest_date, latest_date, is_free
        ) values (
            of_patient, case when is_patient then 'LOGIN' else 'WRITTEN' end, person, received, received + 60, earliest,
            latest, not exists (
                select from resguardo.accounting_requests as o
                where o.patient_id = of_patient and o.status <> 'WITHDRAWN'
                    and o.received_on > received - interval '12 months'
            )
        )
        returning a.* into filed;
    end if;
    perform private.audit_accounting('accounting.file', filed, array['status', 'receivedOn', 'dueOn']);
    return filed.id;
end
$$;

-- Withdraws a request. A second withdrawal changes nothing. Returns null if the caller may not see the request or it
-- does not exist. Raises RG409 (accounting_request_closed), RG429 (quota_pages).
create function private.withdraw_accounting_request(of_request uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.accounting_requests := private.lock_accounting_request(of_request, 'accounting.withdraw');
begin
    if wanted.id is null then
        return null;
    elsif wanted.status = 'FULFILLED' then
        raise exception 'accounting_request_closed' using errcode = 'RG409';
    end if;
    update resguardo.accounting_requests as a set status = 'WITHDRAWN' where a.id = of_request;
    perform private.audit_accounting('accounting.withdraw', wanted, array['status']);
    return wanted.id;
end
$$;

-- Extends the deadline of a request once, by at most 30 days, on or before the due day. Returns null if the request
-- does not exist. Raises RG409 (accounting_request_closed, extended_already, past_due), RG429 (quota_pages).
create function private.extend_accounting_request(of_request uuid, days integer, reason text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.accounting_requests;
begin
    perform private.person();
    wanted := private.lock_accounting_request(of_request, 'accounting.extend');
    if wanted.id is null then
        return null;
    elsif wanted.status <> 'OPEN' then
        raise exception 'accounting_request_closed' using errcode = 'RG409';
    end if;
    perform private.require_extendable(wanted.extended_at, wanted.due_on);
    update resguardo.accounting_requests as a
    set due_on = a.due_on + days, extension_reason = reason, extended_at = private.now()
    where a.id = of_request;
    perform private.audit_accounting('accounting.extend', wanted, array['dueOn', 'extension.reason']);
    return wanted.id;
end
$$;

-- Begins to issue the accounting of a request, and returns the request's range of days and the data key of the patient,
-- which is `offered` if the patient has none yet. If the accounting was issued before, `issued` has its ciphertext, and
-- the transaction changes nothing. Returns no row if the request does not exist. Raises RG409
-- (accounting_request_closed), RG429 (quota_pages).
create function private.begin_accounting(of_request uuid, offered bytea, offered_root_key text)
returns table (
    patient_id uuid, earliest_date date, latest_date date, received_on date, issued bytea, wrapped bytea, root_key text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.accounting_requests;
begin
    perform private.person();
    wanted := private.lock_accounting_request(of_request, 'accounting.issue');
    if wanted.id is null then
        return;
    elsif wanted.status = 'WITHDRAWN' then
        raise exception 'accounting_request_closed' using errcode = 'RG409';
    end if;
    perform private.audit_accounting('accounting.issue', wanted, array['accounting']);
    if wanted.status = 'OPEN' then
        perform private.make_patient_key(wanted.patient_id, null, offered, offered_root_key);
    end if;
    return query
    select
        wanted.patient_id, wanted.earliest_date, wanted.latest_date, wanted.received_on, t.ciphertext, k.wrapped_key,
        k.root_key_id
    from (select) as one
    left join private.patient_texts as t on t.id = wanted.id
    left join private.patient_keys as k on k.patient_id = wanted.patient_id;
end
$$;

-- Returns the entries of the accounting that this transaction has begun, the latest day first, and at most 20,001. A
-- disclosure to an agency that has asked for a suspension is left out until the suspension ends.
create function private.read_accounting_entries(of_request uuid)
returns table (
    id uuid, disclosed_on date, last_disclosed_on date, disclosure_count integer, purpose text, ciphertext bytea,
    is_substance_use boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.accounting_requests;
    hidden text[];
    sensitive uuid[];
begin
    perform private.person();
    select a.* into wanted from resguardo.accounting_requests as a
    inner join private.pending_audit_rows as p
        on p.transaction_id = pg_current_xact_id() and p.entity_id = a.id and p.action = 'accounting.issue'
    where a.id = of_request;
    hidden := array(select s.agency from private.disclosure_suspensions(wanted.patient_id) as s);
    sensitive := array(
        select c.id from resguardo.consultations as c
        where c.patient_id = wanted.patient_id and c.sensitivity = 'SUBSTANCE_USE'
    );
    return query
    select
        d.id, d.disclosed_on, d.last_disclosed_on, d.disclosure_count, d.purpose, t.ciphertext,
        coalesce(d.consultation_id = any(sensitive), sensitive <> '{}')
    from resguardo.disclosures as d
    left join private.patient_texts as t on t.id = d.id
    where d.patient_id = wanted.patient_id and d.is_accounted and d.purpose <> all(hidden)
        and coalesce(d.last_disclosed_on, d.disclosed_on) >= wanted.earliest_date
        and d.disclosed_on <= wanted.latest_date
    order by d.disclosed_on desc, d.id desc
    limit 20001;
end
$$;

-- Stores the accounting that this transaction has begun, and marks its request as FULFILLED.
create function private.finish_accounting(of_request uuid, new_ciphertext bytea, of_sha256 text, entries integer)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    issued resguardo.accounting_requests;
begin
    update resguardo.accounting_requests as a
    set status = 'FULFILLED', issued_by = officer, issued_at = private.now(), entry_count = entries, sha256 = of_sha256
    where a.id = of_request and a.status = 'OPEN'
    returning a.* into issued;
    perform private.store_patient_text(of_request, issued.patient_id, new_ciphertext);
    update private.pending_audit_rows as p set digest = of_sha256, byte_count = length(new_ciphertext)
    where p.transaction_id = pg_current_xact_id() and p.entity_id = of_request;
end
$$;

-- Returns the open requests whose due day has passed, the longest overdue first.
create function private.overdue_accounting_requests() returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select a.id from resguardo.accounting_requests as a
        where a.status = 'OPEN' and a.due_on < private.today()
        order by a.due_on, a.id
    );
end
$$;
