"""A stand-in for Supabase Auth (GoTrue) and the API gateway before it, over the real tables of schema `auth`.

It answers what the `supabase` client asks of `/auth/v1`: password and refresh grants, TOTP factors, user,
sign-out, JWKS, invitations, and the administration of users and factors. Status codes, error codes, messages
and JSON are GoTrue's (supabase/auth at bc32168e, checked 2026-11-21); where the two differ it says so here:

- Passwords are kept with scrypt, in a form of our own, for want of bcrypt: such a user cannot move to a real project.
- No mail leaves it: it is kept, and read with the secret key at `/stand-in/outbox`, a route of our own. A mail server
  that refuses or is slow is ordered at `/stand-in/mailboxes`.
- There is no rate limiting but of mails, no sign-up, no change of one's own address, no one-time code instead of a
  password, no phone, OAuth, SSO or passkeys, and no hook but the Custom Access Token hook in Postgres.
- `auth.audit_log_entries` and `auth.one_time_tokens` are not written.
- The QR code of a new factor is an empty image: the secret and the URI beside it are real.
- Refresh tokens are those of GoTrue's version 1, rows of `auth.refresh_tokens`.

It is for development and tests, on loopback. `python -m devstack.gotrue --config FILE` runs it.
"""

from devstack.gotrue.app import create_gotrue_app
from devstack.gotrue.config import GotrueConfig

__all__ = ["GotrueConfig", "create_gotrue_app"]
