"""Tests of the `resguardo` command: its effects, its error messages, and the absence of secrets in its output."""

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from app import cli
from app.postgres import access_policies, migrations
from app.texts import operator_message
from devstack import postgres, stack
from devstack.children import child
from devstack.stack import Stack
from devstack.supabase_project import ProjectUrls, create_project, drop_project, with_login
from tests.databases import API_ROLE, WORKER_ROLE, Cluster
from tests.integration import openai_stand_in, small_stack
from tests.unit.environments import set_environment

Run = Callable[..., Result]
NOWHERE = "http://127.0.0.1:1"
OTHER_SECRETS = ("OPENAI_API_KEY", "CERTIFICATE_SIGNING_KEY", "AUDIT_SIGNING_KEY", "ROOT_KEYS")
WRONG = "wrong-word-that-nobody-may-see-either"
GREEN = re.compile(r"✓ (.*)")
RED = re.compile(r"✗ ((?:API: |worker: )?[^:\n]+): (.*)\n    (.*)")


@pytest.fixture(scope="session")
def running_stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with small_stack.running(cluster, tmp_path_factory.mktemp("running_stack")) as made:
        yield made


@pytest.fixture(scope="session")
def openai_url() -> Iterator[str]:
    with openai_stand_in.running() as url:
        yield url


@pytest.fixture
def environment(running_stack: Stack, openai_url: str) -> dict[str, str]:
    return {
        **running_stack.environment,
        "OPENAI_API_KEY": openai_stand_in.KEY,
        "OPENAI_BASE_URL": openai_url,
        "OPENAI_MODEL": "gpt-6-sol",
    }


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs `resguardo` with the given settings and no others."""
    monkeypatch.chdir(tmp_path)

    def invoke(environment: Mapping[str, str], *arguments: str) -> Result:
        set_environment(monkeypatch, environment)
        return CliRunner().invoke(cli.cli, arguments)

    return invoke


def _secrets(environment: Mapping[str, str]) -> set[str]:
    """Return the passwords and secrets in a set of environment variables, including the passwords within URLs."""
    found = {value for name, value in environment.items() if "SECRET" in name or name in OTHER_SECRETS}
    for name, value in environment.items():
        if name.endswith("DATABASE_URL"):
            found.add(value.split("@")[0].rpartition(":")[2])
    return found


def _failures(result: Result) -> dict[str, tuple[str, str]]:
    """Return the problem and the remedy of each failed check, without the vendor's own code of the problem."""
    found = RED.findall(result.output)
    return {name: (re.sub(r" \([a-z_]+\)$", "", problem), remedy) for name, problem, remedy in found}


def test_check_passes_with_all_services(run: Run, environment: dict[str, str]) -> None:
    result = run(environment, "check")
    assert (result.exit_code, _failures(result)) == (0, {})
    assert GREEN.findall(result.output) == [
        "settings of the API",
        "API: database",
        "API: bucket",
        "API: root keys",
        "API: LiveKit",
        "API: Supabase Auth's signing keys",
        "API: language service",
        "settings of the worker",
        "worker: database",
        "worker: bucket",
        "worker: the recorder's bucket key",
        "worker: root keys",
        "worker: leader",
        "worker: alerts",
        "worker: sign-ins",
        "worker: audit log",
        "worker: published audit log",
        "worker: Supabase Auth's administration",
        "worker: OpenAI",
        "worker: language service",
    ]


def test_check_names_what_it_did_not_test_of_livekit(run: Run, environment: dict[str, str]) -> None:
    result = run(environment, "check")
    text = " ".join(result.output.split())
    assert "API: LiveKit A recording service answers. Not tried: whether it has a browser" in text


def test_check_fails_if_no_recording_service_takes_work(run: Run, environment: dict[str, str]) -> None:
    answer = httpx.post(
        f"{environment['LIVEKIT_URL'].replace('ws', 'http', 1)}/stand-in/orders",
        json={"order": "no_recorder"},
        headers={"authorization": f"Bearer {environment['LIVEKIT_API_SECRET']}"},
        trust_env=False,
    )
    assert answer.status_code == 204
    result = run(environment, "check")
    ((name, (problem, remedy)),) = _failures(result).items()
    assert (result.exit_code, name) == (1, "API: LiveKit")
    assert "livekit_no_recorder" in problem
    assert "No egress server took" in remedy


