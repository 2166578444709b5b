-- Attestations of the monthly review: compliance officers read all of them. Only private.attest_review() writes one,
-- and nobody changes it.

select private.reset_access('resguardo.attestations');
alter table resguardo.attestations enable row level security;

grant select on resguardo.attestations to compliance;

create policy attestations_select_compliance on resguardo.attestations for select to compliance
using ((select private.person()) is not null);

grant execute on function private.attest_review(date, text[], text, integer) to compliance;
