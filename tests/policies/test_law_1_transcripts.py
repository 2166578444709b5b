"""Tests of law 1 for transcripts: only the recording's doctor gets a transcript or its search terms, and only after
the audit row is written.
"""

from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.databases import Database
from tests.policies.acting import acting, refused, superuser, value
from tests.policies.actors import ANA, BRUNO, DATA_API_ROLES

READY = ANA.id_of("over READY")
WORDS = (
    "transcript_texts",
    "transcript_chunks",
    "transcript_corrections",
    "word_index_key",
    "subtitle_links",
)
OPEN = "select * from private.open_transcript(%s, %s, '[]', '{turns}')"
SEARCH = "select recording_id from private.search_transcripts(%s, null, null, null, null, null, true, 500, '{hits}')"
GIVE_WORDS = {
    "open_transcript": "private.find_transcript(",
    "search_transcripts": "insert into private.searches",
    "begin_insights": "private.write_audit(",
    "read_answers": "private.write_audit(",
    "read_retried_transcript": "private.write_audit(",
}
"""The functions that return a transcript, and the call in each that writes the audit row. The commit of a search writes
its audit row, as a trigger of `private.searches`.
"""
GIVE_NONE = {
    "gather_note_draft",  # test_law_1_note_drafts.py tests its callers
    "begin_transcription", "clear_transcript", "correct_transcript", "count_failed_request",
    "count_keys", "finish_transcription", "is_any_chunk_transcribed", "is_chunk_wanted",
    "list_unanswered_chunks", "lock_word_index_key", "read_subtitle_link", "read_word_index_key",
    "require_root_keys", "retry_transcription", "rewrap_word_index_key", "store_answer",
    "store_chunks", "store_subtitle_link", "word_index_key",
}  # fmt: skip
"""Functions that store, count or delete transcripts, or return a wrapped key or the claims of a subtitle link."""


@pytest.fixture
def words(practice: Database) -> Database:
    """Return the seeded database with the data keys of two recordings, because the SQL functions return a
    transcript together with the recording's data key.
    """
    with superuser(practice) as connection:
        for doctor in (ANA, BRUNO):
            connection.execute(
                "insert into private.recording_keys values (%s, %s, 'first') on conflict do nothing",
                [doctor.id_of("over READY"), bytes(40)],
            )
    return practice


def newest(database: Database, action: str) -> tuple[object, ...] | None:
    with superuser(database) as reader:
        return reader.execute(
            "select outcome, actor_id, "
            "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
            " as entity_ids, row_count from audit.events where action = %s"
            " order by recorded_at desc, id desc limit 1",
            [action],
        ).fetchone()


def test_law_1_only_these_functions_use_transcripts_and_those_that_return_one_audit_first(
    words: Database,
) -> None:
    with superuser(words) as reader:
        sources = dict(
            reader.execute(
                "select proname, prosrc from pg_proc where prosrc ~ %s"
                " and pronamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')",
                ["|".join(WORDS)],
            ).fetchall()
        )
    assert set(sources) == GIVE_WORDS.keys() | GIVE_NONE
    for name, writes in GIVE_WORDS.items():
        source = sources[name]
        assert source.index(writes) < source.index("return query"), name


@pytest.mark.parametrize("action", ["transcript.issue_url", "transcript.search", "viewer.read", "", None])
def test_law_1_transcripts_are_not_opened_under_another_name(words: Database, action: str | None) -> None:
    with refused("RG403", "unknown_action"), acting(words, "clinician who owns") as connection:
        connection.execute(OPEN, [action, READY])


