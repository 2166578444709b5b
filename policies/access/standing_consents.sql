-- Standing consents: a view that shows each reader what the policies of participants and consents let that reader see.

select private.reset_access('resguardo.standing_consents');

grant select on resguardo.standing_consents to clinician, patient, resguardo_worker;