def test_check_reports_since_when_no_worker_leads(
    running_stack: Stack, run: Run, environment: dict[str, str]
) -> None:
    with psycopg.connect(running_stack.project.superuser_url) as connection:
        connection.execute(
            "update private.leadership set number = 7, leader = 'host/1', taken_at = now() - interval '2 hours',"
            " renewed_at = now() - interval '75 seconds', expires_at = now() - interval '60 seconds'"
        )
    try:
        result = run(environment, "check")
    finally:
        with psycopg.connect(running_stack.project.superuser_url) as connection:
            connection.execute("update private.leadership set leader = null, renewed_at = null")
    assert result.exit_code == 1
    ((name, (problem, remedy)),) = _failures(result).items()
    assert name == "worker: leader"
    assert re.fullmatch(r"nobody has led since \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ \(7[5-9] s\)", problem)
    assert remedy == operator_message("nobody_leads")


def test_check_fails_if_the_events_of_supabase_auth_are_not_read(
    running_stack: Stack, run: Run, environment: dict[str, str]
) -> None:
    with psycopg.connect(running_stack.project.superuser_url) as connection:
        connection.execute("update private.auth_reading set read_at = now() - interval '6 minutes'")
    try:
        result = run(environment, "check")
    finally:
        with psycopg.connect(running_stack.project.superuser_url) as connection:
            connection.execute("update private.auth_reading set read_at = null")
    assert result.exit_code == 1
    ((name, (problem, remedy)),) = _failures(result).items()
    assert (name, remedy) == ("worker: sign-ins", operator_message("auth_entries_not_read"))
    assert "auth_entries_not_read" in problem


def test_check_fails_if_events_stay_unsealed(
    running_stack: Stack, run: Run, environment: dict[str, str]
) -> None:
    with psycopg.connect(running_stack.project.superuser_url) as connection:
        connection.execute(
            "update private.leadership set number = 7, leader = 'host/1', taken_at = now(), renewed_at = now(),"
            " expires_at = now() + interval '60 seconds'"
        )
        connection.execute(
            "insert into audit.events (recorded_at, actor_role, action, operation, outcome, purpose, basis,"
            " policy_version) values (now() - interval '75 seconds', 'x', 'x', 'R', 'ALLOWED', 'OPERATIONS', 'x', 'x')"
        )
    try:
        result = run(environment, "check")
    finally:
        with psycopg.connect(running_stack.project.superuser_url) as connection:
            connection.execute("update private.leadership set leader = null, renewed_at = null")
    assert result.exit_code == 1
    ((name, (problem, remedy)),) = _failures(result).items()
    assert name == "worker: audit log"
    assert re.fullmatch(r"\d+ events are unsealed, the oldest for \d+ s", problem)
    assert remedy == operator_message("audit_log_unsealed")


def _language(problem: str) -> dict[str, str]:
    return {f"{process}: language service": problem for process in ("API", "worker")}


BROKEN: list[tuple[dict[str, str | None], dict[str, str]]] = [
    (
        {"R2_ENDPOINT_URL": NOWHERE},
        {
            "API: bucket": "storage_unreachable",
            "worker: bucket": "storage_unreachable",
            "worker: the recorder's bucket key": "storage_unreachable",
            "worker: published audit log": "storage_unreachable",
        },
    ),
    ({"R2_READER_SECRET_ACCESS_KEY": WRONG}, {"API: bucket": "storage_credentials_refused"}),
    (
        {"R2_SECRET_ACCESS_KEY": WRONG},
        {
            "worker: bucket": "storage_credentials_refused",
            "worker: published audit log": "storage_credentials_refused",
        },
    ),
    ({"R2_BUCKET_NAME": "no-such-bucket"}, {"worker: bucket": "storage_bucket_missing"}),
    (
        {"DEPLOYMENT": "another"},
        {
            "API: database": "database_of_another_deployment",
            "API: bucket": "bucket_of_another_deployment",
            "worker: database": "database_of_another_deployment",
            "worker: bucket": "bucket_of_another_deployment",
        },
    ),
    ({"LIVEKIT_URL": NOWHERE}, {"API: LiveKit": "livekit_unreachable"}),
    ({"LIVEKIT_API_SECRET": WRONG}, {"API: LiveKit": "livekit_credentials_refused"}),
    (
        {"SUPABASE_URL": NOWHERE},
        {
            "API: Supabase Auth's signing keys": "supabase_unreachable",
            "worker: Supabase Auth's administration": "supabase_unreachable",
        },
    ),
    (
        {"SUPABASE_SECRET_KEY": "sb_secret_" + WRONG},
        {"worker: Supabase Auth's administration": "supabase_key_refused"},
    ),
    (
        {"OPENAI_API_KEY": WRONG},
        {"worker: OpenAI": "openai_key_refused", **_language("language_key_refused")},
    ),
    ({"OPENAI_API_KEY": None}, {"worker: OpenAI": "openai_missing", **_language("language_not_configured")}),
    (
        {"OPENAI_BASE_URL": NOWHERE},
        {"worker: OpenAI": "openai_unreachable", **_language("language_unavailable")},
    ),
    ({"LANGUAGE_API_KEY": WRONG}, _language("language_key_refused")),
    (
        {"LANGUAGE_BASE_URL": NOWHERE, "LANGUAGE_API_KEY": WRONG},
        _language("language_unavailable"),
    ),
    (
        {"API_DATABASE_URL": f"postgresql://resguardo_api:{WRONG}@127.0.0.1:1/none"},
        {"API: database": "database_unavailable", "API: root keys": "database_unavailable"},
    ),
]


