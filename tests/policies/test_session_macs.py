"""Tests of session MACs. If the practice requires session MACs, the database accepts only claims that its own hook
for Supabase Auth signed.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Jsonb

from app.identity.session_macs import set_session_macs
from app.postgres.access_policies import access_sql
from tests.databases import Cluster, Database
from tests.policies.acting import refused, superuser, value
from tests.policies.actors import Connection, begin_as, claims_of, id_of
from tests.policies.seed import seed

Claims = dict[str, Any]
HOOK: LiteralString = "select private.access_token_hook(%s)"
ADD: LiteralString = "select private.add_session_mac(%s)"
SAME: LiteralString = """
select
    case
        when jsonb_typeof(e -> 'claims') = 'object'
            then private.access_token_hook(e) #- '{claims,resguardo_mac}' = e #- '{claims,resguardo_mac}'
        else private.access_token_hook(e) = e
    end
from (select %s::jsonb as e) as given
"""
PERSON: LiteralString = "select private.person()"


@pytest.fixture(scope="module")
def shared(cluster: Cluster) -> Iterator[Database]:
    """Return a seeded database whose practice requires session MACs. Its tests change nothing."""
    with cluster.clone("newer") as database:
        seed(database.superuser_url)
        set_session_macs(database.owner_url, is_required=True)
        yield database


@pytest.fixture(scope="module")
def auth(shared: Database) -> Iterator[Connection]:
    """Return a database connection with the login of Supabase Auth."""
    with psycopg.connect(shared.auth_admin_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def api(shared: Database) -> Iterator[Connection]:
    """Return a database connection with the API's login, which an attacker may have stolen."""
    with psycopg.connect(shared.api_url, autocommit=True) as connection:
        yield connection


def issued(auth: Connection, claims: Claims) -> Claims:
    """Return the claims after the database's hook for Supabase Auth has signed them."""
    answer = value(auth, HOOK, Jsonb({"user_id": claims["sub"], "claims": claims}))
    assert isinstance(answer["claims"], dict)
    return answer["claims"]


def person(api: Connection, claims: Claims, statement: LiteralString = PERSON) -> Any:
    """Run a statement as the person with these claims, and return its result."""
    with api.transaction(force_rollback=True):
        begin_as(api, claims)
        return value(api, statement)


def test_hook_adds_the_mac_and_changes_nothing_else(auth: Connection) -> None:
    claims = claims_of("ana") | {
        "email": "ana@example.org",
        "app_metadata": {"a": [1, None]},
        "is_anonymous": False,
    }
    event = {
        "metadata": {"name": "x"},
        "user_id": claims["sub"],
        "claims": claims,
        "authentication_method": "totp",
    }
    answer = value(auth, HOOK, Jsonb(event))
    mac = answer["claims"].pop("resguardo_mac")
    assert answer == event
    assert value(auth, ADD, Jsonb(claims)) == claims | {"resguardo_mac": mac}


def test_mac_is_hmac_sha_256_of_the_canonical_text(shared: Database, auth: Connection) -> None:
    claims = claims_of("ana") | {
        "amr": [
            {"method": "totp", "timestamp": 20, "provider": "x"},
            "password",
            {"method": 'pass"é', "timestamp": 7.9},
        ]
    }
    with superuser(shared) as reader:
        number, block = reader.execute(
            "select number, inner_block from private.session_mac_keys order by number desc limit 1"
        ).fetchone() or (0, b"")
    key = bytes(byte ^ 0x36 for byte in block).rstrip(b"\0")
    message = json.dumps(
        [
            "resguardo-session-mac-1",
            claims["sub"],
            claims["session_id"],
            "aal2",
            claims["exp"],
            [["totp", 20], ['pass"é', 7]],
        ],
        ensure_ascii=False,
    )
    digest = hmac.new(key, message.encode(), hashlib.sha256).hexdigest()
    assert issued(auth, claims)["resguardo_mac"] == f"{number}.{digest}"


def test_session_with_a_mac_counts_in_every_role(auth: Connection, api: Connection) -> None:
    for user, statement in (("ana", PERSON), ("carla", PERSON), ("paula", "select private.patient()")):
        assert person(api, issued(auth, claims_of(user)), statement)


