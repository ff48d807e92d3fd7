"""The supervisor as a process of its own, with a worker and an API of a few lines."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from conductor_ai.embedded.children import Account
from conductor_ai.embedded.dev import stack
from conductor_ai.embedded.guard import start_of
from conductor_ai.embedded.options import DevOptions
from conductor_ai.embedded.places import reachable
from conductor_ai.embedded.ports import free_port, http_get, is_free, listener
from conductor_ai.embedded.runtime import Runtime, read_runtime
from conductor_ai.errors import ConfigurationError
from conductor_ai.settings import Settings
from tests.fixtures_servers import wait_until

ROOT = Path(__file__).parents[2]

API = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(os.environ)).encode())
http.server.ThreadingHTTPServer((os.environ["CONDUCTOR_HOST"], int(os.environ["CONDUCTOR_PORT"])), Handler).serve_forever()
"""

WORKER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
time.sleep(600)
"""

DEV = """
import asyncio, os, sys
from conductor_ai.embedded.dev import run_dev
from conductor_ai.embedded.options import DevOptions
from conductor_ai.settings import Settings
async def migrate(url):
    print("migrate", flush=True)
async def ensure_key(url, known):
    return known or "a-key"
options = DevOptions(
    settings=Settings(_env_file=None), environ=dict(os.environ), migrate=migrate, ensure_key=ensure_key,
    worker_command=(sys.executable, "-c", sys.argv[1]), api_command=(sys.executable, "-c", sys.argv[2]),
    echo=lambda line: print(line, flush=True), worker_grace=5,
)
sys.exit(asyncio.run(run_dev(options)))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that other users can reach, which pytest's own temporary ones are not."""
    path = Path(tempfile.mkdtemp(prefix="conductor-dev-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@contextmanager
def dev(
    data_dir: Path, port: int, *, worker: str = WORKER, user: str | None = None, more: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """`run_dev` in a process of its own; stopped at the end if the test has not done so."""
    python, paths = sys.executable, [str(ROOT)]
    if user is not None and not reachable(Path(sys.executable), Account(65534, 65534)):
        python, paths = "/usr/bin/python3.11", [str(ROOT), *(entry for entry in sys.path if "site-packages" in entry)]
        if not Path(python).exists():
            pytest.skip("no Python that another user can run")
    environ = {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(paths), "CONDUCTOR_PORT": str(port),
        "CONDUCTOR_DATA_DIR": str(data_dir), "PYTHONDONTWRITEBYTECODE": "1", **(more or {}),
    }  # fmt: skip
    process = subprocess.Popen(
        [python, "-c", DEV, worker, API], env=environ, cwd="/", stdout=subprocess.PIPE, text=True, user=user,
        group="nogroup" if user else None, extra_groups=[] if user else None, stderr=subprocess.STDOUT,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)


async def ready(data_dir: Path, process: "subprocess.Popen[str]") -> Runtime:
    """The runtime, once it is there."""

    async def there() -> bool:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        return read_runtime(data_dir) is not None

    await wait_until(there, "runtime.json", seconds=60)
    runtime = read_runtime(data_dir)
    assert runtime is not None
    return runtime


def left_over(data_dir: Path, runtime: Runtime) -> list[str]:
    """Every live process that was in the runtime, or has the data directory in its arguments, environment or cwd."""
    mark = str(data_dir).encode()
    found = [f"{name} {pid}" for name, pid in runtime.pids.items() if start_of(pid) is not None]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or start_of(int(entry.name)) is None:
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            if mark in words + (entry / "environ").read_bytes() + os.fsencode((entry / "cwd").readlink()):
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


async def test_it_starts_tells_everything_and_stops(folder: Path) -> None:
    """Ready with all addresses in a private runtime.json; the worker and API are told them; SIGINT ends it all."""
    data_dir, port = folder / "data", free_port()
    with dev(data_dir, port, more={"ANTHROPIC_API_KEY": "passed-on"}) as process:
        runtime = await ready(data_dir, process)
        assert (data_dir / "runtime.json").stat().st_mode & 0o777 == 0o600
        assert runtime.api_key_file.read_text().strip() == "a-key"
        assert runtime.api_key_file.stat().st_mode & 0o777 == 0o600
        assert set(runtime.pids) == {
            "supervisor", "guard", "postgres", "temporal", "redis", "page", "worker", "api"
        }  # fmt: skip
        environ = json.loads((await http_get("127.0.0.1", port, "/"))[1])
        assert environ["ANTHROPIC_API_KEY"] == "passed-on"
        assert environ["DATABASE_URL"] == runtime.database_url
        assert environ["REDIS_URL"] == runtime.redis_url
        assert environ["TEMPORAL_ADDRESS"] == runtime.temporal_address
        assert environ["CONDUCTOR_SQL_URL"] == runtime.sql_url
        assert environ["CONDUCTOR_SQL_ROLE"] == "shop_agent"
        assert f"http://{environ['CONDUCTOR_DEV_PAGE']}/" == runtime.page_url
        connection = await asyncpg.connect(runtime.sql_url)
        assert await connection.fetchval("SELECT current_user") == "shop_login"
        await connection.close()
        process.send_signal(signal.SIGINT)
        output = await asyncio.to_thread(process.communicate, timeout=30)
        assert process.returncode == 0
        assert runtime.api_url in output[0]
        assert "migrate" in output[0]
        assert "postgresql://conductor:***@" in output[0]
    assert left_over(data_dir, runtime) == []
    assert not (data_dir / "runtime.json").exists()


async def test_a_killed_supervisor_leaves_nothing_and_the_next_start_is_quick(folder: Path) -> None:
    """SIGKILL: no child, no backend, no grandchild in a session of its own stays. The next start needs no repair."""
    data_dir, port = folder / "data", free_port()
    with dev(data_dir, port) as process:
        runtime = await ready(data_dir, process)
        assert len(left_over(data_dir, runtime)) > 8
        process.kill()
        process.wait()
        assert read_runtime(data_dir) is None

        async def gone() -> bool:
            return not left_over(data_dir, runtime)

        await wait_until(gone, "every process of the stack to end")
    began = time.monotonic()
    with dev(data_dir, port) as process:
        again = await ready(data_dir, process)
        took = time.monotonic() - began
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
    assert took < 10, took  # 1 to 2 s on a machine that does nothing else.
    assert left_over(data_dir, again) == []


async def test_a_killed_supervisor_and_guard_leave_nothing(folder: Path) -> None:
    """With the guard killed first there is another at once; the kernel alone ends the children themselves."""
    data_dir = folder / "data"
    with dev(data_dir, free_port(), worker="import time; time.sleep(600)") as process:
        runtime = await ready(data_dir, process)
        os.kill(runtime.pids["guard"], signal.SIGKILL)

        async def another_guard() -> bool:
            now = read_runtime(data_dir)
            return now is not None and now.pids["guard"] != runtime.pids["guard"]

        await wait_until(another_guard, "another guard")
        now = read_runtime(data_dir)
        assert now is not None
        os.kill(now.pids["guard"], signal.SIGSTOP)
        process.kill()

        async def gone() -> bool:
            return {line.partition(" ")[0] for line in left_over(data_dir, now)} <= {"guard", sys.executable}

        await wait_until(gone, "the children to end")
        os.kill(now.pids["guard"], signal.SIGKILL)


async def test_killed_children_come_back_within_a_second(folder: Path) -> None:
    """Worker and API run again, with new ids in runtime.json; a server comes back at its address."""
    data_dir, port = folder / "data", free_port()
    with dev(data_dir, port) as process:
        runtime = await ready(data_dir, process)
        for name in ("worker", "api", "redis", "postgres"):
            os.kill(runtime.pids[name], signal.SIGKILL)
            began = time.monotonic()

            async def back(name: str = name) -> bool:
                now = read_runtime(data_dir)
                return now is not None and now.pids[name] != runtime.pids[name] and start_of(now.pids[name]) is not None

            await wait_until(back, f"{name} to come back", seconds=10)
            if name in ("worker", "api"):
                assert time.monotonic() - began < 1

        async def answers() -> bool:
            return (await http_get("127.0.0.1", port, "/livez"))[0] == 200

        await wait_until(answers, "the API")
        connection = await asyncpg.connect(runtime.database_url)
        await connection.close()
        now = read_runtime(data_dir)
        assert now is not None
        assert now.model_copy(update={"pids": {}}) == runtime.model_copy(update={"pids": {}})
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)


async def test_a_second_one_is_refused(folder: Path) -> None:
    """On the same directory, with a sentence that names the process; the first does not notice."""
    data_dir = folder / "data"
    with dev(data_dir, free_port()) as first:
        runtime = await ready(data_dir, first)
        with dev(data_dir, free_port()) as second:
            output, _ = await asyncio.to_thread(second.communicate, timeout=30)
            assert second.returncode == 1
            assert f"already runs on {data_dir} (process {first.pid})" in output
        assert read_runtime(data_dir) == runtime


async def test_a_reader_that_goes_away_does_not_matter(folder: Path) -> None:
    """With its output closed the stack still restarts children, and stops cleanly."""
    data_dir = folder / "data"
    with dev(data_dir, free_port()) as process:
        runtime = await ready(data_dir, process)
        assert process.stdout is not None
        process.stdout.close()
        os.kill(runtime.pids["worker"], signal.SIGKILL)

        async def back() -> bool:
            now = read_runtime(data_dir)
            return now is not None and now.pids["worker"] != runtime.pids["worker"]

        await wait_until(back, "the worker to come back")
        process.send_signal(signal.SIGTERM)
        # Python itself reports 120 when it cannot flush its output at the end.
        assert await asyncio.to_thread(process.wait, 30) in (0, 120)
    assert left_over(data_dir, runtime) == []


async def test_a_port_in_use_is_refused(folder: Path) -> None:
    """Before anything starts, with a sentence that names port and setting."""
    with listener() as other:
        port = other.getsockname()[1]
        with dev(folder / "data", port) as process:
            output, _ = await asyncio.to_thread(process.communicate, timeout=30)
            assert process.returncode == 1
            assert f"Port {port} on 127.0.0.1" in output
            assert "CONDUCTOR_PORT" in output
    assert not (folder / "data" / "postgres").exists()


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_it_runs_as_a_normal_user(folder: Path) -> None:
    """Without root, in a directory of that user's own; and nothing outlives a SIGKILL there either."""
    shutil.chown(folder, "nobody", "nogroup")
    data_dir = folder / "data"
    with dev(data_dir, free_port(), user="nobody") as process:
        runtime = await ready(data_dir, process)
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in runtime.pids.values()} == {65534}
        assert data_dir.stat().st_mode & 0o777 == 0o700
        process.kill()

        async def gone() -> bool:
            return not left_over(data_dir, runtime)

        await wait_until(gone, "every process of the stack to end")


async def test_given_servers_are_used_instead(folder: Path, redis_url: str, store_url: str) -> None:
    """DATABASE_URL and REDIS_URL of the user's own: no Redis is started, and Postgres for the shop alone."""
    data_dir, port = folder / "data", free_port()
    given = {"DATABASE_URL": store_url, "REDIS_URL": redis_url, "CONDUCTOR_SQL_URL": store_url}
    with dev(data_dir, port, more=given) as process:
        runtime = await ready(data_dir, process)
        assert set(runtime.pids) == {"supervisor", "guard", "temporal", "page", "worker", "api"}
        assert (runtime.database_url, runtime.redis_url, runtime.sql_url) == (store_url, redis_url, store_url)
        environ = json.loads((await http_get("127.0.0.1", port, "/"))[1])
        assert "CONDUCTOR_SQL_ROLE" not in environ
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0


async def test_the_stack_for_one_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a context manager in this process: there inside, gone outside, also when the block fails."""
    data_dir = folder / "data"
    monkeypatch.setenv("CONDUCTOR_DATA_DIR", str(data_dir))
    lines: list[str] = []

    async def migrate(url: str) -> None:
        lines.append(url)

    async def ensure_key(url: str, known: str | None) -> str:
        return known or url[:8]

    options = DevOptions(
        settings=Settings(), environ={"PATH": "/usr/bin:/bin"}, migrate=migrate, ensure_key=ensure_key,
        worker_command=(sys.executable, "-c", WORKER), api_command=(sys.executable, "-c", API), echo=lines.append,
        api_port=0, worker_grace=5,
    )  # fmt: skip

    async def fail() -> None:
        async with stack(options) as runtime:
            seen.append(runtime)
            assert read_runtime(data_dir) == runtime
            raise ZeroDivisionError

    seen: list[Runtime] = []
    with pytest.raises(ZeroDivisionError):
        await fail()
    (runtime,) = seen
    pids = {name: pid for name, pid in runtime.pids.items() if name != "supervisor"}
    assert [name for name, pid in pids.items() if start_of(pid) is not None] == []
    assert read_runtime(data_dir) is None
    assert is_free("127.0.0.1", int(runtime.api_url.rpartition(":")[2]))
    assert lines == [runtime.database_url]


async def test_an_api_that_never_answers_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence names its log, restarts have been shown, and nothing stays behind."""
    monkeypatch.setenv("CONDUCTOR_DATA_DIR", str(folder / "data"))
    lines: list[str] = []

    async def migrate(url: str) -> None:
        assert url

    async def ensure_key(url: str, known: str | None) -> str:
        return known or url[:8]

    options = DevOptions(
        settings=Settings(), environ={"PATH": "/usr/bin:/bin"}, migrate=migrate, ensure_key=ensure_key,
        worker_command=(sys.executable, "-c", WORKER), api_command=(sys.executable, "-c", "raise SystemExit(3)"),
        echo=lines.append, api_port=0, worker_grace=5, ready_seconds=2,
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="api was not ready within 2 seconds"):
        async with stack(options):
            pass
    assert any("api ended with code 3" in line for line in lines)
