-- Requests for an accounting of disclosures: a patient sees their own requests, and compliance officers see all of
-- them. Functions alone write the rows, and only compliance gets the accounting itself.

select private.reset_access('resguardo.accounting_requests');
alter table resguardo.accounting_requests enable row level security;

grant select on resguardo.accounting_requests to compliance, patient;

create policy accounting_requests_select_compliance on resguardo.accounting_requests for select to compliance
using ((select private.person()) is not null);

create policy accounting_requests_select_patient on resguardo.accounting_requests for select to patient
using (patient_id = (select private.patient()));

grant execute on function
private.extend_accounting_request(uuid, integer, text),
private.begin_accounting(uuid, bytea, text),
private.read_accounting_entries(uuid),
private.finish_accounting(uuid, bytea, text, integer)
to compliance;

grant execute on function
private.file_accounting_request(uuid, date, date, date),
private.withdraw_accounting_request(uuid)
to compliance, patient;

grant execute on function private.overdue_accounting_requests() to resguardo_worker;
