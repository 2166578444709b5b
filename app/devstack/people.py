"""The people of a demo: logins at the identity provider, second factors, and who works here."""

import secrets
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import psycopg

from app.devstack.sign_in import Session, enrol_totp, sign_in
from app.devstack.stack import Stack
from app.integrations.supabase import SupabaseAdmin


@dataclass(frozen=True)
class Person:
    """Somebody who can sign in; `totp_secret` is None for who has no second factor."""

    user_id: UUID
    email: str
    password: str = field(repr=False)
    totp_secret: str | None = field(repr=False)


class People:
    """Makes people and signs them in, each by the `supabase` client."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def hire(self, role: str) -> Person:
        """A member of staff with a second factor."""
        person = await self._enrol(role, with_totp=True)
        with psycopg.connect(self._stack.project.owner_url) as connection:
            connection.execute(
                "insert into resguardo.staff (user_id, role) values (%s, %s)", (person.user_id, role)
            )
        return person

    async def patient(self) -> Person:
        """Somebody with a login; the registration of a consultation makes a patient of them."""
        return await self._enrol("patient", with_totp=False)

    async def sign_in(self, person: Person, *, with_totp: bool = True) -> Session:
        """A new session: aal2 with the second factor, else aal1."""
        secret = person.totp_secret if with_totp else None
        return await sign_in(
            self._stack.supabase_url, self._stack.publishable_key, person.email, person.password, secret
        )

    async def _enrol(self, name: str, *, with_totp: bool) -> Person:
        email, password = f"{name}-{uuid4().hex[:12]}@demo.example", secrets.token_urlsafe(18)
        admin = SupabaseAdmin(self._stack.supabase_url, self._stack.secret_key)
        try:
            user_id = await admin.create_user(email, password)
        finally:
            await admin.aclose()
        secret = None
        if with_totp:
            secret = await enrol_totp(self._stack.supabase_url, self._stack.publishable_key, email, password)
        return Person(user_id, email, password, secret)
