"""Gives a plain Postgres 15 to 18 the shape of a Supabase project: one database, and the roles of the cluster.

The files in `sql/` create the objects of the project, and name the Supabase migrations that they follow. The
project has none of Supabase's extensions, and only the schemas `auth` and `extensions`. The module never changes an
existing database or a superuser role. If `postgres` is a superuser, `resguardo_owner` owns the database and runs
the migrations instead.
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import Literal
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from app.errors import Conflict
from app.postgres.migrations import Secret, set_login_passwords

Grants = Literal["older", "newer"]
"""Whether new objects in `public` are granted to Supabase's API roles, as on projects made before 2026-05-30
("older").
"""

OTHER_OWNER = "resguardo_owner"

_LOCK = "select pg_advisory_lock(hashtextextended('resguardo.supabase_project', 0))"
_IS_SUPERUSER = "select exists (select from pg_roles where rolname = %s and rolsuper)"


@dataclass(frozen=True)
class ProjectUrls:
    """The URLs of one database for three logins."""

    superuser_url: str
    owner_url: str
    auth_admin_url: str
    owner: str


def create_project(
    superuser_url: str, database: str, *, grants: Grants, owner_password: Secret, owner: str = "postgres"
) -> ProjectUrls:
    """Create `database` in the shape of a new Supabase project. The function gives `owner_password` to the owner of
    the database and to `supabase_auth_admin`.

    Roles belong to the cluster, so a new password of a role applies to every project in the cluster. Several
    processes may call this function at once, if all of them pass a `superuser_url` of the same database. Raises
    Conflict if `database` exists.
    """
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        owner = project_owner(connection, owner)
        connection.execute(_LOCK)
        with connection.transaction():
            _execute_file(connection, "roles.sql", owner)
        set_login_passwords(superuser_url, {owner: owner_password, "supabase_auth_admin": owner_password})
        _create_database(connection, database, owner)
    superuser_here = with_database(superuser_url, database)
    with psycopg.connect(superuser_here) as connection:
        for name in ("auth.sql", "grants_older.sql", *(["grants_newer.sql"] if grants == "newer" else [])):
            _execute_file(connection, name, owner)
    return project_urls(superuser_url, database, owner=owner, owner_password=owner_password)


def create_roles(superuser_url: str, owner: str = "postgres") -> None:
    """Create only the roles of a Supabase project, for a restored database. Safe to repeat."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(_LOCK)
        with connection.transaction():
            _execute_file(connection, "roles.sql", owner)


def drop_project(superuser_url: str, database: str) -> None:
    """Drop the database and end its sessions. The function succeeds if the database does not exist. The function
    does not drop roles, because they belong to the whole cluster.
    """
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database))
        )


def project_owner(connection: psycopg.Connection, wanted: str = "postgres") -> str:
    """Return `wanted`, or `resguardo_owner` if `wanted` is a superuser of this cluster."""
    row = connection.execute(_IS_SUPERUSER, (wanted,)).fetchone()
    return OTHER_OWNER if row == (True,) else wanted


def project_urls(superuser_url: str, database: str, *, owner: str, owner_password: Secret) -> ProjectUrls:
    """Return the URLs of a project, or of a clone of one, in the superuser's cluster."""
    return ProjectUrls(
        superuser_url=with_database(superuser_url, database),
        owner_url=with_login(superuser_url, database, owner, owner_password),
        auth_admin_url=with_login(superuser_url, database, "supabase_auth_admin", owner_password),
        owner=owner,
    )


def with_database(url: str, database: str) -> str:
    """Return a copy of the URL that names this database in place of its own."""
    return urlsplit(url)._replace(path="/" + quote(database, safe="")).geturl()


def with_login(url: str, database: str, user: str, password: Secret) -> str:
    """Return a copy of the URL with this login, password and database in place of its own."""
    server = urlsplit(url).netloc.rpartition("@")[2]
    login = f"{quote(user, safe='')}:{quote(password.get_secret_value(), safe='')}"
    return urlsplit(with_database(url, database))._replace(netloc=f"{login}@{server}").geturl()


def _create_database(connection: psycopg.Connection, database: str, owner: str) -> None:
    statement = sql.SQL("create database {} owner {}").format(sql.Identifier(database), sql.Identifier(owner))
    try:
        connection.execute(statement)
    except psycopg.errors.DuplicateDatabase as error:
        raise Conflict("database_exists", database=database) from error
    connection.execute(
        sql.SQL("grant create on database {} to supabase_auth_admin").format(sql.Identifier(database))
    )


def _execute_file(connection: psycopg.Connection, name: str, owner: str) -> None:
    """Run a file in which `:'owner'` and `:"owner"` are replaced as psql would do."""
    text = (files("devstack") / "sql" / name).read_text()
    text = text.replace(":'owner'", sql.Literal(owner).as_string(connection))
    text = text.replace(':"owner"', sql.Identifier(owner).as_string(connection))
    connection.execute(text.encode())
