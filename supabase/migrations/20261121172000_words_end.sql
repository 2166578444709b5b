-- The end of words: with the recording they go, and its certificate counts them. And the key of their index is wrapped
-- anew with all others.

alter table resguardo.deletions add column cleared_words jsonb not null default '[]';
comment on column resguardo.deletions.cleared_words is 'How many rows of which table were deleted with their words.';

-- Forgets the words of a recording, and says how many rows of which table those were. Whoever writes words holds the
-- transcript's row meanwhile: what was begun before is waited for, and goes as well.
create function private.clear_words(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array[
        'subtitle_links', 'transcript_corrections', 'transcript_pieces', 'transcript_words'
    ];
    of_table text;
    rows_cleared bigint;
    cleared jsonb := '[]';
begin
    perform from resguardo.transcripts as t where t.recording_id = of_recording for update;
    foreach of_table in array tables loop
        execute format('delete from private.%I where recording_id = $1', of_table) using of_recording;
        get diagnostics rows_cleared = row_count;
        if rows_cleared > 0 then
            cleared := cleared || jsonb_build_object('table', of_table, 'rows', rows_cleared);
        end if;
    end loop;
    update resguardo.transcripts as t
    set status = 'OFF', error = 'recording_destroyed', status_at = private.now()
    where t.recording_id = of_recording and t.error is distinct from 'recording_destroyed';
    return cleared;
end
$$;

-- Destroys the keys of what is gone from the bucket, and forgets its words and where it was; what the certificate has
-- to say of each. An attempt whose objects are not all gone is left out.
create or replace function private.shred_keys(
    claimed uuid[], attempts integer[], of_deletions uuid[], object_keys text[], deleted timestamptz[],
    gone timestamptz[]
) returns table (deletion_id uuid, facts jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    ours constant uuid[] := private.lock_claimed(claimed, attempts);
    shredded uuid[];
    recordings uuid[];
    media uuid[];
begin
    update private.deletion_objects as o set deleted_at = g.deleted_at, gone_at = g.gone_at
    from unnest(of_deletions, object_keys, deleted, gone) as g (deletion_id, object_key, deleted_at, gone_at)
    inner join resguardo.deletions as d on d.id = g.deletion_id and d.shredded_at is null
    where o.deletion_id = g.deletion_id and o.object_key = g.object_key and d.id = any (ours);
    select array_agg(d.id), array_agg(d.recording_id) into shredded, recordings
    from resguardo.deletions as d
    where d.id = any (ours)
        and not exists (
            select from private.deletion_objects as o where o.deletion_id = d.id and o.gone_at is null
        );
    media := array(
        select r.id from resguardo.recordings as r where r.id = any (recordings) or r.beside = any (recordings)
    );
    with destroyed as (
        delete from private.recording_keys as k where k.recording_id = any (media)
        returning k.recording_id, k.wrapped_key, k.root_key_id
    ),

    told as (
        select
            coalesce(r.beside, r.id) as recording_id,
            jsonb_agg(
                jsonb_build_object(
                    'kind', 'recording', 'fingerprint', encode(sha256(x.wrapped_key), 'hex'),
                    'root_key_id', x.root_key_id, 'destroyed_at', moment
                )
            ) as keys
        from destroyed as x
        inner join resguardo.recordings as r on r.id = x.recording_id
        group by coalesce(r.beside, r.id)
    )

    update resguardo.deletions as d
    set shredded_at = coalesce(d.shredded_at, moment),
        destroyed_keys = d.destroyed_keys
            || coalesce((select t.keys from told as t where t.recording_id = d.recording_id), '[]'),
        cleared_words = d.cleared_words || private.clear_words(d.recording_id)
    where d.id = any (shredded);
    delete from private.recording_secrets as s where s.recording_id = any (media);
    delete from private.import_secrets as s
    using resguardo.recording_imports as i
    where i.id = s.import_id and i.recording_id = any (media);
    perform from resguardo.access_requests as a
    where a.id in (select e.request_id from private.access_exports as e where e.recording_ids && recordings)
    order by a.id
    for update;
    delete from private.access_exports as e where e.recording_ids && recordings;
    return query
    select
        d.id,
        jsonb_build_object(
            'recording_id', d.recording_id, 'consultation_id', d.consultation_id, 'ground', d.ground,
            'reason', lower(d.reason), 'requested_at', case d.ground when 'REQUEST' then d.requested_at end,
            'policy', case when p.id is not null then jsonb_build_object(
                'name', p.name, 'sha256', p.sha256, 'due_at', d.due_at,
                'term_days', private.term_of(p.terms, c.kind, 'recording_days')
            ) end,
            'hold_checked_at', d.hold_checked_at, 'destroyed_at', d.shredded_at, 'keys', d.destroyed_keys,
            'words', d.cleared_words,
            'number', d.number,
            'repeats', (
                select c.sha256 from resguardo.certificates as c
                where c.recording_id = d.recording_id and c.number = d.number - 1
            ),
            'objects', coalesce(
                (
                    select jsonb_agg(
                        jsonb_build_object(
                            'key', o.object_key, 'size_bytes', o.size_bytes, 'etag', o.etag, 'sha256', o.sha256,
                            'deleted_at', o.deleted_at, 'gone_at', o.gone_at
                        ) order by o.object_key
                    )
                    from private.deletion_objects as o where o.deletion_id = d.id
                ),
                '[]'
            )
        )
    from resguardo.deletions as d
    inner join resguardo.consultations as c on c.id = d.consultation_id
    left join resguardo.retention_policies as p on p.id = d.policy_id
    where d.id = any (shredded);
end
$$;

-- Raises RG409 where the keyring lacks a root key that data keys are still wrapped by (root_key_missing), or has
-- another one under its name (root_key_wrong).
create or replace function private.require_root_keys(ids text[], check_values bytea[]) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from unnest(ids, check_values) as given (id, check_value)
        join private.root_keys as k on k.id = given.id
        where k.check_value is distinct from given.check_value
    ) then
        raise exception 'root_key_wrong' using errcode = 'RG409';
    end if;
    if exists (
        select from private.root_keys as k
        where k.id <> all (coalesce(ids, '{}'))
            and (
                exists (select from private.recording_keys as d where d.root_key_id = k.id)
                or exists (select from private.word_index_key as w where w.root_key_id = k.id)
            )
    ) then
        raise exception 'root_key_missing' using errcode = 'RG409';
    end if;
end
$$;

-- By which root key how many keys of which kind are wrapped.
create function private.count_keys() returns table (kind text, root_key text, keys bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select 'recording', d.root_key_id, count(*) from private.recording_keys as d group by d.root_key_id
    union all
    select 'word_index', w.root_key_id, count(*) from private.word_index_key as w group by w.root_key_id
    order by 1, 2;
end
$$;

-- The key of the word index, where another root key wraps it, locked.
create function private.lock_word_index_key(current_root_key text) returns table (wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select k.wrapped_key, k.root_key_id from private.word_index_key as k
    where k.root_key_id <> current_root_key for update;
end
$$;

-- Wraps it anew.
create function private.rewrap_word_index_key(wrapped_after bytea, root_key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.word_index_key as k set wrapped_key = wrapped_after, root_key_id = root_key;
    perform private.write_audit(
        'transcript.rewrap_index_key', 'ALLOWED', null, 'deployment', null, null, null, array['index_key'], 1, null
    );
end
$$;
