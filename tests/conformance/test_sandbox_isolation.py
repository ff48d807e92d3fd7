"""What code in a real sandbox cannot do. Never run on the plain process, which has no isolation."""

import asyncio
import platform
import socket
import sys
import time
import uuid
from pathlib import Path

import pytest

from activities.sandbox.base import HARD_STOP_SECONDS, Language, Sandbox
from tests.fixtures_docker import ATTEMPT, EVERY_REAL_SANDBOX, a_job, processes_with, told, wait_until

pytestmark = pytest.mark.parametrize("sandbox", EVERY_REAL_SANDBOX, indirect=True)

needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of system calls are those of x86-64")


# The host


async def test_files_of_the_host(sandbox: Sandbox, tmp_path: Path) -> None:
    """No file of this machine's users, no password file, no socket of the engine, no disk."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    source = f"""
tell(secret=os.path.exists({str(secret)!r}), shadow=attempt(open, '/etc/shadow'), root=attempt(os.listdir, '/root'),
    socket=any(os.path.exists(p) for p in ('/var/run/docker.sock', '/run/docker.sock')),
    kcore=attempt(lambda: open('/proc/kcore', 'rb').read(1)),
    disks=[n for n in os.listdir('/dev') if n.startswith(('sd', 'vd', 'nvme', 'loop', 'mem', 'kmsg'))])
"""
    found = await told(sandbox, source)
    assert found["secret"] is False
    assert found["shadow"] in ("EACCES", "ENOENT")
    assert found["root"] in ("EACCES", "ENOENT")
    assert found["socket"] is False
    assert found["kcore"] in ("EACCES", "EPERM", "ENOENT", "done")  # Docker covers it with /dev/null
    assert found["disks"] == []


async def test_environment(sandbox: Sandbox) -> None:
    """The code sees a handful of variables; none comes from the worker."""
    found = await told(sandbox, "tell(**dict(os.environ))")
    assert set(found) <= {"HOME", "TMPDIR", "LANG", "PATH", "HOSTNAME", "PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"}
    assert found["HOME"] == "/tmp"


async def test_processes_of_the_host(sandbox: Sandbox) -> None:
    """Only its own processes are there to be seen or to be signalled, and its uid is nobody's."""
    source = """
tell(pids=len([n for n in os.listdir('/proc') if n.isdigit()]), uid=os.getuid(), gid=os.getgid(), groups=os.getgroups(),
    root=attempt(os.setuid, 0), host=socket.gethostname(),
    caps=[line.split()[1] for line in open('/proc/self/status') if line.startswith('Cap')],
    privileges=[line.split()[1] for line in open('/proc/self/status') if line.startswith('NoNewPrivs')])
"""
    found = await told(sandbox, source)
    assert found["pids"] < 10
    assert (found["uid"], found["gid"], found["root"]) == (
        65534,
        65534,
        "EINVAL" if sandbox.name == "bubblewrap" else "EPERM",
    )
    assert set(found["groups"]) <= {65534}
    assert found["host"] == "sandbox"
    assert set(found["caps"]) == {"0" * 16}
    assert found["privileges"] == ["1"]


async def test_the_core_file_is_not_written(sandbox: Sandbox) -> None:
    """A crash leaves no memory image behind."""
    source = "import resource; tell(core=resource.getrlimit(resource.RLIMIT_CORE))"
    assert (await told(sandbox, source))["core"] == [0, 0]


# The network


