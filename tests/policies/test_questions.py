"""Tests of questions about transcripts and of topics in the database: only the recording's doctor asks, an answer is
stored once, and nobody reads topics without an audit row.
"""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.databases import Database
from tests.policies.acting import acting, refused, superuser, value
from tests.policies.actors import ANA, BRUNO, Connection

OWNER, OTHER = "clinician who owns", "clinician who does not"
READY = ANA.id_of("over READY")
ASK = "select * from private.open_transcript('transcript.ask', %s, '[]', '{answer}')"
BEGIN = "select private.begin_question(%s, %s, %s)"
END = "select private.end_question(%s, %s, %s, %s, %s, %s, %s, %s)::text"
ANSWER = bytes(40)


@pytest.fixture
def asked(practice: Database) -> Database:
    """Return the seeded database with data keys and readable insights of two recordings, and no question."""
    with superuser(practice) as connection:
        connection.execute("delete from private.questions")
        for doctor in (ANA, BRUNO):
            recording = doctor.id_of("over READY")
            connection.execute(
                "insert into private.recording_keys values (%s, %s, 'first') on conflict do nothing",
                [recording, bytes(40)],
            )
            connection.execute(
                "update resguardo.insights set status = 'READY', error = null where recording_id = %s",
                [recording],
            )
            connection.execute(
                "update private.insight_texts set topics = %s where recording_id = %s", [bytes(40), recording]
            )
    return practice


def _begin(connection: Connection, question: UUID, recording: UUID = READY, lease_seconds: int = 150) -> Any:
    return value(connection, BEGIN, question, recording, lease_seconds)


def _end(database: Database, question: UUID | None, answer: bytes | None, *usage: object) -> None:
    with acting(database, "resguardo_api") as api:
        api.execute(END.encode(), [question, READY, answer, *(usage or (None,) * 5)])


def _rows(database: Database, sql: str, *given: object) -> list[tuple[Any, ...]]:
    with superuser(database) as reader:
        return reader.execute(sql.encode(), list(given)).fetchall()


def test_question_counts_against_its_own_quota_and_writes_its_audit_row(asked: Database) -> None:
    with acting(asked, OWNER) as doctor:
        assert len(doctor.execute(ASK.encode(), [READY]).fetchall()) == 1
    used = "select meter, used from private.usage where person_id = %s and meter <> 'urls'"
    assert _rows(asked, used, ANA.doctor_id) == [("questions", 1)]
    assert _rows(asked, "select outcome, fields from audit.events where action = 'transcript.ask'") == [
        ("ALLOWED", ["answer"])
    ]
    with superuser(asked) as owner:
        owner.execute("delete from private.quotas where meter = 'questions'")
    with refused("RG429", "quota_questions"), acting(asked, OWNER) as doctor:
        doctor.execute(ASK.encode(), [READY])


def test_other_doctor_gets_no_transcript_to_ask_and_begins_no_question(asked: Database) -> None:
    with acting(asked, OTHER) as doctor:
        assert doctor.execute(ASK.encode(), [READY]).fetchall() == []
    assert _rows(asked, "select outcome from audit.events where action = 'transcript.ask'") == [("DENIED",)]
    with refused("RG409", "question_running"), acting(asked, OTHER) as doctor:
        _begin(doctor, uuid4())
    assert _rows(asked, "select id from private.questions") == []


def test_answer_is_stored_once_and_returned_to_its_doctor(asked: Database) -> None:
    question = uuid4()
    with acting(asked, OWNER) as doctor:
        assert _begin(doctor, question) is None
    with refused("RG409", "question_running"), acting(asked, OWNER) as doctor:
        _begin(doctor, question)
    _end(asked, question, ANSWER)
    _end(asked, question, bytes(41))
    with acting(asked, OWNER) as doctor:
        assert _begin(doctor, question) == ANSWER
    with refused("RG409", "question_running"), acting(asked, OTHER) as doctor:
        _begin(doctor, question, BRUNO.id_of("over READY"))