@pytest.mark.parametrize("user", ["ana", "carla", "paula"])
@pytest.mark.parametrize(
    "mac", [None, "", "1", "1.", ".", "x.y", "1." + "0" * 64, "-1.0", "9999999999.0", "2.ab", "é", 7, [], {}]
)
def test_claims_that_the_hook_did_not_sign_are_refused(api: Connection, user: str, mac: object) -> None:
    statement: LiteralString = "select private.patient()" if user == "paula" else PERSON
    with refused("RG401", "session_over"):
        person(api, claims_of(user) | {"resguardo_mac": mac}, statement)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 4_102_444_800},
        {"exp": "later"},
        {"amr": [{"method": "totp", "timestamp": 1}]},
        {"amr": []},
        {"amr": None},
        {"amr": "totp"},
        {"aal": "aal1"},
        {"sub": str(id_of("bruno"))},
        {"sub": str(id_of("bruno")), "session_id": str(id_of("bruno session"))},
        {"session_id": str(id_of("ana aal1 session")), "aal": "aal1"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_mac_of_other_claims_is_refused(auth: Connection, api: Connection, changes: Claims) -> None:
    claims = issued(auth, claims_of("ana"))
    if changes.get("exp") == "later":
        changes = {"exp": claims["exp"] + 1}
    with refused("RG401", "session_over"):
        person(api, claims | changes)


def test_door_itself_refuses_claims_without_a_mac_before_it_says_anything_of_the_person(
    api: Connection,
) -> None:
    for user in ("ana", "carla", "paula", "nobody"):
        with refused("RG401", "session_over"), api.transaction(force_rollback=True):
            begin_as(api, claims_of(user))


def test_forged_claims_read_nothing_by_plain_statements(shared: Database) -> None:
    """The attacker in this test has the API's login and knows a session id, and sets the claims."""
    forged = json.dumps(claims_of("ana") | {"exp": 4_102_444_800})
    for statement in (
        "select * from resguardo.recordings",
        "select * from resguardo.consultations",
        "select private.release_object_key('recording.issue_url', gen_random_uuid(), null)",
        "select private.open_transcript('transcript.read', gen_random_uuid(), '[]', '{}')",
        "select private.open_insights('insights.read', gen_random_uuid(), '[]', '{}')",
        "select private.search_transcripts('{1}', null, null, null, null, null, false, 1, '{}')",
    ):
        with refused("RG401", "session_over"), psycopg.connect(shared.api_url) as connection:
            connection.execute("select set_config('request.jwt.claims', %s, true)", [forged])
            connection.execute("set local role clinician")
            connection.execute(statement.encode())


@pytest.mark.parametrize(
    "role",
    [
        "resguardo_api",
        "resguardo_worker",
        "clinician",
        "compliance",
        "patient",
        "anon",
        "authenticated",
        "service_role",
    ],
)
@pytest.mark.parametrize(
    "statement",
    [
        "select private.access_token_hook('{}')",
        "select private.add_session_mac('{}')",
        "select private.session_mac('{}', 1)",
        "select private.has_session_mac('{}')",
        "select private.rotate_session_mac_key()",
        "select * from private.session_mac_keys",
        "select * from private.session_mac_rule",
        "update private.session_mac_rule set is_required = false",
        "insert into private.session_mac_keys (number, inner_block, outer_block) values (2, '', '')",
    ],
)
def test_nobody_but_auth_makes_a_mac(shared: Database, role: str, statement: LiteralString) -> None:
    with refused("42501"), psycopg.connect(shared.superuser_url) as connection:
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "select private.session_mac('{}', 1)",
        "select private.rotate_session_mac_key()",
        "select * from private.session_mac_keys",
        "update private.session_mac_rule set is_required = false",
        "select private.live_session()",
    ],
)
def test_auth_itself_calls_the_two_hooks_and_nothing_else(shared: Database, statement: LiteralString) -> None:
    with refused("42501"), psycopg.connect(shared.auth_admin_url) as connection:
        connection.execute(statement)


def test_auth_reads_and_writes_no_table_of_ours(shared: Database) -> None:
    with superuser(shared) as reader:
        rows = reader.execute(
            "select c.oid::regclass::text from pg_class as c"
            " where c.relnamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')"
            " and c.relkind in ('r', 'p', 'v')"
            " and has_table_privilege('supabase_auth_admin', c.oid, 'select, insert, update, delete, truncate')"
        ).fetchall()
    assert rows == []


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
)
NAMES = st.sampled_from(
    ["claims", "sub", "session_id", "aal", "exp", "amr", "method", "timestamp", "resguardo_mac", "x"]
)
FLAT = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(NAMES, PLAIN, max_size=6)
JSON = FLAT | st.lists(FLAT, max_size=3) | st.dictionaries(NAMES, FLAT, max_size=6)
UUIDS = st.uuids().map(str) | st.just("") | st.just("not a uuid") | st.none() | st.integers()
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "sub": UUIDS,
        "session_id": UUIDS,
        "aal": st.sampled_from(["aal1", "aal2", None, 7, {}]),
        "exp": st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text("0123456789e+-.", max_size=8),
        "amr": JSON | st.lists(st.dictionaries(st.sampled_from(["method", "timestamp"]), JSON)),
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(event=JSON | st.fixed_dictionaries({"claims": JSON | CLAIMS, "user_id": JSON}))
def test_hook_never_raises_and_gives_back_the_event(auth: Connection, event: Any) -> None:
    assert value(auth, SAME, Jsonb(event)) is True
    assert value(auth, ADD, Jsonb(event)) is not None or event is None


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "7",
        "[]",
        '"x"',
        "{}",
        '{"claims": null}',
        '{"claims": []}',
        '{"claims": "x"}',
        '{"claims": {"sub": "x"}}',
        '{"claims": {"exp": 1e131071, "sub": "00000000-0000-0000-0000-000000000000"}}',
        '{"claims": {"amr": [{"timestamp": "soon"}], "exp": 1}}',
        '{"claims": {"amr": [[[[[[[]]]]]]], "exp": {}}}',
    ],
)
def test_hook_never_raises_on_odd_json(auth: Connection, text: str) -> None:
    assert auth.execute("select private.access_token_hook(%s::jsonb)::text", [text]).fetchone() is not None
    assert auth.execute("select private.add_session_mac(%s::jsonb)::text", [text]).fetchone() is not None


