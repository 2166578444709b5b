"""Tests of bucket drift on a real object store and a real database. The check finds each difference, and writes an
audit row when the difference begins and when it ends.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, LiteralString
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import uvicorn
from typer.testing import CliRunner, Result

from app import cli
from app.bucket import drifts, policy_documents
from app.bucket.clients import BucketClients
from app.bucket.drifts import Drift, Inspection, Topic
from app.bucket.model import Part, derive_rules
from app.bucket.rule_plan import Sign
from app.bucket.service import BucketPolicies
from app.deployment import mark_database
from app.errors import Conflict, UpstreamFailed
from app.integrations.cloudflare.client import API_URL, Cloudflare, LockRule
from app.integrations.storage.caller import Credentials
from app.integrations.storage.client import MARK_KEY, Storage
from app.integrations.storage.listing import PAGE_SIZE, UploadPage
from app.integrations.storage.rules import CorsRule, LifecycleRule, StorageRules
from app.postgres.access_policies import apply_access
from app.postgres.database import Database as Pool
from app.settings import WorkerSettings
from devstack.children import free_port
from devstack.cloudflare import Bucket, CloudflareConfig, create_cloudflare_app
from devstack.object_store import ObjectStore
from tests.alerts import evaluated_alerts
from tests.buckets import s3_client
from tests.databases import Database
from tests.integration.retention_harness import open_transactions
from tests.practice import practice_of
from tests.unit.environments import ENVIRONMENTS, set_environment

pytestmark = pytest.mark.anyio

ACCOUNT = "0123456789abcdef0123456789abcdef"
ORIGIN = "https://app.example.org"
CONFIG = CloudflareConfig(account_id=ACCOUNT, bucket="resguardo", token="token")
DOCTOR, PATIENT, OTHER_PATIENT = UUID(int=1), UUID(int=2), UUID(int=3)
WANTED = derive_rules(policy_documents.load(), {90}, [ORIGIN])
AUDITED = (
    "select action, outcome, reason, consultation_ids, fields[1] from audit.events"
    " where action like 'bucket.%' order by recorded_at, id"
)


class AgedStorage(Storage):
    """A storage client that reports each upload as older by `age`, because a test cannot set the time at which an
    upload began.
    """

    age = timedelta()

    async def list_uploads(self, prefix: str, *, page_size: int = PAGE_SIZE) -> AsyncIterator[UploadPage]:
        async for page in super().list_uploads(prefix, page_size=page_size):
            aged = tuple(replace(one, initiated_at=one.initiated_at - self.age) for one in page.uploads)
            yield replace(page, uploads=aged)


class KeptRules(StorageRules):
    """Keeps lifecycle and CORS rules in memory, because the embedded object store does not support them.
    `test_bucket_rules.py` tests the boto3 calls for such rules.
    """

    lifecycle: tuple[LifecycleRule, ...] = WANTED.lifecycle or ()
    cors: tuple[CorsRule, ...] = WANTED.cors or ()
    refuses = False
    puts: tuple[str, ...] = ()

    async def read_lifecycle(self) -> tuple[LifecycleRule, ...]:
        self._ask()
        return self.lifecycle

    async def replace_lifecycle(self, rules: Sequence[LifecycleRule]) -> None:
        self._ask()
        self.lifecycle, self.puts = tuple(rules), (*self.puts, "lifecycle")

    async def read_cors(self) -> tuple[CorsRule, ...]:
        self._ask()
        return self.cors

    async def replace_cors(self, rules: Sequence[CorsRule]) -> None:
        self._ask()
        self.cors, self.puts = tuple(rules), (*self.puts, "cors")

    def _ask(self) -> None:
        if self.refuses:
            raise UpstreamFailed("storage_credentials_refused", operation="x", status=403)


@dataclass
class DriftHarness:
    """A test harness with a bucket and a database that match `policies/`, and with the service that checks them."""

    database: Database
    worker: Pool
    clients: BucketClients
    storage: AgedStorage
    rules: KeptRules
    cloudflare: Bucket
    consultation: UUID
    recorder: Any
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def policies(self) -> BucketPolicies:
        """Return a new instance of the service that checks the bucket, as a new process would create it. The
        service keeps no state in memory between two checks, only in the database.
        """
        return BucketPolicies(self.worker, replace(self.clients, **self.changes))

    async def codes(self) -> list[tuple[str, str, str]]:
        """Check the bucket, and return the topic, the code and the subject of each drift."""
        return [(one.topic.value, one.code, one.subject) for one in (await self.policies.inspect()).drifts]

    def run(self, statement: LiteralString, *values: Any) -> None:
        """Run a statement as a superuser, with all triggers of the database disabled."""
        with psycopg.connect(self.database.superuser_url) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(statement, values)

    def audited(self) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.superuser_url) as connection:
            return connection.execute(AUDITED).fetchall()

    def recording(
        self, folder: str = "r/d90", status: str = "READY", consultation: UUID | None = None
    ) -> str:
        """Insert a recording of the patient, and store its object under this prefix. Return the prefix of the
        folder in which the bucket stores the consultation's objects.
        """
        made, of = uuid4(), consultation or self.consultation
        with practice_of(self.database.superuser_url) as practice, practice.without_triggers():
            practice.recording(
                of,
                status,
                made,
                object_key=f"{folder}/{of}/{made}/video.mp4",
                content=b"film",
                retention_class=folder.removeprefix("r/"),
            )
        if status in ("READY", "VERIFYING"):
            self.recorder.put_object(Bucket="resguardo", Key=f"{folder}/{of}/{made}/video.mp4", Body=b"film")
        return f"{folder}/{of}/"

    def hold(self, **scope: Any) -> UUID:
        """Insert a legal hold on a consultation, on a patient, or on the recordings of a range of time. Return its
        id.
        """
        with practice_of(self.database.superuser_url) as practice:
            for end in scope.keys() & {"since", "until"}:
                scope[f"recorded_{end}"] = practice.now() + scope.pop(end)
            return practice.hold(DOCTOR, **scope)

    def request(self, status: str, consultation: UUID | None = None, patient: UUID = PATIENT) -> None:
        """Insert an access request."""
        with practice_of(self.database.superuser_url) as practice:
            practice.access_request(
                patient,
                patient,
                consultation_id=consultation,
                status=status,
                denial_ground="EXCEPTED" if status == "DENIED" else None,
                fulfilled_at=practice.now() if status == "FULFILLED" else None,
            )

    def lock(self, under: str, name: str = "hold-1", **changes: Any) -> None:
        """Add a lock rule for a prefix to the stand-in for Cloudflare's API."""
        self.cloudflare.rules.append(
            {"id": name, "prefix": under, "enabled": True, "condition": {"type": "Indefinite"}} | changes
        )


