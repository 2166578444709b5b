"""Checks whether the configured services are reachable, and names a remedy for each failure.

A check never prints the value of a setting, and reads no person's data.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
from pydantic import SecretStr

from app.deployment import require_own_bucket, require_own_database
from app.errors import AppError, UpstreamFailed
from app.identity.jwks import parse_keys
from app.integrations import configured
from app.integrations.remedies import REMEDIES
from app.integrations.speech.refusals import refusal_of
from app.integrations.storage.access import prove_access
from app.integrations.storage.client import Storage
from app.integrations.storage.presigned_urls import MAX_URL_SECONDS
from app.integrations.supabase.client import SupabaseAdmin
from app.jobs.watch import read_last_led
from app.keys.keyring import Keyring
from app.keys.service import require_root_keys
from app.postgres.database import Database
from app.settings import (
    ApiSettings,
    BucketSettings,
    LiveKitSettings,
    SettingsError,
    SupabaseSettings,
    WorkerSettings,
    load,
)

_TIMEOUT_SECONDS = 20
_LIVEKIT_SECONDS = 40
"""LiveKit takes up to 25 s to say that no recording service took a request."""

_LIVEKIT_NOTE = (
    "A recording service answers. Not tried: whether it has a browser and processors for a video, and "
    "whether it reaches the bucket. Only a recording shows that."
)

_REMEDIES = {
    **REMEDIES,
    "database_unavailable": "Is Postgres up, and are host, port, password and sslmode in the URL right? A Supabase "
    "project's direct host needs IPv6; use the session pooler's address otherwise.",
    "database_unreachable": "Is Postgres up, and are host, port, password and sslmode in DATABASE_URL right?",
    "database_busy": "Postgres gave no connection in time: is it up, and are enough connections allowed?",
    "database_connections_used_up": "Postgres, or the pooler, has no connection left for this login: give each process "
    "fewer (API_DATABASE_CONNECTIONS, WORKER_DATABASE_CONNECTIONS; docs/operations.md), or allow more.",
    "database_disk_full": "The database's disk is full: enlarge it or make room.",
    "database_login_refused": "Postgres refuses the login: the role, the password or the database's name in the URL is "
    "wrong, or its owner has not run `resguardo migrate`. Behind Supabase's pooler the role is <role>.<project ref>.",
    "database_out_of_memory": "Postgres has too little memory: look at its load, or enlarge it.",
    "database_read_only": "The database takes no writes, so nothing can be read either, since each access is logged. "
    "Supabase makes a project read-only at 95% of its disk: enlarge the disk. Else the URL leads to a replica.",
    "pooler_keeps_no_session": "The URL leads to a pooler that gives each transaction another session (transaction "
    "mode). Use the direct address, or the pooler's session mode: on Supabase port 5432 in place of 6543.",
    "database_slow": "Postgres did not answer in time: look at its load and its locks.",
    "not_permitted": "The database's grants are not those of the migrations: run `resguardo migrate`.",
    "migration_failed": "Nothing of that migration was kept. The SQLSTATE says why; DATABASE_URL must be the owner's.",
    "quotas_malformed": "policies/quotas.toml needs a table [per_person_and_hour] with urls, subtitles, pages and "
    "invitations, and no other key. Each is a positive whole number.",
    "migration_out_of_order": "A file is older than what the database has: rename it, or use the newest release.",
    "ledger_versions_unknown": "The database has migrations that this release does not know: use the newest release.",
    "database_of_pre_release": "This database was made by a version of before the first release, whose migrations were "
    "replaced by one file. Nothing was released, so no upgrade was written: make an empty database and run "
    "`resguardo migrate` on it.",
    "devstack_of_pre_release": "An older version made the demo's database in this directory, and this version cannot "
    "use it. Delete the directory, which holds only what demos made, and run the demo again.",
    "access_not_applied": "The database has the migrations but not the rights of policies/access: run "
    "`resguardo migrate` with DATABASE_URL of the owner.",
    "temp_role_is_ours": "Our own roles make no temporary tables: leave them out of --keep-temp.",
    "temp_role_unknown": "The server has no such role: correct --keep-temp.",
    "temp_not_revoked": "Only the owner of the database, or a superuser, can take TEMP from PUBLIC: log in as one of "
    "them, or run `revoke temporary on database ... from public` there.",
    "login_password_failed": "DATABASE_URL must log in as the role that ran the migrations.",
    "database_unmarked": "Run `resguardo migrate` with DATABASE_URL of the owner.",
    "database_of_another_deployment": "DEPLOYMENT or the database's URL is another practice's: correct one of them.",
    "database_unmigrated": "The database is older than this release: run `resguardo migrate`.",
    "root_key_missing": "ROOT_KEYS lacks a key that recordings still need: put it back (docs/restore.md), and only "
    "after `resguardo keys rotate` leave it out.",
    "root_key_wrong": "ROOT_KEYS has another key under a name that the database knows: take the right one from the "
    "escrow (`resguardo keys check` opens it), or give the new key a new name.",
    "root_key_id": "A key's name is of a to z, 0 to 9 and hyphens, 32 at the most.",
    "escrow_unreadable": "Either the passphrase is not the one it was written with, or the file was altered.",
    "escrow_exists": "An escrow is never overwritten: name a file that is not there.",
    "escrow_unwritable": "The file cannot be made there: is the directory there, and may it be written to?",
    "passphrase_short": "The passphrase must have 16 characters at least.",
    "passphrases_differ": "The two passphrases are not the same.",
    "dump_missing": "There is no such file.",
    "dump_unreadable": "Is it what pg_dump wrote, in custom or plain format, unpacked?",
    "bucket_unmarked": "Run `resguardo claim-bucket` with the worker's settings.",
    "bucket_of_another_deployment": "DEPLOYMENT or R2_BUCKET_NAME is another practice's: correct one of them.",
    "bucket_policy_unreadable": "The file of policies/bucket is missing, or no JSON.",
    "bucket_policy_malformed": "The file of policies/bucket lacks this field, does not know it, or has another kind "
    "of value in it.",
    "bucket_policy_unsafe": "With this the bucket could destroy what must stay: see docs/bucket.md.",
    "bucket_changed": "Somebody has changed the bucket since it was shown: look at the plan again.",
    "holds_unprotected": "Something held lies where the bucket would delete it, without a lock. `resguardo worker` "
    "protects it within the hour; then apply again.",
    "bucket_not_as_put": "The bucket took the rules and tells others: look at the plan again.",
    "bucket_keys_missing": "Set R2_ADMIN_ACCESS_KEY_ID and its secret (lifecycle, CORS) or CLOUDFLARE_API_TOKEN "
    "(locks).",
    "bad_email": "The address is not one that can be mailed to.",
    "login_missing": "Supabase Auth and the database do not agree on this login: are SUPABASE_URL and DATABASE_URL of "
    "one project?",
    "already_staff": "This address is an active member of staff already. A role is changed by the owner, in SQL.",
    "staff_member_suspended": "This address is a suspended member of staff. See docs/operations.md.",
    "login_is_patient": "This address is a patient's login, and a login is one or the other: use another address.",
    "login_banned": "This address's login is banned in Supabase Auth: lift the ban there first, if that is right.",
    "login_unconfirmed": "Somebody made a login of this address and never confirmed it. Delete that login in Supabase "
    "Auth and switch off sign-ups, then add them again.",
    "jwks_empty": "Supabase Auth publishes no ES256 or RS256 key: move the project from its legacy JWT secret, or from "
    "EdDSA, to one of these.",
    "certificate_malformed": "This is no certificate of ours, or it was altered. Ask the practice for the file again.",
    "certificate_other_key": "Another key than PUB signed this. If the practice has changed its key since, use the one "
    "of that time.",
    "certificate_signature": "This was altered after it was signed, or never was signed. Believe nothing that it says.",
    "certificate_public_key": "PUB must be an Ed25519 public key: PEM, or its 32 bytes in base64.",
    "certificate_too_large": "The file is larger than any certificate. Ask the practice for the file again.",
    "certificate_pdf_malformed": "This PDF cannot be read: it is damaged or encrypted, or another program saved it "
    "again. Save its attachment certificate.json with a PDF reader and check that file, or ask the practice for the "
    "file again.",
    "certificate_pdf_attachments": "The PDF of a certificate has exactly one attachment, certificate.json. Ask the "
    "practice for the JSON file, and check that.",
    "retention_malformed": "The policy cannot be read at that place. Compare with policies/retention.toml.",
    "retention_unknown_key": "Nothing of that name is known there: is it misspelt? See policies/retention.toml.",
    "retention_term_absurd": "A term is 1 to 36500 days, an age 1 to 100 years.",
    "retention_kinds_overlap": "A kind of consultation may be in one of [[kinds]] alone.",
    "retention_jurisdiction_unknown": "The file has no [floors] for the jurisdiction that it names: add them.",
    "retention_below_floor": "The jurisdiction that the file names asks for more: lengthen the term.",
    "retention_policies_name_key": "A version of that name was proposed before: give this one a name of its own.",
    "nobody_leads": "Does `resguardo worker` run, and reach this database? A worker that stands still has to be ended "
    "and started again.",
}


@dataclass(frozen=True)
class _Check:
    """A check. `note` says what a check that passed did not try."""

    name: str
    run: Callable[[], Awaitable[None]]
    seconds: float = _TIMEOUT_SECONDS
    note: str = ""


@dataclass(frozen=True)
class Result:
    """The result of one check. `problem` is a code and `remedy` a sentence if the check failed.

    `note` says what a check that passed did not try.
    """

    name: str
    ok: bool
    problem: str = ""
    remedy: str = ""
    note: str = ""


def remedy(reason: str) -> str:
    """Return the remedy for a reason, or a pointer to the documentation if there is no specific one."""
    return _REMEDIES.get(reason, "See docs/operations.md.")


async def everything() -> list[Result]:
    """Run every check whose settings exist. Missing settings are a failed check."""
    results: list[Result] = []
    try:
        api = load(ApiSettings)
        results.append(Result("settings of the API", ok=True))
        results.extend([await _result("API", check) for check in _api_checks(api)])
    except SettingsError as error:
        results.append(_bad_settings("API", error))
    try:
        worker = load(WorkerSettings)
        results.append(Result("settings of the worker", ok=True))
        results.extend([await _result("worker", check) for check in _worker_checks(worker)])
    except SettingsError as error:
        results.append(_bad_settings("worker", error))
    return results


async def require_own_world(settings: ApiSettings) -> None:
    """Raise AppError if the API's database or bucket is unreachable or belongs to another deployment."""
    await _database(settings.api_database_url, settings.deployment)
    await _api_bucket(settings)


