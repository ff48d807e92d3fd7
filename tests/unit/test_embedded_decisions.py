"""The decisions of the one-command stack that need no server."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conductor_ai.embedded.children import Account, log_tail
from conductor_ai.embedded.dev import summary, without_password
from conductor_ai.embedded.environment import Addresses, child_environment, given_store, given_temporal
from conductor_ai.embedded.fake_redis import first_command, opens
from conductor_ai.embedded.guard import start_of
from conductor_ai.embedded.places import may_enter, private_dir
from conductor_ai.embedded.ports import free_ports, is_free, listener, listens_in_session
from conductor_ai.embedded.redis import find_server
from conductor_ai.embedded.restarts import describe_exit, next_quick, restart_delay
from conductor_ai.embedded.runtime import Runtime, read_runtime, write_runtime
from conductor_ai.settings import Settings

ADDRESSES = Addresses(
    database_url="postgresql://conductor:secret@127.0.0.1:1/conductor",
    redis_url="redis://:secret@127.0.0.1:2/0",
    temporal_address="127.0.0.1:3",
    temporal_ui_url="http://127.0.0.1:4",
    sql_url="postgresql://shop_login:secret@127.0.0.1:1/shop",
    sql_is_shop=True,
    page="127.0.0.1:5",
    api_host="127.0.0.1",
    api_port=6,
)


def settings(**values: object) -> Settings:
    """Settings of exactly these values: neither `.env` nor the environment of the test run counts."""
    return Settings.model_construct(_fields_set=set(values), **{**Settings.model_construct().__dict__, **values})


def runtime(data_dir: Path, pid: int, start: int) -> Runtime:
    """A runtime whose supervisor is the given process."""
    return Runtime(
        data_dir=data_dir,
        supervisor_pid=pid,
        supervisor_start=start,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        api_url="http://127.0.0.1:6",
        api_key_file=data_dir / "api-key",
        temporal_address=ADDRESSES.temporal_address,
        temporal_ui_url=None,
        database_url=ADDRESSES.database_url,
        redis_url=ADDRESSES.redis_url,
        sql_url=ADDRESSES.sql_url,
        page_url="http://127.0.0.1:5/",
        log_dir=data_dir / "logs",
        pids={"supervisor": pid},
    )


def test_a_child_that_had_lived_comes_back_within_a_second() -> None:
    """One death after a long life waits a tenth of a second; so do the next ones, if each lived long enough."""
    assert next_quick(7, lived=60) == 0
    assert restart_delay(0) == pytest.approx(0.1)
    assert restart_delay(next_quick(0, lived=0.1)) < 1


def test_a_child_that_cannot_live_is_tried_less_and_less() -> None:
    """The delay doubles with each quick death in a row and stops growing at ten seconds."""
    delays = [restart_delay(quick) for quick in range(12)]
    assert delays == sorted(delays)
    assert delays[-1] == 10
    assert restart_delay(10_000) == 10


def test_exit_codes_are_told_apart() -> None:
    """A signal and an exit code read differently."""
    assert describe_exit(-9) == "was killed by signal 9"
    assert describe_exit(3) == "ended with code 3"


@pytest.mark.parametrize(
    ("mode", "owner", "group", "expected"),
    [
        (0o700, 0, 0, False),
        (0o711, 0, 0, True),
        (0o710, 0, 65534, True),
        (0o710, 0, 0, False),
        (0o700, 65534, 0, True),
        (0o077, 65534, 0, False),
        (0o705, 0, 65534, False),
        (0o744, 0, 0, False),
    ],
)
def test_who_may_pass_a_directory(mode: int, owner: int, group: int, expected: bool) -> None:
    """The first class that fits decides, as in the kernel: owner, then group, then others."""
    assert may_enter(mode, owner, group, Account(65534, 65534)) is expected


def test_worker_and_api_learn_every_address() -> None:
    """The user's environment goes through, and the stack's addresses win over what it held."""
    environ = child_environment(
        {"ANTHROPIC_API_KEY": "k", "REDIS_URL": ""}, settings(), ADDRESSES, data_dir="/data"
    )  # fmt: skip
    assert environ["ANTHROPIC_API_KEY"] == "k"
    assert environ["REDIS_URL"] == ADDRESSES.redis_url
    assert environ["CONDUCTOR_DEV_PAGE"] == "127.0.0.1:5"
    assert environ["CONDUCTOR_SQL_ROLE"] == "shop_agent"
    assert environ["CONDUCTOR_PORT"] == "6"
    assert environ["CONDUCTOR_TEMPORAL_UI_URL"] == "http://127.0.0.1:4"


def test_a_cloud_key_is_not_sent_to_the_embedded_temporal() -> None:
    """TEMPORAL_API_KEY and its kin belong to another server; with that server's address they stay."""
    environ = {"TEMPORAL_API_KEY": "k", "TEMPORAL_TLS": "true"}
    own = child_environment(environ, settings(), ADDRESSES, data_dir="/data")
    assert "TEMPORAL_API_KEY" not in own
    assert own["TEMPORAL_CONFIG_FILE"] == "/dev/null"
    theirs = child_environment(environ, settings(temporal_address="cloud:7233"), ADDRESSES, data_dir="/data")
    assert theirs["TEMPORAL_API_KEY"] == "k"
    assert "TEMPORAL_CONFIG_FILE" not in theirs


