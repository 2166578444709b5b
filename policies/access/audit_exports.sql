-- Exports of the audit log: compliance officers see all exports. Only the officer who asked for an export gets its URL
-- and its secret, from functions that check this. Functions alone write the rows.

select private.reset_access('resguardo.audit_exports');
alter table resguardo.audit_exports enable row level security;

grant select on resguardo.audit_exports to compliance;

create policy audit_exports_select_compliance on resguardo.audit_exports for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.request_audit_export(text, private.audit_filter, integer),
private.release_audit_export_key(uuid, integer),
private.reveal_audit_export_secret(uuid, integer)
to compliance;

grant execute on function
private.begin_audit_export(uuid, text),
private.report_audit_export(uuid, integer, integer, bigint),
private.read_audit_export(uuid, integer, timestamptz, uuid, integer),
private.find_audit_places(uuid[], timestamptz[]),
private.record_audit_export_content(uuid, integer, bigint, bigint, text),
private.finish_audit_export(uuid, integer, text, bigint),
private.fail_audit_export(uuid, text),
private.ended_audit_exports(),
private.expire_audit_export(uuid)
to resguardo_worker;
