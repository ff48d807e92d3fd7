"""How code gets into a sandbox and is started there: by stdin, never by argv, and under a clock of its own."""

import math

from activities.sandbox.base import HARD_STOP_SECONDS, MAX_TIMEOUT_SECONDS, Language, SandboxJob

PROGRAMS = {Language.PYTHON: "python3", Language.JAVASCRIPT: "node"}

FILE_NAMES = {Language.PYTHON: "main.py", Language.JAVASCRIPT: "main.js"}

FLAGS = {Language.PYTHON: ("-u", "-B", "-X", "utf8"), Language.JAVASCRIPT: ()}
"""Python: unbuffered, or a killed program loses what it printed; no .pyc files; UTF-8 whatever the locale."""

ENVIRONMENT = {"HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108 - the sandbox's own /tmp
"""Every variable that Conductor sets for the code, beside PATH. An image may have some of its own."""

WAIT_SECONDS = 30
"""How long a new sandbox waits for its code. A worker that is gone closes the stream, and it ends at once."""

# Waits for a line with the job's hard stop and the size of its code. `read` takes byte after byte: nothing of the code
# is lost to it. The clock ignores the stop signals that any process of its own user may send it; SIGSTOP is refused by
# seccomp. A limit on processor time stands behind it; where a lower one is in force already, that one stays.
_WAIT = (
    'trap "" TSTP TTIN TTOU; line=$(timeout -s KILL "$1" sh -c \'IFS= read -r line && echo "$line"\') || exit 125; '
    'shift; set -- $line "$@"; stop=$1; shift; ulimit -t "$stop" 2>/dev/null || :; '
    'exec timeout -s KILL "$stop" sh -c "$0" sh "$@"'
)

# The length is known, so that a connection that breaks cannot pass half of the code off as the whole.
_READ_AND_RUN = (
    'size=$1; path=$2; shift 2; head -c "$size" >"$path" && [ "$(wc -c <"$path")" -eq "$size" ] || exit 125; '
    'exec "$@" </dev/null'
)


def hard_stop(timeout_seconds: float) -> int:
    """Whole seconds after which a sandbox ends by itself, counted from when it has got its code."""
    return math.ceil(timeout_seconds) + HARD_STOP_SECONDS


LONGEST_STOP = hard_stop(MAX_TIMEOUT_SECONDS)
"""The hard stop of the longest job."""


def launcher(language: Language, program: str, directory: str, wait_seconds: int = WAIT_SECONDS) -> list[str]:
    """The arguments that wait for a job on stdin (see `transfer`), keep its code in `directory` and run it.

    Whatever happens to the worker, the program and its children end at the hard stop: the first process of the
    sandbox ends then, and the kernel takes the rest of its process namespace along. Nothing of the job is needed to
    start, so that a sandbox can be made ahead; without a job it ends after `wait_seconds`, or when stdin is closed.
    """
    path = f"{directory}/{FILE_NAMES[language]}"
    return ["sh", "-c", _WAIT, _READ_AND_RUN, str(wait_seconds), path, program, *FLAGS[language], path]


def transfer(job: SandboxJob) -> bytes:
    """What the launcher reads: the hard stop in seconds, the length in bytes, a line end, and the code in UTF-8."""
    code = job.source.encode("utf-8", "replace")
    return f"{hard_stop(job.timeout_seconds)} {len(code)}\n".encode() + code
