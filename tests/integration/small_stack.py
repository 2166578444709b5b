"""Runs, for tests of the `resguardo` command, all services that the API and the worker need. The tests themselves
start the API and the worker.
"""

import base64
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio

from app.deployment import mark_database
from app.keys.keyring import new_key_line
from devstack import object_store
from devstack import stack as devstack
from devstack.stack import Stack
from devstack.supabase_project import project_urls
from tests.databases import API_ROLE, WORKER_ROLE, Cluster


@contextmanager
def running(cluster: Cluster, data_dir: Path) -> Iterator[Stack]:
    """Yield a running stack: a database and a bucket that both belong to its deployment, and the stand-ins for
    LiveKit and Supabase Auth.
    """
    with ExitStack() as stack:
        database = stack.enter_context(cluster.clone("newer"))
        store = stack.enter_context(object_store.running(data_dir / "store"))
        keys = devstack._Keys(
            owner_password=cluster.password("owner").get_secret_value(),
            api_password=cluster.password(API_ROLE).get_secret_value(),
            worker_password=cluster.password(WORKER_ROLE).get_secret_value(),
            livekit_secret=secrets.token_urlsafe(32),
            publishable_key="sb_publishable_" + secrets.token_urlsafe(24),
            secret_key="sb_secret_" + secrets.token_urlsafe(24),
            certificate_seed=base64.b64encode(secrets.token_bytes(32)).decode(),
            audit_seed=base64.b64encode(secrets.token_bytes(32)).decode(),
            root_keys=new_key_line("tests-1"),
        )
        project = project_urls(
            cluster.superuser_url,
            database.name,
            owner=database.owner,
            owner_password=cluster.password("owner"),
        )
        made = devstack._describe(project, store, keys, data_dir)
        mark_database(project.owner_url, devstack.DEPLOYMENT)
        storage = devstack._storage(store)
        stack.callback(storage.close)
        with ThreadPoolExecutor(1) as thread:  # The calling thread may already run an event loop
            thread.submit(anyio.run, storage.claim, devstack.DEPLOYMENT).result()
        devstack._start_stand_ins(stack, data_dir, made, None)
        yield made


def processes_of(directory: Path) -> dict[int, str]:
    """Return the command line, by process id, of each process that runs in this directory or has the directory's
    path as an argument. The result does not contain the test's own process.
    """
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            works_in = str((process / "cwd").readlink())
        except OSError:
            continue
        is_other = int(process.name) != os.getpid()
        if command and is_other and (str(directory) in command or works_in.startswith(str(directory))):
            found[int(process.name)] = command.replace("\0", " ")
    return found
