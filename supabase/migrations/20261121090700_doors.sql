-- What a person, the API and the worker may ask for beyond the rows that policies show: each a definer function that
-- checks who asks and writes the audit row before it gives anything away.

-- The patient of that external id, made if new. A login is linked when the patient is made, never changed from here,
-- and named again by every doctor: nobody's consultation falls to a login that its doctor does not know of. Raises
-- RG409 (patient_user_unknown, patient_user_differs).
create function private.register_patient(of_external_id text, of_user uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    known resguardo.patients;
begin
    perform private.person();
    if of_user is not null and (
        not exists (select from auth.users as u where u.id = of_user)
        or exists (select from resguardo.staff as s where s.user_id = of_user)
    ) then
        raise exception 'patient_user_unknown' using errcode = 'RG409';
    end if;
    insert into resguardo.patients (external_id, user_id) values (of_external_id, of_user) on conflict do nothing;
    select p.* into known from resguardo.patients as p where p.external_id = of_external_id;
    if known.id is null or known.user_id is distinct from of_user then
        raise exception 'patient_user_differs' using errcode = 'RG409';
    end if;
    return known.id;
end
$$;

-- Which consultation has that external id, hidden or not, for the audit row of a look that found nothing; the nil UUID
-- where there is none.
create function private.consultation_id_of(of_external_id text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_person();
    return coalesce(
        (select c.id from resguardo.consultations as c where c.external_id = of_external_id),
        '00000000-0000-0000-0000-000000000000'
    );
end
$$;

-- Puts a job into the queue within the caller's transaction, with one id for its argument. Jobs of one id run one at a
-- time.
create function private.defer_job(task text, argument uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if task not in ('start_recording', 'stop_recording', 'enforce_consent', 'verify_recording', 'ban_user') then
        raise exception 'unknown_task' using errcode = 'RG403';
    end if;
    case current_setting('role')
        when 'patient' then
            if task <> 'enforce_consent' then
                raise exception 'unknown_task' using errcode = 'RG403';
            end if;
            perform private.require_own_consultation(argument);
        when 'clinician' then
            if task not in ('start_recording', 'stop_recording', 'enforce_consent') then
                raise exception 'unknown_task' using errcode = 'RG403';
            end if;
            perform private.require_own_consultation(
                case task when 'enforce_consent' then argument
                else (select r.consultation_id from resguardo.recordings as r where r.id = argument) end
            );
        else null; -- the worker, and compliance through suspend_staff() alone
    end case;
    perform jobs.procrastinate_defer_jobs_v1(array[
        row('default', task, 0, argument::text, null, jsonb_build_object('id', argument), null)
        ::jobs.procrastinate_job_to_defer_v1
    ]);
end
$$;

-- Fixes where the recording's object will be, once. The key names nobody. Raises RG403 for a recording that is not the
-- caller's own.
create function private.assign_object_key(of_recording uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    insert into private.recording_secrets (recording_id, object_key)
    select r.id, format('r/standard/%s/%s/video.mp4', r.consultation_id, r.id)
    from resguardo.recordings as r
    where r.id = of_recording and r.doctor_id = private.person();
    if not found then
        raise exception 'not_own_recording' using errcode = 'RG403';
    end if;
end
$$;

-- The object key of a READY recording for its doctor, after the audit row that says so; null where there is nothing
-- for this person (the row then says DENIED or ABSENT), '' where it is not READY. Only a session whose TOTP code is no
-- older than the limit gets one. Raises RG403 (totp_stale), RG429 (quota_urls).
create function private.release_object_key(
    action text, of_recording uuid, totp_max_age_seconds integer, meter text, quota integer
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    newest_totp double precision;
    wanted resguardo.recordings;
    key text;
    is_allowed boolean;
begin
    if action is null or action not in ('recording.issue_url', 'recording.read_storage') then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    select max((a.method ->> 'timestamp')::double precision) into newest_totp
    from jsonb_array_elements(private.claims() -> 'amr') as a (method)
    where a.method ->> 'method' in ('totp', 'mfa/totp');
    if totp_max_age_seconds is not null
        and coalesce(newest_totp, 0) < extract(epoch from now()) - totp_max_age_seconds
    then
        raise exception 'totp_stale' using errcode = 'RG403';
    end if;
    if meter is not null then
        perform private.use_quota(person, meter, quota);
    end if;
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    select s.object_key into key from private.recording_secrets as s where s.recording_id = of_recording;
    is_allowed := coalesce(wanted.doctor_id = person and wanted.status = 'READY', false);
    perform private.write_audit(
        action,
        case when is_allowed then 'ALLOWED' when wanted.id is null then 'ABSENT'
            when wanted.doctor_id <> person then 'DENIED' else 'FAILED' end,
        case when wanted.id is null or wanted.doctor_id <> person then 'not_found'
            when wanted.status <> 'READY' then 'recording_not_ready' end,
        'recording', array[of_recording],
        case when wanted.id is not null then array[wanted.patient_id] end,
        case when wanted.id is not null then array[wanted.consultation_id] end,
        array['object'], is_allowed::integer, case when is_allowed then wanted.size_bytes end
    );
    return case when is_allowed then key when wanted.doctor_id = person then '' end;
end
$$;

-- The object key for the worker, after the audit row.
create function private.read_object_key(of_recording uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    if wanted.id is null then
        return null;
    end if;
    perform private.write_audit(
        'recording.read_key', 'ALLOWED', null, 'recording', array[of_recording],
        array[wanted.patient_id], array[wanted.consultation_id], array['object_key'], 1, null
    );
    return (select s.object_key from private.recording_secrets as s where s.recording_id = of_recording);
end
$$;

-- Keeps the hash of a guest's one-time invitation. Raises RG403 for a guest who is not of the caller's consultation.
create function private.keep_invitation(guest uuid, secret_sha256 bytea, expires_at timestamptz) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    insert into private.invitations (participant_id, secret_sha256, expires_at)
    select p.id, keep_invitation.secret_sha256, keep_invitation.expires_at
    from resguardo.participants as p
    where p.id = guest and p.kind = 'GUEST' and p.doctor_id = private.person();
    if not found then
        raise exception 'not_own_guest' using errcode = 'RG403';
    end if;
end
$$;

-- Redeems an invitation, once: who the guest is and which room, or no row where it is unknown, used or expired. Into a
-- room that is being recorded only a guest who consented is let in: RG403 (consent_missing_to_join).
create function private.redeem_invitation(secret bytea)
returns table (participant_id uuid, consultation_id uuid, room_name text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    guest resguardo.participants;
begin
    update private.invitations as i set redeemed_at = clock_timestamp()
    where i.secret_sha256 = sha256(secret) and i.redeemed_at is null and i.expires_at > now();
    if not found then
        return; -- nobody is known by it: the edge counts such attempts by address
    end if;
    select p.* into guest
    from resguardo.participants as p
    join private.invitations as i on i.participant_id = p.id
    where i.secret_sha256 = sha256(secret);
    perform from resguardo.consultations as c where c.id = guest.consultation_id for update;
    if private.has_live_recording(guest.consultation_id)
        and not (select s.is_given from resguardo.standing_consents as s where s.participant_id = guest.id)
    then
        raise exception 'consent_missing_to_join' using errcode = 'RG403';
    end if;
    update resguardo.participants as p set joined_at = clock_timestamp() where p.id = guest.id;
    perform private.write_audit(
        'guest.join', 'ALLOWED', null, 'participant', array[guest.id], array[guest.patient_id],
        array[guest.consultation_id], array['token'], 1, null
    );
    return query
    select guest.id, guest.consultation_id, c.room_name
    from resguardo.consultations as c where c.id = guest.consultation_id;
end
$$;

-- Law 5: the webhook's one transaction. True where the event is new; its job is queued with it.
create function private.receive_livekit_event(
    of_event_id text, of_event text, of_egress_id text, of_room_name text, at timestamptz
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.livekit_events (event_id, event, egress_id, room_name, occurred_at)
    values (of_event_id, of_event, of_egress_id, of_room_name, at)
    on conflict (event_id) do nothing;
    if not found then
        return false;
    end if;
    if of_event like 'egress\_%' then
        perform jobs.procrastinate_defer_jobs_v1(array[
            row(
                'default', 'follow_egress', 0, 'room:' || coalesce(of_room_name, of_egress_id, of_event_id), null,
                jsonb_build_object('id', of_event_id), null
            )::jobs.procrastinate_job_to_defer_v1
        ]);
    end if;
    return true;
end
$$;

-- Suspends a member of staff at once: not active, every session gone, every recording of theirs stopped, the ban at the
-- identity provider queued. False where there is no such member. Of two who suspend each other one comes first. Raises
-- RG409 (own_suspension).
create function private.suspend_staff(member uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person uuid;
    is_member boolean;
    stopped uuid;
begin
    perform from resguardo.staff as s where s.user_id in (private.uid(), member) order by s.user_id for update;
    person := private.person();
    if member = person then
        raise exception 'own_suspension' using errcode = 'RG409';
    end if;
    update resguardo.staff as s
    set status = 'suspended', suspended_at = coalesce(s.suspended_at, clock_timestamp()),
        suspended_by = coalesce(s.suspended_by, person)
    where s.user_id = member;
    is_member := found;
    perform private.write_audit(
        'staff.suspend', case when is_member then 'ALLOWED' else 'ABSENT' end, null,
        'staff', array[member], '{}', '{}', array['status'], is_member::integer, null
    );
    if not is_member then
        return false;
    end if;
    for stopped in
        update resguardo.recordings as r
        set status = case r.status when 'REQUESTED' then 'ABORTED' else 'STOPPING' end, error = 'staff_suspended'
        where r.doctor_id = member and r.status in ('REQUESTED', 'STARTING', 'RECORDING')
        returning r.id
    loop
        perform private.defer_job('stop_recording', stopped);
    end loop;
    begin
        delete from auth.sessions as s where s.user_id = member;
    exception when insufficient_privilege then
        null; -- the project does not let us; the status alone already closes every door of ours
    end;
    perform private.defer_job('ban_user', member);
    return true;
end
$$;

create function private.record_service(
    action text, outcome text, reason text, entity_type text, entity uuid
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit(action, outcome, reason, entity_type, array[entity], '{}', '{}', '{}', 1, null);
end
$$;

create function private.deployment_name() returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select d.name from private.deployment as d);
end
$$;
