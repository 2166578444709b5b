"""Restores a dump into its own Postgres and removes everything at the end.

From an archive (pg_dump's custom format) only the schemas of a deployment are restored. psql runs a plain dump with
all commands in it, so restore only your own dumps. The report of an error contains the object or line and the
SQLSTATE, but never the error's text, because the text may quote a row.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.drill.model import Notes, Problem
from app.drill.service import RestoreServer
from app.errors import InvalidInput
from app.postgres.access_policies import MIGRATIONS_DIRECTORY
from app.postgres.connections import connect_as_owner
from app.postgres.migrations import list_migrations
from devstack import postgres
from devstack.supabase_project import OTHER_OWNER, create_roles, with_database

SCHEMAS = ("resguardo", "audit", "private", "jobs", "auth", "supabase_migrations")
DATABASE = "restored"

_PREFIX = "resguardo-drill-"
_ABANDONED_SECONDS = 60
_ARCHIVE = b"PGDMP"
_PLAIN = b"-- PostgreSQL database dump"
_PLAIN_END = b"-- PostgreSQL database dump complete"
_PLAIN_END_WITHIN = 4096
_TOC_ENTRY = re.compile(r"\d+; \d+ \d+ (?P<kind>[A-Z][A-Z ]*) (?P<schema>\S+) (?P<rest>.+)")
_TOC_FAILED = re.compile(r"from TOC entry \d+; \d+ \d+ (.+) \S+$", re.MULTILINE)
_LINE_FAILED = re.compile(r":(\d+): (?:ERROR|FATAL):  (\w{5})$", re.MULTILINE)


@contextmanager
def fresh_server() -> Iterator[RestoreServer]:
    """Run a server without fsync in a directory that is removed at the end of the block.

    The module first removes the files that earlier restore drills left behind when they were killed. Raises
    InvalidInput, UpstreamFailed.
    """
    _remove_abandoned()
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX) as home,
        _held(Path(home)),
        postgres.running(Path(home) / "postgres", durable=False) as superuser_url,
    ):
        yield RestoreServer(Path(home), _prepare(superuser_url))


def examine(dump: Path, notes: Notes) -> None:
    """Report the size of the dump and, if the dump is plain SQL, whether it is complete. Raises InvalidInput
    (dump_missing, dump_unreadable).
    """
    beginning, end = _ends(dump)
    notes.found["bytes"] = dump.stat().st_size
    if _is_archive(beginning):
        return
    if _PLAIN not in beginning:
        raise InvalidInput("dump_unreadable")
    notes.require(_PLAIN_END in end, "dump_truncated")


def restore(server: RestoreServer, dump: Path, notes: Notes) -> None:
    """Restore the dump and report the problems that occur. Raises InvalidInput (dump_missing, dump_unreadable)."""
    if _is_archive(_ends(dump)[0]):
        _restore_archive(server, dump, notes)
    else:
        _restore_plain(server, dump, notes)


def _is_archive(beginning: bytes) -> bool:
    return beginning.startswith(_ARCHIVE)


def _ends(dump: Path) -> tuple[bytes, bytes]:
    try:
        with dump.open("rb") as file:
            beginning = file.read(_PLAIN_END_WITHIN)
            file.seek(max(0, dump.stat().st_size - _PLAIN_END_WITHIN))
            return beginning, file.read()
    except OSError:
        raise InvalidInput("dump_missing") from None


def _prepare(superuser_url: str) -> str:
    """Create the roles of a Supabase project and ours, and an empty database. Return its URL."""
    for owner in ("postgres", OTHER_OWNER):
        create_roles(superuser_url, owner)
    first = list_migrations(MIGRATIONS_DIRECTORY)[0]
    with connect_as_owner(superuser_url, application="resguardo-drill", autocommit=True) as connection:
        connection.execute(first.text.partition("\ncreate schema ")[0].encode())
        connection.execute(f"create database {DATABASE}".encode())
    return with_database(superuser_url, DATABASE)


def _restore_archive(server: RestoreServer, dump: Path, notes: Notes) -> None:
    listed = _run(server, "pg_restore", "--list", str(dump))
    if listed.returncode != 0:
        raise InvalidInput("dump_unreadable")
    wanted = [line for line in listed.stdout.splitlines() if _is_ours(line)]
    chosen = server.home / "toc"
    chosen.write_text("\n".join(wanted) + "\n", encoding="utf-8")
    notes.found["entries"] = len(wanted)
    done = _run(server, "pg_restore", "--dbname", DATABASE, "--use-list", str(chosen), str(dump))
    notes.problems += [Problem("not_restored", what) for what in _TOC_FAILED.findall(done.stderr)]
    notes.require(done.returncode == 0 or bool(notes.problems), "dump_truncated")


def _is_ours(line: str) -> bool:
    """Return whether this entry of the dump's table of contents belongs to one of Resguardo's schemas."""
    entry = _TOC_ENTRY.match(line)
    if entry is None:
        return False
    if entry["schema"] != "-":
        return entry["schema"] in SCHEMAS
    named = entry["rest"].removeprefix("SCHEMA ").split(" ")[0]
    return named in SCHEMAS and (entry["kind"] == "SCHEMA" or entry["rest"].startswith("SCHEMA "))


def _restore_plain(server: RestoreServer, dump: Path, notes: Notes) -> None:
    done = _run(
        server, "psql", "--no-psqlrc", "--quiet", "--set=VERBOSITY=sqlstate", "--output", os.devnull,
        "--dbname", DATABASE, "--file", str(dump),
    )  # fmt: skip
    failed = _LINE_FAILED.findall(done.stderr)
    notes.problems += [Problem("not_restored", f"line {line}, SQLSTATE {state}") for line, state in failed]
    notes.require(done.returncode == 0 or bool(notes.problems), "dump_truncated")


def _run(server: RestoreServer, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program. The module passes the password in an environment variable, because every user of the machine
    can read a process's arguments.
    """
    url = urlsplit(server.url)
    environment = {
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8",
        "PGHOST": url.hostname or "",
        "PGPORT": str(url.port),
        "PGUSER": url.username or "",
        "PGPASSWORD": unquote(url.password or ""),
    }
    return subprocess.run(
        [postgres.binaries_directory() / program, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


@contextmanager
def _held(home: Path) -> Iterator[None]:
    """Mark the directory as in use while this process lives."""
    with (home / "in-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_abandoned() -> None:
    """Remove this user's drill directories that are older than a minute and not in use."""
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            found = home.lstat()
            if home.is_symlink() or found.st_uid != os.geteuid():
                continue
            if time.time() - found.st_mtime > _ABANDONED_SECONDS and _is_free(home):
                shutil.rmtree(home)


def _is_free(home: Path) -> bool:
    try:
        with (home / "in-use").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
