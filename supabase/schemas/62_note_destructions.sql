-- The destruction of signed notes whose retention term has passed, and its certificates. A destruction first deletes
-- the ciphertexts, and the data key of a patient without further notes. Then its certificate is signed and written
-- to the ledger.

create table private.note_destructions (
    note_id uuid primary key
    constraint note_destructions_note_id_fkey references resguardo.signed_notes (id),
    ground text not null default 'RETENTION'
    constraint note_destructions_ground_is_known check (ground in ('RETENTION', 'RESTORE')),
    number integer not null default 1 constraint note_destructions_number_is_positive check (number > 0),
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default private.now(),
    error text constraint note_destructions_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    hold_checked_at timestamptz,
    destroyed_at timestamptz,
    destroyed_keys jsonb not null default '[]',
    cleared_rows bigint not null default 0
);
comment on column private.note_destructions.number is
'The number of its certificate. 2 and more: a restored backup brought the note back and it was destroyed again.';
create index note_destructions_open_idx on private.note_destructions (next_attempt_at) where destroyed_at is not null;

create table resguardo.note_certificates (
    note_id uuid not null,
    number integer not null,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    document text not null,
    sha256 text not null constraint note_certificates_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    kept_at timestamptz not null default private.now(),
    constraint note_certificates_pkey primary key (note_id, number),
    constraint note_certificates_note_fkey foreign key (note_id, consultation_id, doctor_id, patient_id)
    references resguardo.signed_notes (id, consultation_id, doctor_id, patient_id) on update cascade
);
alter table resguardo.note_certificates enable row level security;
comment on column resguardo.note_certificates.document is
'The signed file, equal to the file in the ledger: it holds only ids, sizes and hashes.';
create index note_certificates_note_idx
on resguardo.note_certificates (note_id, consultation_id, doctor_id, patient_id);
create index note_certificates_doctor_idx on resguardo.note_certificates (doctor_id);
create index note_certificates_patient_idx on resguardo.note_certificates (patient_id);

-- Law 7: returns the ids of the active legal holds and the access requests that forbid the destruction of a signed
-- note. A hold on a range of time covers a note that was signed in the range, or whose recording or consultation the
-- range includes.
create function private.holds_on_note(of_note uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select h.id
        from resguardo.signed_notes as n
        inner join resguardo.recordings as r on r.id = n.recording_id
        inner join resguardo.consultations as c on c.id = n.consultation_id
        inner join resguardo.legal_holds as h
            on h.released_at is null
            and (
                h.consultation_id = n.consultation_id or h.patient_id = n.patient_id
                or (n.signed_at < h.recorded_until and n.term_from >= h.recorded_since)
                or (r.created_at >= h.recorded_since and r.created_at < h.recorded_until)
                or (r.started_at >= h.recorded_since and r.started_at < h.recorded_until)
                or (c.scheduled_at >= h.recorded_since and c.scheduled_at < h.recorded_until)
            )
        where n.id = of_note
        union all
        select a.id
        from resguardo.signed_notes as n
        inner join resguardo.access_requests as a
            on a.patient_id = n.patient_id and a.status in ('OPEN', 'APPROVED', 'DENIED')
            and (a.consultation_id is null or a.consultation_id = n.consultation_id) and private.request_holds(a)
        where n.id = of_note
    );
end
$$;

-- Returns the signed notes that a legal hold covers and that exist, by the rule of `private.holds_on_note`.
create function private.notes_under(of_hold resguardo.legal_holds) returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if of_hold.consultation_id is not null then
        return query
        select n.id from resguardo.signed_notes as n
        where n.consultation_id = of_hold.consultation_id and n.status = 'KEPT';
    elsif of_hold.patient_id is not null then
        return query
        select n.id from resguardo.signed_notes as n
        where n.patient_id = of_hold.patient_id and n.status = 'KEPT';
    else
        return query
        select n.id
        from resguardo.signed_notes as n
        inner join resguardo.recordings as r on r.id = n.recording_id
        inner join resguardo.consultations as c on c.id = n.consultation_id
        where n.status = 'KEPT'
            and (
                (n.signed_at < of_hold.recorded_until and n.term_from >= of_hold.recorded_since)
                or (r.created_at >= of_hold.recorded_since and r.created_at < of_hold.recorded_until)
                or (r.started_at >= of_hold.recorded_since and r.started_at < of_hold.recorded_until)
                or (c.scheduled_at >= of_hold.recorded_since and c.scheduled_at < of_hold.recorded_until)
            );
    end if;
