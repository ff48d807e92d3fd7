"""What the worker knows stays with the worker: no secret of its environment, its files or its proxies reaches the code."""

import json
import uuid
from pathlib import Path

import pytest

from activities.sandbox.base import Language, Sandbox
from activities.sandbox.bubblewrap import BubblewrapSandbox
from activities.sandbox.docker import DockerSandbox
from activities.sandbox.select import Unavailable, choose
from activities.sandbox.unsafe import UnsafeSubprocess
from conductor_ai.errors import ConfigurationError
from conductor_ai.settings import Settings
from tests.fixtures_docker import EVERY_REAL_SANDBOX, a_job, images, told

SEARCH = """
mark, found = {mark!r}[::-1], []
for name, value in os.environ.items():
    if mark in name + value:
        found.append(name)
for pid in (name for name in os.listdir('/proc') if name.isdigit()):
    for file in ('environ', 'cmdline', 'maps', 'mountinfo'):
        try:
            if mark.encode() in open(f'/proc/{{pid}}/{{file}}', 'rb').read():
                found.append(f'{{pid}}/{{file}}')
        except OSError:
            pass
for top in ('/etc', '/home', '/mnt', '/opt', '/root', '/run', '/srv', '/tmp', '/var'):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            try:
                if os.path.isfile(path) and path != '/tmp/main.py' and mark.encode() in open(path, 'rb').read(1 << 20):
                    found.append(path)
            except OSError:
                pass
tell(found=found, proxies=[name for name in os.environ if 'proxy' in name.lower()])
"""


