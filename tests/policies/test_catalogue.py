"""Tests of the catalog of a migrated database: its functions, rights, indexes, audit log and job queue."""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from app.postgres.access_policies import access_sql, access_version
from tests.databases import Cluster, Database
from tests.policies.acting import RELEASE, refused, superuser, value
from tests.policies.actors import ANA, Connection, actor, enter
from tests.policies.seed import seed

OURS = "('resguardo', 'audit', 'private', 'jobs')"
SEARCH_PATH = {"private": "search_path=pg_catalog, pg_temp", "jobs": "search_path=pg_catalog, jobs, pg_temp"}


@pytest.fixture(scope="module")
def migrated(cluster: Cluster) -> Iterator[Database]:
    with cluster.clone("newer") as database:
        seed(database.superuser_url)
        yield database


@pytest.fixture
def reader(migrated: Database) -> Iterator[Connection]:
    with psycopg.connect(migrated.superuser_url) as connection:
        yield connection
        connection.rollback()


def rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    return connection.execute(statement.replace(":ours", OURS).encode()).fetchall()


def test_every_function_has_a_fixed_search_path(reader: Connection) -> None:
    """The search path of each SQL function names pg_temp last. If a search path did not name pg_temp, Postgres
    would look for a type in pg_temp first.
    """
    found = rows(
        reader,
        "select pronamespace::regnamespace::text, oid::regprocedure::text, proconfig from pg_proc"
        " where pronamespace::regnamespace::text in :ours",
    )
    assert {schema for schema, _, _ in found} == set(SEARCH_PATH)
    wrong = [name for schema, name, config in found if not config or config[0] != SEARCH_PATH[schema]]
    assert not wrong
    extra = {setting.split("=")[0] for _, _, config in found for setting in config[1:]}
    assert extra <= {"plan_cache_mode", "enable_seqscan", "enable_nestloop", "lock_timeout"}


def test_definers_are_in_private_and_everything_is_plpgsql(reader: Connection) -> None:
    assert rows(
        reader,
        "select distinct pronamespace::regnamespace::text from pg_proc"
        " where prosecdef and pronamespace::regnamespace::text in :ours",
    ) == [("private",)]
    assert rows(
        reader,
        "select distinct l.lanname, p.prokind::text from pg_proc as p join pg_language as l on l.oid = p.prolang"
        " where p.pronamespace::regnamespace::text in :ours",
    ) == [("plpgsql", "f")]


def test_nothing_is_granted_to_public_or_to_the_data_api(reader: Connection) -> None:
    granted = rows(
        reader,
        """
        with acls as (
            select oid::regprocedure::text as name, coalesce(proacl, acldefault('f', proowner)) as acl
            from pg_proc where pronamespace::regnamespace::text in :ours
            union all
            select
                oid::regclass::text,
                coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))
            from pg_class where relnamespace::regnamespace::text in :ours and relkind in ('r', 'p', 'v', 'S')
            union all
            select c.oid::regclass::text || '.' || a.attname, a.attacl
            from pg_attribute as a join pg_class as c on c.oid = a.attrelid
            where c.relnamespace::regnamespace::text in :ours and a.attacl is not null
            union all
            select nspname, coalesce(nspacl, acldefault('n', nspowner)) from pg_namespace where nspname in :ours
        )
        select name, case g.grantee when 0 then 'public' else g.grantee::regrole::text end, g.privilege_type
        from acls, aclexplode(acl) as g
        where g.grantee = 0 or g.is_grantable
            or g.privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'CREATE', 'MAINTAIN')
            or g.grantee::regrole::text in ('anon', 'authenticated', 'service_role', 'authenticator')
        """,
    )
    owner = value(reader, "select nspowner::regrole::text from pg_namespace where nspname = 'private'")
    assert [grant for grant in granted if grant[1] != owner] == []