@pytest.mark.parametrize(("changes", "expected"), BROKEN, ids=lambda value: " ".join(value))
def test_check_prints_each_problem_with_a_remedy_and_no_secret(
    run: Run, environment: dict[str, str], changes: dict[str, str | None], expected: dict[str, str]
) -> None:
    broken = {name: value for name, value in {**environment, **changes}.items() if value is not None}
    result = run(broken, "check")
    failures = _failures(result)
    assert result.exit_code == 1
    assert {name: problem for name, (problem, _) in failures.items() if name in expected} == expected
    if "R2_BUCKET_NAME" not in changes:
        assert set(failures) == set(expected)
    for problem, remedy in failures.values():
        assert remedy == operator_message(problem)
        assert remedy != operator_message("no such reason"), problem
    assert not [secret for secret in _secrets(broken) if secret in result.output]


@pytest.mark.parametrize(
    ("login", "checked"),
    [
        ("API", {"API: database", "API: root keys"}),
        (
            "worker",
            {
                f"worker: {name}"
                for name in (
                    "database",
                    "root keys",
                    "leader",
                    "alerts",
                    "sign-ins",
                    "audit log",
                    "published audit log",
                )
            },
        ),
    ],
)
def test_check_with_a_wrong_password_names_the_login_and_no_secret(
    run: Run, environment: dict[str, str], login: str, checked: set[str]
) -> None:
    setting = f"{login.upper()}_DATABASE_URL"
    url = environment[setting]
    password = url.split("@")[0].rpartition(":")[2]
    result = run({**environment, setting: url.replace(password, WRONG)}, "check")
    refused = ("database_login_refused", operator_message("database_login_refused"))
    assert _failures(result) == dict.fromkeys(checked, refused)
    assert "resguardo migrate" in refused[1]
    assert WRONG not in result.output


def test_check_without_settings_names_them(run: Run) -> None:
    result = run({}, "check")
    failures = _failures(result)
    assert result.exit_code == 1
    assert set(failures) == {"settings of the API", "settings of the worker"}
    assert "DEPLOYMENT: is missing" in failures["settings of the API"][0]
    assert "WORKER_DATABASE_URL: is missing" in failures["settings of the worker"][0]


def test_every_remedy_of_a_start_is_known() -> None:
    for reason in (
        "database_unreachable",
        "database_unmarked",
        "bucket_unmarked",
        "storage_of_another_deployment",
        "storage_timeout",
        "migration_failed",
        "migration_out_of_order",
        "ledger_versions_unknown",
        "database_of_pre_release",
        "devstack_of_pre_release",
        "dump_missing",
        "dump_unreadable",
        "access_not_applied",
        "login_password_failed",
        "livekit_no_egress",
        "livekit_no_recorder",
        "jwks_empty",
    ):
        assert operator_message(reason) != operator_message("no such reason"), reason


@pytest.mark.parametrize(
    ("command", "name"), [("serve", "API_DATABASE_URL"), ("worker", "SUPABASE_SECRET_KEY")]
)
def test_start_without_a_setting_names_it_and_no_value(
    run: Run, environment: dict[str, str], command: str, name: str
) -> None:
    result = run({**environment, name: ""}, command)
    assert result.exit_code == 2
    assert result.output == f"Settings:\n  {name}: is missing\n"


