-- Reassignments: the consultations of a doctor who left get another doctor. The proposal and its approval are in
-- 17_officer_proposals.sql. After the approval, the worker moves the consultations in batches.

-- Returns why the consultations of a doctor cannot be reassigned to another doctor now, or null if they can. The doctor
-- must have left: the doctor is suspended or has another role. The recipient must be an active doctor with a login that
-- is neither banned nor deleted. While a review case about one of the two is open, or a breach assessment is undecided,
-- nothing is reassigned.
create function private.reassignment_objection(from_doctor uuid, to_doctor uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when from_doctor = to_doctor then 'reassignment_recipient'
        when private.is_active_clinician(from_doctor) then 'reassignment_doctor_active'
        when not private.is_active_clinician(to_doctor) or not exists (
            select from auth.users as u
            where u.id = to_doctor and u.deleted_at is null and (u.banned_until is null or u.banned_until <= now())
        ) then 'reassignment_recipient'
        when private.has_open_case(from_doctor) or private.has_open_case(to_doctor) or exists (
            select from resguardo.breach_assessments as a
            where a.subject_id in (from_doctor, to_doctor) and a.status = 'OPEN'
        ) then 'reassignment_under_investigation'
    end;
end
$$;

-- Returns why a consultation of a doctor who left stays with that doctor, or null if it can be moved. WAITING:
-- a recording, a clip or a destruction is not finished. SENSITIVE: the consultation is of a sensitive kind or has
-- psychotherapy notes. CONSENT: something was recorded, and a participant has not consented to a text that names
-- sharing. A consultation of which nothing was recorded can always be moved.
create function private.reassignment_obstacle(of_consultation resguardo.consultations) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when exists (
            select from resguardo.recordings as r
            where r.consultation_id = of_consultation.id
                and r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING')
            union all
            select from resguardo.clips as k
            where k.consultation_id = of_consultation.id and k.status in ('PENDING', 'RUNNING', 'STORING')
            union all
            select from resguardo.deletions as d
            where d.consultation_id = of_consultation.id and d.status = 'DELETING'
        ) then 'WAITING'
        when not exists (
            select from resguardo.recordings as r
            where r.consultation_id = of_consultation.id and r.status <> 'ABORTED'
        ) then null
        when of_consultation.sensitivity <> 'ORDINARY' or exists (
            select from private.psychotherapy_notes as n where n.consultation_id = of_consultation.id
        ) then 'SENSITIVE'
        when not private.consents_to_sharing(of_consultation.id) then 'CONSENT'
    end;
end
$$;

-- Checks the next consultations of an approved reassignment, at most 50, and moves those that can be moved to the new
-- doctor. The foreign keys change the doctor in all rows of a consultation. The signed file of a note still names its
-- author, and consultations.conducted_by names the doctor who held the consultation. Returns whether the worker must
-- call the function again: MORE at once, WAITING later, ENDED never. Before each batch, the function checks again that
-- the reassignment is possible, and marks the proposal as FAILED if not.
create function private.reassign_consultations(of_proposal uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    approved resguardo.officer_proposals;
    objection text;
    obstacle text;
    looked_at resguardo.consultations;
    moved uuid[] := '{}';
    for_consent integer := 0;
    as_sensitive integer := 0;
    waiting integer := 0;
    is_over boolean := true;
begin
    select p.* into approved from resguardo.officer_proposals as p where p.id = of_proposal;
    perform from resguardo.staff as s
    where s.user_id in (approved.member_id, approved.recipient_id) order by s.user_id for no key update;
    select p.* into approved from resguardo.officer_proposals as p
    where p.id = of_proposal and p.kind = 'REASSIGN_CONSULTATIONS' and p.status = 'APPROVED' for update;
    if approved.id is null then
        return 'ENDED';
    end if;
    objection := private.reassignment_objection(approved.member_id, approved.recipient_id);
    if objection is not null then
        perform private.finish_proposals('REASSIGN_CONSULTATIONS', approved.member_id, objection);
        return 'ENDED';
    end if;
    for looked_at in
        select c.* from resguardo.consultations as c
        where c.doctor_id = approved.member_id
            and (approved.place_at is null or (c.scheduled_at, c.id) < (approved.place_at, approved.place_id))
        order by c.scheduled_at desc, c.id desc
        limit 50
        for update
    loop
        is_over := false;
        obstacle := private.reassignment_obstacle(looked_at);
        if obstacle is null then
            moved := moved || looked_at.id;
        elsif obstacle = 'CONSENT' then
            for_consent := for_consent + 1;
        elsif obstacle = 'SENSITIVE' then
            as_sensitive := as_sensitive + 1;
        else
            waiting := waiting + 1;
        end if;
        approved.place_at := looked_at.scheduled_at;
        approved.place_id := looked_at.id;
    end loop;
    if cardinality(moved) > 0 then
        perform private.audit_reassignment(approved, moved);
        update resguardo.consultations as c
        set doctor_id = approved.recipient_id,
            conducted_by = coalesce(
                c.conducted_by,
                case when exists (
                    select from resguardo.participants as p
                    where p.consultation_id = c.id and p.kind = 'DOCTOR' and p.joined_at is not null
                    union all
                    select from resguardo.recordings as r where r.consultation_id = c.id
                ) then approved.member_id end
            )
        where c.id = any(moved);
    end if;
    if is_over and coalesce(approved.waiting_count, 0) > 0 then
        update resguardo.officer_proposals as p
        set place_at = null, place_id = null, waiting_count = 0, kept_for_consent_count = 0,
            kept_as_sensitive_count = 0
        where p.id = of_proposal;
        return 'WAITING';
    end if;
    update resguardo.officer_proposals as p
    set place_at = approved.place_at, place_id = approved.place_id,
        moved_count = coalesce(p.moved_count, 0) + cardinality(moved),
        kept_for_consent_count = coalesce(p.kept_for_consent_count, 0) + for_consent,
        kept_as_sensitive_count = coalesce(p.kept_as_sensitive_count, 0) + as_sensitive,
        waiting_count = coalesce(p.waiting_count, 0) + waiting
    where p.id = of_proposal;
    if is_over then
        perform private.finish_proposals('REASSIGN_CONSULTATIONS', approved.member_id, null);
        return 'ENDED';
    end if;
    return 'MORE';
end
$$;

-- Marks an approved reassignment as FAILED with a reason. The consultations that were moved stay moved.
create function private.fail_reassignment(of_proposal uuid, failure text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.finish_proposals('REASSIGN_CONSULTATIONS', p.member_id, failure)
    from resguardo.officer_proposals as p
    where p.id = of_proposal and p.kind = 'REASSIGN_CONSULTATIONS' and p.status = 'APPROVED';
end
$$;

-- Writes the audit row about consultations that the worker moves to another doctor.
create function private.audit_reassignment(approved resguardo.officer_proposals, moved uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        'consultation.reassign', 'ALLOWED', null,
        private.entities_of('consultation', moved)
        || private.entities_of('staff', array[approved.member_id, approved.recipient_id])
        || private.entities_of('officer_proposal', array[approved.id]),
        array(select distinct c.patient_id from resguardo.consultations as c where c.id = any(moved)), moved,
        array['doctor'], cardinality(moved), null
    );
end
$$;
