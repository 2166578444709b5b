-- Session notes: the lines that a doctor writes during or after a consultation. Each line belongs to a recording of the
-- consultation, is encrypted with the recording's data key, and is deleted when the recording is destroyed.
--
-- Psychotherapy notes (45 CFR 164.501) have tables of their own. Only private.open_psychotherapy_notes() returns them,
-- and they are never part of a copy for an access request.

create table private.session_notes (
    id uuid primary key,
    recording_id uuid not null,
    consultation_id uuid not null,
    author_id uuid not null
    constraint session_notes_author_id_fkey references resguardo.staff (user_id),
    start_ms integer constraint session_notes_start_range check (start_ms between 0 and 86400000),
    version integer not null default 1 constraint session_notes_version_range check (version between 1 and 1000),
    ciphertext bytea not null
    constraint session_notes_ciphertext_length check (length(ciphertext) between 30 and 8192),
    changed_by uuid not null
    constraint session_notes_changed_by_fkey references resguardo.staff (user_id),
    written_at timestamptz not null default private.now(),
    changed_at timestamptz not null default private.now(),
    constraint session_notes_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint session_notes_recording_key unique (id, recording_id)
);
comment on column private.session_notes.start_ms is
'The time in the recording that the line is about, or null.';
comment on column private.session_notes.version is
'Counts the versions of the line. An edit names the version that it is based on.';
create index session_notes_recording_idx on private.session_notes (recording_id, consultation_id);
create index session_notes_consultation_idx on private.session_notes (consultation_id, written_at, id);
create index session_notes_author_idx on private.session_notes (author_id);
create index session_notes_changed_by_idx on private.session_notes (changed_by);

create table private.session_note_versions (
    note_id uuid not null,
    version integer not null constraint session_note_versions_version_range check (version between 1 and 999),
    recording_id uuid not null,
    start_ms integer,
    ciphertext bytea not null,
    changed_by uuid not null
    constraint session_note_versions_changed_by_fkey references resguardo.staff (user_id),
    changed_at timestamptz not null,
    constraint session_note_versions_pkey primary key (note_id, version),
    constraint session_note_versions_note_fkey foreign key (note_id, recording_id)
    references private.session_notes (id, recording_id)
);
comment on table private.session_note_versions is
'The earlier versions of session notes. An edit moves the version that it replaces into this table.';
create index session_note_versions_note_idx on private.session_note_versions (note_id, recording_id);
create index session_note_versions_recording_idx on private.session_note_versions (recording_id);
create index session_note_versions_changed_by_idx on private.session_note_versions (changed_by);

create table private.psychotherapy_notes (
    id uuid primary key,
    recording_id uuid not null,
    consultation_id uuid not null,
    author_id uuid not null
    constraint psychotherapy_notes_author_id_fkey references resguardo.staff (user_id),
    start_ms integer constraint psychotherapy_notes_start_range check (start_ms between 0 and 86400000),
    version integer not null default 1 constraint psychotherapy_notes_version_range check (version between 1 and 1000),
    ciphertext bytea not null
    constraint psychotherapy_notes_ciphertext_length check (length(ciphertext) between 30 and 8192),
    changed_by uuid not null
    constraint psychotherapy_notes_changed_by_fkey references resguardo.staff (user_id),
    written_at timestamptz not null default private.now(),
    changed_at timestamptz not null default private.now(),
    constraint psychotherapy_notes_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint psychotherapy_notes_recording_key unique (id, recording_id)
);
comment on table private.psychotherapy_notes is
'Psychotherapy notes (45 CFR 164.501), which are kept apart from the rest of the record.';
create index psychotherapy_notes_recording_idx on private.psychotherapy_notes (recording_id, consultation_id);
create index psychotherapy_notes_consultation_idx on private.psychotherapy_notes (consultation_id, written_at, id);
create index psychotherapy_notes_author_idx on private.psychotherapy_notes (author_id);
create index psychotherapy_notes_changed_by_idx on private.psychotherapy_notes (changed_by);

