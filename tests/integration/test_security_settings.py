"""What the settings, the logs and the files of a data directory give away or let in."""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conductor_ai.embedded.children import Account, unprivileged
from conductor_ai.embedded.dev import without_password
from conductor_ai.embedded.environment import Addresses, child_environment
from conductor_ai.embedded.guard import start_of
from conductor_ai.embedded.page import page_of_this_stack
from conductor_ai.embedded.places import home_for, noted
from conductor_ai.embedded.ports import listener
from conductor_ai.embedded.runtime import Runtime, read_runtime, write_runtime
from conductor_ai.errors import ConfigurationError
from conductor_ai.settings import Auth, Settings, load
from conductor_ai.telemetry import configure_logging, secrets_of

PASSWORD = "canary/p@ss#word"
QUOTED = "canary%2Fp%40ss%23word"
SECRETS = {
    "ANTHROPIC_API_KEY": "canary-anthropic",
    "OPENROUTER_API_KEY": "canary-openrouter",
    "CONDUCTOR_OPENAI_API_KEY": "canary-openai",
    "CONDUCTOR_API_KEY": "canary-api-key",
    "TEMPORAL_API_KEY": "canary-temporal",
    "SUPABASE_SERVICE_KEY": "canary-service",
    "SUPABASE_DB_URL": f"postgresql://u:{QUOTED}@127.0.0.1:1/supabase",
    "DATABASE_URL": f"postgresql://u:{QUOTED}@127.0.0.1:1/store",
    "REDIS_URL": f"redis://:{QUOTED}@127.0.0.1:2/0",
    "CONDUCTOR_SQL_URL": f"postgresql://u:{QUOTED}@127.0.0.1:1/target",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` and no settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.alias), raising=False)


def test_other_programs_variables_are_not_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell's HOST, a platform's PORT or somebody's API_KEY neither opens the API nor is sent to it; nor from `.env`."""
    plain = Settings(_env_file=None)
    (tmp_path / ".env").write_text("SANDBOX=off\nLOG_LEVEL=ERROR\nCONDUCTOR_PORT=77\n", encoding="utf-8")
    for name in Settings.model_fields:
        if name != "docker_host":  # DOCKER_HOST is its documented name.
            for spelling in {name, name.upper()} - {str(Settings.model_fields[name].alias)}:
                if spelling.upper() not in {str(field.alias) for field in Settings.model_fields.values()}:
                    monkeypatch.setenv(spelling, "0.0.0.0")
    found = load()
    assert found.port == 77
    assert found.model_copy(update={"port": plain.port}) == plain
    assert (plain.host, plain.auth, plain.api_key) == ("127.0.0.1", Auth.KEYS, None)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it always was: a variable counts more than the same line in `.env`; Python's own arguments more than both."""
    (tmp_path / ".env").write_text("CONDUCTOR_PORT=77\nCONDUCTOR_HOST=::1\n", encoding="utf-8")
    monkeypatch.setenv("CONDUCTOR_PORT", "78")
    found = load()
    assert (found.port, found.host, Settings(port=79).port) == (78, "::1", 79)


@pytest.mark.parametrize("variable", ["DATABASE_URL", "SUPABASE_DB_URL", "REDIS_URL", "CONDUCTOR_SQL_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:canary/x@h/db",
        "postgresql://u:canary#x@h/db",
        "postgresql://u:canary?x@h/db",
        "postgresql://u:12/canary@h/db",
        "postgresql://u:12?canary@h/db",
        "postgresql://u:can[ary@h/db",
        "u:canary@h/db",
        "canary",
    ],
)
def test_half_a_password_is_not_told(variable: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that was not percent-encoded: drivers would name the port `canary`. Here the variable is named alone."""
    monkeypatch.setenv(variable, url)
    with pytest.raises(ConfigurationError) as refused:
        load()
    assert variable in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%2F@h:5432/db?sslmode=disable",
        "postgresql:///db?host=/tmp&user=a@b",
        "postgresql://u:p@h1:1,h2:2/db",
        "postgresql://u:p@[::1]:5/db",
        "redis://:p@127.0.0.1:1/0",
        "unix:///run/redis.sock",
    ],
)
def test_ordinary_urls_are_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What drivers can read is a possible setting."""
    monkeypatch.setenv("DATABASE_URL", url)
    assert load().store_url == url


def test_no_setting_shows_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither printed, nor dumped, nor told with a mistake beside it."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    found = load()
    monkeypatch.setenv("CONDUCTOR_PORT", "canary-port")
    with pytest.raises(ConfigurationError) as wrong:
        load()
    for text in (repr(found), str(found), found.model_dump_json(), str(found.model_dump()), str(wrong.value)):
        assert "canary" not in text


def fail(text: str) -> None:
    """An exception of somebody else's, with a secret as argument and as local variable."""
    raise RuntimeError(text)


@pytest.mark.parametrize("as_json", [False, True])
def test_logs_have_no_secret_and_steer_no_terminal(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where somebody else repeats a key, in a message, an argument or a traceback; also as it stands in a URL."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    settings = load().model_copy(update={"log_level": "DEBUG", "log_json": as_json})
    root, before = logging.getLogger(), (list(logging.getLogger().handlers), logging.getLogger().level)
    levels = {name: logging.getLogger(name).level for name in ("anthropic", "httpcore2")}
    try:
        configure_logging(settings)
        log = logging.getLogger("tests.security")
        for value in (*SECRETS.values(), PASSWORD, QUOTED):
            log.warning("The endpoint says: %s is wrong\x1b[31m\x9b31m\u202e\r", value)
            try:
                fail(value)
            except RuntimeError:
                log.exception("It failed")
        logging.getLogger("anthropic").debug("Request options: canary")
        logging.getLogger("httpcore2.http11").debug("send_request_headers canary")
    finally:
        root.handlers[:], root.level = before
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    written = capsys.readouterr().err
    assert "[secret]" in written
    assert "Traceback" in written
    assert "canary" not in written
    assert not set("\x1b\x9b\u202e\r") & set(written)
    if as_json:
        assert all(isinstance(json.loads(line), dict) for line in written.splitlines())


def test_every_secret_of_the_settings_is_known_to_the_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is added to the settings is taken out of the logs without anybody thinking of it."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    known = secrets_of(load())
    assert {PASSWORD, QUOTED, *SECRETS.values()} <= set(known)
    secret = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    assert {str(Settings.model_fields[name].alias) for name in secret} == set(SECRETS)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:canary@h/db",
        "postgresql://u:ab@canary@h/db",
        "postgresql://h/db?user=u&password=canary",
        "redis://h:1/0?password=canary",
        "redis://:canary@h:1/0",
    ],
)
def test_the_summary_of_the_stack_hides_every_password(url: str) -> None:
    """Wherever drivers read one from: before the last @, or in the query."""
    assert "canary" not in without_password(url)


def test_the_dev_page_is_for_conductor_dev_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exception to the egress check is had by the child of a process that serves that very port, and by no setting."""
    with listener() as page:
        port = page.getsockname()[1]
        assert page_of_this_stack(f"127.0.0.1:{port}", os.getpid()) == f"127.0.0.1:{port}"
        for address, parent in (
            (f"127.0.0.1:{port}", os.getppid()),
            (f"127.0.0.1:{port}", 1),
            (f"127.0.0.1:{port - 1}", os.getpid()),
            (f"0.0.0.0:{port}", os.getpid()),
            (f"localhost:{port}", os.getpid()),
            ("127.0.0.1", os.getpid()),
            ("127.0.0.1:x", os.getpid()),
            ("", os.getpid()),
        ):
            with pytest.raises(ConfigurationError, match="CONDUCTOR_DEV_PAGE"):
                page_of_this_stack(address, parent)
    monkeypatch.setenv("CONDUCTOR_DEV_PAGE", "127.0.0.1:6379")
    monkeypatch.setenv("CONDUCTOR_HOST", "0.0.0.0")
    with pytest.raises(ConfigurationError, match="CONDUCTOR_DEV_PAGE"):
        load()


def test_a_dev_stack_that_others_reach_has_no_exception() -> None:
    """With the API on another address than loopback, worker and API are not told of the page, whatever was set before."""
    where = Addresses(
        "postgresql://x", "redis://x", "127.0.0.1:3", None, "postgresql://x", False, "127.0.0.1:5", "0.0.0.0", 6
    )
    given = {"CONDUCTOR_DEV_PAGE": "127.0.0.1:6379"}
    assert "CONDUCTOR_DEV_PAGE" not in child_environment(given, Settings(_env_file=None), where, data_dir="/data")


@pytest.mark.parametrize("there", ["/etc", "/tmp", "/tmp/other", "/tmp/conductor-x/..", "/", ""])
def test_a_note_that_was_planted_is_not_followed(there: str, tmp_path: Path) -> None:
    """A copied data directory cannot name a directory of the user's to be removed or given to another account."""
    note = tmp_path / "socket-elsewhere"
    note.write_text(there, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="did not make"):
        noted(note, Path("/tmp"), "conductor-")
    (tmp_path / "home-elsewhere").write_text(there, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="did not make"):
        home_for(tmp_path, unprivileged() or Account(os.getuid(), os.getgid()))


def test_a_planted_runtime_sends_no_other_file_as_a_key(tmp_path: Path) -> None:
    """The key is the data directory's own file, not another of the user's, directly or by a link."""
    secret = tmp_path / "token"
    secret.write_text("ghp_of_the_user\n", encoding="utf-8")
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    own = data_dir / "api-key"

    def planted(key: Path) -> Runtime | None:
        write_runtime(
            Runtime(
                data_dir=data_dir, supervisor_pid=os.getpid(), supervisor_start=start_of(os.getpid()) or 0,
                started_at=datetime.now(UTC), api_url="http://127.0.0.1:9", api_key_file=key, temporal_address="x",
                temporal_ui_url=None, database_url="x", redis_url="x", sql_url="x", page_url="x", log_dir=data_dir, pids={},
            )
        )  # fmt: skip
        return read_runtime(data_dir)

    assert planted(secret) is None
    own.symlink_to(secret)
    assert planted(own) is None
    own.unlink()
    own.write_text("ck_own\n", encoding="utf-8")
    found = planted(own)
    assert found is not None
    assert found.api_key_file == own
    for name in ("runtime.json",):
        assert (data_dir / name).stat().st_mode & 0o777 == 0o600


def test_children_import_nothing_from_where_one_stands() -> None:
    """`conductor dev` in a folder with a redis.py starts a worker with the package of that name."""
    from conductor_ai.wiring.dev import _dev_options

    options = _dev_options(Settings(_env_file=None), {}, 0, print)
    assert options.worker_command[:3] == options.api_command[:3] == (sys.executable, "-P", "-m")
