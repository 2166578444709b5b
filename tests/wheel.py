"""`make test-wheel`: install the wheel into an empty environment outside the checkout, and run its commands.

Postgres, the object store and the stand-ins run from the checkout. pip must be able to reach its package index.
"""

import os
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

from devstack import object_store, postgres
from devstack import stack as devstack
from devstack.children import starting
from devstack.cloudflare.starting import cloudflare_environment, cloudflare_running
from devstack.openai.starting import openai_environment
from devstack.openai.starting import running as openai_running
from devstack.stack import Stack

ROOT = Path(__file__).parent.parent
COPIED = ("policies", "supabase/migrations", "tools")
"""The directories that the wheel contains below `app/data`."""
PACKAGES = {"app", "graphql_schema"}
LEADER_SECONDS = 60
TEXT = "{ consentText(language: ES) { version markdown } }"
NEED_A_CHECKOUT = (
    ("demo", "--once", "development stack"),
    ("drill", "restore", "--dump", "d", "--escrow", "e", "development stack"),
    ("migrations", "new", "rooms", "schema files"),
)
"""Commands, with what they need that a wheel has not."""


@dataclass(frozen=True)
class Installed:
    """An environment with the installed wheel. `home` is a directory outside the checkout."""

    home: Path

    @property
    def python(self) -> Path:
        """Return the path of the environment's Python interpreter."""
        return self.home / "venv" / "bin" / "python"

    def run(self, *arguments: str, environment: dict[str, str] | None = None, ends_with: int = 0) -> str:
        """Run `resguardo` and return what it prints. Raises SystemExit if the command ends with another code."""
        done = subprocess.run(
            [self.python.with_name("resguardo"), *arguments],
            env={"PATH": os.defpath, "HOME": str(self.home), **(environment or {})},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(f"resguardo {' '.join(arguments)}: {done.returncode}")  # noqa: T201
        require(done.returncode == ends_with, done.stdout)
        return done.stdout


def require(holds: bool, otherwise: str) -> None:
    """Raise SystemExit with the text `otherwise` unless `holds` is true."""
    if not holds:
        raise SystemExit(otherwise)


def build(directory: Path) -> Path:
    """Build the wheel of the checkout. Return its path."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def inspect(wheel: Path) -> None:
    """Require that the wheel contains the packages `app` and `graphql_schema`, with every file that they read at
    run time, and nothing else.
    """
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tops = {name.split("/")[0] for name in names}
    require(tops == PACKAGES, f"the wheel has {sorted(tops)}")
    files = {
        path.relative_to(ROOT).as_posix()
        for top in (*PACKAGES, *COPIED)
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted = {f"app/data/{name}" if name.startswith(COPIED) else name for name in files}
    require(names == wanted, f"the wheel differs from the checkout: {sorted(names ^ wanted)}")


def install(wheel: Path, home: Path) -> Installed:
    """Install the locked requirements, whose hashes pip checks, and then the wheel."""
    venv.create(home / "venv", with_pip=True)
    installed = Installed(home)
    pip = [str(installed.python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    for arguments in (
        ["--require-hashes", "--requirement", str(ROOT / "requirements.lock")],
        ["--no-deps", str(wheel)],
    ):
        subprocess.run([*pip, *arguments], env=environment, cwd=home, check=True)
    subprocess.run([installed.python, "-m", "pip", "--quiet", "check"], env=environment, cwd=home, check=True)
    return installed


def run_commands(installed: Installed) -> None:
    """Migrate, serve and check an empty project, and run its worker, with the commands of the wheel."""
    directory = installed.home / "stack"
    directory.mkdir(mode=0o711)
    with ExitStack() as stack:
        server = stack.enter_context(postgres.running(directory / "postgres", durable=False))
        keys = devstack._keys(directory / "keys.json")
        store = stack.enter_context(object_store.running(directory / "store"))
        made = devstack._describe(devstack._project(server, keys), store, keys, directory)
        made.environment.update(cloudflare_environment() | openai_environment())
        owner = {**made.environment, "DATABASE_URL": made.project.owner_url}
        require("1 applied" in installed.run("migrate", environment=owner), "migrate applied nothing")
        require("0 applied" in installed.run("migrate", environment=owner), "migrate applied it again")
        installed.run("claim-bucket", environment=made.environment)
        devstack._start_stand_ins(stack, directory, made, None)
        stack.enter_context(cloudflare_running(made.environment, directory))
        stack.enter_context(openai_running(made.environment, directory))
        serve_and_work(stack, installed, made)
        print(installed.run("check", environment=made.environment))  # noqa: T201
        installed.run("policies", "plan", environment=made.environment)


def serve_and_work(stack: ExitStack, installed: Installed, made: Stack) -> None:
    """Start the API and the worker. Return after the API answers and the worker is the leader."""
    port = made.api_url.rpartition(":")[2]
    api = stack.enter_context(
        starting(
            "app.cli",
            ["serve", "--port", port],
            log=made.data_dir / "api.log",
            environment=made.environment,
            ready_url=f"{made.api_url}/health/ready",
            python=installed.python,
        )
    )
    worker = stack.enter_context(
        starting(
            "app.cli",
            ["worker"],
            log=made.data_dir / "worker.log",
            environment=made.environment,
            ready_url=None,
            python=installed.python,
        )
    )
    api.wait_until_ready()
    answer = httpx.post(made.graphql_url, json={"query": TEXT}).json()
    require("grabación" in str(answer), f"serve answered {answer}")
    deadline = time.monotonic() + LEADER_SECONDS
    with psycopg.connect(made.project.superuser_url, autocommit=True) as connection:
        while connection.execute("select leader from private.leadership").fetchone() in (None, (None,)):
            is_alive = worker.process.poll() is None and time.monotonic() < deadline
            require(is_alive, "the worker does not lead; its log:\n" + worker.log.read_text())
            time.sleep(0.2)
    print("serve answers, and the worker leads")  # noqa: T201


def main() -> None:
    """Build, inspect and install the wheel, and run its commands. The script exits with code 1 and a message if a
    check fails.
    """
    with tempfile.TemporaryDirectory(prefix="resguardo-wheel-") as directory:
        home = Path(directory).resolve()
        require(not home.is_relative_to(ROOT.resolve()), "the temporary directory is inside the checkout")
        wheel = build(home / "dist")
        inspect(wheel)
        installed = install(wheel, home)
        version = installed.run("--version")
        require(version == f"resguardo {wheel.name.split('-')[1]}\n", version)
        for said in NEED_A_CHECKOUT:
            command, missing = said[0], said[-1]
            line = f"resguardo {command} needs a checkout of the repository: an installed wheel has no {missing}\n"
            require(installed.run(*said[:-1], ends_with=1) == line, line)
        run_commands(installed)


if __name__ == "__main__":
    main()
