"""Tries each limit of a sandbox from inside, with real programs, and judges what came of it."""

import json
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from activities.sandbox.base import OPEN_FILES, PROCESSES, TMP_BYTES, Language, Sandbox, SandboxJob, SandboxOutcome

SECONDS = 20


class Verdict(StrEnum):
    """What became of one limit."""

    HOLDS = "holds"
    WEAKER = "weaker"
    """It does not hold, and this kind of sandbox does not promise it; Docker's does."""
    MISSING = "missing"
    """It does not hold although it should, or could not be tried."""


@dataclass(frozen=True)
class Finding:
    """One limit."""

    limit: str
    verdict: Verdict
    detail: str
    """A sentence: what was found."""


_FACTS = """
import ctypes, errno, json, os, resource, socket, time
def attempt(function, *args):
    try:
        return function(*args) and None
    except OSError as error:
        return errno.errorcode.get(error.errno, 'OSError')
def call(number, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    return errno.errorcode[ctypes.get_errno()] if libc.syscall(ctypes.c_long(number), *args) == -1 else None
def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(('192.0.2.1', 53))
def status(name):
    return next((line.split()[1] for line in open('/proc/self/status') if line.startswith(name + ':')), None)
def share():
    started, used = time.monotonic(), time.process_time()
    while time.monotonic() - started < 1:
        pass
    return (time.process_time() - used) / (time.monotonic() - started)
def processes():
    children = []
    try:
        while len(children) < 200:
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return len(children)
disk = os.statvfs('/tmp')
print(json.dumps(dict(
    network=attempt(send), vsock=attempt(socket.socket, 40, socket.SOCK_STREAM), io_uring=call(425, 1, None),
    namespaces=call({'x86_64': 272, 'aarch64': 97}[os.uname().machine], 0x10000000), uid=os.getuid(),
    capabilities=status('CapEff'), bounding=status('CapBnd'), privileges=status('NoNewPrivs'), seccomp=status('Seccomp'),
    root=attempt(open, '/probe', 'w'), usr=attempt(open, '/usr/probe', 'w'), tmp=disk.f_blocks * disk.f_frsize,
    files=resource.getrlimit(resource.RLIMIT_NOFILE)[1], core=resource.getrlimit(resource.RLIMIT_CORE)[1],
    time=resource.getrlimit(resource.RLIMIT_CPU)[1], seen=sum(name.isdigit() for name in os.listdir('/proc')),
    processes=processes(), share=share())))
"""

_MEMORY = "kept = []\nfor _ in range(512): kept.append(bytearray(1 << 20))\nprint('all of it')"

_TOGETHER = """
import os, time
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        kept = bytearray(80 << 20)
        time.sleep(1)
        os._exit(0)
    children.append(child)
print(sum(os.waitpid(child, 0)[1] == 0 for child in children))
"""
"""Three processes with 80 MB each, at the same time: how many lived through it."""

_STUBBORN = """
import signal, time
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
while True:
    time.sleep(1)
"""


async def try_limits(sandbox: Sandbox) -> list[Finding]:
    """Run the trials, one after the other: five to seven seconds. Python must run there.

    Raises:
        ToolUnavailable: the sandbox does not answer, or cannot run Python.
    """
    facts = await sandbox.run(_job(_FACTS))
    memory = await sandbox.run(_job(_MEMORY))
    together = await sandbox.run(_job(_TOGETHER))
    stubborn = await sandbox.run(_job(_STUBBORN, 1))
    try:
        found = json.loads(facts.stdout)
    except ValueError:
        lines = facts.stderr.strip().splitlines()
        said = f"The trial program failed (exit code {facts.exit_code}): {lines[-1][:200] if lines else 'no words'}"
        return [Finding("trial", Verdict.MISSING, said)]
    return judge(sandbox.name, found, memory, together, stubborn)


def judge(
    name: str, found: dict[str, Any], memory: SandboxOutcome, together: SandboxOutcome, stubborn: SandboxOutcome
) -> list[Finding]:
    """The findings from what the trials told."""
    shares = name != "bubblewrap"
    less = Verdict.MISSING if shares else Verdict.WEAKER
    no_rights = int(found["capabilities"] or "1", 16) == 0 == int(found["bounding"] or "1", 16)
    refused = memory.exit_code != 0 and "all of it" not in memory.stdout

    def finding(limit: str, holds: bool, detail: str, otherwise: Verdict = Verdict.MISSING) -> Finding:
        return Finding(limit, Verdict.HOLDS if holds else otherwise, detail)

    return [
        finding("network", found["network"] == "ENETUNREACH", f"A packet to the outside: {_said(found['network'])}."),
        finding("vsock", found["vsock"] is not None, f"A socket to the host of a VM: {_said(found['vsock'])}."),
        finding("io_uring", found["io_uring"] is not None, f"io_uring: {_said(found['io_uring'])}."),
        finding("namespaces", found["namespaces"] is not None, f"A new namespace: {_said(found['namespaces'])}."),
        finding(
            "privileges",
            bool(found["uid"]) and no_rights and found["privileges"] == "1" and found["seccomp"] == "2",
            f"User {found['uid']}, {'no' if no_rights else 'some'} capabilities, "
            f"{'no ' if found['privileges'] == '1' else ''}new privileges, "
            f"{'a' if found['seccomp'] == '2' else 'no'} seccomp filter.",
        ),
        finding(
            "files",
            None not in (found["root"], found["usr"]) and found["tmp"] <= TMP_BYTES,
            f"Writing outside of /tmp: {_said(found['root'])}; /tmp holds {found['tmp'] >> 20} MB.",
        ),
        finding("other processes", found["seen"] < 16, f"{found['seen']} processes can be seen."),
        finding("memory", refused, f"512 MB were {'refused' if refused else 'given'}{_by(memory)}."),
        finding("memory in all", together.stdout.strip() != "3", f"{_children(together)} of 240 MB.", less),
        # On a busy machine a share is small without any limit.
        finding("processor", shares and found["share"] < 0.75, f"{found['share']:.0%} of one was used.", less),
        finding(
            "processor time", 0 < found["time"] <= SECONDS + 5, f"At most {found['time']} s of it for one process."
        ),
        finding("processes", found["processes"] < PROCESSES, f"{found['processes']} more could be started."),
        finding("open files", found["files"] <= OPEN_FILES, f"{found['files']} for one process."),
        finding("core files", found["core"] == 0, f"At most {found['core']} bytes."),
        finding(
            "time",
            stubborn.timed_out and stubborn.duration_ms < 3000,
            f"A program that ignores every signal ended after {stubborn.duration_ms / 1000:.1f} s of 1 s.",
        ),
    ]


def _said(error: str | None) -> str:
    return "possible" if error is None else f"refused ({error})"


def _children(together: SandboxOutcome) -> str:
    count = together.stdout.strip()
    return f"{count if count.isdigit() else 'None'} of 3 processes got their part"


def _by(memory: SandboxOutcome) -> str:
    return " and the kernel killed the program" if memory.oom_killed else ""


def _job(source: str, timeout: float = SECONDS) -> SandboxJob:
    return SandboxJob(
        language=Language.PYTHON,
        source=source,
        timeout_seconds=timeout,
        session_id="trial",
        call_id=f"trial-{uuid.uuid4().hex}",
        run_id="trial",
        attempt=1,
    )
