"""Attacks a recording in several ways, and checks that no attacker gets any data."""

import asyncio
import json
from dataclasses import dataclass

import psycopg

from devstack import documents
from devstack.api_client import ApiClient
from devstack.demo.report import DemoFailed, require
from devstack.demo.scene import Scene, expect
from devstack.people import Person
from devstack.sign_in import Session, sign_out
from devstack.stack import Stack


@dataclass(frozen=True)
class Cast:
    """The staff of the demo: the recording's doctor, two other doctors, and two compliance officers."""

    doctor: Person
    stranger: Person
    suspended: Person
    officer: Person
    second_officer: Person


class Intruders:
    """The attacks on one recording."""

    def __init__(self, scene: Scene, recording_id: str) -> None:
        self._scene = scene
        self._recording_id = recording_id

    async def try_all(self, cast: Cast, patient: ApiClient) -> Session:
        """Run each attack as a step of the demo. Return a new, valid session of the recording's doctor. Raises
        DemoFailed if an attack succeeds.
        """
        scene = self._scene
        async with scene.step("another doctor finds nothing"):
            await self._stranger(cast.stranger)
        async with scene.step("the patient gets nothing"):
            await self._nothing_for(patient, "FORBIDDEN", lists="FORBIDDEN")
        async with scene.step("the doctor without the second factor gets nothing"):
            weak = await scene.sign_in(cast.doctor, with_totp=False)
            await self._nothing_for(weak, "FORBIDDEN", lists="FORBIDDEN")
        async with scene.step(
            "the doctor's signed-out session gets nothing, though its token has not expired"
        ):
            await self._signed_out(cast.doctor)
        async with scene.step("a doctor who was just suspended gets nothing"):
            await self._suspended(cast.suspended, cast.officer)
        async with scene.step("Supabase's Data API roles get nothing with the doctor's own token"):
            session = await scene.people.sign_in(cast.doctor)
            await asyncio.to_thread(_nothing_for_data_api_roles, scene.stack, session)
        return session

    async def _stranger(self, stranger: Person) -> None:
        other = await self._scene.sign_in(stranger)
        require(not (await other.ask(documents.RECORDINGS))["recordings"]["edges"], "a stranger sees rows")
        await self._nothing_for(other, "NOT_FOUND")

    async def _signed_out(self, doctor: Person) -> None:
        stack, session = self._scene.stack, await self._scene.people.sign_in(doctor)
        await sign_out(stack.supabase_url, stack.publishable_key, session)
        await self._nothing_for(self._scene.client(session), "UNAUTHENTICATED", lists="UNAUTHENTICATED")

    async def _suspended(self, suspended: Person, officer: Person) -> None:
        api = await self._scene.sign_in(suspended)
        require(not (await api.ask(documents.RECORDINGS))["recordings"]["edges"], "another doctor sees rows")
        compliance = await self._scene.sign_in(officer)
        await compliance.ask(documents.SUSPEND, userId=str(suspended.user_id))
        await self._nothing_for(api, "UNAUTHENTICATED", lists="UNAUTHENTICATED")

    async def _nothing_for(self, api: ApiClient, code: str, *, lists: str | None = None) -> None:
        await expect(api, code, documents.RECORDING_STATUS, id=self._recording_id)
        await expect(api, code, documents.ISSUE_URL, recordingId=self._recording_id)
        await expect(api, code, documents.TRANSCRIPT, id=self._recording_id)
        if lists is not None:
            await expect(api, lists, documents.RECORDINGS)


def _nothing_for_data_api_roles(stack: Stack, session: Session) -> None:
    """Check that the roles of the Data API can read nothing. The method takes each role, sets the claims and reads,
    as PostgREST would.
    """
    claims = json.dumps({"sub": str(session.user_id), "role": "authenticated", "aal": "aal2"})
    tables = (
        "resguardo.recordings",
        "resguardo.consultations",
        "private.recording_secrets",
        "private.transcript_texts",
        "private.session_notes",
        "private.psychotherapy_notes",
        "audit.events",
    )
    with psycopg.connect(stack.project.superuser_url, autocommit=True) as connection:
        for role in ("anon", "authenticated", "service_role"):
            for table in tables:
                try:
                    with connection.transaction():
                        connection.execute(f"set local role {role}")
                        connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
                        connection.execute(f"select * from {table}")  # noqa: S608 - both are named above
                except psycopg.errors.InsufficientPrivilege:
                    continue
                raise DemoFailed(f"{role} may read {table}")