async def test_no_network(sandbox: Sandbox) -> None:
    """No interface but loopback, no route, no name service, no metadata service; nothing waits for a time-out."""
    source = """
def connect(address, family=socket.AF_INET):
    with socket.socket(family) as probe:
        probe.settimeout(3)
        probe.connect(address)
def ask_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.sendto(b'x', ('192.0.2.1', 53))
tell(interfaces=[n for _, n in socket.if_nameindex()] if attempt(socket.if_nameindex) == 'done' else ['lo'],
    routes=len(open('/proc/net/route').readlines()) - 1,
    documentation=attempt(connect, ('192.0.2.1', 80)), metadata=attempt(connect, ('169.254.169.254', 80)),
    six=attempt(connect, ('2001:db8::1', 80), socket.AF_INET6), udp=attempt(ask_udp),
    name=attempt(socket.getaddrinfo, 'example.org', 80))
"""
    started = time.monotonic()
    found = await told(sandbox, source)
    assert time.monotonic() - started < 10
    assert found["interfaces"] == ["lo"]
    assert found["routes"] == 0
    for what in ("documentation", "metadata", "udp"):
        assert found[what] == "ENETUNREACH", what
    assert found["six"] in ("ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT")
    assert found["name"] != "done"


async def test_no_network_for_javascript(sandbox: Sandbox) -> None:
    """The same for node."""
    source = """
const net = require('net');
net.connect(80, '169.254.169.254').on('error', e => console.log(e.code)).setTimeout(3000, () => console.log('slow'));
"""
    outcome = await sandbox.run(a_job(source, Language.JAVASCRIPT))
    assert outcome.stdout == "ENETUNREACH\n"


async def test_loopback_of_the_host(sandbox: Sandbox, tmp_path: Path) -> None:
    """A server on this machine's loopback, an abstract socket and a socket file are all out of reach."""
    abstract = f"conductor-test-{uuid.uuid4().hex}"
    path = tmp_path / "socket"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as hidden:
        hidden.bind("\0" + abstract)
        hidden.listen()
        with socket.socket(socket.AF_UNIX) as visible:
            visible.bind(str(path))
            visible.listen()
            port = server.getsockname()[1]
            source = f"""
def unix(address):
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(address)
tell(tcp=attempt(socket.create_connection, ('127.0.0.1', {port}), 3), abstract=attempt(unix, chr(0) + {abstract!r}),
    path=attempt(unix, {str(path)!r}))
"""
            found = await told(sandbox, source)
    assert found["tcp"] in ("ECONNREFUSED", "ENETUNREACH")
    assert found["abstract"] == "ECONNREFUSED"
    assert found["path"] == "ENOENT"


async def test_socket_families(sandbox: Sandbox) -> None:
    """Sockets that no network namespace holds back, or that widen the kernel's surface, cannot even be made."""
    source = """
def family(number, kind=socket.SOCK_STREAM, protocol=0):
    return attempt(lambda: socket.socket(number, kind, protocol).close())
tell(unix=family(1), inet=family(2), inet6=family(10), vsock=family(40), netlink=family(16, 3), packet=family(17, 3),
    alg=family(38, 5), bluetooth=family(31, 3), can=family(29, 3), xdp=family(44, 3), raw=family(2, 3, 1),
    sctp=family(2, 1, 132), dccp=family(2, 6, 33), mptcp=family(2, 1, 262), udplite=family(10, 2, 136), any=family(2, 3, 255),
    ping=family(2, 2, 1) in ('done', 'EACCES'),
    tricked=call(41, (1 << 32) | 40, 1, 0))
"""
    found = await told(sandbox, source)
    assert {found.pop(name) for name in ("unix", "inet")} == {"done"}
    assert (
        found.pop("ping") is True
    )  # as far as the filter is concerned; whether the kernel lets one ping is its own setting
    assert found.pop("inet6") in ("done", "EAFNOSUPPORT")
    assert set(found.values()) == {"EPERM"}


# The kernel


