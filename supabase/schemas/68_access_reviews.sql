-- Access reviews: every quarter, an officer lists who has which role since when and when each login was last used. A
-- second officer approves the list, and the worker suspends the members whose access is to be removed.

create table resguardo.access_reviews (
    id uuid primary key default gen_random_uuid(),
    status text not null default 'OPEN'
    constraint access_reviews_status_is_known check (status in ('OPEN', 'APPROVED', 'DONE', 'REJECTED')),
    started_by uuid not null constraint access_reviews_started_by_fkey references resguardo.staff (user_id),
    started_at timestamptz not null default private.now(),
    decided_by uuid constraint access_reviews_decided_by_fkey references resguardo.staff (user_id),
    decided_at timestamptz,
    finished_at timestamptz,
    sha256 text constraint access_reviews_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    constraint access_reviews_decision_is_whole check (
        (status <> 'OPEN') = (decided_by is not null) and (decided_by is null) = (decided_at is null)
    ),
    constraint access_reviews_needs_a_second_officer check (
        status not in ('APPROVED', 'DONE') or (decided_by <> started_by and sha256 is not null)
    ),
    constraint access_reviews_end_is_whole check ((status = 'DONE') = (finished_at is not null))
);
alter table resguardo.access_reviews enable row level security;
comment on column resguardo.access_reviews.sha256 is
'The SHA-256 of the entries as they were approved. The audit event of the approval has the same digest.';
create unique index access_reviews_one_open_key on resguardo.access_reviews (status) where status = 'OPEN';
create index access_reviews_started_idx on resguardo.access_reviews (started_at desc, id desc);
create index access_reviews_started_by_idx on resguardo.access_reviews (started_by);
create index access_reviews_decided_by_idx on resguardo.access_reviews (decided_by);

create table resguardo.access_review_entries (
    id uuid not null default gen_random_uuid() constraint access_review_entries_pkey primary key,
    review_id uuid not null constraint access_review_entries_review_id_fkey references resguardo.access_reviews (id),
    member_id uuid not null constraint access_review_entries_member_id_fkey references resguardo.staff (user_id),
    member_since timestamptz not null,
    role text not null constraint access_review_entries_role_is_known check (role in ('clinician', 'compliance')),
    role_given_at timestamptz not null,
    last_used_at timestamptz,
    is_unused boolean not null,
    decision text not null constraint access_review_entries_decision_is_known check (decision in ('KEEP', 'REMOVE')),
    decided_by uuid constraint access_review_entries_decided_by_fkey references resguardo.staff (user_id),
    outcome text
    constraint access_review_entries_outcome_is_known check (
        outcome in ('KEPT', 'REMOVED', 'USED_SINCE', 'SUSPENDED_ALREADY')
    ),
    constraint access_review_entries_member_key unique (review_id, member_id)
);
alter table resguardo.access_review_entries enable row level security;
comment on table resguardo.access_review_entries is
'The active members of staff at the start of a review, with the decision about each member.';
comment on column resguardo.access_review_entries.decided_by is
'The officer who changed the decision. Null if the decision is the proposal: REMOVE for unused access, else KEEP.';
create index access_review_entries_page_idx
on resguardo.access_review_entries (review_id, member_since desc, id desc);
create index access_review_entries_member_idx on resguardo.access_review_entries (member_id);
create index access_review_entries_decided_by_idx on resguardo.access_review_entries (decided_by);

-- Starts a review of the active members of staff, or returns the open review if there is one. Access counts as unused
-- if the role is older than the given number of days and the login was not used within these days; the entry then
-- proposes to remove it.
-- Raises RG403 (totp_stale).
create function private.start_access_review(unused_after_days integer, totp_max_age_seconds integer)
returns setof resguardo.access_reviews
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    made resguardo.access_reviews;
    unused_before constant timestamptz := private.now() - make_interval(days => unused_after_days);
