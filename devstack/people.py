"""The people of a demo: their logins at the identity provider, their second factors, and their roles."""

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg

from app.integrations.supabase.client import SupabaseAdmin
from devstack.coordinates import write_private
from devstack.sign_in import Session, enrol_totp, sign_in
from devstack.stack import Stack
from devstack.totp import totp_uri

FILE = "logins.json"


@dataclass(frozen=True)
class Person:
    """A person who can sign in with a password and a second factor."""

    user_id: UUID
    email: str
    password: str = field(repr=False)
    totp_secret: str = field(repr=False)


class People:
    """Creates people and signs them in with the `supabase` client."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def hire(self, role: str) -> Person:
        """Create a staff member with a second factor."""
        person = await self._enrol(role)
        with psycopg.connect(self._stack.project.owner_url) as connection:
            connection.execute(
                "insert into resguardo.staff (user_id, role) values (%s, %s)", (person.user_id, role)
            )
        return person

    async def patient(self) -> Person:
        """Create a login without a role. A login without a role becomes a patient when a doctor registers a
        consultation with this login.
        """
        return await self._enrol("patient")

    def authenticator_uri(self, person: Person) -> str:
        """Return the second factor's URI for an authenticator app."""
        return totp_uri(person.totp_secret, urlsplit(self._stack.supabase_url).netloc, person.email)

    async def sign_in(self, person: Person, *, with_totp: bool = True) -> Session:
        """Sign the person in and return the session: at aal2 if the second factor is used, otherwise at aal1."""
        secret = person.totp_secret if with_totp else None
        return await sign_in(
            self._stack.supabase_url, self._stack.publishable_key, person.email, person.password, secret
        )

    async def _enrol(self, name: str) -> Person:
        """Create a person and store them under the stack's data directory, because `resguardo demo join` signs in
        as them.
        """
        email, password = f"{name}-{uuid4().hex[:12]}@demo.example", secrets.token_urlsafe(18)
        admin = SupabaseAdmin(self._stack.supabase_url, self._stack.secret_key)
        try:
            user_id = await admin.create_user(email, password)
        finally:
            await admin.aclose()
        secret = await enrol_totp(self._stack.supabase_url, self._stack.publishable_key, email, password)
        person = Person(user_id, email, password, secret)
        _remember(self._stack.data_dir, person)
        return person


def known(data_dir: Path) -> dict[UUID, Person]:
    """Return all people who were created in this data directory, by user id."""
    try:
        kept = json.loads((data_dir / FILE).read_text())
    except (OSError, ValueError):
        return {}
    people = (Person(**{**one, "user_id": UUID(one["user_id"])}) for one in kept)
    return {person.user_id: person for person in people}


def _remember(data_dir: Path, person: Person) -> None:
    everybody = [*known(data_dir).values(), person]
    kept = [{**asdict(one), "user_id": str(one.user_id)} for one in everybody]
    write_private(data_dir / FILE, json.dumps(kept))
