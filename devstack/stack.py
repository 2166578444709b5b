"""The whole stack on one machine: Postgres in Supabase's shape, the object store, the stand-ins, the API and the
worker.

The data under the data directory outlives the stack, and a later start uses it again. The stack listens only on
loopback, and must not hold real patients' data.
"""

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import psycopg
from pydantic import SecretStr

from app.deployment import mark_database, prepare_database
from app.errors import Conflict
from app.identity.session_macs import set_session_macs
from app.integrations.storage.client import Storage
from app.keys.keyring import new_key_line
from app.retention.proposals import adopt_first_policy
from devstack import object_store, postgres
from devstack import ports as port_numbers
from devstack.children import Starting, starting
from devstack.cloudflare.starting import cloudflare_environment, cloudflare_running
from devstack.coordinates import Coordinates, published, write_private
from devstack.gotrue.config import GotrueConfig, save_config
from devstack.object_store import ObjectStore
from devstack.openai.starting import openai_environment
from devstack.openai.starting import running as openai_running
from devstack.ports import Ports
from devstack.supabase_project import (
    ProjectUrls,
    create_project,
    project_owner,
    project_urls,
    with_login,
)
from devstack.webhook_receiver.starting import receiver_environment, receiver_running
from devstack.witness.starting import witness_environment, witness_running

DATABASE = "resguardo_demo"
PASSWORD_HOOK = "pg-functions://postgres/private/password_attempt_hook"  # noqa: S105 - names a function
SECOND_FACTOR_HOOK = "pg-functions://postgres/private/second_factor_attempt_hook"
ACCESS_TOKEN_HOOK = "pg-functions://postgres/private/access_token_hook"  # noqa: S105 - names a function
DEPLOYMENT = "demo"
ROOM_SECONDS = 4 * 3600
"""How long a room lasts, even if the video that it shows is shorter: as long as the longest consultation."""
DEFAULT_ORIGINS = tuple(
    f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (3000, 5173)
)
"""The addresses at which Next.js and Vite serve a page in development."""
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Stack:
    """The addresses and keys of all parts. `environment` contains the settings of the API and the worker.

    Data that outlives a run is under `data_dir`. Pages of `allowed_origins` may use the API and the bucket.
    """

    data_dir: Path
    allowed_origins: tuple[str, ...]
    api_url: str
    supabase_url: str
    livekit_url: str
    livekit_api_secret: str = field(repr=False)
    publishable_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    project: ProjectUrls = field(repr=False)
    store: ObjectStore = field(repr=False)
    environment: dict[str, str] = field(repr=False)

    @property
    def graphql_url(self) -> str:
        """Return the URL of the API."""
        return f"{self.api_url}/graphql"

    @property
    def subscriptions_url(self) -> str:
        """Return the URL of subscriptions."""
        return self.graphql_url.replace("http", "ws", 1)


@dataclass(frozen=True)
class _Keys:
    """The dev stack's keys, which are made at the first start and stored in a file of mode 0600."""

    owner_password: str
    api_password: str
    worker_password: str
    livekit_secret: str
    publishable_key: str
    secret_key: str
    certificate_seed: str
    audit_seed: str
    root_keys: str


