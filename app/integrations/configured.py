"""The vendors as the settings describe them: which address, which key, with which rights."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.integrations import r2
from app.integrations.cloudflare import API_URL, Cloudflare
from app.integrations.livekit import LiveKit, S3Target
from app.integrations.storage import Credentials, Storage
from app.integrations.storage_rules import StorageRules
from app.settings import (
    ApiSettings,
    BucketRuleSettings,
    BucketSettings,
    BucketWriterSettings,
    LiveKitSettings,
    SpeechSettings,
    WorkerSettings,
)

if TYPE_CHECKING:
    from app.integrations.speech import Speech

REGION = "auto"
RECORDER_CREDENTIALS_SECONDS = 24 * 3600
"""The upload follows the recording: longer than the longest consultation and the retries after it."""


def livekit(settings: LiveKitSettings) -> LiveKit:
    """The LiveKit project."""
    return LiveKit(
        settings.livekit_url, settings.livekit_api_key, settings.livekit_api_secret.get_secret_value()
    )


def reader_storage(settings: ApiSettings) -> Storage:
    """The bucket as the API may see it: read only."""
    return _storage(settings, settings.r2_reader_access_key_id, settings.r2_reader_secret_access_key)


def worker_storage(settings: BucketWriterSettings) -> Storage:
    """The bucket as the worker may see it: read and write."""
    return _storage(settings, settings.r2_access_key_id, settings.r2_secret_access_key)


def recorder_target(settings: WorkerSettings, object_key: str) -> S3Target:
    """Where LiveKit uploads one recording to, with credentials that can write and not read.

    On R2 they are made here, for this object alone; another store has a write-only user of its own.
    """
    endpoint_url = _endpoint_url(settings)
    return S3Target(
        endpoint_url=endpoint_url,
        region=REGION,
        bucket=settings.r2_bucket_name,
        credentials=_static_recorder(settings)
        or r2.recorder_credentials(
            account_id=settings.r2_account_id or "",
            bucket=settings.r2_bucket_name,
            parent=Credentials(settings.r2_access_key_id, settings.r2_secret_access_key.get_secret_value()),
            endpoint_host=urlsplit(endpoint_url).netloc,
            object_key=object_key,
            expires_in_seconds=RECORDER_CREDENTIALS_SECONDS,
            now=datetime.now(UTC),
        ),
    )


def storage_rules(settings: BucketRuleSettings) -> StorageRules | None:
    """The bucket as its administrator sees it; None where there is no such key."""
    key_id, secret = settings.r2_admin_access_key_id, settings.r2_admin_secret_access_key
    if key_id is None or secret is None:
        return None
    return StorageRules(
        endpoint_url=_endpoint_url(settings),
        bucket=settings.r2_bucket_name,
        credentials=Credentials(key_id, secret.get_secret_value()),
    )


def cloudflare(settings: BucketRuleSettings) -> Cloudflare | None:
    """Cloudflare's API for the bucket; None where there is no token."""
    if settings.cloudflare_api_token is None or settings.r2_account_id is None:
        return None
    return Cloudflare(
        account_id=settings.r2_account_id,
        bucket=settings.r2_bucket_name,
        token=settings.cloudflare_api_token.get_secret_value(),
        jurisdiction=settings.r2_jurisdiction,
        api_url=settings.cloudflare_api_url or API_URL,
    )


def speech(settings: SpeechSettings) -> "Speech | None":
    """The service that turns speech into words; None where there is no key."""
    if settings.openai_api_key is None:
        return None
    from app.integrations.speech import Speech  # half a second of imports that the API never needs

    return Speech(
        api_key=settings.openai_api_key.get_secret_value(),
        model=settings.speech_model,
        api=settings.speech_api,
        base_url=settings.openai_base_url,
        timeout_seconds=settings.speech_timeout_seconds,
    )


def bucket_url(settings: BucketSettings) -> str:
    """The bucket on its S3 host, where nobody is served without a key."""
    return f"{_endpoint_url(settings)}/{settings.r2_bucket_name}"


def _static_recorder(settings: WorkerSettings) -> Credentials | None:
    key_id, secret = settings.r2_recorder_access_key_id, settings.r2_recorder_secret_access_key
    return None if key_id is None or secret is None else Credentials(key_id, secret.get_secret_value())


def _storage(settings: BucketSettings, access_key_id: str, secret: SecretStr) -> Storage:
    return Storage(
        endpoint_url=_endpoint_url(settings),
        bucket=settings.r2_bucket_name,
        credentials=Credentials(access_key_id, secret.get_secret_value()),
    )


def _endpoint_url(settings: BucketSettings) -> str:
    return settings.r2_endpoint_url or r2.endpoint(settings.r2_account_id or "", settings.r2_jurisdiction)
