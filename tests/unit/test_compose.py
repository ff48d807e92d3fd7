"""docker-compose.yml and the Dockerfile: valid for Compose, closed to the outside, and naming only settings that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conductor_ai.settings import Settings
from infra.docs.source import ROOT

PASSWORDS = ("POSTGRES_PASSWORD", "CONDUCTOR_DB_PASSWORD", "TEMPORAL_DB_PASSWORD", "REDIS_PASSWORD")
OURS = ("migrate", "api", "worker", "sandbox-worker")
THEIRS = ("postgres", "redis", "temporal", "temporal-ui")
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
ANCHOR = TEXT.partition("x-conductor:")[2].partition("\nx-")[0]
"""What all processes of Conductor have in common."""


def service(name: str) -> str:
    """The lines of one service."""
    found = re.search(rf"^  {name}:\n((?:    .*\n|\n)+)", TEXT, re.MULTILINE)
    assert found is not None, name
    return found[1]


def compose() -> list[str] | None:
    """The Compose that is installed: Docker's plugin or the program."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    return None


def config(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What Compose makes of the file, without this machine's own .env."""
    command = compose()
    if command is None:
        pytest.skip("Docker Compose is not installed")
    empty = folder / "env"
    empty.touch()
    return subprocess.run(
        [*command, "--env-file", str(empty), "--file", str(ROOT / "docker-compose.yml"), "config"],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.needs_compose
def test_compose_accepts_the_file(tmp_path: Path) -> None:
    """`docker compose config` is content once there are passwords, and hands them to the services."""
    found = config(tmp_path, **dict.fromkeys(PASSWORDS, "not-a-word-of-ours"))
    assert found.returncode == 0, found.stderr
    assert "postgresql://conductor:not-a-word-of-ours@postgres:5432/conductor" in found.stdout
    assert all(re.search(rf"^  {name}:$", found.stdout, re.MULTILINE) for name in (*OURS, *THEIRS))


@pytest.mark.needs_compose
@pytest.mark.parametrize("missing", PASSWORDS)
def test_nothing_starts_without_its_passwords(tmp_path: Path, missing: str) -> None:
    """There is no default password: Compose refuses, and says what to run."""
    found = config(tmp_path, **{name: "secret" for name in PASSWORDS if name != missing})
    assert found.returncode != 0
    assert "infra/docker/passwords.sh" in found.stderr


def test_passwords_are_made_for_all() -> None:
    """The script prints 192 random bits for each password, in hexadecimal, and never the same."""
    script = ["sh", str(ROOT / "infra/docker/passwords.sh")]
    lines = [subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines() for _ in range(2)]
    assert tuple(line.partition("=")[0] for line in lines[0]) == PASSWORDS
    values = [line.partition("=")[2] for line in (*lines[0], *lines[1])]
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in values)
    assert len(set(values)) == 8


def test_only_api_and_ui_are_published_and_on_loopback() -> None:
    """Two services have ports, and each is bound to 127.0.0.1."""
    published = {name: re.findall(r"ports: (.+)", service(name)) for name in (*OURS, *THEIRS)}
    assert {name for name, ports in published.items() if ports} == {"api", "temporal-ui"}
    for ports in published.values():
        assert all(re.fullmatch(r'\["127\.0\.0\.1:\$\{\w+:-\d+\}:8080"\]', port) for port in ports)
    assert "network_mode" not in TEXT
    assert "privileged: true" not in TEXT


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_every_service_is_limited(name: str) -> None:
    """Memory, processor and processes have limits, capabilities are dropped, new privileges are refused."""
    lines = service(name) + (ANCHOR if name in OURS else "")
    for needed in ("mem_limit: ", "cpus: ", "pids_limit: ", "cap_drop: [ALL]", "no-new-privileges:true", "restart: "):
        assert needed in lines, needed
    if name != "migrate":
        assert "    healthcheck:" in lines


def test_ours_and_the_stores_have_read_only_roots_and_no_root_user() -> None:
    """Only Temporal's two images, which write their configuration at the start, keep a writable root."""
    assert "read_only: true" in ANCHOR
    assert 'user: "10001:10001"' in ANCHOR
    for name in ("postgres", "redis"):
        assert "read_only: true" in service(name)
        assert "user: " in service(name)


def test_docker_is_for_the_sandbox_worker_alone() -> None:
    """Whoever holds Docker's socket holds the machine: one service has it, and no provider key."""
    assert [name for name in (*OURS, *THEIRS) if "docker.sock" in service(name)] == ["sandbox-worker"]
    assert 'ANTHROPIC_API_KEY: ""' in service("sandbox-worker")
    assert "CONDUCTOR_WORKER_QUEUES: sandbox" in service("sandbox-worker")
    assert "outside" not in service("sandbox-worker")


def test_only_settings_that_exist_are_set() -> None:
    """A variable of ours in the compose file is a setting, a password of the file's own, or a port."""
    known = {field.alias for field in Settings.model_fields.values()} | {*PASSWORDS, "CONDUCTOR_PUBLISH_PORT"}
    used = set(re.findall(r"\b(?:CONDUCTOR|SUPABASE)_[A-Z_]+|\b(?:DATABASE|REDIS)_URL\b", TEXT))
    assert used - known == set()


def test_settings_of_compose_alone_are_in_the_example() -> None:
    """What is interpolated and no setting of Conductor stands in .env.example too."""
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    assert {name for name in used if f"#{name}=" not in example} == set()


def test_the_image_is_pinned_and_runs_as_nobody_in_particular() -> None:
    """The Dockerfile installs by hashes, in a stage of its own, and ends with a user that is not root."""
    text = (ROOT / "infra/docker/Dockerfile").read_text(encoding="utf-8")
    assert "--require-hashes -r requirements.txt" in text
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    assert 'ENTRYPOINT ["conductor"]' in text
