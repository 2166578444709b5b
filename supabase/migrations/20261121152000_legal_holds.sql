-- Legal holds, and how what is held survives the bucket's own rule; and recordings whose object is not there.

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
comment on table resguardo.legal_holds is
'What must not be destroyed, for whom and in which matter. Active while released_at is null; a released one stays.';
comment on column resguardo.legal_holds.recorded_since is
'With recorded_until, excluded: every recording that was created in between.';
create index legal_holds_consultation_idx on resguardo.legal_holds (consultation_id);
create index legal_holds_patient_idx on resguardo.legal_holds (patient_id);
create index legal_holds_placed_idx on resguardo.legal_holds (placed_at desc, id desc);
create index legal_holds_active_idx on resguardo.legal_holds (recorded_since) where released_at is null;
create index recordings_created_idx on resguardo.recordings (created_at);

create table private.object_moves (
    recording_id uuid primary key
    constraint object_moves_recording_id_fkey references resguardo.recordings (id),
    source_key text not null,
    target_key text not null,
    begun_at timestamptz not null default private.now(),
    kept_at timestamptz,
    constraint object_moves_lead_to_keep check (starts_with(target_key, 'keep/') and starts_with(source_key, 'r/'))
);
comment on table private.object_moves is
'Objects on their way to keep/, where no rule of the bucket reaches them: while a row is here both keys may hold one.';
comment on column private.object_moves.kept_at is 'When the recording began to be read from the target.';

alter table resguardo.recordings add column missing_since timestamptz;
comment on column resguardo.recordings.missing_since is
'Since when its object was not in the bucket; null while it is there.';
create index recordings_missing_idx on resguardo.recordings (missing_since) where missing_since is not null;
create index recording_secrets_object_key_idx on private.recording_secrets (object_key collate "C");

-- The videos that a hold covers, whatever their state; a sound is held with its video.
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
        select r.id from resguardo.recordings as r
        inner join resguardo.consultations as c on c.id = r.consultation_id
        where (
            (r.created_at >= of_hold.recorded_since and r.created_at < of_hold.recorded_until)
            or (r.started_at >= of_hold.recorded_since and r.started_at < of_hold.recorded_until)
            or (c.scheduled_at >= of_hold.recorded_since and c.scheduled_at < of_hold.recorded_until)
        )
            and r.medium = 'VIDEO' and r.status <> 'DELETED';
    end if;
end
$$;

-- Places a hold, or nothing where there is no such consultation or patient, and tells how much it covers now. An equal
-- one of the same person's that stands is answered with, and placed no second time. Alone: nothing begins to be
-- destroyed meanwhile, and what is in destruction already is counted.
create function private.place_hold(
    of_consultation uuid, of_patient uuid, since timestamptz, until timestamptz, of_matter text, of_custodian text
) returns table (
    id uuid, placed_by uuid, placed_at timestamptz, covered_recordings bigint, recordings_in_destruction bigint
)
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
    perform private.write_audit(
        'hold.place', 'ALLOWED', null, 'legal_hold', array[hold.id], patients,
        array_remove(array[of_consultation], null), array['scope', 'matter', 'custodian'], 1, null
    );
    perform private.put_job('secure_held', hold.id);
    return query
    select
        hold.id, hold.placed_by, hold.placed_at, cardinality(covered)::bigint,
        (
            select count(distinct d.recording_id) from resguardo.deletions as d
            where d.recording_id = any(covered) and d.status = 'DELETING'
        );
end
$$;

-- Releases a hold, for a second person alone; nothing where there is no such hold. Again by the same person it is
-- answered with as it is. Raises RG409 (own_hold, hold_released).
create function private.release_hold(of_hold uuid) returns setof resguardo.legal_holds
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
        return;
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
    perform private.write_audit(
        'hold.release', 'ALLOWED', null, 'legal_hold', array[of_hold], about.patient_ids, about.consultation_ids,
        array['released_at'], 1, null
    );
    return next hold;
end
$$;

-- The videos that must not go: under an active hold, or wanted by an access request that holds.
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

