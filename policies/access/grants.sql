-- Grants: the worker compares the access in the database with the digest of the last `resguardo migrate`.

grant execute on function private.access_standing() to resguardo_worker;
