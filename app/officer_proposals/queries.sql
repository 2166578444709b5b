-- name: propose
-- Proposes a change about a member of staff and returns the proposal; no row if the member does not exist.
select
    p.id, p.kind, p.member_id, p.recipient_id, p.reason, p.status, p.error, p.proposed_by, p.proposed_at,
    p.decided_by, p.decided_at, p.finished_at, p.moved_count, p.kept_for_consent_count, p.kept_as_sensitive_count
from private.propose(
    %(kind)s, %(member_id)s, %(recipient_id)s::uuid, %(reason)s, %(totp_max_age_seconds)s::integer
) as p;

-- name: decide_proposal
-- Approves or rejects a proposal and returns it; no row if the proposal does not exist.
select
    p.id, p.kind, p.member_id, p.recipient_id, p.reason, p.status, p.error, p.proposed_by, p.proposed_at,
    p.decided_by, p.decided_at, p.finished_at, p.moved_count, p.kept_for_consent_count, p.kept_as_sensitive_count
from private.decide_proposal(%(id)s, %(is_approved)s, %(totp_max_age_seconds)s::integer) as p;

-- name: second_factor_reset
-- Returns the member and the factors of an approved reset of second factors; no row if it is not approved.
select r.member_id, r.factor_ids from private.second_factor_reset(%(id)s) as r;

-- name: keep_factors_to_remove
-- Stores which second factors a proposal removes, and returns the stored ids.
select private.keep_factors_to_remove(%(id)s, %(factor_ids)s::uuid[]);

-- name: finish_second_factor_reset
-- Ends the sessions of the person whose second factors were removed, and ends the proposal.
select private.finish_second_factor_reset(%(id)s, %(reason)s::text);

-- name: reassign_consultations
-- Moves the next consultations of an approved reassignment. Returns MORE, WAITING or ENDED.
select private.reassign_consultations(%(id)s);

-- name: fail_reassignment
-- Marks an approved reassignment as FAILED with a reason.
select private.fail_reassignment(%(id)s, %(reason)s);