end
$$;

-- Returns the signed notes that a legal hold or an access request keeps from destruction, by the rule of
-- `private.holds_on_note`.
create function private.held_notes() returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select v.id
    from resguardo.legal_holds as h
    cross join lateral private.notes_under(h) as v (id)
    where h.released_at is null
    union
    select n.id
    from resguardo.access_requests as a
    inner join resguardo.signed_notes as n
        on n.patient_id = a.patient_id and (a.consultation_id is null or n.consultation_id = a.consultation_id)
    where a.status in ('OPEN', 'APPROVED', 'DENIED') and private.request_holds(a) and n.status = 'KEPT';
end
$$;

-- Returns the signed notes to which a retention policy would apply if it came into force now, each with its due date
-- now and then, by the rule of `private.date_signed_notes`.
create function private.redated_notes(of_policy integer)
returns table (note_id uuid, due_before timestamptz, due_after timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    policy resguardo.retention_policies;
begin
    select p.* into policy from resguardo.retention_policies as p where p.id = of_policy;
    return query
    select
        n.id, n.due_at,
        greatest(
            private.due_of(policy.terms, c.kind, s.birth_date, n.term_from, 'signed_note_days'),
            least(n.due_at, private.now())
        )
    from resguardo.signed_notes as n
    inner join resguardo.consultations as c on c.id = n.consultation_id
    inner join resguardo.patients as s on s.id = n.patient_id
    where n.status = 'KEPT' and (n.retention_policy is null or (policy.terms ->> 'applies_to_existing')::boolean);
end
$$;

-- Destroys at most `most` signed notes that are due, and returns the data for the certificate of each note that is
-- destroyed and has no certificate yet. A note is due if both the database's clock and the given time, which comes from
-- the bucket's clock, have reached its due date. The function destroys no note under a legal hold or an access request.
-- It ends the encrypted copies that contain a due note, and destroys the note once their objects are deleted.
create function private.destroy_due_notes(by_clock timestamptz, most integer)
returns table (note_id uuid, attempt integer, facts jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := least(by_clock, private.now());
    due uuid[];
    patients uuid[];
    claimed uuid[];
begin
    perform private.lock_keeping(false);
    update private.keeping_clock as c set highest = moment where c.highest < moment;
    due := array(
        select n.id from resguardo.signed_notes as n
        where n.status = 'KEPT' and n.due_at <= moment and private.holds_on_note(n.id) = '{}'
        order by n.due_at, n.id
        limit most
        for update skip locked
    );
    update private.access_exports as e set expires_at = private.now()
    where e.note_ids && due and e.expired_at is null and e.expires_at > private.now();
    due := array(
        select d.id from unnest(due) as d (id)
        where not exists (
            select from private.access_exports as e where e.note_ids @> array[d.id] and e.expired_at is null
        )
    );
    patients := array(select distinct n.patient_id from resguardo.signed_notes as n where n.id = any(due));
    perform from private.patient_keys as k where k.patient_id = any(patients) order by k.patient_id for update;
    insert into private.note_destructions as d (note_id) select i.id from unnest(due) as i (id)
    on conflict on constraint note_destructions_pkey do nothing;
    update private.note_destructions as d set hold_checked_at = private.now(), destroyed_at = private.now()
    where d.note_id = any(due);
    with cleared as (
        delete from private.signed_note_texts as t where t.note_id = any(due) returning t.note_id
    )

    update private.note_destructions as d set cleared_rows = d.cleared_rows + c.how_many
    from (select l.note_id, count(*) as how_many from cleared as l group by l.note_id) as c
    where d.note_id = c.note_id;
    with shredded as (
        delete from private.patient_keys as k
        where k.patient_id = any(patients) and not exists (
            select
            from private.signed_note_texts as t
            inner join resguardo.signed_notes as n on n.id = t.note_id
            where n.patient_id = k.patient_id
        ) and not exists (select from private.patient_texts as x where x.patient_id = k.patient_id)
        returning k.patient_id, k.wrapped_key, k.root_key_id
    )

    update private.note_destructions as d
    set destroyed_keys = d.destroyed_keys || jsonb_build_object(
        'kind', 'patient', 'fingerprint', encode(sha256(s.wrapped_key), 'hex'), 'root_key_id', s.root_key_id,
        'destroyed_at', d.destroyed_at
    )
    from shredded as s
    inner join resguardo.signed_notes as n on n.patient_id = s.patient_id
    where d.note_id = n.id and n.id = any(due);
    update resguardo.signed_notes as n set status = 'DESTROYING' where n.id = any(due);
    perform private.audit_notes('note.destroy', 'begun', due);
    with taken as (
        update private.note_destructions as d
        set attempts = d.attempts + 1, next_attempt_at = private.now() + interval '15 minutes'
        where d.note_id in (
            select o.note_id
            from private.note_destructions as o
            inner join resguardo.signed_notes as n on n.id = o.note_id and n.status = 'DESTROYING'
            where o.destroyed_at is not null
                and (o.next_attempt_at <= private.now() or o.next_attempt_at > private.now() + interval '1 day')
            order by o.next_attempt_at, o.note_id
            limit most
            for update of o skip locked
        )
        returning d.note_id
    )

    select array_agg(t.note_id) into claimed from taken as t;
    return query
    select
        d.note_id, d.attempts,
        jsonb_build_object(
            'recording_id', n.recording_id, 'signed_note_id', n.id, 'consultation_id', n.consultation_id,
            'ground', d.ground, 'reason', null, 'requested_at', null,
            'policy', case when p.id is not null then jsonb_build_object(
                'name', p.name, 'sha256', p.sha256, 'due_at', n.due_at,
                'term_days', private.term_of(p.terms, c.kind, 'signed_note_days')
            ) end,
            'hold_checked_at', d.hold_checked_at, 'destroyed_at', d.destroyed_at, 'keys', d.destroyed_keys,
            'text_rows', jsonb_build_array(
                jsonb_build_object('table', 'signed_note_texts', 'rows', d.cleared_rows)
            ),
            'number', d.number,
            'repeats', (
                select x.sha256 from resguardo.note_certificates as x
                where x.note_id = d.note_id and x.number = d.number - 1
            ),
            'objects', jsonb_build_array(), 'surviving_notes', jsonb_build_array()
        )
    from private.note_destructions as d
    inner join resguardo.signed_notes as n on n.id = d.note_id
    inner join resguardo.consultations as c on c.id = n.consultation_id
    left join resguardo.retention_policies as p on p.id = n.retention_policy
    where d.note_id = any(claimed);
end
$$;

-- Writes the audit row about one step of the destruction of several signed notes.
create function private.audit_notes(action text, reason text, notes uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if cardinality(notes) > 0 then
        perform private.write_audit(
            action, 'ALLOWED', reason, 'signed_note', notes,
            array(select distinct n.patient_id from resguardo.signed_notes as n where n.id = any(notes)),
            array(select distinct n.consultation_id from resguardo.signed_notes as n where n.id = any(notes)),
            array['text', 'key'], cardinality(notes), null
        );
    end if;
end
$$;

-- Stores the certificates of destroyed notes and sets the notes to DESTROYED.
create function private.finish_note_destructions(notes uuid[], documents text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    finished constant uuid[] := array(
        select n.id from resguardo.signed_notes as n where n.id = any(notes) and n.status = 'DESTROYING'
        order by n.id for update
    );
begin
    insert into resguardo.note_certificates (
        note_id, number, consultation_id, doctor_id, patient_id, document, sha256
    )
    select
        n.id, d.number, n.consultation_id, n.doctor_id, n.patient_id, g.document,
        encode(sha256(convert_to(g.document, 'UTF8')), 'hex')
    from unnest(notes, documents) as g (note_id, document)
    inner join resguardo.signed_notes as n on n.id = g.note_id and n.id = any(finished)
    inner join private.note_destructions as d on d.note_id = n.id
    on conflict (note_id, number) do nothing;
    perform private.audit_notes('note.destroy', 'proven', finished);
    update resguardo.signed_notes as n set status = 'DESTROYED' where n.id = any(finished);
    update private.note_destructions as d set error = null where d.note_id = any(finished);
end
$$;

-- Stores why the certificate of a destroyed note could not be made, and returns how many attempts there were. The next
-- attempt is made within one hour. Returns null if a later attempt has taken over.
create function private.fail_note_destruction(of_note uuid, attempt integer, why text) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    times integer;
begin
    update private.note_destructions as d
    set error = why,
        next_attempt_at = private.now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(d.attempts - 1, 10))
    where d.note_id = of_note and d.attempts = attempt
    returning d.attempts into times;
    return times;
end
$$;

-- Stores the certificates of earlier destructions of a note, oldest first, and gives the current destruction the next
-- number.
create function private.keep_earlier_note_certificates(of_note uuid, documents text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.note_destructions as d set number = cardinality(documents) + 1 where d.note_id = of_note;
    insert into resguardo.note_certificates (
        note_id, number, consultation_id, doctor_id, patient_id, document, sha256
    )
    select
        n.id, g.place, n.consultation_id, n.doctor_id, n.patient_id, g.document,
        encode(sha256(convert_to(g.document, 'UTF8')), 'hex')
    from unnest(documents) with ordinality as g (document, place)
    inner join resguardo.signed_notes as n on n.id = of_note
    on conflict (note_id, number) do nothing;
end
$$;

-- Returns the signed notes among the given ids of the ledger: whether each is DESTROYED in this database, is held, and
-- whether its destruction has begun.
create function private.restored_notes(ids uuid[])
returns table (note_id uuid, is_destroyed boolean, is_held boolean, is_begun boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        n.id, n.status = 'DESTROYED', private.holds_on_note(n.id) <> '{}',
        n.status = 'DESTROYING' or exists (
            select from private.note_destructions as d
            where d.note_id = n.id and d.ground = 'RESTORE' and n.status = 'KEPT'
        )
    from resguardo.signed_notes as n
    where n.id = any(ids);
end
$$;

-- Makes a signed note that a restored backup has brought back due now, so that the worker destroys it again, and stores
-- the certificates that the backup lacks. Returns false if a legal hold or an access request covers the note, or it is
-- not KEPT.
create function private.repeat_note_destruction(of_note uuid, documents text[]) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.lock_keeping(false);
    update resguardo.signed_notes as n set due_at = least(n.due_at, private.now())
    where n.id = of_note and n.status = 'KEPT' and private.holds_on_note(n.id) = '{}';
    if not found then
        return false;
    end if;
    insert into private.note_destructions as d (note_id, ground) values (of_note, 'RESTORE')
    on conflict (note_id) do update set ground = 'RESTORE', destroyed_at = null, next_attempt_at = private.now();
    perform private.keep_earlier_note_certificates(of_note, documents);
    perform private.audit_notes('restore.repeat', 'in_the_ledger', array[of_note]);
    return true;
end
$$;

-- Returns, for the certificate of a recording, the signed notes that survive the recording: the hash of each signed
-- version, and how many quotes of the recording the note keeps.
create function private.surviving_notes(of_recording uuid) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        (
            select jsonb_agg(
                jsonb_build_object(
                    'signed_note_id', n.id, 'quotes', n.quote_count, 'due_at', n.due_at,
                    'versions', (
                        select jsonb_agg(v.sha256 order by v.version)
                        from resguardo.signed_note_versions as v where v.note_id = n.id
                    )
                ) order by n.id
            )
            from resguardo.signed_notes as n
            where n.recording_id = of_recording and n.status = 'KEPT'
        ),
        '[]'
    );
end
$$;
