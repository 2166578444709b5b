-- Your application keeps its own table of roles; this file makes members of staff of some of its rows, now and
-- whenever the table changes. Resguardo never installs it by itself: edit the two places marked EDIT, then run it as
-- the owner of the database, after `resguardo migrate`, in one transaction. Again is harmless.
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -1 -f supabase/adopters/map_roles.sql
--
-- What it does (private.map_staff decides, and writes each step into the audit log as `staff.map`):
--   - a row with a mapped role makes its user a member of staff, or changes the role of one it made;
--   - where no row maps to a role any more, the member is suspended, not deleted: recordings of theirs stop, their
--     sessions end, every door of Resguardo is closed from the commit on. A row that comes back lifts it;
--   - members who were invited (`inviteStaff`) or added (`resguardo staff add`) are not its business: no row changes
--     them. A suspension by compliance stands, whatever your table says;
--   - a patient's login is left alone; the refusal is in the audit log.
--
-- Whoever can write the table decides who works here. Look at its grants and policies before you run this: no user may
-- be able to write a row of their own. Compliance reads the whole audit log and suspends people: map a role of yours to
-- it only if each person who can hand out that role may appoint compliance officers.
--
-- To undo: drop the two triggers and the two functions below. Members stay as they are.

-- EDIT 1: the roles. The first line that fits decides, for whoever has several rows. What is not named here is no role.
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

-- The lock comes before the look: of two that each take one of somebody's two roles away, the second sees none left.
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

-- EDIT 2, once more: your table.
drop trigger if exists resguardo_follow_roles on public.user_roles;
create trigger resguardo_follow_roles after insert or update or delete on public.user_roles
for each row execute function private.follow_user_roles();
drop trigger if exists resguardo_follow_truncate on public.user_roles;
create trigger resguardo_follow_truncate after truncate on public.user_roles
for each statement execute function private.follow_user_roles();

-- EDIT 2, for the last time: everybody who is in the table now, and whoever was mapped and is not.
select private.map_staff(u.user_id, private.mapped_role_of(u.user_id))
from (
    select r.user_id from public.user_roles as r
    union
    select s.user_id from resguardo.staff as s where s.origin = 'MAPPED'
) as u (user_id)
order by u.user_id;