@pytest.mark.parametrize(
    "statement",
    [
        "select private.open_transcript('transcript.read', gen_random_uuid(), '[]', '{}')",
        "select private.search_transcripts('{1}', null, null, null, null, null, true, 500, '{}')",
        "select private.add_shown_hits(gen_random_uuid(), '[]')",
        "select private.read_word_index_key()",
        "select private.find_transcript('transcript.read', gen_random_uuid(), '[]', '{}', false)",
        *(f"select from private.{table}" for table in WORDS),
    ],
)
def test_law_1_only_a_doctor_gets_transcripts(words: Database, statement: str) -> None:
    for who in ("compliance", "patient", "resguardo_api", "resguardo_worker", *DATA_API_ROLES):
        with refused("42501"), acting(words, who) as connection:
            connection.execute(statement.encode())


@pytest.mark.parametrize("action", ["transcript.read", "transcript.correct"])
@pytest.mark.parametrize(
    ("who", "recording", "outcome", "rows"),
    [
        ("clinician who owns", READY, "ALLOWED", 1),
        ("clinician who does not", READY, "DENIED", 0),
        ("clinician who owns", uuid4(), "ABSENT", 0),
    ],
)
def test_law_1_no_transcript_without_an_audit_row(
    words: Database, who: str, recording: UUID, outcome: str, rows: int, action: str
) -> None:
    with acting(words, who) as connection:
        assert len(connection.execute(OPEN, [action, recording]).fetchall()) == rows
    doctor = ANA if who == "clinician who owns" else BRUNO
    assert newest(words, action) == (outcome, doctor.doctor_id, [recording], rows)


@pytest.mark.parametrize("who", ["clinician who owns", "clinician who does not"])
def test_law_1_a_search_names_what_it_gives_out_and_gives_out_ones_own(words: Database, who: str) -> None:
    doctor = ANA if who == "clinician who owns" else BRUNO
    with acting(words, who) as connection:
        found = [row[0] for row in connection.execute(SEARCH, [[1]]).fetchall()]
    assert found == [doctor.id_of("over READY")]
    assert newest(words, "transcript.search") == ("ALLOWED", doctor.doctor_id, found, 1)


def test_law_1_a_search_names_what_its_hits_show_in_its_only_audit_row(words: Database) -> None:
    shown = uuid4()
    with acting(words, "clinician who owns") as connection:
        (search_id, recording), *_ = connection.execute(
            "select search_id, recording_id from private.search_transcripts("
            "'{1}', null, null, null, null, null, true, 500, '{hits,turns}')"
        ).fetchall()
        named = Jsonb([{"type": "patient", "ids": [str(shown)]}])
        assert value(connection, "select private.add_shown_hits(%s, %s)", search_id, named) is True
    with superuser(words) as reader:
        row = reader.execute(
            "select entities, fields from audit.events where action = 'transcript.search'"
            " order by recorded_at desc, id desc limit 1"
        ).fetchone()
    assert row == (
        [{"type": "recording", "ids": [str(recording)]}, {"type": "patient", "ids": [str(shown)]}],
        ["hits", "turns"],
    )
    with acting(words, "clinician who owns") as connection:
        assert value(connection, "select private.add_shown_hits(%s, %s)", search_id, named) is False


def test_law_1_each_search_of_a_transaction_writes_an_audit_row_even_without_deferral(
    words: Database,
) -> None:
    def count() -> int:
        with superuser(words) as reader:
            return int(value(reader, "select count(*) from audit.events where action = 'transcript.search'"))

    before = count()
    with acting(words, "clinician who owns") as connection:
        connection.execute(SEARCH, [[1]])
        connection.execute("set constraints all immediate")
        connection.execute(SEARCH, [[1]])
    assert count() == before + 2


@pytest.mark.parametrize("terms", [[], None, [0], [1, None]])
def test_law_1_a_search_for_no_word_finds_nothing(words: Database, terms: list[int | None] | None) -> None:
    if terms == []:
        with refused("RG409", "search_empty"), acting(words, "clinician who owns") as connection:
            connection.execute(SEARCH, [terms])
        return
    with acting(words, "clinician who owns") as connection:
        assert connection.execute(SEARCH, [terms]).fetchall() == []
    assert newest(words, "transcript.search") == ("ALLOWED", ANA.doctor_id, [], 0)
