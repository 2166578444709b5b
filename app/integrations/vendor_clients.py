"""Builds the vendor clients from the settings, with the addresses, keys and rights of each process."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.integrations.cloudflare.client import API_URL, Cloudflare
from app.integrations.livekit.client import LiveKit, S3Target
from app.integrations.storage import r2_credentials, sts_credentials
from app.integrations.storage.caller import Credentials
from app.integrations.storage.client import Storage
from app.integrations.storage.rules import StorageRules
from app.integrations.webhook_endpoints.client import EndpointClient
from app.integrations.witness.client import Witness
from app.settings import (
    ApiSettings,
    AuditPublishingSettings,
    BucketRuleSettings,
    BucketSettings,
    BucketWriterSettings,
    LanguageApi,
    LanguageSettings,
    LiveKitSettings,
    OutgoingWebhookSettings,
    SpeechSettings,
    WorkerSettings,
)
from app.transparency_log.notes import VerifierKey

if TYPE_CHECKING:
    from app.integrations.language.client import LanguageClient
    from app.integrations.speech.client import Speech

R2_REGION = "auto"
RECORDER_CREDENTIALS_SECONDS = 24 * 3600
"""The lifetime of upload credentials: longer than the longest consultation plus the upload and its retries."""


def make_livekit(settings: LiveKitSettings) -> LiveKit:
    """Return the client of the LiveKit project."""
    return LiveKit(
        settings.livekit_url, settings.livekit_api_key, settings.livekit_api_secret.get_secret_value()
    )


def make_reader_storage(settings: ApiSettings, *, other_style: bool = False) -> Storage:
    """Return a read-only client of the bucket, for the API. If `other_style` is true, the client uses the S3
    address style (path style or virtual-hosted style) that the settings do not select.
    """
    return _storage(
        settings,
        settings.r2_reader_access_key_id,
        settings.r2_reader_secret_access_key,
        other_style=other_style,
    )


def make_worker_storage(settings: BucketWriterSettings, *, other_style: bool = False) -> Storage:
    """Return a client of the bucket that reads and writes, for the worker. `other_style` means the same as in
    `make_reader_storage`.
    """
    return _storage(
        settings, settings.r2_access_key_id, settings.r2_secret_access_key, other_style=other_style
    )


def make_second_audit_storage(settings: AuditPublishingSettings) -> Storage | None:
    """Return a client of the second bucket of the audit log, or None if no second bucket is configured."""
    key_id, secret = settings.audit_bucket_access_key_id, settings.audit_bucket_secret_access_key
    if settings.audit_bucket is None or key_id is None or secret is None:
        return None
    return Storage(
        endpoint_url=(settings.audit_bucket_endpoint_url or "").rstrip("/"),
        bucket=settings.audit_bucket,
        credentials=Credentials(key_id, secret.get_secret_value()),
        region=settings.audit_bucket_region,
    )


def make_webhook_endpoints(settings: OutgoingWebhookSettings) -> dict[str, EndpointClient]:
    """Return a client for each endpoint of outgoing webhooks, by the endpoint's name."""
    return {
        endpoint.name: EndpointClient(endpoint.url, allows_loopback=not settings.is_production)
        for endpoint in settings.webhook_endpoints
    }


def make_witnesses(settings: AuditPublishingSettings) -> tuple[Witness, ...]:
    """Return a client for each witness that cosigns the checkpoints of the audit log."""
    keys = map(VerifierKey.parse, settings.audit_witness_key)
    return tuple(Witness(url, key) for url, key in zip(settings.audit_witness_url, keys, strict=True))


def make_recorder_storage(target: S3Target) -> Storage:
    """Return a client of the bucket with the recorder's credentials."""
    given = target.credentials
    return Storage(
        endpoint_url=target.endpoint_url,
        bucket=target.bucket,
        credentials=Credentials(given.access_key_id, given.secret_access_key, given.session_token),
        region=target.region,
        force_path_style=target.force_path_style,
    )


async def make_recorder_target(settings: WorkerSettings, object_key: str) -> S3Target:
    """Return the upload target of one recording for LiveKit, with the narrowest credentials that the server offers.

    On R2, the worker itself computes credentials that can write only the recording's object. On AWS and MinIO, the
    Security Token Service issues credentials that can write only the recording's object. On S3 servers that can
    issue no credentials for one object, the upload target uses one write-only key for all objects. Raises the
    UpstreamFailed and Timeout errors that a request to the Security Token Service can cause.
    """
    return S3Target(
        endpoint_url=_endpoint_url(settings),
        region=_region(settings),
        bucket=settings.r2_bucket_name,
        credentials=await _recorder_credentials(settings, object_key),
        force_path_style=settings.s3_force_path_style,
    )


