"""The events of Supabase Auth in the audit log: sign-ins, passwords and second factors."""
