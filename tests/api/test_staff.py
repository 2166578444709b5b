"""Tests of the invitation and the suspension of staff. A suspension takes effect at once, both in Resguardo and at
the identity provider.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from supabase_auth.errors import AuthApiError

from app.integrations.supabase.client import SupabaseAdmin
from app.postgres.quotas import load_quotas
from devstack.sign_in import sign_in
from tests.api import documents
from tests.api.harness import PUBLISHABLE_KEY, SECRET_KEY, ApiHarness, Case, Person

pytestmark = pytest.mark.anyio


async def test_suspended_doctor_is_refused_immediately(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    doctor = case.doctor
    second = await harness.with_session(doctor)
    suspended = await officer.send(documents.SUSPEND, userId=str(doctor.user_id))
    member = suspended.value
    assert (member["user"]["id"], member["status"]) == (str(doctor.user_id), "SUSPENDED")
    assert member["suspendedAt"] is not None
    for session in (doctor, second, await harness.with_session(doctor)):
        code, reason = await session.refused(documents.CONSULTATIONS)
        assert (code, reason) in [("UNAUTHENTICATED", "session_over"), ("UNAUTHENTICATED", "staff_suspended")]
    (row,) = await harness.audit(suspended.request_id)
    assert (row["action"], row["outcome"], row["entities"]) == (
        "staff.suspend",
        "ALLOWED",
        [{"type": "staff", "ids": [str(doctor.user_id)]}],
    )


async def test_suspension_ends_only_the_sessions_of_that_person(
    harness: ApiHarness, other_doctor: Person, officer: Person
) -> None:
    await harness.with_session(other_doctor)
    await officer.ask(documents.SUSPEND, userId=str(other_doctor.user_id))
    assert not await harness.rows("select id from auth.sessions where user_id = %s", other_doctor.user_id)
    assert await harness.rows("select id from auth.sessions where user_id = %s", officer.user_id)


async def test_suspended_compliance_officer_is_refused(harness: ApiHarness, officer: Person) -> None:
    other = await harness.staff("compliance")
    await officer.ask(documents.SUSPEND, userId=str(other.user_id))
    assert (await other.refused(documents.AUDIT_EVENTS))[0] == "UNAUTHENTICATED"


async def test_repeated_suspension_keeps_the_first(
    harness: ApiHarness, other_doctor: Person, officer: Person
) -> None:
    again = await harness.staff("compliance")
    facts = "select status, suspended_at, suspended_by from resguardo.staff where user_id = %s"
    await officer.ask(documents.SUSPEND, userId=str(other_doctor.user_id))
    first = await harness.rows(facts, other_doctor.user_id)
    repeated = await again.ask(documents.SUSPEND, userId=str(other_doctor.user_id))
    assert repeated["status"] == "SUSPENDED"
    assert await harness.rows(facts, other_doctor.user_id) == first
    assert (first[0]["status"], first[0]["suspended_by"]) == ("suspended", officer.user_id)


async def test_own_suspension_is_a_conflict(harness: ApiHarness, officer: Person) -> None:
    answer = await officer.send(documents.SUSPEND, userId=str(officer.user_id))
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "own_suspension")
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("staff.suspend", "FAILED")
    assert (await officer.ask(documents.VIEWER))["role"] == "COMPLIANCE"


async def test_suspension_of_an_unknown_member_is_not_found_and_audited(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    for user_id in (uuid4(), case.patient.user_id):
        answer = await officer.send(documents.SUSPEND, userId=str(user_id))
        assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "staff_not_found")
        (row,) = await harness.audit(answer.request_id)
        assert (row["outcome"], row["entities"]) == ("ABSENT", [{"type": "staff", "ids": [str(user_id)]}])
    assert await officer.refused(documents.SUSPEND, userId="7") == ("INVALID_INPUT", "bad_id")
    assert (await case.patient.ask(documents.VIEWER))["role"] == "PATIENT"


async def test_ban_reaches_the_identity_provider(harness: ApiHarness, officer: Person) -> None:
    admin = SupabaseAdmin(harness.supabase_url, SECRET_KEY)
    login = (harness.supabase_url, PUBLISHABLE_KEY, f"{uuid4().hex}@example.org", "correct horse battery")
    user_id = await admin.create_user(*login[2:])
    await admin.aclose()
    harness.practice.member(user_id)
    await sign_in(*login)
    await officer.ask(documents.SUSPEND, userId=str(user_id))
    await harness.work()
    with pytest.raises(AuthApiError) as refused:
        await sign_in(*login)
    assert refused.value.code == "user_banned"
    (row,) = await harness.rows(
        "select * from audit.events where action = 'staff.ban' and entities -> 0 -> 'ids' ? %s", str(user_id)
    )
    assert (row["outcome"], row["actor_role"]) == ("ALLOWED", "resguardo_worker")


def _address() -> str:
    return f"new-{uuid4().hex[:12]}@example.org"


def _wanted(email: str, role: str = "CLINICIAN") -> dict[str, str]:
    return {"email": email, "staffRole": role}


async def _invitations(
    officer: Person, document: str = documents.STAFF_INVITATIONS
) -> dict[str, dict[str, Any]]:
    """Return the newest 100 staff invitations by their ids."""
    page = await officer.ask(document)
    return {edge["node"]["id"]: edge["node"] for edge in page["edges"]}


async def _login(harness: ApiHarness, email: str, *, confirmed: bool = True) -> UUID:
    admin = SupabaseAdmin(harness.supabase_url, SECRET_KEY)
    try:
        return await admin.create_user(email, "correct horse battery", confirmed=confirmed)
    finally:
        await admin.aclose()


async def test_invited_clinician_is_staff_after_the_worker_ran(harness: ApiHarness, officer: Person) -> None:
    email = _address()
    answer = await officer.send(documents.INVITE_STAFF, **_wanted(email.upper()))
    invited = answer.value
    assert (invited["role"], invited["status"], invited["problem"]) == ("CLINICIAN", "PENDING", None)
    await harness.work()
    (row,) = await harness.rows(
        "select s.role, s.status, s.origin, i.email, i.invited_by from resguardo.staff as s"
        " join private.staff_invitations as i on i.user_id = s.user_id where i.id = %s",
        UUID(invited["id"]),
    )
    assert row == {
        "role": "clinician",
        "status": "active",
        "origin": "OWN",
        "email": email,
        "invited_by": officer.user_id,
    }
    found = await _invitations(officer)
    assert found[invited["id"]]["status"] == "SENT"
    (event,) = await harness.audit(answer.request_id)
    assert (event["action"], event["outcome"], event["operation"]) == ("staff.invite", "ALLOWED", "C")
    assert event["entities"] == [{"type": "staff_invitation", "ids": [invited["id"]]}]


async def test_address_of_an_invitation_is_stored_only_in_its_row(
    harness: ApiHarness, officer: Person, caplog: pytest.LogCaptureFixture
) -> None:
    email = _address()
    with caplog.at_level(logging.DEBUG):
        sent = await officer.send(documents.INVITE_STAFF, **_wanted(email))
        await harness.work()
        again = await officer.send(documents.INVITE_STAFF, **_wanted(email))
    listed = await officer.send(documents.STAFF_INVITATIONS)
    jobs = await harness.rows("select args, lock, queueing_lock from jobs.procrastinate_jobs")
    events = await harness.rows("select to_jsonb(e)::text as row from audit.events as e")
    shown = [
        sent.response.text,
        again.response.text,
        listed.response.text,
        caplog.text,
        str(jobs),
        str(events),
    ]
    assert not [text for text in shown if email.split("@")[0] in text]
    assert await harness.rows("select id from private.staff_invitations where email = %s", email)


async def test_list_of_invitations_is_audited(harness: ApiHarness, officer: Person) -> None:
    invited = await officer.ask(documents.INVITE_STAFF, **_wanted(_address()))
    answer = await officer.send(documents.STAFF_INVITATIONS)
    assert answer.value["edges"][0]["node"] == invited
    (event,) = await harness.audit(answer.request_id)
    assert (event["action"], event["outcome"]) == ("staff.list_invitations", "ALLOWED")
    (named,) = event["entities"]
    listed = {edge["node"]["id"] for edge in answer.value["edges"]}
    assert (named["type"], set(named["ids"])) == ("staff_invitation", listed)
    assert event["fields"] == ["createdAt", "id", "problem.code", "problem.message", "role", "status"]
    await harness.work()


async def test_repeated_invitation_sends_the_pending_invitation_again(
    harness: ApiHarness, officer: Person
) -> None:
    email = _address()
    first = await officer.ask(documents.INVITE_STAFF, **_wanted(email))
    assert await officer.ask(documents.INVITE_STAFF, **_wanted(email)) == first
    other = await officer.refused(documents.INVITE_STAFF, **_wanted(email, "COMPLIANCE"))
    assert other == ("CONFLICT", "invitation_differs")
    queued = "select id from jobs.procrastinate_jobs where task_name = 'invite_staff' and args ->> 'id' = %s"
    assert len(await harness.rows(queued, first["id"])) == 2
    await harness.work()
    staff = (
        "select s.role from resguardo.staff as s join auth.users as u on u.id = s.user_id where u.email = %s"
    )
    assert await harness.rows(staff, email) == [{"role": "clinician"}]


async def test_invitation_of_an_active_member_is_a_conflict_without_a_name(
    harness: ApiHarness, officer: Person
) -> None:
    email = _address()
    login = await _login(harness, email)
    harness.practice.member(login)
    answer = await officer.send(documents.INVITE_STAFF, **_wanted(email, "COMPLIANCE"))
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "already_staff")
    (event,) = await harness.audit(answer.request_id)
    assert (event["outcome"], event["reason"]) == ("FAILED", "already_staff")
    assert event["entities"] == [{"type": "staff", "ids": [str(login)]}]
    assert await harness.rows("select role from resguardo.staff where user_id = %s", login) == [
        {"role": "clinician"}
    ]


async def test_invitation_of_a_patients_login_is_a_conflict_audited_with_the_patient(
    harness: ApiHarness, officer: Person
) -> None:
    email = _address()
    login = await _login(harness, email)
    await harness.case(patientUserId=str(login))
    answer = await officer.send(documents.INVITE_STAFF, **_wanted(email))
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "login_is_patient")
    (patient,) = await harness.rows("select id from resguardo.patients where user_id = %s", login)
    (event,) = await harness.audit(answer.request_id)
    assert (event["outcome"], event["patient_ids"]) == ("FAILED", [patient["id"]])
    assert not await harness.rows("select role from resguardo.staff where user_id = %s", login)


async def test_invitation_of_an_unconfirmed_login_is_refused(harness: ApiHarness, officer: Person) -> None:
    email = _address()
    await _login(harness, email, confirmed=False)
    refused = await officer.refused(documents.INVITE_STAFF, **_wanted(email, "COMPLIANCE"))
    assert refused == ("CONFLICT", "login_unconfirmed")


@pytest.mark.parametrize(
    "email",
    [
        "",
        "nobody",
        "a b@example.org",
        "a@b",
        "é@example.org",
        "a@example.org\n",
        "a..b@example.org",
        f"{'a' * 250}@b.org",
    ],
)
async def test_invalid_address_is_refused_and_not_repeated_in_the_error(
    harness: ApiHarness, officer: Person, email: str
) -> None:
    answer = await officer.send(documents.INVITE_STAFF, **_wanted(email))
    assert (answer.error.code, answer.error.reason) == ("INVALID_INPUT", "bad_email")
    assert not email or email not in json.dumps(answer.body, ensure_ascii=False)
    assert (await officer.refused(documents.INVITE_STAFF, **_wanted(_address(), "PATIENT")))[0] in (
        "INVALID_INPUT",
        "INVALID_INPUT",
    )


async def test_invitations_beyond_the_hourly_quota_are_refused_and_audited(
    harness: ApiHarness, officer: Person
) -> None:
    await harness.spend(officer, "invitations", load_quotas().invitations - 1)
    await officer.ask(documents.INVITE_STAFF, **_wanted(_address()))
    email = _address()
    answer = await officer.send(documents.INVITE_STAFF, **_wanted(email))
    assert (answer.error.code, answer.error.reason) == ("RATE_LIMITED", "quota_invitations")
    (event,) = await harness.audit(answer.request_id)
    assert (event["action"], event["outcome"]) == ("staff.invite", "DENIED")
    assert not await harness.rows("select id from private.staff_invitations where email = %s", email)
    await harness.work()


async def test_failed_invitation_has_its_reason(harness: ApiHarness, officer: Person) -> None:
    email = _address()
    invited = await officer.ask(documents.INVITE_STAFF, **_wanted(email))
    await _login(harness, email, confirmed=False)
    await harness.work()
    found = await _invitations(officer)
    failed = found[invited["id"]]
    assert (failed["status"], failed["problem"]["code"]) == ("FAILED", "LOGIN_UNCONFIRMED")
    assert datetime.fromisoformat(invited["createdAt"]) <= datetime.now(UTC)


async def test_only_the_inviting_officer_reads_the_address_of_a_failed_invitation(
    harness: ApiHarness, officer: Person, caplog: pytest.LogCaptureFixture
) -> None:
    email, other = _address(), await harness.staff("compliance")
    invited = await officer.ask(documents.INVITE_STAFF, **_wanted(email))
    await harness.rows("select private.fail_staff_invitation(%s, 'mail_refused')", UUID(invited["id"]))
    found = (await _invitations(officer, documents.INVITED_ADDRESSES))[invited["id"]]
    assert (found["email"], found["problem"]["code"]) == (email, "MAIL_REFUSED")
    assert "SMTP" in found["problem"]["message"]
    spanish = await officer.send(documents.INVITED_ADDRESSES, in_language="es")
    problems = {edge["node"]["id"]: edge["node"]["problem"] for edge in spanish.value["edges"]}
    assert "rechazado" in problems[invited["id"]]["message"]
    seen = (await _invitations(other, documents.INVITED_ADDRESSES))[invited["id"]]
    assert (seen["email"], seen["problem"]["code"]) == (None, "MAIL_REFUSED")
    assert email not in caplog.text


async def test_invitations_are_listed_in_pages(harness: ApiHarness, officer: Person) -> None:
    invited = [(await officer.ask(documents.INVITE_STAFF, **_wanted(_address())))["id"] for _ in range(3)]
    seen: list[str] = []
    after = None
    for size in (2, 1):
        answer = await officer.send(documents.STAFF_INVITATIONS, first=size, after=after)
        seen += [edge["node"]["id"] for edge in answer.value["edges"]]
        after = answer.value["pageInfo"]["endCursor"]
        (event,) = await harness.audit(answer.request_id)
        assert event["row_count"] == len(event["entities"][0]["ids"]) == size
    assert seen == invited[::-1]
    await harness.work()


async def test_members_are_listed_newest_first_in_pages_and_audited(
    harness: ApiHarness, officer: Person
) -> None:
    doctor, second = await harness.clinician(), await harness.staff("compliance")
    answer = await officer.send(documents.STAFF, first=2)
    nodes = [edge["node"] for edge in answer.value["edges"]]
    assert [node["user"]["id"] for node in nodes] == [str(second.user_id), str(doctor.user_id)]
    assert [(node["role"], node["status"], node["suspendedAt"]) for node in nodes] == [
        ("COMPLIANCE", "ACTIVE", None),
        ("CLINICIAN", "ACTIVE", None),
    ]
    assert len({node["id"] for node in nodes} | {node["user"]["id"] for node in nodes}) == 4
    (event,) = await harness.audit(answer.request_id)
    assert (event["action"], event["outcome"], event["operation"]) == ("staff.list", "ALLOWED", "R")
    assert (event["basis"], event["row_count"]) == ("compliance_review", 2)
    (named,) = event["entities"]
    assert (named["type"], set(named["ids"])) == ("staff", {str(second.user_id), str(doctor.user_id)})
    assert event["fields"] == [
        "createdAt",
        "id",
        "lastUsedAt",
        "publishedName",
        "role",
        "roleGivenAt",
        "status",
        "suspendedAt",
        "user.id",
    ]
    cursor = answer.value["pageInfo"]["endCursor"]
    third = await officer.ask(documents.STAFF, first=1, after=cursor)
    assert third["edges"][0]["node"]["user"]["id"] == str(officer.user_id)


async def test_members_are_filtered_by_role_and_status(
    harness: ApiHarness, officer: Person, other_doctor: Person
) -> None:
    suspended = await harness.clinician()
    changed = await officer.ask(documents.SUSPEND, userId=str(suspended.user_id))

    async def found(**wanted: object) -> list[str]:
        page = await officer.ask(documents.STAFF, first=100, filter=wanted)
        return [edge["node"]["user"]["id"] for edge in page["edges"]]

    gone = await found(statuses=["SUSPENDED"])
    assert str(suspended.user_id) in gone
    assert str(other_doctor.user_id) not in gone
    doctors = await found(roles=["CLINICIAN"], statuses=["ACTIVE"])
    assert str(other_doctor.user_id) in doctors
    assert not {str(suspended.user_id), str(officer.user_id)} & set(doctors)
    assert str(officer.user_id) in await found(roles=["CLINICIAN", "COMPLIANCE"])
    page = await officer.ask(documents.STAFF, first=100, filter={"statuses": ["SUSPENDED"]})
    assert changed in [edge["node"] for edge in page["edges"]]


async def _listed(officer: Person, person: Person) -> Any:
    page = await officer.ask(documents.STAFF, first=100)
    (found,) = [e["node"] for e in page["edges"] if e["node"]["user"]["id"] == str(person.user_id)]
    return found


async def test_published_name_is_set_and_removed_by_compliance_and_never_audited(
    harness: ApiHarness, other_doctor: Person, officer: Person, caplog: pytest.LogCaptureFixture
) -> None:
    user = str(other_doctor.user_id)
    with caplog.at_level(logging.DEBUG):
        named = await officer.send(
            documents.PUBLISH_STAFF_NAME, userId=user, publishedName=" Dra. Ada Exámple "
        )
    assert named.value["publishedName"] == "Dra. Ada Exámple"
    (row,) = await harness.audit(named.request_id)
    assert (row["action"], row["outcome"], row["fields"]) == (
        "staff.publish_name",
        "ALLOWED",
        ["publishedName"],
    )
    assert "Exámple" not in str(row) + caplog.text
    assert (await _listed(officer, other_doctor))["publishedName"] == "Dra. Ada Exámple"
    (name,) = await harness.rows("select private.published_name(%s) as name", other_doctor.user_id)
    assert name["name"] == "Dra. Ada Exámple"
    removed = await officer.ask(documents.PUBLISH_STAFF_NAME, userId=user, publishedName=None)
    assert removed["publishedName"] is None
    answer = await officer.send(documents.PUBLISH_STAFF_NAME, userId=str(uuid4()), publishedName="X")
    assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "staff_not_found")
    assert (await harness.audit(answer.request_id))[0]["outcome"] == "ABSENT"


@pytest.mark.parametrize("name", ["", "  ", "a" * 101, "Ada\nEve", "Ada\u202eevE", "Ada\u200b", "\x00"])
async def test_published_name_with_unsafe_characters_is_refused(
    other_doctor: Person, officer: Person, name: str
) -> None:
    answer = await officer.send(
        documents.PUBLISH_STAFF_NAME, userId=str(other_doctor.user_id), publishedName=name
    )
    assert (answer.error.code, answer.error.reason) == ("INVALID_INPUT", "bad_published_name")


async def test_last_use_is_the_newest_allowed_event_and_refusals_do_not_count(
    harness: ApiHarness, other_doctor: Person, officer: Person
) -> None:
    assert (await _listed(officer, other_doctor))["lastUsedAt"] is None
    await other_doctor.refused(documents.STAFF)
    assert (await _listed(officer, other_doctor))["lastUsedAt"] is None
    used = await other_doctor.send(documents.VIEWER)
    await other_doctor.refused(documents.STAFF)
    (row,) = await harness.audit(used.request_id)
    assert datetime.fromisoformat((await _listed(officer, other_doctor))["lastUsedAt"]) == row["recorded_at"]


async def test_last_use_before_a_thousand_refusals_is_still_found(
    harness: ApiHarness, other_doctor: Person, officer: Person
) -> None:
    used = await other_doctor.send(documents.VIEWER)
    (row,) = await harness.audit(used.request_id)
    await harness.rows(
        "insert into audit.events (actor_id, actor_role, action, operation, outcome, purpose, basis, policy_version)"
        " select %s, 'clinician', 'staff.list', 'R', 'DENIED', 'TREATMENT', 'refused', 'test'"
        " from generate_series(1, 1001) returning id",
        other_doctor.user_id,
    )
    assert datetime.fromisoformat((await _listed(officer, other_doctor))["lastUsedAt"]) == row["recorded_at"]
