"""Checks whether the configured services are reachable, and names a remedy for each failure.

A check never prints the value of a setting, and reads no person's data.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
from pydantic import SecretStr

from app.alerts.service import count_open
from app.audit.publishing.checks import require_published
from app.audit.sealing.checks import require_sealed
from app.audit.verification.checks import require_consistent_checkpoints
from app.audit.verification.store import SealedRows
from app.commands.audit import covered_years, open_buckets, policy_of
from app.deployment import require_own_bucket, require_own_database
from app.errors import AppError, Conflict, UpstreamFailed
from app.identity.jwks import parse_keys
from app.integrations import vendor_clients
from app.integrations.speech.refusals import translate_refusal
from app.integrations.storage.access_check import check_access
from app.integrations.storage.client import Storage
from app.integrations.storage.presigned_urls import MAX_URL_SECONDS
from app.integrations.supabase.client import SupabaseAdmin
from app.jobs.leader_watch import read_last_led
from app.keys.keyring import Keyring
from app.keys.service import require_root_keys
from app.postgres.database import Database
from app.settings import (
    ApiSettings,
    BucketSettings,
    LanguageApi,
    LanguageSettings,
    LiveKitSettings,
    SettingsError,
    SupabaseSettings,
    WorkerSettings,
    load,
)
from app.sign_ins.service import find_problems
from app.texts import operator_message
from app.transparency_log.notes import VerifierKey

_TIMEOUT_SECONDS = 20
_LIVEKIT_SECONDS = 40
"""LiveKit takes up to 25 s to say that no recording service took a request."""

_COUNT_SECONDS = 300
"""Counting the events of several large years takes minutes."""

_LIVEKIT_NOTE = (
    "A recording service answers. Not tried: whether it has a browser and processors for a video, and "
    "whether it reaches the bucket. Only a recording shows that."
)


_SIGN_INS_NOTE = "A hook of Supabase Auth that is not set up shows only after the next sign-in."


@dataclass(frozen=True)
class _Check:
    """One check of `resguardo check`, such as whether the bucket answers. `note` says what the check did not test,
    even if the check passed.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    seconds: float = _TIMEOUT_SECONDS
    note: str = ""


@dataclass(frozen=True)
class Result:
    """The result of one check of `resguardo check`. If the check failed, `problem` is a code and `remedy` is a
    sentence.

    `note` says what the check did not test, even if the check passed.
    """

    name: str
    ok: bool
    problem: str = ""
    remedy: str = ""
    note: str = ""


async def run_all_checks() -> list[Result]:
    """Run every check whose settings exist. If settings are missing, the result for these settings is a failed
    check.
    """
    results: list[Result] = []
    try:
        api = load(ApiSettings)
        results.append(Result("settings of the API", ok=True))
        results.extend([await _run_check("API", check) for check in _list_api_checks(api)])
    except SettingsError as error:
        results.append(_bad_settings("API", error))
    try:
        worker = load(WorkerSettings)
        results.append(Result("settings of the worker", ok=True))
        results.extend([await _run_check("worker", check) for check in _list_worker_checks(worker)])
    except SettingsError as error:
        results.append(_bad_settings("worker", error))
    return results


async def require_own_deployment(settings: ApiSettings) -> None:
    """Raise AppError if the API's database or bucket is unreachable or belongs to another deployment."""
    await _check_database(settings.api_database_url, settings.deployment)
    await _check_api_bucket(settings)


def _list_api_checks(settings: ApiSettings) -> list[_Check]:
    return [
        _Check("database", lambda: _check_database(settings.api_database_url, settings.deployment)),
        _Check("bucket", lambda: _check_api_bucket(settings)),
        _Check("root keys", lambda: _check_root_keys(settings.api_database_url, settings.keyring)),
        _Check("LiveKit", lambda: _check_livekit(settings), _LIVEKIT_SECONDS, _LIVEKIT_NOTE),
        _Check("Supabase Auth's signing keys", lambda: _check_signing_keys(settings)),
        _Check("language service", lambda: _check_language(settings)),
    ]