@pytest.fixture
async def harness(database: Database, emptied_store: ObjectStore) -> AsyncIterator[DriftHarness]:
    mark_database(database.owner_url, "practice")
    apply_access(database.owner_url)
    bucket = Bucket()
    api = httpx.AsyncClient(transport=httpx.ASGITransport(app=create_cloudflare_app(CONFIG, bucket)))
    cloudflare = Cloudflare(account_id=ACCOUNT, bucket="resguardo", token="token", api_url=API_URL, http=api)
    await cloudflare.replace_locks(WANTED.locks or ())
    url, name = emptied_store.endpoint_url, emptied_store.bucket
    storage = AgedStorage(endpoint_url=url, bucket=name, credentials=emptied_store.writer)
    rules = KeptRules(endpoint_url=url, bucket=name, credentials=Credentials("nobody", "nothing"))
    await storage.claim("practice")
    clients = BucketClients(storage, rules, cloudflare, f"{url}/{name}", (), (ORIGIN,))
    worker = Pool(database.worker_url, application="test", max_size=4)
    await worker.open()
    made = DriftHarness(
        database,
        worker,
        clients,
        storage,
        rules,
        bucket,
        _consultation(database),
        s3_client(emptied_store, emptied_store.recorder),
    )
    yield made
    await worker.close()
    await api.aclose()
    made.recorder.close()
    storage.close()
    rules.close()


def _consultation(database: Database) -> UUID:
    with practice_of(database.superuser_url) as practice:
        practice.member(DOCTOR)
        practice.patient(OTHER_PATIENT)
        return practice.consultation(DOCTOR, practice.patient(PATIENT))


async def test_a_bucket_and_a_database_as_meant_have_no_drift(harness: DriftHarness) -> None:
    assert await harness.policies.inspect() == Inspection((), {})


