"""The settings: read once from the environment (and `.env`), and frozen.

Each process reads only the settings that it needs: the API has no secret of the worker, and the worker has no
secret of the owner. If a setting is missing or malformed, the process does not start. The error message names the
setting and never contains the setting's value.
"""

from app.settings.audit import AuditPublishingSettings, AuditSealingSettings
from app.settings.base import (
    LOOPBACK,
    DeploymentSettings,
    Environment,
    Network,
    SettingsError,
    check_database_url,
)
from app.settings.language import LanguageApi, LanguageSettings
from app.settings.outgoing_webhooks import OutgoingWebhookSettings, WebhookEndpoint
from app.settings.processes import (
    ApiSettings,
    MigrationSettings,
    OwnerSettings,
    StaffSettings,
    WorkerSettings,
    load,
)
from app.settings.services import VendorService
from app.settings.vendors import (
    BucketRuleSettings,
    BucketSettings,
    BucketWriterSettings,
    LiveKitSettings,
    OpenAISettings,
    SpeechApi,
    SpeechSettings,
    SupabaseSettings,
    WebAppSettings,
)

__all__ = [
    "LOOPBACK",
    "ApiSettings",
    "AuditPublishingSettings",
    "AuditSealingSettings",
    "BucketRuleSettings",
    "BucketSettings",
    "BucketWriterSettings",
    "DeploymentSettings",
    "Environment",
    "LanguageApi",
    "LanguageSettings",
    "LiveKitSettings",
    "MigrationSettings",
    "Network",
    "OpenAISettings",
    "OutgoingWebhookSettings",
    "OwnerSettings",
    "SettingsError",
    "SpeechApi",
    "SpeechSettings",
    "StaffSettings",
    "SupabaseSettings",
    "VendorService",
    "WebAppSettings",
    "WebhookEndpoint",
    "WorkerSettings",
    "check_database_url",
    "load",
]
