"""Tests of the rules of the review: which events each rule matches and does not match, and that each sealed event is
evaluated exactly once, also if it is committed late or the evaluation dies.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from app.review.rules_file import parse
from tests.databases import Database
from tests.policies.acting import acting, at_once, refused, superuser, value
from tests.policies.actors import ANA, BRUNO, Connection, actor, id_of

RULES = Path(__file__).parents[2] / "policies" / "review.toml"
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RECORDING = ANA.id_of("over READY")
EVALUATE: LiteralString = "select private.review_audit_log(500)"
CARLA = id_of("carla")


@dataclass
class Log:
    """The audit log of a test, and the rules that are evaluated."""

    database: Database
    owner: Connection
    sealed: dict[int, int] = field(default_factory=dict)

    def event(self, action: str, at: datetime = NOON, *, seal: bool = True, **given: Any) -> UUID:
        """Insert an event, and seal it unless `seal` is false. The actor is Ana and the patient is Paula."""
        values: dict[str, Any] = {
            "id": uuid4(),
            "recorded_at": at,
            "occurred_at": None,
            "actor_id": ANA.doctor_id,
            "actor_role": "clinician",
            "action": action,
            "operation": "R",
            "outcome": "ALLOWED",
            "reason": None,
            "purpose": "TREATMENT",
            "basis": "treating_clinician",
            "entities": [],
            "patient_ids": [ANA.patient_id],
            "consultation_ids": [],
            "policy_version": "",
        } | given
        values["entities"] = Jsonb(values["entities"])
        columns = sql.SQL(", ").join(map(sql.Identifier, values))
        places = sql.SQL(", ").join(map(sql.Placeholder, values))
        insert = sql.SQL("insert into audit.events ({}) values ({})").format(columns, places)
        self.owner.execute(insert, values)
        if seal:
            self.seal(values["id"], at)
        return UUID(str(values["id"]))

    def seal(self, event_id: UUID, at: datetime) -> None:
        """Seal an event as the next leaf of the log of its year."""
        index = self.sealed.get(at.year, 0)
        self.sealed[at.year] = index + 1
        self.owner.execute(
            "insert into audit.logs (log_year, origin) values (%s, 'x') on conflict do nothing", [at.year]
        )
        self.owner.execute(
            "insert into audit.leaves (log_year, index, event_id, recorded_at, entry, leaf_hash)"
            " values (%s, %s, %s, %s, %s, %s)",
            [at.year, index, event_id, at, bytes(32), bytes(32)],
        )
        self.owner.execute("update audit.logs set size = %s where log_year = %s", [index + 1, at.year])

    def evaluate(self) -> int:
        """Evaluate the sealed events as the worker does, and return how many were read."""
        read = 0
        while True:
            with acting(self.database, "resguardo_worker") as worker:
                now = value(worker, EVALUATE)
            if now == 0:
                return read
            read += now

    def found(self, rule: str) -> set[UUID]:
        """Evaluate, and return the events that the cases of a rule list."""
        self.evaluate()
        return {
            row[0]
            for row in self.owner.execute(
                "select l.id from resguardo.review_case_events as l inner join resguardo.review_cases as c"
                " on c.id = l.case_id where c.rule = %s and c.case_key not like 'seed%%'",
                [rule],
            )
        }

    def cases(self, rule: str) -> list[dict[str, Any]]:
        self.evaluate()
        return [
            row[0]
            for row in self.owner.execute(
                "select to_jsonb(c) from resguardo.review_cases as c where c.rule = %s order by c.case_key",
                [rule],
            )
        ]

    def rules(self, only: Sequence[str] = (), **settings: dict[str, Any]) -> None:
        """Put the rules of the repository into force, with only some of them enabled and with other settings."""
        terms = parse(RULES.read_text(encoding="utf-8")).terms
        for name, rule in terms["rules"].items():
            rule["enabled"] = not only or name in only
            rule.update(settings.get(name, {}))
        self.owner.execute("delete from resguardo.review_policies where status = 'ACTIVE'")
        self.owner.execute(
            "insert into resguardo.review_policies (name, sha256, status, source, rules, activated_at)"
            " values ('test', repeat('cd', 32), 'ACTIVE', '', %s, now())",
            [Jsonb(terms)],
        )


@pytest.fixture
def log(practice: Database) -> Iterator[Log]:
    with superuser(practice) as owner:
        owner.execute("delete from resguardo.review_case_events")
        owner.execute("delete from resguardo.review_cases")
        owner.execute("delete from private.review_counts")
        owner.execute("delete from private.related_pairs")
        owner.execute("delete from private.related_imports")
        made = Log(practice, owner)
        made.rules()
        yield made


def _recording(recording: UUID = RECORDING) -> list[dict[str, Any]]:
    return [{"type": "recording", "ids": [str(recording)]}]


def _many(
    log: Log, count: int, action: str, apart: timedelta, at: datetime = NOON, **given: Any
) -> list[UUID]:
    return [log.event(action, at + n * apart, **given) for n in range(count)]


# ---- The evaluation


def test_each_event_is_evaluated_once(log: Log) -> None:
    log.rules(["after_hours"])
    hit = log.event("recording.read", NOON.replace(hour=3))
    assert log.evaluate() == 1
    assert log.evaluate() == 0
    [case] = log.cases("after_hours")
    assert (case["event_count"], case["subject_id"]) == (1, str(ANA.doctor_id))
    assert log.found("after_hours") == {hit}


def test_event_that_is_sealed_late_is_evaluated_with_its_own_time(log: Log) -> None:
    log.rules(["after_hours"])
    late = log.event("recording.read", NOON.replace(hour=3), seal=False)
    log.event("recording.read", NOON)
    assert log.found("after_hours") == set()
    log.seal(late, NOON.replace(hour=3))
    assert log.found("after_hours") == {late}


def test_evaluation_that_dies_before_its_commit_is_repeated_whole(log: Log) -> None:
    log.rules(["after_hours"])
    hit = log.event("recording.read", NOON.replace(hour=3))
    with psycopg.connect(log.database.worker_url) as worker:
        worker.execute("set role resguardo_worker")
        assert value(worker, EVALUATE) == 1
        worker.rollback()
    assert log.owner.execute("select from resguardo.review_cases").rowcount == 0
    assert log.found("after_hours") == {hit}
    assert log.cases("after_hours")[0]["event_count"] == 1


def test_two_evaluations_at_once_evaluate_nothing_twice(log: Log) -> None:
    log.rules(["after_hours"])
    log.event("recording.read", NOON.replace(hour=3))
    log.evaluate()
    log.event("recording.read", NOON.replace(hour=4))

    def again() -> int:
        with acting(log.database, "resguardo_worker") as worker:
            return int(value(worker, EVALUATE))

    with psycopg.connect(log.database.worker_url) as worker:
        assert value(worker, EVALUATE) == 1
        with at_once(log.database, worker, again) as second:
            worker.commit()
            assert second.result() == 0
    assert log.cases("after_hours")[0]["event_count"] == 2


def test_clock_that_jumps_into_another_year_and_back_loses_nothing(log: Log) -> None:
    log.rules(["after_hours"])
    hits = {
        log.event("recording.read", at)
        for at in (
            datetime(2027, 1, 1, 3, tzinfo=UTC),
            datetime(2026, 12, 31, 3, tzinfo=UTC),
            datetime(2028, 3, 1, 3, tzinfo=UTC),
            datetime(2026, 1, 1, 3, tzinfo=UTC),
        )
    }
    assert log.found("after_hours") == hits
    assert len(log.cases("after_hours")) == 4


def test_leaf_without_its_event_is_passed(log: Log) -> None:
    log.rules(["after_hours"])
    log.seal(uuid4(), NOON)
    hit = log.event("recording.read", NOON.replace(hour=3))
    assert log.found("after_hours") == {hit}


def test_batch_is_bounded_and_the_next_call_goes_on(log: Log) -> None:
    log.rules(["after_hours"])
    _many(log, 7, "recording.read", MINUTE)
    for read in (3, 3, 1, 0):
        with acting(log.database, "resguardo_worker") as worker:
            assert value(worker, "select private.review_audit_log(3)") == read


def test_rule_that_matches_every_event_stays_bounded_and_says_so(log: Log) -> None:
    log.rules(["after_hours"], after_hours={"days": []})
    log.owner.execute(
        "with made as (insert into audit.events (recorded_at, actor_id, actor_role, action, operation, outcome,"
        " purpose, basis, patient_ids, policy_version) select %s::timestamptz + n * interval '1 ms', %s, 'clinician',"
        " 'recording.read', 'R', 'ALLOWED', 'TREATMENT', 'treating_clinician', array[gen_random_uuid()], ''"
        " from generate_series(1, 1200) as n returning id, recorded_at), log as (insert into audit.logs"
        " (log_year, origin, size) values (2026, 'x', 1200) on conflict (log_year) do update set size = 1200)"
        " insert into audit.leaves (log_year, index, event_id, recorded_at, entry, leaf_hash)"
        " select 2026, row_number() over () - 1, m.id, m.recorded_at, %s, %s from made as m",
        [NOON, ANA.doctor_id, bytes(32), bytes(32)],
    )
    assert log.evaluate() == 1200
    [case] = log.cases("after_hours")
    assert (case["event_count"], case["listed_event_count"]) == (1200, 1000)
    assert (len(case["patient_ids"]), case["has_more_patients"]) == (1000, True)
    with acting(log.database, "compliance") as officer:
        shown = {
            row[0]: row[1:]
            for row in officer.execute(
                "select rule, status, matched_count, evaluated_count, matches_too_much from private.read_review_rules()"
            )
        }
    assert shown["after_hours"] == ("EVALUATED", 1200, 1200, True)
    assert shown["volume"] == ("OFF", 0, 1200, False)


def test_decided_case_is_followed_by_a_new_one_for_a_late_event(log: Log) -> None:
    log.rules(["after_hours"])
    log.event("recording.read", NOON.replace(hour=3))
    [case] = log.cases("after_hours")
    log.owner.execute(
        "update resguardo.review_cases set status = 'DECIDED', disposition = 'APPROPRIATE', disposition_text = 'x',"
        " decided_by = %s, decided_at = now() where id = %s",
        [CARLA, case["id"]],
    )
    log.event("recording.read", NOON.replace(hour=4))
    assert [(one["status"], one["event_count"]) for one in log.cases("after_hours")] in (
        [("DECIDED", 1), ("OPEN", 1)],
        [("OPEN", 1), ("DECIDED", 1)],
    )


def test_work_of_services_and_of_officers_with_cases_is_no_access(log: Log) -> None:
    log.rules(["after_hours"])
    night = NOON.replace(hour=3)
    log.event("recording.read", night, actor_id=None, actor_role="resguardo_worker")
    log.event("review_case.read", night, actor_id=CARLA, actor_role="compliance")
    log.event("audit.list", night, actor_id=CARLA, actor_role="compliance")
    log.event("recording.read", night, outcome="DENIED")
    log.event("recording.list", night, patient_ids=[])
    assert log.found("after_hours") == set()


# ---- The rules


@pytest.mark.parametrize(
    ("at", "is_hit"),
    [
        (NOON.replace(hour=5, minute=59), True),
        (NOON.replace(hour=6), False),
        (NOON.replace(hour=21, minute=59), False),
        (NOON.replace(hour=22), True),
    ],
)
def test_after_hours(log: Log, at: datetime, *, is_hit: bool) -> None:
    log.rules(["after_hours"])
    event = log.event("recording.read", at)
    assert log.found("after_hours") == ({event} if is_hit else set())


def test_after_hours_of_a_night_practice_and_of_the_days_off_in_its_time_zone(log: Log) -> None:
    log.rules(
        ["after_hours"], after_hours={"opens_at": "20:00", "closes_at": "04:00", "days": [1, 2, 3, 4, 5]}
    )
    log.owner.execute(
        'update resguardo.review_policies set rules = rules || \'{"time_zone": "America/New_York"}\''
        " where status = 'ACTIVE'"
    )
    monday_0100 = datetime(2026, 11, 16, 6, tzinfo=UTC)  # 01:00 in New York
    log.event("recording.read", monday_0100)
    log.event("recording.read", monday_0100 + 20 * HOUR)  # Monday, 21:00
    noon = log.event("recording.read", monday_0100 + 11 * HOUR)
    sunday = log.event("recording.read", monday_0100 - 4 * HOUR)  # Sunday, 21:00
    assert log.found("after_hours") == {noon, sunday}


@pytest.mark.parametrize("rule", ["self", "surname", "household", "co_worker"])
def test_rule_about_related_people_needs_imported_pairs(log: Log, rule: str) -> None:
    def shown() -> str:
        with acting(log.database, "compliance") as officer:
            return str(value(officer, "select status from private.read_review_rules() where rule = %s", rule))

    event = log.event("recording.read")
    assert log.found(rule) == set()
    assert shown() == "NOT_EVALUATED"
    log.owner.execute(
        "select private.import_related_pairs(%s, %s, %s, %s)",
        [[rule.upper()], [ANA.doctor_id], [f"mrn-{ANA.patient}"], [rule.upper()]],
    )
    assert shown() == "EVALUATED"
    log.event("recording.read", actor_id=BRUNO.doctor_id)
    log.event("recording.read", patient_ids=[BRUNO.patient_id])
    denied = log.event("recording.read", outcome="DENIED", patient_ids=[BRUNO.patient_id, ANA.patient_id])
    assert log.found(rule) == {denied}, f"{event} was evaluated before the import"
    [case] = log.cases(rule)
    assert case["patient_ids"] == [str(ANA.patient_id)]


def test_patient_who_is_a_member_of_staff_is_a_co_worker_of_the_others(log: Log) -> None:
    log.owner.execute(
        "select private.import_related_pairs('{SELF}', %s, %s, '{SELF}')",
        [[BRUNO.doctor_id], [f"mrn-{ANA.patient}"]],
    )
    co_worker = log.event("recording.read")
    own = log.event("recording.read", actor_id=BRUNO.doctor_id)
    assert log.found("co_worker") == {co_worker}
    assert log.found("self") == {own}


def test_import_replaces_the_pairs_of_its_relations_and_refuses_unknown_ids(log: Log) -> None:
    both = [f"mrn-{ANA.patient}", f"mrn-{BRUNO.patient}"]
    importing: LiteralString = "select private.import_related_pairs(%s, %s, %s, %s)"
    assert value(log.owner, importing, ["SELF"], [ANA.doctor_id] * 2, both, ["SELF"] * 2) == 2
    assert value(log.owner, importing, ["SURNAME"], [ANA.doctor_id], both[:1], ["SURNAME"]) == 1
    assert value(log.owner, importing, ["SELF"], [], [], []) == 0
    kept = log.owner.execute("select relation from private.related_pairs").fetchall()
    assert kept == [("SURNAME",)]
    for staff, patient, relation in (
        (uuid4(), both[0], "SELF"),
        (ANA.doctor_id, "nobody", "SELF"),
        (ANA.doctor_id, both[0], "HOUSEHOLD"),
    ):
        with refused("RG404", "pair_unknown"):
            log.owner.execute(importing, [["SELF"], [staff], [patient], [relation]])


def test_no_relationship(log: Log) -> None:
    log.rules(["no_relationship"])
    log.event("recording.read")
    log.event("recording.read", patient_ids=[BRUNO.patient_id], basis="shared")
    log.event("recording.read", patient_ids=[BRUNO.patient_id], basis="emergency")
    log.event("consultation.read", patient_ids=[BRUNO.patient_id], actor_id=CARLA, actor_role="compliance")
    log.event("recording.read", patient_ids=[], outcome="ABSENT")
    denied = log.event("recording.read", patient_ids=[ANA.patient_id, BRUNO.patient_id], outcome="DENIED")
    assert log.found("no_relationship") == {denied}
    assert log.cases("no_relationship")[0]["patient_ids"] == [str(BRUNO.patient_id)]


def test_break_glass_accesses_join_the_case_that_the_start_opened(log: Log) -> None:
    log.rules(["break_glass"])
    now = datetime.now(UTC)
    started = log.event("patient.break_glass", now, seal=False)
    opened = value(
        log.owner,
        "select private.open_case('break_glass', %s, %s, '{}', %s, 'access-1')",
        ANA.doctor_id,
        [ANA.patient_id],
        [started],
    )
    read = log.event("recording.read", now + MINUTE, basis="emergency")
    log.event("recording.read", now + MINUTE)
    later = log.event("recording.read", now + 5 * DAY, basis="emergency")
    log.evaluate()
    cases = {UUID(case["id"]): case["event_count"] for case in log.cases("break_glass")}
    assert cases[opened] == 2
    assert sorted(cases.values()) == [1, 2]
    assert log.found("break_glass") == {started, read, later}


def test_volume_needs_the_minimum_and_far_more_than_the_own_baseline(log: Log) -> None:
    log.rules(["volume"], volume={"minimum": 5, "factor": 3.0, "baseline_days": 28})
    for n in range(1, 6):  # two patients on each of five days
        for _ in range(2):
            log.event("recording.read", NOON - n * DAY, patient_ids=[uuid4()])
    assert log.found("volume") == set()
    five = [log.event("recording.read", NOON + n * MINUTE, patient_ids=[uuid4()]) for n in range(5)]
    again = log.event("recording.read", NOON + HOUR, patient_ids=[uuid4()], outcome="DENIED")
    assert log.found("volume") == set(), "5 of 6 patients, and a refusal does not count"
    late = log.event("recording.read", NOON - HOUR, patient_ids=[uuid4()])
    assert log.found("volume") == {*five, late}
    assert again not in log.found("volume")
    assert log.cases("volume")[0]["event_count"] == 6


def test_volume_of_a_person_without_a_baseline_is_the_minimum(log: Log) -> None:
    log.rules(["volume"], volume={"minimum": 3})
    same = [log.event("recording.read", NOON + n * MINUTE) for n in range(5)]
    assert log.found("volume") == set(), "one patient"
    listed = log.event("recording.list", NOON + HOUR, patient_ids=[uuid4(), uuid4()])
    assert log.found("volume") == {*same, listed}


def test_volume_is_not_hidden_by_other_work_of_the_same_day(log: Log) -> None:
    log.rules(["volume"], volume={"minimum": 3})
    log.owner.execute(
        "insert into audit.events (id, recorded_at, actor_id, actor_role, action, operation, outcome, purpose, basis,"
        " entities, patient_ids, consultation_ids, policy_version)"
        " select gen_random_uuid(), %s::timestamptz + n * interval '10 ms', %s, 'clinician', 'staff.list', 'R',"
        " 'ALLOWED', 'OPERATIONS', 'self', '[]', '{}', '{}', '' from generate_series(1, 20000) as n",
        [NOON, ANA.doctor_id],
    )
    three = [log.event("recording.read", NOON + HOUR, patient_ids=[uuid4()]) for _ in range(3)]
    assert log.found("volume") == set(three)


BURSTS = [
    ("many_urls", "recording.issue_url", {}, "thumbnail.issue_url"),
    ("denied_burst", "recording.read", {"outcome": "ABSENT"}, None),
    ("failed_sign_ins", "sign_in.attempt", {"outcome": "DENIED", "patient_ids": []}, "sign_in.end"),
]


@pytest.mark.parametrize(("rule", "action", "given", "other"), BURSTS)
def test_burst(log: Log, rule: str, action: str, given: dict[str, Any], other: str | None) -> None:
    log.rules([rule], **{rule: {"count": 4, "minutes": 10}})
    three = _many(log, 3, action, MINUTE, **given)
    log.event(action, NOON + 2 * MINUTE, actor_id=BRUNO.doctor_id, **given)
    if other is not None:
        log.event(other, NOON + 2 * MINUTE, **given)
    assert log.found(rule) == set()
    far = log.event(action, NOON + 13 * MINUTE, **given)
    assert log.found(rule) == set(), "the fourth is too late"
    late = log.event(action, NOON + 3 * MINUTE, **given)
    assert log.found(rule) == {*three, late}, far
    assert log.cases(rule)[0]["event_count"] == 4


@pytest.mark.parametrize(("rule", "action", "given", "other"), BURSTS)
def test_burst_across_batches_and_midnight_is_one_finding_for_each_day(
    log: Log, rule: str, action: str, given: dict[str, Any], other: str | None
) -> None:
    log.rules([rule], **{rule: {"count": 4, "minutes": 10}})
    midnight = NOON.replace(hour=0)
    events = []
    for n in range(-2, 2):
        events.append(log.event(action, midnight + n * MINUTE, **given))
        log.evaluate()
    assert log.found(rule) >= {events[2], events[3]}, other


def test_failed_sign_ins_use_the_time_at_which_they_happened(log: Log) -> None:
    log.rules(["failed_sign_ins"], failed_sign_ins={"count": 3, "minutes": 5})
    given: dict[str, Any] = {"outcome": "DENIED", "patient_ids": []}
    copied = [
        log.event("sign_in.attempt", NOON + 3 * HOUR, occurred_at=NOON + n * MINUTE, **given)
        for n in range(2)
    ]
    log.event("sign_in.attempt", NOON + 3 * HOUR, occurred_at=NOON + HOUR, **given)
    assert log.found("failed_sign_ins") == set()
    third = log.event("second_factor.verify", NOON + 3 * MINUTE, **given)
    assert log.found("failed_sign_ins") == {*copied, third}


def test_burst_of_a_patient_has_no_subject(log: Log) -> None:
    log.rules(["failed_sign_ins"], failed_sign_ins={"count": 2, "minutes": 5})
    given: dict[str, Any] = {"outcome": "DENIED", "actor_id": id_of("paula"), "actor_role": "patient"}
    _many(log, 2, "sign_in.attempt", MINUTE, **given)
    assert [case["subject_id"] for case in log.cases("failed_sign_ins")] == [None]


def test_download_without_playback(log: Log) -> None:
    log.rules(["download_without_playback"])
    other = ANA.id_of("over LOST")
    log.event("recording.play", NOON - 29 * DAY, entities=_recording())
    log.event("recording.play", NOON - 31 * DAY, entities=_recording(other))
    log.event("recording.play", NOON, entities=_recording(other), actor_id=BRUNO.doctor_id)
    log.event("recording.play", NOON + MINUTE, entities=_recording(other))
    log.event("recording.issue_url", entities=_recording())
    hit = log.event("recording.issue_url", entities=_recording(other))
    log.event("recording.issue_url", entities=_recording(uuid4()), outcome="DENIED")
    assert log.found("download_without_playback") == {hit}


AFTER = [
    ("role_change", {"days": 2}, 2 * DAY, "staff.map", {"reason": "change_compliance"}, "recording.read"),
    ("new_second_factor", {"hours": 3}, 3 * HOUR, "second_factor.enrol", {}, "recording.issue_url"),
]


@pytest.mark.parametrize(("rule", "settings", "span", "change", "given", "action"), AFTER)
@pytest.mark.parametrize("is_late", [False, True])
def test_activity_after_a_change(
    log: Log,
    rule: str,
    settings: dict[str, Any],
    span: timedelta,
    change: str,
    given: dict[str, Any],
    action: str,
    *,
    is_late: bool,
) -> None:
    log.rules([rule], **{rule: settings})
    of_ana = {
        "entities": [{"type": "user", "ids": [str(ANA.doctor_id)]}],
        "patient_ids": [],
        "actor_id": None,
    }
    changed = log.event(change, NOON, seal=False, **of_ana, **given)
    if not is_late:
        log.seal(changed, NOON)
    log.event(action, NOON - MINUTE)
    hit = log.event(action, NOON + span)
    log.event(action, NOON + span + MINUTE)
    log.event(action, NOON + MINUTE, actor_id=BRUNO.doctor_id)
    log.event(action, NOON + MINUTE, outcome="DENIED")
    log.evaluate()
    if is_late:
        log.seal(changed, NOON)
    assert log.found(rule) == {hit}
    assert log.cases(rule)[0]["event_count"] == 1


@pytest.mark.parametrize("reason", ["add_clinician", "suspend_clinician"])
def test_new_member_has_no_change_of_the_role(log: Log, reason: str) -> None:
    log.rules(["role_change"])
    log.event("staff.map", entities=[{"type": "staff", "ids": [str(ANA.doctor_id)]}], reason=reason)
    log.event("recording.read", NOON + MINUTE)
    assert log.found("role_change") == set()


# ---- Versions of the rules


@contextmanager
def _officer(database: Database, name: str) -> Iterator[Connection]:
    with acting(database, replace(actor("compliance"), user=name)) as connection:
        yield connection


def test_version_needs_two_officers_and_the_second_login_of_one_does_not_count(log: Log) -> None:
    log.owner.execute("update resguardo.staff set role = 'compliance' where user_id = %s", [BRUNO.doctor_id])
    made = value(log.owner, "select private.propose_review_policy('2', repeat('ef', 32), '', '{}')")
    decide: LiteralString = "select private.decide_review_policy(%s, %s)"
    with _officer(log.database, "carla") as officer:
        assert value(officer, decide, made, True) == "PROPOSED"
    with refused("RG409", "review_same_officer"), _officer(log.database, "carla") as officer:
        officer.execute(decide, [made, True])
    log.owner.execute(
        "update resguardo.staff set status = 'suspended', suspended_at = now() where user_id = %s", [CARLA]
    )
    with _officer(log.database, "bruno") as officer:
        assert value(officer, decide, made, True) == "PROPOSED", "a suspended officer does not count"
    log.owner.execute(
        "update resguardo.staff set status = 'active', suspended_at = null where user_id = %s", [CARLA]
    )
    made = value(log.owner, "select private.propose_review_policy('3', repeat('ef', 32), '', '{}')")
    for name, status in (("carla", "PROPOSED"), ("bruno", "ACTIVE")):
        with _officer(log.database, name) as officer:
            assert value(officer, decide, made, True) == status
    with refused("RG409", "review_policy_settled"), _officer(log.database, "carla") as officer:
        officer.execute(decide, [made, False])
    with _officer(log.database, "carla") as officer:
        assert value(officer, decide, 999, True) is None
    statuses: dict[str, str] = dict(
        log.owner.execute("select name, status from resguardo.review_policies").fetchall()
    )
    assert (statuses["test"], statuses["2"], statuses["3"]) == ("SUPERSEDED", "PROPOSED", "ACTIVE")


def test_first_rules_are_adopted_once(log: Log) -> None:
    log.owner.execute("delete from private.review_approvals")
    log.owner.execute("delete from resguardo.review_policies")
    adopt: LiteralString = "select private.adopt_review_policy('1', repeat('ef', 32), '', '{}')"
    assert value(log.owner, adopt) is not None
    assert value(log.owner, adopt) is None
    assert value(log.owner, "select status from resguardo.review_policies") == "ACTIVE"