async def test_drift_is_audited_once_at_its_beginning_and_once_at_its_end(
    harness: DriftHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.cloudflare.managed["enabled"] = True
    for _ in range(2):
        await harness.policies.run_once()
    assert harness.audited() == [("bucket.drift", "FAILED", "r2dev_enabled", [], "domains")]
    [alert] = [one for one in caplog.records if "everyone can read" in one.getMessage()]
    assert alert.getMessage().startswith("drift: domains: everyone can read the bucket")
    ((kind, key),) = await evaluated_alerts(harness.database, harness.worker)
    assert (kind, key.startswith("domains:r2dev_enabled:")) == ("BUCKET_DRIFT", True)
    harness.cloudflare.managed["enabled"] = False
    for _ in range(2):
        await harness.policies.run_once()
    assert harness.audited()[1:] == [("bucket.drift", "ALLOWED", "r2dev_enabled", [], "domains")]
    assert "drift is over: r2dev_enabled" in caplog.text
    assert await evaluated_alerts(harness.database, harness.worker) == []
    harness.cloudflare.managed["enabled"] = True
    await harness.policies.run_once()
    assert len(harness.audited()) == 3


async def test_unchecked_topic_is_reported_and_its_earlier_drifts_stay(
    harness: DriftHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.cloudflare.attach("media.example.org", enabled=False)
    await harness.policies.run_once()
    assert [row[2] for row in harness.audited()] == ["custom_domain"]
    harness.changes = {"cloudflare": None, "rules": None}
    inspection = await harness.policies.run_once()
    assert inspection.unchecked == {
        Topic.LIFECYCLE: "r2_admin_key_missing",
        Topic.CORS: "r2_admin_key_missing",
        Topic.LOCKS: "cloudflare_token_missing",
        Topic.DOMAINS: "cloudflare_token_missing",
    }
    assert "could not check domains: cloudflare_token_missing" in caplog.text
    assert len(harness.audited()) == 1
    harness.changes = {}
    harness.rules.refuses = True
    inspection = await harness.policies.run_once()
    assert inspection.unchecked == {
        Topic.LIFECYCLE: "storage_credentials_refused",
        Topic.CORS: "storage_credentials_refused",
    }
    assert len(harness.audited()) == 1


async def test_rules_that_were_changed_by_hand_are_drift(harness: DriftHarness) -> None:
    harness.rules.lifecycle = (
        *(WANTED.lifecycle or ())[1:],
        LifecycleRule("theirs", "keep/", delete_after_days=1),
        LifecycleRule("harmless", "", abort_uploads_after_days=30),
        LifecycleRule("logs", "logs/", delete_after_days=1),
    )
    harness.rules.cors = (replace((WANTED.cors or ())[0], origins=("*",)),)
    harness.cloudflare.rules[0]["enabled"] = False
    assert await harness.codes() == [
        ("lifecycle", "rule_threatens", "theirs"),
        ("lifecycle", "rule_foreign", "logs"),
        ("lifecycle", "rule_missing", "backstop-d90"),
        ("cors", "rule_differs", "web-app"),
        ("locks", "rule_differs", "fixed-audit"),
    ]


async def test_a_term_in_use_needs_its_rule(harness: DriftHarness) -> None:
    harness.recording("r/d45")
    assert await harness.codes() == [("lifecycle", "rule_missing", "backstop-d45")]
    harness.run("update resguardo.recordings set status = 'DELETED'")
    assert await harness.codes() == []


async def test_terms_of_the_policy_in_force_need_their_rules(harness: DriftHarness) -> None:
    harness.run(
        "insert into resguardo.retention_policies (name, sha256, status, source, terms, shortens, activated_at) values"
        " ('v1', repeat('a', 64), 'ACTIVE', 'x', '{\"grace_days\": 7, \"applies_to_existing\": false, \"minors\": null,"
        ' "default": {"recording_days": 60, "signed_note_days": 2557},'
        ' "kinds": {"a": {"recording_days": 61, "signed_note_days": 2557}}}\', false, now())'
    )
    assert await harness.codes() == [
        ("lifecycle", "rule_missing", "backstop-d60"),
        ("lifecycle", "rule_missing", "backstop-d61"),
    ]


SCOPES: list[dict[str, Any]] = [
    {"consultation_id": True},
    {"patient_id": PATIENT},
    {"since": timedelta(hours=-1), "until": timedelta(hours=1)},
]


@pytest.mark.parametrize("scope", SCOPES, ids=["consultation", "patient", "range"])
async def test_law_7_held_object_without_a_lock_is_drift(
    harness: DriftHarness, scope: dict[str, Any]
) -> None:
    prefix = harness.recording()
    harness.recording("keep")
    held = harness.hold(
        **{name: harness.consultation if is_true is True else is_true for name, is_true in scope.items()}
    )
    await harness.policies.run_once()
    assert harness.audited() == [
        ("bucket.drift", "FAILED", "hold_unprotected", [harness.consultation], "holds")
    ]
    assert await harness.codes() == [("holds", "hold_unprotected", prefix)]
    harness.lock(prefix)
    await harness.policies.run_once()
    assert harness.audited()[1:] == [
        ("bucket.drift", "ALLOWED", "hold_unprotected", [harness.consultation], "holds")
    ]
    harness.run(
        "update resguardo.legal_holds set released_at = now(), released_by = %s where id = %s", PATIENT, held
    )
    assert await harness.codes() == [("holds", "hold_left_behind", prefix)]


@pytest.mark.parametrize(
    ("status", "of_it", "patient", "is_held"),
    [
        ("OPEN", True, PATIENT, True),
        ("OPEN", False, PATIENT, True),
        ("APPROVED", True, PATIENT, True),
        ("FULFILLED", True, PATIENT, False),
        ("DENIED", True, PATIENT, False),
        ("WITHDRAWN", True, PATIENT, False),
        ("OPEN", False, OTHER_PATIENT, False),
    ],
)
async def test_law_7_recording_of_an_open_access_request_counts_as_held(
    harness: DriftHarness, status: str, of_it: bool, patient: UUID, is_held: bool
) -> None:
    prefix = harness.recording()
    harness.request(status, harness.consultation if of_it else None, patient)
    assert await harness.codes() == ([("holds", "hold_unprotected", prefix)] if is_held else [])


async def test_law_7_without_cloudflare_nothing_held_may_be_under_r(harness: DriftHarness) -> None:
    prefix = harness.recording()
    harness.lock(prefix)
    harness.hold(patient_id=PATIENT)
    assert await harness.codes() == []
    harness.changes = {"cloudflare": None}
    assert await harness.codes() == [("holds", "hold_unprotected", prefix)]
    harness.run("update private.recording_secrets set object_key = 'keep/' || substr(object_key, 7)")
    assert await harness.codes() == []


@pytest.mark.parametrize(
    "changes",
    [{"enabled": False}, {"condition": {"type": "Age", "maxAgeSeconds": 9}}, {"prefix": "r/d90/other/"}],
)
async def test_law_7_a_lock_that_ends_or_is_elsewhere_protects_nothing(
    harness: DriftHarness, changes: dict[str, Any]
) -> None:
    prefix = harness.recording()
    harness.hold(patient_id=PATIENT)
    harness.lock(prefix, **changes)
    assert ("holds", "hold_unprotected", prefix) in await harness.codes()


async def test_recording_in_progress_needs_no_lock(harness: DriftHarness) -> None:
    harness.recording(status="VERIFYING")
    harness.hold(patient_id=PATIENT)
    assert await harness.codes() == []


async def test_lock_of_a_recording_in_progress_is_no_drift(harness: DriftHarness) -> None:
    harness.lock(harness.recording(status="RECORDING"))
    harness.hold(patient_id=PATIENT)
    assert await harness.codes() == []


async def test_recording_without_an_object_needs_no_lock(harness: DriftHarness) -> None:
    for status in ("ABORTED", "FAILED", "LOST"):
        harness.recording(status=status)
    harness.hold(patient_id=PATIENT)
    assert await harness.codes() == []


async def test_destroyed_recording_is_not_held(harness: DriftHarness) -> None:
    harness.recording(status="DELETED")
    harness.hold(patient_id=PATIENT)
    assert await harness.codes() == []


async def test_holds_are_unchecked_while_the_locks_cannot_be_read(harness: DriftHarness) -> None:
    harness.recording()
    harness.hold(patient_id=PATIENT)
    harness.lock("r/", condition={"type": "Governance"})
    inspection = await harness.policies.inspect()
    assert inspection.drifts == ()
    assert inspection.unchecked == {
        Topic.LOCKS: "cloudflare_lock_unknown",
        Topic.HOLDS: "cloudflare_lock_unknown",
    }


async def test_object_that_the_bucket_would_delete_too_early_is_drift(harness: DriftHarness) -> None:
    prefix = harness.recording()
    harness.run("update resguardo.recordings set stored_at = now(), due_at = now() + interval '97 days'")
    assert await harness.codes() == []
    harness.run("update resguardo.recordings set due_at = stored_at + interval '97 days 1 second'")
    assert await harness.codes() == [("holds", "deleted_too_early", prefix)]


async def test_unfinished_uploads_are_drift_after_the_rule_had_its_day(harness: DriftHarness) -> None:
    harness.recorder.create_multipart_upload(Bucket="resguardo", Key=f"r/d90/{uuid4()}/{uuid4()}/video.mp4")
    harness.storage.age = timedelta(days=7, hours=23)
    assert await harness.codes() == []
    harness.storage.age = timedelta(days=8, minutes=1)
    assert await harness.codes() == [("uploads", "upload_unfinished", "r/")]


async def test_public_addresses_are_drift(harness: DriftHarness) -> None:
    harness.cloudflare.managed["enabled"] = True
    harness.cloudflare.attach("media.example.org", enabled=False)
    assert await harness.codes() == [
        ("domains", "r2dev_enabled", harness.cloudflare.managed["domain"]),
        ("domains", "custom_domain", "media.example.org"),
    ]


class Site:
    """An HTTP server that gives a configured answer for each path and records all requests."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.asked: list[tuple[str, str | None]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers.get("authorization")))
                self.send_response(site.answers.get(self.path, 404))
                self.send_header("location", f"{site.url}/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.mark.parametrize(
    ("status", "is_served"),
    [
        (401, False),
        (403, False),
        (404, False),
        (200, True),
        (206, True),
        (302, True),
        (400, True),
        (500, True),
    ],
)
async def test_a_former_address_must_refuse(
    harness: DriftHarness, site: Site, status: int, is_served: bool
) -> None:
    site.answers[f"/media/{MARK_KEY}"] = status
    harness.changes = {"former_urls": (f"{site.url}/media/",)}
    assert await harness.codes() == ([("anonymous", "served", site.host)] if is_served else [])
    assert site.asked == [("/media/", None), (f"/media/{MARK_KEY}", None)]


async def test_an_address_that_does_not_answer_says_nothing(harness: DriftHarness, site: Site) -> None:
    site.answers["/"] = 200
    harness.changes = {"former_urls": (site.url + "/",)}
    await harness.policies.run_once()
    harness.changes = {"former_urls": (f"http://127.0.0.1:{free_port()}",)}
    inspection = await harness.policies.run_once()
    assert inspection.unchecked == {Topic.ANONYMOUS: "no_answer"}
    assert [row[1:3] for row in harness.audited()] == [("FAILED", "served")]


async def test_a_host_that_does_not_exist_serves_nobody(harness: DriftHarness) -> None:
    harness.changes = {"former_urls": ("http://media.invalid/x",)}
    inspection = await harness.policies.inspect()
    assert inspection.drifts == ()
    assert inspection.unchecked in ({}, {Topic.ANONYMOUS: "no_answer"})  # Some machines have no DNS resolver


async def test_the_bucket_serves_nobody_without_a_key(harness: DriftHarness, site: Site) -> None:
    """The embedded store refuses requests without a key, as R2 does. If a host serves an object to a request
    without a key, the check reports a drift.
    """
    assert await harness.codes() == []
    site.answers[f"/resguardo/{MARK_KEY}"] = 200
    harness.changes = {"bucket_url": f"{site.url}/resguardo"}
    assert await harness.codes() == [("anonymous", "served", site.host)]
    site.answers[f"/resguardo/{MARK_KEY}"] = 400
    assert await harness.codes() == []


BY_HAND: list[tuple[LiteralString, str]] = [
    (
        "alter policy recordings_select_clinician on resguardo.recordings using (true)",
        "policy resguardo.recordings.recordings_select_clinician",
    ),
    ("alter table resguardo.recordings disable row level security", "table resguardo.recordings"),
    ("grant select on private.recording_secrets to clinician", "table private.recording_secrets"),
    (
        "grant select (object_key) on private.recording_secrets to clinician",
        "column private.recording_secrets.object_key",
    ),
    ("grant usage on schema audit to clinician", "schema audit"),
    ("alter table audit.events disable trigger all", "trigger audit.events.events_refuse_change"),
    (
        "grant execute on function private.read_object_key(uuid) to clinician",
        "function private.read_object_key(uuid)",
    ),
    (
        "create or replace function private.person() returns uuid language plpgsql as 'begin return null; end'",
        "function private.person()",
    ),
    (
        "create policy open on resguardo.patients for select to clinician using (true)",
        "policy resguardo.patients.open",
    ),
]


@pytest.mark.parametrize(("change", "name"), BY_HAND, ids=[name for _, name in BY_HAND])
async def test_rights_that_were_changed_by_hand_are_drift(
    harness: DriftHarness, change: LiteralString, name: str
) -> None:
    harness.run(change)
    found = await harness.codes()
    assert ("access", "access_changed", name) in found
    assert {topic for topic, _, _ in found} == {"access"}


async def test_setting_access_anew_undoes_what_was_done_by_hand_and_names_it(harness: DriftHarness) -> None:
    harness.run("alter policy recordings_select_clinician on resguardo.recordings using (true)")
    assert apply_access(harness.database.owner_url) == (
        "policy resguardo.recordings.recordings_select_clinician",
    )
    assert apply_access(harness.database.owner_url) == ()
    assert await harness.codes() == []
    with psycopg.connect(harness.database.superuser_url) as connection:
        [(expression,)] = connection.execute(
            "select qual from pg_policies where policyname = 'recordings_select_clinician'"
        ).fetchall()
    assert "private.doctor()" in expression


async def test_a_database_of_another_release_is_drift(harness: DriftHarness) -> None:
    harness.run(
        "create or replace function private.policy_version() returns text language plpgsql immutable"
        " set search_path = pg_catalog, pg_temp as 'begin return ''old''; end'"
    )
    assert ("access", "policy_version", "old") in await harness.codes()


async def test_without_a_seal_the_rights_are_not_looked_at(harness: DriftHarness) -> None:
    harness.run("delete from private.access_seals")
    assert (await harness.policies.inspect()).unchecked == {Topic.ACCESS: "access_unsealed"}


async def test_number_of_reported_drifts_is_limited() -> None:
    many = [Drift(Topic.HOLDS, "hold_unprotected", str(number)) for number in range(1000)]
    told = drifts.limit_drifts([*many, many[0], Drift(Topic.LOCKS, "rule_missing", "x")])
    assert len(told) == drifts.AT_MOST + 2
    assert Drift(Topic.HOLDS, "and_more", "and more") in told
    assert Drift(Topic.LOCKS, "rule_missing", "x") in told


async def test_every_drift_has_a_sentence() -> None:
    assert {str(Drift(Topic.LOCKS, code, "x")) for code in drifts._SENTENCES}


async def test_apply_brings_the_bucket_to_what_is_meant_and_again_does_nothing(harness: DriftHarness) -> None:
    harness.rules.lifecycle, harness.rules.cors, harness.cloudflare.rules = (), (), []
    harness.lock("r/d90/x/", "hold-x")
    shown = await harness.policies.plan()
    await harness.policies.apply(shown)
    assert harness.rules.puts == ("cors", "lifecycle")
    assert [rule["id"] for rule in harness.cloudflare.rules] == ["hold-x", "fixed-audit", "fixed-ledger"]
    assert sorted(harness.audited()) == [
        ("bucket.apply", "ALLOWED", part, [], part) for part in ("cors", "lifecycle", "locks")
    ]
    again = await harness.policies.plan()
    assert not any(part.lines for part in again)
    await harness.policies.apply(again)
    assert (harness.rules.puts, harness.cloudflare.puts) == (("cors", "lifecycle"), 2)
    assert len(harness.audited()) == 3


async def test_apply_writes_only_parts_that_differ(harness: DriftHarness) -> None:
    harness.rules.cors = ()
    await harness.policies.apply(await harness.policies.plan())
    assert (harness.rules.puts, harness.cloudflare.puts) == (("cors",), 1)


async def test_foreign_rules_go_with_prune_alone(harness: DriftHarness) -> None:
    harness.lock("logs/", "theirs")
    await harness.policies.apply(await harness.policies.plan())
    assert [rule["id"] for rule in harness.cloudflare.rules][-1] == "theirs"
    shown = await harness.policies.plan(prune=True)
    assert [line.sign for part in shown for line in part.lines] == [Sign.REMOVE]
    await harness.policies.apply(shown, prune=True)
    assert [rule["id"] for rule in harness.cloudflare.rules] == ["fixed-audit", "fixed-ledger"]


async def test_what_was_shown_is_what_is_applied(harness: DriftHarness) -> None:
    harness.rules.cors = ()
    shown = await harness.policies.plan()
    harness.rules.lifecycle = ()
    with pytest.raises(Conflict, match="bucket_changed"):
        await harness.policies.apply(shown)
    assert harness.rules.puts == ()


async def test_law_7_apply_refuses_a_deleting_rule_over_a_held_object(harness: DriftHarness) -> None:
    prefix = harness.recording()
    harness.hold(patient_id=PATIENT)
    harness.rules.lifecycle = ()
    shown = await harness.policies.plan()
    with pytest.raises(Conflict, match="holds_unprotected"):
        await harness.policies.apply(shown)
    assert harness.rules.lifecycle == ()
    harness.lock(prefix)
    await harness.policies.apply(await harness.policies.plan())
    assert harness.rules.lifecycle == WANTED.lifecycle


async def test_law_7_apply_removes_a_threatening_rule_during_a_hold(
    harness: DriftHarness,
) -> None:
    harness.recording()
    harness.hold(patient_id=PATIENT)
    harness.rules.lifecycle = (LifecycleRule("theirs", "", delete_after_days=1), *(WANTED.lifecycle or ()))
    await harness.policies.apply(await harness.policies.plan(prune=True), prune=True)
    assert harness.rules.lifecycle == WANTED.lifecycle


async def test_law_7_apply_refuses_to_remove_the_lock_of_a_held_object(harness: DriftHarness) -> None:
    prefix = harness.recording()
    harness.hold(patient_id=PATIENT)
    harness.lock(prefix, "by-hand")
    shown = await harness.policies.plan(prune=True)
    with pytest.raises(Conflict, match="holds_unprotected"):
        await harness.policies.apply(shown, prune=True)
    assert harness.cloudflare.rules[-1]["id"] == "by-hand"


async def test_a_refused_change_is_audited_as_failed(
    harness: DriftHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: Sequence[CorsRule]) -> None:
        raise UpstreamFailed("storage_credentials_refused")

    harness.rules.cors = ()
    monkeypatch.setattr(harness.rules, "replace_cors", refuse)
    with pytest.raises(UpstreamFailed):
        await harness.policies.apply(await harness.policies.plan())
    assert harness.audited() == [
        ("bucket.apply", "ALLOWED", "cors", [], "cors"),
        ("bucket.apply", "FAILED", "cors", [], "cors"),
    ]


async def test_apply_fails_if_the_bucket_does_not_keep_the_rules(
    harness: DriftHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(_: Sequence[CorsRule]) -> None:
        """Accept the CORS rules, and store none of them."""

    harness.rules.cors = ()
    monkeypatch.setattr(harness.rules, "replace_cors", forget)
    with pytest.raises(UpstreamFailed, match="bucket_not_as_put"):
        await harness.policies.apply(await harness.policies.plan())


async def test_no_other_process_writes_the_rules_while_they_are_applied(
    harness: DriftHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cloudflare's API replaces all lock rules at once, so two concurrent changes could remove the lock of a legal
    hold.
    """
    seen: list[tuple[bool, int]] = []
    cloudflare = harness.clients.cloudflare
    assert cloudflare is not None
    replace_locks = cloudflare.replace_locks

    async def watched(rules: Sequence[LockRule]) -> None:
        seen.append((_is_free(harness), open_transactions(harness.database)))
        with pytest.raises(Conflict, match="bucket_rules_busy"):
            await harness.policies.apply(await harness.policies.plan())
        await replace_locks(rules)

    monkeypatch.setattr(cloudflare, "replace_locks", watched)
    harness.cloudflare.rules = []
    await harness.policies.apply(await harness.policies.plan())
    assert seen == [(False, 0)]
    assert _is_free(harness)


def _is_free(harness: DriftHarness) -> bool:
    with psycopg.connect(harness.database.worker_url) as another:
        row = another.execute("select private.take_rules_turn(gen_random_uuid())").fetchone()
        another.rollback()
    assert row is not None
    return bool(row[0])


class Command:
    """Runs the command `resguardo policies` with the settings of the test harness. The command reaches the stand-in
    for Cloudflare's API on a local port.
    """

    def __init__(self, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.environment = environment
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, given: str = "", **changes: str) -> Result:
        set_environment(self._monkeypatch, self.environment | changes)
        return CliRunner().invoke(cli.cli, ["policies", *arguments], input=given)


@contextmanager
def _served(bucket: Bucket) -> Iterator[str]:
    port = free_port()
    config = uvicorn.Config(
        create_cloudflare_app(CONFIG, bucket), port=port, log_level="error", lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
        yield f"http://127.0.0.1:{port}/client/v4"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def command(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(
        {
            **ENVIRONMENTS[WorkerSettings],
            "ENVIRONMENT": "development",
            "DEPLOYMENT": "practice",
            "WORKER_DATABASE_URL": database.worker_url,
            "R2_BUCKET_NAME": emptied_store.bucket,
            "R2_ENDPOINT_URL": emptied_store.endpoint_url,
            "R2_ACCESS_KEY_ID": emptied_store.writer.access_key_id,
            "R2_SECRET_ACCESS_KEY": emptied_store.writer.secret_access_key,
            "R2_RECORDER_ACCESS_KEY_ID": "recorder",
            "R2_RECORDER_SECRET_ACCESS_KEY": "secret",
        },
        monkeypatch,
    )


@pytest.fixture
def marked(database: Database, emptied_store: ObjectStore) -> None:
    mark_database(database.owner_url, "practice")
    storage = Storage(
        endpoint_url=emptied_store.endpoint_url, bucket=emptied_store.bucket, credentials=emptied_store.writer
    )
    asyncio.run(storage.claim("practice"))
    storage.close()


@pytest.mark.usefixtures("marked")
def test_commands_show_apply_and_check(command: Command) -> None:
    bucket = Bucket()
    with _served(bucket) as url:
        command.environment |= {"CLOUDFLARE_API_URL": url, "CLOUDFLARE_API_TOKEN": "token"}
        shown = command("plan")
        assert shown.exit_code == 0
        assert "? lifecycle: not compared, no key for it" in shown.output
        assert "+ locks fixed-audit: locks objects under audit/ without end" in shown.output
        refused = command("apply", given="n\n")
        assert (refused.exit_code, bucket.rules) == (1, [])
        drifted = command("check")
        assert drifted.exit_code == 1
        assert "✗ locks: the bucket lacks a rule" in drifted.output
        assert "✓ access" in drifted.output
        applied = command("apply", "--yes")
        assert (applied.exit_code, len(bucket.rules)) == (0, 2), applied.output
        assert "nothing to change" in command("apply").output
        checked = command("check")
        assert checked.exit_code == 0, checked.output
        assert "✓ holds" in checked.output
        assert "? lifecycle: not checked: r2_admin_key_missing" in checked.output


@pytest.mark.usefixtures("marked")
def test_commands_refuse_impossible_calls(command: Command) -> None:
    without = command("apply", "--yes")
    assert (without.exit_code, "bucket_keys_missing" in without.stderr) == (1, True)
    other = command("apply", "--yes", DEPLOYMENT="another-practice")
    assert (other.exit_code, "database_of_another_deployment" in other.stderr) == (1, True)
    bad = command("plan", R2_ADMIN_ACCESS_KEY_ID="only-half")
    assert (bad.exit_code, "both or neither" in bad.stderr) == (2, True)


async def test_plan_goes_on_where_the_server_has_no_lifecycle(
    harness: DriftHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_offered() -> tuple[LifecycleRule, ...]:
        raise UpstreamFailed("storage_not_implemented", operation="read_lifecycle", status=501)

    monkeypatch.setattr(harness.rules, "read_lifecycle", not_offered)
    harness.rules.cors = ()
    shown = {one.part: one for one in await harness.policies.plan()}
    assert (shown[Part.LIFECYCLE].is_unread, shown[Part.LIFECYCLE].is_offered) == (True, False)
    assert (shown[Part.CORS].is_unread, shown[Part.CORS].has_changes) == (False, True)
    await harness.policies.apply(await harness.policies.plan())
    assert harness.rules.puts == ("cors",)
    inspection = await harness.policies.inspect()
    assert inspection.unchecked[Topic.LIFECYCLE] == "storage_not_implemented"
    harness.rules.refuses = True
    with pytest.raises(UpstreamFailed, match="storage_credentials_refused"):
        await harness.policies.plan()
