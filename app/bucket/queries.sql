-- name: take_rules_turn
-- Takes the turn to write the bucket's rules; returns false while another process has the turn.
select private.take_rules_turn(%(holder)s);

-- name: renew_rules_turn
-- Renews the turn to write the bucket's rules; returns false if another process has had the turn since.
select private.renew_rules_turn(%(holder)s);

-- name: give_rules_turn_back
-- Gives back the turn to write the bucket's rules.
select private.give_rules_turn_back(%(holder)s);

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
-- Returns the version of the applied access files, and the database objects whose rights somebody changed since.
select a.policy_version, a.changed from private.access_standing() as a;

-- name: record_change
-- Writes the audit row of a change of the bucket's rules.
select private.record_bucket_change(%(part)s, %(outcome)s);

-- name: settle_drifts
-- Stores the drifts that a check found, and returns each drift that began or ended with this check.
select s.drift_code, s.drift_subject, s.is_over from private.settle_drifts(%(topics)s, %(drifts)s) as s;

-- name: begin_sweep
-- Returns the database's time and the name of the deployment.
select private.now() as now, private.deployment_name() as deployment;

-- name: unknown_object_keys
-- Returns those of the given object keys that belong to no recording, import or move, as one array.
select private.unknown_object_keys(%(keys)s::text[]);

-- name: report_orphans
-- Writes one audit row for each recording that an orphaned object names.
select private.record_service('object.report_orphan', 'ALLOWED', %(reason)s, 'recording', i.id)
from unnest(%(ids)s::uuid[]) as i (id);

-- name: videos_in_progress
-- Returns the given videos that are being recorded or verified, or beside which a sound is being recorded or
-- verified.
select coalesce(r.video_id, r.id) as id
from resguardo.recordings as r
where
    (r.id = any(%(ids)s::uuid[]) or r.video_id = any(%(ids)s::uuid[]))
    and r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING');

-- name: deleted_videos
-- Returns those of the given videos that are DELETED.
select r.id
from resguardo.recordings as r
where r.id = any(%(ids)s::uuid[]) and r.status = 'DELETED';

-- name: record_sweep
-- Writes the audit row of the deletion of an orphaned object and returns one row; no row if the object must stay.
select private.record_service('object.sweep_orphan', 'ALLOWED', %(reason)s, 'recording', %(video_id)s)
where
    private.unknown_object_keys(array[%(key)s::text]) = array[%(key)s::text]
    and not private.is_held(%(video_id)s)
    and not exists (
        select
        from resguardo.recordings as r
        where
            %(video_id)s in (r.id, r.video_id)
            and r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING', 'LOST')
    );

-- name: record_failed_sweep
-- Writes the audit row of an orphaned object that could not be deleted.
select private.record_service('object.sweep_orphan', 'FAILED', %(reason)s, 'recording', %(video_id)s);

-- name: record_abort
-- Writes the audit row of an aborted upload and returns one row; no row if the recording is in progress.
select private.record_service('object.abort_upload', 'ALLOWED', 'past_quarantine', 'recording', %(video_id)s)
where
    not exists (
        select
        from resguardo.recordings as r
        where
            %(video_id)s in (r.id, r.video_id)
            and r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING')
    );

-- name: begin_search_for_missing
-- Returns the time and the number of READY recordings at the start of a search for missing objects.
select b.at, b.verified from private.begin_look() as b;

-- name: missing_objects
-- Returns the READY recordings with keys in this range whose object is not present.
select m.id, m.video_id, m.consultation_id, m.missing_since
from private.missing_objects(%(after_key)s, %(last_key)s, %(present)s::text[]) as m;

-- name: report_missing
-- Stores that an object is missing; returns false if that is already stored.
select private.report_missing(%(id)s, %(seen_at)s);

-- name: destroy_missing
-- Begins the deletion of a missing video and returns whether it began; no row if its sound is not missing for long
-- enough.
select private.destroy_missing(r.id)
from resguardo.recordings as r
where
    r.id = %(id)s
    and not exists (
        select from resguardo.recordings as s
        where
            s.video_id = r.id
            and s.status = 'READY'
            and (s.missing_since is null or s.missing_since > %(missing_before)s)
    );

-- name: lost_recordings
-- Returns the recordings that became LOST within this time, newest first.
select r.id, r.status_at
from resguardo.recordings as r
where r.status = 'LOST' and r.status_at > clock_timestamp() - %(within)s::interval
order by r.status_at desc;

-- name: read_object_key
-- Returns the object key of a recording after the audit row; null for a recording without a key.
select private.read_object_key(%(recording_id)s);
