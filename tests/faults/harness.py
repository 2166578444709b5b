"""A deployment for fault tests: Postgres, the object store, the stand-ins, the API and the worker. Every part of
the deployment is a process or a stand-in, and every connection between two parts passes a proxy.

The deployment has Postgres, the object store, the stand-in for Supabase Auth, a LiveKit project, and supervised
`resguardo serve` and `resguardo worker` processes. All faults come from outside the API and the worker, so the
product's code runs unchanged.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from app.integrations.storage.client import Storage
from devstack import object_store
from devstack import stack as devstack
from devstack.api_client import ApiClient
from devstack.children import child
from devstack.gotrue.config import GotrueConfig, save_config
from devstack.people import People, Person
from devstack.stack import ACCESS_TOKEN_HOOK, PASSWORD_HOOK, SECOND_FACTOR_HOOK, Stack
from tests.faults.commits import PostgresProxy
from tests.faults.database import Postgres, address
from tests.faults.livekit_project import Doubles, LiveKitProject
from tests.faults.processes import Parent, Supervised
from tests.faults.proxy import Proxy

RECONCILE_SECONDS = 2
_LOOK_SECONDS = 0.2
_WRONG_CLOCK = Path(__file__).with_name("wrong_clock")


@dataclass
class FaultHarness:
    """A running deployment for fault tests, and its users."""

    stack: Stack
    parent: Parent
    livekit: LiveKitProject
    doubles: Doubles
    database_wire: PostgresProxy
    store_wire: Proxy
    livekit_wire: Proxy
    webhook_wire: Proxy
    api: Supervised
    worker: Supervised
    storage: Storage
    http: httpx.AsyncClient
    doctor: ApiClient
    patient: ApiClient
    patient_login: Person
    postgres: Postgres
    worker_clock: Path

    @asynccontextmanager
    async def another_worker(self, directory: Path) -> AsyncIterator[Supervised]:
        """Run a second worker process in the deployment, beside the first one."""
        other = Supervised(self.parent, ["worker"], self.stack.environment, directory)
        task = asyncio.create_task(other.run())
        try:
            yield other
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def restart_postgres(self) -> None:
        """Restart the Postgres server on a new port, which ends every session. The proxy's address stays."""
        await self.postgres.stop()
        self.database_wire.upstream = await self.postgres.start()


@asynccontextmanager
async def opened(directory: Path, **settings: str) -> AsyncIterator[FaultHarness]:
    """Start the deployment, with one doctor and one patient signed in. Remove the whole deployment at the end.

    `settings` contains extra environment variables for the API and the worker.
    """
    async with AsyncExitStack() as stack:
        parent = Parent(stack)
        await parent.run(lambda: directory.mkdir(parents=True, exist_ok=True, mode=0o700))
        server = Postgres(parent, directory / "postgres")
        database_wire = await stack.enter_async_context(PostgresProxy(await server.start()).running())
        stack.push_async_callback(server.stop)
        stack.push_async_callback(server.close)
        store = await parent.enter(object_store.running(directory / "store"))
        keys = devstack._keys(directory / "keys.json")
        project = await parent.run(lambda: devstack._project(server.url, keys))
        made = devstack._describe(project, store, keys, directory)
        await parent.run(lambda: _prepare(made, keys))
        storage = devstack._storage(store)
        stack.callback(storage.close)
        await storage.claim(devstack.DEPLOYMENT)
        livekit = LiveKitProject(made.environment["LIVEKIT_API_KEY"], made.livekit_api_secret, directory)
        project_url = await stack.enter_async_context(livekit.running())
        store_wire, livekit_wire, webhook_wire = [
            await stack.enter_async_context(Proxy(address(url)).running())
            for url in (store.endpoint_url, project_url, made.api_url)
        ]
        livekit.webhook_url = f"http://127.0.0.1:{webhook_wire.port}/webhooks/livekit"
        environment = {**_wired(made, database_wire, store_wire, livekit_wire), **settings}
        made = replace(made, environment=environment)
        await _start_auth(parent, made, directory)
        api = Supervised(
            parent, ["serve", "--port", str(address(made.api_url)[1])], made.environment, directory
        )
        clock = directory / "worker-clock"
        wrong_clock = {"PYTHONPATH": str(_WRONG_CLOCK), "FAULTS_CLOCK": str(clock)}
        worker = Supervised(parent, ["worker"], {**made.environment, **wrong_clock}, directory)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False))
        people = People(made)
        doctor, patient = await people.hire("clinician"), await people.patient()
        doctor_session = await people.sign_in(doctor)
        patient_session = await people.sign_in(patient, with_totp=False)
        harness = FaultHarness(
            stack=made,
            parent=parent,
            livekit=livekit,
            doubles=Doubles(livekit),
            database_wire=database_wire,
            store_wire=store_wire,
            livekit_wire=livekit_wire,
            webhook_wire=webhook_wire,
            api=api,
            worker=worker,
            storage=storage,
            http=http,
            doctor=ApiClient(http, made.graphql_url, doctor_session.access_token),
            patient=ApiClient(http, made.graphql_url, patient_session.access_token),
            patient_login=patient,
            postgres=server,
            worker_clock=clock,
        )
        tasks = [
            asyncio.create_task(one) for one in (api.run(), worker.run(), _watch_doubles(harness.doubles))
        ]
        try:
            await _until_ready(harness)
            yield harness
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _prepare(made: Stack, keys: devstack._Keys) -> None:
    devstack._prepare(made.project, keys, None)


def _wired(made: Stack, database: Proxy, store: Proxy, livekit: Proxy) -> dict[str, str]:
    environment = made.environment
    return {
        **environment,
        **{
            name: _moved(environment[name], wire.port)
            for name, wire in (
                ("API_DATABASE_URL", database),
                ("WORKER_DATABASE_URL", database),
                ("R2_ENDPOINT_URL", store),
                ("LIVEKIT_URL", livekit),
            )
        },
        "RECONCILE_SECONDS": str(RECONCILE_SECONDS),
        "WORKER_CONCURRENCY": "8",
    }


async def _start_auth(parent: Parent, made: Stack, directory: Path) -> None:
    config = GotrueConfig(
        url=made.supabase_url,
        database_url=made.project.auth_admin_url,
        publishable_key=made.publishable_key,
        secret_key=made.secret_key,
        data_dir=directory / "auth",
        port=address(made.supabase_url)[1],
        access_token_hook=ACCESS_TOKEN_HOOK,
        password_hook=PASSWORD_HOOK,
        second_factor_hook=SECOND_FACTOR_HOOK,
    )
    config.data_dir.mkdir(exist_ok=True, mode=0o700)
    save_config(config, directory / "auth.json")
    await parent.enter(
        child(
            "devstack.gotrue",
            ["--config", str(directory / "auth.json")],
            log=directory / "auth.log",
            environment={},
            ready_url=f"{made.supabase_url}/auth/v1/health",
            headers={"apikey": made.publishable_key},
        )
    )


async def _until_ready(harness: FaultHarness) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(httpx.TransportError):
                if (await harness.http.get(f"{harness.stack.api_url}/health/ready")).is_success:
                    return
            await asyncio.sleep(_LOOK_SECONDS)


async def _watch_doubles(doubles: Doubles) -> None:
    while True:
        doubles.look()
        await asyncio.sleep(_LOOK_SECONDS)


def _moved(url: str, port: int) -> str:
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login}{at}127.0.0.1:{port}").geturl()