def _list_worker_checks(settings: WorkerSettings) -> list[_Check]:
    return [
        _Check("database", lambda: _check_database(settings.worker_database_url, settings.deployment)),
        _Check("bucket", lambda: _check_worker_bucket(settings)),
        _Check("the recorder's bucket key", lambda: _check_recorder_key(settings)),
        _Check("root keys", lambda: _check_root_keys(settings.worker_database_url, settings.keyring)),
        _Check("leader", lambda: _check_leader(settings.worker_database_url)),
        _Check("alerts", lambda: _check_alerts(settings.worker_database_url)),
        _Check("sign-ins", lambda: _check_sign_ins(settings.worker_database_url), note=_SIGN_INS_NOTE),
        _Check("audit log", lambda: _check_audit_log(settings.worker_database_url), _COUNT_SECONDS),
        _Check("published audit log", lambda: _check_published_log(settings)),
        _Check("Supabase Auth's administration", lambda: _check_supabase_admin(settings)),
        _Check("OpenAI", lambda: _check_openai(settings)),
        _Check("language service", lambda: _check_language(settings)),
    ]


def _bad_settings(process: str, error: SettingsError) -> Result:
    problem = "; ".join(str(error).splitlines())
    return Result(f"settings of the {process}", False, problem, "See .env.example.")


async def _run_check(process: str, check: _Check) -> Result:
    name = f"{process}: {check.name}"
    try:
        async with asyncio.timeout(check.seconds):
            await check.run()
    except AppError as error:
        message = operator_message(error.reason, error.detail)
        return Result(name, False, str(error.detail.get("what", error.summary)), message)
    except TimeoutError:
        return Result(name, False, "timeout", "It did not answer in time: is the network open?")
    return Result(name, ok=True, note=check.note)


async def _check_database(url: SecretStr, deployment: str) -> None:
    database = Database(url.get_secret_value(), application="resguardo-check", max_size=1)
    try:
        await database.open()
        await require_own_database(database, deployment)
    finally:
        await database.close()


async def _check_root_keys(url: SecretStr, keyring: Keyring) -> None:
    database = Database(url.get_secret_value(), application="resguardo-check", max_size=1)
    try:
        await database.open()
        await require_root_keys(database, keyring)
    finally:
        await database.close()


async def _check_leader(url: SecretStr) -> None:
    """Raise an error if no worker is the leader. A deployment in which no worker has ever run passes this check."""
    database = Database(url.get_secret_value(), application="resguardo-check", max_size=1)
    try:
        await database.open()
        async with database.as_service("check") as tx:
            found = await read_last_led(tx)
    finally:
        await database.close()
    if found.is_overdue:
        raise UpstreamFailed("nobody_leads", what=str(found))


async def _check_alerts(url: SecretStr) -> None:
    """Raise an error if an alert is open."""
    database = Database(url.get_secret_value(), application="resguardo-check", max_size=1)
    try:
        await database.open()
        found = await count_open(database)
    finally:
        await database.close()
    if found:
        counts = (f"{one.kind} ({one.open_count}, since {one.opened_at:%Y-%m-%d %H:%M:%SZ})" for one in found)
        raise Conflict("alerts_open", what=", ".join(counts))


async def _check_sign_ins(url: SecretStr) -> None:
    """Raise an error if the audit log may lack events of Supabase Auth."""
    database = Database(url.get_secret_value(), application="resguardo-check", max_size=1)
    try:
        await database.open()
        async with database.as_service("check") as tx:
            problems = await find_problems(tx)
    finally:
        await database.close()
    if problems:
        raise UpstreamFailed(problems[0])


async def _check_audit_log(url: SecretStr) -> None:
    """Raise an error if events of the audit log are not sealed, or their number is wrong. While no worker leads, the
    check of the leader says so instead.
    """
    database = Database(url.get_secret_value(), application="resguardo-check", max_size=1)
    try:
        await database.open()
        async with database.as_service("check") as tx:
            led = await read_last_led(tx)
        if led.at is not None and not led.is_overdue:
            await require_sealed(database)
    finally:
        await database.close()


