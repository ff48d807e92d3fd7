"""The seccomp filter as the kernel would run it, for every system call there is: what the list names passes, nothing else does."""

import ctypes
import platform
import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from activities.sandbox.bpf import LIBRARY, NoFilter, compiled
from tests.fixtures_docker import missing

LIST = Path(__file__).resolve().parents[2] / "infra" / "seccomp" / "sandbox.list"

X86_64, X32_BIT, I386, AARCH64 = 0xC000003E, 0x4000_0000, 0x40000003, 0xC00000B7
ARCHITECTURE = {"x86_64": X86_64, "aarch64": AARCH64}.get(platform.machine(), 0)
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, (0x80000000, 0x00000000)
EPERM, ENOSYS = 1, 38
HIGHEST = 700
"""No kernel has numbers beyond."""


@cache
def program() -> list[tuple[int, int, int, int]]:
    """The instructions: code, jump if true, jump if false, constant."""
    try:
        raw = compiled()
    except NoFilter as error:
        missing(str(error))
    return [struct.unpack_from("=HBBI", raw, at) for at in range(0, len(raw), 8)]


@cache
def library() -> ctypes.CDLL:
    """libseccomp, which knows the numbers of this machine."""
    program()
    return ctypes.CDLL(LIBRARY)


def number_of(name: str) -> int:
    """The number of a system call here; negative if there is none."""
    return int(library().seccomp_syscall_resolve_name(name.encode()))


def run(number: int, *arguments: int, architecture: int = ARCHITECTURE) -> int:
    """What the filter answers: classic BPF as the kernel interprets it."""
    words = struct.pack("=iIQ6Q", number, architecture, 0, *(list(arguments) + [0] * 6)[:6])
    accumulator = at = 0
    while True:
        code, if_true, if_false, constant = program()[at]
        at += 1
        match code:
            case 0x20:  # load a word
                (accumulator,) = struct.unpack_from("=I", words, constant)
            case 0x15:
                at += if_true if accumulator == constant else if_false
            case 0x25:
                at += if_true if accumulator > constant else if_false
            case 0x35:
                at += if_true if accumulator >= constant else if_false
            case 0x45:
                at += if_true if accumulator & constant else if_false
            case 0x54:
                accumulator &= constant
            case 0x05:
                at += constant
            case 0x06:
                return constant
            case _:
                raise AssertionError(f"an instruction that this test does not know: {code:#x}")


def lines() -> Iterator[str]:
    """The list without its comments."""
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()


def free() -> set[str]:
    """The calls that are allowed whatever their arguments are."""
    return {
        name for line in lines() if re.fullmatch(r"[a-z0-9_ ]+", line) and " arg" not in line for name in line.split()
    }


def limited() -> set[str]:
    """The calls that are allowed with some arguments."""
    return {line.split()[0] for line in lines() if " arg" in line}


def without() -> set[str]:
    """The calls that are said not to exist."""
    return {name for line in lines() if line.startswith("errno ENOSYS:") for name in line.partition(":")[2].split()}


def test_what_the_list_allows_passes() -> None:
    """Proves one direction: each call of the list that this machine has is allowed, with any arguments."""
    wanted = {name: number_of(name) for name in free()}
    here = {name: number for name, number in wanted.items() if number >= 0}
    assert len(here) > 200
    for arguments in ((), (2**64 - 1,) * 6, (7, 40, 19, 0x22, 3, 1)):
        assert {name for name, number in here.items() if run(number, *arguments) != ALLOW} == set()


def test_nothing_else_passes() -> None:
    """Proves the other direction: every other number, known to anybody or not, is refused, also as a 32-bit call."""
    listed = {number_of(name) for name in free() | limited()}
    hidden = {number_of(name) for name in without()}
    answers = {number: run(number) for number in range(HIGHEST) if number not in listed}
    assert {number for number, answer in answers.items() if answer == ERRNO | ENOSYS} == {n for n in hidden if n >= 0}
    assert {answer for number, answer in answers.items() if number not in hidden} == {ERRNO | EPERM}
    assert {run(number | X32_BIT) for number in range(HIGHEST)} <= {ERRNO | EPERM, *KILL}
    assert {run(number, architecture=I386) for number in range(HIGHEST)} <= {ERRNO | EPERM, *KILL}


