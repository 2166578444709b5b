"""A practice during a working day, and all actors that can reach the database.

The practice has two equal cases: doctor Ana with patient Paula, and doctor Bruno with patient Pablo. Each case has
four consultations: one is over and has a recording in every finished state, one is being recorded with a guest in
the room, one has a guest who joined without consent, and one may be recorded. Ids are derived from names, so
failure messages are readable.
"""

import json
import time
from dataclasses import dataclass
from typing import Any, Literal
from uuid import NAMESPACE_OID, UUID, uuid5

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.databases import Database

Connection = psycopg.Connection[tuple[Any, ...]]
Role = Literal[
    "clinician",
    "compliance",
    "patient",
    "anon",
    "authenticated",
    "service_role",
    "resguardo_api",
    "resguardo_worker",
    "supabase_auth_admin",
]

DATA_API_ROLES: tuple[Role, ...] = ("anon", "authenticated", "service_role")
ROLES: tuple[Role, ...] = (
    "clinician",
    "compliance",
    "patient",
    *DATA_API_ROLES,
    "resguardo_api",
    "resguardo_worker",
    "supabase_auth_admin",
)
PEOPLE_ROLES = ["clinician", "compliance", "patient"]
SHA256 = "ab" * 32


def id_of(name: str) -> UUID:
    """Return the id of the row with this name in the seed."""
    return uuid5(NAMESPACE_OID, f"resguardo.test/{name}")


@dataclass(frozen=True)
class Case:
    """One doctor with one patient, and their rows."""

    doctor: str
    patient: str

    @property
    def doctor_id(self) -> UUID:
        return id_of(self.doctor)

    @property
    def patient_id(self) -> UUID:
        return id_of(f"patient {self.patient}")

    def id_of(self, name: str) -> UUID:
        return id_of(f"{self.doctor} {name}")

    def room_of(self, consultation: str) -> str:
        return f"tests_{self.id_of(consultation)}"


ANA = Case("ana", "paula")
BRUNO = Case("bruno", "pablo")
CASES = (ANA, BRUNO)
CONSULTATIONS = ("over", "live", "unconsented", "startable")
FINISHED = ("VERIFYING", "READY", "FAILED", "ABORTED", "LOST")


@dataclass(frozen=True)
class Actor:
    """An actor that can reach the database. `user` is None for actors without a person's transaction."""

    name: str
    role: Role
    user: str | None = None
    case: Case | None = None
    session: str = "session"
    claimed_aal: str = "aal2"

    @property
    def claims(self) -> dict[str, Any]:
        return claims_of(self.user or "ana", session=self.session, aal=self.claimed_aal)


ACTORS = (
    Actor("clinician who owns", "clinician", "ana", ANA),
    Actor("clinician who does not", "clinician", "bruno", BRUNO),
    Actor("clinician without second factor", "clinician", "ana", ANA, "aal1 session", "aal1"),
    Actor("signed-out clinician", "clinician", "ana", ANA, "ended session"),
    Actor("suspended clinician", "clinician", "sara"),
    Actor("compliance", "compliance", "carla"),
    Actor("compliance without second factor", "compliance", "carla", None, "aal1 session", "aal1"),
    Actor("signed-out compliance", "compliance", "carla", None, "ended session"),
    Actor("suspended compliance", "compliance", "simon"),
    Actor("patient", "patient", "paula", ANA, claimed_aal="aal1", session="aal1 session"),
    Actor("other patient", "patient", "pablo", BRUNO, claimed_aal="aal1", session="aal1 session"),
    Actor("signed-out patient", "patient", "paula", ANA, "ended session", "aal1"),
    *(Actor(role, role) for role in DATA_API_ROLES),
    Actor("resguardo_api", "resguardo_api"),
    Actor("resguardo_worker", "resguardo_worker"),
)
STAFF = {
    "ana": ("clinician", "active"),
    "bruno": ("clinician", "active"),
    "sara": ("clinician", "suspended"),
    "carla": ("compliance", "active"),
    "simon": ("compliance", "suspended"),
}
USERS = (*STAFF, "paula", "pablo", "banned", "deleted")


def actor(name: str) -> Actor:
    return next(a for a in ACTORS if a.name == name)


def claims_of(
    user: str, *, session: str = "session", aal: str = "aal2", totp_at: float = 0
) -> dict[str, Any]:
    """Return the verified claims of a Supabase Auth token. `totp_at` is the time of the second factor, in seconds
    since the epoch.
    """
    return {
        "exp": int(time.time()) + 3600,
        "sub": str(id_of(user)),
        "session_id": str(id_of(f"{user} {session}")),
        "aal": aal,
        "role": "authenticated",
        "amr": [{"method": "totp", "timestamp": totp_at}],
    }


def url_of(database: Database, who: Actor) -> str:
    """Return the URL of the actor's login. The roles of Supabase's Data API have no login of Resguardo."""
    if who.user is not None or who.role == "resguardo_api":
        return database.api_url
    return database.worker_url if who.role == "resguardo_worker" else database.superuser_url


def enter(connection: Connection, who: Actor) -> None:
    """Give the current transaction the database role and the claims of this actor. A transaction of a person begins
    with the same function that the API calls.
    """
    if who.user is not None:
        begin_as(connection, who.claims)
        return
    if who.role in DATA_API_ROLES:
        connection.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(who.claims)])
    if connection.info.user != who.role:
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(who.role)))


def begin_as(connection: Connection, claims: dict[str, Any]) -> None:
    connection.execute(
        "select private.begin_as(%s, %s, gen_random_uuid(), '203.0.113.7', null, 5000)",
        [Jsonb(claims), PEOPLE_ROLES],
    )
