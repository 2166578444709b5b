-- Retention policies: versions of policies/retention.toml, which compliance officers approve.

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
alter table resguardo.retention_policies enable row level security;
comment on column resguardo.retention_policies.source is
'The policy file as it was proposed. The column sha256 holds its SHA-256.';
comment on column resguardo.retention_policies.shortens is
'Whether the policy shortened a term when it was last compared. If true, two officers must approve it.';
create unique index retention_policies_one_active_key on resguardo.retention_policies (status)
where status = 'ACTIVE';

create table resguardo.retention_approvals (
    policy_id integer not null
    constraint retention_approvals_policy_id_fkey references resguardo.retention_policies (id),
    officer_id uuid not null,
    approved_at timestamptz not null default private.now(),
    constraint retention_approvals_pkey primary key (policy_id, officer_id)
);
alter table resguardo.retention_approvals enable row level security;

-- Returns the policy in force; all columns are null if no policy is in force.
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

-- Locks the retention policies until the end of the transaction, so that only one policy is decided on at a time and
-- no policy comes into force meanwhile.
create function private.lock_policies() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    perform from private.turns as t where t.of = 'policies' for update;
    if not found then
        raise exception 'turn_missing';
    end if;
end
$$;

-- Returns whether the policy `after` shortens any term of the policy `before`: a term of recordings or signed notes
-- of any kind of consultation, a term of minors, or the grace period of deletions. A change of the jurisdiction also
-- counts as a shortening, because the minimum terms of the previous jurisdiction no longer apply.
create function private.shortens(before jsonb, after jsonb) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return (after ->> 'grace_days')::integer < (before ->> 'grace_days')::integer
        or (before ->> 'jurisdiction' is not null and before ->> 'jurisdiction' is distinct from after ->> 'jurisdiction')
        or coalesce((after #>> '{minors,until_age_years}')::integer, 0)
        < coalesce((before #>> '{minors,until_age_years}')::integer, 0)
        or exists (
            select
            from (
                select null::text as kind
                union select k.kind from jsonb_object_keys(before -> 'kinds') as k (kind)
                union select k.kind from jsonb_object_keys(after -> 'kinds') as k (kind)
            ) as n
            cross join unnest(array['recording_days', 'signed_note_days']) as t (term)
            where private.term_of(after, n.kind, t.term) < private.term_of(before, n.kind, t.term)
        );
end
$$;

-- Returns whether two compliance officers must approve the given retention terms. Two officers are needed if the new
-- terms shorten a term of the policy in force. Two officers are also needed if the new terms apply to existing
-- recordings and shorten a term of an earlier policy that still determines a recording's due date. If no policy was
-- ever in force, two officers are needed as soon as any recording exists, because the new policy would be the first
-- to set a due date for the recording.
create function private.is_shortening(of_terms jsonb) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    active constant resguardo.retention_policies := private.active_policy();
begin
    if active.id is null then
        return exists (select from resguardo.recordings);
    end if;
    return private.shortens(active.terms, of_terms)
        or (
            (of_terms ->> 'applies_to_existing')::boolean
            and exists (
                select
                from resguardo.retention_policies as p
                where p.status = 'SUPERSEDED' and private.shortens(p.terms, of_terms)
                    and exists (
                        select from resguardo.recordings as r
                        where r.retention_policy = p.id and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
                        union all
                        select
                        from resguardo.signed_notes as n
                        where n.retention_policy = p.id and n.status = 'KEPT'
                    )
            )
        );
end
$$;

-- Returns each existing recording whose due date the given policy would change, with the due date before and after
-- the change. The new due date is never in the past unless the recording is already due. The function leaves out
-- recordings whose destruction has begun.
create function private.redated(of_policy integer)
returns table (recording_id uuid, due_before timestamptz, due_after timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    policy resguardo.retention_policies;
begin
    select p.* into policy from resguardo.retention_policies as p where p.id = of_policy;
    return query
    select
        r.id, r.due_at,
        greatest(
            private.due_of(
                policy.terms, c.kind, p.birth_date,
                coalesce(r.term_from, greatest(r.ended_at, r.stored_at, r.status_at))
            ),
            least(r.due_at, private.now())
        )
    from resguardo.recordings as r
    inner join resguardo.consultations as c on c.id = r.consultation_id
    inner join resguardo.patients as p on p.id = r.patient_id
    where r.medium = 'VIDEO' and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
        and (r.retention_policy is null or (policy.terms ->> 'applies_to_existing')::boolean)
        and not exists (
            select from resguardo.deletions as d where d.recording_id = r.id and d.status = 'DELETING'
        );
end
$$;

-- Puts a retention policy into force and ends the previous policy. Transactions that write a recording wait for
-- activate_policy(), so each recording gets its due date either from the previous policy or from the new policy. If a
-- recording got its due date from the previous policy, activate_policy() computes the due date again. The same applies
-- to signed notes.
create function private.activate_policy(of_policy integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    how_many integer;
begin
    lock table resguardo.recordings, resguardo.signed_notes in share row exclusive mode;
    update resguardo.retention_policies as p set status = 'SUPERSEDED' where p.status = 'ACTIVE';
    update resguardo.retention_policies as p set status = 'ACTIVE', activated_at = private.now()
    where p.id = of_policy;
    update resguardo.recordings as r set due_at = n.due_after, retention_policy = of_policy
    from private.redated(of_policy) as n
    where r.id = n.recording_id;
    get diagnostics how_many = row_count;
    how_many := how_many + cardinality(private.date_signed_notes(null, null));
    perform private.write_audit(
        'retention.activate', 'ALLOWED', 'policy_' || of_policy, 'retention_policy', '{}', '{}', '{}',
        array['status', 'due_at'], how_many, null
    );
end
$$;

-- Stores a version of the retention policy, on which compliance officers then decide, and returns the version's id.
-- Only the owner of the database can call propose_policy(). Raises RG409 (retention_policies_name_key) if an earlier
-- policy has the same name.
create function private.propose_policy(of_name text, of_sha256 text, of_source text, of_terms jsonb) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made integer;
begin
    perform private.lock_policies();
    insert into resguardo.retention_policies (name, sha256, source, terms, shortens)
    values (of_name, of_sha256, of_source, of_terms, private.is_shortening(of_terms))
    returning id into made;
    perform private.write_audit(
        'retention.propose', 'ALLOWED', 'policy_' || made, 'retention_policy', '{}', '{}', '{}',
        array['terms'], 1, null
    );
    return made;
end
$$;

-- Puts the first policy into force at once, if no officer has decided on any policy and no recording exists. If an
-- officer has decided on a policy or a recording exists, the function returns null and puts no policy into force.
-- Only the owner of the database can call adopt_policy().
create function private.adopt_policy(of_name text, of_sha256 text, of_source text, of_terms jsonb) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made integer;
begin
    perform private.lock_policies();
    lock table resguardo.recordings in share row exclusive mode;
    if exists (select from resguardo.retention_policies) or exists (select from resguardo.recordings) then
        return null;
    end if;
    made := private.propose_policy(of_name, of_sha256, of_source, of_terms);
    perform private.activate_policy(made);
    return made;
end
$$;

-- Locks and returns a proposed retention policy, so that a compliance officer can decide on it. Returns nulls if the
-- policy does not exist, and writes an audit row about the failed lookup. Raises RG409 (retention_policy_settled) if
-- the policy was already decided on.
create function private.open_policy(of_policy integer, action text) returns resguardo.retention_policies
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.retention_policies;
begin
    perform private.lock_policies();
    select p.* into wanted from resguardo.retention_policies as p where p.id = of_policy for update;
    if wanted.id is null then
        perform private.write_audit(
            action, 'ABSENT', 'not_found', 'retention_policy', '{}', '{}', '{}', array['status'], 0, null
        );
    elsif wanted.status <> 'PROPOSED' then
        raise exception 'retention_policy_settled' using errcode = 'RG409';
    end if;
    return wanted;
end
$$;

-- Records one compliance officer's approval of a proposed policy, and compares the proposed policy with the policy
-- that is in force now. Returns false if the proposal does not exist. The proposed policy comes into force with the
-- first approval, or with a second officer's approval if the policy shortens a term. The approval of an officer who
-- has since been suspended does not count. Raises RG409 (retention_policy_settled, retention_same_officer).
create function private.approve_policy(of_policy integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted constant resguardo.retention_policies := private.open_policy(of_policy, 'retention.approve');
    is_shorter boolean;
    approvals integer;
begin
    if wanted.id is null then
        return false;
    end if;
    insert into resguardo.retention_approvals (policy_id, officer_id) values (of_policy, person)
    on conflict do nothing;
    if not found then
        raise exception 'retention_same_officer' using errcode = 'RG409';
    end if;
    perform private.write_audit(
        'retention.approve', 'ALLOWED', 'policy_' || of_policy, 'retention_policy', '{}', '{}', '{}',
        array['status'], 1, null
    );
    lock table resguardo.recordings in share row exclusive mode;
    is_shorter := private.is_shortening(wanted.terms);
    update resguardo.retention_policies as p set shortens = is_shorter where p.id = of_policy;
    select count(*) into approvals
    from resguardo.retention_approvals as a
    inner join resguardo.staff as s on s.user_id = a.officer_id
    where a.policy_id = of_policy and s.status = 'active' and s.role = 'compliance';
    if approvals >= (case when is_shorter then 2 else 1 end) then
        perform private.activate_policy(of_policy);
    end if;
    return true;
end
$$;

-- Records one compliance officer's rejection of a proposed policy, which ends the proposal. Returns false if the
-- proposal does not exist. Raises RG409 (retention_policy_settled).
create function private.reject_policy(of_policy integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    if (private.open_policy(of_policy, 'retention.reject')).id is null then
        return false;
    end if;
    update resguardo.retention_policies as p set status = 'REJECTED' where p.id = of_policy;
    perform private.write_audit(
        'retention.reject', 'ALLOWED', 'policy_' || of_policy, 'retention_policy', '{}', '{}', '{}',
        array['status'], 1, null
    );
    return true;
end
$$;

-- Returns the effect of a retention policy on existing recordings and signed notes, one row for each month. A row
-- contains how many recordings the policy would delete in the month, how many of these have a later due date or none
-- today, and how many of these are held and therefore kept. It also contains how many signed notes the policy would
-- destroy in the month, and how many of these are held. `earliest_due_at` is of recordings alone.
create function private.policy_effects(of_policy integer)
returns table (
    month date, recordings bigint, size_bytes bigint, sooner bigint, held bigint, earliest_due_at timestamptz,
    notes bigint, held_notes bigint
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with recordings_due as (
        select
            date_trunc('month', n.due_after at time zone 'UTC')::date as month, count(*) as counted,
            coalesce(sum(coalesce(r.size_bytes, 0) + s.size_bytes), 0)::bigint as bytes,
            count(*) filter (where n.due_before is null or n.due_after < n.due_before) as is_sooner,
            count(h.id) as is_held, min(n.due_after) as earliest
        from private.redated(of_policy) as n
        inner join resguardo.recordings as r on r.id = n.recording_id
        cross join lateral (
            select coalesce(sum(p.size_bytes), 0) as size_bytes from resguardo.recordings as p where p.video_id = r.id
        ) as s
        left join private.held_videos() as h (id) on h.id = r.id
        group by 1
    ),

    notes_due as (
        select
            date_trunc('month', n.due_after at time zone 'UTC')::date as month, count(*) as counted, count(h.id) as is_held
        from private.redated_notes(of_policy) as n
        left join private.held_notes() as h (id) on h.id = n.note_id
        where n.due_after is not null
        group by 1
    )

    select
        coalesce(d.month, n.month), coalesce(d.counted, 0), coalesce(d.bytes, 0), coalesce(d.is_sooner, 0),
        coalesce(d.is_held, 0), d.earliest, coalesce(n.counted, 0), coalesce(n.is_held, 0)
    from recordings_due as d
    full join notes_due as n on n.month = d.month
    order by 1;
end
$$;

-- Writes the audit row about this read, and returns the effect of a retention policy to a compliance officer. Returns
-- no row if the policy does not exist. Raises RG409 (retention_policy_settled) if the policy is not PROPOSED.
create function private.preview_policy(of_policy integer)
returns table (
    month date, recordings bigint, size_bytes bigint, sooner bigint, held bigint, earliest_due_at timestamptz,
    notes bigint, held_notes bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.retention_policies;
begin
    perform private.use_quota(private.person(), 'pages');
    select p.* into wanted from resguardo.retention_policies as p where p.id = of_policy;
    if wanted.status <> 'PROPOSED' then
        raise exception 'retention_policy_settled' using errcode = 'RG409';
    end if;
    perform private.write_audit(
        'retention.preview', case when wanted.id is null then 'ABSENT' else 'ALLOWED' end,
        coalesce('policy_' || wanted.id, 'not_found'), 'retention_policy', '{}', '{}', '{}',
        array['due_at', 'size_bytes'], (wanted.id is not null)::integer, null
    );
    if wanted.id is not null then
        return query select e.* from private.policy_effects(of_policy) as e;
    end if;
end
$$;
