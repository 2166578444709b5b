-- name: list_policies
-- Returns the newest 100 retention policies.
select
    p.id, p.name, p.status, p.sha256, p.terms, p.shortens, p.proposed_at, p.activated_at,
    array(
        select a.officer_id from resguardo.retention_approvals as a
        where a.policy_id = p.id
        order by a.approved_at, a.officer_id
    ) as approved_by
from resguardo.retention_policies as p
order by p.id desc
limit 100;

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

-- name: allow_time
-- Sets the time limit of the statements of this transaction.
select set_config('statement_timeout', (%(seconds)s * 1000)::text, true);

-- name: approve_policy
-- Approves a proposed policy; returns false if it does not exist.
select private.approve_policy(%(id)s);

-- name: reject_policy
-- Rejects a proposed policy; returns false if it does not exist.
select private.reject_policy(%(id)s);

-- name: preview_policy
-- Returns the effect of a policy on existing recordings by month, after the audit row.
select e.month, e.recordings, e.size_bytes, e.sooner, e.held, e.earliest_due_at
from private.preview_policy(%(id)s) as e;

-- name: report_storage
-- Returns the stored objects and bytes by retention class and age.
select r.retention_class, r.age_from_days, r.objects, r.size_bytes
from private.report_storage() as r;

-- name: report_coming
-- Returns one row: the counts of the next days' deletions, and of the objects stored and URLs issued in the last
-- days.
select r.recordings, r.size_bytes, r.held_recordings, r.held_bytes, r.objects_stored, r.urls_issued
from private.report_coming(%(days)s) as r;

-- name: propose_policy
-- Stores a proposed policy and returns its id.
select private.propose_policy(%(name)s, %(sha256)s, %(source)s, %(terms)s);

-- name: policy_effects
-- Returns the effect of a policy on existing recordings by month, without an audit row.
select e.month, e.recordings, e.size_bytes, e.sooner, e.held, e.earliest_due_at
from private.policy_effects(%(id)s) as e;

-- name: standing_policies
-- Returns the policy in force and the proposed policies.
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
