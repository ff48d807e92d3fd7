"""Secrets of every kind, planted in a whole stack, and looked for everywhere; and the stack's own doors."""

import asyncio
import json
import re
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import docker
import docker.errors
import httpx
import pytest
import redis.asyncio
from temporalio.client import Client, WorkflowHistory

from activities.sandbox.docker_labels import OWNER
from conductor_ai.embedded.temporal import HTTP_NAME
from conductor_ai.settings import Settings
from conductor_ai.testing import Reply
from conductor_ai.testing.fake_anthropic import FakeAnthropic
from conductor_ai.testing.fake_openai import FakeOpenAI
from conductor_ai.testing.script import Call, Failure
from infra.docs.routes_page import operations
from tests.fixtures_dev import Dev, dev_in, environment, reachable_folder
from tests.fixtures_servers import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

GIVEN_BY_THE_STACK = ("database_url", "redis_url", "sql_url")
"""`conductor dev` makes these itself, with passwords of its own, which are looked for as well."""
NOT_OF_A_STACK = ("supabase_db_url", "supabase_service_key")
"""Another name for `database_url`, and a key that is refused without it: tests of the settings have both."""
KEYS = {
    str(field.alias): f"canary-{name.replace('_', '-')}-0123456789"
    for name, field in Settings.model_fields.items()
    if "SecretStr" in str(field.annotation) and name not in (*GIVEN_BY_THE_STACK, *NOT_OF_A_STACK)
}
"""Every secret that there is a setting for."""
OF_CALLERS = {
    "Authorization": "Bearer ck_canary-in-authorization-0123456789",
    "X-API-Key": "ck_canary-in-x-api-key-0123456789abcdefgh",
    "Cookie": "session=canary-in-cookie-0123456789",
    "Proxy-Authorization": "Basic canary-in-proxy-authorization",
    "X-Forwarded-For": "canary-in-forwarded-for-0123456789",
    "User-Agent": "canary-in-user-agent-0123456789",
    "Referer": "http://canary-in-referer-0123456789/?token=canary-in-referer-0123456789",
    "Idempotency-Key": "canary-in-idempotency-key-0123456789",
    "If-None-Match": '"canary-in-if-none-match-0123456789"',
    "Last-Event-ID": "canary-in-last-event-id-0123456789",
    "X-Org-ID": "canary-in-org-id-0123456789",
    "X-Anything": "canary-in-any-header-0123456789",
    "query": "canary-in-a-query-0123456789",
    "body": "canary-in-a-body-0123456789",
    "path": "canary-in-a-path-0123456789",
}
"""What callers send by mistake: a secret in every header, in a query, in a body that is refused, in a path."""
LOOK_AROUND = """
import os, glob
print(dict(os.environ))
for name in glob.glob("/proc/*/environ") + glob.glob("/proc/*/cmdline"):
    try:
        print(open(name, "rb").read())
    except OSError as error:
        print(error)
for name in ("/etc/passwd", "/root", "/home", "/tmp", "/proc/net/tcp"):
    try:
        print(os.listdir(name) if os.path.isdir(name) else open(name).read())
    except OSError as error:
        print(error)
"""


@dataclass(frozen=True)
class Planted:
    """A stack at DEBUG with a canary for every secret, after sessions of every kind."""

    dev: Dev
    secrets: dict[str, str]
    sessions: dict[str, dict[str, Any]]
    output: Path
    begun: datetime

    def found_in(self, text: str) -> list[str]:
        """The names of the secrets that a text holds."""
        return [name for name, secret in self.secrets.items() if secret in text]


def call(tool: str, arguments: dict[str, Any]) -> str:
    """A directive of the demo model."""
    return f"demo: call {tool} {json.dumps(arguments)}"


