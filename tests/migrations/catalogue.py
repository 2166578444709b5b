"""Reads the catalog of our four schemas by name, without object ids, so that a test can compare two databases."""

from typing import Any, LiteralString

import psycopg

_QUERIES: dict[str, LiteralString] = {
    "schemas": (
        "select n.nspname, obj_description(n.oid) from pg_namespace as n where n.nspname in {schemas} order by 1"
    ),
    "relations": (
        "select c.oid::regclass::text, c.relkind::text, c.relrowsecurity, c.relforcerowsecurity, c.relispartition,"
        " c.reloptions, c.relacl::text, pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid),"
        " obj_description(c.oid, 'pg_class') from pg_class as c where c.relnamespace::regnamespace::text in {schemas}"
        " order by 1"
    ),
    "columns": (
        "select c.oid::regclass::text, row_number() over (partition by c.oid order by a.attnum), a.attname,"
        " format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text, a.attgenerated::text,"
        " a.attcollation::regcollation::text, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)"
        " from pg_attribute as a inner join pg_class as c on c.oid = a.attrelid"
        " left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum"
        " where c.relnamespace::regnamespace::text in {schemas} and a.attnum > 0 and not a.attisdropped"
        " order by 1, 2"
    ),
    "constraints": (
        "select k.conrelid::regclass::text, k.conname, k.convalidated, pg_get_constraintdef(k.oid)"
        " from pg_constraint as k where k.connamespace::regnamespace::text in {schemas} order by 1, 2"
    ),
    "indexes": (
        "select i.indexrelid::regclass::text, i.indisvalid, pg_get_indexdef(i.indexrelid) from pg_index as i"
        " inner join pg_class as c on c.oid = i.indexrelid where c.relnamespace::regnamespace::text in {schemas}"
        " order by 1"
    ),
    "triggers": (
        "select t.tgrelid::regclass::text, t.tgname, t.tgenabled::text, pg_get_triggerdef(t.oid) from pg_trigger as t"
        " inner join pg_class as c on c.oid = t.tgrelid"
        " where c.relnamespace::regnamespace::text in {schemas} and not t.tgisinternal order by 1, 2"
    ),
    "views": (
        "select v.oid::regclass::text, pg_get_viewdef(v.oid) from pg_class as v"
        " where v.relnamespace::regnamespace::text in {schemas} and v.relkind in ('v', 'm') order by 1"
    ),
    "functions": (
        "select p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proacl::text, obj_description(p.oid, 'pg_proc')"
        " from pg_proc as p where p.pronamespace::regnamespace::text in {schemas} order by 1"
    ),
    "types": (
        "select t.oid::regtype::text, t.typtype::text,"
        " (select array_agg(e.enumlabel::text order by e.enumsortorder) from pg_enum as e where e.enumtypid = t.oid),"
        " obj_description(t.oid, 'pg_type') from pg_type as t where t.typnamespace::regnamespace::text in {schemas}"
        " order by 1"
    ),
    "sequences": (
        "select s.seqrelid::regclass::text, s.seqtypid::regtype::text, s.seqstart, s.seqincrement, s.seqmax, s.seqmin,"
        " s.seqcache, s.seqcycle from pg_sequence as s inner join pg_class as c on c.oid = s.seqrelid"
        " where c.relnamespace::regnamespace::text in {schemas} order by 1"
    ),
    "policies": (
        "select p.polrelid::regclass::text, p.polname, p.polcmd::text, pg_get_expr(p.polqual, p.polrelid),"
        " pg_get_expr(p.polwithcheck, p.polrelid) from pg_policy as p inner join pg_class as c on c.oid = p.polrelid"
        " where c.relnamespace::regnamespace::text in {schemas} order by 1, 2"
    ),
}
Catalogue = dict[str, list[tuple[Any, ...]]]

_SCHEMAS = "('resguardo', 'audit', 'private', 'jobs')"
_FILLED: LiteralString = (
    "select c.oid::regclass::text from pg_class as c where c.relkind = 'r'"
    " and c.relnamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')"
    " and c.relname <> 'session_mac_keys' order by 1"
)
"""The rows of session_mac_keys are random in each database."""
_ROWS = "select (to_jsonb(t) - '{changed_at,created_at,made_at}'::text[])::text from {table} as t order by 1"


def read_catalogue(database: str | psycopg.Connection) -> Catalogue:
    """Return all objects in our four schemas and their initial rows, without creation times."""
    if isinstance(database, str):
        with psycopg.connect(database) as connection:
            return read_catalogue(connection)
    found = {
        part: database.execute(query.replace("{schemas}", _SCHEMAS).encode()).fetchall()
        for part, query in _QUERIES.items()
    }
    tables = [name for (name,) in database.execute(_FILLED).fetchall()]
    found["rows"] = [
        (name, row) for name in tables for row in database.execute(_ROWS.replace("{table}", name).encode())
    ]
    return found
