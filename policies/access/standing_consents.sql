-- Standing consents: a view that shows each reader only the rows that the row-level security policies of the tables
-- participants and consents permit.

select private.reset_access('resguardo.standing_consents');

grant select on resguardo.standing_consents to clinician, compliance, patient, resguardo_worker;