begin
    perform private.require_recent_totp(totp_max_age_seconds);
    insert into resguardo.access_reviews (started_by) values (officer)
    on conflict (status) where status = 'OPEN' do nothing
    returning * into made;
    if made.id is null then
        select r.* into made from resguardo.access_reviews as r where r.status = 'OPEN';
    else
        insert into resguardo.access_review_entries (
            review_id, member_id, member_since, role, role_given_at, last_used_at, is_unused, decision
        )
        select
            made.id, s.user_id, s.created_at, s.role, s.role_given_at, u.used_at, n.is_unused,
            case when n.is_unused then 'REMOVE' else 'KEEP' end
        from resguardo.staff as s
        cross join lateral (select private.last_use_of(s.user_id) as used_at) as u
        cross join lateral (
            select s.role_given_at < unused_before and coalesce(u.used_at < unused_before, true) as is_unused
        ) as n
        where s.status = 'active';
    end if;
    perform private.write_audit(
        'access_review.start', 'ALLOWED', null, 'access_review', array[made.id], '{}', '{}', array['staffAccessReview'], 1,
        null
    );
    return next made;
end
$$;

-- Returns an open review, locked, for a change by an officer. Returns nulls, and writes the audit row, if the review
-- does not exist. Raises RG409 (access_review_settled) if it is decided.
create function private.lock_access_review(of_review uuid, action text) returns resguardo.access_reviews
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_reviews;
begin
    select r.* into wanted from resguardo.access_reviews as r where r.id = of_review for update;
    if wanted.id is null then
        perform private.write_audit(
            action, 'ABSENT', 'not_found', 'access_review', array[of_review], '{}', '{}', '{}', 0, null
        );
    end if;
    return wanted;
end
$$;

-- Changes the decision of an open review about one member, and returns the entry. Returns no row, and writes the audit
-- row, if the review does not exist or does not list the member. Raises RG409 (access_review_settled,
-- access_review_about_you).
create function private.decide_access(of_review uuid, of_member uuid, of_decision text)
returns setof resguardo.access_review_entries
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    wanted constant resguardo.access_reviews := private.lock_access_review(of_review, 'access_review.decide_access');
    changed resguardo.access_review_entries;
begin
    if wanted.id is null then
        return;
    elsif wanted.status <> 'OPEN' then
        raise exception 'access_review_settled' using errcode = 'RG409';
    elsif of_member = officer then
        raise exception 'access_review_about_you' using errcode = 'RG409';
    end if;
    update resguardo.access_review_entries as e
    set decision = of_decision,
        decided_by = case when e.decision = of_decision then e.decided_by else officer end
    where e.review_id = of_review and e.member_id = of_member
    returning e.* into changed;
    perform private.write_audit_of_entities(
        'access_review.decide_access', case when changed.id is null then 'ABSENT' else 'ALLOWED' end, null,
        private.entities_of('access_review', array[of_review]) || private.entities_of('staff', array[of_member]),
        '{}', '{}', array['decision'], (changed.id is not null)::integer, null
    );
    if changed.id is not null then
        return next changed;
    end if;
end
$$;

-- Returns the SHA-256 of the entries of a review. The hashed text has one line for each member, in the order of the
-- ids. Vertical bars separate the columns, and times are in microseconds since 1970.
create function private.digest_access_review(of_review uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select encode(sha256(convert_to(coalesce(string_agg(n.line, E'\n' order by n.member_id), ''), 'UTF8')), 'hex')
        from (
            select
                e.member_id,
                concat_ws(
                    '|', e.member_id, e.role, (extract(epoch from e.role_given_at) * 1000000)::bigint,
                    coalesce((extract(epoch from e.last_used_at) * 1000000)::bigint::text, 'never'),
                    e.is_unused, e.decision
                ) as line
            from resguardo.access_review_entries as e
            where e.review_id = of_review
        ) as n
    );
end
$$;

-- Approves or rejects an open review, and returns it. Returns no row, and writes the audit row, if the review does not
-- exist. If the same officer repeats the decision, nothing changes. An approval needs a second person: an officer who
-- neither started the review nor changed an entry, and whose own access it does not remove. Raises RG403 (totp_stale),
-- RG409 (access_review_settled, access_review_same_officer, access_review_about_you, access_review_too_old,
-- officer_too_new).
create function private.settle_access_review(of_review uuid, is_approved boolean, totp_max_age_seconds integer)
returns setof resguardo.access_reviews
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    action constant text := case when is_approved then 'access_review.approve' else 'access_review.reject' end;
    wanted resguardo.access_reviews := private.lock_access_review(of_review, action);
    of_entries text;
