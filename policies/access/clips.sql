-- Clips: the clinicians who see a recording see the rows of its clips, and compliance officers see all rows. A row
-- contains no picture and no sound. Functions alone write the rows. Only these clinicians get a playback URL of a clip,
-- and only the doctor gets a download URL (policies/access/object_keys.sql).

select private.reset_access('resguardo.clips');
alter table resguardo.clips enable row level security;

grant select on resguardo.clips to clinician, compliance;

create policy clips_select_clinician on resguardo.clips for select to clinician
using (
    case
        when doctor_id = (select private.doctor()) then true
        else consultation_id = any((select private.shared_consultation_ids())::uuid[])
    end
);

create policy clips_select_compliance on resguardo.clips for select to compliance
using ((select private.person()) is not null);

grant execute on function private.request_clip(uuid, integer, integer, integer) to clinician;

grant execute on function
private.begin_clip(uuid),
private.report_clip(uuid, integer, integer),
private.begin_storing_clip(uuid, integer),
private.finish_clip(uuid, integer, text, text, bigint),
private.fail_clip(uuid, integer, text)
to resguardo_worker;
