-- name: list_policies
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
select set_config('statement_timeout', (%(seconds)s * 1000)::text, true);

-- name: approve_policy
select private.approve_policy(%(id)s);

-- name: reject_policy
select private.reject_policy(%(id)s);

-- name: preview_policy
select e.month, e.recordings, e.size_bytes, e.sooner, e.held, e.earliest_due_at
from private.preview_policy(%(id)s) as e;

-- name: report_storage
select r.retention_class, r.age_from_days, r.objects, r.size_bytes
from private.report_storage() as r;

-- name: report_coming
select r.recordings, r.size_bytes, r.held_recordings, r.held_bytes, r.objects_stored, r.urls_issued
from private.report_coming(%(days)s) as r;

-- name: propose_policy
select private.propose_policy(%(name)s, %(sha256)s, %(source)s, %(terms)s);

-- name: policy_effects
select e.month, e.recordings, e.size_bytes, e.sooner, e.held, e.earliest_due_at
from private.policy_effects(%(id)s) as e;

-- name: standing_policies
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
