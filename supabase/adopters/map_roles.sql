-- This file is for an application that keeps its own table of roles. Once the file is installed, users with certain
-- roles in your table are members of Resguardo's staff, and every change of your table takes effect at once.
-- Resguardo never installs this file by itself.

-- To install the file, first edit the places marked EDIT. After `resguardo migrate`, run the file as the owner of the
-- database, in one transaction. The file may be run repeatedly, for example after an edit.

--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -1 -f supabase/adopters/map_roles.sql

-- The function private.map_staff() applies each row of your table, and writes each change into the audit log as
-- `staff.map`. A row with a mapped role makes its user a member of staff, or changes the role of a member whom your
-- table made a member. If no row of your table gives such a member a mapped role any more, the member is suspended,
-- not deleted. Resguardo stops the recordings of a suspended member, ends the member's sessions, and denies the member
-- all access from the commit on. A new row with a mapped role ends a suspension that your table caused.

-- No row of your table changes members who were invited (`inviteStaff`) or added (`resguardo staff add`). A suspension
-- by a compliance officer stays in force whatever your table says. A row for the login of a patient changes nothing,
-- and the audit log records the refusal.

-- Everyone who can write your table of roles can appoint staff. Check the grants and policies of your table before
-- you run this file: no user may be able to write their own row. Compliance officers read the whole audit log and
-- can suspend members of staff. Map a role of yours to compliance only if each person who can assign that role may
-- appoint compliance officers.

-- To uninstall the file, drop its two triggers and its two functions. The members of staff stay unchanged.

-- EDIT 1: the roles. If a user has several rows, the first matching line below decides. A role of your table that
-- has no line below is not mapped to any role.
create or replace function private.mapped_role_of(member uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select m.staff_role
        from public.user_roles as r -- EDIT 2 (and below): your table, with the id of the login and the role
        join (
            values
                (1, 'doctor', 'clinician'),
                (2, 'nurse', 'clinician')
                -- , (3, 'privacy_officer', 'compliance')
        ) as m (place, your_role, staff_role) on m.your_role = r.role::text
        where r.user_id = member
        order by m.place
        limit 1
    );
end
$$;

-- The trigger locks the login before it reads your table. If two transactions each remove one of a user's two
-- roles, the second transaction therefore sees that no role is left.
create or replace function private.follow_user_roles() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    member uuid;
begin
    if tg_op = 'TRUNCATE' then
        for member in select s.user_id from resguardo.staff as s where s.origin = 'MAPPED' order by s.user_id loop
            perform private.map_staff(member, null);
        end loop;
        return null;
    end if;
    if tg_op <> 'INSERT' then
        perform private.lock_login(old.user_id);
        perform private.map_staff(old.user_id, private.mapped_role_of(old.user_id));
    end if;
    if tg_op <> 'DELETE' then
        perform private.lock_login(new.user_id);
        perform private.map_staff(new.user_id, private.mapped_role_of(new.user_id));
    end if;
    return null;
end
$$;

revoke all on function private.mapped_role_of(uuid), private.follow_user_roles()
from public, anon, authenticated, service_role;

-- EDIT 2, second place: the name of your table.
drop trigger if exists resguardo_follow_roles on public.user_roles;
create trigger resguardo_follow_roles after insert or update or delete on public.user_roles
for each row execute function private.follow_user_roles();
drop trigger if exists resguardo_follow_truncate on public.user_roles;
create trigger resguardo_follow_truncate after truncate on public.user_roles
for each statement execute function private.follow_user_roles();

-- EDIT 2, last place: maps everyone who is in your table now, and everyone whom the table mapped earlier.
select private.map_staff(u.user_id, private.mapped_role_of(u.user_id))
from (
    select r.user_id from public.user_roles as r
    union
    select s.user_id from resguardo.staff as s where s.origin = 'MAPPED'
) as u (user_id)
order by u.user_id;