def test_question_whose_lease_is_over_begins_again(asked: Database) -> None:
    question = uuid4()
    with acting(asked, OWNER) as doctor:
        _begin(doctor, question)
    with superuser(asked) as owner:
        owner.execute("update private.questions set begun_at = now() - interval '1 minute'")
    with refused("RG409", "question_running"), acting(asked, OWNER) as doctor:
        _begin(doctor, question)
    with acting(asked, OWNER) as doctor:
        assert _begin(doctor, question, lease_seconds=59) is None
    with refused("RG409", "question_running"), acting(asked, OWNER) as doctor:
        _begin(doctor, question, lease_seconds=59)


def test_failed_question_begins_again_at_once_and_an_answer_is_kept(asked: Database) -> None:
    question = uuid4()
    with acting(asked, OWNER) as doctor:
        _begin(doctor, question)
    _end(asked, question, None)
    with acting(asked, OWNER) as doctor:
        assert _begin(doctor, question) is None
    _end(asked, question, ANSWER)
    _end(asked, question, None)
    with acting(asked, OWNER) as doctor:
        assert _begin(doctor, question) == ANSWER


def test_end_of_a_question_counts_its_tokens_for_the_recording(asked: Database) -> None:
    _end(asked, None, None, "language.test", "gpt-test", 100, 20, 3)
    counted = _rows(
        asked,
        "select unit, quantity from private.cost_entries where recording_id = %s and vendor = 'language.test'",
        READY,
    )
    assert dict(counted) == {"INPUT_TOKENS": 100, "CACHED_TOKENS": 20, "OUTPUT_TOKENS": 3}


def test_destroyed_recording_loses_its_answers(asked: Database) -> None:
    with acting(asked, OWNER) as doctor:
        _begin(doctor, uuid4())
    (cleared,) = _rows(asked, "select private.clear_transcript(%s)", READY)
    assert {"table": "questions", "rows": 1} in cleared[0]


@pytest.mark.parametrize("who", ["compliance", "patient", "resguardo_api", "resguardo_worker"])
def test_nobody_but_a_doctor_begins_a_question(asked: Database, who: str) -> None:
    with refused("42501"), acting(asked, who) as person:
        _begin(person, uuid4())


# ---- Topics


def _topic_rows(database: Database) -> list[tuple[Any, ...]]:
    return _rows(
        database,
        "select action, entities -> 0 -> 'ids', fields from audit.events"
        " where exists (select from unnest(fields) as f (name) where f.name ~ 'topics$')",
    )


def test_law_1_topics_that_no_statement_audits_are_audited_at_the_commit(asked: Database) -> None:
    with acting(asked, OWNER) as doctor:
        assert value(doctor, "select private.topics_of(%s) ->> 'root_key'", READY) == "first"
    assert _topic_rows(asked) == [("insights.read", [str(READY)], ["topics"])]
    assert _rows(asked, "select entity_ids from private.shown_fields where entity_ids <> '{}'") == []


def test_law_1_audited_topics_have_no_second_row(asked: Database) -> None:
    with acting(asked, OWNER) as doctor:
        value(doctor, "select private.topics_of(%s)::text", READY)
        value(
            doctor,
            "select private.record_access('recording.list', 'recording', null, array[%s]::uuid[], '{}', '{}',"
            " '{recordings.topics}', 'pages')",
            READY,
        )
    assert _topic_rows(asked) == [("recording.list", [str(READY)], ["recordings.topics"])]


def test_topics_are_null_for_everybody_else(asked: Database) -> None:
    for who in (OTHER, "compliance"):
        with acting(asked, who) as person:
            assert value(person, "select private.topics_of(%s)::text", READY) is None
    for who in ("patient", "resguardo_api", "resguardo_worker"):
        with refused("42501"), acting(asked, who) as person:
            value(person, "select private.topics_of(%s)::text", READY)
    assert _topic_rows(asked) == []


@pytest.mark.parametrize(
    "change",
    [
        "update resguardo.insights set status = 'FAILED', error = 'internal_error' where recording_id = %s",
        "update private.insight_texts set topics = null where recording_id = %s",
    ],
)
def test_recording_without_readable_insights_has_no_topics(asked: Database, change: str) -> None:
    with superuser(asked) as owner:
        owner.execute(change.encode(), [READY])
    with acting(asked, OWNER) as doctor:
        assert value(doctor, "select private.topics_of(%s) ->> 'ciphertext'", READY) is None
