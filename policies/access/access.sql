-- Access: the worker compares the access in the database with the last seal.

grant execute on function private.access_standing() to resguardo_worker;
