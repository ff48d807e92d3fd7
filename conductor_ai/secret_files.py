"""Settings from files: one file for each setting, named after it, as Docker and Kubernetes mount their secrets."""

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from conductor_ai.errors import ConfigurationError

MAX_BYTES = 64 * 1024
"""No setting is longer. A directory that was named by mistake may hold large files."""


class SecretFiles(PydanticBaseSettingsSource):
    """The files of a directory that an earlier source names. The environment and `.env` win over them.

    A file that is empty, or blank, counts as not set: one list of mounts serves installations that use different settings.
    """

    def __init__(self, settings_cls: type[Any], *, alias: str) -> None:
        """`alias`: the variable that names the directory."""
        super().__init__(settings_cls)
        self._alias = alias

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The text of a field's file, without the line end of its last line."""
        name = field.alias or field_name
        path = self._directory() / name
        try:
            with path.open("rb") as file:
                text = file.read(MAX_BYTES + 1)
        except (FileNotFoundError, IsADirectoryError):
            return None, name, False
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be read ({error.strerror}). It must be readable by the user that runs Conductor (uid 10001 "
                "in its image)."
            ) from error
        if len(text) > MAX_BYTES:
            raise ConfigurationError(
                f"{path} has more than {MAX_BYTES} bytes, which no setting has. Look at {self._alias}."
            )
        try:
            return text.decode().strip("\r\n") or None, name, False
        except UnicodeDecodeError:
            raise ConfigurationError(f"{path} is not text in UTF-8.") from None

    def _directory(self) -> Path:
        return Path(str(self.current_state[self._alias]))

    def __call__(self) -> dict[str, Any]:
        """Every setting that has a file.

        Raises:
            ConfigurationError: the directory or a file cannot be read.
        """
        if not self.current_state.get(self._alias):
            return {}
        if not self._directory().is_dir():
            raise ConfigurationError(
                f"{self._alias} names {self._directory()}, which is no directory. Mount the secrets there, or unset it."
            )
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, alias, _ = self.get_field_value(field, name)
            if value is not None and alias != self._alias:
                found[alias] = value
        return found
