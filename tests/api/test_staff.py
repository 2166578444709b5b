"""A member of staff is suspended: at once, here and at the identity provider."""

from uuid import uuid4

import pytest
from supabase_auth.errors import AuthApiError

from app.devstack.sign_in import sign_in
from app.integrations.supabase import SupabaseAdmin
from tests.api import documents
from tests.api.world import PUBLISHABLE_KEY, SECRET_KEY, Case, Person, World

pytestmark = pytest.mark.anyio


async def test_suspended_doctor_gets_nothing_at_once(world: World, case: Case, officer: Person) -> None:
    doctor = case.doctor
    second = await world.with_session(doctor)
    suspended = await officer.send(documents.SUSPEND, userId=str(doctor.user_id))
    assert suspended.data == {"suspendStaff": {"userId": str(doctor.user_id)}}
    for session in (doctor, second, await world.with_session(doctor)):
        code, reason = await session.refused(documents.CONSULTATIONS)
        assert (code, reason) in [("UNAUTHENTICATED", "session_over"), ("UNAUTHENTICATED", "staff_suspended")]
    (row,) = await world.audit(suspended.request_id)
    assert (row["action"], row["outcome"], row["entity_ids"]) == (
        "staff.suspend",
        "ALLOWED",
        [doctor.user_id],
    )


async def test_suspension_ends_every_session_of_that_person_alone(
    world: World, other_doctor: Person, officer: Person
) -> None:
    await world.with_session(other_doctor)
    await officer.ask(documents.SUSPEND, userId=str(other_doctor.user_id))
    assert not await world.rows("select id from auth.sessions where user_id = %s", other_doctor.user_id)
    assert await world.rows("select id from auth.sessions where user_id = %s", officer.user_id)


async def test_suspended_compliance_officer_gets_nothing_either(world: World, officer: Person) -> None:
    other = await world.staff("compliance")
    await officer.ask(documents.SUSPEND, userId=str(other.user_id))
    assert (await other.refused(documents.AUDIT_EVENTS))[0] == "UNAUTHENTICATED"


async def test_suspension_again_keeps_the_first(world: World, other_doctor: Person, officer: Person) -> None:
    again = await world.staff("compliance")
    facts = "select status, suspended_at, suspended_by from resguardo.staff where user_id = %s"
    await officer.ask(documents.SUSPEND, userId=str(other_doctor.user_id))
    first = await world.rows(facts, other_doctor.user_id)
    assert (await again.ask(documents.SUSPEND, userId=str(other_doctor.user_id)))["userId"]
    assert await world.rows(facts, other_doctor.user_id) == first
    assert (first[0]["status"], first[0]["suspended_by"]) == ("suspended", officer.user_id)


async def test_own_suspension_is_a_conflict(world: World, officer: Person) -> None:
    answer = await officer.send(documents.SUSPEND, userId=str(officer.user_id))
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "own_suspension")
    (row,) = await world.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("staff.suspend", "FAILED")
    assert (await officer.ask(documents.VIEWER))["role"] == "compliance"


async def test_suspension_of_who_is_not_staff_is_not_found_and_audited(
    world: World, case: Case, officer: Person
) -> None:
    for user_id in (uuid4(), case.patient.user_id):
        answer = await officer.send(documents.SUSPEND, userId=str(user_id))
        assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "staff_not_found")
        (row,) = await world.audit(answer.request_id)
        assert (row["outcome"], row["entity_ids"]) == ("ABSENT", [user_id])
    assert await officer.refused(documents.SUSPEND, userId="7") == ("INVALID_INPUT", "bad_id")
    assert (await case.patient.ask(documents.VIEWER))["role"] == "patient"


async def test_ban_reaches_the_identity_provider(world: World, officer: Person) -> None:
    admin = SupabaseAdmin(world.supabase_url, SECRET_KEY)
    login = (world.supabase_url, PUBLISHABLE_KEY, f"{uuid4().hex}@example.org", "correct horse battery")
    user_id = await admin.create_user(*login[2:])
    await admin.aclose()
    await world.rows("insert into resguardo.staff (user_id, role) values (%s, 'clinician')", user_id)
    await sign_in(*login)
    await officer.ask(documents.SUSPEND, userId=str(user_id))
    await world.work()
    with pytest.raises(AuthApiError) as refused:
        await sign_in(*login)
    assert refused.value.code == "user_banned"
    (row,) = await world.rows(
        "select * from audit.events where action = 'staff.ban' and entity_ids = %s", [user_id]
    )
    assert (row["outcome"], row["actor_role"]) == ("ALLOWED", "resguardo_worker")
