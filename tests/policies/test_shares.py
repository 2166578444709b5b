"""Tests of shares and of emergency access: which clinicians see another doctor's consultation, until when, and for
which operations.

Ana shares her consultation `over` with Berta. Everyone consented there to a text that names shares and emergency
access. Dario has an emergency access to Ana's patient Paula.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from tests.databases import Database
from tests.policies.acting import acting, at_once, outcome, refused, superuser, value
from tests.policies.actors import ANA, BRUNO, Connection, begin_as, claims_of, id_of

OVER, LIVE = ANA.id_of("over"), ANA.id_of("live")
READY = ANA.id_of("over READY")
OTHERS = ("colleague with a share", "clinician in an emergency")
TABLES: tuple[LiteralString, ...] = (
    "resguardo.consultations",
    "resguardo.participants",
    "resguardo.consents",
    "resguardo.standing_consents",
    "resguardo.recordings",
    "resguardo.clips",
    "resguardo.transcripts",
    "resguardo.insights",
    "resguardo.signed_notes",
    "resguardo.signed_note_versions",
    "resguardo.patients",
)
SHARE: LiteralString = "select private.share_consultation(%s, %s, 'CARE_TEAM', %s, now() + %s::interval)"
OPENED: dict[str, LiteralString] = {
    "transcript": "select count(*) from private.open_transcript('transcript.read', %s, '[]', '{turns}')",
    "insights": "select count(*) from private.open_insights('insights.read', %s, '[]', '{summary}')",
    "playback": (
        "select count(*) from private.release_object_key('recording.play', %s, null, null, gen_random_uuid()) as k"
        " where k is not null"
    ),
    "signed notes": (
        "select count(*) from resguardo.signed_notes as n, private.read_signed_notes('recording', n.recording_id,"
        " jsonb_build_array(jsonb_build_object('type', 'signed_note', 'ids', jsonb_build_array(n.id))), '{text}')"
        " where n.consultation_id = (select r.consultation_id from resguardo.recordings as r where r.id = %s)"
    ),
    "thumbnail": "select count(private.store_thumbnail_link(%s, sha256('t'), 60))",
    "whether it is held": "select count(private.is_own_held(%s))",
}
"""The reads that a share and an emergency access permit."""
CLOSED: dict[str, LiteralString] = {
    "download": (
        "select count(*) from private.release_object_key('recording.issue_url', %s, null) as k where k is not null"
    ),
    "storage": (
        "select count(*) from private.release_object_key('recording.read_storage', %s, null) as k where k is not null"
    ),
    "subtitles": "select count(private.store_subtitle_link(%s, sha256('s'), 60))",
    "question": "select count(*) from private.open_transcript('transcript.ask', %s, '[]', '{turns}')",
    "correction": "select count(*) from private.open_transcript('transcript.correct', %s, '[]', '{turns}')",
    "dismissal": "select count(*) from private.open_insights('insights.dismiss', %s, '[]', '{summary}')",
    "retry": "select count(*) from (select where private.retry_transcription(%s)) as r",
    "note draft": "select count(*) from private.open_note_draft('note_draft.read', %s, '[]', '{text}')",
    "signature": "select count(*) from private.begin_signing(%s, 1, null, '', 'first')",
    "search": (
        "select count(*) from private.search_transcripts('{1}', null, null, %s, null, null, true, 1, '{}')"
        " as s where s.recording_id is not null"
    ),
    "session note": (
        "select count(*) from private.begin_session_note('session_note.write', %s, array[''::bytea], '{first}')"
    ),
    "psychotherapy note": (
        "select count(*) from private.begin_session_note('psychotherapy_note.write', %s, array[''::bytea], '{first}')"
    ),
}
"""The statements that only the doctor may run. For everyone else, each returns no row."""


@contextmanager
def as_user(database: Database, user: str, *, totp_at: float = 0) -> Iterator[Connection]:
    """Open a transaction as this user, whose newest TOTP code has the given time."""
    with psycopg.connect(database.api_url) as connection:
        begin_as(connection, claims_of(user, totp_at=totp_at))
        yield connection


def seen(connection: Connection, table: LiteralString) -> int:
    column = "id" if table == "resguardo.consultations" else "consultation_id"
    if table == "resguardo.patients":
        return int(value(connection, "select count(*) from resguardo.patients where id = %s", ANA.patient_id))
    count = sql.SQL("select count(*) from {} where {} = %s").format(
        sql.Identifier(*table.split(".")), sql.Identifier(column)
    )
    row = connection.execute(count, [OVER]).fetchone()
    assert row is not None
    return int(row[0])


def see_all(database: Database, user: str) -> set[str]:
    with as_user(database, user) as connection:
        return {table for table in TABLES if seen(connection, table)}


def newest(database: Database, action: str) -> dict[str, Any]:
    with superuser(database) as reader:
        row = reader.execute(
            "select outcome, basis, reason, patient_ids, consultation_ids from audit.events where action = %s"
            " order by recorded_at desc limit 1",
            [action],
        ).fetchone()
    assert row is not None
    return dict(zip(("outcome", "basis", "reason", "patients", "consultations"), row, strict=True))


@pytest.fixture
def practice_with_texts(practice: Database) -> Database:
    with superuser(practice) as owner:
        owner.execute(
            "insert into private.recording_keys values (%s, %s, 'first') on conflict do nothing",
            [READY, bytes(40)],
        )
        owner.execute(
            "delete from resguardo.deletions where recording_id = %s and status in ('REQUESTED', 'DELETING')",
            [READY],
        )
    return practice


@pytest.mark.parametrize("user", ["berta", "dario"])
def test_share_and_emergency_access_show_one_consultation_and_no_other(practice: Database, user: str) -> None:
    with as_user(practice, user) as connection:
        assert {table for table in TABLES if seen(connection, table)} == set(TABLES)
        assert value(connection, "select array_agg(id) from resguardo.consultations") == [OVER]
        assert value(connection, "select array_agg(id) from resguardo.patients") == [ANA.patient_id]
        assert value(connection, "select private.access_basis(%s)", LIVE) is None
        assert value(connection, "select private.access_basis(%s)", BRUNO.id_of("over")) is None
        for table in ("deletions", "certificates", "note_certificates", "recording_imports"):
            count = sql.SQL("select from {}").format(sql.Identifier("resguardo", table))
            assert connection.execute(count).rowcount == 0


@pytest.mark.parametrize(
    ("user", "basis"), [("berta", "shared"), ("dario", "emergency"), ("ana", "treating_clinician")]
)
@pytest.mark.parametrize("door", OPENED)
def test_open_door_gives_the_content_and_the_audit_row_has_the_basis(
    practice_with_texts: Database, user: str, basis: str, door: str
) -> None:
    with as_user(practice_with_texts, user) as connection:
        assert value(connection, OPENED[door], READY) >= 1
        assert value(connection, "select private.access_basis(%s)", OVER) == basis
    if door != "whether it is held":
        with superuser(practice_with_texts) as reader:
            rows = reader.execute(
                "select distinct outcome, basis from audit.events where actor_id = %s", [id_of(user)]
            ).fetchall()
        assert rows == [("ALLOWED", basis)]


@pytest.mark.parametrize("user", ["berta", "dario", "bruno"])
@pytest.mark.parametrize("door", CLOSED)
def test_closed_door_gives_nothing_to_anyone_but_the_doctor(
    practice_with_texts: Database, user: str, door: str
) -> None:
    with as_user(practice_with_texts, user) as connection:
        assert value(connection, CLOSED[door], READY) == 0
    with superuser(practice_with_texts) as reader:
        rows = reader.execute(
            "select outcome from audit.events where actor_id = %s", [id_of(user)]
        ).fetchall()
    assert rows == [("DENIED",)]


@pytest.mark.parametrize("user", ["berta", "dario"])
def test_only_the_doctor_gets_the_files_of_a_signed_note(practice_with_texts: Database, user: str) -> None:
    with_pdf: LiteralString = OPENED["signed notes"].replace("{text}", "{pdfBase64}")
    with_signed_file: LiteralString = OPENED["signed notes"].replace("{text}", "{id,versions.json}")
    for with_file in (with_pdf, with_signed_file):
        with as_user(practice_with_texts, user) as connection:
            assert outcome(connection, with_file, READY)[:2] == ("RG409", "signed_note_shared")
        with as_user(practice_with_texts, "ana") as ana:
            assert value(ana, with_file, READY) > 0


@pytest.mark.parametrize("user", ["berta", "dario"])
@pytest.mark.parametrize(
    "statement",
    [
        (
            "insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name)"
            " select gen_random_uuid(), c.id, c.doctor_id, c.patient_id, private.uid(), c.room_name"
            " from resguardo.consultations as c"
        ),
        (
            "insert into resguardo.participants (id, consultation_id, doctor_id, patient_id, kind, guest_role)"
            " select gen_random_uuid(), c.id, c.doctor_id, c.patient_id, 'GUEST', 'STUDENT'"
            " from resguardo.consultations as c"
        ),
        (
            "insert into resguardo.consents (id, consultation_id, doctor_id, patient_id, participant_id,"
            " participant_kind, decision, source, recorded_by, text_version, text_language, text_sha256)"
            " select gen_random_uuid(), p.consultation_id, p.doctor_id, p.patient_id, p.id, p.kind, 'WITHDRAWN',"
            " 'SELF', private.uid(), '2027-02', 'en', repeat('a', 64) from resguardo.participants as p"
            " where p.kind = 'DOCTOR'"
        ),
    ],
)
def test_colleague_writes_nothing_into_the_shared_consultation(
    practice: Database, user: str, statement: LiteralString
) -> None:
    with refused("42501", "row-level security"), as_user(practice, user) as connection:
        connection.execute(statement)
    with as_user(practice, user) as connection:
        assert outcome(connection, "update resguardo.participants set joined_at = now()") == ("", "", 0)
        assert outcome(connection, "update resguardo.recordings set status = 'STOPPING'") == ("", "", 0)
        assert outcome(connection, "select private.has_live_recording(%s)", OVER)[0] == "RG404"


def test_share_begins_with_the_consent_of_everyone_and_no_earlier(practice: Database) -> None:
    with as_user(practice, "ana") as ana:
        assert outcome(ana, SHARE, LIVE, id_of("bruno"), False, "1 day")[1] == "share_consent"
    with superuser(practice) as owner:
        owner.execute(
            "update resguardo.consents set text_version = '2027-02' where consultation_id = %s", [LIVE]
        )
    with as_user(practice, "bruno") as bruno:
        assert value(bruno, "select count(*) from resguardo.recordings where consultation_id = %s", LIVE) == 0
    with as_user(practice, "ana") as ana:
        assert value(ana, SHARE, LIVE, id_of("bruno"), False, "1 day") is not None
    with as_user(practice, "bruno") as bruno:
        assert value(bruno, "select count(*) from resguardo.recordings where consultation_id = %s", LIVE) > 0
        assert value(bruno, "select private.access_basis(%s)", LIVE) == "shared"
    assert newest(practice, "consultation.share")["outcome"] == "ALLOWED"


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ("update resguardo.shares set began_at = now() - interval '2 days', ends_at = now()", []),
        ("update resguardo.shares set began_at = now() + interval '1 minute' where ends_at > now()", []),
        ("update resguardo.shares set ended_at = now(), end_reason = 'ENDED_BY_DOCTOR'", []),
        (
            "update resguardo.staff set status = 'suspended', suspended_at = now() where user_id = %s",
            [id_of("berta")],
        ),
        ("delete from auth.sessions where user_id = %s", [id_of("berta")]),
    ],
)
def test_share_that_is_not_in_force_shows_nothing(
    practice: Database, change: LiteralString, values: list[UUID]
) -> None:
    with superuser(practice) as owner:
        owner.execute(change, values)
    if values:
        with refused("RG401"):
            see_all(practice, "berta")
    else:
        assert see_all(practice, "berta") == set()


def test_share_of_a_suspended_colleague_has_ended_for_good(practice: Database) -> None:
    with superuser(practice) as owner:
        owner.execute(
            "update resguardo.staff set status = 'suspended', suspended_at = now() where user_id = any(%s)",
            [[id_of("berta"), id_of("dario")]],
        )
        assert value(
            owner, "select end_reason from resguardo.shares where colleague_id = %s", id_of("berta")
        ) == ("COLLEAGUE_SUSPENDED")
        owner.execute("update resguardo.staff set status = 'active', suspended_at = null")
    assert see_all(practice, "berta") == set()
    assert see_all(practice, "dario") == set()


@pytest.mark.parametrize("who", ["doctor", "colleague"])
def test_doctor_and_colleague_end_a_share_at_once_and_may_repeat_it(practice: Database, who: str) -> None:
    with superuser(practice) as reader:
        share = value(reader, "select id from resguardo.shares where colleague_id = %s", id_of("berta"))
    for _ in range(2):
        with as_user(practice, "ana" if who == "doctor" else "berta") as connection:
            assert value(connection, "select private.end_share(%s)", share) == share
    assert see_all(practice, "berta") == set()
    with superuser(practice) as reader:
        reason = value(reader, "select end_reason from resguardo.shares where id = %s", share)
    assert reason == f"ENDED_BY_{who.upper()}"


def test_stranger_ends_no_share_and_cannot_tell_whether_it_exists(practice: Database) -> None:
    with superuser(practice) as reader:
        share = value(reader, "select id from resguardo.shares where colleague_id = %s", id_of("berta"))
    for one, said in ((share, "DENIED"), (uuid4(), "ABSENT")):
        with as_user(practice, "bruno") as connection:
            assert value(connection, "select private.end_share(%s)", one) is None
        assert newest(practice, "consultation.end_share")["outcome"] == said
    assert see_all(practice, "berta") == set(TABLES)


@pytest.mark.parametrize("kind", ["PATIENT", "DOCTOR", "GUEST"])
@pytest.mark.parametrize(("decision", "version"), [("WITHDRAWN", "2027-02"), ("GIVEN", "2027-01")])
def test_withdrawal_or_an_older_text_ends_the_share_and_the_emergency_access(
    practice: Database, kind: str, decision: str, version: str
) -> None:
    with superuser(practice) as owner:
        owner.execute(
            "insert into resguardo.consents (id, consultation_id, doctor_id, patient_id, participant_id,"
            " participant_kind, decision, source, recorded_by, text_version, text_language, text_sha256)"
            " values (gen_random_uuid(), %s, %s, %s, %s, %s, %s, 'ATTESTED', %s, %s, 'en', repeat('a', 64))",
            [
                OVER,
                ANA.doctor_id,
                ANA.patient_id,
                ANA.id_of(f"over {kind}"),
                kind,
                decision,
                ANA.doctor_id,
                version,
            ],
        )
    assert see_all(practice, "berta") == set()
    assert see_all(practice, "dario") == set()
    assert newest(practice, "consultation.end_share")["reason"] == "consent_withdrawn"
    with superuser(practice) as owner:  # a new consent does not restore the share
        owner.execute(
            "update resguardo.consents set decision = 'GIVEN', text_version = '2027-02' where consultation_id = %s",
            [OVER],
        )
    assert see_all(practice, "berta") == set()


def test_guest_who_joins_later_without_consent_ends_the_share(practice: Database) -> None:
    guest = uuid4()
    with superuser(practice) as owner:
        owner.execute(
            "insert into resguardo.participants (id, consultation_id, doctor_id, patient_id, kind, guest_role)"
            " values (%s, %s, %s, %s, 'GUEST', 'STUDENT')",
            [guest, OVER, ANA.doctor_id, ANA.patient_id],
        )
    assert see_all(practice, "berta") == set(TABLES)
    with superuser(practice) as owner:
        owner.execute("update resguardo.participants set joined_at = now() where id = %s", [guest])
    assert see_all(practice, "berta") == set()
    assert see_all(practice, "dario") == set()


def test_withdrawal_and_share_at_once_leave_no_share(practice: Database) -> None:
    """The withdrawal locks the consultation. A concurrent share waits, and then sees the withdrawal."""
    with superuser(practice) as owner:
        owner.execute(
            "update resguardo.consents set text_version = '2027-02' where consultation_id = %s", [LIVE]
        )

    def share() -> tuple[str, str, int]:
        with as_user(practice, "ana") as ana:
            return outcome(ana, SHARE, LIVE, id_of("bruno"), False, "1 day")

    with acting(practice, "patient") as patient:
        patient.execute("select private.lock_consultation(%s)", [LIVE])
        patient.execute(
            "insert into resguardo.consents (id, consultation_id, doctor_id, patient_id, participant_id,"
            " participant_kind, decision, source, recorded_by, text_version, text_language, text_sha256)"
            " select gen_random_uuid(), p.consultation_id, p.doctor_id, p.patient_id, p.id, p.kind, 'WITHDRAWN',"
            " 'SELF', private.uid(), '2027-02', 'en', repeat('a', 64) from resguardo.participants as p"
            " where p.consultation_id = %s and p.kind = 'PATIENT'",
            [LIVE],
        )
        with at_once(practice, patient, share) as waiting:
            patient.commit()
            assert waiting.result()[1] == "share_consent"


@pytest.mark.parametrize(
    ("colleague", "term", "reason"),
    [
        ("sara", "1 day", "colleague_suspended"),
        ("carla", "1 day", "colleague_not_found"),
        ("paula", "1 day", "colleague_not_found"),
        ("nobody", "1 day", "colleague_not_found"),
        ("ana", "1 day", "shared_with_oneself"),
        ("berta", "1 day", "shared_already"),
        ("bruno", "-1 second", "share_term"),
        ("bruno", "367 days", "share_term"),
    ],
)
def test_impossible_share_is_refused_with_its_reason(
    practice: Database, colleague: str, term: str, reason: str
) -> None:
    with as_user(practice, "ana") as ana:
        assert outcome(ana, SHARE, OVER, id_of(colleague), False, term)[:2] == ("RG409", reason)


@pytest.mark.parametrize("user", ["berta", "dario", "bruno"])
def test_only_the_doctor_shares_a_consultation(practice: Database, user: str) -> None:
    with as_user(practice, user) as connection:
        assert value(connection, SHARE, OVER, id_of("bruno"), True, "1 day") is None
    assert newest(practice, "consultation.share")["outcome"] == "DENIED"


def test_colleague_is_suspended_before_the_share_or_ends_with_it(practice: Database) -> None:
    def share() -> tuple[str, str, int]:
        with as_user(practice, "ana") as ana:
            return outcome(ana, SHARE, OVER, id_of("bruno"), False, "1 day")

    with acting(practice, "compliance") as officer:
        officer.execute("select private.suspend_staff(%s)", [id_of("bruno")])
        with at_once(practice, officer, share) as waiting:
            officer.commit()
            assert waiting.result()[1] == "colleague_suspended"


def test_share_with_notes_lets_the_colleague_read_session_notes_and_change_only_their_own(
    practice_with_texts: Database,
) -> None:
    write: LiteralString = CLOSED["session note"]
    read: LiteralString = (
        "select count(*) from private.open_session_notes('session_note.read', %s, null, '[]', '{text}', true)"
    )
    with as_user(practice_with_texts, "berta") as berta:
        assert value(berta, read, OVER) == 0
    with superuser(practice_with_texts) as owner:
        owner.execute(
            "update resguardo.shares set may_write_notes = true where colleague_id = %s", [id_of("berta")]
        )
        theirs = value(owner, "select id from private.session_notes where recording_id = %s limit 1", READY)
    note = uuid4()
    with as_user(practice_with_texts, "berta") as berta:
        assert value(berta, read, OVER) == 1
        assert value(berta, write, READY) == 1
        berta.execute(
            "select private.add_session_note('session_note.write', %s, %s, null, %s)",
            [READY, note, bytes(40)],
        )
    change: LiteralString = "select count(*) from private.begin_note_change(%s, %s)"
    for action in ("session_note.edit", "session_note.delete"):
        with as_user(practice_with_texts, "berta") as berta:
            assert value(berta, change, action, theirs) == 0
        with as_user(practice_with_texts, "berta") as berta:
            assert value(berta, change, action, note) == 1
    psychotherapy: LiteralString = (
        "select count(*)"
        " from private.open_psychotherapy_notes('psychotherapy_note.read', %s, null, '[]', '{text}', true)"
    )
    with as_user(practice_with_texts, "berta") as berta:
        assert value(berta, psychotherapy, OVER) == 0
        assert value(berta, CLOSED["psychotherapy note"], READY) == 0
    with superuser(practice_with_texts) as owner:
        owner.execute("update resguardo.shares set ended_at = now(), end_reason = 'ENDED_BY_DOCTOR'")
    with as_user(practice_with_texts, "berta") as berta:
        assert value(berta, read, OVER) == 0
        assert value(berta, change, "session_note.edit", note) == 0


@pytest.mark.parametrize("sensitivity", ["PSYCHOTHERAPY", "SUBSTANCE_USE"])
def test_sensitive_consultation_needs_an_authorization_for_each_way_to_see_it(
    practice: Database, sensitivity: str
) -> None:
    authorize: LiteralString = (
        "select private.authorize_sharing(%s, %s, current_date, false, now() + interval '10 days')"
    )
    with superuser(practice) as owner:
        owner.execute("delete from resguardo.sharing_authorizations")
        owner.execute(
            "update resguardo.consultations set sensitivity = %s where id = %s", [sensitivity, OVER]
        )
    assert see_all(practice, "dario") == set()
    with as_user(practice, "ana") as ana:
        assert outcome(ana, SHARE, OVER, id_of("bruno"), False, "1 day")[1] == "share_not_authorized"
    with as_user(practice, "ana") as ana:
        paper = value(ana, authorize, OVER, id_of("bruno"))
    assert see_all(practice, "dario") == set()
    for term, reason in (("11 days", "share_not_authorized"), ("9 days", "")):
        with as_user(practice, "ana") as ana:
            assert outcome(ana, SHARE, OVER, id_of("bruno"), False, term)[1] == reason
    assert see_all(practice, "bruno") >= {"resguardo.recordings"}
    with as_user(practice, "ana") as ana:
        assert value(ana, "select private.withdraw_sharing_authorization(%s)", paper) == paper
    with as_user(practice, "bruno") as bruno:
        assert value(bruno, "select private.access_basis(%s)", OVER) is None
    with as_user(practice, "ana") as ana:
        value(ana, authorize, OVER, None)
    assert see_all(practice, "dario") == set(TABLES)


def test_authorization_of_an_ordinary_consultation_is_refused(practice: Database) -> None:
    with as_user(practice, "ana") as ana:
        said = outcome(
            ana,
            "select private.authorize_sharing(%s, null, current_date, false, now() + interval '1 day')",
            OVER,
        )
    assert said[1] == "authorization_not_needed"


@pytest.mark.parametrize("reason", ["MEDICAL_EMERGENCY", "RISK_OF_HARM", "DOCTOR_UNREACHABLE", "DISASTER"])
def test_break_glass_opens_a_case_and_an_alert_in_its_transaction(practice: Database, reason: str) -> None:
    with as_user(practice, "bruno", totp_at=time.time()) as bruno:
        access = value(bruno, "select private.break_glass('mrn-paula', %s)", reason)
        assert value(bruno, "select private.access_basis(%s)", OVER) == "emergency"
        bruno.rollback()
    with superuser(practice) as reader:
        assert (
            value(reader, "select count(*) from resguardo.review_cases where case_key = %s", str(access)) == 0
        )
    with as_user(practice, "bruno", totp_at=time.time()) as bruno:
        access = value(bruno, "select private.break_glass('mrn-paula', %s)", reason)
    with superuser(practice) as reader:
        case = reader.execute(
            "select rule, subject_id, patient_ids, status from resguardo.review_cases where case_key = %s",
            [str(access)],
        ).fetchall()
        alert = reader.execute(
            "select kind, entity_ids from resguardo.alerts where key = %s and closed_at is null",
            [str(access)],
        ).fetchall()
    assert case == [("break_glass", id_of("bruno"), [ANA.patient_id], "OPEN")]
    assert alert == [("EMERGENCY_ACCESS", [access])]
    event = newest(practice, "patient.break_glass")
    assert (event["outcome"], event["basis"], event["reason"]) == ("ALLOWED", "emergency", reason.lower())
    assert see_all(practice, "bruno") == set(TABLES)


def test_decision_of_the_case_closes_the_alert_about_an_emergency_access(practice: Database) -> None:
    with as_user(practice, "bruno", totp_at=time.time()) as bruno:
        access = value(bruno, "select private.break_glass('mrn-paula', 'RISK_OF_HARM')")
    with superuser(practice) as reader:
        case = value(reader, "select id from resguardo.review_cases where case_key = %s", str(access))
    with as_user(practice, "carla") as officer:
        assert value(officer, "select private.record_disposition(%s, 'APPROPRIATE', 'x')", case) == case
    with superuser(practice) as reader:
        open_alerts = "select count(*) from resguardo.alerts where key = %s and closed_at is null"
        assert value(reader, open_alerts, str(access)) == 0


def test_second_break_glass_returns_the_same_access_and_prolongs_nothing(practice: Database) -> None:
    with as_user(practice, "dario", totp_at=time.time()) as dario:
        before = dario.execute("select id, ends_at from resguardo.emergency_accesses").fetchall()
        again = value(dario, "select private.break_glass('mrn-paula', 'DISASTER')")
        assert dario.execute("select id, ends_at from resguardo.emergency_accesses").fetchall() == before
    assert [again] == [row[0] for row in before]
    assert newest(practice, "patient.break_glass")["reason"] == "repeated"


def test_break_glass_needs_a_totp_code_of_the_last_five_minutes(practice: Database) -> None:
    for age in (301, 3600):
        with as_user(practice, "bruno", totp_at=time.time() - age) as bruno:
            said = outcome(bruno, "select private.break_glass('mrn-paula', 'DISASTER')")
        assert said[:2] == ("RG403", "totp_stale")
    with as_user(practice, "bruno", totp_at=time.time() - 290) as bruno:
        assert value(bruno, "select private.break_glass('mrn-paula', 'DISASTER')") is not None


def test_break_glass_on_a_patient_under_ones_own_care_is_refused(practice: Database) -> None:
    with as_user(practice, "ana", totp_at=time.time()) as ana:
        said = outcome(ana, "select private.break_glass('mrn-paula', 'DISASTER')")
    assert said[:2] == ("RG409", "emergency_own_patient")


def test_break_glass_on_an_unknown_patient_gives_nothing_and_opens_no_case(practice: Database) -> None:
    with as_user(practice, "bruno", totp_at=time.time()) as bruno:
        assert value(bruno, "select private.break_glass('no such patient', 'DISASTER')") is None
    assert newest(practice, "patient.break_glass")["outcome"] == "ABSENT"
    with superuser(practice) as reader:
        assert value(reader, "select count(*) from resguardo.review_cases where rule = 'break_glass'") == 0


def set_clock(owner: Connection, offset: str) -> None:
    owner.execute(
        sql.SQL(
            "create or replace function private.now() returns timestamptz language plpgsql volatile"
            " set search_path = pg_catalog, pg_temp as $$ begin return clock_timestamp() + interval {}; end $$"
        ).format(sql.Literal(offset))
    )


def test_emergency_access_ends_after_an_hour_by_the_clock_of_the_database(practice: Database) -> None:
    for offset, is_open in (("59 minutes", True), ("61 minutes", False)):
        with superuser(practice) as owner:
            set_clock(owner, offset)
        assert see_all(practice, "dario") == (set(TABLES) if is_open else set())


def test_clock_that_jumps_back_prolongs_no_emergency_access(practice_with_texts: Database) -> None:
    with superuser(practice_with_texts) as owner:
        set_clock(owner, "50 minutes")
    with as_user(practice_with_texts, "dario") as dario:
        assert value(dario, OPENED["playback"], READY) == 1
    for offset, is_open in (
        ("10 minutes", False),
        ("-1 hour", False),
        ("55 minutes", True),
        ("60 minutes", False),
    ):
        with superuser(practice_with_texts) as owner:
            set_clock(owner, offset)
        assert see_all(practice_with_texts, "dario") == (set(TABLES) if is_open else set()), offset


def test_access_of_a_colleague_ends_when_the_url_of_a_playback_ends(practice: Database) -> None:
    ends: LiteralString = "select private.access_ends_at(%s)"
    with as_user(practice, "dario") as dario:
        assert value(dario, ends, OVER) < datetime.now(UTC) + timedelta(hours=1)
        assert value(dario, ends, LIVE) is None
    with as_user(practice, "ana") as ana:
        assert value(ana, "select private.access_ends_at(%s) = 'infinity'", OVER)


@pytest.mark.parametrize("basis", ["share", "authorization"])
def test_url_outlives_neither_the_share_nor_the_authorization_of_a_sensitive_consultation(
    practice: Database, basis: str
) -> None:
    """An emergency access does not prolong the share or the authorization."""
    with superuser(practice) as owner:
        owner.execute("delete from resguardo.sharing_authorizations")
        owner.execute(
            "update resguardo.consultations set sensitivity = 'SUBSTANCE_USE' where id = %s", [OVER]
        )
    with as_user(practice, "ana") as ana:
        named = id_of("dario") if basis == "share" else None
        authorize: LiteralString = (
            "select private.authorize_sharing(%s, %s, current_date, false, now() + interval '2 minutes')"
        )
        value(ana, authorize, OVER, named)
    if basis == "share":
        with as_user(practice, "ana") as ana:
            value(ana, SHARE, OVER, id_of("dario"), False, "1 minute")
    with as_user(practice, "dario") as dario:
        ends = value(dario, "select private.access_ends_at(%s)", OVER)
    assert ends <= datetime.now(UTC) + timedelta(minutes=2)


def test_audit_row_of_a_second_emergency_access_names_no_consultation_of_the_first(
    practice: Database,
) -> None:
    with as_user(practice, "dario", totp_at=time.time()) as dario:
        value(dario, "select private.break_glass(%s, 'DISASTER')", f"mrn-{BRUNO.patient}")
    event = newest(practice, "patient.break_glass")
    assert event["patients"] == [BRUNO.patient_id]
    assert OVER not in event["consultations"]


def test_audit_row_of_a_list_with_own_and_shared_rows_says_shared(practice: Database) -> None:
    with superuser(practice) as owner:
        owner.execute(
            "update resguardo.shares set colleague_id = %s where ended_at is null", [BRUNO.doctor_id]
        )
    for consultations, basis in (
        ([BRUNO.id_of("over")], "treating_clinician"),
        ([BRUNO.id_of("over"), OVER], "shared"),
    ):
        with as_user(practice, "bruno") as bruno:
            bruno.execute(
                "select private.record_access('consultation.list', 'consultation', null, %s, '{}', %s, '{}', null)",
                [consultations, consultations],
            )
        assert newest(practice, "consultation.list")["basis"] == basis