begin
    perform private.person();  -- checked again under the lock because the officer may have been suspended meanwhile
    if wanted.id is null then
        return;
    elsif wanted.status <> 'OPEN' then
        if wanted.decided_by <> officer or (wanted.status = 'REJECTED') = is_approved then
            raise exception 'access_review_settled' using errcode = 'RG409';
        end if;
    else
        if is_approved then
            perform private.require_recent_totp(totp_max_age_seconds);
            if officer = wanted.started_by or exists (
                select from resguardo.access_review_entries as e
                where e.review_id = of_review and e.decided_by = officer
            ) then
                raise exception 'access_review_same_officer' using errcode = 'RG409';
            elsif exists (
                select from resguardo.access_review_entries as e
                where e.review_id = of_review and e.member_id = officer and e.decision = 'REMOVE'
            ) then
                raise exception 'access_review_about_you' using errcode = 'RG409';
            elsif private.is_new_officer(officer) then
                raise exception 'officer_too_new' using errcode = 'RG409';
            elsif wanted.started_at < private.now() - interval '30 days' then
                raise exception 'access_review_too_old' using errcode = 'RG409';
            end if;
            of_entries := private.digest_access_review(of_review);
        end if;
        update resguardo.access_reviews as r
        set status = case when is_approved then 'APPROVED' else 'REJECTED' end, decided_by = officer,
            decided_at = private.now(), sha256 = of_entries
        where r.id = of_review
        returning r.* into wanted;
        if is_approved then
            perform private.put_job('apply_access_review', of_review);
        end if;
    end if;
    perform private.write_audit_of_entities(
        action, 'ALLOWED', null, private.entities_of('access_review', array[of_review]), '{}', '{}', array['status'],
        1, null, wanted.sha256
    );
    return next wanted;
end
$$;

-- Removes the access of the next members of an approved review, at most 20, and returns whether more remain. A member
-- who used the login after the review started, and whose access was to be removed only because it was unused, keeps
-- it. The last call marks the review as DONE.
create function private.apply_access_review(of_review uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    approved resguardo.access_reviews;
    entry resguardo.access_review_entries;
    became text;
    has_more boolean := false;
begin
    select r.* into approved from resguardo.access_reviews as r
    where r.id = of_review and r.status = 'APPROVED' for update;
    if approved.id is null then
        return false;
    end if;
    for entry in
        select e.* from resguardo.access_review_entries as e
        where e.review_id = of_review and e.decision = 'REMOVE' and e.outcome is null
        order by e.member_id
        limit 20
    loop
        has_more := true;
        perform from resguardo.staff as s where s.user_id = entry.member_id for update;
        became := case
            when exists (
                select from resguardo.staff as s where s.user_id = entry.member_id and s.status = 'suspended'
            ) then 'SUSPENDED_ALREADY'
            when entry.decided_by is null and private.last_use_of(entry.member_id) > approved.started_at
                then 'USED_SINCE'
            else 'REMOVED'
        end;
        if became = 'REMOVED' then
            perform private.suspend_member(entry.member_id, approved.decided_by);
        end if;
        update resguardo.access_review_entries as e set outcome = became where e.id = entry.id;
    end loop;
    if not has_more then
        update resguardo.access_review_entries as e set outcome = 'KEPT'
        where e.review_id = of_review and e.decision = 'KEEP';
        update resguardo.access_reviews as r set status = 'DONE', finished_at = private.now() where r.id = of_review;
    end if;
    return has_more;
end
$$;

-- Opens the alert ACCESS_REVIEW_DUE if nobody has approved an access review within 92 days, and closes it otherwise. A
-- practice whose first member is younger than that has no review due.
create function private.watch_access_reviews() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    due_after constant timestamptz := private.now() - interval '92 days';
begin
    if exists (select from resguardo.staff as s where s.created_at < due_after)
        and not exists (
            select from resguardo.access_reviews as r
            where r.status in ('APPROVED', 'DONE') and r.decided_at >= due_after
        )
    then
        perform private.open_alert('ACCESS_REVIEW_DUE', '', null, '{}');
    else
        perform private.close_alert('ACCESS_REVIEW_DUE', '');
    end if;
end
$$;
