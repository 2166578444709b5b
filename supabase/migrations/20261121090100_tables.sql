-- The nouns. Every table that hangs on a consultation repeats its doctor and its patient, and a composite foreign
-- key keeps the three together: policies then read one column of the row itself.

create table private.deployment (
    singleton boolean primary key default true constraint deployment_is_single check (singleton),
    name text not null constraint deployment_name_is_slug check (name ~ '^[a-z][a-z0-9-]{1,38}[a-z0-9]$'),
    created_at timestamptz not null default now()
);

create table resguardo.staff (
    user_id uuid primary key,
    role text not null constraint staff_role_is_known check (role in ('clinician', 'compliance')),
    status text not null default 'active' constraint staff_status_is_known check (status in ('active', 'suspended')),
    suspended_at timestamptz,
    suspended_by uuid,
    created_at timestamptz not null default now(),
    constraint staff_suspension_is_whole check ((status = 'suspended') = (suspended_at is not null))
);

create table resguardo.patients (
    id uuid primary key default gen_random_uuid(),
    external_id text not null constraint patients_external_id_key unique
    constraint patients_external_id_length check (length(external_id) between 1 and 128),
    user_id uuid constraint patients_user_id_key unique,
    created_at timestamptz not null default now()
);

create table resguardo.consultations (
    id uuid primary key,
    external_id text not null constraint consultations_external_id_key unique
    constraint consultations_external_id_length check (length(external_id) between 1 and 128),
    doctor_id uuid not null constraint consultations_doctor_id_fkey references resguardo.staff (user_id),
    patient_id uuid not null constraint consultations_patient_id_fkey references resguardo.patients (id),
    scheduled_at timestamptz not null,
    kind text not null constraint consultations_kind_is_slug check (kind ~ '^[a-z][a-z0-9_]{0,39}$'),
    sensitivity text not null
    constraint consultations_sensitivity_is_known check (
        sensitivity in ('ORDINARY', 'PSYCHOTHERAPY', 'SUBSTANCE_USE')
    ),
    room_name text not null constraint consultations_room_name_key unique,
    created_at timestamptz not null default now(),
    constraint consultations_people_key unique (id, doctor_id, patient_id),
    constraint consultations_room_is_own check (right(room_name, 37) = '_' || id::text)
);
create index consultations_doctor_idx on resguardo.consultations (doctor_id, scheduled_at desc, id desc);
create index consultations_patient_idx on resguardo.consultations (patient_id, scheduled_at desc, id desc);

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
    references resguardo.consultations (id, doctor_id, patient_id),
    constraint participants_guest_has_role check ((kind = 'GUEST') = (guest_role is not null)),
    constraint participants_consultation_key unique (id, kind, consultation_id, doctor_id, patient_id)
);
comment on column resguardo.participants.id is 'Also the identity in the LiveKit room: it names nobody.';
comment on column resguardo.participants.joined_at is 'When the newest join token was issued; null until the first.';
create unique index participants_one_doctor_key on resguardo.participants (consultation_id) where kind = 'DOCTOR';
create unique index participants_one_patient_key on resguardo.participants (consultation_id) where kind = 'PATIENT';
create index participants_consultation_idx on resguardo.participants (consultation_id, doctor_id, patient_id);
create index participants_doctor_idx on resguardo.participants (doctor_id);
create index participants_patient_idx on resguardo.participants (patient_id);

create table private.invitations (
    participant_id uuid primary key
    constraint invitations_participant_id_fkey references resguardo.participants (id),
    secret_sha256 bytea not null constraint invitations_secret_key unique,
    expires_at timestamptz not null,
    redeemed_at timestamptz
);

