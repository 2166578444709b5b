-- Legal holds: compliance officers read all legal holds. Only private.place_hold() and private.release_hold() write
-- legal holds, and an officer cannot release a hold that the same officer placed.

select private.reset_access('resguardo.legal_holds');
alter table resguardo.legal_holds enable row level security;

grant select on resguardo.legal_holds to compliance;

create policy legal_holds_select_compliance on resguardo.legal_holds for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.place_hold(uuid, uuid, timestamptz, timestamptz, text, text),
private.release_hold(uuid)
to compliance;

grant execute on function private.is_own_held(uuid) to clinician, compliance;

grant execute on function private.is_held(uuid) to resguardo_worker;
