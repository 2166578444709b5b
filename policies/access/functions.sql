-- Who may call which function of the schema private. What is not named here, only other functions call.

select private.reset_routines('private');
select private.reset_routines('audit');
select private.reset_routines('resguardo');

-- As themselves, before a role is taken: the API and the worker.
grant execute on function
private.begin_as(jsonb, text[], uuid, inet, text, integer),
private.role_of(uuid),
private.require_session_mac(jsonb),
private.record_refusal(text, text, text, text, uuid, text),
private.record_rejections(text, inet, integer),
private.receive_livekit_event(text, text, text, text, timestamptz),
private.redeem_invitation(bytea),
private.read_subtitle_link(bytea)
to resguardo_api;

grant execute on function
private.describe_request(jsonb, uuid, inet, text, integer),
private.deployment_name(),
private.last_led(),
private.require_root_keys(text[], bytea[])
to resguardo_api, resguardo_worker;

-- Supabase Auth alone, where it is: its hook, and the part of it that an adopter's own hook calls.
do $$
begin
    if exists (select from pg_roles where rolname = 'supabase_auth_admin') then
        revoke all on schema resguardo, audit, private, jobs from supabase_auth_admin;
        revoke all on all routines in schema resguardo, audit, private, jobs from supabase_auth_admin;
        grant usage on schema private to supabase_auth_admin;
        grant execute on function private.access_token_hook(jsonb), private.add_session_mac(jsonb)
        to supabase_auth_admin;
    end if;
end
$$;

-- In a person's transaction.
grant execute on function private.claims(), private.uid() to clinician, compliance, patient;
grant execute on function private.person() to clinician, compliance;
grant execute on function private.patient() to patient;

grant execute on function
private.record_access(text, text, uuid, uuid[], uuid[], uuid[], text[], text),
private.record_lookup(
    text, text, text, uuid, boolean, uuid[], uuid[], uuid[], integer, text[], text
)
to clinician, compliance, patient;

grant execute on function
private.lock_consultation(uuid),
private.consultation_id_of(text),
private.has_live_recording(uuid),
private.defer_job(text, uuid)
to clinician, patient;

grant execute on function
private.register_patient(text, uuid, date),
private.everyone_consents(uuid),
private.assign_object_key(uuid),
private.release_object_key(text, uuid, integer),
private.keep_invitation(uuid, bytea, timestamptz),
private.release_upload_url(uuid),
private.complete_import(uuid),
private.is_live(text),
private.may_become(text, text),
private.unready_reason(text)
to clinician;

grant execute on function private.shows_recording(uuid) to clinician, compliance;

grant execute on function
private.read_audit(
    timestamptz, uuid, uuid, text, text, uuid, uuid, timestamptz, timestamptz, integer
),
private.suspend_staff(uuid),
private.invite_staff(text, text),
private.read_staff_invitations()
to compliance;

grant execute on function
private.approve_policy(integer),
private.reject_policy(integer),
private.preview_policy(integer),
private.report_storage(),
private.report_coming(integer)
to compliance;

grant execute on function
private.place_hold(uuid, uuid, timestamptz, timestamptz, text, text),
private.release_hold(uuid)
to compliance;

grant execute on function
private.file_access_request(uuid, uuid, date, text, text),
private.withdraw_access_request(uuid),
private.ask_access_review(uuid),
private.today()
to compliance, patient;

grant execute on function
private.approve_access_request(uuid),
private.deny_access_request(uuid, text, uuid),
private.extend_access_request(uuid, integer, text),
private.record_access_review(uuid, uuid, text),
private.reveal_export_secret(uuid)
to compliance;

grant execute on function private.release_export_key(uuid) to patient;

-- Destroying: the doctor and compliance ask, the worker does.
grant execute on function private.request_deletion(uuid, text), private.undo_deletion(uuid) to clinician, compliance;

grant execute on function
private.claim_deletions(timestamptz, integer),
private.keep_inventory(uuid[], integer[], uuid[], text[], bigint[], text[]),
private.shred_keys(uuid[], integer[], uuid[], text[], timestamptz[], timestamptz[]),
private.finish_deletions(uuid[], text[]),
private.fail_deletion(uuid, integer, text),
private.call_off_missing(uuid),
private.keep_earlier_certificates(uuid, text[]),
private.destroy_missing(uuid),
private.restored_recordings(uuid[]),
private.repeat_deletion(uuid, text[]),
private.find_moved_object(text, bigint),
private.is_held(uuid)
to resguardo_worker;

-- Words: the doctor reads, searches, corrects; the worker makes them.
grant execute on function
private.open_transcript(text, uuid),
private.correct_transcript(uuid, integer, bytea, bigint[]),
private.search_transcripts(bigint[], uuid, uuid, uuid, timestamptz, timestamptz, boolean, integer),
private.read_word_index_key(),
private.keep_subtitle_link(uuid, bytea, integer),
private.retry_transcription(uuid),
private.switch_transcription(uuid, boolean)
to clinician;

grant execute on function
private.begin_transcription(uuid, text[]),
private.keep_pieces(uuid, jsonb, smallint),
private.pieces_left(uuid),
private.keep_heard(uuid, integer, bytea, boolean),
private.wants_piece(uuid, integer, integer),
private.keep_spoilt(uuid, integer),
private.read_heard(uuid),
private.read_retried(uuid),
private.finish_transcription(uuid, text, bytea, bigint[], integer, integer, integer[], integer[]),
private.give_up_transcription(uuid, text, text),
private.resume_transcriptions(),
private.word_index_key(bytea, text),
private.count_keys(),
private.lock_word_index_key(text),
private.rewrap_word_index_key(bytea, text)
to resguardo_worker;

-- The worker.
grant execute on function
private.read_object_key(uuid),
private.everyone_consents(uuid),
private.defer_job(text, uuid),
private.record_service(text, text, text, text, uuid),
private.end_sessions_of_suspended(),
private.settle_staff_invitation(uuid, uuid),
private.fail_staff_invitation(uuid, text),
private.point_object_key(uuid, text),
private.request_recording(uuid),
private.request_sound(uuid, text[], text[], text, boolean),
private.unknown_object_keys(text[]),
private.read_import_key(uuid),
private.keep_upload_url(uuid, text),
private.expire_imports(),
private.lock_bucket(),
private.protected_prefixes(),
private.endangered_prefixes(),
private.retention_days(),
private.record_bucket_change(text, text),
private.settle_drifts(text[], jsonb),
private.access_standing(),
private.active_policy(),
private.outgrown(),
private.now(),
private.begin_export(uuid, text),
private.finish_export(uuid, text, bigint, uuid[]),
private.fail_export(uuid, text),
private.ended_exports(),
private.expire_export(uuid, text),
private.unknown_export_keys(text[]),
private.overdue_access_requests(),
private.unprotected_videos(),
private.moving_videos(),
private.begin_move(uuid),
private.keep_object(uuid, text, text),
private.end_move(uuid),
private.begin_look(),
private.missing_objects(text, text, text[]),
private.report_missing(uuid, timestamptz),
private.register_root_key(text, bytea),
private.make_recording_key(uuid, bytea, text),
private.count_keys_to_rewrap(text),
private.read_keys_to_rewrap(text, uuid, integer),
private.rewrap_recording_keys(uuid[], bytea[], bytea[], text),
private.take_lease(text, bigint),
private.renew_lease(bigint),
private.give_lease_back(bigint),
private.require_lease(bigint),
private.is_live(text),
private.may_become(text, text)
to resguardo_worker;
