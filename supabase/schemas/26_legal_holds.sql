-- Legal holds, which forbid the destruction of recordings that a legal matter needs. The function
-- private.may_be_destroyed() enforces legal holds (law 7).

create table resguardo.legal_holds (
    id uuid primary key default gen_random_uuid(),
    consultation_id uuid constraint legal_holds_consultation_id_fkey references resguardo.consultations (id),
    patient_id uuid constraint legal_holds_patient_id_fkey references resguardo.patients (id),
    recorded_since timestamptz,
    recorded_until timestamptz,
    matter text not null constraint legal_holds_matter_length check (length(matter) between 1 and 200),
    custodian text not null constraint legal_holds_custodian_length check (length(custodian) between 1 and 200),
    placed_by uuid not null,
    placed_at timestamptz not null default private.now(),
    released_by uuid,
    released_at timestamptz,
    constraint legal_holds_scope_is_one check (
        num_nonnulls(consultation_id, patient_id, recorded_since) = 1
        and (recorded_since is null) = (recorded_until is null)
    ),
    constraint legal_holds_range_is_forward check (recorded_since < recorded_until),
    constraint legal_holds_release_is_whole check ((released_by is null) = (released_at is null)),
    constraint legal_holds_release_is_by_another check (released_by <> placed_by)
);
alter table resguardo.legal_holds enable row level security;
comment on table resguardo.legal_holds is
'Legal holds on recordings. A hold is active while released_at is null. A released hold stays in the table.';
comment on column resguardo.legal_holds.recorded_since is
'With recorded_until (exclusive): every recording created in this range.';
create index legal_holds_consultation_idx on resguardo.legal_holds (consultation_id);
create index legal_holds_patient_idx on resguardo.legal_holds (patient_id);
create index legal_holds_placed_idx on resguardo.legal_holds (placed_at desc, id desc);
create index legal_holds_active_placed_idx on resguardo.legal_holds (placed_at desc, id desc)
where released_at is null;
create index legal_holds_released_placed_idx on resguardo.legal_holds (placed_at desc, id desc)
where released_at is not null;
create index legal_holds_active_idx on resguardo.legal_holds (recorded_since) where released_at is null;

-- Returns the videos that a legal hold covers, whatever their status is. A hold on a video also covers the sound
-- recorded beside it. If the hold's range of time includes a sound recording, the hold covers the video of that sound
-- recording.
create function private.videos_under(of_hold resguardo.legal_holds) returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if of_hold.consultation_id is not null then
        return query
        select r.id from resguardo.recordings as r
        where r.consultation_id = of_hold.consultation_id and r.medium = 'VIDEO' and r.status <> 'DELETED';
    elsif of_hold.patient_id is not null then
        return query
        select r.id from resguardo.recordings as r
        where r.patient_id = of_hold.patient_id and r.medium = 'VIDEO' and r.status <> 'DELETED';
    else
        return query
        select distinct coalesce(r.video_id, r.id) from resguardo.recordings as r
        inner join resguardo.consultations as c on c.id = r.consultation_id
        where (
            (r.created_at >= of_hold.recorded_since and r.created_at < of_hold.recorded_until)
            or (r.started_at >= of_hold.recorded_since and r.started_at < of_hold.recorded_until)
            or (c.scheduled_at >= of_hold.recorded_since and c.scheduled_at < of_hold.recorded_until)
        )
            and r.status <> 'DELETED';
    end if;
end
$$;

