"""Talks to the administration API of Supabase Auth."""