NEVER = """
mount umount2 pivot_root chroot fsopen fsmount fsconfig move_mount open_tree mount_setattr unshare setns ptrace
process_vm_readv process_vm_writev bpf perf_event_open userfaultfd keyctl add_key request_key init_module finit_module
delete_module kexec_load kexec_file_load reboot swapon swapoff settimeofday clock_settime clock_adjtime adjtimex
sethostname setdomainname iopl ioperm personality open_by_handle_at name_to_handle_at quotactl acct syslog modify_ldt
pidfd_open pidfd_getfd pidfd_send_signal process_madvise process_mrelease fanotify_init memfd_create memfd_secret shmget
shmat shmctl msgget semget mq_open io_setup io_submit kcmp lookup_dcookie migrate_pages move_pages mbind set_mempolicy
sched_setscheduler sched_setattr sched_setparam ioprio_set seccomp landlock_create_ruleset vhangup nfsservctl uselib
remap_file_pages map_shadow_stack cachestat setxattr lsetxattr fsetxattr removexattr
"""
DANGEROUS = NEVER.split()


def test_what_must_never_be_allowed_is_not_on_the_list() -> None:
    """Proves that an edit of the list cannot let one of these in unnoticed."""
    assert (free() | limited()).isdisjoint(DANGEROUS)
    known = [number for name in DANGEROUS if (number := number_of(name)) >= 0]
    assert len(known) > 70
    assert {run(number) for number in known} == {ERRNO | EPERM}


def cases() -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Calls with arguments, and whether they are allowed."""
    upper = 1 << 32
    for family in range(50):
        yield "socket", (family, 1, 0), family in (1, 2, 10)
    for protocol in range(300):
        yield "socket", (2, 1, protocol), protocol in (0, 1, 6, 17, 58)
    yield from (
        ("socket", (2 | upper, 1, 0), False),
        ("socket", (upper | 40, 1, 0), False),
        ("socket", (2**64 - 1, 1, 0), False),
    )
    for name, at in (("kill", 1), ("tkill", 1), ("tgkill", 2), ("rt_sigqueueinfo", 1), ("rt_tgsigqueueinfo", 2)):
        for signal in range(65):
            yield name, (7,) * at + (signal,), signal != 19
        yield from ((name, (7,) * at + (signal,), False) for signal in (19 | upper, 19 | 1 << 63, 65, 2**64 - 1))
    for bit in range(32):
        new_namespace = bool(1 << bit & 0x7E020000)
        yield "clone", (1 << bit | 17,), not new_namespace
    yield "clone", (0x3D0F00,), True  # what the C library asks for a thread
    for flags, allowed in ((0x22, True), (0x02, True), (0x01, True), (0x4022, True), (0x20022, True), (0x21, False)):
        yield "mmap", (0, 4096, 3, flags), allowed
    for flags in (0x122, 0x121, 0x100, 0x102, 0x4122, 0x23):
        yield "mmap", (0, 4096, 3, flags), False


def test_arguments_decide_where_they_should() -> None:
    """Proves every family and protocol of sockets, every signal, every flag of clone, and kinds of memory, stray bits included."""
    wrong = [
        (name, arguments)
        for name, arguments, allowed in cases()
        if number_of(name) >= 0 and (run(number_of(name), *arguments) == ALLOW) != allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("cut", [1, 100])
def test_the_interpreter_of_this_test_notices_a_changed_filter(monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """Proves that the proof can fail: a filter that allows by default is noticed."""
    changed = [(code, a, b, ALLOW if (code, k) == (0x06, ERRNO | EPERM) else k) for code, a, b, k in program()]
    monkeypatch.setattr("tests.unit.test_seccomp_filter.program", lambda: changed)
    assert run(number_of("mount"), cut) == ALLOW