@pytest.fixture(scope="module")
async def planted(dev: Dev, docker_settings: Settings) -> AsyncIterator[Planted]:
    """Sessions that succeed, fail, are refused by providers who repeat the key, run code, fetch and ask the database."""
    with reachable_folder() as folder:
        async with FakeAnthropic() as claude, FakeOpenAI() as budget:
            settings = {
                **KEYS,
                "ANTHROPIC_BASE_URL": claude.url,
                "CONDUCTOR_OPENAI_BASE_URL": budget.base_url,
                "CONDUCTOR_LOG_LEVEL": "DEBUG",
                # Without an engine that has them, code runs under bubblewrap.
                "CONDUCTOR_SANDBOX_IMAGE_PYTHON": docker_settings.sandbox_image_python,
                "CONDUCTOR_SANDBOX_IMAGE_NODE": docker_settings.sandbox_image_node,
            }
            begun = datetime.now(UTC)
            async with dev_in(folder / "data", **settings) as stack:
                secrets = KEYS | {name: value.split()[-1] for name, value in OF_CALLERS.items()}
                for name in GIVEN_BY_THE_STACK:
                    secrets[name] = str(urlsplit(getattr(stack.runtime, name)).password)
                secrets["api key"] = stack.runtime.api_key_file.read_text(encoding="utf-8").strip()
                assert all(len(secret) > 10 for secret in secrets.values())
                sessions = await _sessions(stack, claude, budget)
                await _intrude(stack)
                yield Planted(stack, secrets, sessions, folder / "data.log", begun)


async def _sessions(dev: Dev, claude: FakeAnthropic, budget: FakeOpenAI) -> dict[str, dict[str, Any]]:
    refusal = "Received API Key = {}, which is \x1b[31mwrong"
    claude.script.add(
        Reply(text="ok"),
        Failure(status=401, type="authentication_error", message=refusal.format(KEYS["ANTHROPIC_API_KEY"])),
    )
    deep = '{"url":' + "[" * 5000 + "]" * 5000 + "}"
    budget.script.add(
        Reply(calls=(Call(tool="web_fetch", cut=deep),)),
        Reply(text="ok"),
        Failure(status=401, type="authentication_error", message=refusal.format(KEYS["CONDUCTOR_OPENAI_API_KEY"])),
    )
    found = {}
    for name, model in (
        ("claude", "claude-sonnet-5-5"),
        ("claude refused", "claude-sonnet-5-5"),
        ("budget", "openai:m"),
        ("budget refused", "openai:m"),
    ):
        found[name] = await dev.ended(await dev.run("hello", model=model))
    found["code"] = await dev.ended(
        await dev.run(call("code_run", {"code": LOOK_AROUND, "language": "python"}), "demo: say ok")
    )
    found["sql"] = await _asked(dev, "SELECT current_setting('is_superuser'), * FROM pg_stat_activity")
    found["sql refused"] = await dev.ended(
        await dev.run(call("sql_query", {"query": "SELECT pg_read_file('/etc/passwd')"}), "demo: say ok")
    )
    inside = (
        f"http://127.0.0.1:{urlsplit(dev.runtime.api_url).port}/livez",
        "http://[::ffff:127.0.0.1]:80/",
        "http://127.0.0.1:8080/",
    )
    found["web"] = await dev.ended(
        await dev.run(
            call("web_fetch", {"url": dev.runtime.page_url}), *(call("web_fetch", {"url": url}) for url in inside)
        )
    )
    return found


async def _asked(dev: Dev, query: str) -> dict[str, Any]:
    session_id = await dev.run(call("sql_query", {"query": query}), "demo: say ok")
    session = await dev.until(session_id, lambda s: bool(s["pending_approvals"]) or s["phase"] == "done", "a decision")
    for approval in session["pending_approvals"]:
        await dev.decide(approval, "approve")
    return await dev.ended(session_id)


async def _routes(dev: Dev) -> list[tuple[str, str]]:
    """Method and path of every route."""
    return [(method, path) for method, path, _ in operations((await dev.http.get("/openapi.json")).json())]


def _real(path: str, session: dict[str, Any]) -> str:
    """A path with ids that exist, where this session has them."""
    names = {"session_id": session["session_id"], "tool_name": "web_fetch", "name": "web_fetch", "model_id": "demo"}
    return re.sub(r"{(\w+)(:path)?}", lambda match: names.get(match[1], "none"), path)


