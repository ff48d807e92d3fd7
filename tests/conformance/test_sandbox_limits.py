"""How much of the machine code in a real sandbox can take. Never run on the plain process, which has no limits."""

import time
import uuid

import pytest

from activities.sandbox.base import MEMORY_BYTES, OPEN_FILES, PROCESSES, TMP_BYTES, Language, Sandbox, SandboxOutcome
from tests.fixtures_docker import EVERY_REAL_SANDBOX, a_job, processes_with, told, wait_until

pytestmark = pytest.mark.parametrize("sandbox", EVERY_REAL_SANDBOX, indirect=True)


def is_out_of_memory(sandbox: Sandbox, outcome: SandboxOutcome) -> bool:
    """Docker's limit kills; bubblewrap's makes the allocation fail, which Python and node report themselves."""
    if sandbox.name == "docker":
        return outcome.oom_killed and outcome.exit_code == 137
    return outcome.exit_code not in (0, None) and (
        "MemoryError" in outcome.stderr or outcome.exit_code in (133, 134, 139)
    )


@pytest.mark.parametrize(
    ("language", "source"),
    [
        (Language.PYTHON, "kept = []\nwhile True: kept.append(bytearray(1_000_000))"),
        (Language.PYTHON, "x = b'x' * 1_000_000_000"),
        (Language.JAVASCRIPT, "const kept = []; for (;;) kept.push(Buffer.alloc(1000000, 1));"),
    ],
)
async def test_memory_bomb(sandbox: Sandbox, language: Language, source: str) -> None:
    """A program cannot take more than its memory, and it is told why it ended."""
    outcome = await sandbox.run(a_job(source, language))
    assert not outcome.timed_out
    if language is Language.JAVASCRIPT:
        assert outcome.exit_code != 0
    else:
        assert is_out_of_memory(sandbox, outcome), outcome


async def test_what_fits_is_not_refused(sandbox: Sandbox) -> None:
    """Half of the memory can be used."""
    outcome = await sandbox.run(a_job(f"print(len(bytearray({MEMORY_BYTES // 2})))"))
    assert outcome.stdout == f"{MEMORY_BYTES // 2}\n"


async def test_a_child_killed_for_memory(sandbox: Sandbox) -> None:
    """The main program may end well although a child of it was killed for memory: the two are told apart."""
    source = """
import subprocess, sys
done = subprocess.run([sys.executable, '-c', 'x = bytearray(10**9)'], capture_output=True)
print(done.returncode != 0)
"""
    outcome = await sandbox.run(a_job(source))
    assert (outcome.stdout, outcome.exit_code) == ("True\n", 0)
    assert outcome.oom_killed == (sandbox.name == "docker")


async def test_shared_memory_is_no_way_around_the_limit(sandbox: Sandbox) -> None:
    """Shared anonymous memory, memfd and System V segments, which limits of a process do not count, are refused."""
    source = """
import mmap
tell(shared=attempt(mmap.mmap, -1, 4096), memfd=attempt(os.memfd_create, 'x'), private=attempt(mmap.mmap, -1, 4096,
    mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), segment='done' if libc.shmget(0, 4096, 0o1600) != -1 else 'refused')
"""
    assert await told(sandbox, source) == {
        "shared": "EPERM",
        "memfd": "EPERM",
        "private": "done",
        "segment": "refused",
    }


async def test_processor(sandbox: Sandbox) -> None:
    """Docker gives half of a processor; both set a limit on processor time that ends a program of its own."""
    source = """
import resource, time
started, used = time.monotonic(), time.process_time()
while time.monotonic() - started < 1.5:
    pass
tell(share=(time.process_time() - used) / (time.monotonic() - started), limit=resource.getrlimit(resource.RLIMIT_CPU)[1])
"""
    found = await told(sandbox, source, timeout=20)
    assert found["limit"] == 25
    if sandbox.name == "docker":
        assert found["share"] < 0.7


async def test_process_bomb(sandbox: Sandbox) -> None:
    """Processes that multiply hit the limit, end with the run, and the next run works."""
    mark = f"60.{uuid.uuid4().int % 10**9:09}"
    source = f"""
import subprocess
children = []
try:
    while len(children) < 500:
        children.append(subprocess.Popen(['sleep', '{mark}'], start_new_session=True))
except OSError as error:
    print(type(error).__name__, len(children))
"""
    outcome = await sandbox.run(a_job(source))
    name, count = outcome.stdout.split()
    assert name == "BlockingIOError"
    assert 10 < int(count) < PROCESSES
    await wait_until(lambda: processes_with(mark) == [], "the children were ended", 1)
    assert (await sandbox.run(a_job("print('fine')"))).stdout == "fine\n"


async def test_fork_bomb_ends_at_the_timeout(sandbox: Sandbox) -> None:
    """The classic one, which never stops by itself."""
    source = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
    started = time.monotonic()
    outcome = await sandbox.run(a_job(source, timeout=2))
    assert outcome.timed_out or outcome.exit_code != 0
    assert time.monotonic() - started < 5
    assert (await sandbox.run(a_job("print('fine')"))).stdout == "fine\n"


async def test_open_files(sandbox: Sandbox) -> None:
    """A program may hold a few hundred files open and no more, and cannot raise the limit."""
    source = """
import resource
held = []
try:
    while True:
        held.append(os.open('/dev/null', os.O_RDONLY))
except OSError as error:
    code = errno.errorcode[error.errno]
count = len(held)
for one in held:
    os.close(one)
tell(count=count, code=code, raised=attempt(resource.setrlimit, resource.RLIMIT_NOFILE, (100000, 100000)))
"""
    found = await told(sandbox, source)
    assert found["code"] == "EMFILE"
    assert found["count"] <= OPEN_FILES
    assert found["raised"] in ("EPERM", "ValueError")


async def test_disk_bomb(sandbox: Sandbox) -> None:
    """/tmp holds 16 MB and no more; /dev/shm is small; there is no other place to write to."""
    source = """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(directory):
    written = 0
    try:
        for number in range(100):
            with open(f'{directory}/{number}', 'wb', buffering=0) as file:
                for _ in range(8):
                    written += file.write(bytes(1 << 20))
    except OSError as error:
        return written, errno.errorcode[error.errno]
tell(tmp=fill('/tmp'), shm=fill('/dev/shm'))
"""
    found = await told(sandbox, source)
    assert found["tmp"][0] <= TMP_BYTES
    assert found["tmp"][1] == "ENOSPC"
    assert found["shm"][0] <= 2**20


async def test_only_tmp_can_be_written(sandbox: Sandbox) -> None:
    """Every directory is tried, not a list of likely ones."""
    source = """
writable = []
for folder, folders, _ in os.walk('/'):
    if folder == '/':
        folders.remove('proc')
    try:
        with open(folder + '/probe', 'w'):
            writable.append(folder)
    except OSError:
        pass
tell(writable=sorted(writable))
"""
    found = (await told(sandbox, source))["writable"]
    assert set(found) <= {"/tmp", "/dev/shm", "/dev/mqueue"}


async def test_tmp_does_not_run_programs_with_docker(sandbox: Sandbox) -> None:
    """With Docker a file in /tmp cannot be executed; bubblewrap has no such option, and nothing depends on it."""
    source = """
import shutil
shutil.copy('/usr/bin/true', '/tmp/true')
os.chmod('/tmp/true', 0o755)
tell(run=attempt(os.posix_spawn, '/tmp/true', ['true'], {}))
"""
    assert (await told(sandbox, source))["run"] == ("EACCES" if sandbox.name == "docker" else "done")