def test_access_is_applied_where_supabase_auths_role_does_not_exist(practice: Database) -> None:
    with psycopg.connect(practice.owner_url) as owner:
        owner.execute(access_sql().replace("supabase_auth_admin", "auth_admin_elsewhere").encode())


def test_hook_gives_null_for_null(auth: Connection) -> None:
    assert auth.execute(
        "select private.access_token_hook(null), private.add_session_mac(null)"
    ).fetchone() == (None, None)


def test_hook_signs_people_in_without_a_mac_when_there_is_no_key(practice: Database) -> None:
    with superuser(practice) as owner, psycopg.connect(practice.auth_admin_url) as auth:
        owner.execute("delete from private.session_mac_keys")
        assert "resguardo_mac" not in issued(auth, claims_of("ana") | {"resguardo_mac": "1.forged"})


def test_hook_outlives_the_time_limit_that_auth_sets(practice: Database) -> None:
    with superuser(practice) as owner, psycopg.connect(practice.auth_admin_url) as auth:
        with owner.transaction(force_rollback=True):
            owner.execute("lock table private.session_mac_keys")
            auth.execute("set local statement_timeout = 50")
            assert "resguardo_mac" not in issued(auth, claims_of("ana"))
        assert "resguardo_mac" in issued(auth, claims_of("ana"))


def test_former_key_is_accepted_until_the_next_rotation(practice: Database) -> None:
    with (
        psycopg.connect(practice.auth_admin_url, autocommit=True) as auth,
        psycopg.connect(practice.api_url) as api,
    ):
        first = issued(auth, claims_of("ana"))
        assert set_session_macs(practice.owner_url, is_required=True, new_key=True).key_number == 2
        second = issued(auth, claims_of("ana"))
        assert (first["resguardo_mac"][:2], second["resguardo_mac"][:2]) == ("1.", "2.")
        assert person(api, first)
        assert person(api, second)
        set_session_macs(practice.owner_url, new_key=True)
        assert person(api, second)
        api.rollback()
        with refused("RG401", "session_over"):
            person(api, first)


def test_rule_is_as_set_until_it_is_set_anew(practice: Database) -> None:
    assert not set_session_macs(practice.owner_url).is_required
    for wanted, found in ((True, True), (None, True), (False, False), (None, False)):
        assert set_session_macs(practice.owner_url, is_required=wanted).is_required is found
        with psycopg.connect(practice.api_url) as api:
            if not found:
                assert person(api, claims_of("ana"))
                continue
            with refused("RG401", "session_over"):
                person(api, claims_of("ana"))


def test_token_of_before_the_rule_is_over_and_a_new_one_is_not(practice: Database) -> None:
    with (
        psycopg.connect(practice.auth_admin_url, autocommit=True) as auth,
        psycopg.connect(practice.api_url) as api,
    ):
        assert person(api, claims_of("ana"))
        set_session_macs(practice.owner_url, is_required=True)
        new = issued(auth, claims_of("ana"))
        with refused("RG401", "session_over"):
            person(api, claims_of("ana"))
        api.rollback()
        assert person(api, new)


def test_keys_differ_between_databases_and_rotations(practice: Database, shared: Database) -> None:
    found: set[bytes] = set()
    set_session_macs(practice.owner_url, new_key=True)
    for database in (practice, shared):
        with superuser(database) as reader:
            rows = reader.execute("select inner_block, outer_block from private.session_mac_keys").fetchall()
            assert all(
                bytes(i ^ o for i, o in zip(*row, strict=True)) == bytes([0x36 ^ 0x5C]) * 64 for row in rows
            )
            found |= {row[0] for row in rows}
    assert len(found) == 2  # Both databases are clones of a template and share its first key


def test_hook_and_api_write_the_same_time(auth: Connection, api: Connection) -> None:
    """Supabase Auth passes the times in the claims to the hook as numbers, which may have a fraction. The API
    passes the times in the claims to the database as whole seconds, and leaves out `amr` entries that have no time.
    """
    now = int(time.time())
    claims = claims_of("ana") | {
        "exp": now + 60.75,
        "amr": ["password", {"method": "totp", "timestamp": now + 0.5}],
    }
    mac = issued(auth, claims)["resguardo_mac"]
    passed = claims | {"exp": now + 60, "amr": [{"method": "totp", "timestamp": now}], "resguardo_mac": mac}
    assert person(api, passed)