def test_our_objects_have_one_owner_who_is_no_superuser(reader: Connection, migrated: Database) -> None:
    owners = rows(
        reader,
        "select relowner::regrole::text from pg_class where relnamespace::regnamespace::text in :ours"
        " union select proowner::regrole::text from pg_proc where pronamespace::regnamespace::text in :ours",
    )
    assert owners == [(migrated.owner,)]
    assert value(reader, "select rolsuper from pg_roles where rolname = %s", migrated.owner) is False


def test_row_security_decides_on_every_clinical_table(reader: Connection) -> None:
    tables = rows(
        reader,
        "select relname, relrowsecurity from pg_class"
        " where relnamespace = 'resguardo'::regnamespace and relkind in ('r', 'p')",
    )
    assert tables
    assert [name for name, secured in tables if not secured] == []
    views = rows(
        reader,
        "select relname, coalesce('security_invoker=true' = any(reloptions), false) from pg_class"
        " where relnamespace::regnamespace::text in :ours and relkind in ('v', 'm')",
    )
    assert [name for name, invokes in views if not invokes] == []


def test_policies_are_named_for_what_they_do_one_a_command_and_role(reader: Connection) -> None:
    policies = rows(
        reader,
        "select policyname, tablename, lower(cmd), roles::text[], permissive from pg_policies"
        " where schemaname in :ours",
    )
    assert policies
    for name, table, command, roles, permissive in policies:
        assert permissive == "PERMISSIVE", name
        who = roles[0].removeprefix("resguardo_")
        assert (name, len(roles)) == (f"{table}_{command}_{who}", 1)


def test_policies_ask_who_it_is_once_a_statement(reader: Connection) -> None:
    policies = rows(
        reader,
        "select policyname, concat_ws(' ', qual, with_check) from pg_policies where schemaname in :ours",
    )
    assert policies
    for name, expression in policies:
        bare = re.sub(r"\( SELECT private\.(person|doctor|patient|uid)\(\) AS \w+\)", "", expression)
        assert not re.search(r"private\.(person|doctor|patient|uid)\(|auth\.", bare), name


def test_every_foreign_key_leads_an_index(reader: Connection) -> None:
    """The test checks only our own tables, because Procrastinate defines the foreign keys of the job queue."""
    missing = rows(
        reader,
        """
        select c.conrelid::regclass::text, c.conname from pg_constraint as c
        where c.contype = 'f' and c.connamespace::regnamespace::text in ('resguardo', 'audit', 'private')
            and not exists (
                select from pg_index as i where i.indrelid = c.conrelid and i.indpred is null
                and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey
                and i.indkey[0] = c.conkey[1]
            )
        """,
    )
    assert missing == []


def test_every_column_that_a_policy_compares_leads_an_index(reader: Connection) -> None:
    """The test checks the table's own columns that row policies compare with the caller's id. If a column that a row
    policy compares had no index, each statement would read the whole table.
    """
    expressions = rows(
        reader,
        "select tablename, coalesce(qual, '') from pg_policies where schemaname in :ours and qual like '%private.%'",
    )
    compared = {
        (table, column)
        for table, expression in expressions
        for column in re.findall(
            rf"(?<![\w.])(?:{table}\.)?(\w+) = \( SELECT private\.(?:person|doctor|patient)\(\)", expression
        )
    }
    led = set(
        rows(
            reader,
            "select c.relname::text, a.attname::text from pg_index as i join pg_class as c on c.oid = i.indrelid"
            " join pg_attribute as a on a.attrelid = c.oid and a.attnum = i.indkey[0]"
            " where c.relnamespace = 'resguardo'::regnamespace and i.indpred is null",
        )
    )
    assert len(compared) >= 6
    assert compared - led == set()


def test_no_constraint_is_left_to_name_itself(reader: Connection) -> None:
    names = rows(
        reader,
        "select conname from pg_constraint where contype <> 'n'"
        " and connamespace::regnamespace::text in ('resguardo', 'audit', 'private')",
    )
    assert names
    assert [
        name for (name,) in names if re.search(r"_check\d*$|_(fkey|key|pkey)\d+$|_not_null\d*$", name)
    ] == []


