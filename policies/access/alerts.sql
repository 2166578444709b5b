-- Alerts: compliance officers see all alerts. Functions alone write the rows. The worker opens and closes alerts. The
-- API's login can only count the open alerts, open or close the alert about the leader, and open the alert about
-- transcripts that a search could not decrypt.

select private.reset_access('resguardo.alerts');
alter table resguardo.alerts enable row level security;

grant select on resguardo.alerts to compliance;

create policy alerts_select_compliance on resguardo.alerts for select to compliance
using ((select private.person()) is not null);

grant execute on function private.count_open_alerts(), private.watch_leader(double precision)
to resguardo_api, resguardo_worker;

grant execute on function private.report_unreadable_transcripts(uuid[]) to resguardo_api;

grant execute on function
private.store_alert(text, text, text, uuid[]),
private.close_alert(text, text),
private.replace_alerts(text, jsonb),
private.evaluate_alerts(text)
to resguardo_worker;
