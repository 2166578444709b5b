-- Breach assessments and sanctions: compliance officers read them, except those of which they are the subject.
-- Functions alone write the rows, and refuse an officer who is the subject.

select private.reset_access('resguardo.breach_assessments');
alter table resguardo.breach_assessments enable row level security;

grant select on resguardo.breach_assessments to compliance;

create policy breach_assessments_select_compliance on resguardo.breach_assessments for select to compliance
using ((select private.person()) is distinct from subject_id);

select private.reset_access('resguardo.breach_patients');
alter table resguardo.breach_patients enable row level security;

grant select on resguardo.breach_patients to compliance;

create policy breach_patients_select_compliance on resguardo.breach_patients for select to compliance
using (exists (select from resguardo.breach_assessments as a where a.id = breach_patients.assessment_id));

select private.reset_access('resguardo.breach_recordings');
alter table resguardo.breach_recordings enable row level security;

grant select on resguardo.breach_recordings to compliance;

create policy breach_recordings_select_compliance on resguardo.breach_recordings for select to compliance
using (exists (select from resguardo.breach_assessments as a where a.id = breach_recordings.assessment_id));

select private.reset_access('resguardo.breach_factors');
alter table resguardo.breach_factors enable row level security;

grant select on resguardo.breach_factors to compliance;

create policy breach_factors_select_compliance on resguardo.breach_factors for select to compliance
using (exists (select from resguardo.breach_assessments as a where a.id = breach_factors.assessment_id));

select private.reset_access('resguardo.breach_notices');
alter table resguardo.breach_notices enable row level security;

grant select on resguardo.breach_notices to compliance;

create policy breach_notices_select_compliance on resguardo.breach_notices for select to compliance
using (exists (select from resguardo.breach_assessments as a where a.id = breach_notices.assessment_id));

select private.reset_access('resguardo.sanctions');
alter table resguardo.sanctions enable row level security;

grant select on resguardo.sanctions to compliance;

create policy sanctions_select_compliance on resguardo.sanctions for select to compliance
using ((select private.person()) <> staff_id);

grant execute on function
private.open_breach(private.audit_filter, uuid, date),
private.list_needed_notices(uuid),
private.recount_breach(uuid),
private.record_breach_factor(uuid, text, text, text),
private.delay_breach_notices(uuid, text, date),
private.decide_breach(uuid, text, jsonb, text),
private.record_breach_notice(uuid, text, text, text, date, text),
private.record_sanction(uuid, uuid, text, text, date)
to compliance;

grant execute on function
private.count_breach(uuid),
private.fail_breach_count(uuid)
to resguardo_worker;
