-- Drifts: the worker records differences from the files of policies/.

grant execute on function private.settle_drifts(text[], jsonb) to resguardo_worker;
