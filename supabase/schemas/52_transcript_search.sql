-- The search in transcripts, which uses an index of keyed hashes of the transcripts' words (a blind index).

create table private.word_index_key (
    is_the_only_one boolean primary key default true
    constraint word_index_key_is_alone check (is_the_only_one),
    wrapped_key bytea not null
    constraint word_index_key_wrapped_key_length check (length(wrapped_key) between 40 and 64),
    root_key_id text not null
    constraint word_index_key_root_key_id_fkey references private.root_keys (id)
);
create index word_index_key_root_key_idx on private.word_index_key (root_key_id);

-- Stores the key of the word index unless a key is already stored, and returns the key that is now stored. If two
-- processes create a key at once, both get the key that was stored first.
create function private.word_index_key(new_wrapped bytea, new_root_key text)
returns table (wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.word_index_key (wrapped_key, root_key_id) values (new_wrapped, new_root_key)
    on conflict do nothing;
    return query select k.wrapped_key, k.root_key_id from private.word_index_key as k;
end
$$;

-- A search of the transcripts, until its transaction commits. The commit then writes the audit row of the search and
-- deletes the row here, so the table is empty outside of searches. The audit row cannot be written earlier, because it
-- also names what the hits show, and only the API can find the hits, in the decrypted text.
create table private.searches (
    id uuid constraint searches_pkey primary key default gen_random_uuid(),
    named_kind text,
    named_id uuid,
    is_own boolean,
    recording_ids uuid[] not null,
    patient_ids uuid[] not null,
    consultation_ids uuid[] not null,
    fields text[] not null,
    shown jsonb not null default '[]'
);
comment on table private.searches is 'Searches of transcripts whose transaction has not committed. They have no words.';
comment on column private.searches.recording_ids is 'The recordings whose encrypted transcripts the API got.';
comment on column private.searches.shown is 'The entities that the hits show: for each type an object with its ids.';

-- Writes the audit row of a search, and deletes the search.
create function private.write_search() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    search private.searches;
begin
    delete from private.searches as s where s.id = new.id returning s.* into search;
    perform private.write_lookup(
        'transcript.search', 'recording', search.named_kind, search.named_id, search.is_own,
        private.entities_of('recording', search.recording_ids) || search.shown,
        search.patient_ids, search.consultation_ids, cardinality(search.recording_ids), search.fields
    );
    return null;
end
$$;

create constraint trigger searches_write_audit after insert on private.searches
deferrable initially deferred for each row execute function private.write_search();
alter table private.searches enable always trigger searches_write_audit;

-- Adds the entities that the hits of a search show to the audit row of the search. Returns whether the caller's
-- transaction contains the search.
create function private.add_shown_hits(of_search uuid, shown_entities jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.doctor();
    update private.searches as s set shown = s.shown || shown_entities where s.id = of_search;
    return found;
end
$$;

-- Returns the caller's newest transcripts that may contain all search terms, still encrypted. Before that, stores the
-- search, so that the commit of the transaction writes an audit row that names these transcripts' recordings. The
-- function also returns the id of the search, and whether it left out older transcripts, because the transcripts exceed
-- the given number or 40 MiB together. The search leaves out sensitive kinds of consultation unless the caller asks for
-- them. The search leaves out transcripts of recordings that are to be destroyed. The query reads the index on `terms`
-- first. Postgres's planner does not know the cost of reading `terms` from TOAST storage, and would otherwise read the
-- terms of all transcripts of the doctor.
create function private.search_transcripts(
    of_terms bigint[], of_patient uuid, of_consultation uuid, of_recording uuid, since timestamptz, until timestamptz,
    with_sensitive boolean, most integer, of_fields text[]
) returns table (
    search_id uuid, recording_id uuid, ciphertext bytea, wrapped bytea, root_key text, corrections bytea[],
    is_cut boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set enable_seqscan = off
as $$
declare
    doctor constant uuid := private.doctor();
    most_bytes constant bigint := 41943040;
    hits uuid[];
    named_kind text;
    named uuid;
    is_own boolean;
    leaves_some_out boolean;
    new_id constant uuid := gen_random_uuid();
begin
    perform private.use_quota(doctor, 'pages');
    if cardinality(of_terms) = 0 then
        raise exception 'search_empty' using errcode = 'RG409';
    end if;
    with matching as materialized (
        select w.recording_id, length(w.ciphertext) as size_bytes
        from private.transcript_texts as w
        where w.terms @> of_terms
    ),

    found as (
        select m.recording_id, c.scheduled_at, m.size_bytes
        from matching as m
        inner join resguardo.transcripts as t on t.recording_id = m.recording_id
        inner join resguardo.consultations as c on c.id = t.consultation_id
        where t.doctor_id = doctor and c.doctor_id = doctor and t.status = 'READY'
            and (of_patient is null or t.patient_id = of_patient)
            and (of_consultation is null or t.consultation_id = of_consultation)
            and (of_recording is null or t.recording_id = of_recording)
            and (since is null or c.scheduled_at >= since)
            and (until is null or c.scheduled_at < until)
            and (with_sensitive or c.sensitivity = 'ORDINARY')
            and not exists (
                select from resguardo.deletions as d
                where d.recording_id = m.recording_id and d.status in ('REQUESTED', 'DELETING')
            )
        order by c.scheduled_at desc, m.recording_id desc
        limit most + 1
    ),

    sized as (
        select
            f.recording_id,
            row_number() over newest as place,
            sum(
                f.size_bytes + coalesce(
                    (
                        select sum(length(x.ciphertext)) from private.transcript_corrections as x
                        where x.recording_id = f.recording_id
                    ), 0
                )
            ) over newest as bytes_so_far
        from found as f
        window newest as (order by f.scheduled_at desc, f.recording_id desc)
    ),

    taken as (
        select s.recording_id, s.place, s.place = 1 or (s.place <= most and s.bytes_so_far <= most_bytes) as is_taken
        from sized as s
    )

    select
        coalesce(array_agg(k.recording_id order by k.place) filter (where k.is_taken), '{}'),
        not coalesce(bool_and(k.is_taken), true)
    into hits, leaves_some_out
    from taken as k;
    if cardinality(hits) = 0 then
        select f.kind, f.id, f.is_own into named_kind, named, is_own
        from (
            values
            ('recording', of_recording, exists (
                select from resguardo.recordings as r where r.id = of_recording and r.doctor_id = doctor
            )),
            ('consultation', of_consultation, exists (
                select from resguardo.consultations as c where c.id = of_consultation and c.doctor_id = doctor
            )),
            ('patient', of_patient, exists (
                select from resguardo.consultations as c where c.patient_id = of_patient and c.doctor_id = doctor
            ))
        ) as f (kind, id, is_own)
        where f.id is not null
        order by f.is_own
        limit 1;
    end if;
    insert into private.searches (
        id, named_kind, named_id, is_own, recording_ids, patient_ids, consultation_ids, fields
    ) values (
        new_id, named_kind, named, is_own, hits,
        array(
            select distinct t.patient_id from resguardo.transcripts as t where t.recording_id = any (hits)
        ),
        array(
            select distinct t.consultation_id from resguardo.transcripts as t where t.recording_id = any (hits)
        ),
        of_fields
    );
    return query
    select
        new_id, t.recording_id, w.ciphertext, k.wrapped_key, k.root_key_id,
        array(
            select x.ciphertext from private.transcript_corrections as x
            where x.recording_id = t.recording_id order by x.number
        ),
        leaves_some_out
    from unnest(hits) with ordinality as h (id, place)
    inner join resguardo.transcripts as t on t.recording_id = h.id
    inner join private.transcript_texts as w on w.recording_id = t.recording_id
    inner join private.recording_keys as k on k.recording_id = t.recording_id
    order by h.place;
end
$$;

-- Returns the key of the word index for a search, or no row if no transcript has been indexed yet.
create function private.read_word_index_key() returns table (wrapped bytea, root_key text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    return query select k.wrapped_key, k.root_key_id from private.word_index_key as k;
end
$$;

-- Locks and returns the key of the word index if it is wrapped by a root key other than the current one.
create function private.lock_word_index_key(current_root_key text) returns table (wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select k.wrapped_key, k.root_key_id from private.word_index_key as k
    where k.root_key_id <> current_root_key for update;
end
$$;

-- Stores the key of the word index, wrapped by a new root key.
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