-- Places a legal hold, and returns its id and how many videos and signed notes it covers now. Returns no row if the
-- given consultation or patient does not exist. If the caller has already placed an equal active hold, the function
-- returns that hold and places no second hold. The function takes the keeping lock exclusively, so no destruction
-- begins while the hold is being placed. The function separately counts the recordings whose destruction has already
-- begun.
create function private.place_hold(
    of_consultation uuid, of_patient uuid, since timestamptz, until timestamptz, of_matter text, of_custodian text
) returns table (id uuid, covered_recordings bigint, recordings_in_destruction bigint, covered_notes bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    hold resguardo.legal_holds;
    patients uuid[];
    covered uuid[];
begin
    perform private.lock_keeping(true);
    patients := array(
        select c.patient_id from resguardo.consultations as c where c.id = of_consultation
        union all
        select p.id from resguardo.patients as p where p.id = of_patient
    );
    if cardinality(patients) = 0 and since is null then
        perform private.write_audit(
            'hold.place', 'ABSENT', 'not_found', case when of_patient is null then 'consultation' else 'patient' end,
            array_remove(array[of_consultation, of_patient], null), '{}', '{}', '{}', 0, null
        );
        return;
    end if;
    select h.* into hold
    from resguardo.legal_holds as h
    where h.placed_by = person and h.released_at is null and h.matter = of_matter and h.custodian = of_custodian
        and (h.consultation_id, h.patient_id, h.recorded_since, h.recorded_until)
        is not distinct from (of_consultation, of_patient, since, until);
    if hold.id is null then
        insert into resguardo.legal_holds as h (
            consultation_id, patient_id, recorded_since, recorded_until, matter, custodian, placed_by
        ) values (of_consultation, of_patient, since, until, of_matter, of_custodian, person)
        returning h.* into hold;
    end if;
    covered := array(select v.id from private.videos_under(hold) as v (id));
    perform private.write_audit_later(
        'hold.place', null, 'legal_hold', hold.id, patients[1], of_consultation, array['scope', 'matter', 'custodian'],
        null
    );
    perform private.put_job('secure_held', hold.id);
    return query
    select
        hold.id, cardinality(covered)::bigint,
        (
            select count(distinct d.recording_id) from resguardo.deletions as d
            where d.recording_id = any(covered) and d.status = 'DELETING'
        ),
        (select count(*) from private.notes_under(hold));
end
$$;

-- Releases a legal hold, and returns its id; the caller must not be the officer who placed it. Returns null if the
-- legal hold does not exist. If the caller has already released the hold, the function changes nothing. Raises RG409
-- (own_hold, hold_released).
create function private.release_hold(of_hold uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    hold resguardo.legal_holds;
    about private.subjects;
begin
    select h.* into hold from resguardo.legal_holds as h where h.id = of_hold for update;
    if hold.id is null then
        perform private.write_audit(
            'hold.release', 'ABSENT', 'not_found', 'legal_hold', array[of_hold], '{}', '{}', '{}', 0, null
        );
        return null;
    elsif hold.placed_by = person then
        raise exception 'own_hold' using errcode = 'RG409';
    elsif hold.released_by <> person then
        raise exception 'hold_released' using errcode = 'RG409';
    elsif hold.released_by is null then
        update resguardo.legal_holds as h set released_by = person, released_at = private.now()
        where h.id = of_hold
        returning h.* into hold;
        perform private.put_job('secure_held', hold.id);
    end if;
    about := private.subjects_of('legal_hold', of_hold);
    perform private.write_audit_later(
        'hold.release', null, 'legal_hold', of_hold, about.patient_ids[1], about.consultation_ids[1],
        array['releasedAt'], null
    );
    return hold.id;
end
$$;

-- Returns the videos that must not be destroyed, because an active legal hold or an access request covers them.
create function private.held_videos() returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select v.id
    from resguardo.legal_holds as h
    cross join lateral private.videos_under(h) as v (id)
    where h.released_at is null
    union
    select r.id
    from resguardo.access_requests as a
    inner join resguardo.recordings as r
        on r.patient_id = a.patient_id and (a.consultation_id is null or r.consultation_id = a.consultation_id)
    where a.status in ('OPEN', 'APPROVED', 'DENIED') and private.request_holds(a)
        and r.medium = 'VIDEO' and r.status <> 'DELETED';
end
$$;

-- Law 7: returns the ids of the active legal holds and the access requests that forbid the destruction of a
-- recording.
create function private.holds_on(of_recording uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select distinct h.id
        from resguardo.recordings as r
        inner join resguardo.consultations as c on c.id = r.consultation_id
        inner join resguardo.legal_holds as h
            on h.released_at is null
            and (
                h.consultation_id = r.consultation_id or h.patient_id = r.patient_id
                or (r.created_at >= h.recorded_since and r.created_at < h.recorded_until)
                or (r.started_at >= h.recorded_since and r.started_at < h.recorded_until)
                or (c.scheduled_at >= h.recorded_since and c.scheduled_at < h.recorded_until)
            )
        where of_recording in (r.id, r.video_id)
        union all
        select a.id
        from resguardo.recordings as r
        inner join resguardo.access_requests as a
            on a.patient_id = r.patient_id and a.status in ('OPEN', 'APPROVED', 'DENIED')
            and (a.consultation_id is null or a.consultation_id = r.consultation_id) and private.request_holds(a)
        where r.id = of_recording
    );
end
$$;

create function private.is_held(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return private.holds_on(of_recording) <> '{}';
end
$$;

-- Returns whether a legal hold or an access request forbids the destruction of a recording. A clinician may ask only
-- about recordings that the clinician sees, and compliance about every recording. Raises RG404 (recording_not_found).
create function private.is_own_held(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('role') = 'compliance' then
        perform private.person();
    else
        perform private.doctor();
        if not exists (
            select from resguardo.recordings as r
            where r.id = of_recording and private.sees_consultation(r.doctor_id, r.consultation_id)
        ) then
            raise exception 'recording_not_found' using errcode = 'RG404';
        end if;
    end if;
    return private.is_held(of_recording);
end
$$;

-- Returns whether a recording may be destroyed now. The video and its sound must be finished, no legal hold or access
-- request may cover them, and none of their objects may be in a move to keep/.
create function private.may_be_destroyed(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return not exists (
        select
        from resguardo.recordings as r
        where of_recording in (r.id, r.video_id)
            and (
                not private.is_finished(r.status)
                or exists (select from private.object_moves as m where m.recording_id = r.id)
            )
    )
    and not exists (select from private.storing_videos() as s (id) where s.id = of_recording)
    and not private.is_held(of_recording);
end
$$;
