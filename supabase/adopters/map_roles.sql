-- Your application keeps its own table of roles. With this file, some rows of your table become members of staff, now
-- and after each change of the table. Resguardo never installs this file by itself. Edit the places marked EDIT. Then
-- run the file as the owner of the database, after `resguardo migrate`, in one transaction. You can run it again.
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -1 -f supabase/adopters/map_roles.sql
--
-- What the file does (private.map_staff decides, and writes each step into the audit log as `staff.map`): - A row
-- with a mapped role makes its user a member of staff, or changes the role of a member from this table. - If no row
-- maps a member to a role any more, the member is suspended, not deleted. Their recordings stop, their sessions end,
-- and Resguardo denies them all access from the commit on. A new row with a mapped role ends the suspension. - No row
-- changes members who were invited (`inviteStaff`) or added (`resguardo staff add`). A suspension by compliance stays
-- in force whatever your table says. - The login of a patient is not changed, and the audit log records the refusal.
--
-- Everyone who can write the table can appoint staff. Check the grants and policies of the table before you run this
-- file: no user may be able to write their own row. Compliance reads the whole audit log and suspends people. Map a
-- role of yours to compliance only if each person who can assign that role may appoint compliance officers.
--
-- To undo: drop the two triggers and the two functions below. Members stay unchanged.

-- EDIT 1: the roles. If a user has several rows, the first matching line decides. A role without a line maps to
-- nothing.
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

-- The lock comes before the query: if two transactions each remove one of a user's two roles, the second one sees
-- none left.
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

-- EDIT 2, again: your table.
drop trigger if exists resguardo_follow_roles on public.user_roles;
create trigger resguardo_follow_roles after insert or update or delete on public.user_roles
for each row execute function private.follow_user_roles();
drop trigger if exists resguardo_follow_truncate on public.user_roles;
create trigger resguardo_follow_truncate after truncate on public.user_roles
for each statement execute function private.follow_user_roles();

-- EDIT 2, the last place: everyone who is in the table now, and everyone who was mapped and is no longer in the
-- table.
select private.map_staff(u.user_id, private.mapped_role_of(u.user_id))
from (
    select r.user_id from public.user_roles as r
    union
    select s.user_id from resguardo.staff as s where s.origin = 'MAPPED'
) as u (user_id)
order by u.user_id;
