"""The real Supabase Auth, built with Go from its public repository and run on the loopback interface.

Go cannot install it by the name of its module, because its go.mod has a `replace`. So `install` fetches one commit with
git and builds it. The server creates the schema `auth` of a project with its own migrations.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
from psycopg import sql

from app.deployment import prepare_database
from devstack import children
from devstack.children import free_port
from devstack.supabase_project import create_project, drop_project, with_login
from tests.databases import API_ROLE, WORKER_ROLE, Cluster
from tests.live import server

COMMIT = "bc32168e13fdc928c98b449fc76bc3fdb9a293c5"
SOURCE = "https://github.com/supabase/auth"
BUILD_SECONDS = 600
"""Measured 2026-11-30 on two shared cores: 229 s with empty caches."""

_SECRET = "a secret of the live tests alone, 32 bytes"


@dataclass(frozen=True)
class AuthServer:
    """A running Supabase Auth and the database of its project."""

    url: str
    owner_url: str = field(repr=False)
    worker_url: str = field(repr=False)
    superuser_url: str = field(repr=False)

    def call(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        """Send a request. Without a token, the caller is nobody."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx.request(method, f"{self.url}{path}", headers=headers, timeout=20, **options)

    def administrator(self) -> str:
        """Return a token with which the server accepts its caller as an administrator."""
        claims = {"role": "service_role", "aud": "authenticated", "exp": int(time.time()) + 3600}
        return jwt.encode(claims, _SECRET, algorithm="HS256")


def binary() -> Path:
    """Return the path of the server after `install`."""
    return server.DIRECTORY / f"auth-{COMMIT[:8]}" / "auth"


def install() -> None:
    """Build the server if it is missing. Raises OutOfReach, and CalledProcessError for any other failure."""
    if binary().exists():
        return
    git, go = shutil.which("git"), shutil.which("go")
    if git is None or go is None:
        raise server.OutOfReach("git or Go is not installed, and Supabase Auth is built with them")
    binary().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        for command in (
            [git, "init", "--quiet", directory],
            [git, "-C", directory, "fetch", "--quiet", "--depth", "1", SOURCE, COMMIT],
            [git, "-C", directory, "checkout", "--quiet", "FETCH_HEAD"],
            [go, "build", "-C", directory, "-o", str(binary()), "."],
        ):
            server.fetch("Supabase Auth", command, BUILD_SECONDS, {**os.environ, "CGO_ENABLED": "0"})


@contextmanager
def running(cluster: Cluster, data_dir: Path, **settings: str) -> Iterator[AuthServer]:
    """Run the server on a new project of the cluster until the end of the block, with these settings added."""
    password, port = cluster.password("owner"), free_port()
    name = f"resguardo_live_auth_{port}"
    urls = create_project(cluster.superuser_url, name, grants="newer", owner_password=password)
    try:
        _empty_schema(urls.superuser_url, urls.owner)
        environment = _environment(urls.auth_admin_url, port, settings)
        log = data_dir / "auth.log"
        subprocess.run(
            [binary(), "migrate"], env=environment, cwd=data_dir, check=True, capture_output=True, timeout=120
        )
        prepare_database(urls.owner_url, {role: cluster.password(role) for role in (API_ROLE, WORKER_ROLE)})
        with log.open("wb") as output:
            process = subprocess.Popen(
                [binary(), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=data_dir,
                start_new_session=True,
                preexec_fn=children.dying_with_parent(signal.SIGTERM),
            )
        url = environment["API_EXTERNAL_URL"]
        try:
            children.Starting(process, f"{url}/health", {}, log).wait_until_ready()
            worker = cluster.password(WORKER_ROLE)
            worker_url = with_login(cluster.superuser_url, name, WORKER_ROLE, worker)
            yield AuthServer(url, urls.owner_url, worker_url, urls.superuser_url)
        finally:
            children._stop(process)
    finally:
        drop_project(cluster.superuser_url, name)


def _empty_schema(superuser_url: str, owner: str) -> None:
    """Replace the tables of the stand-in by an empty schema, with the grants of a Supabase project."""
    statements = """
        drop schema auth cascade;
        create schema auth authorization supabase_auth_admin;
        grant usage on schema auth to anon, authenticated, service_role, {owner};
        alter default privileges for role supabase_auth_admin in schema auth grant all on tables to {owner};
        alter default privileges for role supabase_auth_admin in schema auth grant all on sequences to {owner};
        alter default privileges for role supabase_auth_admin in schema auth grant all on routines to {owner};
    """
    with psycopg.connect(superuser_url) as connection:
        connection.execute(sql.SQL(statements).format(owner=sql.Identifier(owner)))


def _environment(database_url: str, port: int, settings: Mapping[str, str]) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "GOTRUE_API_HOST": "127.0.0.1",
        "PORT": str(port),
        "API_EXTERNAL_URL": f"http://127.0.0.1:{port}",
        "GOTRUE_SITE_URL": "http://127.0.0.1",
        "GOTRUE_DB_DRIVER": "postgres",
        "GOTRUE_DB_NAMESPACE": "auth",
        "DATABASE_URL": f"{database_url}{'&' if '?' in database_url else '?'}search_path=auth",
        "GOTRUE_JWT_SECRET": _SECRET,
        "GOTRUE_JWT_EXP": "3600",
        "GOTRUE_JWT_AUD": "authenticated",
        "GOTRUE_JWT_DEFAULT_GROUP_NAME": "authenticated",
        "GOTRUE_JWT_ADMIN_ROLES": "service_role",
        "GOTRUE_EXTERNAL_EMAIL_ENABLED": "true",
        "GOTRUE_RATE_LIMIT_EMAIL_SENT": "1000",
        **settings,
    }
