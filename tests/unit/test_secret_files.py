"""Settings from files, as Docker and Kubernetes mount them: what is read, what wins, and what is refused."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from conductor_ai.errors import ConfigurationError
from conductor_ai.secret_files import MAX_BYTES
from conductor_ai.settings import Settings, load


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for secrets that the environment names, and no .env nearby."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDUCTOR_SECRETS_DIR", str(folder))
    for name in ("DATABASE_URL", "ANTHROPIC_API_KEY", "REDIS_URL", "HOST", "CONDUCTOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_a_file_is_a_setting(secrets: Path) -> None:
    """The value is the file's text; the line end of an editor does not become part of a key."""
    (secrets / "ANTHROPIC_API_KEY").write_text("sk-from-a-file\n", encoding="utf-8")
    (secrets / "DATABASE_URL").write_text("postgresql://conductor:pw@db/conductor", encoding="utf-8")
    settings = load()
    assert settings.anthropic_api_key == SecretStr("sk-from-a-file")
    assert settings.store_url == "postgresql://conductor:pw@db/conductor"


def test_the_environment_and_dotenv_win(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sets a variable for one run gets it, whatever is mounted; and so with .env."""
    (secrets / "ANTHROPIC_API_KEY").write_text("file", encoding="utf-8")
    (secrets / "OPENROUTER_API_KEY").write_text("file", encoding="utf-8")
    Path(".env").write_text("OPENROUTER_API_KEY=dotenv\n", encoding="utf-8")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "environment")
    settings = load()
    assert settings.anthropic_api_key == SecretStr("environment")
    assert settings.openrouter_api_key == SecretStr("dotenv")


def test_only_documented_names_are_read(secrets: Path) -> None:
    """A file with the name of a field, or of another program's variable, does nothing; nor do other files and folders."""
    (secrets / "host").write_text("0.0.0.0", encoding="utf-8")
    (secrets / "HOST").write_text("0.0.0.0", encoding="utf-8")
    (secrets / "notes").write_bytes(b"\xff")
    (secrets / "REDIS_URL").mkdir()
    (secrets / "CONDUCTOR_SECRETS_DIR").write_text("/elsewhere", encoding="utf-8")
    settings = load()
    assert settings.host == "127.0.0.1"
    assert settings.redis_url is None
    assert settings.secrets_dir == secrets


@pytest.mark.parametrize("blank", ["", "\n", "\r\n"])
def test_an_empty_file_is_not_set(secrets: Path, blank: str) -> None:
    """Compose mounts one list of files for everybody: an unused one is empty."""
    (secrets / "ANTHROPIC_API_KEY").write_text(blank, encoding="utf-8")
    assert load().anthropic_api_key is None


def test_what_cannot_be_read_is_a_sentence_without_the_value(secrets: Path) -> None:
    """Too long, not text, not possible, or no directory: the sentence names the place, never what stands there."""
    (secrets / "ANTHROPIC_API_KEY").write_bytes(b"\xff\xfesecret")
    with pytest.raises(ConfigurationError, match=r"ANTHROPIC_API_KEY is not text in UTF-8"):
        load()
    (secrets / "ANTHROPIC_API_KEY").write_bytes(b"k" * (MAX_BYTES + 1))
    with pytest.raises(ConfigurationError, match="more than 65536 bytes"):
        load()
    (secrets / "ANTHROPIC_API_KEY").unlink()
    (secrets / "DATABASE_URL").write_text("postgresql://c:half/password@db/x", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as found:
        load()
    assert "half" not in str(found.value)


def test_a_directory_that_is_missing_is_refused(secrets: Path) -> None:
    """Secrets that were not mounted are noticed at the start, not at the first model call."""
    secrets.rmdir()
    with pytest.raises(ConfigurationError, match=r"CONDUCTOR_SECRETS_DIR names .* no directory"):
        load()


def test_without_the_directory_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, no files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONDUCTOR_SECRETS_DIR", raising=False)
    assert Settings().secrets_dir is None
