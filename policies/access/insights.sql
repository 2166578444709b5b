-- Insights: the table contains no text, and a clinician sees the progress of the insights into the recordings that the
-- clinician sees. Compliance officers see the progress of all insights, and never a text. Only SQL functions of the
-- schema private begin, advance, retry and read insights.

select private.reset_access('resguardo.insights');
alter table resguardo.insights enable row level security;

grant select on resguardo.insights to clinician, compliance;

create policy insights_select_clinician on resguardo.insights for select to clinician
using (
    case
        when doctor_id = (select private.doctor()) then true
        else consultation_id = any((select private.shared_consultation_ids())::uuid[])
    end
);

create policy insights_select_compliance on resguardo.insights for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.open_insights(text, uuid, jsonb, text[]),
private.dismiss_insight(uuid, integer, integer),
private.retry_insights(uuid),
private.refresh_insights(uuid)
to clinician;