async def _recorder_credentials(settings: WorkerSettings, object_key: str) -> Credentials:
    key_id, secret = settings.r2_recorder_access_key_id, settings.r2_recorder_secret_access_key
    if key_id is not None and secret is not None:
        return Credentials(key_id, secret.get_secret_value())
    parent = Credentials(settings.r2_access_key_id, settings.r2_secret_access_key.get_secret_value())
    if settings.s3_recorder_role_arn is not None:
        return await sts_credentials.recorder_credentials(
            endpoint_url=_endpoint_url(settings),
            region=_region(settings),
            role_arn=settings.s3_recorder_role_arn,
            bucket=settings.r2_bucket_name,
            parent=parent,
            object_key=object_key,
        )
    return r2_credentials.recorder_credentials(
        account_id=settings.r2_account_id or "",
        bucket=settings.r2_bucket_name,
        parent=parent,
        endpoint_host=urlsplit(_endpoint_url(settings)).netloc,
        object_key=object_key,
        expires_in_seconds=RECORDER_CREDENTIALS_SECONDS,
        now=datetime.now(UTC),
    )


def make_storage_rules(settings: BucketRuleSettings) -> StorageRules | None:
    """Return a client for the bucket's rules, or None if no administrator's key is configured."""
    key_id, secret = settings.r2_admin_access_key_id, settings.r2_admin_secret_access_key
    if key_id is None or secret is None:
        return None
    return StorageRules(
        endpoint_url=_endpoint_url(settings),
        bucket=settings.r2_bucket_name,
        credentials=Credentials(key_id, secret.get_secret_value()),
        region=_region(settings),
        force_path_style=settings.s3_force_path_style,
    )


def make_cloudflare(settings: BucketRuleSettings) -> Cloudflare | None:
    """Return a client of Cloudflare's API for the bucket, or None if no token is configured."""
    if settings.cloudflare_api_token is None or settings.r2_account_id is None or not settings.is_r2:
        return None
    return Cloudflare(
        account_id=settings.r2_account_id,
        bucket=settings.r2_bucket_name,
        token=settings.cloudflare_api_token.get_secret_value(),
        jurisdiction=settings.r2_jurisdiction,
        api_url=settings.cloudflare_api_url or API_URL,
    )


def make_speech(settings: SpeechSettings) -> "Speech | None":
    """Return the client of the speech service, or None if no key is configured."""
    if settings.openai_api_key is None:
        return None
    from app.integrations.speech.client import (
        Speech,  # this import takes half a second, and the API never needs it
    )

    return Speech(
        api_key=settings.openai_api_key.get_secret_value(),
        model=settings.speech_model,
        api=settings.speech_api,
        base_url=settings.openai_base_url,
        timeout_seconds=settings.speech_timeout_seconds,
        uncertain_logprob=settings.speech_uncertain_logprob,
    )


def make_language_client(settings: LanguageSettings) -> "LanguageClient | None":
    """Return the client of the language service, or None if no service is configured, or if the extractive writer
    replaces it.
    """
    key, model, api = settings.language_key, settings.language_model, settings.language_api
    if key is None or model is None or api is LanguageApi.EXTRACT:
        return None
    from app.integrations.language.client import (  # this import takes half a second
        ChatLanguage,
        ResponsesLanguage,
    )

    kind = ChatLanguage if api is LanguageApi.CHAT else ResponsesLanguage
    return kind(
        api_key=key.get_secret_value(),
        model=model,
        base_url=settings.language_url,
        timeout_seconds=settings.language_timeout_seconds,
        caches_prompts=settings.language_prompt_cache,
    )


def bucket_url(settings: BucketSettings) -> str:
    """Return the URL of the bucket on its S3 host, which must refuse requests without a key."""
    endpoint, bucket = _endpoint_url(settings), settings.r2_bucket_name
    if settings.s3_force_path_style:
        return f"{endpoint}/{bucket}"
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{bucket}.{parts.netloc}"


def _storage(
    settings: BucketSettings, access_key_id: str, secret: SecretStr, *, other_style: bool = False
) -> Storage:
    return Storage(
        endpoint_url=_endpoint_url(settings),
        bucket=settings.r2_bucket_name,
        credentials=Credentials(access_key_id, secret.get_secret_value()),
        region=_region(settings),
        force_path_style=settings.s3_force_path_style is not other_style,
    )


def _region(settings: BucketSettings) -> str:
    return settings.s3_region or R2_REGION


def _endpoint_url(settings: BucketSettings) -> str:
    own = settings.s3_endpoint_url or settings.r2_endpoint_url
    return (
        own.rstrip("/")
        if own
        else r2_credentials.endpoint(settings.r2_account_id or "", settings.r2_jurisdiction)
    )
