"""The root keys, for processes that create, read or search transcripts."""

from pydantic import Field, SecretStr, field_validator

from app.errors import InvalidInput
from app.keys.keyring import Keyring
from app.settings.base import DeploymentSettings
from app.settings.database_url import SettingProblem


class KeySettings(DeploymentSettings):
    """The setting ROOT_KEYS, which contains the root keys."""

    root_keys: SecretStr = Field(
        description="The root keys, which wrap the data key of each recording, comma-separated, the current one "
        "first. `resguardo keys new` makes one."
    )

    @property
    def keyring(self) -> Keyring:
        """Return a keyring with the root keys of the setting ROOT_KEYS."""
        return Keyring.parse(self.root_keys.get_secret_value())

    @field_validator("root_keys")
    @classmethod
    def _check_root_keys(cls, value: SecretStr) -> SecretStr:
        try:
            Keyring.parse(value.get_secret_value())
        except InvalidInput as error:
            raise SettingProblem(
                f"must be id:key[,id:key...], each key the base64 of 32 random bytes, none twice; wrong is number "
                f"{error.detail['number']}"
            ) from None
        return value
