"""Compiles the seccomp profile, the same that Docker is given, to the filter program that bubblewrap takes."""

import ctypes
import json
import os
import platform
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

LIBRARY = "libseccomp.so.2"

PROFILE = Path(__file__).with_name("seccomp.json")
"""Made from infra/seccomp/sandbox.list."""

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_EPERM = 1
_COMPARE = {"SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
_MACHINES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


class NoFilter(Exception):
    """The filter cannot be made on this machine; the text says why and what to do."""


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp` of seccomp.h."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def profile_text() -> str:
    """The profile as JSON, in Docker's format."""
    return PROFILE.read_text(encoding="utf-8")


@cache
def compiled() -> bytes:
    """The filter for this machine.

    Raises:
        NoFilter: libseccomp is missing or too old, or the machine is of another kind.
    """
    if platform.machine() not in _MACHINES:
        raise NoFilter(f"The seccomp profile does not cover machines of the kind {platform.machine()}.")
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise NoFilter(f"{LIBRARY} is not installed (Debian and Ubuntu: apt install libseccomp2).") from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    ]
    context = library.seccomp_init(_ERRNO | _EPERM)
    if not context:
        raise NoFilter(f"{LIBRARY} could not be initialised.")
    try:
        for rule in json.loads(profile_text())["syscalls"]:
            _add(library, context, rule)
        with tempfile.TemporaryFile() as file:
            if library.seccomp_export_bpf(context, file.fileno()) != 0:
                raise NoFilter(f"{LIBRARY} could not write the filter.")
            return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: int, rule: dict[str, Any]) -> None:
    comparisons = [
        _Comparison(arg["index"], _COMPARE[arg["op"]], arg["value"], arg["valueTwo"]) for arg in rule["args"]
    ]
    array = (_Comparison * len(comparisons))(*comparisons)
    action = _ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else _ERRNO | rule["errnoRet"]
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            continue  # no such call on this machine, or newer than the library: it stays refused
        code = library.seccomp_rule_add_array(context, action, number, len(comparisons), array)
        if code != 0:
            raise NoFilter(f"{LIBRARY} refused the rule for {name} ({os.strerror(-code)}).")