def test_owner_records_an_agreement_once_and_lists_it(
    run: Run, environment: dict[str, str], running_stack: Stack
) -> None:
    owner = {**environment, "DATABASE_URL": running_stack.project.owner_url}
    given = (
        "--vendor",
        "Video, Inc.",
        "--version",
        "2026-01",
        "--signatory",
        "A. Person",
        "--signed",
        "2026-01-31",
    )
    for _ in range(2):
        recorded = run(owner, "agreements", "record", "VIDEO", *given, "--expires", "2031-01-30")
        assert recorded.output.startswith("recorded VIDEO "), recorded.output
    listed = run(owner, "agreements", "list")
    assert "VIDEO Video, Inc., 2026-01, AGREEMENT, 2026-01-31, until 2031-01-30" in listed.output
    assert "A. Person" not in listed.output
    refused = run(owner, "agreements", "record", "VIDEO", *given, "--expires", "2026-01-30")
    assert (refused.exit_code, refused.output.splitlines()[0]) == (1, "INVALID_INPUT bad_agreement")


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_start_over_another_deployment_is_refused_with_a_remedy(
    run: Run, environment: dict[str, str], command: str
) -> None:
    result = run({**environment, "DEPLOYMENT": "another"}, command)
    assert result.exit_code == 1
    assert result.output == (
        f"CONFLICT database_of_another_deployment\n  {operator_message('database_of_another_deployment')}\n"
    )


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_start_over_a_database_without_migrations_is_refused_with_a_remedy(
    run: Run, environment: dict[str, str], project: ProjectUrls, command: str
) -> None:
    changed = {
        name: re.sub(r"/[^/]*$", "/" + project.owner_url.rpartition("/")[2], value)
        for name, value in environment.items()
        if name.endswith("DATABASE_URL")
    }
    result = run({**environment, **changed}, command)
    assert result.exit_code == 1
    assert result.output == f"CONFLICT database_unmarked\n  {operator_message('database_unmarked')}\n"


def _of_project(environment: Mapping[str, str], project: ProjectUrls) -> dict[str, str]:
    """Return the settings with each database URL changed to this project's database."""
    name = project.owner_url.rpartition("/")[2]
    return {
        **environment,
        "DATABASE_URL": project.owner_url,
        **{
            setting: re.sub(r"/[^/]*$", "/" + name, value)
            for setting, value in environment.items()
            if setting.endswith("DATABASE_URL")
        },
    }


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_start_over_a_database_without_access_is_refused_until_migrate_has_run(
    run: Run, environment: dict[str, str], project: ProjectUrls, command: str
) -> None:
    """After `supabase db push`, a database has Resguardo's tables and functions, but neither its access policies
    nor its grants.
    """
    pushed = _of_project(environment, project)
    migrations.migrate(project.owner_url, access_policies.MIGRATIONS_DIRECTORY)
    result = run(pushed, command)
    assert result.exit_code == 1
    assert result.output == f"CONFLICT access_not_applied\n  {operator_message('access_not_applied')}\n"
    assert "resguardo migrate" in result.output


def test_check_of_a_database_without_access_names_migrate_until_it_has_run(
    run: Run, environment: dict[str, str], project: ProjectUrls
) -> None:
    pushed = _of_project(environment, project)
    migrations.migrate(project.owner_url, access_policies.MIGRATIONS_DIRECTORY)
    failures = _failures(run(pushed, "check"))
    for name in ("API: database", "worker: database"):
        assert failures[name] == ("access_not_applied", operator_message("access_not_applied"))
    for name in ("API: root keys", "worker: root keys"):
        assert "resguardo migrate" in failures[name][1]
    assert run(pushed, "migrate").exit_code == 0
    assert _failures(run(pushed, "check")) == {}


def test_migrate_changes_the_session_mac_requirement_only_if_asked(
    run: Run, environment: dict[str, str], project: ProjectUrls
) -> None:
    mine = _of_project(environment, project)
    required = "sessions count only with a MAC\n"
    for given, arguments, is_required, key in (
        ({}, (), False, 1),
        ({}, ("--require-session-mac",), True, 1),
        ({}, (), True, 1),
        ({}, ("--new-session-mac-key",), True, 2),
        ({"REQUIRE_SESSION_MAC": "false"}, (), False, 2),
        ({"REQUIRE_SESSION_MAC": "true"}, (), True, 2),
        ({"REQUIRE_SESSION_MAC": "true"}, ("--no-require-session-mac",), False, 2),
        ({"REQUIRE_SESSION_MAC": ""}, ("--new-session-mac-key",), False, 3),
    ):
        result = run(mine | given, "migrate", *arguments)
        assert (result.exit_code, required in result.output) == (0, is_required), result.output
        assert (f"made with key {key};" in result.output) == ("--new-session-mac-key" in arguments)
        with psycopg.connect(project.owner_url) as owner:
            rows = owner.execute(
                "select r.is_required,"
                " (select array_agg(k.number order by k.number) from private.session_mac_keys as k)"
                " from private.session_mac_rule as r"
            ).fetchall()
        assert rows == [(is_required, [key] if key == 1 else [key - 1, key])]
    wrong = run(mine | {"REQUIRE_SESSION_MAC": "perhaps"}, "migrate")
    assert (wrong.exit_code, "REQUIRE_SESSION_MAC" in wrong.output) == (2, True)