@pytest.fixture
async def knowing(
    request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Sandbox, str]:
    """A sandbox of a worker that has a secret in its environment, its home and the configuration of its proxies."""
    mark = f"secret-{uuid.uuid4().hex}"
    for name in (
        "ANTHROPIC_API_KEY",
        "DATABASE_URL",
        "HTTPS_PROXY",
        "https_proxy",
        "PYTHONPATH",
        "NODE_OPTIONS",
        "LD_AUDIT",
    ):
        monkeypatch.setenv(name, f"/{mark}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    proxies = {"httpProxy": f"http://user:{mark}@192.0.2.1:3128", "httpsProxy": f"http://user:{mark}@192.0.2.1:3128"}
    (tmp_path / "config.json").write_text(json.dumps({"proxies": {"default": proxies}}))
    (tmp_path / ".env").write_text(f"ANTHROPIC_API_KEY={mark}\n")
    if sandbox.name == "bubblewrap":
        return BubblewrapSandbox(), mark
    settings: Settings = request.getfixturevalue("docker_settings")
    return DockerSandbox(images(settings), base_url=settings.docker_host), mark


@pytest.mark.parametrize("sandbox", EVERY_REAL_SANDBOX, indirect=True)
async def test_no_secret_of_the_worker_reaches_the_code(knowing: tuple[Sandbox, str]) -> None:
    """The code looks through every environment, command line and file that it can read: the secret is nowhere."""
    made, mark = knowing
    try:
        assert await told(made, SEARCH.format(mark=mark[::-1])) == {"found": [], "proxies": []}
        node = "const all = JSON.stringify(process.env); console.log(all.includes('MARK'.split('').reverse().join('')))"
        outcome = await made.run(a_job(node.replace("MARK", mark[::-1]), Language.JAVASCRIPT))
        assert outcome.stdout == "false\n", outcome.stderr
    finally:
        await made.close()


async def test_the_search_finds_what_is_there(unsafe_sandbox: UnsafeSubprocess) -> None:
    """The same search finds a mark that the code has put there itself, so that finding nothing means something."""
    mark = f"secret-{uuid.uuid4().hex}"
    source = f"import os; os.environ['X'] = {mark!r}\n" + SEARCH.format(mark=mark[::-1]).replace(
        "'/etc', ", "'/nonexistent', "
    )
    for top in ("/home", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/var"):
        source = source.replace(f"'{top}'", "'/nonexistent'")
    assert "X" in (await told(unsafe_sandbox, source))["found"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_the_plain_process_is_refused_where_others_can_ask(host: str) -> None:
    """With an API that listens on more than loopback the setting stops the start, whatever the sandbox would be."""
    with pytest.raises((ConfigurationError, ValueError), match="CONDUCTOR_UNSAFE_SUBPROCESS"):
        Settings(_env_file=None, CONDUCTOR_UNSAFE_SUBPROCESS="1", CONDUCTOR_HOST=host, CONDUCTOR_AUTH="keys")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_the_plain_process_is_possible_on_loopback(host: str) -> None:
    """The same on loopback is somebody's own machine. It is off unless it is asked for."""
    assert Settings(_env_file=None, CONDUCTOR_UNSAFE_SUBPROCESS="1", CONDUCTOR_HOST=host).unsafe_subprocess
    assert not Settings(_env_file=None, CONDUCTOR_HOST=host).unsafe_subprocess


@pytest.mark.parametrize("choice", ["auto", "docker", "bubblewrap"])
@pytest.mark.parametrize("allowed", [True, False])
async def test_the_plain_process_is_the_last_resort_of_auto_alone(
    monkeypatch: pytest.MonkeyPatch, choice: str, allowed: bool
) -> None:
    """Without Docker and bubblewrap: only `auto`, and only with the permission, runs a plain process, which says what it is."""
    monkeypatch.setattr(
        "activities.sandbox.select.BubblewrapSandbox", lambda *_: BubblewrapSandbox("/nonexistent/bwrap")
    )
    chosen = await choose(choice, images={}, docker_host="unix:///nonexistent/docker.sock", unsafe_subprocess=allowed)
    if choice == "auto" and allowed:
        assert isinstance(chosen, UnsafeSubprocess)
        assert chosen.describe().startswith("UNSAFE: a plain process without isolation")
    else:
        assert isinstance(chosen, Unavailable)


@pytest.mark.parametrize("sandbox", EVERY_REAL_SANDBOX, indirect=True)
async def test_no_setting_of_the_kernel_can_be_changed(sandbox: Sandbox) -> None:
    """Nothing under /proc/sys and /sys can be opened for writing, nor what would lead to other processes' memory or limits."""
    source = """
def write(path):
    opened = os.open(path, os.O_WRONLY)
    try:
        os.write(opened, b'0 0 1')
    finally:
        os.close(opened)
open_to = []
for top in ('/proc/sys', '/sys'):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            try:
                os.close(os.open(path, os.O_WRONLY))
                open_to.append(path)
            except OSError:
                pass
others = ('/proc/1/mem', '/proc/1/oom_score_adj', '/proc/sysrq-trigger', '/proc/self/uid_map', '/proc/self/setgroups')
tell(open_to=open_to, others={path: attempt(os.open, path, os.O_WRONLY) for path in others[:3]},
    maps=[attempt(write, path) for path in others[3:]])
"""
    found = await told(sandbox, source)
    assert found["open_to"] == []
    assert "done" not in found["maps"]
    assert found["others"]["/proc/sysrq-trigger"] != "done"


@pytest.mark.parametrize("sandbox", EVERY_REAL_SANDBOX, indirect=True)
async def test_the_memory_of_the_clock_is_closed(sandbox: Sandbox) -> None:
    """The process that ends the sandbox cannot be written to, nor any other that the code did not start itself."""
    source = """
names = {pid: open(f'/proc/{pid}/comm').read().strip() for pid in os.listdir('/proc') if pid.isdigit()}
tell(clocks=[name for name in names.values() if name == 'timeout'],
    written={name: attempt(os.open, f'/proc/{pid}/mem', os.O_RDWR) for pid, name in names.items() if name != 'python3'})
"""
    found = await told(sandbox, source)
    assert found["clocks"] == ["timeout"]
    assert found["written"]["timeout"] in ("EACCES", "EPERM", "EROFS")
    assert "done" not in found["written"].values() or sandbox.name == "docker"
