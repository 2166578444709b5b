-- Leadership: the workers take, renew and give back the lease. The API reads when the lease was last held.

grant execute on function private.last_led() to resguardo_api, resguardo_worker;

grant execute on function
private.take_lease(text, bigint),
private.renew_lease(bigint),
private.give_lease_back(bigint),
private.require_lease(bigint)
to resguardo_worker;
