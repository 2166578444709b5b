-- What holds for a recording whoever writes it: finished is finished, and every step leaves its audit row.

create function private.is_live(status text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING');
end
$$;

-- Law 5: a finished recording never moves back. LOST alone may still become READY, when its object turns up.
create function private.guard_recording() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if old.status in ('READY', 'FAILED', 'ABORTED')
        or (old.status = 'LOST' and new.status <> 'READY')
        or (old.status = 'VERIFYING' and private.is_live(new.status))
    then
        if new.status <> old.status then
            raise exception 'recording_is_finished' using errcode = 'RG409';
        end if;
    end if;
    new.updated_at := clock_timestamp();
    return new;
end
$$;

create trigger recordings_guard before update on resguardo.recordings
for each row execute function private.guard_recording();

create function private.audit_transition() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    step text := new.status;
begin
    if tg_op = 'UPDATE' then
        if new.status = old.status then
            return null;
        end if;
        step := old.status || '>' || new.status;
    end if;
    perform private.write_audit(
        'recording.transition', case new.status when 'FAILED' then 'FAILED' else 'ALLOWED' end,
        concat_ws(':', step, new.error), 'recording', array[new.id], array[new.patient_id],
        array[new.consultation_id], array['status'], 1, new.size_bytes
    );
    return null;
end
$$;

create trigger recordings_audit_transition after insert or update of status on resguardo.recordings
for each row execute function private.audit_transition();

-- Law 6, as the policy on recordings reads it: every required participant has a standing consent.
create function private.everyone_consents(consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return count(*) filter (where s.kind = 'PATIENT') = 1
        and count(*) filter (where s.kind = 'DOCTOR') = 1
        and bool_and(s.is_given or not s.is_required)
    from resguardo.standing_consents as s
    where s.consultation_id = consultation;
end
$$;

create function private.has_live_recording(consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.recordings as r
        where r.consultation_id = consultation and private.is_live(r.status)
    );
end
$$;

-- Takes the lock under which consents, joins and starts of one consultation happen one after the other. Whoever may not
-- see the consultation locks nothing: a stranger cannot hold it up.
create function private.lock_consultation(consultation uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
begin
    perform
    from resguardo.consultations as c
    join resguardo.patients as p on p.id = c.patient_id
    where c.id = consultation and person in (c.doctor_id, p.user_id)
    for update of c;
end
$$;
