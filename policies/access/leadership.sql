-- Leadership: the workers take, renew and give back the lease of the leading worker. The API reads when a worker last
-- held the leader's lease.

grant execute on function private.last_led() to resguardo_api, resguardo_worker;

grant execute on function
private.take_lease(text, bigint),
private.renew_lease(bigint),
private.give_lease_back(bigint),
private.require_lease(bigint)
to resguardo_worker;