def _api_checks(settings: ApiSettings) -> list[_Check]:
    return [
        _Check("database", lambda: _database(settings.api_database_url, settings.deployment)),
        _Check("bucket", lambda: _api_bucket(settings)),
        _Check("root keys", lambda: _root_keys(settings.api_database_url, settings.keyring)),
        _Check("LiveKit", lambda: _livekit(settings), _LIVEKIT_SECONDS, _LIVEKIT_NOTE),
        _Check("Supabase Auth's signing keys", lambda: _signing_keys(settings)),
    ]


def _worker_checks(settings: WorkerSettings) -> list[_Check]:
    return [
        _Check("database", lambda: _database(settings.worker_database_url, settings.deployment)),
        _Check("bucket", lambda: _worker_bucket(settings)),
        _Check("the recorder's bucket key", lambda: _recorder_key(settings)),
        _Check("root keys", lambda: _root_keys(settings.worker_database_url, settings.keyring)),
        _Check("leader", lambda: _leader(settings.worker_database_url)),
        _Check("Supabase Auth's administration", lambda: _supabase_admin(settings)),
        _Check("OpenAI", lambda: _openai(settings)),
    ]


def _bad_settings(process: str, error: SettingsError) -> Result:
    problem = "; ".join(str(error).splitlines())
    return Result(f"settings of the {process}", False, problem, "See .env.example.")