@needs_x86
async def test_system_calls_that_are_refused(sandbox: Sandbox) -> None:
    """Mounts, namespaces, tracing, io_uring, keys, modules, clocks: all refused by the filter or for want of rights."""
    source = """
NEWUSER = 0x10000000
tell(io_uring_setup=call(425, 1, 0), io_uring_enter=call(426, 0, 0, 0, 0, 0), mount=call(165, 0, 0, 0, 0, 0),
    umount=call(166, 0, 0), pivot_root=call(155, 0, 0), chroot=call(161, b'/tmp'), fsopen=call(430, b'tmpfs', 0),
    open_tree=call(428, -100, b'/', 1), unshare=call(272, NEWUSER), setns=call(308, 0, 0), clone_newuser=call(56, NEWUSER | 17, 0, 0, 0, 0),
    clone3=call(435, 0, 0), ptrace=call(101, 0, 0, 0, 0), read_memory=call(310, os.getpid(), 0, 0, 0, 0, 0),
    write_memory=call(311, os.getpid(), 0, 0, 0, 0, 0), bpf=call(321, 0, 0, 0), perf=call(298, 0, 0, 0, 0, 0),
    userfaultfd=call(323, 0), keyctl=call(250, 0, 0, 0, 0, 0), add_key=call(248, 0, 0, 0, 0, 0), reboot=call(169, 0, 0, 0, 0),
    init_module=call(175, 0, 0, 0), finit_module=call(313, 0, 0, 0), kexec=call(246, 0, 0, 0, 0), swapon=call(167, 0, 0),
    settimeofday=call(164, 0, 0), sethostname=call(170, b'x', 1), iopl=call(172, 3), personality=call(135, 0x0040000),
    open_by_handle=call(304, 0, 0, 0), quotactl=call(179, 0, 0, 0, 0), acct=call(163, 0), syslog=call(103, 3, 0, 0),
    modify_ldt=call(154, 0, 0, 0), pidfd_getfd=call(438, 0, 0, 0), process_madvise=call(440, 0, 0, 0, 0, 0), fanotify=call(300, 0, 0))
"""
    found = await told(sandbox, source)
    assert {name: code for name, code in found.items() if code == "done"} == {}
    assert {found.pop(name) for name in ("io_uring_setup", "io_uring_enter", "clone3")} == {"ENOSYS"}
    assert set(found.values()) == {"EPERM"}


@needs_x86
async def test_no_32_bit_system_calls(sandbox: Sandbox) -> None:
    """The old entry of the kernel has other numbers, which a filter of 64-bit calls would not recognise: it is closed."""
    source = """
import mmap
code = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, 20 (getpid); int 0x80; ret
address = ctypes.addressof(ctypes.c_char.from_buffer(code))
print(ctypes.CFUNCTYPE(ctypes.c_int)(address)())
"""
    outcome = await sandbox.run(a_job(ATTEMPT + source))
    assert outcome.exit_code != 0
    assert outcome.stdout == ""


@needs_x86
async def test_nothing_can_be_stopped(sandbox: Sandbox) -> None:
    """SIGSTOP, which would freeze the sandbox's own clock, cannot be sent by any call; other signals can."""
    source = """
import signal
me, info = os.getpid(), ctypes.create_string_buffer(128)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(34, signal.SIG_IGN)
tell(kill=call(62, me, 19), all=call(62, -1, 19), tkill=call(200, me, 19), tgkill=call(234, me, me, 19),
    queue=call(129, me, 19, info), tgqueue=call(297, me, me, 19, info), pidfd=call(424, 0, 19, 0, 0),
    tricked=call(62, me, (1 << 32) | 19), usr1=call(62, me, 10), cont=call(62, me, 18), realtime=call(62, me, 34), zero=call(62, me, 0))
"""
    found = await told(sandbox, source)
    assert [found.pop(name) for name in ("usr1", "cont", "realtime", "zero")] == ["done"] * 4
    assert set(found.values()) == {"EPERM"}


async def test_killing_everything_ends_the_sandbox(sandbox: Sandbox) -> None:
    """Code that kills all it can reach, its own clock included, ends its own run and nothing else."""
    started = time.monotonic()
    outcome = await sandbox.run(
        a_job("import os, time; print('x')\nos.kill(-1, 9)\nos.kill(os.getppid(), 9)\ntime.sleep(60)")
    )
    assert outcome.stdout == "x\n"
    assert outcome.exit_code != 0
    assert time.monotonic() - started < 5


