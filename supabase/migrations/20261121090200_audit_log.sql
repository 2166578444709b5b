-- Who did what: one insert-only table, a partition a year made for twenty years ahead, since a missing partition would
-- stop every insert and with it every read.

create table audit.events (
    id uuid not null default gen_random_uuid(),
    recorded_at timestamptz not null default clock_timestamp(),
    actor_id uuid,
    actor_role text not null,
    session_id uuid,
    aal text,
    action text not null,
    operation text not null constraint events_operation_is_known check (operation in ('C', 'R', 'U', 'D', 'E')),
    outcome text not null
    constraint events_outcome_is_known check (outcome in ('ALLOWED', 'DENIED', 'ABSENT', 'FAILED')),
    reason text,
    purpose text not null
    constraint events_purpose_is_known check (
        purpose in ('TREATMENT', 'PAYMENT', 'OPERATIONS', 'PATIENT_REQUEST', 'LEGAL')
    ),
    basis text not null,
    entity_type text not null,
    entity_ids uuid[] not null default '{}',
    patient_ids uuid[] not null default '{}',
    consultation_ids uuid[] not null default '{}',
    fields text[] not null default '{}',
    row_count integer not null default 0,
    byte_count bigint,
    request_id uuid,
    address inet,
    policy_version text not null,
    constraint events_pkey primary key (id, recorded_at)
) partition by range (recorded_at);

comment on table audit.events is
'Insert only. A list is one row that names every patient it touched; ids and field names, never values.';
comment on column audit.events.recorded_at is
'The database''s clock at the insert, not at the start of the transaction.';
comment on column audit.events.operation is 'Create, read, update, delete, execute: AuditEvent.action of FHIR R4.';
comment on column audit.events.basis is 'Why it was allowed, or on what ground it was asked.';

create index events_recorded_idx on audit.events (recorded_at desc, id desc);
create index events_actor_idx on audit.events (actor_id, recorded_at desc);
create index events_patients_idx on audit.events using gin (patient_ids);
create index events_consultations_idx on audit.events using gin (consultation_ids);

create function private.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'the audit log is insert only' using errcode = 'RG405';
end
$$;

create trigger events_refuse_change before update or delete on audit.events
for each row execute function private.refuse_change();

-- TRUNCATE triggers are not inherited by partitions, and row triggers become ENABLE ALWAYS one table at a time.
do $$
declare
    partition text;
begin
    for year in 2026..2046 loop
        partition := format('events_%s', year);
        execute format(
            'create table audit.%I partition of audit.events for values from (%L) to (%L)',
            partition, format('%s-01-01 00:00:00+00', year), format('%s-01-01 00:00:00+00', year + 1)
        );
        execute format(
            'create trigger events_refuse_truncate before truncate on audit.%I '
            'for each statement execute function private.refuse_change()',
            partition
        );
        execute format('alter table audit.%I enable always trigger events_refuse_change', partition);
        execute format('alter table audit.%I enable always trigger events_refuse_truncate', partition);
    end loop;
end
$$;

create trigger events_refuse_truncate before truncate on audit.events
for each statement execute function private.refuse_change();
alter table audit.events enable always trigger events_refuse_change;
alter table audit.events enable always trigger events_refuse_truncate;