CHANGES: tuple[LiteralString, ...] = (
    "update {} set id = id",
    "delete from {}",
    "truncate {}",
    "merge into {} as e using (select 1) as x on true when matched then delete",
)


@pytest.mark.parametrize("replica", [False, True], ids=["as its owner", "as a superuser in replica mode"])
def test_audit_events_are_insert_only_for_the_owner_too(migrated: Database, replica: bool) -> None:
    url = migrated.superuser_url if replica else migrated.owner_url
    with psycopg.connect(url, autocommit=True) as owner:
        if replica:
            owner.execute("set session_replication_role = replica")
        partitions = _partitions(owner)
        for name in ("events", "event_blocks", "event_bitmaps", *partitions):
            table = sql.Identifier("audit", name)
            for change in CHANGES:
                is_empty = name not in ("events", "events_2026")
                if is_empty and not change.startswith("truncate"):
                    continue
                with refused("RG405"):
                    owner.execute(sql.SQL(change).format(table))
        with owner.transaction(force_rollback=True):
            owner.execute(
                "insert into audit.events (actor_role, action, operation, outcome, purpose, basis,"
                " policy_version) values ('x', 'x', 'R', 'ALLOWED', 'OPERATIONS', 'x', 'x')"
            )


def test_the_log_is_guarded_on_every_partition_in_replica_mode_too(reader: Connection) -> None:
    """The test reads the catalog, because an empty partition has no row that a statement could try to change."""
    guarded = rows(
        reader,
        "select c.relname,"
        " array_agg(t.tgname::text || ' ' || t.tgenabled::text || ' ' || t.tgtype::text order by t.tgname)"
        " from pg_trigger as t join pg_class as c on c.oid = t.tgrelid"
        " where c.relnamespace = 'audit'::regnamespace group by 1",
    )
    row, before, insert, delete, update, truncate = 1, 2, 4, 8, 16, 32
    of_events = {
        "events_queue_for_index": row | insert,
        "events_queue_for_sealing": row | insert,
        "events_refuse_change": row | before | update | delete,
        "events_refuse_truncate": before | truncate,
    }
    expected = {
        **dict.fromkeys(["events", *_partitions(reader)], of_events),
        **{
            table: {
                f"{table}_refuse_change": row | before | update | delete,
                f"{table}_refuse_truncate": before | truncate,
            }
            for table in ("event_blocks", "event_bitmaps")
        },
        "unindexed": {
            "unindexed_refuse_change": row | before | update,
            "unindexed_refuse_truncate": before | truncate,
        },
        **{
            table: {
                f"{table}_guard": row | before | delete,
                f"{table}_refuse_change": row | before | update,
                f"{table}_refuse_truncate": before | truncate,
            }
            for table in ("unsealed", "leaves", "tile_hashes")
        },
        **{
            table: {
                f"{table}_refuse_delete": row | before | delete,
                f"{table}_refuse_truncate": before | truncate,
            }
            for table in ("logs", "published_logs")
        },
        "publications": {
            "publications_refuse_change": row | before | update | delete,
            "publications_refuse_truncate": before | truncate,
        },
    }
    assert {name: set(triggers) for name, triggers in guarded} == {
        table: {f"{trigger} A {kind}" for trigger, kind in triggers.items()}
        for table, triggers in expected.items()
    }


def test_the_log_has_a_partition_for_each_of_twenty_years(reader: Connection) -> None:
    assert set(_partitions(reader)) == {f"events_{year}" for year in range(2026, 2047)}
    bounds = rows(
        reader,
        "select pg_get_expr(c.relpartbound, c.oid) from pg_class as c join pg_inherits as i on i.inhrelid = c.oid"
        " where i.inhparent = 'audit.events'::regclass order by c.relname",
    )
    reader.execute("set local timezone = 'UTC'")
    years = [re.findall(r"'(\d{4})-01-01", bound) for (bound,) in bounds]
    assert years == [[str(year), str(year + 1)] for year in range(2026, 2047)]


