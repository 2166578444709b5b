-- Proposals of compliance officers: officers read all proposals, and make and decide them only through functions. The
-- worker carries out approved proposals at Supabase Auth.

select private.reset_access('resguardo.officer_proposals');
alter table resguardo.officer_proposals enable row level security;

grant select on resguardo.officer_proposals to compliance;

create policy officer_proposals_select_compliance on resguardo.officer_proposals for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.propose(text, uuid, uuid, text, integer),
private.decide_proposal(uuid, boolean, integer)
to compliance;

grant execute on function
private.finish_proposals(text, uuid, text),
private.should_be_banned(uuid),
private.second_factor_reset(uuid),
private.keep_factors_to_remove(uuid, uuid[]),
private.finish_second_factor_reset(uuid, text)
to resguardo_worker;
