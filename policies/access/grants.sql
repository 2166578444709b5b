-- Grants: the worker compares the rights in the database with the digests that the last `resguardo migrate` stored.

grant execute on function private.access_standing() to resguardo_worker;