create table resguardo.consents (
    id uuid primary key,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    participant_id uuid not null,
    participant_kind text not null,
    decision text not null constraint consents_decision_is_known check (decision in ('GIVEN', 'WITHDRAWN')),
    source text not null constraint consents_source_is_known check (source in ('SELF', 'ATTESTED')),
    recorded_by uuid not null,
    representative_relationship text
    constraint consents_relationship_is_known check (
        representative_relationship in ('PARENT', 'LEGAL_GUARDIAN', 'HEALTH_CARE_PROXY', 'POWER_OF_ATTORNEY', 'OTHER')
    ),
    representative_name text
    constraint consents_representative_name_length check (length(representative_name) between 1 and 200),
    text_version text not null,
    text_language text not null,
    text_sha256 text not null constraint consents_text_sha256_is_hex check (text_sha256 ~ '^[0-9a-f]{64}$'),
    recorded_at timestamptz not null default clock_timestamp(),
    constraint consents_participant_fkey foreign key (
        participant_id, participant_kind, consultation_id, doctor_id, patient_id
    ) references resguardo.participants (id, kind, consultation_id, doctor_id, patient_id),
    constraint consents_representative_is_whole check (
        (representative_relationship is null) = (representative_name is null)
    )
);
create index consents_participant_idx
on resguardo.consents (participant_id, participant_kind, consultation_id, doctor_id, patient_id, recorded_at desc);
create index consents_consultation_idx on resguardo.consents (consultation_id);
create index consents_doctor_idx on resguardo.consents (doctor_id);
create index consents_patient_idx on resguardo.consents (patient_id);

create table resguardo.recordings (
    id uuid primary key,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    requested_by uuid not null,
    status text not null default 'REQUESTED'
    constraint recordings_status_is_known check (
        status in (
            'REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING', 'READY', 'FAILED', 'ABORTED', 'LOST'
        )
    ),
    room_name text not null,
    room_sid text,
    egress_id text constraint recordings_egress_id_key unique,
    egress_updated_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    duration_seconds double precision constraint recordings_duration_is_positive check (duration_seconds >= 0),
    size_bytes bigint constraint recordings_size_is_positive check (size_bytes > 0),
    sha256 text constraint recordings_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    truncated boolean not null default false,
    error text constraint recordings_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint recordings_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id),
    constraint recordings_ready_is_verified check (
        status <> 'READY' or (sha256 is not null and size_bytes is not null)
    )
);
comment on column resguardo.recordings.truncated is
'LiveKit ended it at a limit: it is complete as a file, not as a record.';
create unique index recordings_one_live_key on resguardo.recordings (consultation_id)
where status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING');
create index recordings_consultation_idx on resguardo.recordings (consultation_id, doctor_id, patient_id);
create index recordings_doctor_idx on resguardo.recordings (doctor_id, created_at desc, id desc);
create index recordings_patient_idx on resguardo.recordings (patient_id);
create index recordings_room_idx on resguardo.recordings (room_name);

create table private.recording_secrets (
    recording_id uuid primary key
    constraint recording_secrets_recording_id_fkey references resguardo.recordings (id),
    object_key text not null constraint recording_secrets_object_key_key unique
);

create table private.livekit_events (
    event_id text primary key,
    event text not null,
    egress_id text,
    room_name text,
    occurred_at timestamptz not null,
    received_at timestamptz not null default clock_timestamp()
);
comment on table private.livekit_events is
'The inbox: what LiveKit told us, ids only. An event is a hint to look at LiveKit''s own list.';

create table private.usage (
    person_id uuid not null,
    meter text not null,
    window_start timestamptz not null,
    used integer not null,
    constraint usage_pkey primary key (person_id, meter, window_start)
);
comment on table private.usage is 'What a person used of a quota of policies/quotas.toml, by the hour.';

-- The newest word of each participant, and who of a consultation has to give one.
create view resguardo.standing_consents with (security_invoker = true) as
select
    p.id as participant_id,
    p.consultation_id,
    p.kind,
    p.guest_role,
    p.joined_at,
    p.kind <> 'GUEST' or p.joined_at is not null as is_required,
    coalesce(c.decision = 'GIVEN', false) as is_given
from resguardo.participants as p
left join lateral (
    select n.decision
    from resguardo.consents as n
    where n.participant_id = p.id
    order by n.recorded_at desc, n.id desc
    limit 1
) as c on true;
