"""docker-compose.yml, started from nothing, used, broken and removed. The servers' images are stand-ins made of Debian's packages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures_compose import SERVICES, Stack, until, up

pytestmark = [pytest.mark.slow, pytest.mark.needs_docker, pytest.mark.needs_compose, pytest.mark.timeout(420)]

UPDATE = {"query": "UPDATE products SET stock = stock + 1 WHERE sku = $1", "params": ["COF-004"]}


def call(tool: str, **arguments: Any) -> str:
    """A directive of the demo model."""
    return f"demo: call {tool} {json.dumps(arguments)}"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests of this module."""
    yield from up(tmp_path_factory.mktemp("stack"))


@pytest.fixture
async def stack(started: Stack) -> Stack:
    """The stack, well, and with a key made as the how-to page says."""
    await started.wait_until_healthy(150)
    if not started.key:
        made = started.compose("exec", "-T", "api", "conductor", "keys", "create", "--name", "me", "--role", "admin")
        started.key = made.strip()
    return started


async def test_two_lines_after_the_start_a_session_has_run(stack: Stack) -> None:
    """The how-to page's own lines: a key, and a session by the command line inside of the API's container."""
    said = stack.compose(
        "exec", "-T", "-e", "CONDUCTOR_API_KEY", "api", "conductor", "run", "Hello.", CONDUCTOR_API_KEY=stack.key
    )
    assert "Completed (final_answer)" in said
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{stack.ui_port}/")).status_code == 200
        assert (await client.get(f"http://127.0.0.1:{stack.port}/v1/agents")).status_code == 401


async def test_code_sql_approve_and_cancel(stack: Stack) -> None:
    """Code runs by the one worker that reaches Docker, an approved write happens once, a cancelled session ends so."""
    before = stack.stock()
    session_id = await stack.run(
        call("code_run", code="print(6 * 7)", language="python"), call("sql_query", **UPDATE), "demo: say Done."
    )
    approval = await stack.pending(session_id)
    assert stack.stock() == before
    assert (await stack.decide(approval, "approve")).status_code == 200
    session = await stack.ended(session_id)
    assert session["status"] == "completed", session["error"]
    assert session["steps"][0]["observation"].strip() == "42"
    assert stack.stock() == before + 1

    waiting = await stack.run(call("sql_query", **UPDATE))
    await stack.pending(waiting)
    async with stack.client() as client:
        assert (await client.post(f"/v1/agents/{waiting}/cancel")).status_code in (200, 202)
    assert (await stack.ended(waiting))["status"] == "cancelled"
    assert stack.stock() == before + 1


async def test_nothing_is_lost_when_its_containers_die(stack: Stack) -> None:
    """SIGKILL for all workers, then API and Redis, then Postgres, then Temporal: each comes back, the waiting call still
    waits, what was decided happens once.
    """
    before = stack.stock()
    session_id = await stack.run(call("sql_query", **UPDATE), "demo: say Survived.")
    approval = await stack.pending(session_id)
    for together in (("worker", "sandbox-worker"), ("api", "redis"), ("postgres",), ("temporal",)):
        wanted = {service: stack.restarts(service) + SERVICES[service] for service in together}
        for service in together:
            assert stack.crash(service) == SERVICES[service]

        async def again(wanted: dict[str, int] = wanted) -> bool:
            return all(stack.restarts(service) >= count for service, count in wanted.items())

        await until(again, f"{together} to be started again", 30)
        await stack.wait_until_healthy()
        assert (await stack.get(session_id))["pending_approvals"][0]["id"] == approval["id"]
    assert (await stack.decide(approval, "approve")).status_code in (200, 202)
    session = await stack.ended(session_id)
    assert session["status"] == "completed", session["error"]
    assert session["final_answer"].endswith("Survived.")
    assert stack.stock() == before + 1


async def test_workers_are_replaced_without_a_gap(stack: Stack) -> None:
    """SIGTERM, as a deployment sends it, in the middle of a slow model call: the worker ends within its grace period and
    by itself, and the session goes on without a second attempt or with one, never with an error.
    """
    session_id = await stack.run("demo: slow 3", "demo: say Slow.")

    async def thinking() -> bool:
        return (await stack.get(session_id)).get("phase") == "thinking"

    await until(thinking, "the model to be called", 30)
    stack.compose("stop", "--timeout", "30", "worker")
    codes = [one["State"]["ExitCode"] for one in stack.containers("worker")]
    stack.compose("start", "worker")
    assert codes == [0, 0], "137 would be a kill after the grace period"
    assert (await stack.ended(session_id))["status"] == "completed"


async def test_what_runs_is_closed(stack: Stack) -> None:
    """As the engine has it: loopback alone, no root, read-only roots, no capabilities, limits, no secret in a variable."""
    secrets = {file.read_text(encoding="utf-8") for file in Path(stack.folder, "secrets").iterdir()} - {""}
    published, sockets = set(), set()
    for one in stack.containers():
        service, config, host = one["Config"]["Labels"]["com.docker.compose.service"], one["Config"], one["HostConfig"]
        published |= {
            (service, binding["HostIp"]) for found in (host["PortBindings"] or {}).values() for binding in found
        }
        sockets |= {service for mount in one["Mounts"] if mount["Destination"] == "/var/run/docker.sock"}
        assert config["User"] not in ("", "root", "0"), service
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["ReadonlyRootfs"] or service == "temporal"
        assert host["Memory"] > 0, service
        assert host["NanoCpus"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert not host["Privileged"], service
        shown = json.dumps(one)
        assert not [secret for secret in secrets if secret in shown], f"docker inspect shows a secret of {service}"
    assert published == {("api", "127.0.0.1"), ("temporal", "127.0.0.1")}
    assert sockets == {"sandbox-worker"}


async def test_only_the_services_that_need_a_secret_have_it(stack: Stack) -> None:
    """The API and the sandbox worker have no provider's key beyond what is documented; nobody but Postgres has its password."""
    found: dict[str, set[str]] = {}
    for one in stack.containers():
        mounts = {mount["Destination"] for mount in one["Mounts"] if mount["Destination"].startswith("/run/secrets/")}
        found[one["Config"]["Labels"]["com.docker.compose.service"]] = {Path(mount).name for mount in mounts}
    assert found["sandbox-worker"] == {"DATABASE_URL", "REDIS_URL"}
    assert found["api"] == {"DATABASE_URL", "REDIS_URL", "ANTHROPIC_API_KEY"}
    assert found["temporal"] == {"temporal_db_password"}
    assert found["redis"] == {"redis_password"}
    assert "CONDUCTOR_SQL_URL" in found["worker"]
    assert not any("postgres_password" in names for service, names in found.items() if service != "postgres")
