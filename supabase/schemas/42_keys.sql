-- The root keys, and the data keys of recordings and patients, encrypted (wrapped) with a root key.

create table private.recording_keys (
    recording_id uuid primary key
    constraint recording_keys_recording_id_fkey references resguardo.recordings (id),
    wrapped_key bytea not null
    constraint recording_keys_wrapped_key_length check (length(wrapped_key) between 40 and 64),
    root_key_id text not null constraint recording_keys_root_key_id_is_slug check (root_key_id ~ '^[a-z0-9-]{1,32}$'),
    created_at timestamptz not null default clock_timestamp()
);
comment on table private.recording_keys is
'One data key per recording, wrapped by a root key (AES-KW, RFC 3394). It encrypts the transcript and the notes.';
create index recording_keys_root_key_idx on private.recording_keys (root_key_id, recording_id);

create table private.patient_keys (
    patient_id uuid primary key constraint patient_keys_patient_id_fkey references resguardo.patients (id),
    wrapped_key bytea not null
    constraint patient_keys_wrapped_key_length check (length(wrapped_key) between 40 and 64),
    root_key_id text not null constraint patient_keys_root_key_id_is_slug check (root_key_id ~ '^[a-z0-9-]{1,32}$'),
    created_at timestamptz not null default private.now()
);
comment on table private.patient_keys is
'The data key of each patient with a signed note, wrapped by a root key. It encrypts the patient''s signed notes.';
create index patient_keys_root_key_idx on private.patient_keys (root_key_id, patient_id);

create table private.root_keys (
    id text primary key constraint root_keys_id_is_slug check (id ~ '^[a-z0-9-]{1,32}$'),
    check_value bytea not null constraint root_keys_check_value_length check (length(check_value) = 16),
    created_at timestamptz not null default private.now()
);
comment on table private.root_keys is
'A truncated HMAC of the id of each root key that was ever current. It reveals a wrong key under a known id.';

-- Raises RG409 (root_key_missing) if the keyring lacks a root key that still wraps a data key, and RG409
-- (root_key_wrong) if the keyring's key with one of the given ids differs from the registered key.
create function private.require_root_keys(ids text[], check_values bytea[]) returns void
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
                or exists (select from private.patient_keys as p where p.root_key_id = k.id)
                or exists (select from private.word_index_key as w where w.root_key_id = k.id)
            )
    ) then
        raise exception 'root_key_missing' using errcode = 'RG409';
    end if;
end
$$;