@contextmanager
def running(
    data_dir: Path,
    *,
    media: Path | None,
    audio: Path | None = None,
    progress: Progress,
    superuser_url: str | None = None,
    ports: Ports | None = None,
    allowed_origins: tuple[str, ...] = DEFAULT_ORIGINS,
) -> Iterator[Stack]:
    """Start every part of the dev stack, and stop all parts at the end of the block. `media` is the MP4 with the
    video of the rooms. `audio` is the Ogg with the sound of the rooms, or None for silence.

    `superuser_url` is a plain Postgres 15 to 18 to use in place of the embedded one. The stack calls `progress`
    with the name of each part as soon as this part runs. If `ports` is None, the stack uses the ports of its last
    start, or free ports. Raises ChildError, ObjectStoreError or AppError if a part does not start.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = _keys(data_dir / "keys.json")
    ports = ports or port_numbers.choose(data_dir, {})
    with ExitStack() as stack:
        server = superuser_url or stack.enter_context(postgres.running(data_dir / "postgres"))
        project = _project(server, keys)
        progress("Postgres")
        store = stack.enter_context(
            object_store.running(data_dir / "store", port=ports.store, allowed_origins=allowed_origins)
        )
        port_numbers.keep(
            data_dir, ports
        )  # at this point no other stack is running here, so the ports are ours
        progress("object store")
        made = _describe(project, store, keys, data_dir, ports=ports, allowed_origins=allowed_origins)
        made.environment.update(
            cloudflare_environment()
            | openai_environment()
            | witness_environment(data_dir)
            | receiver_environment()
        )
        _prepare(project, keys, None if superuser_url else data_dir)
        adopt_first_policy(project.owner_url)
        anyio.run(_storage(store).claim, DEPLOYMENT)
        progress("migrations")
        api = _start_api(stack, data_dir, made)
        _start_stand_ins(stack, data_dir, made, media, audio)
        stack.enter_context(cloudflare_running(made.environment, data_dir))
        stack.enter_context(openai_running(made.environment, data_dir))
        stack.enter_context(witness_running(made.environment, data_dir))
        stack.enter_context(receiver_running(made.environment, data_dir))
        progress(
            "Supabase Auth, LiveKit, Cloudflare and OpenAI stand-ins, a witness and a receiver of webhooks"
        )
        _start_worker(stack, data_dir, made)
        api.wait_until_ready()
        progress("API and worker")
        stack.enter_context(published(data_dir, _coordinates(made)))
        yield made


def _coordinates(made: Stack) -> Coordinates:
    return Coordinates(
        graphql_url=made.graphql_url,
        supabase_url=made.supabase_url,
        livekit_url=made.livekit_url,
        livekit_api_key=made.environment["LIVEKIT_API_KEY"],
        livekit_api_secret=made.livekit_api_secret,
        publishable_key=made.publishable_key,
        superuser_url=made.project.superuser_url,
    )


def _describe(
    project: ProjectUrls,
    store: ObjectStore,
    keys: _Keys,
    data_dir: Path,
    *,
    ports: Ports | None = None,
    allowed_origins: tuple[str, ...] = DEFAULT_ORIGINS,
) -> Stack:
    """Return the description of the stack. If `ports` is None, the stack uses free ports."""
    ports = ports or port_numbers.choose(data_dir, {})
    api_url, supabase_url, livekit_url = (
        f"http://127.0.0.1:{port}" for port in (ports.api, ports.auth, ports.livekit)
    )
    login = urlsplit(project.owner_url).path.removeprefix("/")
    return Stack(
        data_dir=data_dir,
        allowed_origins=allowed_origins,
        api_url=api_url,
        supabase_url=supabase_url,
        livekit_url=livekit_url,
        livekit_api_secret=keys.livekit_secret,
        publishable_key=keys.publishable_key,
        secret_key=keys.secret_key,
        project=project,
        store=store,
        environment={
            "ENVIRONMENT": "development",
            "DEPLOYMENT": DEPLOYMENT,
            "API_DATABASE_URL": with_login(
                project.owner_url, login, "resguardo_api", SecretStr(keys.api_password)
            ),
            "WORKER_DATABASE_URL": with_login(
                project.owner_url, login, "resguardo_worker", SecretStr(keys.worker_password)
            ),
            "SUPABASE_URL": supabase_url,
            "SUPABASE_SECRET_KEY": keys.secret_key,
            "CERTIFICATE_SIGNING_KEY": keys.certificate_seed,
            "AUDIT_SIGNING_KEY": keys.audit_seed,
            "ROOT_KEYS": keys.root_keys,
            "R2_BUCKET_NAME": store.bucket,
            "R2_ENDPOINT_URL": store.endpoint_url,
            "R2_READER_ACCESS_KEY_ID": store.reader.access_key_id,
            "R2_READER_SECRET_ACCESS_KEY": store.reader.secret_access_key,
            "R2_ACCESS_KEY_ID": store.writer.access_key_id,
            "R2_SECRET_ACCESS_KEY": store.writer.secret_access_key,
            "R2_RECORDER_ACCESS_KEY_ID": store.recorder.access_key_id,
            "R2_RECORDER_SECRET_ACCESS_KEY": store.recorder.secret_access_key,
            "LIVEKIT_URL": livekit_url,
            "LIVEKIT_API_KEY": "demo",
            "LIVEKIT_API_SECRET": keys.livekit_secret,
            "ALLOWED_ORIGINS": ",".join(allowed_origins),
            "METRICS_PORT": "0",  # several stacks can run on one machine
        },
    )


def _project(server: str, keys: _Keys) -> ProjectUrls:
    password = SecretStr(keys.owner_password)
    try:
        return create_project(server, DATABASE, grants="newer", owner_password=password)
    except Conflict:
        with psycopg.connect(server) as connection:
            owner = project_owner(connection)
        return project_urls(server, DATABASE, owner=owner, owner_password=password)


def _prepare(project: ProjectUrls, keys: _Keys, data_dir: Path | None) -> None:
    """Apply the migrations to the database, and store the deployment's mark in it. `data_dir` is the data directory
    of the embedded Postgres server, or None if the server is external.

    Raises Conflict (devstack_of_pre_release) if the user must first delete the data directory.
    """
    passwords = {
        "resguardo_api": SecretStr(keys.api_password),
        "resguardo_worker": SecretStr(keys.worker_password),
    }
    try:
        prepare_database(project.owner_url, passwords)
    except Conflict as error:
        if data_dir is None or error.reason != "database_of_pre_release":
            raise
        raise Conflict("devstack_of_pre_release", directory=str(data_dir)) from error
    mark_database(project.owner_url, DEPLOYMENT)
    set_session_macs(project.owner_url, is_required=True)


def _storage(store: ObjectStore) -> Storage:
    return Storage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)


def _start_stand_ins(
    stack: ExitStack, data_dir: Path, made: Stack, media: Path | None, audio: Path | None = None
) -> None:
    auth = GotrueConfig(
        url=made.supabase_url,
        database_url=made.project.auth_admin_url,
        publishable_key=made.publishable_key,
        secret_key=made.secret_key,
        data_dir=data_dir / "auth",
        port=_port(made.supabase_url),
        access_token_hook=ACCESS_TOKEN_HOOK,
        password_hook=PASSWORD_HOOK,
        second_factor_hook=SECOND_FACTOR_HOOK,
    )
    auth.data_dir.mkdir(exist_ok=True, mode=0o700)
    save_config(auth, data_dir / "auth.json")
    livekit = {
        "port": _port(made.livekit_url),
        "api_key": made.environment["LIVEKIT_API_KEY"],
        "api_secret": made.livekit_api_secret,
        "webhook_url": f"{made.api_url}/webhooks/livekit",
        "media": None if media is None else str(media.resolve()),
        "audio": None if audio is None else str(audio.resolve()),
        "record_seconds": ROOM_SECONDS,
    }
    write_private(data_dir / "livekit.json", json.dumps(livekit))
    stand_ins = [
        stack.enter_context(
            starting(
                f"devstack.{module}",
                ["--config", str(data_dir / f"{name}.json")],
                log=data_dir / f"{name}.log",
                environment={},
                ready_url=ready_url,
                headers=headers,
            )
        )
        for name, module, ready_url, headers in (
            ("auth", "gotrue", f"{made.supabase_url}/auth/v1/health", {"apikey": made.publishable_key}),
            ("livekit", "livekit", made.livekit_url, {}),
        )
    ]
    for each in stand_ins:
        each.wait_until_ready()


def _start_api(stack: ExitStack, data_dir: Path, made: Stack) -> Starting:
    """Start the API. The stack calls this function before it starts the worker and the stand-ins, because the API's
    imports take longest. The API connects to the other parts of the stack only when it needs them.
    """
    return stack.enter_context(
        starting(
            "app.cli",
            ["serve", "--port", str(_port(made.api_url))],
            log=data_dir / "api.log",
            environment=made.environment,
            ready_url=f"{made.api_url}/health/ready",
        )
    )


def _start_worker(stack: ExitStack, data_dir: Path, made: Stack) -> None:
    stack.enter_context(
        starting(
            "app.cli",
            ["worker"],
            log=data_dir / "worker.log",
            environment=made.environment,
            ready_url=None,
        )
    )


def _keys(path: Path) -> _Keys:
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.keys() != _Keys.__dataclass_fields__.keys():
        made = {name: secrets.token_urlsafe(32) for name in _Keys.__dataclass_fields__}
        made["publishable_key"] = f"sb_publishable_{secrets.token_urlsafe(24)}"
        made["secret_key"] = f"sb_secret_{secrets.token_urlsafe(24)}"
        made["certificate_seed"] = base64.b64encode(secrets.token_bytes(32)).decode()
        made["audit_seed"] = base64.b64encode(secrets.token_bytes(32)).decode()
        made["root_keys"] = new_key_line("demo-1")
        kept = made | kept
        write_private(path, json.dumps(kept))
    return _Keys(**kept)


def _port(url: str) -> int:
    return urlsplit(url).port or 0
