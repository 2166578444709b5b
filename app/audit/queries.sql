-- name: read_audit
select e.*
from
    private.read_audit(
        %(before_at)s, %(before_id)s, %(actor_id)s, %(action)s, %(outcome)s, %(patient_id)s, %(consultation_id)s,
        %(since)s, %(until)s, %(page_size)s
    ) as e
order by e.recorded_at desc, e.id desc;

-- name: record_rejections
select private.record_rejections(%(action)s, %(address)s, %(count)s);
