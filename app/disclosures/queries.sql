-- name: find_disclosures
-- Returns the ids of a page of disclosures that the person may see, the latest day first, and one more. If the person
-- asked by patient, each row has the patient's id, and there is always a row.
select
    n.id,
    n.disclosed_on,
    p.patient_id
from (
    select
        coalesce(
            %(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)
        ) as patient_id
) as p
left join lateral (
    select
        d.id,
        d.disclosed_on
    from resguardo.disclosures as d
    where
        (p.patient_id is null or d.patient_id = p.patient_id)
        and (%(purposes)s::text[] is null or d.purpose = any(%(purposes)s::text[]))
        and (
            not %(only_accounted)s::boolean
            or (
                d.is_accounted
                and not exists (
                    select from resguardo.disclosure_suspensions as s
                    where
                        s.patient_id = d.patient_id
                        and s.agency = d.purpose
                        and s.lifted_at is null
                        and s.ends_at > clock_timestamp()
                )
            )
        )
        and (%(since)s::date is null or coalesce(d.last_disclosed_on, d.disclosed_on) >= %(since)s::date)
        and (%(until)s::date is null or d.disclosed_on <= %(until)s::date)
        and (
            %(before_at)s::timestamptz is null
            or (d.disclosed_on, d.id) < ((%(before_at)s::timestamptz at time zone 'UTC')::date, %(before_id)s::uuid)
        )
    order by d.disclosed_on desc, d.id desc
    limit (select %(page_size)s::bigint)
) as n on true
order by n.disclosed_on desc, n.id desc;

-- name: record_disclosure
-- Records a disclosure, and returns its id, its patient and the patient's data key; no row if the patient or the
-- consultation does not exist.
select
    d.disclosure_id,
    d.patient_id,
    d.wrapped,
    d.root_key
from
    private.record_disclosure(
        coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
        coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
        %(disclosed_on)s, %(last_disclosed_on)s, %(count)s, %(purpose)s, %(signed_on)s, %(expires_on)s, %(offered)s,
        %(offered_root_key)s
    ) as d;

-- name: suspend_disclosures
-- Suspends the patient's right to see the disclosures to an agency, and returns the id of the suspension, its patient
-- and the patient's data key; no row if the patient does not exist.
select
    s.suspension_id,
    s.patient_id,
    s.wrapped,
    s.root_key
from
    private.suspend_disclosures(
        coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
        %(agency)s, %(is_written)s, %(ends_at)s, %(offered)s, %(offered_root_key)s
    ) as s;

-- name: lift_suspension
-- Lifts a suspension and returns its id; returns null if it does not exist.
select private.lift_disclosure_suspension(%(id)s);

-- name: find_suspensions
-- Returns the ids of a page of suspensions that the person may see, newest first, and one more. If the person asked by
-- patient, each row has the patient's id, and there is always a row.
select
    n.id,
    n.starts_at,
    p.patient_id
from (
    select
        coalesce(
            %(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)
        ) as patient_id
) as p
left join lateral (
    select
        s.id,
        s.starts_at
    from resguardo.disclosure_suspensions as s
    where
        (p.patient_id is null or s.patient_id = p.patient_id)
        and (
            %(before_at)s::timestamptz is null
            or (s.starts_at, s.id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
        )
    order by s.starts_at desc, s.id desc
    limit (select %(page_size)s::bigint)
) as n on true
order by n.starts_at desc, n.id desc;

-- name: store_text
-- Stores the encrypted text of a row that this transaction has inserted.
select private.store_patient_text(%(id)s, %(patient_id)s, %(ciphertext)s);

-- name: read_released_copies
-- Returns a page of the audit events by which information left the system, newest first, and one more.
select e.*
from
    private.read_released_copies(
        coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
        %(since)s::timestamptz, %(until)s::timestamptz, %(before_at)s, %(before_id)s, %(page_size)s, %(fields)s
    ) as e
order by e.recorded_at desc, e.id desc;
