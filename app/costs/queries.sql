-- name: report_costs
-- Writes the audit row and returns the quantities of the cost ledger by group, kind and unit.
select r.month, r.doctor_id, r.vendor, r.model, r.kind, r.unit, r.quantity::bigint as quantity
from private.report_costs(%(since)s, %(until)s, %(group_by)s) as r;

-- name: record_access_to_estimate
-- Writes the audit row of an estimate, which reads no data.
select private.record_access('cost.estimate', 'cost', null, '{}', '{}', '{}', '{}', 'pages');

-- name: lift_language_budget
-- Lifts the budget of a doctor for today, and returns the budget and its use. Returns no row without such a doctor.
select l.day, l.tokens_per_day, l.used_tokens
from private.lift_language_budget(%(doctor_id)s) as l;

-- name: resume_language_work
-- Queues the held jobs of the doctors whose budget permits a request, and returns their number.
select private.resume_language_work();
