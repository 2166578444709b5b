"""Gives a plain Postgres 15 to 18 the shape of a Supabase project: one database, and the cluster's roles.

What it makes, and from which of Supabase's migrations, is said in `sql/*.sql`. It has none of Supabase's
extensions and schemas beyond `auth` and `extensions`. It refuses to touch a database that exists, and a role
that is a superuser: where `postgres` is one, `resguardo_owner` owns the database and runs the migrations
instead.
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import Literal
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from app.errors import Conflict
from app.migrations import Secret, set_login_passwords

Grants = Literal["older", "newer"]
"""Whether new objects in `public` are granted to Supabase's API roles: on projects made before 2026-05-30
they are.
"""

OTHER_OWNER = "resguardo_owner"

_LOCK = "select pg_advisory_lock(hashtextextended('resguardo.supabase_project', 0))"
_IS_SUPERUSER = "select exists (select from pg_roles where rolname = %s and rolsuper)"


@dataclass(frozen=True)
class ProjectUrls:
    """One database, as three logins see it."""

    superuser_url: str
    owner_url: str
    auth_admin_url: str
    owner: str


def create_project(
    superuser_url: str, database: str, *, grants: Grants, owner_password: Secret, owner: str = "postgres"
) -> ProjectUrls:
    """Makes `database` in the shape of a new Supabase project; its owner and `supabase_auth_admin` get the
    password.

    Roles belong to the cluster, so the last password given holds for all projects in it. Safe to call from
    several processes at once, if all their `superuser_url`s name one database. Raises Conflict if `database`
    exists.
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
    """Makes the roles of a Supabase project alone, for a database that is restored. Again is harmless."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(_LOCK)
        with connection.transaction():
            _execute_file(connection, "roles.sql", owner)


def drop_project(superuser_url: str, database: str) -> None:
    """Drops the database, ending its sessions; no error if there is none. The cluster's roles stay."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database))
        )


def project_owner(connection: psycopg.Connection, wanted: str = "postgres") -> str:
    """`wanted`, unless that is a superuser of this cluster: then `resguardo_owner`."""
    row = connection.execute(_IS_SUPERUSER, (wanted,)).fetchone()
    return OTHER_OWNER if row == (True,) else wanted


def project_urls(superuser_url: str, database: str, *, owner: str, owner_password: Secret) -> ProjectUrls:
    """The URLs of a project, or of a clone of one, in the superuser's cluster."""
    return ProjectUrls(
        superuser_url=with_database(superuser_url, database),
        owner_url=with_login(superuser_url, database, owner, owner_password),
        auth_admin_url=with_login(superuser_url, database, "supabase_auth_admin", owner_password),
        owner=owner,
    )


def with_database(url: str, database: str) -> str:
    """The same server and login, another database."""
    return urlsplit(url)._replace(path="/" + quote(database, safe="")).geturl()


def with_login(url: str, database: str, user: str, password: Secret) -> str:
    """The same server, another login and database."""
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
    """Runs a file whose `:'owner'` and `:"owner"` psql would fill in alike."""
    text = (files("devstack") / "sql" / name).read_text()
    text = text.replace(":'owner'", sql.Literal(owner).as_string(connection))
    text = text.replace(':"owner"', sql.Identifier(owner).as_string(connection))
    connection.execute(text.encode())
