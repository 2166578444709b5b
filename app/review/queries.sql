-- name: record_disposition
-- Records an officer's disposition of a case and returns the case's id; returns null if the case does not exist or is
-- about the officer's own activity.
select private.record_disposition(%(id)s, %(disposition)s, %(text)s);

-- name: assign_review_case
-- Assigns an open case to an officer or to nobody and returns the case's id; returns null if the case does not exist or
-- is about the caller's own activity.
select private.assign_review_case(%(id)s, %(officer_id)s::uuid);

-- name: review_audit_log
-- Evaluates the rules for the next sealed events of the audit log and returns how many there were.
select private.review_audit_log(%(at_most)s);

-- name: record_access_to_rules
-- Writes the audit row about a read of the rules.
select private.record_access('review_rule.list', 'review_policy', null, '{}', '{}', '{}', %(fields)s::text[], 'pages');

-- name: read_review_rules
-- Returns one row: the rules in force with what they matched, and the versions of the rules.
select
    (select coalesce(json_agg(r order by r.rule), '[]') from private.read_review_rules() as r) as rules,
    (select coalesce(json_agg(p order by p.id desc), '[]') from private.read_review_policies(null) as p) as policies;

-- name: read_review_policy
-- Returns one version of the rules of the review.
select
    p.id, p.name, p.status, p.sha256, p.source, p.proposed_at, p.activated_at, p.approved_by
from private.read_review_policies(%(id)s) as p;

-- name: decide_review_policy
-- Records an officer's decision on proposed rules and returns their new status; returns null if they do not exist.
select private.decide_review_policy(%(id)s, %(is_approval)s);
