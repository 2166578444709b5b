-- Who may use which schema, and which roles the API's login may take. Nobody else may use any of the four.

revoke all on schema resguardo, audit, private, jobs
from public, anon, authenticated, service_role, clinician, compliance, patient, resguardo_api, resguardo_worker;
grant usage on schema resguardo, private to clinician, compliance, patient, resguardo_worker;
grant usage on schema private to resguardo_api;
grant usage on schema jobs to resguardo_worker;

grant clinician to resguardo_api;
grant compliance to resguardo_api;
grant patient to resguardo_api;
