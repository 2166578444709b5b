-- Disclosures and their suspensions: compliance officers see all of them. Functions alone write the rows and read the
-- encrypted texts.

select private.reset_access('resguardo.disclosures');
select private.reset_access('resguardo.disclosure_suspensions');
alter table resguardo.disclosures enable row level security;
alter table resguardo.disclosure_suspensions enable row level security;

grant select on resguardo.disclosures, resguardo.disclosure_suspensions to compliance;

create policy disclosures_select_compliance on resguardo.disclosures for select to compliance
using ((select private.person()) is not null);

create policy disclosure_suspensions_select_compliance on resguardo.disclosure_suspensions for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.record_disclosure(uuid, uuid, date, date, integer, text, date, date, bytea, text),
private.store_patient_text(uuid, uuid, bytea),
private.read_disclosure_texts(text, uuid, jsonb, text[]),
private.suspend_disclosures(uuid, text, boolean, timestamptz, bytea, text),
private.lift_disclosure_suspension(uuid),
private.read_released_copies(uuid, timestamptz, timestamptz, timestamptz, uuid, integer, text[])
to compliance;