async def _intrude(dev: Dev) -> None:
    """Every route, with a secret in every header and place; without a key, and with a right one beside all the rest."""
    right = {"Authorization": dev.http.headers["Authorization"]}
    odd = {name: value for name, value in OF_CALLERS.items() if name[0].isupper()}
    async with httpx.AsyncClient(base_url=dev.runtime.api_url, trust_env=False, timeout=20) as http:
        for method, path in await _routes(dev):
            place = re.sub(r"{[^}]*}", OF_CALLERS["path"], path)
            for headers in (odd, {k: v for k, v in odd.items() if k not in ("X-API-Key", "Authorization")} | right):
                for query, body in (("", None), (OF_CALLERS["query"], OF_CALLERS["body"])):
                    answer = await http.request(
                        method,
                        place,
                        headers=headers,
                        params={"token": query} if query else None,
                        json=None
                        if body is None or method == "GET"
                        else {"messages": body, body: body, "decision": body},
                    )
                    assert answer.status_code < 500, (method, path, answer.text)
                    told = [
                        name
                        for name, value in OF_CALLERS.items()
                        if value.split()[-1] in answer.text + str(answer.headers)
                    ]
                    assert told == [], (method, path, answer.text)


async def test_the_sessions_went_as_they_should(planted: Planted) -> None:
    """So that what follows is looked for in the right places."""
    assert {name: session["status"] for name, session in planted.sessions.items()} == {
        "claude": "completed",
        "claude refused": "failed",
        "budget": "completed",
        "budget refused": "failed",
        "code": "completed",
        "sql": "completed",
        "sql refused": "completed",
        "web": "completed",
    }
    budget = planted.sessions["budget"]["steps"]
    assert budget[0]["actions"][0]["error"]["code"] == "invalid_arguments", "told to the model, and paid for once"


async def test_no_secret_in_any_history(planted: Planted) -> None:
    """Every event of every workflow, its payloads decoded, and what the UI is shown of it."""
    client = await Client.connect(planted.dev.runtime.temporal_address)
    for name, session in planted.sessions.items():
        history: WorkflowHistory = await client.get_workflow_handle(session["session_id"]).fetch_history()
        text = history.to_json() + "".join(
            payload.data.decode("utf-8", "replace") for event in history.events for payload in _payloads(event)
        )
        assert planted.found_in(text) == [], name
        assert "Received API Key" not in text, name


def _payloads(message: Any) -> list[Any]:
    found: list[Any] = []
    for field, value in message.ListFields():
        items = list(value.values()) if hasattr(value, "values") else value if field.is_repeated else [value]
        for item in items:
            if hasattr(item, "ListFields"):
                found += [item] if item.DESCRIPTOR.name == "Payload" else _payloads(item)
    return found


