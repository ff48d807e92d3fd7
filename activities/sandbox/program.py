"""How code gets into a sandbox and is started there: by stdin, never by argv, and under a clock of its own."""

import math

from activities.sandbox.base import HARD_STOP_SECONDS, Language

PROGRAMS = {Language.PYTHON: "python3", Language.JAVASCRIPT: "node"}

FILE_NAMES = {Language.PYTHON: "main.py", Language.JAVASCRIPT: "main.js"}

FLAGS = {Language.PYTHON: ("-u", "-B", "-X", "utf8"), Language.JAVASCRIPT: ()}
"""Python: unbuffered, or a killed program loses what it printed; no .pyc files; UTF-8 whatever the locale."""

ENVIRONMENT = {"HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108 - the sandbox's own /tmp
"""Every variable that the code sees, beside PATH."""

# The clock. It ignores the stop signals that any process of its own user may send it; SIGSTOP is refused by seccomp.
_CLOCK = 'trap "" TSTP TTIN TTOU; stop=$1; shift; exec timeout -s KILL "$stop" sh -c "$0" sh "$@"'

# The length comes first, so that a connection that breaks cannot pass half of the code off as the whole.
_READ_AND_RUN = (
    'path=$1; shift; IFS= read -r size && head -c "$size" >"$path" && [ "$(wc -c <"$path")" -eq "$size" ] || exit 125; '
    'exec "$@" </dev/null'
)


def hard_stop(timeout_seconds: float) -> int:
    """Whole seconds after which a sandbox ends by itself."""
    return math.ceil(timeout_seconds) + HARD_STOP_SECONDS


def launcher(language: Language, program: str, directory: str, timeout_seconds: float) -> list[str]:
    """The arguments that read the code from stdin (see `transfer`), keep it in `directory` and run it.

    Whatever happens to the worker, the program and its children end at the hard stop: the first process of the
    sandbox ends then, and the kernel takes the rest of its process namespace along.
    """
    path = f"{directory}/{FILE_NAMES[language]}"
    stop = str(hard_stop(timeout_seconds))
    return ["sh", "-c", _CLOCK, _READ_AND_RUN, stop, path, program, *FLAGS[language], path]


def transfer(source: str) -> bytes:
    """What the launcher reads: the length in bytes, a line end, and the code in UTF-8."""
    code = source.encode("utf-8", "replace")
    return f"{len(code)}\n".encode() + code
