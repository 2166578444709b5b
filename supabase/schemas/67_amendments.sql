-- Requests to amend a patient's record (45 CFR 164.526). Each text is a statement of its own, encrypted with the data
-- key of the patient. Statements are only ever added: nothing changes or removes one.

create table resguardo.amendments (
    id uuid primary key default gen_random_uuid(),
    patient_id uuid not null constraint amendments_patient_id_fkey references resguardo.patients (id),
    consultation_id uuid not null,
    doctor_id uuid not null,
    recording_id uuid,
    part text not null
    constraint amendments_part_is_known check (part in ('TRANSCRIPT', 'INSIGHTS', 'SIGNED_NOTE', 'RECORD')),
    status text not null default 'OPEN'
    constraint amendments_status_is_known check (status in ('OPEN', 'ACCEPTED', 'DENIED')),
    channel text not null constraint amendments_channel_is_known check (channel in ('LOGIN', 'WRITTEN')),
    is_by_representative boolean not null,
    filed_by uuid not null,
    received_on date not null,
    due_on date not null,
    extension_reason text
    constraint amendments_extension_reason_is_known check (
        extension_reason in ('VOLUME', 'STORED_ELSEWHERE', 'PROFESSIONAL_REVIEW', 'TECHNICAL_FAILURE', 'STAFF_ABSENCE')
    ),
    extended_at timestamptz,
    decided_by uuid constraint amendments_decided_by_fkey references resguardo.staff (user_id),
    decided_at timestamptz,
    denial_ground text
    constraint amendments_denial_ground_is_known check (
        denial_ground in ('NOT_CREATED_BY_US', 'NOT_IN_RECORD_SET', 'NOT_ACCESSIBLE', 'ACCURATE_AND_COMPLETE')
    ),
    inclusion_asked_at timestamptz,
    created_at timestamptz not null default private.now(),
    constraint amendments_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint amendments_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint amendments_part_has_its_recording check (part = 'RECORD' or recording_id is not null),
    constraint amendments_representative_writes check (not is_by_representative or channel = 'WRITTEN'),
    constraint amendments_extension_is_whole check ((extension_reason is null) = (extended_at is null)),
    constraint amendments_clock_is_of_the_rule check (
        due_on between received_on + 60 and received_on + case when extended_at is null then 60 else 90 end
    ),
    constraint amendments_decision_is_whole check (
        num_nonnulls(decided_by, decided_at) = case status when 'OPEN' then 0 else 2 end
        and (denial_ground is not null) = (status = 'DENIED')
    ),
    constraint amendments_inclusion_follows_a_denial check (inclusion_asked_at is null or status = 'DENIED')
);
alter table resguardo.amendments enable row level security;
comment on column resguardo.amendments.part is
'The part that the patient asks to amend: texts of the recording, or the record of the consultation.';
comment on column resguardo.amendments.due_on is
'The last day to act, in UTC: 60 days after receipt, extended once by 30 at most (164.526(b)(2)).';
comment on column resguardo.amendments.denial_ground is 'The ground of a denial (164.526(a)(2)).';
comment on column resguardo.amendments.inclusion_asked_at is
'When the patient asked that future disclosures include the request and the denial (164.526(d)(1)(iii)).';
create index amendments_created_idx on resguardo.amendments (created_at desc, id desc);
create index amendments_patient_idx on resguardo.amendments (patient_id, created_at desc, id desc);
create index amendments_doctor_idx on resguardo.amendments (doctor_id, created_at desc, id desc);
create index amendments_consultation_idx on resguardo.amendments (consultation_id, created_at desc, id desc);
create index amendments_identity_idx on resguardo.amendments (consultation_id, doctor_id, patient_id);
create index amendments_recording_idx on resguardo.amendments (recording_id, consultation_id);
create index amendments_due_idx on resguardo.amendments (due_on) where status = 'OPEN';
create index amendments_decided_by_idx on resguardo.amendments (decided_by);

create table private.amendment_statements (
    id uuid primary key default gen_random_uuid(),
    amendment_id uuid not null constraint amendment_statements_amendment_id_fkey references resguardo.amendments (id),
    kind text not null
    constraint amendment_statements_kind_is_known check (
        kind in ('REQUEST', 'AMENDMENT', 'DENIAL', 'DISAGREEMENT', 'REBUTTAL')
    ),
    made_by uuid not null,
    made_at timestamptz not null default private.now(),
    constraint amendment_statements_one_of_each_key unique (amendment_id, kind)
);
comment on table private.amendment_statements is
'The statements of each request for an amendment. private.patient_texts has the encrypted text of each.';

