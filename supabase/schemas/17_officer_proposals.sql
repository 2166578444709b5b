-- Proposals of compliance officers that a second officer decides: to reset the second factor of a member of staff, to
-- reinstate a suspended member, or to reassign the consultations of a doctor who left (71_reassignments.sql).
--
-- An approval changes the database at once, in the transaction of the approval. Supabase Auth is changed afterwards by
-- a job of the worker, which marks the proposal as DONE or FAILED.

create table resguardo.officer_proposals (
    id uuid primary key default gen_random_uuid(),
    kind text not null
    constraint officer_proposals_kind_is_known check (
        kind in ('RESET_SECOND_FACTOR', 'REINSTATE', 'REASSIGN_CONSULTATIONS')
    ),
    member_id uuid not null constraint officer_proposals_member_id_fkey references resguardo.staff (user_id),
    recipient_id uuid constraint officer_proposals_recipient_id_fkey references resguardo.staff (user_id),
    reason text not null,
    status text not null default 'PROPOSED'
    constraint officer_proposals_status_is_known check (
        status in ('PROPOSED', 'APPROVED', 'DONE', 'FAILED', 'REJECTED', 'WITHDRAWN')
    ),
    error text constraint officer_proposals_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    proposed_by uuid not null constraint officer_proposals_proposed_by_fkey references resguardo.staff (user_id),
    proposed_at timestamptz not null default private.now(),
    decided_by uuid constraint officer_proposals_decided_by_fkey references resguardo.staff (user_id),
    decided_at timestamptz,
    finished_at timestamptz,
    factor_ids uuid[],
    moved_count integer,
    kept_for_consent_count integer,
    kept_as_sensitive_count integer,
    waiting_count integer,
    place_at timestamptz,
    place_id uuid,
    constraint officer_proposals_recipient_has_its_kind check (
        (kind = 'REASSIGN_CONSULTATIONS') = (recipient_id is not null) and recipient_id <> member_id
    ),
    constraint officer_proposals_reason_is_known check (
        (kind <> 'RESET_SECOND_FACTOR' or reason in ('DEVICE_LOST', 'DEVICE_REPLACED', 'DEVICE_COMPROMISED'))
        and (
            kind <> 'REINSTATE' or reason in ('SUSPENDED_BY_MISTAKE', 'RETURNED_TO_WORK', 'INVESTIGATION_CLOSED')
        )
        and (kind <> 'REASSIGN_CONSULTATIONS' or reason in ('LEFT_PRACTICE', 'RETIRED', 'LONG_ABSENCE', 'DIED'))
    ),
    constraint officer_proposals_decision_is_whole check (
        (status in ('PROPOSED', 'WITHDRAWN') or decided_by is not null) and (decided_by is null) = (decided_at is null)
    ),
    constraint officer_proposals_needs_a_second_officer check (
        status not in ('APPROVED', 'DONE', 'FAILED') or (decided_by <> proposed_by and decided_by <> member_id)
    ),
    constraint officer_proposals_error_has_its_status check (
        (status in ('FAILED', 'WITHDRAWN')) = (error is not null)
    ),
    constraint officer_proposals_end_is_whole check ((status in ('DONE', 'FAILED')) = (finished_at is not null))
);
alter table resguardo.officer_proposals enable row level security;
comment on table resguardo.officer_proposals is
'Changes that one compliance officer proposes and another compliance officer approves or rejects.';
comment on column resguardo.officer_proposals.member_id is 'The member of staff whom the proposal concerns.';
comment on column resguardo.officer_proposals.error is
'Why the worker could not carry out the proposal (FAILED), or why the proposal ended undecided (WITHDRAWN).';
comment on column resguardo.officer_proposals.factor_ids is
'The second factors that the worker found at its first attempt. Later attempts remove only these factors.';
comment on column resguardo.officer_proposals.moved_count is
'The number of reassigned consultations. This count and the next three are null until the worker begins.';
comment on column resguardo.officer_proposals.kept_for_consent_count is
'The number of consultations not moved because a participant has not consented to a text that names sharing.';
comment on column resguardo.officer_proposals.kept_as_sensitive_count is
'The number of consultations not moved because they are sensitive or have psychotherapy notes.';
comment on column resguardo.officer_proposals.waiting_count is
'The number of consultations that the worker must check again because one of their recordings is not finished.';
comment on column resguardo.officer_proposals.place_at is
'The time of the last consultation that the worker checked. The next batch begins after (place_at, place_id).';
create unique index officer_proposals_one_open_key on resguardo.officer_proposals (kind, member_id)
where status in ('PROPOSED', 'APPROVED');
create index officer_proposals_member_idx on resguardo.officer_proposals (member_id);
create index officer_proposals_recipient_idx on resguardo.officer_proposals (recipient_id);
create index officer_proposals_proposed_by_idx on resguardo.officer_proposals (proposed_by);
create index officer_proposals_decided_by_idx on resguardo.officer_proposals (decided_by);
create index officer_proposals_proposed_idx on resguardo.officer_proposals (proposed_at desc, id desc);
create index officer_proposals_status_idx on resguardo.officer_proposals (status, proposed_at desc, id desc);

