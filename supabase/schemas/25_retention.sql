-- The retention term of each recording: when it begins, and when the recording is to be destroyed.

-- Sets the retention class and the due date of a recording. A new video gets the retention class that its retention
-- term requires. A sound recording gets the retention class of its video, and an imported recording keeps the class
-- of its upload. A recording that has ended gets its due date from the policy in force and keeps that policy. If a
-- LOST recording is found and gets a new status, it keeps its retention policy and never becomes due earlier than
-- before.
create function private.retain_recording() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    policy resguardo.retention_policies;
    of_kind text;
    born date;
begin
    if tg_op = 'INSERT' and new.retention_class = 'keep' then
        new.retention_class := coalesce(
            (select v.retention_class from resguardo.recordings as v where v.id = new.video_id),
            (
                select i.retention_class from resguardo.recording_imports as i
                where i.recording_id = new.id and new.source = 'IMPORT'
            ),
            private.class_for(new.consultation_id)
        );
    end if;
    if tg_op = 'INSERT' then
        new.recorded_class := new.retention_class;
    end if;
    if new.medium <> 'VIDEO' or not private.is_finished(new.status) then
        return new;
    elsif tg_op = 'INSERT' then
        if new.due_at is not null then
            return new;
        end if;
    elsif new.status = old.status then
        return new;
    end if;
    new.term_from := greatest(
        new.term_from, new.created_at, new.ended_at, new.stored_at, new.status_at, private.latest_time()
    );
    policy := private.active_policy();
    if new.retention_policy is not null then
        select p.* into policy from resguardo.retention_policies as p where p.id = new.retention_policy;
    end if;
    if policy.id is not null then
        select c.kind, p.birth_date into of_kind, born
        from resguardo.consultations as c
        inner join resguardo.patients as p on p.id = c.patient_id
        where c.id = new.consultation_id
        for share of p;
        new.due_at := greatest(new.due_at, private.due_of(policy.terms, of_kind, born, new.term_from));
        new.retention_policy := policy.id;
    end if;
    return new;
end
$$;

-- Postgres runs triggers in the order of their names. The name of the trigger recordings_retention sorts after
-- recordings_guard, because the trigger recordings_guard must first set status_at.
create trigger recordings_retention before insert or update of status on resguardo.recordings
for each row execute function private.retain_recording();

create function private.classify_import() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    new.retention_class := private.class_for(new.consultation_id);
    return new;
end
$$;

create trigger recording_imports_classify before insert on resguardo.recording_imports
for each row execute function private.classify_import();

