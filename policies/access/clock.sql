-- The clock of retention.

grant execute on function private.today() to compliance, patient;

grant execute on function private.now() to resguardo_worker;