def test_the_role_of_the_shop_is_not_forced_on_another_database() -> None:
    """With a CONDUCTOR_SQL_URL of the user's own, so is the role."""
    addresses = Addresses(**{**ADDRESSES.__dict__, "sql_is_shop": False})
    assert "CONDUCTOR_SQL_ROLE" not in child_environment({}, settings(), addresses, data_dir="/data")


def test_only_what_the_user_set_replaces_a_part() -> None:
    """The default of TEMPORAL_ADDRESS is nobody's wish."""
    assert given_temporal(settings()) is None
    assert given_temporal(settings(temporal_address="127.0.0.1:7233")) == "127.0.0.1:7233"
    assert given_store(settings()) is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", None),
        (b"*2\r\n$4\r\nAUTH\r\n$3\r\nab", None),
        (b"*2\r\n$4\r\nAUTH\r\n$3\r\nabc\r\n", [b"AUTH", b"abc"]),
        (b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n", [b"PING"]),
    ],
)
def test_the_first_command_is_read_whole_or_not_at_all(data: bytes, words: list[bytes] | None) -> None:
    """A command that has not arrived completely is waited for."""
    assert first_command(data) == words


@pytest.mark.parametrize("data", [b"PING\r\n", b"*1\r\n:4\r\n", b"*x\r\n"])
def test_what_is_no_command_is_refused(data: bytes) -> None:
    """Inline commands and other types cannot carry the password."""
    with pytest.raises(ValueError):
        first_command(data)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([b"AUTH", b"pw"], True),
        ([b"auth", b"default", b"pw"], True),
        ([b"HELLO", b"3", b"AUTH", b"default", b"pw"], True),
        ([b"HELLO", b"3"], False),
        ([b"HELLO", b"3", b"AUTH", b"pw"], False),
        ([b"AUTH", b"p"], False),
        ([b"AUTH"], False),
        ([b"GET", b"pw"], False),
        ([], False),
    ],
)
def test_only_the_password_opens_a_connection(words: list[bytes], expected: bool) -> None:
    """AUTH in both forms and HELLO with AUTH count, nothing else."""
    assert opens(words, b"pw") is expected


def test_passwords_are_not_shown() -> None:
    """URLs for people have the password replaced; those without one stay."""
    assert without_password("postgresql://a:b@127.0.0.1:1/c") == "postgresql://a:***@127.0.0.1:1/c"
    assert without_password("redis://:b@127.0.0.1:1/0") == "redis://:***@127.0.0.1:1/0"
    assert without_password("redis://127.0.0.1:1/0") == "redis://127.0.0.1:1/0"


def test_the_summary_holds_no_secret(tmp_path: Path) -> None:
    """Every address is named and no password is."""
    text = "\n".join(summary(runtime(tmp_path, 1, 1)))
    assert "secret" not in text
    assert "http://127.0.0.1:6" in text


def test_a_runtime_counts_only_while_its_supervisor_lives(tmp_path: Path) -> None:
    """A process of the same number that started at another time is another process."""

    assert read_runtime(tmp_path) is None
    start = start_of(os.getpid())
    assert start is not None
    write_runtime(runtime(tmp_path, os.getpid(), start))
    assert (tmp_path / "runtime.json").stat().st_mode & 0o777 == 0o600
    assert read_runtime(tmp_path) == runtime(tmp_path, os.getpid(), start)
    write_runtime(runtime(tmp_path, os.getpid(), start + 1))
    assert read_runtime(tmp_path) is None


def test_ports_are_different_and_their_owner_is_known() -> None:
    """A listening socket makes its port busy, and is found in the session that holds it and in no other."""

    assert len(set(free_ports(20))) == 20
    with listener() as ours:
        port = ours.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        assert listens_in_session(port, os.getsid(0))
        assert not listens_in_session(port, 1)
    assert is_free("127.0.0.1", port)
    assert not listens_in_session(port, os.getsid(0))


def test_a_redis_is_looked_for_on_the_callers_path(tmp_path: Path) -> None:
    """valkey-server is as good; nothing on PATH is nothing."""
    assert find_server({"PATH": str(tmp_path)}) is None
    (tmp_path / "valkey-server").write_text("#!/bin/sh\n")
    (tmp_path / "valkey-server").chmod(0o755)
    assert find_server({"PATH": str(tmp_path)}) == tmp_path / "valkey-server"


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    """The last lines; nothing for a log that is not there."""
    log = private_dir(tmp_path / "logs") / "x.log"
    assert log_tail(log) == ""
    log.write_text("\n".join(str(n) for n in range(9)))
    assert log_tail(log, lines=2) == "7\n8"
