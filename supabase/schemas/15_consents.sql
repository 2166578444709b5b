-- Consents: statements of participants about being recorded. Only the newest statement of each participant is valid.

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
    ) references resguardo.participants (id, kind, consultation_id, doctor_id, patient_id) on update cascade,
    constraint consents_representative_is_whole check (
        (representative_relationship is null) = (representative_name is null)
    )
);
alter table resguardo.consents enable row level security;
create index consents_participant_idx
on resguardo.consents (participant_id, participant_kind, consultation_id, doctor_id, patient_id, recorded_at desc);
create index consents_consultation_idx on resguardo.consents (consultation_id);
create index consents_doctor_idx on resguardo.consents (doctor_id);
create index consents_patient_idx on resguardo.consents (patient_id);

-- The newest statement of each participant, and whether the participant must consent.
create view resguardo.standing_consents with (security_invoker = true) as
select
    p.id as participant_id,
    p.consultation_id,
    p.patient_id,
    p.kind,
    p.guest_role,
    p.joined_at,
    p.kind <> 'GUEST' or p.joined_at is not null as is_required,
    coalesce(c.decision = 'GIVEN', false) as is_given,
    coalesce(c.decision = 'WITHDRAWN', false) as is_withdrawn
from resguardo.participants as p
left join lateral (
    select n.decision
    from resguardo.consents as n
    where n.participant_id = p.id
    order by n.recorded_at desc, n.id desc
    limit 1
) as c on true;

-- Locks the consultation's row, after the row-level security policies have admitted the new consent. Because of this
-- lock, the second of two simultaneous consent statements sees the first one. If a participant withdrew the consent
-- in person, nobody else can record a new consent for that participant.
create function private.guard_consent() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    before resguardo.consents;
begin
    perform from resguardo.consultations as c where c.id = new.consultation_id for no key update;
    select c.* into before
    from resguardo.consents as c
    where c.participant_id = new.participant_id and c.id <> new.id
    order by c.recorded_at desc, c.id desc
    limit 1;
    if before.decision = 'WITHDRAWN' and before.source = 'SELF' and new.source = 'ATTESTED' then
        raise exception 'withdrawn_in_person' using errcode = 'RG409';
    end if;
    return null;
end
$$;

create trigger consents_guard after insert on resguardo.consents
for each row execute function private.guard_consent();

create trigger consents_announce after insert on resguardo.consents
for each row execute function private.announce_change();

-- Law 6: returns whether every required participant has a standing consent, as the row-level security policy on
-- recordings checks it.
create function private.everyone_consents(consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_own_consultation(consultation);
    return count(*) filter (where s.kind = 'PATIENT') = 1
        and count(*) filter (where s.kind = 'DOCTOR') = 1
        and bool_and(s.is_given or not s.is_required)
    from resguardo.standing_consents as s
    where s.consultation_id = consultation;
end
$$;
