-- name: insert_consultation
-- Inserts a consultation and returns its id; no row if the external id is taken.
insert into resguardo.consultations (
    id, external_id, doctor_id, patient_id, scheduled_at, kind, sensitivity, room_name, auto_record,
    separate_speakers, transcribe, language
) values (
    %(id)s,
    %(external_id)s,
    coalesce(%(doctor_id)s, private.uid()),
    %(patient_id)s,
    %(scheduled_at)s,
    %(kind)s,
    %(sensitivity)s,
    %(room_name)s,
    %(auto_record)s,
    %(separate_speakers)s,
    %(transcribe)s,
    %(language)s
)
on conflict (external_id) do nothing
returning id;

-- name: begin_label
-- Begins to change the label of a consultation and returns it with the patient's data key; no row if it is hidden.
select b.patient_id, b.wrapped, b.root_key, b.ciphertext
from private.begin_label(%(id)s, %(wrapped)s::bytea, %(root_key_id)s::text) as b;

-- name: store_label
-- Stores the encrypted label of a consultation, or removes the label.
select private.store_label(%(id)s, %(ciphertext)s::bytea);

-- name: insert_participant
-- Inserts a participant of a consultation that the caller sees.
insert into resguardo.participants (id, consultation_id, doctor_id, patient_id, kind, guest_role)
select %(id)s, c.id, c.doctor_id, c.patient_id, %(kind)s, %(guest_role)s
from resguardo.consultations as c
where c.id = %(consultation_id)s;

-- name: mark_joined
-- Stores the current time as the time at which a participant joined, and returns it.
update resguardo.participants set joined_at = clock_timestamp() where id = %(id)s returning joined_at;

-- name: read_consultation
-- Returns the consultation with this id; no row if it is hidden from the caller.
select c.* from resguardo.consultations as c where c.id = %(id)s;

-- name: find_consultation
-- Returns the calling doctor's consultation with this external id; no row if it belongs to another doctor.
select c.* from resguardo.consultations as c
where c.external_id = %(external_id)s and c.doctor_id = (select private.doctor());

-- name: find_participant
-- Returns the participant of this kind in a consultation; no row if the consultation is hidden from the caller.
select s.participant_id, s.is_given
from resguardo.standing_consents as s
where s.consultation_id = %(consultation_id)s and s.kind = %(kind)s;

-- name: count_page
-- Counts one page against the caller's quota.
select private.count_page();

-- name: list_joined_rooms
-- Returns the newest consultations of the calling doctor, at most 100, that somebody has joined within the last 12
-- hours.
select c.id, c.room_name
from resguardo.consultations as c
where
    c.doctor_id = (select private.doctor())
    and c.id in (
        select p.consultation_id
        from resguardo.participants as p
        where p.doctor_id = (select private.doctor()) and p.joined_at > now() - interval '12 hours'
    )
order by c.scheduled_at desc, c.id desc
limit 100;

-- name: has_live_recording
-- Returns whether a recording of the caller's own consultation is requested or in progress.
select private.has_live_recording(%(id)s);

-- name: register_patient
-- Returns the id of the patient with this external id, and creates the patient if none exists.
select private.register_patient(%(external_id)s, %(user_id)s, %(birth_date)s);

-- name: store_invitation
-- Stores the hash of a guest's invitation and returns when the invitation expires.
with dated as materialized (
    select clock_timestamp() + %(lifetime)s::interval as expires_at
)

select d.expires_at, private.keep_invitation(%(participant_id)s, sha256(%(secret)s::bytea), d.expires_at) as kept
from dated as d;

-- name: redeem_invitation
-- Redeems an invitation and returns the guest and the room; no row if it is unknown, used or expired.
select r.participant_id as id, r.kind, r.guest_role, r.consultation_id, r.room_name
from private.redeem_invitation(%(secret)s, %(fields)s) as r;
