-- The versions of policies/retention.toml: compliance officers and the worker read all versions. The database owner
-- proposes a version and compliance officers decide on it, both only through SQL functions of the schema private.

select private.reset_access('resguardo.retention_policies');
alter table resguardo.retention_policies enable row level security;

grant select on resguardo.retention_policies to compliance, resguardo_worker;

create policy retention_policies_select_compliance on resguardo.retention_policies for select to compliance
using ((select private.person()) is not null);

create policy retention_policies_select_worker on resguardo.retention_policies for select to resguardo_worker
using (true);

grant execute on function
private.approve_policy(integer),
private.reject_policy(integer),
private.preview_policy(integer)
to compliance;

grant execute on function private.active_policy() to resguardo_worker;
