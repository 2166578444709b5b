-- name: read_entries
-- Copies new entries of Supabase Auth into the audit log, and returns how many it copied; null if it cannot read them.
select private.read_auth_entries(%(at_most)s);

-- name: find_problems
-- Returns the reasons for which the audit log may lack events of Supabase Auth.
select private.find_sign_in_problems();
