-- name: start_access_review
-- Starts an access review, or returns the open one.
select r.id, r.status, r.started_by, r.started_at, r.decided_by, r.decided_at, r.finished_at, r.sha256
from private.start_access_review(%(unused_after_days)s, %(totp_max_age_seconds)s::integer) as r;

-- name: decide_access
-- Changes what an open review decides about a member, and returns the entry; no row if there is none.
select
    e.id, e.member_id, e.member_since, e.role, e.role_given_at, e.last_used_at, e.is_unused, e.decision, e.decided_by,
    e.outcome
from private.decide_access(%(id)s, %(member_id)s, %(decision)s) as e;

-- name: settle_access_review
-- Approves or rejects an access review and returns it; no row if it does not exist.
select r.id, r.status, r.started_by, r.started_at, r.decided_by, r.decided_at, r.finished_at, r.sha256
from private.settle_access_review(%(id)s, %(is_approved)s, %(totp_max_age_seconds)s::integer) as r;

-- name: apply_access_review
-- Removes the access of the next members of an approved review, and returns whether more remain.
select private.apply_access_review(%(id)s);

-- name: watch_access_reviews
-- Opens or closes the alert about an access review that is due.
select private.watch_access_reviews();