async def _result(process: str, check: _Check) -> Result:
    name = f"{process}: {check.name}"
    try:
        async with asyncio.timeout(check.seconds):
            await check.run()
    except AppError as error:
        return Result(name, False, str(error.detail.get("what", error.summary)), remedy(error.reason))
    except TimeoutError:
        return Result(name, False, "timeout", "It did not answer in time: is the network open?")
    return Result(name, ok=True, note=check.note)


async def _database(url: SecretStr, deployment: str) -> None:
    database = Database(url.get_secret_value(), application="resguardo-check", max_size=1)
    try:
        await database.open()
        await require_own_database(database, deployment)
    finally:
        await database.close()


async def _root_keys(url: SecretStr, keyring: Keyring) -> None:
    database = Database(url.get_secret_value(), application="resguardo-check", max_size=1)
    try:
        await database.open()
        await require_root_keys(database, keyring)
    finally:
        await database.close()


async def _leader(url: SecretStr) -> None:
    """Raise if there is no leader. A deployment on which no worker has ever run passes."""
    database = Database(url.get_secret_value(), application="resguardo-check", max_size=1)
    try:
        await database.open()
        async with database.as_service("check") as tx:
            found = await read_last_led(tx)
    finally:
        await database.close()
    if found.is_overdue:
        raise UpstreamFailed("nobody_leads", what=str(found))


