-- Outgoing webhooks: compliance officers see all deliveries and attempts. The worker sends them through functions.
-- Functions alone write the rows.

select private.reset_access('resguardo.webhook_deliveries');
alter table resguardo.webhook_deliveries enable row level security;
grant select on resguardo.webhook_deliveries to compliance;
create policy webhook_deliveries_select_compliance on resguardo.webhook_deliveries for select to compliance
using ((select private.person()) is not null);

select private.reset_access('resguardo.webhook_attempts');
alter table resguardo.webhook_attempts enable row level security;
grant select on resguardo.webhook_attempts to compliance;
create policy webhook_attempts_select_compliance on resguardo.webhook_attempts for select to compliance
using ((select private.person()) is not null);

grant execute on function private.redeliver_webhook(uuid) to compliance;

grant execute on function
private.register_webhook_endpoints(text[], text[], jsonb),
private.claim_webhook_deliveries(text, integer),
private.settle_webhook_attempt(uuid, integer, integer, integer, text, boolean, integer),
private.clear_webhook_deliveries()
to resguardo_worker;
