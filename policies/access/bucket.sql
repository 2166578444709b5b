-- The rules of the bucket: the worker reads from the database which key prefixes the bucket's rules must protect.

grant execute on function
private.take_rules_turn(uuid),
private.renew_rules_turn(uuid),
private.give_rules_turn_back(uuid),
private.protected_prefixes(),
private.endangered_prefixes(),
private.retention_days(),
private.record_bucket_change(text, text)
to resguardo_worker;
