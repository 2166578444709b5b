"""The medical practice of the policy tests, and all actors that can connect to its database.

The practice has two cases with the same kinds of rows: doctor Ana with patient Paula, and doctor Bruno with patient
Pablo. Ana shares her consultation `over` with Berta, and Dario has an emergency access to Paula. Each case has four
consultations. The consultation `over` has ended and has a recording in each finished status. The consultation `live`
is being recorded with a guest in the room. In the consultation `unconsented`, a guest joined without consent. The
consultation `startable` may be recorded. The ids of rows are derived from names, so that a failure message shows
which row it concerns.
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
    """Return the id of the row that has this name in the seeded database."""
    return uuid5(NAMESPACE_OID, f"resguardo.test/{name}")


@dataclass(frozen=True)
class Case:
    """A case: one doctor with one patient, and the rows that belong to them."""

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
    """An actor that can connect to the database: a person in one role, or a database role. `user` is None if the
    actor is not a person but a database role. If `sees_shared` is true, the actor sees the consultation `over` of Ana,
    without being its doctor.
    """

    name: str
    role: Role
    user: str | None = None
    case: Case | None = None
    session: str = "session"
    claimed_aal: str = "aal2"
    sees_shared: bool = False

    @property
    def claims(self) -> dict[str, Any]:
        return claims_of(self.user or "ana", session=self.session, aal=self.claimed_aal)


ACTORS = (
    Actor("clinician who owns", "clinician", "ana", ANA),
    Actor("clinician who does not", "clinician", "bruno", BRUNO),
    Actor("colleague with a share", "clinician", "berta", sees_shared=True),
    Actor("clinician in an emergency", "clinician", "dario", sees_shared=True),
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
    "berta": ("clinician", "active"),
    "dario": ("clinician", "active"),
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
    """Return the claims that a verified Supabase Auth token of the user contains. `totp_at` is the time at which
    the user entered the TOTP code, in seconds since the epoch.
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
    """Return the database URL with the login that the actor uses. An actor with a role of Supabase's Data API
    (`anon`, `authenticated`, `service_role`) uses the superuser's URL, because Resguardo has no login for these
    roles.
    """
    if who.user is not None or who.role == "resguardo_api":
        return database.api_url
    return database.worker_url if who.role == "resguardo_worker" else database.superuser_url


def enter(connection: Connection, who: Actor) -> None:
    """Set the database role and the claims of this actor for the current transaction. The transaction of a person
    begins with the SQL function that the API also calls.
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
