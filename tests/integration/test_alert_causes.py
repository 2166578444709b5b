"""Tests of the alerts that the stored rows open: each opens when its cause appears, and closes when the cause ends."""

from collections.abc import AsyncIterator
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from app.alerts.model import FROM_ROWS, AlertKind
from app.alerts.service import Alerts
from app.alerts.tasks import PATIENCE_SECONDS, FailingTasks
from app.errors import UpstreamFailed
from app.postgres.database import Database as Pool
from tests.alerts import evaluated_alerts, open_alerts
from tests.databases import Database

pytestmark = pytest.mark.anyio

OFFICER = UUID(int=7)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    pool = Pool(database.worker_url, application="test-alerts")
    yield pool
    await pool.close()


def _change(database: Database, sql: LiteralString, *values: object) -> list[dict[str, Any]]:
    with psycopg.connect(database.superuser_url, row_factory=dict_row) as connection:
        connection.execute("set session_replication_role = replica")
        cursor = connection.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


async def test_every_kind_of_rows_is_evaluated(database: Database, pool: Pool) -> None:
    """Each statement runs, and a new database has none of these causes."""
    assert len(FROM_ROWS) == len(set(FROM_ROWS))
    assert await evaluated_alerts(database, pool) == []


async def test_kind_that_the_rows_do_not_show_is_refused(database: Database) -> None:
    with psycopg.connect(database.worker_url) as worker, pytest.raises(psycopg.errors.CaseNotFound):
        worker.execute("select * from private.evaluate_alerts('NO_LEADER')")


async def test_lost_recording_is_an_alert_for_seven_days(database: Database, pool: Pool) -> None:
    lost, old = uuid4(), uuid4()
    for recording, days in ((lost, 6), (old, 8)):
        _change(
            database,
            "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name,"
            " status, status_at, error) values (%s, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),"
            " gen_random_uuid(), %s, 'LOST', now() - make_interval(days => %s), 'egress_lost')",
            recording,
            f"room-{recording}",
            days,
        )
    assert await evaluated_alerts(database, pool) == [("RECORDING_LOST", str(lost))]
    _change(
        database, "update resguardo.recordings set status_at = now() - interval '8 days' where id = %s", lost
    )
    assert await evaluated_alerts(database, pool) == []


@pytest.mark.parametrize(
    ("action", "reason", "kind"),
    [
        ("recording.transition", "RECORDING>VERIFYING:egress_lost", "EGRESS_DIED"),
        ("egress.stop_stray", "no_intent", "STRAY_EGRESS"),
        ("audit_log.adopt", None, "AUDIT_LOG_ADOPTED"),
    ],
)
async def test_event_is_an_alert_for_a_time(
    database: Database, pool: Pool, action: str, reason: str | None, kind: str
) -> None:
    thing = str(uuid4())
    insert: LiteralString = (
        "insert into audit.events (recorded_at, actor_role, action, operation, outcome, reason, purpose, basis,"
        " policy_version, entities) values (now() - make_interval(hours => %s), 'resguardo_worker', %s, 'U',"
        " 'ALLOWED', %s, 'OPERATIONS', 'reconcile', '1', jsonb_build_array(jsonb_build_object('type', 'recording',"
        " 'ids', jsonb_build_array(%s::text)))) returning id"
    )
    _change(database, insert, 24 * 8, action, reason, str(uuid4()))
    unsealed = ("AUDIT_LOG_UNSEALED", "")  # the event is old, and no sealer runs
    assert await evaluated_alerts(database, pool) == [unsealed]
    ((event),) = _change(database, insert, 0, action, reason, thing)
    key = thing if kind == "EGRESS_DIED" else str(event["id"])
    assert set(await evaluated_alerts(database, pool)) == {unsealed, (kind, key)}


async def test_suspended_member_without_a_ban_is_an_alert_until_the_ban(
    database: Database, pool: Pool
) -> None:
    member, mapped = uuid4(), uuid4()
    for user, by in ((member, OFFICER), (mapped, UUID(int=0))):
        _change(database, "insert into auth.users (id) values (%s)", user)
        _change(
            database,
            "insert into resguardo.staff (user_id, role, status, suspended_at, suspended_by)"
            " values (%s, 'clinician', 'suspended', now() - interval '16 minutes', %s)",
            user,
            by,
        )
    assert await evaluated_alerts(database, pool) == [("BAN_FAILED", str(member))]
    _change(
        database, "update auth.users set banned_until = now() + interval '100 years' where id = %s", member
    )
    assert await evaluated_alerts(database, pool) == []