-- Adds a statement to an amendment that this transaction has inserted or changed, and returns it with the data key of
-- the patient, which is `offered` if the patient has none yet. The transaction must then call store_amendment_text().
create function private.add_amendment_statement(
    changed resguardo.amendments, of_action text, of_kind text, of_fields text[], offered bytea, offered_root_key text
) returns table (amendment_id uuid, statement_id uuid, patient_id uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    added uuid;
begin
    perform private.make_patient_key(changed.patient_id, changed.consultation_id, offered, offered_root_key);
    insert into private.amendment_statements as s (amendment_id, kind, made_by) values (changed.id, of_kind, person)
    returning s.id into added;
    perform private.write_audit_later(
        of_action, null, 'amendment', changed.id, changed.patient_id, changed.consultation_id, of_fields, null
    );
    return query
    select changed.id, added, changed.patient_id, k.wrapped_key, k.root_key_id
    from private.patient_keys as k where k.patient_id = changed.patient_id;
end
$$;

-- Stores the encrypted text of a statement that this transaction has added.
create function private.store_amendment_text(of_statement uuid, new_ciphertext bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    patient uuid;
begin
    perform private.require_person();
    select a.patient_id into patient
    from private.amendment_statements as s
    inner join resguardo.amendments as a on a.id = s.amendment_id
    inner join private.pending_audit_rows as p
        on p.transaction_id = pg_current_xact_id() and p.entity_id = a.id
    where s.id = of_statement;
    if patient is null then
        raise exception 'text_not_begun' using errcode = 'RG403';
    end if;
    insert into private.patient_texts (id, patient_id, ciphertext) values (of_statement, patient, new_ciphertext);
end
$$;

-- Files a request to amend a part of a consultation's record. Patients file for themselves, and a compliance officer
-- for a patient or a representative who asked in writing within the last 90 days. Returns no row if the caller may not
-- see the consultation or the recording, or it does not exist. Raises RG409 (bad_amendment_date), RG429 (quota_pages).
create function private.request_amendment(
    of_consultation uuid, of_recording uuid, of_part text, received date, by_representative boolean, offered bytea,
    offered_root_key text
) returns table (amendment_id uuid, statement_id uuid, patient_id uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_patient constant boolean := current_setting('role') = 'patient';
    today constant date := private.today();
    patient uuid;
    about resguardo.consultations;
    filed resguardo.amendments;
begin
    perform private.use_quota(person, 'pages');
    if is_patient then
        patient := private.patient();
        received := today;
    elsif current_setting('role') <> 'compliance' then
        raise exception 'wrong_role' using errcode = 'RG403';
    end if;
    select c.* into about from resguardo.consultations as c where c.id = of_consultation for key share;
    if about.id is null or (is_patient and about.patient_id <> patient) or (
        of_recording is not null and not exists (
            select from resguardo.recordings as r where r.id = of_recording and r.consultation_id = about.id
        )
    ) then
        perform private.write_audit(
            'amendment.request',
            case
                when about.id is null then 'ABSENT'
                when is_patient and about.patient_id <> patient then 'DENIED'
                else 'FAILED'
            end,
            'not_found', 'consultation', array_remove(array[of_consultation], null),
            array_remove(array[about.patient_id], null), array_remove(array[about.id], null), '{}', 0, null
        );
        return;
    elsif received is null or received > today or received < today - 90 then
        raise exception 'bad_amendment_date' using errcode = 'RG409';
    end if;
    insert into resguardo.amendments as a (
        patient_id, consultation_id, doctor_id, recording_id, part, channel, is_by_representative, filed_by,
        received_on, due_on
    ) values (
        about.patient_id, about.id, about.doctor_id, of_recording, of_part,
        case when is_patient then 'LOGIN' else 'WRITTEN' end, by_representative, person, received, received + 60
    )
    returning a.* into filed;
    return query
    select s.* from private.add_amendment_statement(
        filed, 'amendment.request', 'REQUEST', array['status', 'receivedOn', 'dueOn', 'statements.text'], offered,
        offered_root_key
    ) as s;
end
$$;

-- Locks and returns an amendment. A compliance officer may change every amendment, and a patient only the patient's
-- own. If the caller may not see it or it does not exist, the function writes an audit row and returns nulls.
create function private.lock_amendment(of_amendment uuid, of_action text) returns resguardo.amendments
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_patient constant boolean := current_setting('role') = 'patient';
    patient uuid;
    wanted resguardo.amendments;
begin
    perform private.use_quota(person, 'pages');
    if is_patient then
        patient := private.patient();
    elsif current_setting('role') <> 'compliance' then
        raise exception 'wrong_role' using errcode = 'RG403';
    end if;
    select a.* into wanted from resguardo.amendments as a where a.id = of_amendment;
    if wanted.id is null or (is_patient and wanted.patient_id <> patient) then
        perform private.write_audit(
            of_action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'amendment',
            array[of_amendment], array_remove(array[wanted.patient_id], null),
            array_remove(array[wanted.consultation_id], null), '{}', 0, null
        );
        return null;
    end if;
    select a.* into wanted from resguardo.amendments as a where a.id = of_amendment for update;
    return wanted;
end
$$;

-- Extends the deadline of an amendment once, by at most 30 days, on or before the due day. Returns null if the
-- amendment does not exist. Raises RG409 (amendment_decided, extended_already, past_due), RG429 (quota_pages).
create function private.extend_amendment(of_amendment uuid, days integer, reason text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.amendments;
begin
    perform private.person();
    wanted := private.lock_amendment(of_amendment, 'amendment.extend');
    if wanted.id is null then
        return null;
    elsif wanted.status <> 'OPEN' then
        raise exception 'amendment_decided' using errcode = 'RG409';
    end if;
    perform private.require_extendable(wanted.extended_at, wanted.due_on);
    update resguardo.amendments as a
    set due_on = a.due_on + days, extension_reason = reason, extended_at = private.now()
    where a.id = of_amendment;
    perform private.write_audit_later(
        'amendment.extend', null, 'amendment', wanted.id, wanted.patient_id, wanted.consultation_id,
        array['dueOn', 'extension.reason'], null
    );
    return wanted.id;
end
$$;

-- Accepts an amendment once, or denies it if `ground` is not null. Returns the statement whose text is the amendment or
-- the denial; no row if the amendment does not exist. Raises RG409 (amendment_decided), RG429 (quota_pages).
create function private.decide_amendment(of_amendment uuid, ground text, offered bytea, offered_root_key text)
returns table (amendment_id uuid, statement_id uuid, patient_id uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    wanted resguardo.amendments := private.lock_amendment(of_amendment, 'amendment.decide');
begin
    if wanted.id is null then
        return;
    elsif wanted.status <> 'OPEN' then
        raise exception 'amendment_decided' using errcode = 'RG409';
    end if;
    update resguardo.amendments as a
    set
        status = case when ground is null then 'ACCEPTED' else 'DENIED' end, denial_ground = ground,
        decided_by = officer, decided_at = private.now()
    where a.id = of_amendment;
    return query
    select s.* from private.add_amendment_statement(
        wanted, 'amendment.decide', case when ground is null then 'AMENDMENT' else 'DENIAL' end,
        array['status', 'denialGround', 'statements.text'], offered, offered_root_key
    ) as s;
end
$$;

-- Adds the patient's statement of disagreement with a denial, or with `of_kind` REBUTTAL the practice's answer to it.
-- Returns no row if the caller may not see the amendment or it does not exist. Raises RG409 (amendment_not_denied,
-- amendment_not_disputed, amendment_stated_already), RG429 (quota_pages).
create function private.answer_amendment(of_amendment uuid, of_kind text, offered bytea, offered_root_key text)
returns table (amendment_id uuid, statement_id uuid, patient_id uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    action constant text := case of_kind when 'REBUTTAL' then 'amendment.rebut' else 'amendment.dispute' end;
    wanted resguardo.amendments := private.lock_amendment(of_amendment, action);
begin
    if of_kind not in ('DISAGREEMENT', 'REBUTTAL')
        or (of_kind = 'REBUTTAL' and current_setting('role') = 'patient')
    then
        raise exception 'wrong_role' using errcode = 'RG403';
    elsif wanted.id is null then
        return;
    elsif wanted.status <> 'DENIED' then
        raise exception 'amendment_not_denied' using errcode = 'RG409';
    elsif of_kind = 'REBUTTAL' and not exists (
        select from private.amendment_statements as s where s.amendment_id = wanted.id and s.kind = 'DISAGREEMENT'
    ) then
        raise exception 'amendment_not_disputed' using errcode = 'RG409';
    elsif exists (
        select from private.amendment_statements as s where s.amendment_id = wanted.id and s.kind = of_kind
    ) then
        raise exception 'amendment_stated_already' using errcode = 'RG409';
    end if;
    return query
    select s.* from private.add_amendment_statement(
        wanted, action, of_kind, array['statements.text'], offered, offered_root_key
    ) as s;
end
$$;

-- Records that the patient wants future disclosures to include the request and the denial. A second call changes
-- nothing. Returns null if the caller may not see the amendment or it does not exist. Raises RG409
-- (amendment_not_denied), RG429 (quota_pages).
create function private.include_amendment(of_amendment uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    wanted resguardo.amendments := private.lock_amendment(of_amendment, 'amendment.include');
begin
    if wanted.id is null then
        return null;
    elsif wanted.status <> 'DENIED' then
        raise exception 'amendment_not_denied' using errcode = 'RG409';
    end if;
    update resguardo.amendments as a set inclusion_asked_at = private.now()
    where a.id = of_amendment and a.inclusion_asked_at is null;
    perform private.write_audit_later(
        'amendment.include', null, 'amendment', wanted.id, wanted.patient_id, wanted.consultation_id,
        array['inclusionAskedAt'], null
    );
    return wanted.id;
end
$$;

-- Writes the audit row, and returns the statements of the amendments in `shown` that the caller sees, with their
-- encrypted texts and the data keys of their patients, as one row of arrays. `asked` is the consultation by which the
-- caller asked, or null. A text whose key was destroyed is null.
create function private.read_amendment_texts(of_action text, asked uuid, shown jsonb, of_fields text[])
returns table (
    amendment_ids uuid[], statement_ids uuid[], kinds text[], makers uuid[], times timestamptz[], patient_ids uuid[],
    ciphertexts bytea[], wrapped_keys bytea[], root_keys text[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    doctor uuid;
    patient uuid;
    ids uuid[];
    patients uuid[];
    consultations uuid[];
begin
    case current_setting('role')
        when 'clinician' then doctor := private.doctor();
        when 'patient' then patient := private.patient();
        when 'compliance' then perform private.person();
        else raise exception 'wrong_role' using errcode = 'RG403';
    end case;
    if of_action not in (
        'amendment.list', 'amendment.request', 'amendment.extend', 'amendment.decide', 'amendment.dispute',
        'amendment.rebut', 'amendment.include'
    ) then
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
    select array_agg(a.id), array_agg(distinct a.patient_id), array_agg(distinct a.consultation_id)
    into ids, patients, consultations
    from resguardo.amendments as a
    where (doctor is null or a.doctor_id = doctor) and (patient is null or a.patient_id = patient) and a.id in (
        select (i.id)::uuid
        from jsonb_array_elements(shown) as e (entry)
        cross join lateral jsonb_array_elements_text(e.entry -> 'ids') as i (id)
        where e.entry ->> 'type' = 'amendment'
    );
    if not private.complete_audit_row(
        of_action, shown, patients, consultations, coalesce(cardinality(ids), 0), of_fields
    ) then
        perform private.use_quota(person, 'pages');
        perform private.write_lookup(
            of_action, 'amendment', 'consultation', asked,
            exists (
                select from resguardo.consultations as c
                where c.id = asked and (doctor is null or c.doctor_id = doctor)
                    and (patient is null or c.patient_id = patient)
            ),
            shown, patients, consultations, coalesce(cardinality(ids), 0), of_fields
        );
    end if;
    return query
    select
        array_agg(s.amendment_id order by s.made_at, s.id), array_agg(s.id order by s.made_at, s.id),
        array_agg(s.kind order by s.made_at, s.id), array_agg(s.made_by order by s.made_at, s.id),
        array_agg(s.made_at order by s.made_at, s.id), array_agg(a.patient_id order by s.made_at, s.id),
        array_agg(t.ciphertext order by s.made_at, s.id), array_agg(k.wrapped_key order by s.made_at, s.id),
        array_agg(k.root_key_id order by s.made_at, s.id)
    from private.amendment_statements as s
    inner join resguardo.amendments as a on a.id = s.amendment_id
    left join private.patient_texts as t on t.id = s.id
    left join private.patient_keys as k on k.patient_id = a.patient_id and t.id is not null
    where s.amendment_id = any(ids);
end
$$;

-- Returns the open amendments whose due day has passed, the longest overdue first, and at most 1000.
create function private.overdue_amendments() returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select a.id from resguardo.amendments as a
        where a.status = 'OPEN' and a.due_on < private.today()
        order by a.due_on, a.id
        limit 1000
    );
end
$$;
