-- Drifts: the worker records differences between the files of policies/ and the actual bucket rules and database
-- rights.

grant execute on function private.settle_drifts(text[], jsonb) to resguardo_worker;
