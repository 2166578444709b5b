-- Disclosures of a patient's information to others (45 CFR 164.528), and the suspensions of the patient's right to see
-- them. The recipient and the disclosed information are free text, which the database stores encrypted with the data
-- key of the patient.

create table private.patient_texts (
    id uuid constraint patient_texts_pkey primary key,
    patient_id uuid not null constraint patient_texts_patient_id_fkey references resguardo.patients (id),
    ciphertext bytea not null
    constraint patient_texts_ciphertext_length check (length(ciphertext) between 29 and 67108864)
);
comment on table private.patient_texts is
'Texts of disclosures, suspensions, accountings and amendments, each encrypted with the data key of its patient.';
comment on column private.patient_texts.id is 'The id of the row that the text belongs to.';
create index patient_texts_patient_idx on private.patient_texts (patient_id);

create table resguardo.disclosures (
    id uuid primary key default gen_random_uuid(),
    patient_id uuid not null constraint disclosures_patient_id_fkey references resguardo.patients (id),
    consultation_id uuid,
    disclosed_on date not null,
    last_disclosed_on date,
    disclosure_count integer not null default 1
    constraint disclosures_count_range check (disclosure_count between 1 and 100000),
    purpose text not null
    constraint disclosures_purpose_is_known check (
        purpose in (
            'REQUIRED_BY_LAW', 'PUBLIC_HEALTH', 'ABUSE_REPORT', 'HEALTH_OVERSIGHT', 'JUDICIAL', 'LAW_ENFORCEMENT',
            'DECEDENT', 'ORGAN_DONATION', 'RESEARCH', 'SERIOUS_THREAT', 'GOVERNMENT_FUNCTION', 'WORKERS_COMPENSATION',
            'HHS_INVESTIGATION', 'NOT_PERMITTED', 'TREATMENT', 'PAYMENT', 'OPERATIONS', 'PATIENT_REQUEST',
            'AUTHORIZATION', 'INVOLVED_IN_CARE', 'INCIDENTAL', 'NATIONAL_SECURITY', 'CORRECTIONAL', 'LIMITED_DATA_SET'
        )
    ),
    is_accounted boolean not null generated always as (
        purpose not in (
            'TREATMENT', 'PAYMENT', 'OPERATIONS', 'PATIENT_REQUEST', 'AUTHORIZATION', 'INVOLVED_IN_CARE', 'INCIDENTAL',
            'NATIONAL_SECURITY', 'CORRECTIONAL', 'LIMITED_DATA_SET'
        )
    ) stored,
    authorized_on date,
    authorization_expires_on date,
    recorded_by uuid not null constraint disclosures_recorded_by_fkey references resguardo.staff (user_id),
    recorded_at timestamptz not null default private.now(),
    constraint disclosures_consultation_fkey foreign key (consultation_id, patient_id)
    references resguardo.consultations (id, patient_id),
    constraint disclosures_series_is_whole check (
        (last_disclosed_on is null) = (disclosure_count = 1) and last_disclosed_on >= disclosed_on is not false
    ),
    constraint disclosures_authorization_is_whole check (
        (purpose <> 'AUTHORIZATION' or authorized_on is not null)
        and (authorization_expires_on is null or authorization_expires_on >= authorized_on)
    )
);
alter table resguardo.disclosures enable row level security;
comment on column resguardo.disclosures.consultation_id is
'The consultation that the disclosed information is about. Null if it is about more than one.';
comment on column resguardo.disclosures.disclosed_on is 'The day of the disclosure, or of the first one of a series.';
comment on column resguardo.disclosures.last_disclosed_on is
'The day of the last disclosure of a series to the same recipient for the same purpose (164.528(b)(3)).';
comment on column resguardo.disclosures.is_accounted is
'Whether an accounting contains the disclosure. 164.528(a)(1) excepts the other purposes.';
create index disclosures_patient_idx on resguardo.disclosures (patient_id, disclosed_on desc, id desc);
create index disclosures_accounted_idx on resguardo.disclosures (patient_id, disclosed_on desc, id desc)
where is_accounted;
create index disclosures_disclosed_idx on resguardo.disclosures (disclosed_on desc, id desc);
create index disclosures_consultation_idx on resguardo.disclosures (consultation_id, patient_id);
create index disclosures_recorded_by_idx on resguardo.disclosures (recorded_by);

