-- name: list_policies
-- Returns a page of retention policies, newest first, with the terms in force, and whether another page follows.
select
    p.id, p.name, p.status, p.sha256, p.terms, p.shortens, p.proposed_at, p.activated_at,
    array(
        select a.officer_id from resguardo.retention_approvals as a
        where a.policy_id = p.id
        order by a.approved_at, a.officer_id
    ) as approved_by,
    (select f.terms from resguardo.retention_policies as f where f.status = 'ACTIVE') as terms_in_force,
    count(*) over () > %(first)s as has_next
from resguardo.retention_policies as p
where %(after)s::integer is null or p.id < %(after)s
order by p.id desc
limit (select %(first)s::bigint);

-- name: read_policy
-- Returns a retention policy.
select
    p.id, p.name, p.status, p.sha256, p.terms, p.shortens, p.proposed_at, p.activated_at,
    array(
        select a.officer_id from resguardo.retention_approvals as a
        where a.policy_id = p.id
        order by a.approved_at, a.officer_id
    ) as approved_by
from resguardo.retention_policies as p
where p.id = %(id)s;

-- name: read_terms_in_force
-- Returns the terms of the retention policy in force; returns null if none is in force.
select (select p.terms from resguardo.retention_policies as p where p.status = 'ACTIVE') as terms;

-- name: read_superseded_policy
-- Returns the retention policy that was in force before the present one; returns no row if there was none.
select
    p.id, p.name, p.status, p.sha256, p.terms, p.shortens, p.proposed_at, p.activated_at,
    array(
        select a.officer_id from resguardo.retention_approvals as a
        where a.policy_id = p.id
        order by a.approved_at, a.officer_id
    ) as approved_by
from resguardo.retention_policies as p
where p.status = 'SUPERSEDED'
order by p.activated_at desc, p.id desc
limit 1;

-- name: allow_time
-- Sets the time limit of each statement in this transaction.
select set_config('statement_timeout', (%(seconds)s * 1000)::text, true);

-- name: approve_policy
-- Approves a proposed retention policy; returns false if the policy does not exist.
select private.approve_policy(%(id)s);

-- name: reject_policy
-- Rejects a proposed retention policy; returns false if the policy does not exist.
select private.reject_policy(%(id)s);

-- name: preview_policy
-- Writes the audit row and returns the effect of a retention policy on existing recordings, by month.
select e.month, e.recordings, e.size_bytes, e.sooner, e.held, e.earliest_due_at, e.notes, e.held_notes
from private.preview_policy(%(id)s) as e;

-- name: report_storage
-- Returns the number and bytes of the stored objects, by retention class and age.
select r.retention_class, r.age_from_days, r.objects, r.size_bytes
from private.report_storage() as r;

-- name: report_coming
-- Returns one row of counts: the recordings that become due within the given number of days, and the objects stored
-- and URLs issued within the same number of past days.
select r.recordings, r.size_bytes, r.held_recordings, r.held_bytes, r.objects_stored, r.urls_issued
from private.report_coming(%(days)s) as r;

-- name: propose_policy
-- Stores a proposed retention policy and returns its id.
select private.propose_policy(%(name)s, %(sha256)s, %(source)s, %(terms)s);

-- name: policy_effects
-- Returns the effect of a retention policy on existing recordings, by month, and writes no audit row.
select e.month, e.recordings, e.size_bytes, e.sooner, e.held, e.earliest_due_at, e.notes, e.held_notes
from private.policy_effects(%(id)s) as e;

-- name: standing_policies
-- Returns the retention policy in force and the proposed retention policies.
select
    p.id, p.name, p.status, p.sha256, p.terms, p.shortens, p.proposed_at, p.activated_at,
    array(
        select a.officer_id from resguardo.retention_approvals as a
        where a.policy_id = p.id
        order by a.approved_at, a.officer_id
    ) as approved_by
from resguardo.retention_policies as p
where p.status in ('ACTIVE', 'PROPOSED')
order by p.status, p.id;
