-- name: lock_bucket
-- Locks the bucket's lock rules until the transaction ends.
select private.lock_bucket();

-- name: retention_days
-- Returns the terms, in days, for which the bucket needs a lifecycle rule, as one array.
select private.retention_days();

-- name: protected_prefixes
-- Returns the prefixes under r/ that a legal hold or an access request protects.
select p.consultation_id, p.prefix, p.is_finished from private.protected_prefixes() as p;

-- name: endangered_prefixes
-- Returns the prefixes that the bucket would delete before their recordings are due.
select e.consultation_id, e.prefix, true as is_finished from private.endangered_prefixes() as e;

-- name: access_standing
-- Returns the version of the applied access files, and the objects whose access somebody changed since.
select a.policy_version, a.changed from private.access_standing() as a;

-- name: record_change
-- Writes the audit row of a change of the bucket's rules.
select private.record_bucket_change(%(part)s, %(outcome)s);

-- name: settle_drifts
-- Stores the drifts that a check found, and returns each drift that began or ended with this check.
select s.drift_code, s.drift_subject, s.is_over from private.settle_drifts(%(topics)s, %(drifts)s) as s;
