-- Participants of consultations, and the one-time invitations of guests.

create table resguardo.participants (
    id uuid primary key,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    kind text not null constraint participants_kind_is_known check (kind in ('DOCTOR', 'PATIENT', 'GUEST')),
    guest_role text
    constraint participants_guest_role_is_known check (
        guest_role in ('INTERPRETER', 'COMPANION', 'REPRESENTATIVE', 'CLINICIAN', 'STUDENT')
    ),
    joined_at timestamptz,
    created_at timestamptz not null default now(),
    constraint participants_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint participants_guest_has_role check ((kind = 'GUEST') = (guest_role is not null)),
    constraint participants_consultation_key unique (id, kind, consultation_id, doctor_id, patient_id),
    constraint participants_of_consultation_key unique (id, consultation_id)
);
alter table resguardo.participants enable row level security;
comment on column resguardo.participants.id is
'Also the participant''s identity in the LiveKit room. The id reveals no name.';
comment on column resguardo.participants.joined_at is
'When the newest join token was issued; null before the first one.';
create unique index participants_one_doctor_key on resguardo.participants (consultation_id) where kind = 'DOCTOR';
create unique index participants_one_patient_key on resguardo.participants (consultation_id) where kind = 'PATIENT';
create index participants_consultation_idx on resguardo.participants (consultation_id, doctor_id, patient_id);
create index participants_doctor_idx on resguardo.participants (doctor_id, joined_at);
create index participants_patient_idx on resguardo.participants (patient_id);

create trigger participants_announce after insert or update on resguardo.participants
for each row execute function private.announce_change();

create table private.invitations (
    participant_id uuid primary key
    constraint invitations_participant_id_fkey references resguardo.participants (id),
    secret_sha256 bytea not null constraint invitations_secret_key unique,
    expires_at timestamptz not null,
    redeemed_at timestamptz
);

-- Stores the hash of a guest's one-time invitation. If the guest already has an invitation that nobody has redeemed,
-- the new secret and expiry replace those of the invitation. Raises RG409 (invitation_redeemed) if somebody has
-- redeemed the invitation, and RG403 if the guest does not belong to a consultation of the caller.
create function private.keep_invitation(guest uuid, secret_sha256 bytea, expires_at timestamptz) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    if not exists (
        select from resguardo.participants as p where p.id = guest and p.kind = 'GUEST' and p.doctor_id = doctor
    ) then
        raise exception 'participant_not_found' using errcode = 'RG404';
    end if;
    insert into private.invitations as i (participant_id, secret_sha256, expires_at)
    values (guest, keep_invitation.secret_sha256, keep_invitation.expires_at)
    on conflict on constraint invitations_pkey do update
    set secret_sha256 = excluded.secret_sha256, expires_at = excluded.expires_at
    where i.redeemed_at is null;
    if not found then
        raise exception 'invitation_redeemed' using errcode = 'RG409';
    end if;
end
$$;

-- Redeems a guest's invitation, which works once. Returns the guest and the guest's room, or no row if the invitation
-- is unknown, used or expired. The audit row names the fields that the API shows to the guest. Raises RG409
-- (consent_missing_to_join) if the room is being recorded and the guest has not consented.
create function private.redeem_invitation(secret bytea, fields text[])
returns table (participant_id uuid, kind text, guest_role text, consultation_id uuid, room_name text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    guest resguardo.participants;
begin
    update private.invitations as i set redeemed_at = clock_timestamp()
    where i.secret_sha256 = sha256(secret) and i.redeemed_at is null and i.expires_at > now();
    if not found then
        return; -- an unknown secret identifies nobody; the edge counts such attempts by address
    end if;
    select p.* into guest
    from resguardo.participants as p
    join private.invitations as i on i.participant_id = p.id
    where i.secret_sha256 = sha256(secret);
    perform from resguardo.consultations as c where c.id = guest.consultation_id for update;
    if private.has_live_recording(guest.consultation_id)
        and not (select s.is_given from resguardo.standing_consents as s where s.participant_id = guest.id)
    then
        raise exception 'consent_missing_to_join' using errcode = 'RG409';
    end if;
    update resguardo.participants as p set joined_at = clock_timestamp() where p.id = guest.id;
    perform private.write_audit(
        'guest.join', 'ALLOWED', null, 'participant', array[guest.id], array[guest.patient_id],
        array[guest.consultation_id], fields, 1, null
    );
    return query
    select guest.id, guest.kind, guest.guest_role, guest.consultation_id, c.room_name
    from resguardo.consultations as c where c.id = guest.consultation_id;
end
$$;
