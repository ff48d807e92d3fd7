"""Writes activities/sandbox/seccomp.json from sandbox.list; `--check` only says whether the two agree."""

import errno
import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "sandbox.list"
TARGET = HERE.parent.parent / "activities" / "sandbox" / "seccomp.json"

ALL_BITS = 0xFFFF_FFFF_FFFF_FFFF
SIGNAL_BLOCKS = ((16, 0), (2, 16), (1, 18), (4, 20), (8, 24), (32, 32), (1, 64))
"""0..64 without 19 (SIGSTOP) as blocks (size, start), each a power of two so that one masked comparison covers it."""

Rule = dict[str, Any]


def equal(index: int, value: int) -> Rule:
    """The comparison: argument `index` is exactly `value`."""
    return {"index": index, "value": value, "valueTwo": 0, "op": "SCMP_CMP_EQ"}


def masked(index: int, mask: int, value: int) -> Rule:
    """The comparison: argument `index` and `mask` is `value`."""
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def allow(names: list[str], args: list[Rule] | None = None) -> Rule:
    """Allows the calls, if their arguments compare."""
    return {"names": names, "action": "SCMP_ACT_ALLOW", "args": args or []}


def rules(line: str) -> list[Rule]:
    """The rules that one line of the list stands for."""
    if refused := re.fullmatch(r"errno (E\w+): (.+)", line):
        number = getattr(errno, refused[1])
        return [{"names": refused[2].split(), "action": "SCMP_ACT_ERRNO", "errnoRet": number, "args": []}]
    if both := re.fullmatch(r"(\w+) arg(\d) in (.+) and arg(\d) in (.+)", line):
        firsts, seconds = ([int(value, 0) for value in both[group].split()] for group in (3, 5))
        return [
            allow([both[1]], [equal(int(both[2]), first), equal(int(both[4]), second)])
            for first in firsts
            for second in seconds
        ]
    if limited := re.fullmatch(r"(\w+) arg(\d)(?: mask (\w+))? in (.+)", line):
        name, index = limited[1], int(limited[2])
        values = [int(value, 0) for value in limited[4].split()]
        if limited[3] is None:
            return [allow([name], [equal(index, value)]) for value in values]
        return [allow([name], [masked(index, int(limited[3], 0), value)]) for value in values]
    if signals := re.fullmatch(r"(\w+) arg(\d) signal", line):
        index = int(signals[2])
        return [allow([signals[1]], [masked(index, ALL_BITS - size + 1, start)]) for size, start in SIGNAL_BLOCKS]
    if re.fullmatch(r"[a-z0-9_ ]+", line):
        return [allow(line.split())]
    raise ValueError(f"This line of {SOURCE.name} is none of the forms that its head describes: {line!r}")


def profile(text: str) -> Rule:
    """The profile in Docker's format for a list in ours."""
    lines = (line.strip() for line in text.splitlines())
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        # No 32-bit sub-architectures: their socketcall() hides the family of a socket from any filter.
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
        ],
        "syscalls": [rule for line in lines if line and not line.startswith("#") for rule in rules(line)],
    }


def main(arguments: list[str]) -> int:
    """0 if the file is written, or with `--check` if it is up to date."""
    made = json.dumps(profile(SOURCE.read_text(encoding="utf-8")), indent=1) + "\n"
    if arguments == ["--check"]:
        current = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
        if current == made:
            return 0
        sys.stderr.write(f"{TARGET.name} does not follow from {SOURCE.name}. Run `python infra/seccomp/generate.py`.\n")
        return 1
    TARGET.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