def _write_old_ledger(project: ProjectUrls, versions: Sequence[str]) -> None:
    with psycopg.connect(project.owner_url) as connection:
        connection.execute(
            "create schema supabase_migrations; create table supabase_migrations.schema_migrations"
            " (version text primary key, statements text[], name text)"
        )
        for version in versions:
            connection.execute(
                "insert into supabase_migrations.schema_migrations (version) values (%s)", [version]
            )


@pytest.mark.parametrize("versions", [("20261121090000",), ("20261121090000", "20261121180000")])
@pytest.mark.parametrize("arguments", [("migrate",), ("migrate", "--dry-run")])
def test_migrate_refuses_a_pre_release_database_with_a_remedy(
    run: Run,
    environment: dict[str, str],
    project: ProjectUrls,
    versions: tuple[str, ...],
    arguments: tuple[str, ...],
) -> None:
    _write_old_ledger(project, versions)
    result = run(_of_project(environment, project), *arguments)
    assert result.exit_code == 1
    assert result.output == (
        f"CONFLICT database_of_pre_release\n  {operator_message('database_of_pre_release')}\n"
    )
    assert "empty database" in result.output


@pytest.fixture
def project(cluster: Cluster, running_stack: Stack) -> Iterator[ProjectUrls]:
    """Yield an empty Supabase project on a Postgres cluster that already has Resguardo's roles."""
    name = f"empty_{secrets.token_hex(8)}"
    yield create_project(
        cluster.superuser_url, name, grants="newer", owner_password=cluster.password("owner")
    )
    drop_project(cluster.superuser_url, name)


def test_migrate_prints_its_plan_applies_it_and_is_then_done(
    run: Run, cluster: Cluster, project: ProjectUrls
) -> None:
    name = project.owner_url.rpartition("/")[2]
    environment = {
        "ENVIRONMENT": "development",
        "DEPLOYMENT": "first",
        "DATABASE_URL": project.owner_url,
        "API_DATABASE_URL": with_login(cluster.superuser_url, name, API_ROLE, cluster.password(API_ROLE)),
        "WORKER_DATABASE_URL": with_login(
            cluster.superuser_url, name, WORKER_ROLE, cluster.password(WORKER_ROLE)
        ),
    }
    versions = sorted(path.name[:14] for path in access_policies.MIGRATIONS_DIRECTORY.glob("*.sql"))
    would = run(environment, "migrate", "--dry-run")
    assert [line.split()[1] for line in would.output.splitlines()] == versions
    with psycopg.connect(project.owner_url) as connection:
        assert connection.execute("select to_regnamespace('private')").fetchone() == (None,)
    did = run(environment, "migrate")
    assert did.output.splitlines() == [
        *(f"applied {version}" for version in versions),
        "retention policy 2026-11 is in force: recordings are kept 90 days",
        "rules of the review 2026-11 are in force",
        f"{len(versions)} applied; the database is first's",
    ]
    assert run(environment, "migrate", "--dry-run").output == ""
    assert run(environment, "migrate").output == "0 applied; the database is first's\n"
    psycopg.connect(environment["API_DATABASE_URL"]).close()
    other = run({**environment, "DEPLOYMENT": "second"}, "migrate")
    assert (other.exit_code, other.output.splitlines()[0]) == (1, "CONFLICT database_of_another_deployment")
    assert not [
        secret for secret in _secrets(environment) for result in (did, other) if secret in result.output
    ]


def test_migrate_of_a_missing_database_prints_a_remedy(run: Run) -> None:
    environment = {
        "ENVIRONMENT": "development",
        "DEPLOYMENT": "first",
        "DATABASE_URL": f"postgresql://postgres:{WRONG}@127.0.0.1:1/none",
        "API_DATABASE_URL": f"postgresql://resguardo_api:{WRONG}@127.0.0.1:1/none",
        "WORKER_DATABASE_URL": f"postgresql://resguardo_worker:{WRONG}@127.0.0.1:1/none",
    }
    result = run(environment, "migrate")
    assert result.exit_code == 1
    assert result.output == (
        f"UPSTREAM_FAILED database_unreachable\n  {operator_message('database_unreachable')}\n"
    )


