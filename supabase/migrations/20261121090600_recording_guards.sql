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
    if current_setting('role') = 'clinician'
        and new.status = 'ABORTED' and old.status not in ('REQUESTED', 'ABORTED')
    then
        raise exception 'recording_has_begun' using errcode = 'RG409';
    end if;
    if old.status in ('READY', 'FAILED', 'ABORTED')
        and (
            new.egress_id, new.room_sid, new.started_at, new.ended_at, new.duration_seconds, new.size_bytes,
            new.sha256, new.truncated, new.error
        ) is distinct from (
            old.egress_id, old.room_sid, old.started_at, old.ended_at, old.duration_seconds, old.size_bytes,
            old.sha256, old.truncated, old.error
        )
    then
        raise exception 'recording_is_finished' using errcode = 'RG409';
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

-- A person asks about consultations of their own alone; a service, or a function on nobody's behalf, about any. Raises
-- RG403 (not_own_consultation) for a hidden one and an unknown one alike.
create function private.require_own_consultation(consultation uuid) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person uuid;
begin
    if current_setting('role') not in ('clinician', 'compliance', 'patient') then
        return;
    end if;
    person := private.require_person();
    if not exists (
        select
        from resguardo.consultations as c
        join resguardo.patients as p on p.id = c.patient_id
        where c.id = consultation
            and case current_setting('role') when 'patient' then p.user_id else c.doctor_id end = person
    ) then
        raise exception 'not_own_consultation' using errcode = 'RG403';
    end if;
end
$$;

-- Law 6, as the policy on recordings reads it: every required participant has a standing consent.
create function private.everyone_consents(consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_own_consultation(consultation);
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
    perform private.require_own_consultation(consultation);
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

-- Whoever writes a consent without having taken the lock takes it here, once the policies have let the row through: of
-- two at once one sees the other. Who withdrew in person is not made to consent again by somebody else's word.
create function private.guard_consent() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    before resguardo.consents;
begin
    perform from resguardo.consultations as c where c.id = new.consultation_id for no key update;
    select c.* into before
    from resguardo.consents as c
    where c.participant_id = new.participant_id and c.id <> new.id
    order by c.recorded_at desc, c.id desc
    limit 1;
    if before.decision = 'WITHDRAWN' and before.source = 'SELF' and new.source = 'ATTESTED' then
        raise exception 'withdrawn_in_person' using errcode = 'RG409';
    end if;
    return null;
end
$$;

create trigger consents_guard after insert on resguardo.consents
for each row execute function private.guard_consent();

create function private.recheck_consent() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from resguardo.consultations as c where c.id = new.consultation_id for no key update;
    if private.is_live(new.status) and not private.everyone_consents(new.consultation_id) then
        raise exception 'consent_missing' using errcode = 'RG403';
    end if;
    return null;
end
$$;

create trigger recordings_recheck_consent after insert on resguardo.recordings
for each row execute function private.recheck_consent();
