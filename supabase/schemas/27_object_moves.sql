-- Moves of objects to keep/, a prefix that no rule of the bucket deletes, and objects that are missing from the
-- bucket.

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
'Objects that move to keep/. While a row exists, the object may be under either key, or both.';
comment on column private.object_moves.kept_at is 'When the worker began to read the recording from the new key.';

-- Returns the videos under r/ that must outlive the bucket's rule, oldest first. `lock_prefix` is the folder of the
-- consultation, where a lock on the bucket's prefix would protect the video from deletion. `lock_prefix` is null if
-- the folder also contains a video that is not held, because the lock would protect the unheld video, too. `may_move`
-- is true if no process writes or destroys the objects any more. `movable` is the number of objects of the video and
-- its sound that can be moved now.
create function private.unprotected_videos()
returns table (
    id uuid, lock_prefix text, is_held boolean, is_outgrown boolean, may_move boolean, movable integer
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with held as materialized (select v.id from private.held_videos() as v (id)),

    outgrown as materialized (select o.id from private.outgrown() as o (id)),

    wanted as materialized (
        select
            r.id, r.created_at, m.prefix, m.are_finished, m.movable,
            exists (select from held as h where h.id = r.id) as is_held,
            exists (select from outgrown as o where o.id = r.id) as is_outgrown
        from resguardo.recordings as r
        cross join lateral (
            select
                min(private.consultation_prefix(k.object_key)) as prefix,
                bool_and(private.is_finished(p.status)) as are_finished,
                count(*) filter (
                    where private.may_move(p.status, p.status_at) and starts_with(k.object_key, 'r/')
                )::integer as movable
            from resguardo.recordings as p
            left join private.recording_secrets as k on k.recording_id = p.id
            where r.id in (p.id, p.video_id) and p.status <> 'DELETED'
        ) as m
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
        w.are_finished and w.movable > 0
        and not exists (
            select from resguardo.deletions as d
            where d.recording_id = w.id and d.status = 'DELETING' and private.is_in_destruction(w.id)
        ),
        w.movable
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

-- Returns the videos that have objects in a move to keep/, and the videos beside which a clip is being stored. The
-- destruction of a video may not begin in this time.
create function private.moving_videos() returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct coalesce(r.video_id, r.id)
    from private.object_moves as m
    inner join resguardo.recordings as r on r.id = m.recording_id
    union
    select s.id from private.storing_videos() as s (id);
end
$$;

-- Records that the objects of a video and of its sound are to move to keep/, writes the audit row, and returns the
-- old and new object keys. If a move of the video's objects is already under way, the function returns that move.
-- Returns no row if the destruction of the video has begun or no object needs to move.
create function private.begin_move(of_video uuid)
returns table (recording_id uuid, source_key text, target_key text, is_verified boolean, is_kept boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    video resguardo.recordings;
begin
    perform private.lock_keeping(false);
    perform from resguardo.recordings as r where of_video in (r.id, r.video_id) order by r.id for update;
    select r.* into video from resguardo.recordings as r where r.id = of_video;
    if not private.is_in_destruction(of_video) then
        update resguardo.deletions as d set attempts = d.attempts + 1
        where d.recording_id = of_video and d.status = 'DELETING';
        insert into private.object_moves (recording_id, source_key, target_key)
        select r.id, s.object_key, private.kept_object_key(s.object_key)
        from resguardo.recordings as r
        inner join private.recording_secrets as s on s.recording_id = r.id
        where of_video in (r.id, r.video_id) and private.may_move(r.status, r.status_at)
            and starts_with(s.object_key, 'r/')
        on conflict on constraint object_moves_pkey do nothing;
    end if;
    perform private.write_audit(
        'recording.read_key', 'ALLOWED', 'object_move', 'recording',
        array(
            select of_video
            union
            select m.recording_id
            from private.object_moves as m
            inner join resguardo.recordings as r on r.id = m.recording_id
            where of_video in (r.id, r.video_id)
        ),
        array_remove(array[video.patient_id], null), array_remove(array[video.consultation_id], null),
        array['object_key'], 1, null
    );
    return query
    select m.recording_id, m.source_key, m.target_key, r.status = 'READY', m.kept_at is not null
    from private.object_moves as m
    inner join resguardo.recordings as r on r.id = m.recording_id
    where of_video in (r.id, r.video_id)
    order by r.medium desc;
end
$$;

-- Replaces the recording's object key by the new key of its move, and returns true. Returns false if no move leads to
-- the given key, or the recording is being destroyed.
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
    elsif private.is_in_destruction(coalesce(kept.video_id, kept.id)) then
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

-- Ends the move of an object, when the object exists only under one key, or does not exist at all.
create function private.end_move(of_recording uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    delete from private.object_moves as m where m.recording_id = of_recording;
end
$$;

-- Starts a search for missing objects: returns the time and the number of verified recordings.
create function private.begin_look(out at timestamptz, out verified bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    at := private.now();
    select count(*) into verified from resguardo.recordings as r where r.status = 'READY';
end
$$;

-- Returns the verified recordings whose object key lies after `after_key`, up to and including `last_key`, and is not
-- in `present`, the list of existing objects. The function leaves out recordings whose destruction has begun. If a
-- recording is marked as missing and its object key is in `present`, the function removes the mark.
create function private.missing_objects(after_key text, last_key text, present text[])
returns table (id uuid, video_id uuid, consultation_id uuid, missing_since timestamptz)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.recordings as r set missing_since = null
    from private.recording_secrets as s
    where r.missing_since is not null and s.recording_id = r.id and s.object_key = any(present);
    return query
    select r.id, r.video_id, r.consultation_id, r.missing_since
    from private.recording_secrets as s
    inner join resguardo.recordings as r on r.id = s.recording_id
    where s.object_key collate "C" > after_key and s.object_key collate "C" <= last_key
        and r.status = 'READY' and not s.object_key = any(present)
        and not exists (
            select from resguardo.deletions as d
            where d.recording_id = coalesce(r.video_id, r.id) and d.status = 'DELETING'
        )
    order by r.id;
end
$$;

-- Records that the object of a recording was found missing at the given time. Returns false, and changes nothing, if
-- the object is already recorded as missing.
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
