-- Recordings: the clinicians who see a consultation see the rows of its recordings, and compliance officers see the
-- rows of all recordings. A row contains neither the recording nor its object key, and only the doctor gets a download
-- URL. A recording can be
-- created only if every required participant has a standing consent. The doctor may change a recording's status to
-- ask for its end. The worker requests the sound recordings beside a video, and updates the status of the video and
-- its sound recordings.

select private.reset_access('resguardo.recordings');
alter table resguardo.recordings enable row level security;

grant select on resguardo.recordings to clinician, compliance, resguardo_worker;
grant insert (id, consultation_id, doctor_id, patient_id, requested_by, room_name) on resguardo.recordings to clinician;
grant update (status) on resguardo.recordings to clinician;
grant update (
    status, room_sid, egress_id, egress_updated_at, started_at, ended_at, duration_seconds, size_bytes, sha256,
    truncated, interrupted, recorder_sid, error, stored_at
) on resguardo.recordings to resguardo_worker;

create policy recordings_select_clinician on resguardo.recordings for select to clinician
using (
    case
        when doctor_id = (select private.doctor()) then true
        else consultation_id = any((select private.shared_consultation_ids())::uuid[])
    end
);

create policy recordings_select_compliance on resguardo.recordings for select to compliance
using ((select private.person()) is not null);

create policy recordings_select_worker on resguardo.recordings for select to resguardo_worker
using (true);

create policy recordings_insert_clinician on resguardo.recordings for insert to clinician
with check (
    doctor_id = (select private.doctor())
    and requested_by = (select private.uid())
    and room_name = (select c.room_name from resguardo.consultations as c where c.id = recordings.consultation_id)
    and private.everyone_consents(consultation_id)
);

create policy recordings_update_clinician on resguardo.recordings for update to clinician
using (doctor_id = (select private.doctor()))
with check (doctor_id = (select private.doctor()) and status in ('STOPPING', 'ABORTED'));

create policy recordings_update_worker on resguardo.recordings for update to resguardo_worker
using (true);

grant execute on function private.unready_reason(text) to clinician;

grant execute on function private.has_live_recording(uuid) to clinician, patient;

grant execute on function private.recording_id_of(text) to clinician, compliance;

grant execute on function private.recording_blockers(uuid) to clinician, compliance, patient;

grant execute on function
private.is_live(text),
private.may_become(text, text)
to clinician, resguardo_worker;

grant execute on function
private.request_recording(uuid),
private.request_sound(uuid, text[], text[], text, boolean)
to resguardo_worker;
