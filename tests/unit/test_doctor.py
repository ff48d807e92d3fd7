"""The doctor's checks that need no server, and that one bad check does not hide the others."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conductor_ai.catalog_rows import RETIRED
from conductor_ai.doctor import Check, clock_check, effective, examine, migration_check
from conductor_ai.embedded.guard import start_of
from conductor_ai.embedded.runtime import Runtime, write_runtime
from conductor_ai.errors import ToolUnavailable
from conductor_ai.settings import Settings

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment nor a `.env` of the machine has a say here."""
    monkeypatch.chdir(tmp_path)
    for known in Settings.model_fields.values():
        monkeypatch.delenv(str(known.alias), raising=False)


def settings(folder: Path, **values: object) -> Settings:
    """Settings as they would be read, with these values set."""
    return Settings.model_validate({"data_dir": folder, **values})


def named(checks: Sequence[Check], name: str) -> Check:
    """The one check of that name."""
    (found,) = [check for check in checks if check.name == name]
    return found


async def test_without_anything_the_demo_model_and_the_embedded_stack_are_there(tmp_path: Path) -> None:
    """A fresh checkout has no fault: advice says how to get real answers and how to start."""
    checks = await examine(settings(tmp_path))
    assert all(check.ok for check in checks)
    assert "ANTHROPIC_API_KEY" in named(checks, "models").advice
    assert "conductor dev" in named(checks, "embedded stack").advice


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("no-such-model", "no such model"),
        (next(iter(RETIRED)), "retired"),
        ("openai:qwen", "no key"),
    ],
)
async def test_a_default_model_that_cannot_work_is_a_fault(tmp_path: Path, model: str, said: str) -> None:
    """Unknown, retired, or without a key: each is told before a session fails of it."""
    found = named(await examine(settings(tmp_path, default_model=model)), "models")
    assert not found.ok
    assert said in found.detail


async def test_an_endpoint_of_ones_own_needs_no_key(tmp_path: Path) -> None:
    """Ollama and vLLM mostly want none; only OpenRouter's own address does."""
    given = settings(tmp_path, default_model="openai:qwen", openai_base_url="http://127.0.0.1:11434/v1")
    assert named(await examine(given), "models").ok


@pytest.mark.parametrize(
    ("done", "ok", "said"),
    [
        (set(), False, "conductor migrate"),
        ({1}, False, "conductor migrate"),
        ({1, 2}, True, ""),
        ({1, 2, 3}, False, "newer version"),
    ],
)
def test_migrations_are_compared(done: set[int], ok: bool, said: str) -> None:
    """None, too few, all, and more than this program knows."""
    found = migration_check(done, {1, 2})
    assert found.ok is ok
    assert said in found.advice


@pytest.mark.parametrize(("offset", "ok"), [(0, True), (4, True), (-4, True), (60, False), (-60, False)])
def test_clocks_may_be_a_little_apart(offset: int, ok: bool) -> None:
    """A slow answer is no wrong clock: only what lies outside of the time of asking counts."""
    there = NOW + timedelta(seconds=offset)
    assert clock_check(NOW, there, NOW + timedelta(seconds=0.1)).ok is ok
    assert clock_check(NOW, NOW + timedelta(seconds=30), NOW + timedelta(seconds=60)).ok


async def test_one_bad_check_does_not_hide_the_others(tmp_path: Path) -> None:
    """An exception of any kind becomes a finding without its text, which may hold a secret."""

    async def away() -> Sequence[Check]:
        raise ToolUnavailable("Docker does not answer.")

    async def broken() -> Sequence[Check]:
        raise RuntimeError("postgresql://user:secret@host")

    async def fine() -> Sequence[Check]:
        return (Check("sandbox", True, "bubblewrap works."),)

    checks = await examine(settings(tmp_path), [("docker", away), ("target", broken), ("sandbox", fine)])
    assert named(checks, "docker") == Check("docker", False, "Docker does not answer.")
    assert not named(checks, "target").ok
    assert "secret" not in named(checks, "target").detail
    assert named(checks, "sandbox").ok


async def test_servers_that_are_away_are_told_each(tmp_path: Path) -> None:
    """Postgres, Temporal and Redis that nobody listens for: three faults, no secret, and within seconds."""
    urls = {"database_url": "postgresql://user:secret@127.0.0.1:9/x", "redis_url": "redis://:secret@127.0.0.1:9/0"}
    given = settings(tmp_path, temporal_address="127.0.0.1:9", **urls)
    checks = await examine(given)
    assert [named(checks, name).ok for name in ("postgres", "temporal", "redis")] == [False, False, False]
    assert not any("secret" in check.detail + check.advice for check in checks)


def test_the_running_dev_is_what_is_looked_at(tmp_path: Path) -> None:
    """Addresses that the settings do not name come from the running stack; those that they name stay."""
    note = Runtime(
        data_dir=tmp_path, supervisor_pid=os.getpid(), supervisor_start=start_of(os.getpid()) or 0, started_at=NOW,
        api_url="http://127.0.0.1:1", api_key_file=tmp_path / "key", temporal_address="127.0.0.1:7", temporal_ui_url=None,
        database_url="postgresql://dev", redis_url="redis://dev", sql_url="postgresql://shop", page_url="http://127.0.0.1:2/",
        log_dir=tmp_path, pids={},
    )  # fmt: skip
    before = settings(tmp_path)
    assert effective(before) == before
    write_runtime(note)
    after = effective(before)
    assert after.store_url == "postgresql://dev"
    assert after.temporal_address == "127.0.0.1:7"
    own = effective(settings(tmp_path, database_url="postgresql://own", temporal_address="127.0.0.1:8"))
    assert own.store_url == "postgresql://own"
    assert own.temporal_address == "127.0.0.1:8"
