-- name: lock_bucket
select private.lock_bucket();

-- name: retention_days
select private.retention_days();

-- name: protected_prefixes
select p.consultation_id, p.prefix, p.is_finished from private.protected_prefixes() as p;

-- name: endangered_prefixes
select e.consultation_id, e.prefix, true as is_finished from private.endangered_prefixes() as e;

-- name: access_standing
select a.policy_version, a.changed from private.access_standing() as a;

-- name: record_change
select private.record_bucket_change(%(part)s, %(outcome)s);

-- name: settle_drifts
select s.drift_code, s.drift_subject, s.is_over from private.settle_drifts(%(topics)s, %(drifts)s) as s;
