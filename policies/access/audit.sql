-- The audit log: no role may read or write the table of audit events directly. Only the functions that this file
-- names write the table of audit events. audit_search.sql names the functions through which compliance reads it.

grant execute on function private.shows_recording(uuid) to clinician, compliance;

grant execute on function
private.record_access(text, text, uuid, uuid[], uuid[], uuid[], text[], text),
private.record_lookup(text, text, text, uuid, boolean, jsonb, uuid[], uuid[], integer, text[], text)
to clinician, compliance, patient;

grant execute on function
private.record_refusal(text, text, text, text, uuid, text),
private.record_rejections(text, inet, integer)
to resguardo_api;

grant execute on function private.record_service(text, text, text, text, uuid) to resguardo_worker;
