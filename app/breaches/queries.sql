-- name: open_breach
-- Opens a breach assessment of the events that a filter selects and returns its id; returns null if the subject is no
-- member of staff.
select private.open_breach(
    row(
        %(actor_id)s::uuid, %(action)s::text, %(outcomes)s::text[], %(purposes)s::text[],
        coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
        coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
        coalesce(%(recording_id)s::uuid, private.recording_id_of(%(egress_id)s::text)),
        %(address)s::inet, %(session_fingerprint)s::text,
        %(since)s::timestamptz, %(until)s::timestamptz
    )::private.audit_filter,
    %(subject_id)s, %(discovered_on)s
);

-- name: recount_breach
-- Reads the affected patients again and returns the id of the assessment; returns null if it does not exist.
select private.recount_breach(%(id)s);

-- name: record_factor
-- Records a factor and returns the id of the assessment; returns null if it does not exist.
select private.record_breach_factor(%(id)s, %(factor)s, %(risk)s, %(rationale)s);

-- name: delay_notices
-- Records a delay of the notices and returns the id of the assessment; returns null if it does not exist.
select private.delay_breach_notices(%(id)s, %(statement)s, %(until_day)s);

-- name: decide_breach
-- Decides on an assessment and returns its id; returns null if it does not exist.
select private.decide_breach(%(id)s, %(decision)s, %(residents)s, %(late_reason)s);

-- name: record_notice
-- Records a notice and returns the id of the assessment; returns null if it does not exist.
select private.record_breach_notice(
    %(id)s, %(kind)s, %(method)s, %(jurisdiction)s, %(sent_on)s, %(late_reason)s
);

-- name: record_sanction
-- Records a sanction and returns its id; returns null if the member or the assessment does not exist.
select private.record_sanction(%(member_id)s, %(assessment_id)s, %(category)s, %(measure)s, %(imposed_on)s);

-- name: count_breach
-- Reads the next page of the events of an assessment; returns false at the end.
select private.count_breach(%(id)s);

-- name: fail_count
-- Stores that the affected patients could not be read.
select private.fail_breach_count(%(id)s);
