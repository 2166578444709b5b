-- Who may call which function of the schema private. What is not named here, only other functions call.

select private.reset_routines('private');
select private.reset_routines('audit');
select private.reset_routines('resguardo');

-- As themselves, before a role is taken: the API and the worker.
grant execute on function
private.begin_as(jsonb, text[], uuid, inet, text, integer),
private.role_of(uuid),
private.record_refusal(text, text, text, text, uuid, text),
private.record_rejections(text, inet, integer),
private.receive_livekit_event(text, text, text, text, timestamptz),
private.redeem_invitation(bytea)
to resguardo_api;

grant execute on function
private.describe_request(jsonb, uuid, inet, text, integer),
private.deployment_name()
to resguardo_api, resguardo_worker;

-- In a person's transaction.
grant execute on function private.claims(), private.uid() to clinician, compliance, patient;
grant execute on function private.person() to clinician, compliance;
grant execute on function private.patient() to patient;

grant execute on function
private.record_access(text, text, uuid, uuid[], uuid[], uuid[], text[], text, integer)
to clinician, compliance, patient;

grant execute on function
private.lock_consultation(uuid),
private.consultation_id_of(text),
private.has_live_recording(uuid),
private.defer_job(text, uuid)
to clinician, patient;

grant execute on function
private.register_patient(text, uuid),
private.everyone_consents(uuid),
private.assign_object_key(uuid),
private.release_object_key(text, uuid, integer, text, integer),
private.keep_invitation(uuid, bytea, timestamptz),
private.release_upload_url(uuid),
private.complete_import(uuid),
private.is_live(text),
private.may_become(text, text)
to clinician;

grant execute on function
private.read_audit(
    timestamptz, uuid, uuid, text, text, uuid, uuid, timestamptz, timestamptz, integer, integer
),
private.suspend_staff(uuid),
private.invite_staff(text, text, integer),
private.read_staff_invitations(integer)
to compliance;

-- The worker.
grant execute on function
private.read_object_key(uuid),
private.everyone_consents(uuid),
private.defer_job(text, uuid),
private.record_service(text, text, text, text, uuid),
private.settle_staff_invitation(uuid, uuid),
private.fail_staff_invitation(uuid, text),
private.point_object_key(uuid, text),
private.request_recording(uuid),
private.unknown_object_keys(text[]),
private.read_import_key(uuid),
private.keep_upload_url(uuid, text),
private.expire_imports(),
private.is_live(text),
private.may_become(text, text)
to resguardo_worker;
