"""Tests of law 1 for thumbnails: only the recording's doctor gets a thumbnail, and only with an audit row."""

from uuid import UUID, uuid4

import pytest

from tests.databases import Database
from tests.policies.acting import acting, refused, superuser, value
from tests.policies.actors import ANA, DATA_API_ROLES
from tests.policies.test_laws import newest_event

READY = ANA.id_of("over READY")
OPEN = "select * from private.open_thumbnail(%s)"
STORE = "select private.store_thumbnail_link(%s, sha256('new'), 60)"
GIVE_NONE = {"clear_thumbnail", "finish_thumbnail", "read_thumbnail_link", "store_thumbnail_link"}
"""Functions that store or delete thumbnails, or return the claims of a link."""


@pytest.fixture
def thumbnails(practice: Database) -> Database:
    """Return the seeded database with the data key of a recording."""
    with superuser(practice) as connection:
        connection.execute(
            "insert into private.recording_keys values (%s, %s, 'first') on conflict do nothing",
            [READY, bytes(40)],
        )
    return practice


def test_law_1_only_these_functions_use_thumbnails_and_the_one_that_returns_them_audits_first(
    thumbnails: Database,
) -> None:
    with superuser(thumbnails) as reader:
        sources = dict(
            reader.execute(
                "select proname, prosrc from pg_proc where prosrc ~ '\\y(thumbnails|thumbnail_links)\\y'"
                " and pronamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')"
            ).fetchall()
        )
        find = value(reader, "select prosrc from pg_proc where proname = 'find_thumbnail'")
    assert set(sources) == {"open_thumbnail", *GIVE_NONE}
    assert sources["open_thumbnail"].index("private.find_thumbnail(") < sources["open_thumbnail"].index(
        "return query"
    )
    assert find.index("private.write_lookup(") < find.index("return is_found")


@pytest.mark.parametrize(
    "statement",
    [
        "select private.open_thumbnail(gen_random_uuid())",
        "select private.store_thumbnail_link(gen_random_uuid(), '', 60)",
        "select from private.thumbnails",
        "select from private.thumbnail_links",
    ],
)
def test_law_1_only_a_doctor_gets_thumbnails(thumbnails: Database, statement: str) -> None:
    for who in ("compliance", "patient", "resguardo_api", "resguardo_worker", *DATA_API_ROLES):
        with refused("42501"), acting(thumbnails, who) as connection:
            connection.execute(statement.encode())


@pytest.mark.parametrize(("call", "action"), [(OPEN, "thumbnail.read"), (STORE, "thumbnail.issue_url")])
@pytest.mark.parametrize(
    ("who", "recording", "outcome"),
    [
        ("clinician who owns", READY, "ALLOWED"),
        ("clinician who does not", READY, "DENIED"),
        ("clinician who owns", uuid4(), "ABSENT"),
    ],
)
def test_law_1_no_thumbnail_without_an_audit_row(
    thumbnails: Database, who: str, recording: UUID, outcome: str, call: str, action: str
) -> None:
    with acting(thumbnails, who) as connection:
        rows = [
            row for row in connection.execute(call.encode(), [recording]).fetchall() if row[0] is not None
        ]
    assert bool(rows) is (outcome == "ALLOWED")
    with superuser(thumbnails) as reader:
        event = newest_event(reader, action)
    assert event is not None
    assert event[0] == outcome


def test_law_1_worker_gets_the_video_of_a_thumbnail_only_with_an_audit_row(thumbnails: Database) -> None:
    with superuser(thumbnails) as connection:
        connection.execute("delete from private.thumbnail_links where recording_id = %s", [READY])
        connection.execute("delete from private.thumbnails where recording_id = %s", [READY])
        connection.execute(
            "update resguardo.recordings set thumbnail_status = 'PENDING' where id = %s", [READY]
        )
        connection.execute(
            "update resguardo.consents set text_version = '2027-01' where consultation_id = %s",
            [ANA.id_of("over")],
        )
    with acting(thumbnails, "resguardo_worker") as connection:
        found = connection.execute("select object_key from private.begin_thumbnail(%s)", [READY]).fetchall()
    assert len(found) == 1
    with superuser(thumbnails) as reader:
        event = newest_event(reader, "thumbnail.begin")
    assert event is not None
    assert event[:5] == ("ALLOWED", None, None, "resguardo_worker", [READY])
