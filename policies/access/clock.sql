-- The retention clock, by which the database decides whether a recording is due.

grant execute on function private.today() to clinician, compliance, patient;

grant execute on function private.now() to resguardo_worker;
