"""More ways to take all of the machine: threads, files without content, node's heap. Never run on the plain process."""

import json

import pytest

from activities.sandbox.base import PROCESSES, Language, Sandbox
from activities.sandbox.docker_config import INODES
from activities.sandbox.limits import Verdict, try_limits
from activities.tools.code_run import CodeRunArguments, result_of
from tests.fixtures_docker import EVERY_REAL_SANDBOX, a_job, told

pytestmark = pytest.mark.parametrize("sandbox", EVERY_REAL_SANDBOX, indirect=True)


async def test_thread_bomb(sandbox: Sandbox) -> None:
    """Threads count as processes do."""
    source = """
import threading
stop, started = threading.Event(), 0
threading.stack_size(65536)
try:
    while started < 500:
        threading.Thread(target=stop.wait, daemon=True).start()
        started += 1
except RuntimeError:
    pass
stop.set()
tell(started=started)
"""
    assert 10 < (await told(sandbox, source))["started"] < PROCESSES


async def test_process_bomb_of_node(sandbox: Sandbox) -> None:
    """The same limit holds for what node starts, beside its own threads; the next run works."""
    source = """
const { spawn } = require('child_process');
let running = 0, failed = 0;
for (let i = 0; i < 200; i++) {
  const child = spawn('sleep', ['60']);
  child.on('spawn', () => running++); child.on('error', () => failed++);
}
setTimeout(() => { console.log(JSON.stringify({ running, failed })); process.exit(0); }, 1500);
"""
    outcome = await sandbox.run(a_job(source, Language.JAVASCRIPT, 30))
    if outcome.exit_code == 0:  # node may also give up, if it cannot start a thread of its own
        found = json.loads(outcome.stdout)
        assert found["running"] < PROCESSES
        assert found["failed"] > 100
    assert not outcome.timed_out
    assert (await sandbox.run(a_job("console.log('fine')", Language.JAVASCRIPT))).stdout == "fine\n"


@pytest.mark.parametrize(
    "source",
    [
        "const kept = []; for (;;) kept.push({ a: [1, 2, 3], b: 'text' + kept.length });",
        "const kept = []; for (let i = 0;; i++) kept.push(Buffer.from('x'.repeat(1e6) + i).toString());",
        "const kept = []; for (;;) kept.push(new ArrayBuffer(1 << 24).slice(0));",
        "const { Worker } = require('worker_threads'); new Worker('const a = []; for (;;) a.push({})', { eval: true });",
    ],
    ids=["objects", "text", "buffers", "worker"],
)
async def test_heap_exhaustion_of_node(sandbox: Sandbox, source: str) -> None:
    """Whatever node's memory is filled with, the program ends before its time, and the model is told that it failed and why.

    Docker's limit kills it. Under bubblewrap an allocation fails: node aborts, or throws an error of its own.
    """
    outcome = await sandbox.run(a_job(source, Language.JAVASCRIPT, 40))
    assert not outcome.timed_out
    assert outcome.exit_code not in (0, None)
    result = result_of(outcome, CodeRunArguments(code=source, language=Language.JAVASCRIPT))
    assert result.error is not None
    if outcome.oom_killed:
        assert sandbox.name == "docker"
        assert result.error.code == "out_of_memory"
    else:
        assert result.error.code == "nonzero_exit"
        words = ("memory", "allocation")
        assert outcome.exit_code in (133, 134, 139) or any(word in outcome.stderr.lower() for word in words)


async def test_bomb_of_empty_files(sandbox: Sandbox) -> None:
    """Docker limits the number of files, which cost memory of the kernel; under bubblewrap they are gone after the run."""
    source = f"""
made, code = 0, None
try:
    while made < {INODES} + 1000:
        os.close(os.open(f'/tmp/{{made}}', os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError as error:
    code = errno.errorcode[error.errno]
tell(made=made, code=code)
"""
    found = await told(sandbox, source)
    if sandbox.name == "docker":
        assert (found["code"], found["made"] <= INODES) == ("ENOSPC", True)
    else:
        assert found["code"] is None
    assert (await told(sandbox, "tell(found=os.listdir('/tmp'))"))["found"] == ["main.py"]


async def test_deep_folders_and_long_names(sandbox: Sandbox) -> None:
    """What cannot be removed by a simple walk is gone all the same."""
    source = """
os.chdir('/tmp')
depth = 0
try:
    for depth in range(2000):
        os.mkdir('d' * 200); os.chdir('d' * 200)
except OSError:
    pass
os.chmod('.', 0)
tell(depth=depth)
"""
    assert (await told(sandbox, source))["depth"] > 100
    assert (await told(sandbox, "tell(found=os.listdir('/tmp'))"))["found"] == ["main.py"]


async def test_no_way_to_another_user(sandbox: Sandbox) -> None:
    """Becoming another user or group is refused, by every call; programs with the setuid bit give nothing."""
    source = """
import stat, subprocess
marked = []
for folder, _, names in os.walk('/usr'):
    for name in names:
        mode = os.lstat(os.path.join(folder, name)).st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            marked.append(name)
open('/tmp/own', 'w').close()
os.chmod('/tmp/own', 0o6755)
def su():
    done = subprocess.run(['su', 'root', '-s', '/bin/sh', '-c', 'id -u'], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    return [done.returncode != 0, done.stdout.decode()]
try:
    became = su()
except OSError as error:
    became = [True, '']
tell(setuid=attempt(os.setuid, 0), setgid=attempt(os.setgid, 0), seteuid=attempt(os.seteuid, 1),
    setresuid=attempt(os.setresuid, 0, 0, 0), setresgid=attempt(os.setresgid, 0, 0, 0), setgroups=attempt(os.setgroups, [0]),
    chown=attempt(os.chown, '/tmp/own', 0, 0), node=attempt(os.mknod, '/tmp/null', 0o20666, os.makedev(1, 3)),
    became=became, marked=marked, uid=os.getresuid())
"""
    found = await told(sandbox, source)
    tried = ("setuid", "setgid", "seteuid", "setresuid", "setresgid", "setgroups", "chown", "node")
    assert {name: found[name] for name in tried if found[name] not in ("EPERM", "EINVAL")} == {}
    assert found["became"] == [True, ""]
    assert found["uid"] == [65534] * 3
    if sandbox.name == "docker":
        assert found["marked"] == []  # the images of this project have none


async def test_the_limits_are_found_from_inside(sandbox: Sandbox) -> None:
    """`conductor sandbox check` finds every limit in force; what bubblewrap does not limit is told as weaker."""
    found = {one.limit: one.verdict for one in await try_limits(sandbox)}
    weaker = {limit for limit, verdict in found.items() if verdict is not Verdict.HOLDS}
    assert weaker == (set() if sandbox.name == "docker" else {"memory in all", "processor"})
    assert Verdict.MISSING not in found.values()
