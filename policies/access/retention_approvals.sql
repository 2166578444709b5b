-- The approvals of retention policies: compliance officers read the approvals, and only private.approve_policy()
-- writes them.

select private.reset_access('resguardo.retention_approvals');
alter table resguardo.retention_approvals enable row level security;

grant select on resguardo.retention_approvals to compliance;

create policy retention_approvals_select_compliance on resguardo.retention_approvals for select to compliance
using ((select private.person()) is not null);
