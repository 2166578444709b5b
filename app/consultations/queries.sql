-- name: insert_consultation
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

-- name: insert_participant
insert into resguardo.participants (id, consultation_id, doctor_id, patient_id, kind, guest_role)
select %(id)s, c.id, c.doctor_id, c.patient_id, %(kind)s, %(guest_role)s
from resguardo.consultations as c
where c.id = %(consultation_id)s;

-- name: mark_joined
update resguardo.participants set joined_at = clock_timestamp() where id = %(id)s;

-- name: read_consultation
select c.* from resguardo.consultations as c where c.id = %(id)s or c.external_id = %(external_id)s;

-- name: list_consultations
select c.* from resguardo.consultations as c;

-- name: consultation_details
select p.*, m.participants, k.consents
from page as p
left join lateral (
    select json_agg(y order by y.kind, y.id) as participants
    from (
        select n.id, n.kind, n.guest_role, n.joined_at, s.is_given
        from resguardo.participants as n
        join resguardo.standing_consents as s on s.participant_id = n.id
        where n.consultation_id = p.id
    ) as y
) as m on %(with_participants)s
left join lateral (
    select json_agg(y order by y.recorded_at, y.id) as consents
    from (select n.* from resguardo.consents as n where n.consultation_id = p.id) as y
) as k on %(with_consents)s;

-- name: record_access
select
    private.record_access(
        %(action)s, %(entity_type)s, null, array[%(entity_id)s::uuid], array[%(patient_id)s::uuid],
        array[%(consultation_id)s::uuid], '{}', null
    );

-- name: joined_rooms
select c.id, c.patient_id, c.room_name
from resguardo.consultations as c
where
    c.id in (
        select p.consultation_id
        from resguardo.participants as p
        where p.joined_at > now() - interval '12 hours'
    )
order by c.scheduled_at desc, c.id desc
limit 100;

-- name: has_live_recording
select private.has_live_recording(%(id)s);

-- name: register_patient
select private.register_patient(%(external_id)s, %(user_id)s, %(birth_date)s);

-- name: keep_invitation
with dated as materialized (
    select clock_timestamp() + %(lifetime)s::interval as expires_at
)

select d.expires_at, private.keep_invitation(%(participant_id)s, sha256(%(secret)s::bytea), d.expires_at) as kept
from dated as d;

-- name: redeem_invitation
select r.participant_id, r.consultation_id, r.room_name from private.redeem_invitation(%(secret)s) as r;
