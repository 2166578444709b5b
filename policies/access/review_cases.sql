-- Review cases: a compliance officer sees every case except the cases about the officer's own activity. Functions alone
-- write cases.

select private.reset_access('resguardo.review_cases');
alter table resguardo.review_cases enable row level security;
select private.reset_access('resguardo.review_case_events');
alter table resguardo.review_case_events enable row level security;

grant select on resguardo.review_cases to compliance;
grant select on resguardo.review_case_events to compliance;

create policy review_cases_select_compliance on resguardo.review_cases for select to compliance
using (private.may_review((select private.person()), subject_id));

create policy review_case_events_select_compliance on resguardo.review_case_events for select to compliance
using (exists (select from resguardo.review_cases as c where c.id = review_case_events.case_id));

grant execute on function
private.may_review(uuid, uuid),
private.record_disposition(uuid, text, text),
private.assign_review_case(uuid, uuid),
private.read_case_event(uuid, uuid, timestamptz)
to compliance;