def test_no_index_of_the_log_keeps_a_pending_list(reader: Connection) -> None:
    """A GIN index with `fastupdate` keeps a pending list. From time to time, one insert must empty the pending list
    of a GIN index and is therefore slow.
    """
    methods = rows(
        reader,
        "select distinct m.amname from pg_class as c join pg_am as m on m.oid = c.relam"
        " where c.relnamespace = 'audit'::regnamespace and c.relkind in ('i', 'I')",
    )
    assert methods == [("btree",)]


def _partitions(connection: Connection) -> list[str]:
    found = connection.execute(
        "select c.relname from pg_class as c join pg_inherits as i on i.inhrelid = c.oid"
        " where i.inhparent = 'audit.events'::regclass"
    )
    return [name for (name,) in found]


COLUMNS = """
select c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
    pg_get_expr(d.adbin, d.adrelid)
from pg_attribute as a join pg_class as c on c.oid = a.attrelid
left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where c.relnamespace = current_schema()::regnamespace and a.attnum > 0 and c.relkind <> 'i' order by 1, 2
"""
QUEUE = {
    "columns": COLUMNS,
    "functions": "select oid::regprocedure::text, prosrc, provolatile::text, pg_get_function_result(oid) from pg_proc"
    " where pronamespace = current_schema()::regnamespace order by 1",
    "triggers": "select t.tgname, c.relname, t.tgenabled::text, pg_get_triggerdef(t.oid) from pg_trigger as t"
    " join pg_class as c on c.oid = t.tgrelid where c.relnamespace = current_schema()::regnamespace"
    " and not t.tgisinternal order by 1",
    "indexes": "select indexname, indexdef from pg_indexes where schemaname = current_schema() order by 1",
    "constraints": "select conname, conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint"
    " where connamespace = current_schema()::regnamespace and contype <> 'n' order by 1, 2",
    "types": "select t.typname, e.enumlabel from pg_type as t join pg_enum as e on e.enumtypid = t.oid"
    " where t.typnamespace = current_schema()::regnamespace order by t.typname, e.enumsortorder",
}


@pytest.mark.parametrize("part", QUEUE)
def test_the_queue_is_the_one_that_procrastinate_ships(reader: Connection, part: str) -> None:
    shipped = (files("procrastinate") / "sql" / "schema.sql").read_text(encoding="utf-8")
    reader.execute("create schema shipped")
    reader.execute("set local search_path = shipped")
    reader.execute(shipped.encode())
    theirs = _queue(reader, part)
    reader.execute("set local search_path = jobs")
    assert theirs
    assert _queue(reader, part) == theirs


def _queue(connection: Connection, part: str) -> list[str]:
    found = connection.execute(QUEUE[part].encode()).fetchall()
    return [re.sub(r"\b(shipped|jobs)\.", "", str(row)) for row in found]


ACCESS = {
    "policies": "select * from pg_policies where schemaname in :ours order by schemaname, tablename, policyname",
    "relations": "select oid::regclass::text, relacl::text, relrowsecurity from pg_class"
    " where relnamespace::regnamespace::text in :ours order by 1",
    "columns": "select c.oid::regclass::text, a.attname, a.attacl::text from pg_attribute as a"
    " join pg_class as c on c.oid = a.attrelid"
    " where c.relnamespace::regnamespace::text in :ours and a.attacl is not null order by 1, 2",
    "functions": "select oid::regprocedure::text, proacl::text, proconfig, prosecdef, prosrc from pg_proc"
    " where pronamespace::regnamespace::text in :ours order by 1",
    "schemas": "select nspname, nspacl::text from pg_namespace where nspname in :ours order by 1",
}


