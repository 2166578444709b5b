-- name: find
-- Returns the ids of a page of amendments that the person may see, newest first, and one more. If the person asked by
-- consultation, each row has the consultation's id, and there is always a row.
select
    n.id,
    n.created_at,
    p.consultation_id
from (
    select
        coalesce(
            %(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)
        ) as consultation_id
) as p
left join lateral (
    select
        a.id,
        a.created_at
    from resguardo.amendments as a
    where
        (p.consultation_id is null or a.consultation_id = p.consultation_id)
        and (
            %(before_at)s::timestamptz is null
            or (a.created_at, a.id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
        )
    order by a.created_at desc, a.id desc
    limit (select %(page_size)s::bigint)
) as n on true
order by n.created_at desc, n.id desc;

-- name: request
-- Files a request for an amendment, and returns its first statement and the patient's data key; no row if the person
-- may not see the consultation or the recording, or it does not exist.
select
    s.amendment_id,
    s.statement_id,
    s.patient_id,
    s.wrapped,
    s.root_key
from
    private.request_amendment(
        coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
        %(recording_id)s::uuid, %(part)s, %(received_on)s::date, %(is_by_representative)s, %(offered)s,
        %(offered_root_key)s
    ) as s;

-- name: decide
-- Accepts or denies an amendment, and returns the statement of the decision and the patient's data key; no row if the
-- amendment does not exist.
select
    s.amendment_id,
    s.statement_id,
    s.patient_id,
    s.wrapped,
    s.root_key
from private.decide_amendment(%(id)s, %(ground)s, %(offered)s, %(offered_root_key)s) as s;

-- name: answer
-- Adds a statement of disagreement or a rebuttal, and returns it and the patient's data key; no row if the person may
-- not see the amendment or it does not exist.
select
    s.amendment_id,
    s.statement_id,
    s.patient_id,
    s.wrapped,
    s.root_key
from private.answer_amendment(%(id)s, %(kind)s, %(offered)s, %(offered_root_key)s) as s;

-- name: store_text
-- Stores the encrypted text of a statement that this transaction has added.
select private.store_amendment_text(%(statement_id)s, %(ciphertext)s);

-- name: extend
-- Extends the due day of an amendment and returns its id; returns null if it does not exist.
select private.extend_amendment(%(id)s, %(days)s::integer, %(reason)s);

-- name: include
-- Notes that the request and the denial go with future disclosures, and returns the id of the amendment; returns null
-- if the person may not see it or it does not exist.
select private.include_amendment(%(id)s);