async def test_member_who_was_just_suspended_is_no_alert(database: Database, pool: Pool) -> None:
    member = uuid4()
    _change(database, "insert into auth.users (id) values (%s)", member)
    _change(
        database,
        "insert into resguardo.staff (user_id, role, status, suspended_at, suspended_by)"
        " values (%s, 'clinician', 'suspended', now(), %s)",
        member,
        OFFICER,
    )
    assert await evaluated_alerts(database, pool) == []


async def test_failed_jobs_of_a_task_are_one_alert_for_a_day(database: Database, pool: Pool) -> None:
    ids = [uuid4() for _ in range(3)]
    for argument in [*map(str, ids), "EV_not_a_uuid"]:
        ((job),) = _change(
            database,
            "insert into jobs.procrastinate_jobs (queue_name, task_name, args, status)"
            " values ('media', 'make_clip', jsonb_build_object('id', %s::text), 'failed') returning id",
            argument,
        )
        _change(
            database,
            "insert into jobs.procrastinate_events (job_id, type, at) values (%s, 'failed', now())",
            job["id"],
        )
    assert await evaluated_alerts(database, pool) == [("JOB_FAILED", "make_clip")]
    (row,) = _change(database, "select entity_ids from resguardo.alerts")
    assert row["entity_ids"] == sorted(ids)
    _change(database, "update jobs.procrastinate_events set at = now() - interval '25 hours'")
    assert await evaluated_alerts(database, pool) == []


async def test_expired_export_that_stays_is_an_alert(database: Database, pool: Pool) -> None:
    export = uuid4()
    _change(
        database,
        "insert into resguardo.audit_exports (id, requested_by, format, filter, status, sha256, content_event_id,"
        " size_bytes, finished_at, expires_at) values (%s, %s, 'CSV', '(,,,,,,,,,,)', 'READY', %s, gen_random_uuid(),"
        " 1, now(), now() - interval '59 minutes')",
        export,
        OFFICER,
        "ab" * 32,
    )
    assert await evaluated_alerts(database, pool) == []
    _change(database, "update resguardo.audit_exports set expires_at = now() - interval '61 minutes'")
    assert await evaluated_alerts(database, pool) == [("EXPORT_NOT_DELETED", str(export))]
    _change(database, "update resguardo.audit_exports set status = 'EXPIRED'")
    assert await evaluated_alerts(database, pool) == []


@pytest.mark.parametrize("kind", ["TRANSCRIPT_UNREADABLE", "AUDIT_BUCKET_DIFFERS"])
async def test_alert_that_no_row_shows_closes_a_day_after_it_was_last_seen(
    database: Database, pool: Pool, kind: str
) -> None:
    await Alerts(pool).open(AlertKind(kind), "x")
    assert await evaluated_alerts(database, pool) == [(kind, "x")]
    _change(database, "update resguardo.alerts set seen_at = now() - interval '25 hours'")
    assert await evaluated_alerts(database, pool) == []


async def test_alert_opens_in_the_next_run_after_an_outage_of_the_database(
    database: Database, pool: Pool
) -> None:
    _change(
        database, "insert into private.drifts (topic, code, subject) values ('locks', 'lock_missing', 'r/')"
    )
    down = Pool("postgresql://resguardo_worker:x@127.0.0.1:1/nothing", application="test", seconds=2)
    with pytest.raises(UpstreamFailed):
        await Alerts(down).evaluate()
    await down.close()
    assert open_alerts(database) == []
    assert await evaluated_alerts(database, pool) == [("BUCKET_DRIFT", "locks:lock_missing:r/")]
    _change(database, "delete from private.drifts")
    assert await evaluated_alerts(database, pool) == []


async def test_failing_statement_of_one_kind_leaves_the_other_kinds(database: Database, pool: Pool) -> None:
    _change(
        database, "insert into private.drifts (topic, code, subject) values ('locks', 'lock_missing', 'r/')"
    )
    _change(database, "alter table resguardo.access_requests rename to renamed")
    with pytest.raises(psycopg.Error):
        await Alerts(pool).evaluate()
    assert ("BUCKET_DRIFT", "locks:lock_missing:r/") in open_alerts(database)