def test_claim_bucket_accepts_its_own_bucket_and_refuses_a_claimed_one(
    run: Run, environment: dict[str, str]
) -> None:
    again = run(environment, "claim-bucket")
    assert (again.exit_code, again.output) == (0, "the bucket is demo's\n")
    other = run({**environment, "DEPLOYMENT": "another"}, "claim-bucket")
    assert other.exit_code == 1
    assert other.output.splitlines() == [
        "CONFLICT storage_of_another_deployment",
        f"  {operator_message('storage_of_another_deployment')}",
    ]


FOUND = re.compile(r"([a-z ]+): (\d+)")
QUIET = {"problems", "moved", "overdue", "strays stopped", "missing", "lost", "started by themselves"}


def _found(result: Result) -> dict[str, int]:
    lines = [FOUND.fullmatch(line) for line in result.output.splitlines()]
    return {line[1]: int(line[2]) for line in lines if line is not None}


def test_reconcile_does_one_pass_and_counts_what_it_found(run: Run, environment: dict[str, str]) -> None:
    result = run(environment, "reconcile")
    found = _found(result)
    told = {line.partition(":")[0] for line in result.output.splitlines()}
    assert (result.exit_code, told - found.keys() - {"refusal"}) == (0, set())
    assert {name: found[name] for name in QUIET} == dict.fromkeys(QUIET, 0)
    assert not [secret for secret in _secrets(environment) if secret in result.output]


def test_reconcile_beside_a_worker_that_leads_is_harmless(
    run: Run, environment: dict[str, str], project: ProjectUrls, tmp_path: Path
) -> None:
    """The worker uses a database of its own. `resguardo check` would report that the worker no longer leads."""
    own = _of_project(environment, project)
    assert run(own, "migrate").exit_code == 0
    log = tmp_path / "worker.log"
    with child("app.cli", ("worker",), log=log, environment=own, ready_url=None):
        deadline = time.monotonic() + 30
        while "this worker leads: " not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        result = run(own, "reconcile")
    assert (result.exit_code, _found(result)["problems"]) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"LIVEKIT_URL": NOWHERE}, "UPSTREAM_FAILED", "livekit_unavailable"),
        ({"LIVEKIT_API_SECRET": WRONG}, "UPSTREAM_FAILED", "livekit_credentials_refused"),
        ({"R2_ENDPOINT_URL": NOWHERE}, "UPSTREAM_FAILED", "storage_unreachable"),
        ({"DEPLOYMENT": "another"}, "CONFLICT", "database_of_another_deployment"),
    ],
)
def test_reconcile_prints_its_failure_with_a_remedy_and_no_secret(
    run: Run, environment: dict[str, str], changes: dict[str, str], code: str, reason: str
) -> None:
    broken = {**environment, **changes}
    result = run(broken, "reconcile")
    first, remedy = result.output.splitlines()
    assert (result.exit_code, first.split()[:2]) == (1, [code, reason])
    assert remedy.strip() == operator_message(reason) != operator_message("no such reason")
    assert not [secret for secret in _secrets(broken) if secret in result.output]


def test_demo_on_the_directory_of_an_older_version_says_to_delete_it(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "devstack"
    data.mkdir(mode=0o700)
    with postgres.running(data / "postgres", durable=False) as server:
        made = create_project(
            server,
            stack.DATABASE,
            grants="newer",
            owner_password=SecretStr(stack._keys(data / "keys.json").owner_password),
        )
        _write_old_ledger(made, ("20261121090000",))
    result = run({}, "demo", "--once", "--data", str(data))
    assert result.exit_code == 1
    assert f"devstack_of_pre_release directory={data}" in result.output
    assert operator_message("devstack_of_pre_release") in result.output


def test_schema_is_printed_without_any_setting(run: Run) -> None:
    result = run({}, "schema")
    assert result.exit_code == 0
    assert "type Query {" in result.output
    assert "issueDownloadUrl(" in result.output


def test_command_without_arguments_shows_its_help(run: Run) -> None:
    result = run({})
    assert "Usage" in result.output
    for name in (
        "serve",
        "worker",
        "migrate",
        "claim-bucket",
        "check",
        "reconcile",
        "policies",
        "schema",
        "demo",
    ):
        assert name in result.output
