-- The only ways into the audit log.

-- Every action there is, with FHIR's AuditEvent.action: (C)reate, (R)ead, (U)pdate, (D)elete, (E)xecute.
create function private.operation_of(action text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return case action
        when 'viewer.read' then 'R'
        when 'consultation.register' then 'C'
        when 'consultation.read' then 'R'
        when 'consultation.list' then 'R'
        when 'consultation.join' then 'E'
        when 'guest.invite' then 'C'
        when 'guest.join' then 'E'
        when 'consent.give' then 'C'
        when 'consent.withdraw' then 'C'
        when 'recording.list' then 'R'
        when 'recording.read' then 'R'
        when 'recording.start' then 'C'
        when 'recording.stop' then 'U'
        when 'recording.transition' then 'U'
        when 'recording.issue_url' then 'R'
        when 'recording.read_storage' then 'R'
        when 'recording.read_key' then 'R'
        when 'rooms.list' then 'R'
        when 'audit.list' then 'R'
        when 'staff.suspend' then 'U'
        when 'staff.ban' then 'U'
        when 'request.reject' then 'E'
        when 'webhook.reject' then 'E'
    end;
end
$$;

-- Writes one row about the present transaction: who and in which role from the claims and the role taken (of a refusal,
-- the role that would have been taken), the rest from what describe_request() left. For definer functions and triggers
-- only: nobody else may execute it.
create function private.write_audit(
    action text, outcome text, reason text, entity_type text, entity_ids uuid[], patient_ids uuid[],
    consultation_ids uuid[], fields text[], row_count integer, byte_count bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    claims constant jsonb := private.claims();
    is_refusal constant boolean := current_setting('role') = 'none' and claims is not null;
    taken constant text := case
        when is_refusal then coalesce(private.role_of((claims ->> 'sub')::uuid), session_user)
        when current_setting('role') = 'none' then session_user
        else current_setting('role')
    end;
begin
    insert into audit.events (
        actor_id, actor_role, session_id, aal, action, operation, outcome, reason, purpose, basis,
        entity_type, entity_ids, patient_ids, consultation_ids, fields, row_count, byte_count,
        request_id, address, policy_version
    ) values (
        (claims ->> 'sub')::uuid, taken, (claims ->> 'session_id')::uuid, claims ->> 'aal',
        action, private.operation_of(action), outcome, reason,
        coalesce(
            nullif(current_setting('resguardo.purpose', true), ''),
            case taken when 'clinician' then 'TREATMENT' when 'patient' then 'PATIENT_REQUEST' else 'OPERATIONS' end
        ),
        case
            when is_refusal then 'refused'
            when taken = 'clinician' then 'treating_clinician'
            when taken = 'compliance' then 'compliance_review'
            when taken = 'patient' then 'self'
            else coalesce(nullif(current_setting('resguardo.service_reason', true), ''), 'no_identity')
        end,
        entity_type, coalesce(entity_ids, '{}'), coalesce(patient_ids, '{}'), coalesce(consultation_ids, '{}'),
        coalesce(fields, '{}'), row_count, byte_count,
        nullif(current_setting('resguardo.request_id', true), '')::uuid,
        nullif(current_setting('resguardo.address', true), '')::inet,
        private.policy_version()
    );
end
$$;

-- Counts one more use of a meter in this hour; raises RG429 past the quota (null: no limit). The person's row is locked
-- until the end of the transaction, so that two at once cannot both take the last one.
create function private.use_quota(person uuid, of_meter text, quota integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    used_now integer;
begin
    insert into private.usage as u (person_id, meter, window_start, used)
    values (person, of_meter, date_trunc('hour', now(), 'UTC'), 1)
    on conflict (person_id, meter, window_start) do update set used = u.used + 1
    returning u.used into used_now;
    if used_now > quota then
        raise exception 'quota_%', of_meter using errcode = 'RG429';
    end if;
end
$$;

-- Whoever asks, in good standing: the member of staff or the patient's user.
create function private.require_person() returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('role') = 'patient' then
        perform private.patient();
        return private.uid();
    end if;
    return private.person();
end
$$;

create type private.subjects as (patient_ids uuid[], consultation_ids uuid[]); -- noqa: LT01

-- Whom something is about, hidden or not, for the rows of what was refused; nulls where it does not exist.
create function private.subjects_of(entity_type text, entity uuid) returns private.subjects
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_subjects private.subjects;
begin
    select array[s.patient_id], array[s.consultation_id] into found_subjects
    from (
        select r.patient_id, r.consultation_id from resguardo.recordings as r
        where entity_type = 'recording' and r.id = entity
        union all
        select c.patient_id, c.id from resguardo.consultations as c
        where entity_type = 'consultation' and c.id = entity
        union all
        select p.patient_id, p.consultation_id from resguardo.participants as p
        where entity_type = 'participant' and p.id = entity
    ) as s (patient_id, consultation_id);
    return found_subjects;
end
$$;

-- The audit row of a read or a change, in its own statement. `asked` is the one id that was asked for, null for a list;
-- where it was asked for and not found, the row says whether it was hidden (DENIED) or never was (ABSENT), and the
-- caller cannot tell. Always returns true, so that the outer query can refer to it.
create function private.record_access(
    action text, entity_type text, asked uuid, found_ids uuid[], patient_ids uuid[], consultation_ids uuid[],
    fields text[], meter text, quota integer
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_missing constant boolean := asked is not null and cardinality(found_ids) = 0;
    hidden private.subjects;
begin
    if action = any (array[
        'guest.join', 'recording.transition', 'recording.issue_url', 'recording.read_storage', 'recording.read_key',
        'audit.list', 'staff.suspend', 'staff.ban', 'request.reject', 'webhook.reject'
    ]) then
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
    if meter is not null then
        perform private.use_quota(person, meter, quota);
    end if;
    if not is_missing then
        perform private.write_audit(
            action, 'ALLOWED', null, entity_type, found_ids, patient_ids, consultation_ids, fields,
            cardinality(found_ids), null
        );
        return true;
    end if;
    hidden := private.subjects_of(entity_type, asked);
    perform private.write_audit(
        action, case when hidden.patient_ids is null then 'ABSENT' else 'DENIED' end, 'not_found',
        entity_type, array[asked], hidden.patient_ids, hidden.consultation_ids, fields, 0, null
    );
    return true;
end
$$;

-- What raised, in a transaction of its own: a rollback would have erased it. DENIED is what the person may not do,
-- FAILED what stood against it. What was asked for is named by its id, or a consultation by its external id.
create function private.record_refusal(
    action text, outcome text, reason text, entity_type text, asked uuid, asked_external_id text
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    entity constant uuid := coalesce(
        asked, (select c.id from resguardo.consultations as c where c.external_id = asked_external_id)
    );
    about constant private.subjects := private.subjects_of(entity_type, entity);
begin
    if outcome not in ('DENIED', 'FAILED') then
        raise exception 'not_a_refusal' using errcode = 'RG403';
    end if;
    perform private.write_audit(
        action, outcome, reason, entity_type, array_remove(array[entity], null),
        about.patient_ids, about.consultation_ids, '{}', 0, null
    );
end
$$;

-- Requests without a valid token, and webhooks without a valid signature: so many from an address within a minute.
create function private.record_rejections(
    action text, from_address inet, rejections integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if action not in ('request.reject', 'webhook.reject') then
        raise exception 'not_a_rejection' using errcode = 'RG403';
    end if;
    perform set_config('resguardo.address', coalesce(host(from_address), ''), true);
    perform private.write_audit(
        action, 'DENIED', case action when 'webhook.reject' then 'no_valid_signature' else 'no_valid_token' end,
        'request', '{}', '{}', '{}', '{}', rejections, null
    );
end
$$;

-- A page of the log for compliance, newest first, from (before_at, before_id) on; the look is itself recorded.
create function private.read_audit(
    before_at timestamptz, before_id uuid, wanted_actor uuid, wanted_action text, wanted_outcome text,
    wanted_patient uuid, wanted_consultation uuid, since timestamptz, until timestamptz, page_size integer,
    quota integer
) returns setof audit.events
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan
as $$
declare
    returned_rows integer;
begin
    perform private.use_quota(private.person(), 'pages', quota);
    return query
    select e.*
    from audit.events as e
    where (before_at is null or (e.recorded_at, e.id) < (before_at, before_id))
        and (wanted_actor is null or e.actor_id = wanted_actor)
        and (wanted_action is null or e.action = wanted_action)
        and (wanted_outcome is null or e.outcome = wanted_outcome)
        and (wanted_patient is null or e.patient_ids @> array[wanted_patient])
        and (wanted_consultation is null or e.consultation_ids @> array[wanted_consultation])
        and (since is null or e.recorded_at >= since)
        and (until is null or e.recorded_at < until)
    order by e.recorded_at desc, e.id desc
    limit least(coalesce(page_size, 101), 101);
    get diagnostics returned_rows = row_count;
    perform private.write_audit(
        'audit.list', 'ALLOWED', null, 'audit_event', '{}', array_remove(array[wanted_patient], null),
        array_remove(array[wanted_consultation], null), '{}', least(returned_rows, page_size - 1), null
    );
end
$$;
