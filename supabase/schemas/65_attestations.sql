-- Attestations of the monthly review (164.308(a)(1)(ii)(D)): an officer attests with a fresh TOTP code that the
-- activity of a month was reviewed, and what was found. The audit log seals the digest of each attestation.

create table resguardo.attestations (
    id uuid primary key default gen_random_uuid(),
    month date not null
    constraint attestations_month_is_first_day check (month = date_trunc('month', month) and month >= '2026-01-01'),
    attested_by uuid not null constraint attestations_attested_by_fkey references resguardo.staff (user_id),
    findings text[] not null
    constraint attestations_findings_are_known check (
        findings <@ array[
            'NOTHING', 'POLICY_VIOLATION', 'POSSIBLE_BREACH', 'UNUSED_ACCESS', 'FAILED_SIGN_INS', 'TECHNICAL_FAULT',
            'REVIEW_INCOMPLETE'
        ]
        and cardinality(findings) between 1 and 7
        and (cardinality(findings) = 1 or not findings @> array['NOTHING'])
    ),
    note text constraint attestations_note_length check (length(note) between 1 and 2000),
    salt bytea not null default uuid_send(gen_random_uuid()),
    document text not null,
    sha256 text not null constraint attestations_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    event_id uuid not null,
    created_at timestamptz not null default private.now(),
    constraint attestations_once_key unique (month, attested_by)
);
alter table resguardo.attestations enable row level security;
comment on column resguardo.attestations.salt is
'Random bytes in front of the note in its digest, so that nobody can guess the note from the digest.';
comment on column resguardo.attestations.document is
'The attested content, as JSON with ids, counts and digests. Its SHA-256 is the digest of attestation.seal.';
comment on column resguardo.attestations.event_id is 'The audit event attestation.seal.';
create index attestations_created_idx on resguardo.attestations (created_at desc, id desc);
create index attestations_attested_by_idx on resguardo.attestations (attested_by);

-- Returns how many events of each outcome the audit log has between two times, or null if there are too many to count.
create function private.count_outcomes(since timestamptz, until timestamptz) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(jsonb_object_agg(c.value, c.event_count), '{}')
        from (
            select e.value, sum(e.event_count) as event_count
            from private.count_audit_events(
                row(null, null, null, null, null, null, null, null, null, since, until)::private.audit_filter,
                'month', 'outcome'
            ) as e
            where e.value is not null
            group by e.value
        ) as c
    );
exception when sqlstate 'RG400' then
    return null;
end
$$;

-- Returns the counts of a month for its attestation.
create function private.count_month(of_month date) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    since constant timestamptz := of_month::timestamp at time zone 'UTC';
    until constant timestamptz := (of_month + interval '1 month')::timestamp at time zone 'UTC';
begin
    return jsonb_build_object(
        'events_by_outcome', private.count_outcomes(since, until),
        'alerts_opened', (
            select count(*) from resguardo.alerts as a where a.opened_at >= since and a.opened_at < until
        ),
        'cases_opened', (
            select count(*) from resguardo.review_cases as c where c.opened_at >= since and c.opened_at < until
        ),
        'cases_of_month_open_now', (
            select count(*) from resguardo.review_cases as c
            where c.opened_at >= since and c.opened_at < until and c.status = 'OPEN'
        ),
        'breach_assessments_opened', (
            select count(*) from resguardo.breach_assessments as a where a.created_at >= since and a.created_at < until
        ),
        'breach_assessments_open_now', (
            select count(*) from resguardo.breach_assessments as a where a.next_due_on is not null
        ),
        'sanctions_recorded', (
            select count(*) from resguardo.sanctions as s where s.created_at >= since and s.created_at < until
        )
    );
end
$$;

-- Attests the review of a month that is over, and seals it: the audit event attestation.seal has the digest of the
-- document that the officer attests. Each officer can attest a month once. A repeated call with the same findings and
-- note returns the recorded attestation. Returns its id. Raises RG403 (totp_stale) and RG409 (bad_month,
-- attested_already).
create function private.attest_review(
    of_month date, of_findings text[], of_note text, totp_max_age_seconds integer
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    made uuid := gen_random_uuid();
    new_salt constant bytea := uuid_send(gen_random_uuid());
    moment constant timestamptz := private.now();
    earlier resguardo.attestations;
    text_of_document text;
    digest_of_document text;
    sealing_event uuid;
begin
    perform private.require_recent_totp(totp_max_age_seconds);
    if of_month <> date_trunc('month', of_month) or of_month < '2026-01-01'
        or of_month + interval '1 month' > private.today()
    then
        raise exception 'bad_month' using errcode = 'RG409';
    end if;
    perform from resguardo.staff as s where s.user_id = officer for no key update;
    select a.* into earlier from resguardo.attestations as a
    where a.month = of_month and a.attested_by = officer;
    if earlier.id is not null then
        if (earlier.findings, earlier.note) is distinct from (of_findings, of_note) then
            raise exception 'attested_already' using errcode = 'RG409';
        end if;
        made := earlier.id;
    else
        text_of_document := jsonb_build_object(
            'attestation', made, 'month', to_char(of_month, 'YYYY-MM'), 'attested_by', officer,
            'attested_at', moment, 'findings', of_findings, 'counts', private.count_month(of_month),
            'note_sha256', encode(sha256(new_salt || convert_to(of_note, 'UTF8')), 'hex')
        )::text;
        digest_of_document := encode(sha256(convert_to(text_of_document, 'UTF8')), 'hex');
        sealing_event := private.write_audit_of_entities(
            'attestation.seal', 'ALLOWED', null, private.entities_of('attestation', array[made]), '{}', '{}',
            array['findings'], 1, null, digest_of_document
        );
        insert into resguardo.attestations (
            id, month, attested_by, findings, note, salt, document, sha256, event_id, created_at
        ) values (
            made, of_month, officer, of_findings, of_note, new_salt, text_of_document, digest_of_document,
            sealing_event, moment
        );
    end if;
    perform private.write_audit_later(
        'attestation.sign', null, 'attestation', made, null, null, array['attestation'], null
    );
    return made;
end
$$;

-- Returns the first day of each month that ended at least `grace_days` days ago and has no attestation. The function
-- checks the last 12 months, and no month before the month in which the first member of staff was added.
create function private.unattested_months(grace_days integer) returns date[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    today constant date := private.today();
    first_day constant date := (select (min(s.created_at) at time zone 'UTC')::date from resguardo.staff as s);
begin
    return array(
        select m.month::date
        from generate_series(
            date_trunc('month', today - interval '12 months'), today - interval '1 month', interval '1 month'
        ) as m (month)
        where m.month >= '2026-01-01' and m.month >= date_trunc('month', first_day)
            and m.month + interval '1 month' <= today - grace_days
            and not exists (select from resguardo.attestations as a where a.month = m.month::date)
        order by 1
    );
end
$$;
