"""A practice for benchmarks: the API, and a second process that serves only webhooks.

The stand-ins for Supabase Auth and LiveKit run beside the two processes. No worker process runs, because the
benchmark would measure the worker's load too.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg

from devstack.children import child, free_port
from devstack.gotrue.signing import load_signer
from devstack.stack import Stack
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
(id, consultation_id, doctor_id, patient_id, requested_by, status, room_name, egress_id)
select gen_random_uuid(), id, doctor_id, patient_id, doctor_id, 'RECORDING', room_name, 'EG_' || id
from consultation
"""


@dataclass(frozen=True)
class Practice:
    """The addresses of the practice, its doctors' access tokens, and the rooms of its consultations. Every
    consultation's room is being recorded.

    `webhooks_url` is the address of the process that serves only LiveKit's webhook. The API process also serves
    LiveKit's webhook.
    """

    stack: Stack
    webhooks_url: str
    tokens: tuple[str, ...] = field(repr=False)
    rooms: tuple[str, ...]


@contextmanager
def running(cluster: Cluster, data_dir: Path, *, doctors: int, recordings: int) -> Iterator[Practice]:
    """Start a practice with this number of doctors, and of recordings for each doctor. Stop the practice at the end
    of the block.
    """
    with ExitStack() as stack:
        made = stack.enter_context(small_stack.running(cluster, data_dir))
        people = [(uuid4(), uuid4()) for _ in range(doctors)]
        with psycopg.connect(made.project.superuser_url) as connection:
            connection.execute("set session_replication_role = replica")  # Triggers off
            for doctor, session in people:
                connection.execute(_SEED, {"doctor": doctor, "session": session, "count": recordings})
            named = connection.execute("select room_name from resguardo.consultations").fetchall()
        webhooks_url = f"http://127.0.0.1:{free_port()}"
        for url, only in ((made.api_url, []), (webhooks_url, ["--only-webhooks"])):
            serve = ["serve", "--port", str(urlsplit(url).port), *only]
            log = data_dir / f"serve{''.join(only)}.log"
            ready_url = f"{url}/health/ready"
            stack.enter_context(
                child("app.cli", serve, log=log, environment=made.environment, ready_url=ready_url)
            )
        signer = load_signer(data_dir / "auth", f"{made.supabase_url}/auth/v1")
        tokens = tuple(signer.sign(_claims(*person)) for person in people)
        yield Practice(made, webhooks_url, tokens, tuple(name for (name,) in named))


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
