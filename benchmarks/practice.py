"""A practice to measure: the API in a process of its own.

The stand-ins for Supabase Auth and LiveKit run beside it; no worker does, whose work would be measured with the API's.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg

from app.devstack.children import child
from app.devstack.gotrue.signing import load_signer
from app.devstack.stack import Stack
from tests.databases import Cluster
from tests.integration import small_stack

_SEED = """
with person as (
    insert into auth.users (id, aud, role, email, created_at, updated_at)
    values (%(doctor)s, 'authenticated', 'authenticated', %(doctor)s || '@example.org', now(), now())
), session as (
    insert into auth.sessions (id, user_id, aal) values (%(session)s, %(doctor)s, 'aal2')
), staff as (
    insert into resguardo.staff (user_id, role) values (%(doctor)s, 'clinician') returning user_id
), patient as (
    insert into resguardo.patients (external_id) values ('benchmark-' || %(doctor)s) returning id
), consultation as (
    insert into resguardo.consultations
    (id, external_id, doctor_id, patient_id, scheduled_at, kind, sensitivity, room_name)
    select c.id, 'benchmark-' || c.id, staff.user_id, patient.id, now(), 'follow_up', 'ORDINARY', 'demo_' || c.id
    from staff, patient, (select gen_random_uuid() as id from generate_series(1, %(count)s)) as c
    returning id, doctor_id, patient_id, room_name
)
insert into resguardo.recordings
(id, consultation_id, doctor_id, patient_id, requested_by, status, room_name, egress_id, sha256, size_bytes)
select gen_random_uuid(), id, doctor_id, patient_id, doctor_id, 'READY', room_name, 'EG_' || id, repeat('0', 64), 1
from consultation
"""


@dataclass(frozen=True)
class Practice:
    """Where it is, its doctors' access tokens, and its consultations' rooms."""

    stack: Stack
    tokens: tuple[str, ...] = field(repr=False)
    rooms: tuple[str, ...]

    @property
    def webhook_url(self) -> str:
        """LiveKit's door."""
        return f"{self.stack.api_url}/webhooks/livekit"


@contextmanager
def running(cluster: Cluster, data_dir: Path, *, doctors: int, recordings: int) -> Iterator[Practice]:
    """Starts it, with so many doctors of so many recordings each, and stops it with the block."""
    with ExitStack() as stack:
        made = stack.enter_context(small_stack.running(cluster, data_dir))
        people = [(uuid4(), uuid4()) for _ in range(doctors)]
        with psycopg.connect(made.project.superuser_url) as connection:
            for doctor, session in people:
                connection.execute(_SEED, {"doctor": doctor, "session": session, "count": recordings})
            named = connection.execute("select room_name from resguardo.consultations limit 16").fetchall()
        serve = ["serve", "--port", str(urlsplit(made.api_url).port)]
        ready_url = f"{made.api_url}/health/ready"
        log = data_dir / "api.log"
        stack.enter_context(
            child("app.cli", serve, log=log, environment=made.environment, ready_url=ready_url)
        )
        signer = load_signer(data_dir / "auth", f"{made.supabase_url}/auth/v1")
        yield Practice(
            made, tuple(signer.sign(_claims(*person)) for person in people), tuple(name for (name,) in named)
        )


def _claims(doctor: UUID, session: UUID) -> dict[str, object]:
    now = int(time.time())
    return {
        "aud": "authenticated",
        "exp": now + 3600,
        "iat": now,
        "sub": str(doctor),
        "role": "authenticated",
        "aal": "aal2",
        "amr": [{"method": "totp", "timestamp": now}],
        "session_id": str(session),
        "is_anonymous": False,
    }
