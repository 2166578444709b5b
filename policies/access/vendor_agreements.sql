-- The register of business associate agreements: compliance officers see all entries. Functions alone write the rows.

select private.reset_access('resguardo.vendor_agreements');
alter table resguardo.vendor_agreements enable row level security;
grant select on resguardo.vendor_agreements to compliance;
create policy vendor_agreements_select_compliance on resguardo.vendor_agreements for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.record_vendor_agreement(text, text, text, text, text, date, date)
to compliance;

grant execute on function private.find_agreement_gaps(text[], integer) to resguardo_api, resguardo_worker;
