-- name: lock_consultation
-- Locks the caller's own consultation until the transaction ends.
select private.lock_consultation(%(consultation_id)s);

-- name: insert_consent
-- Inserts a participant's consent or withdrawal and returns it; no row if the participant is hidden from the caller.
insert into resguardo.consents (
    id, consultation_id, doctor_id, patient_id, participant_id, participant_kind, decision, source, recorded_by,
    representative_relationship, representative_name, text_version, text_language, text_sha256
)
select
    %(id)s, p.consultation_id, p.doctor_id, p.patient_id, p.id, p.kind, %(decision)s, %(source)s, private.uid(),
    %(relationship)s, %(name)s, %(version)s, %(language)s, %(sha256)s
from resguardo.participants as p
where p.id = %(participant_id)s
returning *;

-- name: history
-- Returns all consents and withdrawals of a participant, oldest first.
select c.*
from resguardo.consents as c
where c.participant_id = %(participant_id)s
order by c.recorded_at, c.id;

-- name: participant_consents
-- Returns each participant of a consultation, and whether the participant has given a consent that is not withdrawn.
select s.participant_id, s.kind, s.guest_role, s.is_required, s.is_given, s.is_withdrawn
from resguardo.standing_consents as s
where s.consultation_id = %(consultation_id)s;

-- name: read_participant
-- Returns a participant; no row if the participant is hidden from the caller.
select p.id, p.kind, p.consultation_id, p.doctor_id, p.patient_id
from resguardo.participants as p
where p.id = %(id)s;

-- name: defer_enforcement
-- Queues the job that stops the recordings of a consultation if a consent is missing.
select private.defer_job('enforce_consent', %(consultation_id)s);