async def _api_bucket(settings: ApiSettings) -> None:
    storage = configured.reader_storage(settings)
    other = configured.reader_storage(settings, other_style=True)
    await _bucket(settings, storage, other, settings.url_lifetime_seconds)


async def _worker_bucket(settings: WorkerSettings) -> None:
    storage = configured.worker_storage(settings)
    other = configured.worker_storage(settings, other_style=True)
    await _bucket(settings, storage, other, MAX_URL_SECONDS)


async def _bucket(
    settings: BucketSettings, storage: Storage, other: Storage, url_lifetime_seconds: int
) -> None:
    try:
        await prove_access(
            storage,
            url_lifetime_seconds=url_lifetime_seconds,
            other_style=None if settings.is_r2 else other,
        )
        await require_own_bucket(storage, settings.deployment)
    finally:
        storage.close()
        other.close()


async def _recorder_key(settings: WorkerSettings) -> None:
    """Raise unless the store refuses LiveKit's key for reading the mark, which every bucket of ours contains."""
    target = await configured.recorder_target(settings, "resguardo-check.mp4")
    storage = configured.storage_of(target)
    try:
        await storage.read_mark()
    except UpstreamFailed as refused:
        if refused.reason in ("storage_access_denied", "storage_credentials_refused"):
            return
        raise
    finally:
        storage.close()
    raise UpstreamFailed("recorder_key_reads")


async def _livekit(settings: LiveKitSettings) -> None:
    async with configured.livekit(settings) as livekit:
        found = await livekit.reachable()
    if found != "ok":
        raise UpstreamFailed(f"livekit_{found}")


async def _signing_keys(settings: SupabaseSettings) -> None:
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as http:
            answer = await http.get(settings.jwks_url)
        keys = parse_keys(answer.raise_for_status().content)
    except (httpx.HTTPError, ValueError) as error:
        raise UpstreamFailed("supabase_unreachable") from error
    if not keys:
        raise UpstreamFailed("jwks_empty")


async def _supabase_admin(settings: WorkerSettings) -> None:
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


async def _openai(settings: WorkerSettings) -> None:
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
        refusal = refusal_of(error.status_code, json.dumps({"error": error.body}).encode(), {})
        raise UpstreamFailed(_OF_SPEECH.get(refusal.reason, refusal.reason)) from error
    except openai.OpenAIError as error:
        raise UpstreamFailed("openai_unreachable") from error
