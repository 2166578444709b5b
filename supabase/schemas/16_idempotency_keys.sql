-- Idempotency keys, with which a client repeats a mutation without repeating its effect.

create table private.idempotency_keys (
    person_id uuid not null,
    mutation text not null
    constraint idempotency_keys_mutation_is_known check (
        mutation in (
            'inviteGuest', 'recordConsent', 'withdrawConsent', 'startRecording', 'correctTranscript', 'attributeTurn',
            'addAddendum',
            'writeSessionNote', 'writePsychotherapyNote', 'askTranscript', 'exportAuditEvents',
            'recordDisclosure', 'suspendDisclosures', 'requestAmendment', 'recordAmendmentRequest',
            'openBreachAssessment',
            'shareConsultation', 'recordSharingAuthorization'
        )
    ),
    key_sha256 bytea not null constraint idempotency_keys_key_sha256_length check (length(key_sha256) = 32),
    input_mac bytea not null constraint idempotency_keys_input_mac_length check (length(input_mac) = 32),
    entity_id uuid,
    created_at timestamptz not null default now(),
    constraint idempotency_keys_pkey primary key (person_id, mutation, key_sha256)
);
comment on table private.idempotency_keys is
'The idempotency keys of the last 24 hours. The table contains hashes of the keys and of the inputs, and no text.';
comment on column private.idempotency_keys.key_sha256 is
'The SHA-256 of the key. The key itself is not stored, because a client may have put PHI into it.';
comment on column private.idempotency_keys.input_mac is
'The HMAC-SHA-256 of the input. Its secret is the idempotency key, so a reader of this table cannot try likely inputs.';
comment on column private.idempotency_keys.entity_id is
'The entity that the first call returned; null if the first call was refused.';
create index idempotency_keys_created_idx on private.idempotency_keys (created_at);

-- Claims an idempotency key of the caller for one mutation. Returns null if no call with the key has succeeded, and
-- otherwise the entity that the first call returned. If another transaction has claimed the same key, the function
-- waits for the end of that transaction. The claim is a part of the caller's transaction, so a rollback ends it.
-- Raises RG409 (idempotency_key_reused) if a call with another input has succeeded.
create function private.claim_idempotency_key(of_mutation text, of_key_sha256 bytea, of_input_mac bytea) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    claimed private.idempotency_keys;
begin
    insert into private.idempotency_keys (person_id, mutation, key_sha256, input_mac)
    values (person, of_mutation, of_key_sha256, of_input_mac)
    on conflict do nothing;
    if found then
        return null;
    end if;
    select k.* into claimed from private.idempotency_keys as k
    where k.person_id = person and k.mutation = of_mutation and k.key_sha256 = of_key_sha256
    for update;
    if claimed.entity_id is not null and claimed.input_mac <> of_input_mac then
        raise exception 'idempotency_key_reused' using errcode = 'RG409';
    end if;
    return claimed.entity_id;
end
$$;

-- Stores the entity that the first call with an idempotency key returns. The caller has claimed the key in the same
-- transaction. If the worker deleted the old key of a refused call meanwhile, the function stores the key again.
create function private.settle_idempotency_key(
    of_mutation text, of_key_sha256 bytea, of_input_mac bytea, entity uuid
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
begin
    insert into private.idempotency_keys as k (person_id, mutation, key_sha256, input_mac, entity_id)
    values (person, of_mutation, of_key_sha256, of_input_mac, entity)
    on conflict (person_id, mutation, key_sha256) do update
    set input_mac = excluded.input_mac, entity_id = excluded.entity_id, created_at = excluded.created_at
    where k.entity_id is null;
end
$$;

-- Deletes at most 1000 idempotency keys that are older than 24 hours, oldest first, with the answers to questions that
-- are kept for them. Returns how many keys it deleted.
create function private.delete_old_idempotency_keys() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    deleted integer;
begin
    with gone as (
        delete from private.idempotency_keys as k
        using (
            select o.person_id, o.mutation, o.key_sha256
            from private.idempotency_keys as o
            where o.created_at < now() - interval '24 hours'
            order by o.created_at
            limit 1000
            for update skip locked
        ) as old
        where k.person_id = old.person_id and k.mutation = old.mutation and k.key_sha256 = old.key_sha256
        returning k.mutation, k.entity_id
    ),

    answers as (
        delete from private.questions as q using gone as g
        where g.mutation = 'askTranscript' and q.id = g.entity_id
    )

    select count(*) into deleted from gone;
    return deleted;
end
$$;