-- What lies under r/ and must survive the bucket's own rule, the oldest first. `lock_prefix` is where a bucket lock
-- would hold it: its consultation's folder, and null where something else is there that nothing holds, which the lock
-- would hold too. `may_move`: nobody writes to it any more, or destroys it.
create function private.unprotected_videos()
returns table (id uuid, lock_prefix text, is_held boolean, is_outgrown boolean, may_move boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with held as materialized (select v.id from private.held_videos() as v (id)),

    outgrown as materialized (select o.id from private.outgrown() as o (id)),

    wanted as materialized (
        select
            r.id, r.status, r.status_at, r.created_at, s.status as sound_status, s.status_at as sound_status_at,
            coalesce(substring(k.object_key from '^r/[^/]+/[^/]+/'), substring(l.object_key from '^r/[^/]+/[^/]+/'))
                as prefix,
            exists (select from held as h where h.id = r.id) as is_held,
            exists (select from outgrown as o where o.id = r.id) as is_outgrown
        from resguardo.recordings as r
        left join private.recording_secrets as k on k.recording_id = r.id
        left join resguardo.recordings as s on s.beside = r.id and s.status <> 'DELETED'
        left join private.recording_secrets as l on l.recording_id = s.id
        where r.id in (select h.id from held as h union select o.id from outgrown as o)
            and r.medium = 'VIDEO' and r.status <> 'DELETED'
    ),

    shared as materialized (
        select distinct w.prefix
        from wanted as w
        inner join resguardo.recordings as r on r.id = w.id
        inner join resguardo.recordings as o
            on o.consultation_id = r.consultation_id and o.medium = 'VIDEO' and o.status <> 'DELETED'
        inner join private.recording_secrets as k on k.recording_id = o.id and starts_with(k.object_key, w.prefix)
        where not exists (select from held as h where h.id = o.id)
    )

    select
        w.id,
        case when not exists (select from shared as x where x.prefix = w.prefix) then w.prefix end,
        w.is_held,
        w.is_outgrown,
        private.is_finished(w.status) and coalesce(private.is_finished(w.sound_status), true)
        and (
            private.may_move(w.status, w.status_at)
            or coalesce(private.may_move(w.sound_status, w.sound_status_at), false)
        )
        and not exists (
            select from resguardo.deletions as d
            where d.recording_id = w.id and d.status = 'DELETING' and private.is_in_destruction(w.id)
        )
    from wanted as w
    where w.prefix is not null
    order by w.created_at, w.id;
end
$$;

create function private.may_move(status text, since timestamptz) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return status in ('READY', 'FAILED', 'ABORTED')
        or (status = 'LOST' and since < private.now() - interval '8 days');
end
$$;

-- Videos whose objects are on their way to keep/. None of these begins to be destroyed.
create function private.moving_videos() returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct coalesce(r.beside, r.id)
    from private.object_moves as m
    inner join resguardo.recordings as r on r.id = m.recording_id;
end
$$;

-- Writes down that the objects of a video and of its sound are to move to keep/, and tells from where and to where,
-- after the audit row; the same again where it is under way. Nothing where it is in destruction, or nothing is to move.
create function private.begin_move(of_video uuid)
returns table (recording_id uuid, source_key text, target_key text, is_verified boolean, is_kept boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    video resguardo.recordings;
begin
    perform private.lock_keeping(false);
    perform from resguardo.recordings as r where of_video in (r.id, r.beside) order by r.id for update;
    select r.* into video from resguardo.recordings as r where r.id = of_video;
    if not private.is_in_destruction(of_video) then
        update resguardo.deletions as d set attempts = d.attempts + 1
        where d.recording_id = of_video and d.status = 'DELETING';
        insert into private.object_moves (recording_id, source_key, target_key)
        select r.id, s.object_key, regexp_replace(s.object_key, '^r/[^/]+/', 'keep/')
        from resguardo.recordings as r
        inner join private.recording_secrets as s on s.recording_id = r.id
        where of_video in (r.id, r.beside) and private.may_move(r.status, r.status_at)
            and starts_with(s.object_key, 'r/')
        on conflict on constraint object_moves_pkey do nothing;
    end if;
    perform private.write_audit(
        'recording.read_key', 'ALLOWED', 'object_move', 'recording', array[of_video],
        array_remove(array[video.patient_id], null), array_remove(array[video.consultation_id], null),
        array['object_key'], 1, null
    );
    return query
    select m.recording_id, m.source_key, m.target_key, r.status = 'READY', m.kept_at is not null
    from private.object_moves as m
    inner join resguardo.recordings as r on r.id = m.recording_id
    where of_video in (r.id, r.beside)
    order by r.medium desc;
end
$$;

-- From now on the recording is read from the new key: where a move leads there, and it is not being destroyed. False
-- where it does not.
create function private.keep_object(of_recording uuid, old_key text, new_key text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    kept resguardo.recordings;
begin
    select r.* into kept from resguardo.recordings as r where r.id = of_recording for update;
    if exists (
        select from private.recording_secrets as s
        where s.recording_id = of_recording and s.object_key = new_key
    ) then
        return true;
    elsif private.is_in_destruction(coalesce(kept.beside, kept.id)) then
        return false;
    end if;
    update private.recording_secrets as s set object_key = new_key
    where s.recording_id = of_recording and s.object_key = old_key
        and exists (
            select from private.object_moves as m
            where m.recording_id = of_recording and m.source_key = old_key and m.target_key = new_key
        );
    if not found then
        return false;
    end if;
    update resguardo.recordings as r set retention_class = 'keep' where r.id = of_recording;
    update private.object_moves as m set kept_at = private.now() where m.recording_id = of_recording;
    update private.deletion_objects as o set object_key = new_key where o.object_key = old_key;
    perform private.write_audit(
        'object.keep', 'ALLOWED', null, 'recording', array[of_recording], array[kept.patient_id],
        array[kept.consultation_id], array['object_key', 'retention_class'], 1, null
    );
    return true;
end
$$;

-- The move is over, and one object left, or none was there.
create function private.end_move(of_recording uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    delete from private.object_moves as m where m.recording_id = of_recording;
end
$$;

-- The time, and how many recordings are verified, at the start of a look for what is missing.
create function private.begin_look(out at timestamptz, out verified bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    at := private.now();
    select count(*) into verified from resguardo.recordings as r where r.status = 'READY';
end
$$;

-- Of the verified recordings whose keys are after the one and up to the other, those whose object is not among those
-- `present` there, and that nobody is destroying; and what had been missing and is present is so no more.
create function private.missing_objects(after_key text, last_key text, present text[])
returns table (id uuid, beside uuid, consultation_id uuid, missing_since timestamptz)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.recordings as r set missing_since = null
    from private.recording_secrets as s
    where r.missing_since is not null and s.recording_id = r.id and s.object_key = any(present);
    return query
    select r.id, r.beside, r.consultation_id, r.missing_since
    from private.recording_secrets as s
    inner join resguardo.recordings as r on r.id = s.recording_id
    where s.object_key collate "C" > after_key and s.object_key collate "C" <= last_key
        and r.status = 'READY' and not s.object_key = any(present)
        and not exists (
            select from resguardo.deletions as d
            where d.recording_id = coalesce(r.beside, r.id) and d.status = 'DELETING'
        )
    order by r.id;
end
$$;

-- Writes down, once, that a recording's object was found missing at that time; false where that is known.
create function private.report_missing(of_recording uuid, seen_at timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    missed resguardo.recordings;
begin
    update resguardo.recordings as r set missing_since = greatest(seen_at, private.now())
    where r.id = of_recording and r.missing_since is null and r.status = 'READY'
    returning r.* into missed;
    if missed.id is null then
        return false;
    end if;
    perform private.write_audit(
        'object.report_missing', 'ALLOWED', null, 'recording', array[missed.id], array[missed.patient_id],
        array[missed.consultation_id], array['missing_since'], 1, null
    );
    return true;
end
$$;
