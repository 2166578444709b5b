-- Evidence packs: what `resguardo evidence` reads for an auditor, and the audit event that records a pack.

-- Returns the next rows of a section of an evidence pack in the range of time: at most 500 rows after the row
-- (after_at, after_id), oldest first. Rows have ids, codes, times and digests, and no text that a person has written.
-- An unknown section has no rows.
create function private.read_evidence(
    section text, since timestamptz, until timestamptz, after_at timestamptz, after_id uuid
) returns table (at timestamptz, id uuid, content jsonb)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    case section
        when 'retention_policies' then
            return query
            select p.proposed_at, p.uuid, jsonb_build_object(
                'number', p.id, 'name', p.name, 'sha256', p.sha256, 'status', p.status, 'terms', p.terms,
                'proposed_at', p.proposed_at, 'activated_at', p.activated_at,
                'approved_by', (
                    select coalesce(jsonb_agg(a.officer_id order by a.approved_at), '[]')
                    from resguardo.retention_approvals as a where a.policy_id = p.id
                )
            )
            from (
                select
                    r.id, r.name, r.sha256, r.status, r.terms, r.proposed_at, r.activated_at,
                    lpad(to_hex(r.id), 32, '0')::uuid as uuid
                from resguardo.retention_policies as r
            ) as p
            where p.proposed_at < until and (p.proposed_at, p.uuid) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'review_cases' then
            return query
            select c.opened_at, c.id, jsonb_build_object(
                'id', c.id, 'rule', c.rule, 'subject', c.subject_id, 'status', c.status, 'opened_at', c.opened_at,
                'event_count', c.event_count, 'disposition', c.disposition, 'decided_by', c.decided_by,
                'decided_at', c.decided_at
            )
            from resguardo.review_cases as c
            where c.opened_at >= since and c.opened_at < until and (c.opened_at, c.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'attestations' then
            return query
            select a.created_at, a.id, jsonb_build_object(
                'id', a.id, 'month', to_char(a.month, 'YYYY-MM'), 'attested_by', a.attested_by,
                'findings', a.findings, 'created_at', a.created_at, 'sha256', a.sha256, 'event_id', a.event_id,
                'document', a.document
            )
            from resguardo.attestations as a
            where a.created_at >= since and a.created_at < until and (a.created_at, a.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'breach_assessments' then
            return query
            select a.created_at, a.id, jsonb_build_object(
                'id', a.id, 'case', a.case_id, 'subject', a.subject_id, 'status', a.status,
                'discovered_on', a.discovered_on, 'due_on', a.due_on, 'next_due_on', a.next_due_on,
                'delayed_until', a.delayed_until, 'patient_count', a.patient_count,
                'recording_count', a.recording_count, 'decision', a.decision, 'decided_by', a.decided_by,
                'decided_at', a.decided_at, 'late_reason', a.late_reason, 'created_at', a.created_at,
                'closed_at', a.closed_at, 'sha256', a.sha256, 'event_id', a.event_id, 'document', a.document,
                'notices', (
                    select coalesce(jsonb_agg(jsonb_build_object(
                        'kind', n.kind, 'method', n.method, 'jurisdiction', n.jurisdiction, 'sent_on', n.sent_on,
                        'late_reason', n.late_reason, 'recorded_by', n.recorded_by, 'recorded_at', n.recorded_at
                    ) order by n.sent_on, n.recorded_at), '[]')
                    from resguardo.breach_notices as n where n.assessment_id = a.id
                ),
                'needed_notices', (
                    select coalesce(jsonb_agg(to_jsonb(n)), '[]') from private.needed_breach_notices(a) as n
                )
            )
            from resguardo.breach_assessments as a
            where a.created_at >= since and a.created_at < until and (a.created_at, a.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'sanctions' then
            return query
            select s.created_at, s.id, jsonb_build_object(
                'id', s.id, 'assessment', s.assessment_id, 'member', s.staff_id, 'category', s.category,
                'measure', s.measure, 'imposed_on', s.imposed_on, 'recorded_by', s.recorded_by
            )
            from resguardo.sanctions as s
            where s.created_at >= since and s.created_at < until and (s.created_at, s.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'emergency_accesses' then
            return query
            select e.began_at, e.id, jsonb_build_object(
                'id', e.id, 'clinician', e.clinician_id, 'patient', e.patient_id, 'reason', e.reason,
                'began_at', e.began_at, 'ends_at', e.ends_at, 'ended_at', e.ended_at
            )
            from resguardo.emergency_accesses as e
            where e.began_at >= since and e.began_at < until and (e.began_at, e.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'alerts' then
            return query
            select a.opened_at, a.id, jsonb_build_object(
                'id', a.id, 'kind', a.kind, 'opened_at', a.opened_at, 'seen_at', a.seen_at, 'closed_at', a.closed_at,
                'entity_type', a.entity_type, 'entity_count', a.entity_count
            )
            from resguardo.alerts as a
            where a.opened_at >= since and a.opened_at < until and (a.opened_at, a.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'staff' then
            return query
            select s.created_at, s.id, jsonb_build_object(
                'user', s.user_id, 'role', s.role, 'status', s.status, 'since', s.created_at,
                'suspended_at', s.suspended_at
            )
            from resguardo.staff as s
            where s.created_at < until and (s.created_at, s.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'officer_proposals' then
            return query
            select p.proposed_at, p.id, jsonb_build_object(
                'id', p.id, 'kind', p.kind, 'member', p.member_id, 'reason', p.reason, 'status', p.status,
                'proposed_by', p.proposed_by, 'proposed_at', p.proposed_at, 'decided_by', p.decided_by,
                'decided_at', p.decided_at
            )
            from resguardo.officer_proposals as p
            where p.proposed_at >= since and p.proposed_at < until and (p.proposed_at, p.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'disclosures' then
            return query
            select d.recorded_at, d.id, jsonb_build_object(
                'id', d.id, 'patient', d.patient_id, 'disclosed_on', d.disclosed_on,
                'last_disclosed_on', d.last_disclosed_on, 'count', d.disclosure_count, 'purpose', d.purpose,
                'is_accounted', d.is_accounted, 'recorded_by', d.recorded_by, 'recorded_at', d.recorded_at
            )
            from resguardo.disclosures as d
            where d.recorded_at >= since and d.recorded_at < until and (d.recorded_at, d.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'access_reviews' then
            return query
            select r.started_at, r.id, jsonb_build_object(
                'id', r.id, 'status', r.status, 'started_by', r.started_by, 'started_at', r.started_at,
                'decided_by', r.decided_by, 'decided_at', r.decided_at, 'finished_at', r.finished_at,
                'sha256', r.sha256,
                'entries', (
                    select coalesce(jsonb_agg(jsonb_build_object(
                        'member', e.member_id, 'role', e.role, 'role_given_at', e.role_given_at,
                        'last_used_at', e.last_used_at, 'is_unused', e.is_unused, 'decision', e.decision,
                        'outcome', e.outcome
                    ) order by e.member_id), '[]')
                    from resguardo.access_review_entries as e where e.review_id = r.id
                )
            )
            from resguardo.access_reviews as r
            where r.started_at >= since and r.started_at < until and (r.started_at, r.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'vendor_agreements' then
            return query
            select v.recorded_at, v.id, jsonb_build_object(
                'id', v.id, 'service', v.service, 'vendor', v.vendor, 'basis', v.basis, 'version', v.version,
                'signed_on', v.signed_on, 'expires_on', v.expires_on, 'recorded_by', v.recorded_by,
                'recorded_at', v.recorded_at
            )
            from resguardo.vendor_agreements as v
            where v.recorded_at < until and (v.recorded_at, v.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'review_policies' then
            return query
            select p.proposed_at, p.uuid, jsonb_build_object(
                'number', p.id, 'name', p.name, 'sha256', p.sha256, 'status', p.status, 'rules', p.rules,
                'proposed_at', p.proposed_at, 'activated_at', p.activated_at
            )
            from (
                select
                    r.id, r.name, r.sha256, r.status, r.rules, r.proposed_at, r.activated_at,
                    lpad(to_hex(r.id), 32, '0')::uuid as uuid
                from resguardo.review_policies as r
            ) as p
            where p.proposed_at < until and (p.proposed_at, p.uuid) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'certificates' then
            return query
            select c.kept_at, c.uuid, jsonb_build_object(
                'recording', c.recording_id, 'number', c.number, 'sha256', c.sha256, 'kept_at', c.kept_at,
                'document', c.document
            )
            from (
                select
                    k.recording_id, k.number, k.sha256, k.kept_at, k.document,
                    md5(k.recording_id || ' ' || k.number)::uuid as uuid
                from resguardo.certificates as k
                where k.kept_at >= greatest(since, after_at) and k.kept_at < until
            ) as c
            where (c.kept_at, c.uuid) > (after_at, after_id)
            order by 1, 2 limit 500;
        else
            return;
    end case;
end
$$;

-- Returns whether this version has a section. Each section has the name of the table that contains its rows.
create function private.has_evidence(section text) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return to_regclass('resguardo.' || quote_ident(section)) is not null;
end
$$;

-- Returns every kind of audit event with the time of its newest event before `until`, and the time of its newest event
-- in the range of time. A time is null if there is no such event.
create function private.read_coverage(since timestamptz, until timestamptz)
returns table (action text, operation text, last_seen_at timestamptz, last_seen_in_range_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select a.action, a.operation, e.recorded_at, case when e.recorded_at >= since then e.recorded_at end
    from private.audit_actions as a
    left join lateral (
        select v.recorded_at from audit.events as v
        where v.action = a.action and v.recorded_at < until
        order by v.recorded_at desc, v.id desc limit 1
    ) as e on true
    order by a.action;
end
$$;

-- Records an evidence pack: writes the audit event evidence.export with the digest of the pack's manifest, and returns
-- the id of the event.
create function private.record_evidence(of_pack uuid, of_sha256 text, files integer, bytes bigint) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return private.write_audit_of_entities(
        'evidence.export', 'ALLOWED', null, private.entities_of('evidence_pack', array[of_pack]), '{}', '{}',
        array['document'], files, bytes, of_sha256
    );
end
$$;