async def _check_published_log(settings: WorkerSettings) -> None:
    """Raise an error if the newest checkpoints in the buckets are not those of the database's audit log, or if a worker
    leads and the audit log was not published in time.
    """
    database = Database(
        settings.worker_database_url.get_secret_value(), application="resguardo-check", max_size=1
    )
    with ExitStack() as stack:
        published = open_buckets(settings, stack)
        try:
            await database.open()
            await require_consistent_checkpoints(
                SealedRows(database), policy_of(settings, covered_years()), published
            )
            async with database.as_service("check") as tx:
                led = await read_last_led(tx)
            if led.at is not None and not led.is_overdue:
                await require_published(
                    database,
                    publish_seconds=settings.audit_publish_seconds,
                    has_second=settings.has_second_audit_bucket,
                    witnesses=map(VerifierKey.parse, settings.audit_witness_key),
                )
        finally:
            await database.close()


async def _check_api_bucket(settings: ApiSettings) -> None:
    storage = vendor_clients.make_reader_storage(settings)
    other = vendor_clients.make_reader_storage(settings, other_style=True)
    await _check_bucket(settings, storage, other, settings.url_lifetime_seconds)


async def _check_worker_bucket(settings: WorkerSettings) -> None:
    storage = vendor_clients.make_worker_storage(settings)
    other = vendor_clients.make_worker_storage(settings, other_style=True)
    await _check_bucket(settings, storage, other, MAX_URL_SECONDS)


async def _check_bucket(
    settings: BucketSettings, storage: Storage, other: Storage, url_lifetime_seconds: int
) -> None:
    try:
        await check_access(
            storage,
            url_lifetime_seconds=url_lifetime_seconds,
            other_style=None if settings.is_r2 else other,
        )
        await require_own_bucket(storage, settings.deployment)
    finally:
        storage.close()
        other.close()


async def _check_recorder_key(settings: WorkerSettings) -> None:
    """Raise an error if LiveKit's bucket key may read the mark, the object that names the deployment of a bucket."""
    target = await vendor_clients.make_recorder_target(settings, "resguardo-check.mp4")
    storage = vendor_clients.make_recorder_storage(target)
    try:
        await storage.read_mark()
    except UpstreamFailed as refused:
        if refused.reason in ("storage_access_denied", "storage_credentials_refused"):
            return
        raise
    finally:
        storage.close()
    raise UpstreamFailed("recorder_key_reads")


async def _check_livekit(settings: LiveKitSettings) -> None:
    async with vendor_clients.make_livekit(settings) as livekit:
        found = await livekit.reachable()
    if found != "ok":
        raise UpstreamFailed(f"livekit_{found}")


async def _check_signing_keys(settings: SupabaseSettings) -> None:
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as http:
            answer = await http.get(settings.jwks_url)
        keys = parse_keys(answer.raise_for_status().content)
    except (httpx.HTTPError, ValueError) as error:
        raise UpstreamFailed("supabase_unreachable") from error
    if not keys:
        raise UpstreamFailed("jwks_empty")


async def _check_supabase_admin(settings: WorkerSettings) -> None:
    admin = SupabaseAdmin(settings.supabase_url, settings.supabase_secret_key.get_secret_value())
    try:
        found = await admin.reachable()
    finally:
        await admin.aclose()
    if found != "ok":
        raise UpstreamFailed(f"supabase_{found}")


_OF_SPEECH = {
    "speech_failed": "openai_unreachable",
    "speech_key_refused": "openai_key_refused",
    "speech_refused": "openai_unreachable",
}
"""Our reasons for refusals of the list of models."""


async def _check_openai(settings: WorkerSettings) -> None:
    import openai  # this import takes half a second, and nothing else needs it

    if settings.openai_api_key is None:
        raise UpstreamFailed("openai_missing")
    try:
        async with openai.AsyncOpenAI(
            api_key=settings.openai_api_key.get_secret_value(),
            base_url=settings.openai_base_url,
            timeout=_TIMEOUT_SECONDS,
            max_retries=0,
        ) as client:
            await client.models.list()
    except openai.APIStatusError as error:
        refusal = translate_refusal(error.status_code, json.dumps({"error": error.body}).encode(), {})
        raise UpstreamFailed(_OF_SPEECH.get(refusal.reason, refusal.reason)) from error
    except openai.OpenAIError as error:
        raise UpstreamFailed("openai_unreachable") from error


async def _check_language(settings: LanguageSettings) -> None:
    if settings.language_api is LanguageApi.EXTRACT:
        return
    client = vendor_clients.make_language_client(settings)
    if client is None:
        raise Conflict("language_not_configured")
    try:
        await client.require_reachable()
    finally:
        await client.aclose()
