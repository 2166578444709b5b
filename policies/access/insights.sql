-- Insights: the table contains no text, and a doctor sees the progress of the insights into the doctor's own
-- recordings. Compliance officers see the progress of all insights, and never a text. Only SQL functions of the
-- schema private begin, advance, retry and read insights.

select private.reset_access('resguardo.insights');
alter table resguardo.insights enable row level security;

grant select on resguardo.insights to clinician, compliance;

create policy insights_select_clinician on resguardo.insights for select to clinician
using (doctor_id = (select private.doctor()));

create policy insights_select_compliance on resguardo.insights for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.open_insights(text, uuid, jsonb, text[]),
private.dismiss_insight(uuid, integer, integer),
private.retry_insights(uuid),
private.refresh_insights(uuid)
to clinician;

grant execute on function
private.begin_insights(uuid, boolean),
private.store_part_count(uuid, integer, integer),
private.count_insight_request(uuid, integer, integer, integer, boolean),
private.take_back_insight_request(uuid, integer, integer),
private.store_insight_answer(uuid, integer, integer, integer, integer, bytea),
private.finish_insights(uuid, integer, integer, bytea, bytea, text, text, text, integer),
private.give_up_insights(uuid, text, text, integer[]),
private.resume_insights()
to resguardo_worker;
