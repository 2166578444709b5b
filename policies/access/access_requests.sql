-- Access requests: a patient sees their own requests. Compliance officers see all access requests and the patients'
-- representatives, because they must know whom they answer. Only SQL functions of the schema private file and decide
-- access requests, and update the state of the encrypted copy.

select private.reset_access('resguardo.access_requests');
alter table resguardo.access_requests enable row level security;

grant select on resguardo.access_requests to compliance, patient;

create policy access_requests_select_compliance on resguardo.access_requests for select to compliance
using ((select private.person()) is not null);

create policy access_requests_select_patient on resguardo.access_requests for select to patient
using (patient_id = (select private.patient()));

grant execute on function
private.approve_access_request(uuid),
private.deny_access_request(uuid, text, uuid),
private.extend_access_request(uuid, integer, text),
private.record_access_review(uuid, uuid, text)
to compliance;

grant execute on function
private.file_access_request(uuid, uuid, date, text, text),
private.withdraw_access_request(uuid),
private.ask_access_review(uuid)
to compliance, patient;
