-- Deletions: a doctor sees the deletions of the doctor's own recordings, and compliance sees all deletions. People
-- request and undo deletions, and the worker carries them out, only through SQL functions of the schema private.

select private.reset_access('resguardo.deletions');
alter table resguardo.deletions enable row level security;

grant select on resguardo.deletions to clinician, compliance;

create policy deletions_select_clinician on resguardo.deletions for select to clinician
using (doctor_id = (select private.doctor()));

create policy deletions_select_compliance on resguardo.deletions for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.request_deletion(uuid, text),
private.undo_deletion(uuid)
to clinician, compliance;

grant execute on function
private.claim_deletions(timestamptz, integer),
private.keep_inventory(uuid[], integer[], uuid[], text[], bigint[], text[]),
private.shred_keys(uuid[], integer[], uuid[], text[], timestamptz[], timestamptz[]),
private.finish_deletions(uuid[], text[]),
private.fail_deletion(uuid, integer, text),
private.call_off_missing(uuid),
private.destroy_missing(uuid)
to resguardo_worker;
