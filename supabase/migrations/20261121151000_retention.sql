-- How long what is recorded is kept: the versions of policies/retention.toml, who approved them, and the day on which
-- each recording is due. The same terms as app/retention/model.py; a test holds the two together.

create table resguardo.retention_policies (
    id integer generated always as identity constraint retention_policies_pkey primary key,
    name text not null constraint retention_policies_name_key unique
    constraint retention_policies_name_is_plain check (name ~ '^[0-9A-Za-z][0-9A-Za-z ._-]{0,63}$'),
    sha256 text not null constraint retention_policies_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    status text not null default 'PROPOSED'
    constraint retention_policies_status_is_known check (status in ('PROPOSED', 'ACTIVE', 'SUPERSEDED', 'REJECTED')),
    source text not null,
    terms jsonb not null
    constraint retention_policies_terms_are_whole check (
        (terms ->> 'grace_days')::integer between 1 and 36500
        and (terms #>> '{default,recording_days}')::integer between 1 and 36500
        and (terms #>> '{default,signed_note_days}')::integer between 1 and 36500
        and (terms ->> 'applies_to_existing')::boolean is not null
    ),
    shortens boolean not null,
    proposed_at timestamptz not null default private.now(),
    activated_at timestamptz,
    constraint retention_policies_activation_is_whole check (
        (status in ('ACTIVE', 'SUPERSEDED')) = (activated_at is not null)
    )
);
comment on column resguardo.retention_policies.source is 'The file as it was proposed, whose SHA-256 is beside it.';
comment on column resguardo.retention_policies.shortens is
'Whether it shortened a term of the policy that it was last judged against: it then takes two officers.';
create unique index retention_policies_one_active_key on resguardo.retention_policies (status)
where status = 'ACTIVE';

create table resguardo.retention_approvals (
    policy_id integer not null
    constraint retention_approvals_policy_id_fkey references resguardo.retention_policies (id),
    officer_id uuid not null,
    approved_at timestamptz not null default private.now(),
    constraint retention_approvals_pkey primary key (policy_id, officer_id)
);

alter table resguardo.recordings
add column term_from timestamptz,
add constraint recordings_retention_policy_fkey foreign key (retention_policy)
references resguardo.retention_policies (id);
comment on column resguardo.recordings.term_from is
'From when its term counts: the latest that any clock said of its end, so that one that jumped back hastens nothing.';
create index recordings_retention_policy_idx on resguardo.recordings (retention_policy);

alter table resguardo.recording_imports
add column retention_class text not null default 'keep'
constraint recording_imports_retention_class_is_known check (retention_class ~ '^(keep|d[1-9][0-9]{0,4})$');
comment on column resguardo.recording_imports.retention_class is
'That of the recording it becomes: its object is uploaded there before there is one.';

alter table resguardo.patients
add constraint patients_birth_date_is_possible check (birth_date >= date '1900-01-01');

-- The policy in force; all null where there is none.
create function private.active_policy() returns resguardo.retention_policies
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    active resguardo.retention_policies;
begin
    select p.* into active from resguardo.retention_policies as p where p.status = 'ACTIVE';
    return active;
end
$$;

-- 'recording_days' or 'signed_note_days' of a kind of consultation; of none, the default.
create function private.term_of(terms jsonb, kind text, term text) returns integer
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce((terms #>> array['kinds', kind, term])::integer, (terms #>> array['default', term])::integer);
end
$$;

-- Until when what is recorded of somebody born that day is kept at the least; null where nothing is said of minors.
-- The day of coming of age has then begun everywhere on earth; who was born on a 29 February comes of age on 1 March.
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

-- When a recording whose term counts from then is due. Raises nothing; null without terms or a beginning.
create function private.due_of(terms jsonb, kind text, birth_date date, counted_from timestamptz) returns timestamptz
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if terms is null or counted_from is null then
        return null;
    end if;
    return greatest(
        counted_from + make_interval(hours => 24 * private.term_of(terms, kind, 'recording_days')),
        private.minor_until(terms, birth_date)
    );
end
$$;

-- Where the objects of a consultation's next recording go: where the bucket's own rule cannot come before us.
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

-- A new recording goes where its term sends it, sound beside its picture and an import where it was uploaded; one that
-- has ended is dated by the policy in force, and by that alone from then on. What LOST turns out to be keeps its policy
-- and is never due earlier.
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
            (select v.retention_class from resguardo.recordings as v where v.id = new.beside),
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
    if new.medium <> 'VIDEO' or new.status not in ('READY', 'FAILED', 'ABORTED', 'LOST') then
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

-- After recordings_guard, by name: that sets status_at.
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

create or replace function private.guard_import() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    coming resguardo.recordings;
begin
    perform from resguardo.consultations as c where c.id = new.consultation_id for no key update;
    if not private.everyone_consents(new.consultation_id) then
        raise exception 'consent_missing' using errcode = 'RG403';
    end if;
    coming.id := new.recording_id;
    coming.consultation_id := new.consultation_id;
    coming.retention_class := new.retention_class;
    insert into private.import_secrets (import_id, object_key)
    values (new.id, private.object_prefix(coming) || 'import.mp4');
    return null;
end
$$;

-- The videos that the bucket's own rule would empty too early: under a class of a fixed age and due later than two days
-- before its backstop, which is a week after its term and counts from when the bucket stored the object.
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

-- The patient of that external id, made if new. A login is linked when the patient is made, never changed from here,
-- and named again by every doctor: nobody's consultation falls to a login that its doctor does not know of. The day of
-- birth is given once, then or later, and dates again what is recorded of a minor already: later, never sooner. Raises
-- RG409 (patient_user_unknown, patient_user_differs, patient_birth_date_differs, patient_birth_date_ahead).
drop function private.register_patient(text, uuid);
create function private.register_patient(of_external_id text, of_user uuid, of_birth_date date) returns uuid
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
    elsif of_birth_date > (private.now() at time zone 'Etc/GMT-14')::date then
        raise exception 'patient_birth_date_ahead' using errcode = 'RG409';
    end if;
    insert into resguardo.patients (external_id, user_id, birth_date)
    values (of_external_id, of_user, of_birth_date) on conflict do nothing;
    select p.* into known from resguardo.patients as p where p.external_id = of_external_id;
    if known.id is null or known.user_id is distinct from of_user then
        raise exception 'patient_user_differs' using errcode = 'RG409';
    end if;
    if known.birth_date is null and of_birth_date is not null then
        perform private.give_birth_date(known.id, of_birth_date);
    elsif known.birth_date <> of_birth_date then
        raise exception 'patient_birth_date_differs' using errcode = 'RG409';
    end if;
    return known.id;
end
$$;

-- Whoever ends a recording of the patient meanwhile is seen here or sees the day of birth: both lock the patient.
create function private.give_birth_date(of_patient uuid, of_birth_date date) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    dated uuid[];
    consultations uuid[];
begin
    update resguardo.patients as p set birth_date = of_birth_date
    where p.id = of_patient and coalesce(p.birth_date, of_birth_date) = of_birth_date;
    if not found then
        raise exception 'patient_birth_date_differs' using errcode = 'RG409';
    end if;
    with later as (
        update resguardo.recordings as r set due_at = private.minor_until(p.terms, of_birth_date)
        from resguardo.retention_policies as p
        where r.patient_id = of_patient and p.id = r.retention_policy
            and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
            and r.due_at < private.minor_until(p.terms, of_birth_date)
        returning r.id, r.consultation_id
    )

    select array_agg(l.id), array_agg(distinct l.consultation_id) into dated, consultations from later as l;
    if dated is not null then
        perform private.write_audit(
            'recording.date', 'ALLOWED', 'birth_date_given', 'recording', dated, array[of_patient], consultations,
            array['due_at'], cardinality(dated), null
        );
    end if;
end
$$;