create table resguardo.disclosure_suspensions (
    id uuid primary key default gen_random_uuid(),
    patient_id uuid not null constraint disclosure_suspensions_patient_id_fkey references resguardo.patients (id),
    agency text not null constraint disclosure_suspensions_agency_is_known check (
        agency in ('HEALTH_OVERSIGHT', 'LAW_ENFORCEMENT')
    ),
    is_written boolean not null,
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    placed_by uuid not null constraint disclosure_suspensions_placed_by_fkey references resguardo.staff (user_id),
    lifted_by uuid constraint disclosure_suspensions_lifted_by_fkey references resguardo.staff (user_id),
    lifted_at timestamptz,
    constraint disclosure_suspensions_range check (ends_at > starts_at),
    constraint disclosure_suspensions_oral_is_short check (is_written or ends_at <= starts_at + interval '30 days'),
    constraint disclosure_suspensions_lifting_is_whole check ((lifted_by is null) = (lifted_at is null))
);
alter table resguardo.disclosure_suspensions enable row level security;
comment on table resguardo.disclosure_suspensions is
'Suspensions that an agency asked for. Until a suspension ends, no accounting shows the disclosures to that agency.';
comment on column resguardo.disclosure_suspensions.is_written is
'False for an oral statement, which suspends for at most 30 days (164.528(a)(2)(ii)).';
comment on column resguardo.disclosure_suspensions.lifted_at is 'When compliance lifted the suspension early.';
create index disclosure_suspensions_patient_idx
on resguardo.disclosure_suspensions (patient_id, ends_at desc);
create index disclosure_suspensions_starts_idx on resguardo.disclosure_suspensions (starts_at desc, id desc);
create index disclosure_suspensions_patient_starts_idx
on resguardo.disclosure_suspensions (patient_id, starts_at desc, id desc);
create index disclosure_suspensions_placed_by_idx on resguardo.disclosure_suspensions (placed_by);
create index disclosure_suspensions_lifted_by_idx on resguardo.disclosure_suspensions (lifted_by);