-- Writes the audit row about one step of a proposal. The audit row names the proposal and the members of staff whom it
-- concerns.
create function private.audit_proposal(
    action text, outcome text, reason text, about resguardo.officer_proposals, fields text[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        action, outcome, reason,
        private.entities_of('officer_proposal', array[about.id])
        || private.entities_of('staff', array_remove(array[about.member_id, about.recipient_id], null)),
        '{}', '{}', fields, (outcome = 'ALLOWED')::integer, null
    );
end
$$;

-- Returns whether a person is an active compliance officer with a login that is neither banned nor deleted.
create function private.is_active_officer(person uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from resguardo.staff as s
        inner join auth.users as u on u.id = s.user_id
        where s.user_id = person and s.status = 'active' and s.role = 'compliance'
            and u.deleted_at is null and (u.banned_until is null or u.banned_until <= now())
    );
end
$$;

-- Returns whether another officer invited the person less than 30 days ago. Such an officer cannot take part in a
-- decision of two officers, because one person could invite a second login of their own. The limit does not apply to
-- officers whom the database owner added.
create function private.is_new_officer(person uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from private.staff_invitations as i
        where i.user_id = person and i.status = 'SENT' and i.invited_by is not null
            and i.settled_at > private.now() - interval '30 days'
    );
end
$$;

-- Returns why a proposal of this kind cannot be carried out now, or null if it can.
create function private.proposal_objection(of_kind text, of_member uuid, of_recipient uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    member resguardo.staff;
    login record;
begin
    select s.* into member from resguardo.staff as s where s.user_id = of_member;
    select u.id, u.banned_until > now() as is_banned into login
    from auth.users as u where u.id = of_member and u.deleted_at is null;
    return case of_kind
        when 'RESET_SECOND_FACTOR' then case when login.id is null then 'staff_login_gone' end
        when 'REINSTATE' then case
            when login.id is null then 'staff_login_gone'
            when member.suspended_by = '00000000-0000-0000-0000-000000000000'
                or (member.origin = 'MAPPED' and member.mapped_role is null)
                then 'not_in_role_table'
            when member.status = 'active' and login.is_banned is not true then 'staff_not_suspended'
        end
        when 'REASSIGN_CONSULTATIONS' then private.reassignment_objection(of_member, of_recipient)
    end;
end
$$;

-- Proposes a change about a member of staff, which another compliance officer must approve. Returns no row, and writes
-- the audit row, if the member or the recipient is no member of staff. If this officer has proposed the same already,
-- the function returns that proposal. Raises RG403 (totp_stale), RG409 (proposal_about_you, proposal_open_already,
-- officer_too_new, and the objection of private.proposal_objection).
create function private.propose(
    of_kind text, of_member uuid, of_recipient uuid, of_reason text, totp_max_age_seconds integer
) returns setof resguardo.officer_proposals
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    unknown uuid;
    objection text;
    made resguardo.officer_proposals;
begin
    perform private.require_recent_totp(totp_max_age_seconds);
    perform from resguardo.staff as s
    where s.user_id in (officer, of_member, of_recipient) order by s.user_id for no key update;
    perform private.person();
    select n.user_id into unknown
    from unnest(array[of_member, of_recipient]) as n (user_id)
    where n.user_id is not null and not exists (select from resguardo.staff as s where s.user_id = n.user_id);
    if unknown is not null then
        perform private.write_audit(
            'proposal.make', 'ABSENT', 'not_found', 'staff', array[unknown], '{}', '{}', '{}', 0, null
        );
        return;
    elsif officer in (of_member, of_recipient) then
        raise exception 'proposal_about_you' using errcode = 'RG409';
    elsif private.is_new_officer(officer) then
        raise exception 'officer_too_new' using errcode = 'RG409';
    end if;
    select p.* into made from resguardo.officer_proposals as p
    where p.kind = of_kind and p.member_id = of_member and p.status in ('PROPOSED', 'APPROVED');
    if made.id is not null and (
        made.proposed_by <> officer or made.reason <> of_reason or made.recipient_id is distinct from of_recipient
    ) then
        raise exception 'proposal_open_already' using errcode = 'RG409';
    elsif made.id is null then
        objection := private.proposal_objection(of_kind, of_member, of_recipient);
        if objection is not null then
            raise exception '%', objection using errcode = 'RG409';
        end if;
        insert into resguardo.officer_proposals as p (kind, member_id, recipient_id, reason, proposed_by)
        values (of_kind, of_member, of_recipient, of_reason, officer)
        returning p.* into made;
    end if;
    perform private.audit_proposal('proposal.make', 'ALLOWED', null, made, array['officerProposal']);
    return next made;
end
$$;

-- Carries out an approved proposal in the database, and queues the job that changes Supabase Auth.
create function private.carry_out_proposal(approved resguardo.officer_proposals) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if approved.kind = 'REINSTATE' then
        update resguardo.staff as s
        set status = 'active', suspended_at = null, suspended_by = null, role = coalesce(s.mapped_role, s.role),
            role_given_at = clock_timestamp()
        where s.user_id = approved.member_id and s.status = 'suspended';
        perform private.write_audit(
            'staff.reinstate', 'ALLOWED', null, 'staff', array[approved.member_id], '{}', '{}', array['status'], 1, null
        );
        perform private.put_job('ban_user', approved.member_id);
    elsif approved.kind = 'RESET_SECOND_FACTOR' then
        perform private.end_sessions_of(approved.member_id);
        perform private.put_job('reset_second_factor', approved.id);
    elsif approved.kind = 'REASSIGN_CONSULTATIONS' then
        perform private.put_job('reassign_consultations', approved.id);
    end if;
end
$$;

-- Approves or rejects a proposal, and returns it. Returns no row, and writes the audit row, if the proposal does not
-- exist. If the same officer repeats the decision, nothing changes. Only an approval needs a second officer and a
-- recent TOTP code. The member whom the proposal concerns cannot decide it. Raises RG403 (totp_stale), RG409
-- (proposal_about_you, proposal_decided, proposal_same_officer, proposal_officer_gone, officer_too_new, and the
-- objections of private.propose).
create function private.decide_proposal(of_proposal uuid, is_approved boolean, totp_max_age_seconds integer)
returns setof resguardo.officer_proposals
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    action constant text := case when is_approved then 'proposal.approve' else 'proposal.reject' end;
    wanted resguardo.officer_proposals;
    objection text;
begin
    select p.* into wanted from resguardo.officer_proposals as p where p.id = of_proposal;
    if wanted.id is null then
        perform private.write_audit(
            action, 'ABSENT', 'not_found', 'officer_proposal', array[of_proposal], '{}', '{}', '{}', 0, null
        );
        return;
    end if;
    -- A suspension also locks the members of staff first. The second of an approval and a suspension thus sees the
    -- first.
    perform from resguardo.staff as s
    where s.user_id in (officer, wanted.proposed_by, wanted.member_id, wanted.recipient_id)
    order by s.user_id for no key update;
    perform private.person();
    select p.* into wanted from resguardo.officer_proposals as p where p.id = of_proposal for update;
    if officer in (wanted.member_id, wanted.recipient_id) then
        raise exception 'proposal_about_you' using errcode = 'RG409';
    elsif wanted.status <> 'PROPOSED' then
        if wanted.decided_by is distinct from officer
            or wanted.status = 'WITHDRAWN' or (wanted.status = 'REJECTED') = is_approved
        then
            raise exception 'proposal_decided' using errcode = 'RG409';
        end if;
        perform private.audit_proposal(action, 'ALLOWED', null, wanted, array['status']);
        return next wanted;
        return;
    end if;
    if is_approved then
        perform private.require_recent_totp(totp_max_age_seconds);
        if officer = wanted.proposed_by then
            raise exception 'proposal_same_officer' using errcode = 'RG409';
        elsif not private.is_active_officer(wanted.proposed_by) then
            raise exception 'proposal_officer_gone' using errcode = 'RG409';
        elsif private.is_new_officer(officer) or private.is_new_officer(wanted.proposed_by) then
            raise exception 'officer_too_new' using errcode = 'RG409';
        end if;
        objection := private.proposal_objection(wanted.kind, wanted.member_id, wanted.recipient_id);
        if objection is not null then
            raise exception '%', objection using errcode = 'RG409';
        end if;
    end if;
    update resguardo.officer_proposals as p
    set status = case when is_approved then 'APPROVED' else 'REJECTED' end, decided_by = officer,
        decided_at = private.now()
    where p.id = of_proposal
    returning p.* into wanted;
    perform private.audit_proposal(action, 'ALLOWED', null, wanted, array['status']);
    if is_approved then
        perform private.carry_out_proposal(wanted);
    end if;
    return next wanted;
end
$$;

-- Withdraws the open proposals of an officer who has lost access, and the reinstatements of a member who is suspended
-- again. If an approved reinstatement is withdrawn before the worker carries it out, the worker bans the member.
create function private.withdraw_proposals_of(member uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ended resguardo.officer_proposals;
begin
    for ended in
        update resguardo.officer_proposals as p
        set status = 'WITHDRAWN',
            error = case when p.proposed_by = member then 'officer_lost_access' else 'suspended_again' end
        where (p.proposed_by = member and p.status = 'PROPOSED')
            or (
                p.member_id = member and p.kind = 'REINSTATE' and p.status in ('PROPOSED', 'APPROVED')
                and exists (select from resguardo.staff as s where s.user_id = member and s.status = 'suspended')
            )
        returning p.*
    loop
        perform private.audit_proposal('proposal.withdraw', 'ALLOWED', ended.error, ended, array['status']);
    end loop;
end
$$;

-- Marks the approved proposals of a kind about a member as DONE, or as FAILED with an error.
create function private.finish_proposals(of_kind text, of_member uuid, failure text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ended resguardo.officer_proposals;
begin
    for ended in
        update resguardo.officer_proposals as p
        set status = case when failure is null then 'DONE' else 'FAILED' end, error = failure,
            finished_at = private.now()
        where p.kind = of_kind and p.member_id = of_member and p.status = 'APPROVED'
        returning p.*
    loop
        perform private.audit_proposal(
            'proposal.finish', case when failure is null then 'ALLOWED' else 'FAILED' end, failure, ended,
            array['status']
        );
    end loop;
end
$$;

-- Returns whether Supabase Auth must ban a person: true for a member whom compliance suspended, false for an active
-- member, and null for a member whom the adopter's role table suspended, and for everyone else.
create function private.should_be_banned(person uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select s.status = 'suspended' from resguardo.staff as s
        where s.user_id = person
            and s.suspended_by is distinct from '00000000-0000-0000-0000-000000000000'
    );
end
$$;

-- Returns the member whose second factors an approved proposal removes, and the ids of the factors, which are null
-- before the first attempt. Returns no row if the proposal is not APPROVED.
create function private.second_factor_reset(of_proposal uuid) returns table (member_id uuid, factor_ids uuid[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select p.member_id, p.factor_ids from resguardo.officer_proposals as p
    where p.id = of_proposal and p.kind = 'RESET_SECOND_FACTOR' and p.status = 'APPROVED';
end
$$;

-- Stores which second factors a proposal removes. Only the first attempt stores them, so no later attempt removes a
-- factor that the person has enrolled since.
create function private.keep_factors_to_remove(of_proposal uuid, of_factors uuid[]) returns uuid[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.officer_proposals as p set factor_ids = of_factors
    where p.id = of_proposal and p.factor_ids is null;
    return (select p.factor_ids from resguardo.officer_proposals as p where p.id = of_proposal);
end
$$;

-- Ends the sessions of the person whose second factors were removed, and marks the proposal as DONE. If `failure` is
-- given, or the Supabase project does not permit the deletion of sessions, the proposal is FAILED.
create function private.finish_second_factor_reset(of_proposal uuid, failure text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    reset resguardo.officer_proposals;
    why text := failure;
begin
    select p.* into reset from resguardo.officer_proposals as p
    where p.id = of_proposal and p.kind = 'RESET_SECOND_FACTOR' and p.status = 'APPROVED' for update;
    if reset.id is null then
        return;
    end if;
    if not private.end_sessions_of(reset.member_id) then
        why := coalesce(why, 'sessions_not_ended');
    end if;
    perform private.write_audit_of_entities(
        'staff.reset_second_factor', case when why is null then 'ALLOWED' else 'FAILED' end, why,
        private.entities_of('staff', array[reset.member_id])
        || private.entities_of('second_factor', reset.factor_ids),
        '{}', '{}', '{}', coalesce(cardinality(reset.factor_ids), 0), null
    );
    perform private.finish_proposals('RESET_SECOND_FACTOR', reset.member_id, why);
end
$$;
