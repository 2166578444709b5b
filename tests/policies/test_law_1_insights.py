"""Tests of law 1 for insights: only the recording's doctor gets insights, and only after the audit row is written."""

from uuid import UUID, uuid4

import pytest

from tests.databases import Database
from tests.policies.acting import acting, refused, superuser
from tests.policies.actors import ANA, BRUNO, DATA_API_ROLES

READY = ANA.id_of("over READY")
TABLES = ("insight_texts", "insight_answers", "insight_dismissals")
OPEN = "select * from private.open_insights(%s, %s, '[]', '{insights}')"
GIVE_TEXT = {
    "open_insights": "private.find_insights(",
    "begin_insights": "private.write_audit(",
    "topics_of": "private.require_audit_of(",
}
"""The functions that return encrypted insights or answers, and the call in each that writes the audit row. The commit
of a read of topics requires its audit row, with a trigger of `private.shown_fields` (test_questions.py).
"""
GIVE_NONE = {
    "gather_note_draft", "note_draft_version",  # test_law_1_note_drafts.py tests their callers
    "clear_insights", "count_insight_request", "dismiss_insight", "finish_insights", "give_up_insights",
    "refresh_insights", "retry_insights", "store_insight_answer", "take_back_insight_request",
}  # fmt: skip
"""Functions that store, count or delete insights."""


@pytest.fixture
def insights(practice: Database) -> Database:
    """Return the seeded database with the data keys of two recordings, because `open_insights` returns the text
    together with the recording's data key.
    """
    with superuser(practice) as connection:
        for doctor in (ANA, BRUNO):
            connection.execute(
                "insert into private.recording_keys values (%s, %s, 'first') on conflict do nothing",
                [doctor.id_of("over READY"), bytes(40)],
            )
    return practice


def test_law_1_only_these_functions_use_insights_and_those_that_return_text_audit_first(
    insights: Database,
) -> None:
    with superuser(insights) as reader:
        sources = dict(
            reader.execute(
                "select proname, prosrc from pg_proc where prosrc ~ %s"
                " and pronamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')",
                ["|".join(TABLES)],
            ).fetchall()
        )
    assert set(sources) == GIVE_TEXT.keys() | GIVE_NONE
    for name, writes in GIVE_TEXT.items():
        source = sources[name]
        returned = "return found_topics" if name == "topics_of" else "return query"
        assert source.index(writes) < source.index(returned), name


@pytest.mark.parametrize("action", ["insights.begin", "transcript.read", "viewer.read", "", None])
def test_law_1_insights_are_not_opened_under_another_name(insights: Database, action: str | None) -> None:
    with refused("RG403", "unknown_action"), acting(insights, "clinician who owns") as connection:
        connection.execute(OPEN, [action, READY])


@pytest.mark.parametrize(
    "statement",
    [
        "select private.open_insights('insights.read', gen_random_uuid(), '[]', '{}')",
        "select private.find_insights('insights.read', gen_random_uuid(), '[]', '{}', false)",
        "select private.dismiss_insight(gen_random_uuid(), 1, 1)",
        *(f"select from private.{table}" for table in TABLES),
    ],
)
def test_law_1_only_a_doctor_gets_insights(insights: Database, statement: str) -> None:
    for who in ("compliance", "patient", "resguardo_api", "resguardo_worker", *DATA_API_ROLES):
        with refused("42501"), acting(insights, who) as connection:
            connection.execute(statement.encode())


@pytest.mark.parametrize("action", ["insights.read", "insights.dismiss"])
@pytest.mark.parametrize(
    ("who", "recording", "outcome", "rows"),
    [
        ("clinician who owns", READY, "ALLOWED", 1),
        ("clinician who does not", READY, "DENIED", 0),
        ("clinician who owns", uuid4(), "ABSENT", 0),
    ],
)
def test_law_1_no_insights_without_an_audit_row(
    insights: Database, who: str, recording: UUID, outcome: str, rows: int, action: str
) -> None:
    with acting(insights, who) as connection:
        assert len(connection.execute(OPEN, [action, recording]).fetchall()) == rows
    doctor = ANA if who == "clinician who owns" else BRUNO
    with superuser(insights) as reader:
        newest = reader.execute(
            "select outcome, actor_id, array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid),"
            " row_count from audit.events where action = %s order by recorded_at desc, id desc limit 1",
            [action],
        ).fetchone()
    assert newest == (outcome, doctor.doctor_id, [recording], rows)


def test_law_1_a_line_of_another_doctor_cannot_be_dismissed(insights: Database) -> None:
    with refused("RG409", "insights_changed"), acting(insights, "clinician who does not") as connection:
        connection.execute("select private.dismiss_insight(%s, 1, 2)", [READY])