-- Returns the suspensions of a patient that are in effect now. While one is in effect, the patient sees no disclosure
-- to its agency, and no entry of the audit log about such a disclosure.
create function private.disclosure_suspensions(of_patient uuid)
returns table (suspension_id uuid, agency text, starts_at timestamptz, ends_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select s.id, s.agency, s.starts_at, s.ends_at
    from resguardo.disclosure_suspensions as s
    where s.patient_id = of_patient and s.lifted_at is null and s.ends_at > private.now()
        and s.starts_at <= private.now();
end
$$;

-- Returns the patient with the id or the external id that the caller named. If the patient does not exist, or the
-- caller named a consultation that is not the patient's, the function writes an audit row and returns null.
create function private.require_patient(of_action text, of_patient uuid, of_consultation uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from resguardo.patients as p where p.id = of_patient) and (
        of_consultation is null or exists (
            select from resguardo.consultations as c where c.id = of_consultation and c.patient_id = of_patient
        )
    ) then
        return of_patient;
    end if;
    perform private.write_audit(
        of_action,
        case
            when exists (select from resguardo.patients as p where p.id = of_patient)
                and exists (select from resguardo.consultations as c where c.id = of_consultation)
                then 'FAILED'
            else 'ABSENT'
        end,
        'not_found', case when of_consultation is null then 'patient' else 'consultation' end,
        array_remove(array[coalesce(of_consultation, of_patient)], null),
        array(select p.id from resguardo.patients as p where p.id = of_patient),
        array(select c.id from resguardo.consultations as c where c.id = of_consultation), '{}', 0, null
    );
    return null;
end
$$;

-- Stores the encrypted text of a row that this transaction has inserted or changed, and whose audit row is pending.
create function private.store_patient_text(of_id uuid, of_patient uuid, new_ciphertext bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_person();
    if not exists (
        select from private.pending_audit_rows as p
        where p.transaction_id = pg_current_xact_id() and p.entity_id = of_id and p.patient_id = of_patient
    ) then
        raise exception 'text_not_begun' using errcode = 'RG403';
    end if;
    insert into private.patient_texts (id, patient_id, ciphertext) values (of_id, of_patient, new_ciphertext);
end
$$;

-- Records a disclosure, and returns its id and the data key of the patient, which is `offered` if the patient has none
-- yet. The transaction must then call store_patient_text(). Returns no row if the patient or the consultation does not
-- exist. Raises RG409 (disclosed_on_ahead, authorization_expired), RG429 (quota_pages).
create function private.record_disclosure(
    of_patient uuid, of_consultation uuid, first_on date, last_on date, how_many integer, of_purpose text,
    signed_on date, expires_on date, offered bytea, offered_root_key text
) returns table (disclosure_id uuid, patient_id uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    patient uuid;
    recorded uuid;
begin
    perform private.use_quota(officer, 'pages');
    patient := private.require_patient('disclosure.record', of_patient, of_consultation);
    if patient is null then
        return;
    elsif greatest(first_on, last_on, signed_on) > private.today() + 1 then
        raise exception 'disclosed_on_ahead' using errcode = 'RG409';
    elsif of_purpose = 'AUTHORIZATION' and (signed_on > first_on or expires_on < coalesce(last_on, first_on)) then
        raise exception 'authorization_expired' using errcode = 'RG409';
    end if;
    perform private.make_patient_key(patient, of_consultation, offered, offered_root_key);
    insert into resguardo.disclosures as d (
        patient_id, consultation_id, disclosed_on, last_disclosed_on, disclosure_count, purpose, authorized_on,
        authorization_expires_on, recorded_by
    ) values (
        patient, of_consultation, first_on, last_on, how_many, of_purpose, signed_on, expires_on, officer
    )
    returning d.id into recorded;
    if of_purpose in ('HEALTH_OVERSIGHT', 'LAW_ENFORCEMENT') then
        perform set_config('resguardo.purpose', 'LEGAL', true);
    end if;
    perform private.write_audit_later(
        'disclosure.record', null, 'disclosure', recorded, patient, of_consultation, array['disclosure'], null
    );
    return query
    select recorded, patient, k.wrapped_key, k.root_key_id from private.patient_keys as k where k.patient_id = patient;
end
$$;

-- Writes the audit row, and returns the encrypted texts of the disclosures or suspensions in `shown`, with the data
-- keys of their patients, as one row of arrays. A text whose key was destroyed is null. `asked` is the patient by which
-- the caller asked, or null.
create function private.read_disclosure_texts(of_action text, asked uuid, shown jsonb, of_fields text[])
returns table (
    row_ids uuid[], patient_ids uuid[], ciphertexts bytea[], wrapped_keys bytea[], root_keys text[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    kind constant text := case
        when of_action like '%suspension%' or of_action = 'disclosure.suspend' then 'disclosure_suspension'
        else 'disclosure'
    end;
    ids uuid[];
    patients uuid[];
    consultations uuid[];
begin
    if of_action not in (
        'disclosure.record', 'disclosure.list', 'disclosure.suspend', 'disclosure.lift_suspension',
        'disclosure.list_suspensions'
    ) then
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
    select array_agg((i.id)::uuid) into ids
    from jsonb_array_elements(shown) as e (entry)
    cross join lateral jsonb_array_elements_text(e.entry -> 'ids') as i (id)
    where e.entry ->> 'type' = kind;
    select array_agg(distinct o.patient_id), array_agg(distinct o.consultation_id) filter (
        where o.consultation_id is not null
    )
    into patients, consultations
    from (
        select d.patient_id, d.consultation_id from resguardo.disclosures as d where d.id = any(ids)
        union all
        select s.patient_id, null from resguardo.disclosure_suspensions as s where s.id = any(ids)
    ) as o;
    if not private.complete_audit_row(
        of_action, shown, patients, consultations, coalesce(cardinality(ids), 0), of_fields
    ) then
        perform private.use_quota(officer, 'pages');
        perform private.write_lookup(
            of_action, kind, 'patient', asked, true, shown, patients, consultations, coalesce(cardinality(ids), 0),
            of_fields
        );
    end if;
    return query
    select
        array_agg(t.id), array_agg(t.patient_id), array_agg(t.ciphertext), array_agg(k.wrapped_key),
        array_agg(k.root_key_id)
    from private.patient_texts as t
    inner join private.patient_keys as k on k.patient_id = t.patient_id
    where t.id = any(ids);
end
$$;

-- Suspends the patient's right to see the disclosures to an agency, and returns the id of the suspension and the data
-- key of the patient. The transaction must then call store_patient_text(). Returns no row if the patient does not
-- exist. An oral statement suspends once, for at most 30 days: to go on, the agency must write. Raises RG409
-- (suspension_over, suspension_too_long, suspension_not_written).
create function private.suspend_disclosures(
    of_patient uuid, of_agency text, of_writing boolean, until timestamptz, offered bytea, offered_root_key text
) returns table (suspension_id uuid, patient_id uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    moment constant timestamptz := private.now();
    patient uuid;
    placed uuid;
begin
    perform private.use_quota(officer, 'pages');
    patient := private.require_patient('disclosure.suspend', of_patient, null);
    if patient is null then
        return;
    elsif until <= moment then
        raise exception 'suspension_over' using errcode = 'RG409';
    elsif (until > moment + case when of_writing then interval '6 years' else interval '30 days' end) then
        raise exception 'suspension_too_long' using errcode = 'RG409';
    end if;
    perform from resguardo.patients as p where p.id = patient for no key update;
    if not of_writing and exists (
        select from resguardo.disclosure_suspensions as s
        where s.patient_id = patient and s.agency = of_agency and not s.is_written
            and s.ends_at > moment - interval '30 days'
    ) then
        raise exception 'suspension_not_written' using errcode = 'RG409';
    end if;
    perform private.make_patient_key(patient, null, offered, offered_root_key);
    insert into resguardo.disclosure_suspensions as s (patient_id, agency, is_written, starts_at, ends_at, placed_by)
    values (patient, of_agency, of_writing, moment, until, officer)
    returning s.id into placed;
    perform set_config('resguardo.purpose', 'LEGAL', true);
    perform private.write_audit_later(
        'disclosure.suspend', null, 'disclosure_suspension', placed, patient, null, array['disclosureSuspension'], null
    );
    return query
    select placed, patient, k.wrapped_key, k.root_key_id from private.patient_keys as k where k.patient_id = patient;
end
$$;

-- Lifts a suspension before its time, and returns its id. A suspension that has ended stays as it is. Returns null, and
-- writes the audit row, if the suspension does not exist.
create function private.lift_disclosure_suspension(of_suspension uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    placed resguardo.disclosure_suspensions;
begin
    perform private.use_quota(officer, 'pages');
    select s.* into placed from resguardo.disclosure_suspensions as s where s.id = of_suspension for update;
    if placed.id is null then
        perform private.write_audit(
            'disclosure.lift_suspension', 'ABSENT', 'not_found', 'disclosure_suspension', array[of_suspension], '{}',
            '{}', '{}', 0, null
        );
        return null;
    end if;
    update resguardo.disclosure_suspensions as s set lifted_at = private.now(), lifted_by = officer
    where s.id = of_suspension and s.lifted_at is null and s.ends_at > private.now();
    perform set_config('resguardo.purpose', 'LEGAL', true);
    perform private.write_audit_later(
        'disclosure.lift_suspension', null, 'disclosure_suspension', placed.id, placed.patient_id, null,
        array['disclosureSuspension'], null
    );
    return placed.id;
end
$$;

-- Returns a page of the audit events of a patient, or of all patients, that record that information left the system.
-- The newest event is first. Writes an audit row. The function searches each action separately, because a filter of the
-- audit log names one action. A PDF of a signed note has no action of its own: it is a read of the note. For all
-- patients, an index finds the reads that returned a PDF. For one patient, the function goes through the patient's
-- reads of notes in batches until the page is full.
create function private.read_released_copies(
    of_patient uuid, since timestamptz, until timestamptz, before_at timestamptz, before_id uuid, page_size integer,
    shown_fields text[]
) returns setof audit.events
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    most constant integer := least(page_size, 101);
    wanted private.audit_filter := row(
        null, null, '{ALLOWED}', null, of_patient, null, null, null, null, since, until
    );
    action text;
    copies audit.events[] := '{}';
    batch audit.events[];
    last_read audit.events;
    wanted_pdfs integer := most;
begin
    perform private.use_quota(officer, 'pages');
    foreach action in array array[
        'recording.issue_url', 'transcript.issue_url', 'access_request.export', 'access_request.issue_url',
        'audit.export_url', 'accounting.issue', 'disclosure.record', 'transcript.begin', 'insights.begin',
        'transcript.ask', 'note_draft.begin'
    ] loop
        wanted.action := action;
        copies := copies || array(select e from private.find_audit_events(wanted, before_at, before_id, most) as e);
    end loop;
    if of_patient is null then
        copies := copies || array(
            select a from audit.events as a
            where a.action = 'note.read' and a.outcome = 'ALLOWED' and a.fields @> '{pdfBase64}'
                and (since is null or a.recorded_at >= since) and (until is null or a.recorded_at < until)
                and (before_at is null or (a.recorded_at, a.id) < (before_at, before_id))
            order by a.recorded_at desc, a.id desc limit most
        );
    end if;
    wanted.action := 'note.read';
    last_read.recorded_at := before_at;
    last_read.id := before_id;
    while of_patient is not null loop
        batch := array(
            select e from private.find_audit_events(wanted, last_read.recorded_at, last_read.id, 1000) as e
        );
        copies := copies || array(select b from unnest(batch) as b where 'pdfBase64' = any(b.fields));
        wanted_pdfs := wanted_pdfs - (select count(*) from unnest(batch) as b where 'pdfBase64' = any(b.fields));
        exit when cardinality(batch) < 1000 or wanted_pdfs <= 0;
        last_read := batch[1000];
    end loop;
    copies := array(select c from unnest(copies) as c order by c.recorded_at desc, c.id desc limit most);
    perform private.write_lookup(
        'disclosure.list_copies', 'audit_event', 'patient', of_patient, true,
        private.entities_of('audit_event', array(select c.id from unnest(copies) as c)),
        array_remove(array[of_patient], null), '{}', least(cardinality(copies), page_size - 1), shown_fields
    );
    return query select c.* from unnest(copies) as c order by c.recorded_at desc, c.id desc;
end
$$;