-- Stores the check value of the current root key, if none is stored yet. Raises RG409 (root_key_wrong) if a different
-- key is already registered under the same id, even if two processes register their keys at the same moment.
create function private.register_root_key(root_key_id text, value_to_check bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.root_keys (id, check_value) values (root_key_id, value_to_check) on conflict do nothing;
    if (select k.check_value from private.root_keys as k where k.id = root_key_id) is distinct from value_to_check then
        raise exception 'root_key_wrong' using errcode = 'RG409';
    end if;
end
$$;

-- Stores the data key of a READY video, if the video has no data key yet. Returns false if the video already has a
-- data key. Raises RG409 (recording_not_ready) for a recording that is not a READY video, so that a destroyed
-- recording never gets a data key again. Raises RG409 (root_key_unknown) for a root key that no process registered at
-- its start.
create function private.make_recording_key(of_recording uuid, wrapped bytea, root_key text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for update;
    if wanted.id is null or wanted.medium <> 'VIDEO' or wanted.status <> 'READY'
        or private.is_being_destroyed(wanted.id)
    then
        raise exception 'recording_not_ready' using errcode = 'RG409';
    end if;
    if not exists (select from private.root_keys as k where k.id = root_key) then
        raise exception 'root_key_unknown' using errcode = 'RG409';
    end if;
    insert into private.recording_keys (recording_id, wrapped_key, root_key_id, created_at)
    values (of_recording, wrapped, root_key, private.now())
    on conflict do nothing;
    if not found then
        return false;
    end if;
    perform private.write_audit(
        'recording.make_key', 'ALLOWED', null, 'recording', array[of_recording],
        array[wanted.patient_id], array[wanted.consultation_id], array['data_key'], 1, null
    );
    return true;
end
$$;

-- Stores the data key of a patient, if the patient has none yet, and locks it, so that the key is not destroyed before
-- the transaction has stored a signed note. Raises RG409 (root_key_unknown) for a root key that no process registered
-- at its start.
create function private.make_patient_key(of_patient uuid, of_consultation uuid, wrapped bytea, root_key text)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    loop
        perform from private.patient_keys as p where p.patient_id = of_patient for share;
        exit when found;
        if not exists (select from private.root_keys as k where k.id = root_key) then
            raise exception 'root_key_unknown' using errcode = 'RG409';
        end if;
        insert into private.patient_keys (patient_id, wrapped_key, root_key_id) values (of_patient, wrapped, root_key)
        on conflict do nothing;
        if found then
            perform private.write_audit(
                'patient.make_key', 'ALLOWED', null, 'patient', array[of_patient], array[of_patient],
                array_remove(array[of_consultation], null), array['data_key'], 1, null
            );
            exit;
        end if;
    end loop;
end
$$;

-- Returns how many data keys are wrapped by a root key other than the given one.
create function private.count_keys_to_rewrap(current_root_key text) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        (select count(*) from private.recording_keys as d where d.root_key_id <> current_root_key)
        + (select count(*) from private.patient_keys as p where p.root_key_id <> current_root_key)
    );
end
$$;

-- Writes the audit row about this read, then locks and returns some data keys that are wrapped by a root key other
-- than the current one. The data keys are ordered by recording id, and begin after the given recording id.
create function private.read_keys_to_rewrap(current_root_key text, after_recording uuid, at_most integer)
returns table (of_recording uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ids uuid[];
    patients uuid[];
    consultations uuid[];
begin
    select array_agg(l.recording_id order by l.recording_id) into ids
    from (
        select d.recording_id from private.recording_keys as d
        where d.root_key_id <> current_root_key and (after_recording is null or d.recording_id > after_recording)
        order by d.recording_id
        limit at_most
        for update
    ) as l;
    if ids is null then
        return;
    end if;
    select array_agg(distinct r.patient_id), array_agg(distinct r.consultation_id) into patients, consultations
    from resguardo.recordings as r
    where r.id = any (ids);
    perform private.write_audit(
        'recording.rewrap_key', 'ALLOWED', null, 'recording', ids, patients, consultations, array['data_key'],
        cardinality(ids), null
    );
    return query
    select d.recording_id, d.wrapped_key, d.root_key_id
    from private.recording_keys as d
    where d.recording_id = any (ids)
    order by d.recording_id;
end
$$;

-- Replaces the data keys that have not changed since the worker read them, and returns how many data keys it
-- replaced. Raises RG409 (root_key_unknown).
create function private.rewrap_recording_keys(
    of_recordings uuid[], wrapped_before bytea[], wrapped_after bytea[], root_key text
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    replaced integer;
begin
    if not exists (select from private.root_keys as k where k.id = root_key) then
        raise exception 'root_key_unknown' using errcode = 'RG409';
    end if;
    update private.recording_keys as d set wrapped_key = new.wrapped_after, root_key_id = root_key
    from unnest(of_recordings, wrapped_before, wrapped_after) as new (recording_id, wrapped_before, wrapped_after)
    where d.recording_id = new.recording_id and d.wrapped_key = new.wrapped_before;
    get diagnostics replaced = row_count;
    return replaced;
end
$$;

-- Writes the audit row about this read, then locks and returns some data keys of patients that are wrapped by a root
-- key other than the current one, ordered by patient id and after the given patient id.
create function private.read_patient_keys_to_rewrap(current_root_key text, after_patient uuid, at_most integer)
returns table (of_patient uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ids uuid[];
begin
    select array_agg(l.patient_id order by l.patient_id) into ids
    from (
        select p.patient_id from private.patient_keys as p
        where p.root_key_id <> current_root_key and (after_patient is null or p.patient_id > after_patient)
        order by p.patient_id
        limit at_most
        for update
    ) as l;
    if ids is null then
        return;
    end if;
    perform private.write_audit(
        'patient.rewrap_key', 'ALLOWED', null, 'patient', ids, ids, '{}', array['data_key'], cardinality(ids), null
    );
    return query
    select p.patient_id, p.wrapped_key, p.root_key_id
    from private.patient_keys as p
    where p.patient_id = any (ids)
    order by p.patient_id;
end
$$;

-- Replaces the data keys of patients that have not changed since the worker read them, and returns how many it
-- replaced. Raises RG409 (root_key_unknown).
create function private.rewrap_patient_keys(
    of_patients uuid[], wrapped_before bytea[], wrapped_after bytea[], root_key text
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    replaced integer;
begin
    if not exists (select from private.root_keys as k where k.id = root_key) then
        raise exception 'root_key_unknown' using errcode = 'RG409';
    end if;
    update private.patient_keys as p set wrapped_key = new.wrapped_after, root_key_id = root_key
    from unnest(of_patients, wrapped_before, wrapped_after) as new (patient_id, wrapped_before, wrapped_after)
    where p.patient_id = new.patient_id and p.wrapped_key = new.wrapped_before;
    get diagnostics replaced = row_count;
    return replaced;
end
$$;

-- Returns the number of encrypted keys for each kind of key and each root key that wraps them.
create function private.count_keys() returns table (kind text, root_key text, keys bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select 'recording', d.root_key_id, count(*) from private.recording_keys as d group by d.root_key_id
    union all
    select 'patient', p.root_key_id, count(*) from private.patient_keys as p group by p.root_key_id
    union all
    select 'word_index', w.root_key_id, count(*) from private.word_index_key as w group by w.root_key_id
    order by 1, 2;
end
$$;
