-- The rules of the review: compliance officers read and decide on the versions of the rules. The owner proposes a
-- version and imports the pairs of related ids. The worker evaluates the rules.

select private.reset_access('resguardo.review_policies');
alter table resguardo.review_policies enable row level security;

grant select on resguardo.review_policies to compliance;

create policy review_policies_select_compliance on resguardo.review_policies for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.read_review_rules(),
private.read_review_policies(integer),
private.decide_review_policy(integer, boolean)
to compliance;

grant execute on function private.review_audit_log(integer) to resguardo_worker;
