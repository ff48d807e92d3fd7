"""docker-compose.yml and the Dockerfile: valid for Compose, closed to the outside, and naming only settings that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conductor_ai.settings import Settings
from infra.docs.source import ROOT

PASSWORDS = ("postgres_password", "conductor_db_password", "temporal_db_password", "redis_password", "grafana_password")
KEYS = ("ANTHROPIC_API_KEY", "OPENROUTER_API_KEY", "CONDUCTOR_OPENAI_API_KEY", "CONDUCTOR_SQL_URL")
OURS = ("migrate", "api", "worker", "sandbox-worker")
THEIRS = ("postgres", "redis", "temporal", "temporal-ui")
OBSERVERS = ("otel-collector", "prometheus", "grafana")
"""In a profile of their own."""
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
    """`docker compose config` is content as it is; without the profile nothing of the observability is started."""
    found = config(tmp_path)
    assert found.returncode == 0, found.stderr
    assert all(re.search(rf"^  {name}:$", found.stdout, re.MULTILINE) for name in (*OURS, *THEIRS))


def test_passwords_are_made_once_and_for_all(tmp_path: Path) -> None:
    """The script makes 192 random bits for each password, never the same, and never touches a file that is there."""
    script = ["sh", str(ROOT / "infra/docker/prepare.sh")]
    for name in ("one", "two", "one"):
        subprocess.run([*script, str(tmp_path / name)], capture_output=True, text=True, check=True)
        if name == "one":
            (tmp_path / "one/ANTHROPIC_API_KEY").chmod(0o644)
            (tmp_path / "one/ANTHROPIC_API_KEY").write_text("mine", encoding="utf-8")
    files = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "one").iterdir()}
    others = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "two").iterdir()}
    assert set(files) == {*PASSWORDS, *KEYS, "DATABASE_URL", "REDIS_URL"}
    values = [found[name] for found in (files, others) for name in PASSWORDS]
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in values)
    assert len(set(values)) == 2 * len(PASSWORDS)
    assert files["ANTHROPIC_API_KEY"] == "mine", "the third run changed what a person had filled in"
    assert files["DATABASE_URL"] == f"postgresql://conductor:{files['conductor_db_password']}@postgres:5432/conductor"
    assert files["REDIS_URL"] == f"redis://:{files['redis_password']}@redis:6379/0"


def test_the_folder_is_closed_and_the_files_are_readable(tmp_path: Path) -> None:
    """Others get no further than the folder; a container's user, which is mounted a single file, can read that."""
    subprocess.run(["sh", str(ROOT / "infra/docker/prepare.sh"), str(tmp_path / "s")], check=True, capture_output=True)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "s").iterdir()} == {0o444}
    assert "/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_secrets_are_files_and_never_variables() -> None:
    """No password or key is interpolated or given by a variable: `docker inspect` would show it."""
    assert not re.search(r"\$\{[A-Z_]*(?:PASSWORD|API_KEY|SQL_URL|SECRET_KEY)", TEXT)
    assert not re.search(r"^ {4,}(?:DATABASE_URL|REDIS_URL|[A-Z_]*_API_KEY|POSTGRES_PASSWORD):", TEXT, re.MULTILINE)
    listed = set(re.findall(r'^  (\w+): \{file: "\$\{CONDUCTOR_SECRETS:-\./secrets\}/\1"\}$', TEXT, re.MULTILINE))
    assert listed == {*PASSWORDS, *KEYS, "DATABASE_URL", "REDIS_URL"}


def test_only_api_and_ui_are_published_and_on_loopback() -> None:
    """Two services have ports, Grafana a third if it runs, and each is bound to 127.0.0.1."""
    published = {name: re.findall(r"ports: (.+)", service(name)) for name in (*OURS, *THEIRS, *OBSERVERS)}
    assert {name for name, ports in published.items() if ports} == {"api", "temporal-ui", "grafana"}
    for ports in published.values():
        assert all(re.fullmatch(r'\["127\.0\.0\.1:\$\{\w+:-\d+\}:\d+"\]', port) for port in ports)
    assert "network_mode" not in TEXT
    assert "privileged: true" not in TEXT


@pytest.mark.parametrize("name", [*OURS, *THEIRS, *OBSERVERS])
def test_every_service_is_limited(name: str) -> None:
    """Memory, processor and processes have limits, capabilities are dropped, new privileges are refused."""
    lines = service(name) + (ANCHOR if name in OURS else "")
    for needed in ("mem_limit: ", "cpus: ", "pids_limit: ", "cap_drop: [ALL]", "no-new-privileges:true", "restart: "):
        assert needed in lines, needed
    assert ("profiles: [observability]" in lines) == (name in OBSERVERS)
    if name not in ("migrate", "otel-collector"):  # one ends, the other's image has nothing to ask with
        assert "    healthcheck:" in lines


def test_ours_and_the_stores_have_read_only_roots_and_no_root_user() -> None:
    """Only Temporal's two images, which write their configuration at the start, keep a writable root."""
    assert "read_only: true" in ANCHOR
    assert 'user: "10001:10001"' in ANCHOR
    for name in ("postgres", "redis", *OBSERVERS):
        assert "read_only: true" in service(name)
        assert "user: " in service(name)


def test_docker_is_for_the_sandbox_worker_alone() -> None:
    """Whoever holds Docker's socket holds the machine: one service has it, and no provider key."""
    assert [name for name in (*OURS, *THEIRS) if "docker.sock" in service(name)] == ["sandbox-worker"]
    assert "secrets: [DATABASE_URL, REDIS_URL]" in service("sandbox-worker")
    assert "CONDUCTOR_WORKER_QUEUES: sandbox" in service("sandbox-worker")
    assert "outside" not in service("sandbox-worker")


def test_only_settings_that_exist_are_set() -> None:
    """A variable of ours in the compose file is a setting, or one of the file's own."""
    known = {field.alias for field in Settings.model_fields.values()}
    known |= {"CONDUCTOR_PUBLISH_PORT", "CONDUCTOR_IMAGE", "CONDUCTOR_SECRETS", "CONDUCTOR_WORKERS"}
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
    assert re.findall(r"^FROM (.+)$", text, re.MULTILINE) == [
        "${BUILD_IMAGE} AS build", "${PYTHON_IMAGE} AS installed", "installed AS described", "installed"
    ]  # fmt: skip
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    assert 'ENTRYPOINT ["conductor"]' in text