async def test_no_secret_in_the_stores(planted: Planted) -> None:
    """Every row of the store, the tools' own database, and everything in Redis."""
    connection = await asyncpg.connect(planted.dev.runtime.database_url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'conductor'")
        assert len(tables) > 8
        for table in tables:
            rows = await connection.fetch(f'SELECT to_jsonb(t)::text FROM conductor."{table["tablename"]}" t')
            found = planted.found_in("\n".join(row[0] for row in rows))
            # A caller's own name for a request is what is kept of it, and no secret.
            allowed = ["Idempotency-Key"] if table["tablename"] == "idempotency" else []
            assert [name for name in found if name not in allowed] == [], table["tablename"]
    finally:
        await connection.close()
    async with redis.asyncio.Redis.from_url(planted.dev.runtime.redis_url) as copies:
        keys = [key async for key in copies.scan_iter()]
        assert keys
        for key in keys:
            assert planted.found_in(repr(key) + repr(await copies.dump(key))) == []
            assert await copies.ttl(key) > 0


async def test_no_secret_in_the_logs(planted: Planted) -> None:
    """At DEBUG, although providers repeated the keys; and nothing in them steers the terminal of whoever reads along."""
    for log in (*planted.dev.runtime.log_dir.iterdir(), planted.output):
        text = log.read_text(encoding="utf-8", errors="replace")
        assert planted.found_in(text) == [], log.name
        assert "\x1b" not in text, log.name
    worker = (planted.dev.runtime.log_dir / "worker.log").read_text(encoding="utf-8")
    assert "Received API Key = [secret]" in worker
    assert "Request options" not in worker


async def test_no_secret_in_answers_and_arguments(planted: Planted) -> None:
    """Sessions, errors, health and documentation; the command line of every process of this machine."""
    dev = planted.dev
    for session in planted.sessions.values():
        assert planted.found_in(json.dumps(session)) == []
    for path in ("/health", "/readyz", "/v1/tools", "/v1/models", "/openapi.json", "/docs", "/nowhere"):
        assert planted.found_in((await dev.http.get(path)).text) == []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                arguments = (process / "cmdline").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            assert planted.found_in(arguments) == [], arguments


async def test_no_secret_on_any_route(planted: Planted) -> None:
    """Every route that reads, of every session, what was streamed of it too."""
    reads = [path for method, path in await _routes(planted.dev) if method == "GET"]
    assert "/v1/agents/{session_id}/explain" in reads
    for session in planted.sessions.values():
        for path in reads:
            async with planted.dev.http.stream("GET", _real(path, session)) as answer:
                text = (await asyncio.wait_for(answer.aread(), 20)).decode()
            assert answer.status_code < 500, (path, text)
            assert planted.found_in(text + str(answer.headers)) == [], path


@pytest.mark.needs_docker
async def test_no_secret_in_docker(planted: Planted, docker_engine: docker.APIClient) -> None:
    """The containers of this stack, waiting and at work, their images, and what became of those that are gone, as Docker
    tells it. A secret that is there is found."""
    dev = planted.dev
    sleeps = {"code": "import time; time.sleep(60)", "language": "python", "timeout": 60}
    session_id = await dev.run(call("code_run", sleeps))

    async def described() -> dict[str, dict[str, Any]]:
        """`docker inspect` of this stack's containers, by name."""
        found = {}
        for item in docker_engine.containers(all=True, filters={"label": OWNER}):
            if f"|{dev.runtime.pids['worker']}|" in item["Labels"][OWNER]:
                with suppress(docker.errors.NotFound):  # its time was over, and another one takes its place
                    container = docker_engine.inspect_container(item["Id"])
                    found[str(container["Name"])] = container
        return found

    async def both_kinds() -> bool:
        names = await described()
        return any(session_id in name for name in names) and any("conductor.ready." in name for name in names)

    await wait_until(both_kinds, "a container at work and one that waits", 30)
    containers = await described()
    images = [
        (docker_engine.inspect_image(image), docker_engine.history(image))
        for image in {container["Image"] for container in containers.values()}
    ]
    past = list(docker_engine.events(since=planted.begun, until=datetime.now(UTC), decode=True))
    ended = [event for event in past if event["Action"] == "destroy"]
    assert any(
        planted.sessions["code"]["session_id"] in event["Actor"]["Attributes"].get("name", "") for event in ended
    )
    for told in (containers, images, past):
        assert planted.found_in(json.dumps(told)) == []

    leaky = docker_engine.create_container(images[0][0]["Id"], ["true"], environment=KEYS)
    try:
        found = planted.found_in(json.dumps(docker_engine.inspect_container(leaky["Id"])))
    finally:
        docker_engine.remove_container(leaky["Id"])
    assert set(found) == set(KEYS)
    await dev.http.post(f"/v1/agents/{session_id}/cancel")
    await dev.ended(session_id)


async def test_no_secret_reaches_the_models_code(planted: Planted) -> None:
    """Its environment, its processes and its files hold nothing of the worker's."""
    seen = planted.sessions["code"]["steps"][0]["observation"]
    assert "PATH" in seen
    assert planted.found_in(seen) == []
    for word in ("CONDUCTOR", "DATABASE_URL", "canary", str(planted.dev.data_dir), "api-key"):
        assert word not in seen


async def test_secrets_stay_with_the_servers_they_are_for(planted: Planted) -> None:
    """Temporal, Redis, Postgres, the page and the guard are started without the user's environment."""
    for name, pid in planted.dev.runtime.pids.items():
        if name in ("worker", "api", "supervisor"):
            continue
        try:
            environ = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8", errors="replace")
        except PermissionError:
            continue
        assert [key for key in KEYS if key in environ] == [], name


async def test_files_are_for_their_owner(planted: Planted) -> None:
    """No other user reads or changes anything of the data directory: each way to a file ends at a closed door."""
    root = planted.dev.data_dir

    def open_to_others(path: Path) -> list[str]:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            wrong = [str(path)] if mode & 0o066 else []
            return (
                wrong if not mode & 0o001 else wrong + [bad for item in path.iterdir() for bad in open_to_others(item)]
            )
        return [str(path)] if mode & 0o066 else []

    assert open_to_others(root) == []
    for name in ("runtime.json", "api-key"):
        assert (root / name).stat().st_mode & 0o777 == 0o600


async def test_only_the_page_is_excepted(planted: Planted) -> None:
    """Of this machine web_fetch reaches the demo page, and neither the API nor the page by another name or port."""
    page, *others = (step["actions"][0] for step in planted.sessions["web"]["steps"] if step["actions"])
    assert page["status"] == "succeeded"
    assert [(other["status"], other["error"]["code"]) for other in others] == [
        ("failed", "not_allowed"),
        ("failed", "unreachable"),
        ("failed", "unreachable"),
    ]


async def test_a_worker_with_a_page_of_its_own_choice_does_not_start(planted: Planted) -> None:
    """CONDUCTOR_DEV_PAGE from anybody but a running `conductor dev` ends a worker with a sentence."""
    runtime = planted.dev.runtime
    given = {
        **environment(),
        "DATABASE_URL": runtime.database_url,
        "REDIS_URL": runtime.redis_url,
        "TEMPORAL_ADDRESS": runtime.temporal_address,
        "CONDUCTOR_TASK_QUEUE": "elsewhere",
        "CONDUCTOR_DEV_PAGE": f"127.0.0.1:{urlsplit(runtime.redis_url).port}",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "conductor_ai.cli", "worker", env=given, cwd=planted.dev.data_dir,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode != 0
    assert "CONDUCTOR_DEV_PAGE is set, but not by a running `conductor dev`" in output.decode()
    assert planted.found_in(output.decode()) == []


async def test_a_web_page_cannot_signal_temporal(planted: Planted) -> None:
    """Its HTTP API answers no browser, whatever host is named; its UI wants a token for all that changes something."""
    dev = planted.dev
    arguments = Path(f"/proc/{dev.runtime.pids['temporal']}/cmdline").read_text(encoding="utf-8").split("\0")
    port = arguments[arguments.index("--http-port") + 1]
    session_id = await dev.run(call("sql_query", {"query": "SELECT 1"}), "demo: say ok")
    approval = await dev.pending(session_id)
    decision = {"call_id": approval["call_id"], "decision": "approve", "arguments_sha256": approval["arguments_sha256"]}
    path = f"/api/v1/namespaces/default/workflows/{session_id}/signal/decide"
    body = json.dumps({"input": [decision]})
    async with httpx.AsyncClient(trust_env=False) as browser:
        for base in (f"http://127.0.0.1:{port}", str(dev.runtime.temporal_ui_url)):
            for host in ("evil.example", "127.0.0.1", f"127.0.0.1:{port}", "localhost"):
                headers = {"Host": host, "Origin": "http://evil.example", "Content-Type": "text/plain"}
                answer = await browser.post(base + path, content=body, headers=headers)
                assert answer.status_code in (400, 403), (base, host, answer.text)
        own = await browser.get(f"http://127.0.0.1:{port}/api/v1/namespaces/default", headers={"Host": HTTP_NAME})
        assert own.status_code == 200, "so that it is the name that was refused"
    assert (await dev.get(session_id))["phase"] == "awaiting_approval"
    await dev.decide(approval, "deny")
    await dev.ended(session_id)


async def test_the_servers_want_their_passwords(planted: Planted) -> None:
    """Postgres and Redis of the stack let nobody in without, or as another user; the tool's login stays out of the store."""
    runtime = planted.dev.runtime
    store = urlsplit(runtime.database_url)
    tool = urlsplit(runtime.sql_url)
    for login, database in (
        ("conductor", "conductor"), ("conductor:wrong", "conductor"), ("postgres", "postgres"), ("shop_agent", "shop"),
        (f"{tool.username}:{tool.password}", "conductor"), (f"{tool.username}:{tool.password}", "postgres"),
    ):  # fmt: skip
        with pytest.raises(asyncpg.PostgresError):
            await asyncpg.connect(
                f"postgresql://{login}@127.0.0.1:{store.port}/{database}?sslmode=disable",
                passfile="/nonexistent/pgpass",
            )
    place = urlsplit(runtime.redis_url)
    for password in (None, "wrong"):
        client = redis.asyncio.Redis(host="127.0.0.1", port=place.port or 0, password=password)
        with pytest.raises(redis.asyncio.RedisError):
            await client.get("x")
        await client.aclose()