-- Returns the retention term 'recording_days' or 'signed_note_days' for a kind of consultation, or the default term
-- if the kind has none.
create function private.term_of(terms jsonb, kind text, term text) returns integer
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce((terms #>> array['kinds', kind, term])::integer, (terms #>> array['default', term])::integer);
end
$$;

-- Returns the time until which recordings of a minor with the given birth date must be kept at least, or null if the
-- retention terms say nothing about minors. A minor is of full age once the birthday has begun in every time zone. A
-- person born on 29 February comes of age on 1 March.
create function private.minor_until(terms jsonb, birth_date date) returns timestamptz
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    years constant integer := (terms #>> '{minors,until_age_years}')::integer;
begin
    return (
        make_date(extract(year from birth_date)::integer + years, extract(month from birth_date)::integer, 1)
        + (extract(day from birth_date)::integer - 1)
    )::timestamp at time zone 'Etc/GMT+12';
end
$$;

-- Returns when a recording or, with the term 'signed_note_days', a signed note is due for destruction if its retention
-- term counts from the given time. Returns null if the terms or the start time are null.
create function private.due_of(
    terms jsonb, kind text, birth_date date, counted_from timestamptz, term text default 'recording_days'
) returns timestamptz
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if terms is null or counted_from is null then
        return null;
    end if;
    return greatest(
        counted_from + make_interval(hours => 24 * private.term_of(terms, kind, term)),
        private.minor_until(terms, birth_date)
    );
end
$$;

-- Returns the retention class of a consultation's next recording: a key prefix under which the bucket's rule deletes
-- no object before the recording is due.
create function private.class_for(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    terms constant jsonb := (private.active_policy()).terms;
    of_kind text;
    born date;
    days integer;
begin
    select c.kind, p.birth_date into of_kind, born
    from resguardo.consultations as c
    inner join resguardo.patients as p on p.id = c.patient_id
    where c.id = of_consultation;
    days := private.term_of(terms, of_kind, 'recording_days');
    if days is null or private.minor_until(terms, born) > private.now() + make_interval(hours => 24 * days) then
        return 'keep';
    end if;
    return 'd' || days;
end
$$;

-- Returns the videos that the bucket's rule would delete too early. The bucket deletes an object one week after the
-- term of its retention class, counted from when the object was stored. The function returns a video if it is due
-- later than two days before the bucket would delete its object, unless its retention class is `keep`.
create function private.outgrown() returns table (recording_id uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.id
    from resguardo.recordings as r
    where r.retention_class <> 'keep' and r.medium = 'VIDEO' and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
        and r.due_at > coalesce(r.stored_at, r.created_at)
        + make_interval(hours => 24 * (substr(r.retention_class, 2)::integer + 5));
end
$$;

-- Writes the audit row, and returns the number and bytes of stored objects by retention class and age in days to
-- compliance. The report names no person and no recording.
create function private.report_storage()
returns table (retention_class text, age_from_days integer, objects bigint, size_bytes bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.use_quota(private.person(), 'pages');
    perform private.write_audit(
        'storage.report', 'ALLOWED', null, 'storage', '{}', '{}', '{}', array['size_bytes', 'due_at'], 1, null
    );
    return query
    select r.retention_class, a.from_days, count(*), coalesce(sum(r.size_bytes), 0)::bigint
    from resguardo.recordings as r
    cross join lateral (
        select max(d.days) as from_days
        from unnest(array[0, 30, 90, 365]) as d (days)
        where d.days = 0
            or private.now() - coalesce(r.stored_at, r.ended_at, r.created_at) >= make_interval(hours => 24 * d.days)
    ) as a
    where r.status = 'READY' or (r.stored_at is not null and r.status in ('VERIFYING', 'FAILED', 'ABORTED', 'LOST'))
    group by r.retention_class, a.from_days
    order by r.retention_class, a.from_days;
end
$$;

-- Returns which recordings become due in the next N days, how many of them are held and therefore kept, and how much
-- was stored and fetched in the last N days. The function writes no audit row, because report_storage() has already
-- written it.
create function private.report_coming(within_days integer)
returns table (
    recordings bigint, size_bytes bigint, held_recordings bigint, held_bytes bigint, objects_stored bigint,
    urls_issued bigint
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    span constant interval := make_interval(hours => 24 * within_days);
begin
    perform private.person();
    return query
    with due as (
        select r.id, coalesce(r.size_bytes, 0) + s.size_bytes as bytes, h.id is not null as is_held
        from resguardo.recordings as r
        cross join lateral (
            select coalesce(sum(p.size_bytes), 0) as size_bytes from resguardo.recordings as p where p.video_id = r.id
        ) as s
        left join private.held_videos() as h (id) on h.id = r.id
        left join resguardo.deletions as d on d.recording_id = r.id and d.status in ('REQUESTED', 'DELETING')
        where (least(r.due_at, d.undo_until) < private.now() + span or d.status = 'DELETING') and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
    )

    select
        count(*) filter (where not d.is_held), coalesce(sum(d.bytes) filter (where not d.is_held), 0)::bigint,
        count(*) filter (where d.is_held), coalesce(sum(d.bytes) filter (where d.is_held), 0)::bigint,
        (
            select count(*) from resguardo.recordings as r
            where coalesce(r.stored_at, r.ended_at) > private.now() - span
        ),
        (
            select count(*) from audit.events as e
            where e.action in (
                'recording.issue_url', 'recording.play', 'recording.read_storage', 'access_request.issue_url'
            )
                and e.outcome = 'ALLOWED' and e.recorded_at > private.now() - span
        )
    from due as d;
end
$$;
