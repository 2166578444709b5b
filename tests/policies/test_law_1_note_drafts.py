"""Tests of law 1 for note drafts: only the recording's doctor gets a draft, and only with an audit row."""

from uuid import UUID, uuid4

import pytest

from tests.databases import Database
from tests.policies.acting import acting, refused, superuser, value
from tests.policies.actors import ANA, BRUNO, DATA_API_ROLES

READY = ANA.id_of("over READY")
TABLES = ("note_drafts", "note_section_answers")
OPEN = "select * from private.open_note_draft(%s, %s, '[]', '{text}')"
ACTIONS = ("note_draft.read", "note_draft.edit", "note_draft.keep_flag", "note_draft.rewrite")
GIVE_TEXT = {
    "open_note_draft": ("private.write_lookup(", "return next"),
    "begin_note_section": ("private.write_audit(", "return query"),
    "reopen_note_draft": ("private.write_audit(", "return next"),
}
"""The functions that return encrypted drafts or answers, and the call in each that writes the audit row."""
GIVE_NONE = {
    "clear_note_draft", "count_note_request", "fail_note_section", "finish_note_section", "note_draft_version",
    "request_note_section", "store_note_answer", "store_note_draft", "take_back_note_request",
}  # fmt: skip
"""Functions that store, count or delete drafts and answers."""


@pytest.fixture
def drafts(practice: Database) -> Database:
    """Return the seeded database with the data keys of two recordings."""
    with superuser(practice) as connection:
        for doctor in (ANA, BRUNO):
            connection.execute(
                "insert into private.recording_keys values (%s, %s, 'first') on conflict do nothing",
                [doctor.id_of("over READY"), bytes(40)],
            )
    return practice


def test_law_1_only_these_functions_use_drafts_and_those_that_return_text_audit_first(
    drafts: Database,
) -> None:
    with superuser(drafts) as reader:
        sources = dict(
            reader.execute(
                "select proname, prosrc from pg_proc where prosrc ~ %s"
                " and pronamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')",
                ["|".join((*TABLES, "gather_note_draft"))],
            ).fetchall()
        )
    assert set(sources) - {"gather_note_draft"} == GIVE_TEXT.keys() | GIVE_NONE
    for name, (writes, returns) in GIVE_TEXT.items():
        assert sources[name].index(writes) < sources[name].index(returns), name


@pytest.mark.parametrize("action", ["note_draft.begin", "transcript.read", "viewer.read", "", None])
def test_law_1_drafts_are_not_opened_under_another_name(drafts: Database, action: str | None) -> None:
    with refused("RG403", "unknown_action"), acting(drafts, "clinician who owns") as connection:
        connection.execute(OPEN, [action, READY])


def test_law_1_draft_is_opened_for_a_signature_only_after_the_signature_has_its_audit_row(
    drafts: Database,
) -> None:
    with refused("RG403", "unknown_action"), acting(drafts, "clinician who owns") as connection:
        connection.execute(OPEN, ["note.sign", READY])
    with acting(drafts, "clinician who does not") as connection:
        assert connection.execute(OPEN, ["note.sign", READY]).fetchall() == []
    with superuser(drafts) as reader:
        outcome = (
            "select outcome from audit.events where action = 'note.sign' order by recorded_at desc limit 1"
        )
        assert value(reader, outcome) == "DENIED"


@pytest.mark.parametrize(
    "statement",
    [
        "select private.open_note_draft('note_draft.read', gen_random_uuid(), '[]', '{}')",
        "select private.store_note_draft(gen_random_uuid(), 0, '', false)",
        "select private.request_note_section(gen_random_uuid(), 'S', 0)",
        "select private.gather_note_draft(gen_random_uuid())",
        *(f"select from private.{table}" for table in TABLES),
    ],
)
def test_law_1_only_a_doctor_gets_drafts(drafts: Database, statement: str) -> None:
    for who in ("compliance", "patient", "resguardo_api", "resguardo_worker", *DATA_API_ROLES):
        with refused("42501"), acting(drafts, who) as connection:
            connection.execute(statement.encode())


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("who", "recording", "outcome", "rows"),
    [
        ("clinician who owns", READY, "ALLOWED", 1),
        ("clinician who does not", READY, "DENIED", 0),
        ("clinician who owns", uuid4(), "ABSENT", 0),
    ],
)
def test_law_1_no_draft_without_an_audit_row(
    drafts: Database, who: str, recording: UUID, outcome: str, rows: int, action: str
) -> None:
    with acting(drafts, who) as connection:
        assert len(connection.execute(OPEN, [action, recording]).fetchall()) == rows
    with superuser(drafts) as reader:
        row = reader.execute(
            "select outcome, actor_id, row_count from audit.events where action = %s"
            " order by recorded_at desc, id desc limit 1",
            [action],
        ).fetchone()
    doctor = ANA if who == "clinician who owns" else BRUNO
    assert row == (outcome, doctor.doctor_id, rows)


def test_law_1_draft_of_another_doctor_cannot_be_stored_or_written_again(drafts: Database) -> None:
    for statement in (
        "select private.store_note_draft(%s, 2, %s, false)",
        "select private.request_note_section(%s, 'S', length(%s))",
    ):
        with refused("RG409", "note_draft_changed"), acting(drafts, "clinician who does not") as connection:
            connection.execute(statement.encode(), [READY, bytes(40)])


def test_draft_is_stored_only_on_its_newest_version_and_never_after_the_signature(drafts: Database) -> None:
    store = b"select private.store_note_draft(%s, %s, %s, %s)"
    for stale in (0, 1, 3):
        with refused("RG409", "note_draft_changed"), acting(drafts, "clinician who owns") as connection:
            connection.execute(store, [READY, stale, bytes(40), False])
    with refused("RG409", "note_section_in_progress"), acting(drafts, "clinician who owns") as connection:
        connection.execute(store, [READY, 2, bytes(40), True])
    with superuser(drafts) as connection:
        connection.execute("update private.note_sections set error = 'language_refused'")
    with acting(drafts, "clinician who owns") as connection:
        assert value(connection, "select private.store_note_draft(%s, 2, %s, true)", READY, bytes(40)) == 3
        with refused("RG409", "note_signed"):
            connection.execute(store, [READY, 3, bytes(40), False])
