"""More ways to take all of the machine: threads, files without content, node's heap. Never run on the plain process."""

import json

import pytest

from activities.sandbox.base import PROCESSES, Language, Sandbox
from activities.sandbox.docker_config import INODES
from activities.sandbox.limits import Verdict, try_limits
from activities.tools.code_run import CodeRunArguments, result_of
from tests.fixtures_docker import ATTEMPT, EVERY_REAL_SANDBOX, a_job, told

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
    found = await told(sandbox, source, timeout=60)
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


MAPPED = """
libc.mmap.restype = ctypes.c_long
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
PRIVATE = 0x22
def mapped(size, protection, flags, fd=-1):
    "The address, or 0."
    ctypes.set_errno(0)
    found = libc.mmap(None, size, protection, flags, fd, 0)
    return 0 if found == -1 else found
"""

WAYS = {
    "shared memory of /dev/zero": """
at = mapped(400 << 20, 3, 1, os.open('/dev/zero', os.O_RDWR))
if at:
    ctypes.memset(at, 1, 400 << 20)
tell(got=bool(at))
""",
    "a mapping that grows down": """
at = mapped(400 << 20, 3, PRIVATE | 0x100)
if at:
    ctypes.memset(at, 1, 400 << 20)
tell(got=bool(at))
""",
    "pages made writable later": """
at = mapped(400 << 20, 0, PRIVATE | 0x4000)
done = libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(400 << 20), 3) == 0
if done:
    ctypes.memset(at, 1, 400 << 20)
tell(got=done)
""",
    "tables of the kernel": """
at = mapped(400 << 30, 1, PRIVATE | 0x4000)
if at:
    for page in range(at, at + (400 << 30), 2 << 20):
        ctypes.string_at(page, 1)
tell(got=bool(at))
""",
    "many mappings of one file": """
fd = os.open('/tmp/file', os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 8 << 20)
parts = [mapped(8 << 20, 3, 2, fd) for _ in range(50)]
for at in parts:
    if at:
        ctypes.memset(at, 1, 8 << 20)
tell(got=all(parts))
""",
}
"""Ways to 400 MB that a limit on the usual kind of memory does not see, or sees late."""


@pytest.mark.parametrize("way", WAYS)
async def test_no_other_way_to_memory(sandbox: Sandbox, way: str) -> None:
    """Memory that is not the usual kind is refused, or the program is killed for it: the machine's is never taken."""
    outcome = await sandbox.run(a_job(ATTEMPT + MAPPED + WAYS[way], timeout=40))
    if outcome.exit_code == 0:
        assert json.loads(outcome.stdout) == {"got": False}
    else:
        assert outcome.oom_killed, outcome
        assert sandbox.name == "docker"


async def test_the_device_of_zeros_still_gives_them(sandbox: Sandbox) -> None:
    """Code that reads zeros from /dev/zero, throws away to /dev/null and asks for chance gets them."""
    source = """
with open('/dev/zero', 'rb') as zeros, open('/dev/urandom', 'rb') as chance, open('/dev/null', 'wb') as nothing:
    tell(zeros=list(zeros.read(3)), chance=len(chance.read(5)), thrown=nothing.write(b'xx'))
"""
    assert await told(sandbox, source) == {"zeros": [0, 0, 0], "chance": 5, "thrown": 2}


async def test_node_has_room_for_memories_of_webassembly(sandbox: Sandbox) -> None:
    """Two memories of WebAssembly, for each of which node reserves ten gigabytes of addresses, can be made and used."""
    source = """
const kept = [1, 2].map(() => new WebAssembly.Memory({ initial: 1, maximum: 16 }));
kept.forEach(one => new Uint8Array(one.buffer).fill(7));
console.log(kept.length, kept[1].grow(3));
"""
    outcome = await sandbox.run(a_job(source, Language.JAVASCRIPT))
    assert outcome.stdout == "2 1\n", outcome.stderr


async def test_only_the_three_streams_are_open(sandbox: Sandbox) -> None:
    """No descriptor of the worker or of the sandbox's own making is there to be used."""
    source = """
found = {}
for name in os.listdir('/proc/self/fd'):
    try:
        found[name] = os.readlink('/proc/self/fd/' + name)
    except OSError:
        pass  # the listing's own
tell(**found)
"""
    assert set(await told(sandbox, source)) == {"0", "1", "2"}
