-- The cost ledger and the budget for language models: only the functions of the schema `private` read and write them.

grant execute on function
private.count_usage(uuid, text, text, text, text, bigint),
private.hold_language_work(uuid, text),
private.resume_language_work()
to resguardo_worker;
grant execute on function
private.count_tokens(uuid, text, text, bigint, bigint, bigint)
to clinician, resguardo_worker;
grant execute on function private.language_budget_left(uuid) to resguardo_worker;
grant execute on function private.require_language_budget() to clinician;
grant execute on function
private.report_costs(date, date, text),
private.lift_language_budget(uuid)
to compliance;