async def test_worker_that_leads_closes_the_alert_about_a_missing_leader(
    database: Database, pool: Pool
) -> None:
    with psycopg.connect(database.superuser_url) as connection:
        connection.execute("select private.open_alert('NO_LEADER', '', null, '{}')")
        connection.execute("select private.take_lease('me', null)")
    assert await evaluated_alerts(database, pool) == []


async def test_periodic_task_with_a_bug_is_an_alert_until_it_runs(database: Database, pool: Pool) -> None:
    now = 0.0
    failing = FailingTasks(Alerts(pool), clock=lambda: now)
    await failing.report_success("sweep")
    await failing.report_failure("sweep", is_bug=True)
    assert open_alerts(database) == [("TASK_FAILING", "sweep")]
    await failing.report_success("sweep")
    assert open_alerts(database) == []


async def test_periodic_task_whose_service_is_down_is_an_alert_after_five_minutes(
    database: Database, pool: Pool
) -> None:
    now = 0.0
    failing = FailingTasks(Alerts(pool), clock=lambda: now)
    await failing.report_failure("reconcile", is_bug=False)
    now = PATIENCE_SECONDS - 1
    await failing.report_failure("reconcile", is_bug=False)
    assert open_alerts(database) == []
    now = PATIENCE_SECONDS
    await failing.report_failure("reconcile", is_bug=False)
    assert open_alerts(database) == [("TASK_FAILING", "reconcile")]


async def test_new_leader_closes_the_alert_that_another_worker_opened(database: Database, pool: Pool) -> None:
    first = FailingTasks(Alerts(pool), clock=lambda: 0.0)
    await first.report_success("sweep")
    await FailingTasks(Alerts(pool), clock=lambda: 0.0).report_failure("sweep", is_bug=True)
    first.begin()
    await first.report_success("sweep")
    assert open_alerts(database) == []


async def test_clock_of_a_breach_assessment_opens_alerts(database: Database, pool: Pool) -> None:
    days = {"far": 49, "near": 50, "last": 60, "late": 61}
    made = {name: uuid4() for name in days}
    for name, ago in days.items():
        _change(
            database,
            "insert into resguardo.breach_assessments (id, filter, discovered_on, due_on, next_due_on, opened_by,"
            " count_status) values (%s, '(,,,,,,,,,,)', private.today() - %s, private.today() + 60 - %s,"
            " private.today() + 60 - %s, gen_random_uuid(), %s)",
            made[name],
            ago,
            ago,
            ago,
            "FAILED" if name == "far" else "COUNTED",
        )
    assert sorted(await evaluated_alerts(database, pool)) == sorted(
        [
            (AlertKind.BREACH_COUNT_FAILED, str(made["far"])),
            (AlertKind.BREACH_DUE, str(made["near"])),
            (AlertKind.BREACH_DUE, str(made["last"])),
            (AlertKind.BREACH_OVERDUE, str(made["late"])),
        ]
    )
    _change(
        database,
        "update resguardo.breach_assessments set status = 'CLOSED', next_due_on = null, closed_at = now(),"
        " decision = 'SECURED', decided_by = gen_random_uuid(), decided_at = now(), sha256 = repeat('0', 64),"
        " document = '{}', event_id = gen_random_uuid()",
    )
    assert await evaluated_alerts(database, pool) == []


async def test_month_without_an_attestation_is_an_alert_until_it_is_attested(
    database: Database, pool: Pool
) -> None:
    _change(
        database,
        "insert into resguardo.staff (user_id, role, created_at) values (%s, 'compliance', now() - interval '45 days')",
        OFFICER,
    )
    found = await evaluated_alerts(database, pool)
    months = [key for kind, key in found if kind == AlertKind.REVIEW_UNATTESTED]
    assert months
    for month in months:
        _change(
            database,
            "insert into resguardo.attestations (month, attested_by, findings, document, sha256, event_id)"
            " values (%s, %s, '{NOTHING}', '{}', repeat('0', 64), gen_random_uuid())",
            f"{month}-01",
            OFFICER,
        )
    assert await evaluated_alerts(database, pool) == []