def test_the_database_has_the_version_of_the_access_files(migrated: Database) -> None:
    with psycopg.connect(migrated.owner_url) as owner:
        assert value(owner, "select private.policy_version()") == access_version()


def test_setting_the_access_again_changes_nothing(migrated: Database) -> None:
    with psycopg.connect(migrated.owner_url) as owner:
        before = {part: rows(owner, statement) for part, statement in ACCESS.items()}
        owner.execute(access_sql().encode())
        after = {part: rows(owner, statement) for part, statement in ACCESS.items()}
        owner.rollback()
    for part, found in before.items():
        assert found
        assert _unordered(after[part]) == _unordered(found), part


def _unordered(found: list[tuple[Any, ...]]) -> list[list[str]]:
    """Return the rows with the entries of each access control list sorted, because the order of the entries only
    shows the order of the grants.
    """
    return [[",".join(sorted(str(value).strip("{}").split(","))) for value in row] for row in found]


HIJACK: tuple[LiteralString, ...] = (
    (
        "create function pg_temp.evil(anyelement) returns boolean language plpgsql as $$ begin"
        " raise exception 'ran as %', current_user using errcode = 'XX999'; end $$"
    ),
    "create domain pg_temp.uuid as pg_catalog.uuid check (pg_temp.evil(value))",
    "create domain pg_temp.jsonb as pg_catalog.jsonb check (pg_temp.evil(value))",
    "create domain pg_temp.text as pg_catalog.text check (pg_temp.evil(value))",
    "create domain pg_temp.boolean as pg_catalog.bool check (pg_temp.evil(value))",
    "create domain pg_temp.inet as pg_catalog.inet check (pg_temp.evil(value))",
    (
        "create function pg_temp.current_setting(pg_catalog.text) returns pg_catalog.text language plpgsql as"
        " $$ begin perform pg_temp.evil(1); return 'compliance'; end $$"
    ),
    (
        "create function pg_temp.now() returns pg_catalog.timestamptz language plpgsql as"
        " $$ begin perform pg_temp.evil(1); return null; end $$"
    ),
    "create temp table recordings (id pg_catalog.uuid, doctor_id pg_catalog.uuid)",
    "create temp table pg_proc (x pg_catalog.int4)",
)


def test_a_domain_in_pg_temp_hijacks_no_definer(migrated: Database) -> None:
    """The test tries the attack that an empty search path (`set search_path = ''`) would permit. The attackers are
    a person, and the API before it takes a person's role.
    """
    for who, calls in (
        (
            "clinician who owns",
            [RELEASE, "select private.lock_consultation(%s)", "select private.has_live_recording(%s)"],
        ),
        (
            "resguardo_api",
            [
                "select private.role_of(%s)",
                "select private.record_refusal('viewer.read', 'DENIED', 'x', 'user', %s, null)",
            ],
        ),
    ):
        for call in calls:
            with psycopg.connect(migrated.api_url) as connection:
                for statement in HIJACK:
                    connection.execute(statement)
                enter(connection, actor(who))
                connection.execute(call.encode(), [ANA.id_of("live")])
                connection.rollback()


def test_the_hijack_would_be_seen_in_a_definer_with_an_empty_search_path(migrated: Database) -> None:
    """The attack succeeds on a function with an empty search path, which proves that the test of the attack detects
    a vulnerable function.
    """
    with superuser(migrated) as owner:
        owner.execute(
            "create function private.naive(pg_catalog.text) returns pg_catalog.text language plpgsql security definer"
            " set search_path = '' as $$ declare x uuid := $1; begin return x; end $$"
        )
        owner.execute("grant execute on function private.naive to resguardo_api")
    with psycopg.connect(migrated.api_url) as connection:
        for statement in HIJACK:
            connection.execute(statement)
        with refused("XX999", "ran as"):
            connection.execute("select private.naive(%s)", [str(ANA.doctor_id)])
    with superuser(migrated) as owner:
        owner.execute("drop function private.naive")
