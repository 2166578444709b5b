"""A stand-in for Supabase Auth (GoTrue) and its API gateway, over the real tables of the schema `auth`.

The stand-in answers the calls of the `supabase` client to `/auth/v1`: password and refresh grants, TOTP factors,
user, sign-out, JWKS, invitations, and the administration of users and factors. The status codes, error codes,
messages and JSON are GoTrue's (supabase/auth at bc32168e, checked 2026-11-21). The stand-in differs from GoTrue in
these points:

- Passwords are stored with scrypt in our own format, because bcrypt is not available. A user whose password is
  stored in this format cannot move to a real Supabase project.
- The stand-in sends no mail. The stand-in stores mails, and `/stand-in/outbox`, our own route, returns them to
  callers with the secret key. `/stand-in/mailboxes` simulates a mail server that refuses mails or is slow.
- The stand-in limits only the rate of mails, not that of requests. The stand-in has no sign-up, no change of one's
  own address, no one-time code in place of a password, no phone, OAuth, SSO or passkeys, and no hooks except the
  Custom Access Token hook and the hooks of passwords and second factors, in Postgres.
- The table `auth.one_time_tokens` stays empty.
- The QR code of a new factor is an empty image. The secret of the new factor and its URI, in the same answer, are
  real.
- Refresh tokens are those of GoTrue's version 1, rows of `auth.refresh_tokens`.

The stand-in listens only on loopback, and is only for development and tests. `python -m devstack.gotrue --config
FILE` runs the stand-in.
"""

from devstack.gotrue.app import create_gotrue_app
from devstack.gotrue.config import GotrueConfig

__all__ = ["GotrueConfig", "create_gotrue_app"]
