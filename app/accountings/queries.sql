-- name: file
-- Files a request for an accounting and returns its id, or the id of the patient's open request. Returns null if the
-- patient does not exist.
select private.file_accounting_request(
    coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
    %(received_on)s::date, %(earliest_date)s::date, %(latest_date)s::date
);

-- name: withdraw
-- Withdraws a request and returns its id; returns null if the caller may not see the request or it does not exist.
select private.withdraw_accounting_request(%(id)s);

-- name: extend
-- Extends the due day of a request and returns its id; returns null if the request does not exist.
select private.extend_accounting_request(%(id)s, %(days)s::integer, %(reason)s);

-- name: begin
-- Begins to issue the accounting of a request, and returns its range of days, the patient's data key, and the
-- accounting that was issued before, if there is one; no row if the request does not exist.
select
    a.patient_id,
    a.earliest_date,
    a.latest_date,
    a.issued,
    a.wrapped,
    a.root_key
from private.begin_accounting(%(id)s, %(offered)s, %(offered_root_key)s) as a;

-- name: read_entries
-- Returns the entries of the accounting that the transaction has begun, the latest day first. Each id is
-- a text, because the application needs texts, and there can be thousands.
select
    e.id::text as id,
    e.disclosed_on,
    e.last_disclosed_on,
    e.disclosure_count,
    e.purpose,
    e.ciphertext,
    e.is_substance_use
from private.read_accounting_entries(%(id)s) as e;

-- name: finish
-- Stores the accounting that the transaction has begun, and marks its request as FULFILLED.
select private.finish_accounting(%(id)s, %(ciphertext)s, %(sha256)s, %(entry_count)s);

-- name: overdue
-- Returns the ids of the open requests whose due day has passed, as one array.
select private.overdue_accounting_requests();