create table private.psychotherapy_note_versions (
    note_id uuid not null,
    version integer not null constraint psychotherapy_note_versions_version_range check (version between 1 and 999),
    recording_id uuid not null,
    start_ms integer,
    ciphertext bytea not null,
    changed_by uuid not null
    constraint psychotherapy_note_versions_changed_by_fkey references resguardo.staff (user_id),
    changed_at timestamptz not null,
    constraint psychotherapy_note_versions_pkey primary key (note_id, version),
    constraint psychotherapy_note_versions_note_fkey foreign key (note_id, recording_id)
    references private.psychotherapy_notes (id, recording_id)
);
create index psychotherapy_note_versions_note_idx on private.psychotherapy_note_versions (note_id, recording_id);
create index psychotherapy_note_versions_recording_idx on private.psychotherapy_note_versions (recording_id);
create index psychotherapy_note_versions_changed_by_idx on private.psychotherapy_note_versions (changed_by);

-- Notifies the subscriptions to a consultation that one of its session notes was written, changed or deleted.
create function private.announce_session_note() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    changed constant private.session_notes := coalesce(new, old);
begin
    perform pg_notify('resguardo_changes', concat_ws(' ', r.consultation_id, r.doctor_id, r.id))
    from resguardo.recordings as r where r.id = changed.recording_id;
    return null;
end
$$;

create trigger session_notes_announce after insert or update or delete on private.session_notes
for each row execute function private.announce_session_note();

-- Returns the id and the consultation of the recording of a note; returns nulls if the note does not exist.
create function private.find_note(
    is_psychotherapy boolean, of_note uuid, out of_recording uuid, out of_consultation uuid
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if is_psychotherapy then
        select n.recording_id, n.consultation_id into of_recording, of_consultation
        from private.psychotherapy_notes as n where n.id = of_note;
    else
        select n.recording_id, n.consultation_id into of_recording, of_consultation
        from private.session_notes as n where n.id = of_note;
    end if;
end
$$;

-- Locks and returns the recording whose notes a doctor changes, so that its destruction does not begin before the
-- transaction ends. A colleague whose share permits notes may write session notes, and change those that the colleague
-- wrote. If the caller may not change the notes or the recording does not exist, the function writes an audit row with
-- DENIED or ABSENT about the entity that the caller named, and returns null. Raises RG409 (recording_deleted,
-- recording_being_deleted).
create function private.lock_noted_recording(
    of_action text, of_recording uuid, entity_type text, entity uuid
) returns resguardo.recordings
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    wanted resguardo.recordings;
    is_permitted boolean;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording and r.medium = 'VIDEO';
    is_permitted := wanted.doctor_id = doctor or (
        of_action like 'session_note.%' and private.may_write_session_notes(wanted.doctor_id, wanted.consultation_id)
        and (
            of_action = 'session_note.write'
            or exists (select from private.session_notes as n where n.id = entity and n.author_id = doctor)
        )
    );
    if wanted.id is null or is_permitted is not true then
        perform private.write_audit(
            of_action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', entity_type,
            array[entity], array_remove(array[wanted.patient_id], null),
            array_remove(array[wanted.consultation_id], null), '{}', 0, null
        );
        return null;
    end if;
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for share;
    if wanted.status = 'DELETED' then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    return wanted;
end
$$;

-- Begins to write a note on a recording: locks the consultation and the recording, and returns the recording's data
-- key, and its duration if it has ended. If the recording has no data key yet, because it is not READY, the function
-- stores the given key: `new_keys` has the same data key wrapped by each root key of the API, and the function stores
-- the first one whose root key is registered. The commit writes the audit row. Returns no row if the recording belongs
-- to a different doctor or does not exist. Raises RG409 (recording_deleted, recording_being_deleted, root_key_unknown),
-- RG429 (quota_pages).
create function private.begin_session_note(
    of_action text, of_recording uuid, new_keys bytea[], new_root_keys text[]
)
returns table (consultation_id uuid, wrapped bytea, root_key text, duration_seconds double precision)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    if of_action is null or of_action not in ('session_note.write', 'psychotherapy_note.write') then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.use_quota(private.person(), 'pages');
    perform from resguardo.consultations as c
    where private.may_write_session_notes(c.doctor_id, c.id) and c.id in (
        select r.consultation_id from resguardo.recordings as r where r.id = of_recording
    )
    for no key update;
    wanted := private.lock_noted_recording(of_action, of_recording, 'recording', of_recording);
    if wanted.id is null then
        return;
    end if;
    if not exists (select from private.recording_keys as k where k.recording_id = of_recording) then
        insert into private.recording_keys (recording_id, wrapped_key, root_key_id, created_at)
        select of_recording, n.wrapped, n.root_key, private.now()
        from unnest(new_keys, new_root_keys) with ordinality as n (wrapped, root_key, place)
        inner join private.root_keys as k on k.id = n.root_key
        order by n.place
        limit 1;
        if not found then
            raise exception 'root_key_unknown' using errcode = 'RG409';
        end if;
        perform private.write_audit(
            'recording.make_key', 'ALLOWED', null, 'recording', array[of_recording], array[wanted.patient_id],
            array[wanted.consultation_id], array['data_key'], 1, null
        );
    end if;
    perform private.write_audit_later(
        of_action, null, 'recording', of_recording, wanted.patient_id, wanted.consultation_id,
        array['lines.text', 'lines.startSeconds'], null
    );
    return query
    select wanted.consultation_id, k.wrapped_key, k.root_key_id, wanted.duration_seconds
    from private.recording_keys as k where k.recording_id = of_recording;
end
$$;

-- Raises RG403 (reserved_action) unless this transaction has begun the given change of the entity, so that each change
-- has an audit row.
create function private.require_begun(of_action text, entity uuid) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from private.pending_audit_rows as p
        where p.transaction_id = pg_current_xact_id() and p.action = of_action and p.entity_id = entity
    ) then
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
end
$$;

