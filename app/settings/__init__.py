"""What is configured: read once from the environment (and `.env`), frozen.

Each process reads only what it needs: the API has no secret of the worker's, the worker none of the owner's. A missing
or malformed setting stops the start with its name and never its value.
"""

from app.settings.base import (
    LOOPBACK,
    DeploymentSettings,
    Environment,
    Network,
    SettingsError,
    check_database_url,
)
from app.settings.processes import (
    ApiSettings,
    MigrationSettings,
    OwnerSettings,
    StaffSettings,
    WorkerSettings,
    load,
)
from app.settings.vendors import (
    BucketRuleSettings,
    BucketSettings,
    BucketWriterSettings,
    BusinessAssociateSettings,
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
    "BucketRuleSettings",
    "BucketSettings",
    "BucketWriterSettings",
    "BusinessAssociateSettings",
    "DeploymentSettings",
    "Environment",
    "LiveKitSettings",
    "MigrationSettings",
    "Network",
    "OpenAISettings",
    "OwnerSettings",
    "SettingsError",
    "SpeechApi",
    "SpeechSettings",
    "StaffSettings",
    "SupabaseSettings",
    "WebAppSettings",
    "WorkerSettings",
    "check_database_url",
    "load",
]