async def test_ordinary_work_is_possible(sandbox: Sandbox) -> None:
    """The filter lets through what programs are made of: threads, processes, sockets among themselves, asyncio, sqlite."""
    source = """
import asyncio, concurrent.futures, hashlib, multiprocessing, sqlite3, subprocess, tempfile, threading
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(abs, [-1, 2])) == [1, 2]
queue = multiprocessing.get_context('fork').Queue()
child = multiprocessing.get_context('fork').Process(target=queue.put, args=(5,)); child.start(); assert queue.get() == 5; child.join()
assert subprocess.run(['sh', '-c', 'echo hi | cat'], capture_output=True).stdout == b'hi\\n'
db = sqlite3.connect('/tmp/x.db'); db.execute('create table t (a)'); db.execute('insert into t values (1)'); db.commit()
async def echo():
    server = await asyncio.start_server(lambda r, w: (w.write(b'x'), w.close()), '127.0.0.1', 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b'x'
    writer.close(); server.close()
asyncio.run(echo())
print('all of it')
"""
    outcome = await sandbox.run(a_job(source))
    assert outcome.stdout == "all of it\n", outcome.stderr


async def test_ordinary_javascript_is_possible(sandbox: Sandbox) -> None:
    """The same for node: workers, children, files, WebAssembly's memory, timers, crypto."""
    source = """
const { Worker } = require('worker_threads'), { execFileSync } = require('child_process'), fs = require('fs');
fs.writeFileSync('/tmp/x', 'file'); new WebAssembly.Memory({ initial: 1 });
const worker = new Worker("require('worker_threads').parentPort.postMessage(7)", { eval: true });
worker.on('message', n => setTimeout(() => console.log(n, fs.readFileSync('/tmp/x', 'utf8'),
  execFileSync('echo', ['hi']).toString().trim(), require('crypto').randomBytes(2).length), 10));
"""
    outcome = await sandbox.run(a_job(source, Language.JAVASCRIPT))
    assert outcome.stdout == "7 file hi 2\n", outcome.stderr


async def test_a_run_leaves_nothing_for_the_next(sandbox: Sandbox) -> None:
    """Files of one run are not there in the next."""
    await sandbox.run(a_job("open('/tmp/left', 'w').write('x')"))
    assert (await told(sandbox, "tell(found=os.path.exists('/tmp/left'))"))["found"] is False


@pytest.mark.slow
async def test_it_ends_without_a_worker(sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A worker that is killed with SIGKILL leaves a program behind: it ends by itself at its hard stop, at the latest."""
    mark = f"mark-{uuid.uuid4().hex}"
    source = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)', '{mark}'])"
    if sandbox.name == "docker":
        settings = request.getfixturevalue("docker_settings")
        make = (
            f"DockerSandbox({{Language.PYTHON: {settings.sandbox_image_python!r}}}, base_url={settings.docker_host!r})"
        )
    else:
        make = "BubblewrapSandbox()"
    script = tmp_path / "worker.py"
    script.write_text(
        f"""
import asyncio
from activities.sandbox.base import Language, SandboxJob
from activities.sandbox.bubblewrap import BubblewrapSandbox
from activities.sandbox.docker import DockerSandbox
job = SandboxJob(language=Language.PYTHON, source={source!r}, timeout_seconds=2, session_id='s', call_id='{mark}', run_id='r', attempt=1)
asyncio.run({make}.run(job))
"""
    )
    worker = await asyncio.create_subprocess_exec(sys.executable, str(script))
    await wait_until(lambda: any("time.sleep" in line for line in processes_with(mark)), "the program runs", 8)
    worker.kill()
    await worker.wait()
    seconds = 2 + HARD_STOP_SECONDS + 2 if sandbox.name == "docker" else 1
    await wait_until(lambda: processes_with(mark) == [], "the program ended without its worker", seconds)
    await sandbox.reap()