-- Stores a new note, which this transaction has begun to write (private.begin_session_note). Raises RG409
-- (session_notes_full) if the consultation has 1,000 notes of this kind.
create function private.add_session_note(
    of_action text, of_recording uuid, of_note uuid, of_start_ms integer, of_ciphertext bytea
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    moment constant timestamptz := private.now();
    consultation uuid;
    lines bigint;
begin
    perform private.require_begun(of_action, of_recording);
    select r.consultation_id into consultation from resguardo.recordings as r where r.id = of_recording;
    if of_action = 'session_note.write' then
        insert into private.session_notes (
            id, recording_id, consultation_id, author_id, start_ms, ciphertext, changed_by, written_at, changed_at
        ) values (
            of_note, of_recording, consultation, doctor, of_start_ms, of_ciphertext, doctor, moment, moment
        );
        lines := (select count(*) from private.session_notes as n where n.consultation_id = consultation);
    else
        insert into private.psychotherapy_notes (
            id, recording_id, consultation_id, author_id, start_ms, ciphertext, changed_by, written_at, changed_at
        ) values (
            of_note, of_recording, consultation, doctor, of_start_ms, of_ciphertext, doctor, moment, moment
        );
        lines := (select count(*) from private.psychotherapy_notes as n where n.consultation_id = consultation);
    end if;
    if lines > 1000 then
        raise exception 'session_notes_full' using errcode = 'RG409';
    end if;
end
$$;

-- Begins to edit or to delete a note: locks its recording and the note, and returns the newest version of the note with
-- the data key. No hold can be placed while a note is being deleted. The commit writes the audit row. Returns no row if
-- the recording belongs to a different doctor or the note does not exist. Raises RG409 (recording_deleted,
-- recording_being_deleted), RG429 (quota_pages).
create function private.begin_note_change(of_action text, of_note uuid)
returns table (
    recording_id uuid, consultation_id uuid, wrapped bytea, root_key text, version integer, start_ms integer,
    ciphertext bytea, changed_by uuid, duration_seconds double precision
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    noted record;
    wanted resguardo.recordings;
    note private.session_notes;
begin
    if of_action is null or of_action not in (
        'session_note.edit', 'session_note.delete', 'psychotherapy_note.edit', 'psychotherapy_note.delete'
    ) then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.use_quota(private.person(), 'pages');
    noted := private.find_note(split_part(of_action, '.', 1) = 'psychotherapy_note', of_note);
    if split_part(of_action, '.', 2) = 'delete' then
        perform private.lock_keeping(false);
    end if;
    wanted := private.lock_noted_recording(of_action, noted.of_recording, 'session_note', of_note);
    if wanted.id is null then
        return;
    end if;
    if split_part(of_action, '.', 1) = 'session_note' then
        select n.* into note from private.session_notes as n where n.id = of_note for update;
    else
        select n.* into note from private.psychotherapy_notes as n where n.id = of_note for update;
    end if;
    if note.id is null then
        perform private.write_audit(
            of_action, 'ABSENT', 'not_found', 'session_note', array[of_note], '{}', '{}', '{}', 0, null
        );
        return;
    end if;
    perform private.write_audit_later(
        of_action, null, 'session_note', of_note, wanted.patient_id, wanted.consultation_id,
        array['lines.text', 'lines.startSeconds'], null
    );
    return query
    select
        note.recording_id, note.consultation_id, k.wrapped_key, k.root_key_id, note.version, note.start_ms,
        note.ciphertext, note.changed_by, wanted.duration_seconds
    from private.recording_keys as k where k.recording_id = note.recording_id;
end
$$;

-- Replaces the text and the time of a note, which this transaction has begun to edit, and keeps the earlier version.
-- Raises RG409 (session_note_changed) if the note has a later version than the one on which the edit is based. Raises
-- RG409 (session_note_versions_full) if the note has 1,000 versions.
create function private.change_session_note(
    of_action text, of_note uuid, based_on integer, of_start_ms integer, of_ciphertext bytea
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    is_changed boolean;
begin
    perform private.require_begun(of_action, of_note);
    if of_action not in ('session_note.edit', 'psychotherapy_note.edit') then
        raise exception 'unknown_action' using errcode = 'RG403';
    elsif based_on >= 1000 then
        raise exception 'session_note_versions_full' using errcode = 'RG409';
    end if;
    if of_action = 'session_note.edit' then
        insert into private.session_note_versions (
            note_id, version, recording_id, start_ms, ciphertext, changed_by, changed_at
        )
        select n.id, n.version, n.recording_id, n.start_ms, n.ciphertext, n.changed_by, n.changed_at
        from private.session_notes as n where n.id = of_note and n.version = based_on;
        update private.session_notes as n
        set version = n.version + 1, start_ms = of_start_ms, ciphertext = of_ciphertext, changed_by = doctor,
            changed_at = private.now()
        where n.id = of_note and n.version = based_on;
        is_changed := found;
    else
        insert into private.psychotherapy_note_versions (
            note_id, version, recording_id, start_ms, ciphertext, changed_by, changed_at
        )
        select n.id, n.version, n.recording_id, n.start_ms, n.ciphertext, n.changed_by, n.changed_at
        from private.psychotherapy_notes as n where n.id = of_note and n.version = based_on;
        update private.psychotherapy_notes as n
        set version = n.version + 1, start_ms = of_start_ms, ciphertext = of_ciphertext, changed_by = doctor,
            changed_at = private.now()
        where n.id = of_note and n.version = based_on;
        is_changed := found;
    end if;
    if not is_changed then
        raise exception 'session_note_changed' using errcode = 'RG409';
    end if;
end
$$;

-- Deletes a note with all its versions, after this transaction has begun to delete it. Raises RG409 (recording_held)
-- while a legal hold or an access request covers the recording, and RG409 (session_note_changed) if the note has a
-- later version than the given one.
create function private.delete_session_note(of_action text, of_note uuid, based_on integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    is_psychotherapy constant boolean := of_action = 'psychotherapy_note.delete';
    is_deleted boolean;
begin
    perform private.doctor();
    perform private.require_begun(of_action, of_note);
    if of_action not in ('session_note.delete', 'psychotherapy_note.delete') then
        raise exception 'unknown_action' using errcode = 'RG403';
    elsif private.is_held((private.find_note(is_psychotherapy, of_note)).of_recording) then
        raise exception 'recording_held' using errcode = 'RG409';
    elsif is_psychotherapy then
        delete from private.psychotherapy_note_versions as v where v.note_id = of_note;
        delete from private.psychotherapy_notes as n where n.id = of_note and n.version = based_on;
        is_deleted := found;
    else
        delete from private.session_note_versions as v where v.note_id = of_note;
        delete from private.session_notes as n where n.id = of_note and n.version = based_on;
        is_deleted := found;
    end if;
    if not is_deleted then
        raise exception 'session_note_changed' using errcode = 'RG409';
    end if;
end
$$;

-- Writes the audit row of a read of a consultation's notes of one type, or completes the audit row of a change that
-- the transaction has made. Returns false if the consultation belongs to a different doctor or does not exist.
create function private.record_notes(
    of_action text, of_consultation uuid, shown jsonb, notes uuid[], of_fields text[], is_counted boolean
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    entities constant jsonb := private.entities_of('consultation', array[of_consultation]) || shown
        || private.entities_of('session_note', notes);
    wanted resguardo.consultations;
    is_permitted boolean;
begin
    select c.* into wanted from resguardo.consultations as c where c.id = of_consultation;
    is_permitted := coalesce(wanted.doctor_id = doctor, false) or (
        of_action like 'session_note.%' and private.may_write_session_notes(wanted.doctor_id, wanted.id)
    );
    if of_action like '%.read' or of_action like '%.watch' then
        if is_counted then
            perform private.use_quota(private.person(), 'pages');
        end if;
        if not is_permitted then
            perform private.write_audit(
                of_action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'consultation',
                array[of_consultation], array_remove(array[wanted.patient_id], null),
                array_remove(array[wanted.id], null), of_fields, 0, null
            );
            return false;
        end if;
        perform private.write_audit_of_entities(
            of_action, 'ALLOWED', null, entities, array[wanted.patient_id], array[wanted.id], of_fields,
            cardinality(notes), null
        );
    elsif not is_permitted or not private.complete_audit_row(
        of_action, entities, array[wanted.patient_id], array[wanted.id], cardinality(notes), of_fields
    ) then
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
    return true;
end
$$;

-- Returns the encrypted session notes of a consultation whose session notes the caller may write, in their order, or
-- only the given note, with the data key of each recording. Before that, writes the audit row, which also names the
-- entities in `shown` and the fields in `of_fields`. The answer of a change has the action of that change. Notes are
-- left out if the deletion of their recording was requested, and `is_incomplete` is then true. Returns no row if the
-- consultation belongs to a different doctor or does not exist. Raises RG429 (quota_pages).
create function private.open_session_notes(
    of_action text, of_consultation uuid, only_note uuid, shown jsonb, of_fields text[], is_counted boolean
)
returns table (
    ids uuid[], recording_ids uuid[], author_ids uuid[], starts integer[], versions integer[], ciphertexts bytea[],
    written timestamptz[], changed timestamptz[], changed_by uuid[], keyed_recordings uuid[], wrapped_keys bytea[],
    root_keys text[], is_incomplete boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    own constant uuid := (
        select c.id from resguardo.consultations as c
        where c.id = of_consultation and private.may_write_session_notes(c.doctor_id, c.id)
    );
    readable uuid[];
    found_notes uuid[];
begin
    if of_action is null or of_action not in (
        'session_note.read', 'session_note.watch', 'session_note.write', 'session_note.edit', 'session_note.delete'
    ) then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    readable := private.readable_recordings(own);
    found_notes := array(
        select n.id from private.session_notes as n
        where n.consultation_id = own and n.recording_id = any (readable) and (only_note is null or n.id = only_note)
    );
    if not private.record_notes(of_action, of_consultation, shown, found_notes, of_fields, is_counted) then
        return;
    end if;
    return query
    select
        coalesce(n.ids, '{}'), coalesce(n.recording_ids, '{}'), coalesce(n.author_ids, '{}'),
        coalesce(n.starts, '{}'), coalesce(n.versions, '{}'), coalesce(n.ciphertexts, '{}'),
        coalesce(n.written, '{}'), coalesce(n.changed, '{}'), coalesce(n.changed_by, '{}'),
        coalesce(k.recording_ids, '{}'), coalesce(k.wrapped, '{}'), coalesce(k.root_keys, '{}'),
        exists (
            select from private.session_notes as h
            where h.consultation_id = own and h.recording_id <> all (readable)
        )
    from (
        select
            array_agg(x.id order by x.written_at, x.id) as ids,
            array_agg(x.recording_id order by x.written_at, x.id) as recording_ids,
            array_agg(x.author_id order by x.written_at, x.id) as author_ids,
            array_agg(x.start_ms order by x.written_at, x.id) as starts,
            array_agg(x.version order by x.written_at, x.id) as versions,
            array_agg(x.ciphertext order by x.written_at, x.id) as ciphertexts,
            array_agg(x.written_at order by x.written_at, x.id) as written,
            array_agg(x.changed_at order by x.written_at, x.id) as changed,
            array_agg(x.changed_by order by x.written_at, x.id) as changed_by
        from private.session_notes as x
        where x.id = any (found_notes)
    ) as n
    cross join private.keys_of(readable) as k;
end
$$;

-- Returns the encrypted psychotherapy notes of the caller's own consultation, as private.open_session_notes() returns
-- session notes. No other function returns them.
create function private.open_psychotherapy_notes(
    of_action text, of_consultation uuid, only_note uuid, shown jsonb, of_fields text[], is_counted boolean
)
returns table (
    ids uuid[], recording_ids uuid[], author_ids uuid[], starts integer[], versions integer[], ciphertexts bytea[],
    written timestamptz[], changed timestamptz[], changed_by uuid[], keyed_recordings uuid[], wrapped_keys bytea[],
    root_keys text[], is_incomplete boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    own constant uuid := (
        select c.id from resguardo.consultations as c
        where c.id = of_consultation and c.doctor_id = private.doctor()
    );
    readable uuid[];
    found_notes uuid[];
begin
    if of_action is null or of_action not in (
        'psychotherapy_note.read', 'psychotherapy_note.write', 'psychotherapy_note.edit', 'psychotherapy_note.delete'
    ) then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    readable := private.readable_recordings(own);
    found_notes := array(
        select n.id from private.psychotherapy_notes as n
        where n.consultation_id = own and n.recording_id = any (readable) and (only_note is null or n.id = only_note)
    );
    if not private.record_notes(of_action, of_consultation, shown, found_notes, of_fields, is_counted) then
        return;
    end if;
    return query
    select
        coalesce(n.ids, '{}'), coalesce(n.recording_ids, '{}'), coalesce(n.author_ids, '{}'),
        coalesce(n.starts, '{}'), coalesce(n.versions, '{}'), coalesce(n.ciphertexts, '{}'),
        coalesce(n.written, '{}'), coalesce(n.changed, '{}'), coalesce(n.changed_by, '{}'),
        coalesce(k.recording_ids, '{}'), coalesce(k.wrapped, '{}'), coalesce(k.root_keys, '{}'),
        exists (
            select from private.psychotherapy_notes as h
            where h.consultation_id = own and h.recording_id <> all (readable)
        )
    from (
        select
            array_agg(x.id order by x.written_at, x.id) as ids,
            array_agg(x.recording_id order by x.written_at, x.id) as recording_ids,
            array_agg(x.author_id order by x.written_at, x.id) as author_ids,
            array_agg(x.start_ms order by x.written_at, x.id) as starts,
            array_agg(x.version order by x.written_at, x.id) as versions,
            array_agg(x.ciphertext order by x.written_at, x.id) as ciphertexts,
            array_agg(x.written_at order by x.written_at, x.id) as written,
            array_agg(x.changed_at order by x.written_at, x.id) as changed,
            array_agg(x.changed_by order by x.written_at, x.id) as changed_by
        from private.psychotherapy_notes as x
        where x.id = any (found_notes)
    ) as n
    cross join private.keys_of(readable) as k;
end
$$;

-- Returns the recordings of a consultation whose notes may be shown: those whose deletion was not requested.
create function private.readable_recordings(of_consultation uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select r.id from resguardo.recordings as r
        where r.consultation_id = of_consultation and r.medium = 'VIDEO' and r.status <> 'DELETED'
            and not private.is_to_be_destroyed(r.id)
    );
end
$$;

-- Returns the data keys of some recordings.
create function private.keys_of(
    recordings uuid[], out recording_ids uuid[], out wrapped bytea[], out root_keys text[]
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select
        array_agg(k.recording_id order by k.recording_id), array_agg(k.wrapped_key order by k.recording_id),
        array_agg(k.root_key_id order by k.recording_id)
    into recording_ids, wrapped, root_keys
    from private.recording_keys as k where k.recording_id = any (recordings);
end
$$;

-- Returns a text that differs after each change of the session notes that the caller's own consultation shows, or null
-- if the consultation belongs to a different doctor or does not exist. The text reveals nothing about the notes.
create function private.session_notes_version(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    own uuid;
begin
    perform private.doctor();
    own := (
        select c.id from resguardo.consultations as c
        where c.id = of_consultation and private.may_write_session_notes(c.doctor_id, c.id)
    );
    return (
        select md5(coalesce(string_agg(n.id::text || ' ' || n.version, ',' order by n.id), ''))
        from private.session_notes as n
        where n.consultation_id = own and n.recording_id = any (private.readable_recordings(own))
        having own is not null
    );
end
$$;

-- Deletes the session notes and psychotherapy notes of a recording, and returns how many rows it deleted from each
-- table. A transaction that writes a note locks the recording, so its destruction begins after that.
create function private.clear_session_notes(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array[
        'session_note_versions', 'session_notes', 'psychotherapy_note_versions', 'psychotherapy_notes'
    ];
    of_table text;
    rows_cleared bigint;
    cleared jsonb := '[]';
begin
    foreach of_table in array tables loop
        execute format('delete from private.%I where recording_id = $1', of_table) using of_recording;
        get diagnostics rows_cleared = row_count;
        if rows_cleared > 0 then
            cleared := cleared || jsonb_build_object('table', of_table, 'rows', rows_cleared);
        end if;
    end loop;
    return cleared;
end
$$;

-- Writes the audit row, and returns every version of the session notes that the copy for an access request must
-- contain, with the data keys of their recordings. The transaction must have begun the copy (private.begin_export).
-- Psychotherapy notes are never part of a copy (45 CFR 164.524(a)(1)(i)).
create function private.export_session_notes(of_request uuid)
returns table (
    recording_id uuid, recorded_at timestamptz, wrapped bytea, root_key text, note_id uuid, author_id uuid,
    written_at timestamptz, version integer, start_ms integer, ciphertext bytea, changed_by uuid,
    changed_at timestamptz
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
    noted uuid[];
begin
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request and a.status = 'APPROVED';
    noted := array(select r.id from private.noted_recordings(wanted) as r (id));
    if cardinality(noted) = 0 then
        return;
    end if;
    perform private.write_audit(
        'session_note.export', 'ALLOWED', null, 'recording', noted, array[wanted.patient_id],
        array(select distinct r.consultation_id from resguardo.recordings as r where r.id = any (noted)),
        array['lines.text', 'lines.startSeconds'], cardinality(noted), null
    );
    return query
    select
        n.recording_id, coalesce(r.started_at, c.scheduled_at), k.wrapped_key, k.root_key_id, n.id, n.author_id,
        n.written_at, v.version, v.start_ms, v.ciphertext, v.changed_by, v.changed_at
    from private.session_notes as n
    inner join resguardo.recordings as r on r.id = n.recording_id
    inner join resguardo.consultations as c on c.id = n.consultation_id
    inner join private.recording_keys as k on k.recording_id = n.recording_id
    cross join lateral (
        select n.version, n.start_ms, n.ciphertext, n.changed_by, n.changed_at
        union all
        select e.version, e.start_ms, e.ciphertext, e.changed_by, e.changed_at
        from private.session_note_versions as e where e.note_id = n.id
    ) as v
    where n.recording_id = any (noted)
    order by r.created_at, n.recording_id, n.written_at, n.id, v.version;
end
$$;

-- Returns the recordings of an access request that have session notes.
create function private.noted_recordings(asked resguardo.access_requests) returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.id from private.wanted_recordings(asked) as r
    where r.medium = 'VIDEO' and exists (select from private.session_notes as n where n.recording_id = r.id);
end
$$;
