-- name: take_rules_turn
-- Takes the lease that permits a process to write the bucket's rules; returns false while another process has the
-- lease.
select private.take_rules_turn(%(holder)s);

-- name: renew_rules_turn
-- Renews the lease that permits a process to write the bucket's rules; returns false if another process has taken the
-- lease since.
select private.renew_rules_turn(%(holder)s);

-- name: give_rules_turn_back
-- Gives back the lease that permits a process to write the bucket's rules.
select private.give_rules_turn_back(%(holder)s);

-- name: retention_days
-- Returns the retention terms, in days, for which the bucket needs a lifecycle rule, as one array.
select private.retention_days();

-- name: protected_prefixes
-- Returns the prefixes under r/ that a legal hold or an access request protects.
select p.consultation_id, p.prefix, p.is_finished from private.protected_prefixes() as p;

-- name: endangered_prefixes
-- Returns the prefixes under which the bucket's lifecycle rules would delete recordings before they are due.
select e.consultation_id, e.prefix, true as is_finished from private.endangered_prefixes() as e;

-- name: access_standing
-- Returns the version of policies/access that the database has, and the database objects whose rights somebody
-- changed after this version was applied.
select a.policy_version, a.changed from private.access_standing() as a;

-- name: record_change
-- Writes the audit row of a change to the bucket's rules.
select private.record_bucket_change(%(part)s, %(outcome)s);

-- name: settle_drifts
-- Stores the drifts that a check of the bucket found, and returns each drift that is new or has ended since the
-- previous check.
select s.drift_code, s.drift_subject, s.is_over from private.settle_drifts(%(topics)s, %(drifts)s) as s;

-- name: begin_sweep
-- Returns the database's time and the name of the deployment.
select private.now() as now, private.deployment_name() as deployment;

-- name: unknown_object_keys
-- Returns the given object keys that belong to no recording, no import and no move of an object, as one array.
select private.unknown_object_keys(%(keys)s::text[]);

-- name: report_orphans
-- Writes one audit row for each recording whose id is in the key of an orphaned object.
select private.record_service('object.report_orphan', 'ALLOWED', %(reason)s, 'recording', i.id)
from unnest(%(ids)s::uuid[]) as i (id);

-- name: videos_in_progress
-- Returns those of the given videos that are being recorded or verified, or beside which a sound is being recorded or
-- verified.
select coalesce(r.video_id, r.id) as id
from resguardo.recordings as r
where
    (r.id = any(%(ids)s::uuid[]) or r.video_id = any(%(ids)s::uuid[]))
    and r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING');

-- name: deleted_videos
-- Returns those of the given videos whose status is DELETED.
select r.id
from resguardo.recordings as r
where r.id = any(%(ids)s::uuid[]) and r.status = 'DELETED';

-- name: record_sweep
-- Writes the audit row before an orphaned object is deleted and returns one row; returns no row if the object must
-- stay.
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
-- Writes an audit row that says that an orphaned object could not be deleted.
select private.record_service('object.sweep_orphan', 'FAILED', %(reason)s, 'recording', %(video_id)s);

-- name: record_abort
-- Writes the audit row before an unfinished upload is aborted and returns one row; returns no row if the recording is
-- in progress.
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
-- Returns the database's time and the number of READY recordings, for the start of a search for missing objects.
select b.at, b.verified from private.begin_look() as b;

-- name: missing_objects
-- Returns the READY recordings whose object key is in the given range and not among the keys present in the bucket.
select m.id, m.video_id, m.consultation_id, m.missing_since
from private.missing_objects(%(after_key)s, %(last_key)s, %(present)s::text[]) as m;

-- name: report_missing
-- Stores that the object of a recording is missing; returns false if this is already stored.
select private.report_missing(%(id)s, %(seen_at)s);

-- name: destroy_missing
-- Begins to destroy a video whose object is missing, and returns whether the destruction began; returns no row if a
-- sound beside the video is not missing for long enough.
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
-- Returns the recordings that became LOST within the given time, newest first.
select r.id, r.status_at
from resguardo.recordings as r
where r.status = 'LOST' and r.status_at > clock_timestamp() - %(within)s::interval
order by r.status_at desc;

-- name: read_object_key
-- Writes the audit row and returns the object key of a recording; returns null if the recording has no key.
select private.read_object_key(%(recording_id)s);

-- name: unknown_export_keys
-- Returns the given object keys that belong to no copy for an access request and no export of the audit log, as one
-- array.
select private.unknown_export_keys(%(keys)s::text[]);

-- name: record_export_sweep
-- Writes the audit row before the worker deletes an object under exports/, and returns one row; returns no row if a
-- copy or an export has the object's key.
select
    private.record_service(
        'object.sweep_orphan', 'ALLOWED', 'no_export_has_it', private.export_entity_type(%(id)s), %(id)s
    )
where private.unknown_export_keys(array[%(object_key)s::text]) = array[%(object_key)s::text];
