"""What a sandbox is: one job in, one outcome out, nothing left behind."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pydantic import Field

from conductor_ai.contracts.base import Contract
from conductor_ai.errors import ToolUnavailable

OUTPUT_LIMIT = 64 * 1024
"""Bytes of stdout, and as many of stderr, that are kept."""

MEMORY_BYTES = 128 * 1024 * 1024
"""What the code may use: the whole container with Docker, each process with bubblewrap."""

TMP_BYTES = 16 * 1024 * 1024
"""Size of `/tmp`, the only place that the code may write to."""

PROCESSES = 64
"""Processes and threads at the same time."""

OPEN_FILES = 256
"""Open files of one process."""

MAX_TIMEOUT_SECONDS = 60
"""The longest that a job may ask for."""

HARD_STOP_SECONDS = 5
"""How long after its timeout a sandbox ends by itself, if no worker is alive to end it."""


class Language(StrEnum):
    """What the code is written in."""

    PYTHON = "python"
    JAVASCRIPT = "javascript"


class SandboxJob(Contract):
    """One run of one piece of code."""

    language: Language
    source: str = Field(repr=False)
    timeout_seconds: float = Field(gt=0, le=MAX_TIMEOUT_SECONDS)
    """From the start of the code; then everything is killed."""
    session_id: str
    call_id: str
    run_id: str
    attempt: int
    """1 for the first attempt at this call. Whatever an earlier one left is removed before this one starts."""


class SandboxOutcome(Contract):
    """What became of a job. Every field is untrusted but the last four."""

    stdout: str
    """At most `OUTPUT_LIMIT` bytes in UTF-8; the middle is cut out if there was more, and the text says so."""
    stderr: str
    """The same for the other stream."""
    stdout_truncated: bool
    stderr_truncated: bool
    exit_code: int | None
    """0..255, 128 + signal for a program that a signal ended; None if the sandbox had to be killed."""
    timed_out: bool
    """True if it was killed because its time was over."""
    oom_killed: bool
    """True if the kernel killed a process of the sandbox for memory; the exit code may be 0 all the same."""
    duration_ms: int
    """From the start of the code to its end, by the worker's clock."""


@dataclass(frozen=True)
class Check:
    """What a trial run found."""

    missing: dict[Language, str] = field(default_factory=dict)
    """Languages that cannot be run, each with a sentence that says why and what to do."""

    @property
    def available(self) -> bool:
        """True if at least one language runs."""
        return len(self.missing) < len(Language)

    @property
    def reason(self) -> str:
        """Why something is missing; empty if nothing is."""
        return " ".join(dict.fromkeys(self.missing.values()))

    @staticmethod
    def failed(reason: str) -> "Check":
        """Nothing runs, for one reason."""
        return Check(dict.fromkeys(Language, reason))


class LanguageUnavailable(ToolUnavailable):
    """This sandbox works but cannot run this language. Trying again does not help; another language may."""


class Sandbox(Protocol):
    """A place to run code that nobody trusts. Implementations pass `tests/conformance/test_sandbox.py`."""

    @property
    def name(self) -> str:
        """One word: `docker`, `bubblewrap`, `unsafe`."""
        ...

    def describe(self) -> str:
        """One or two sentences for a person: what isolates the code, which limits hold, what is missing."""
        ...

    async def check(self) -> Check:
        """Really run a small program in each language. Never raises for a sandbox that does not work."""
        ...

    async def run(self, job: SandboxJob, /) -> SandboxOutcome:
        """Run one job to its end.

        Raises:
            LanguageUnavailable: the job's language cannot be run here.
            ToolUnavailable: the engine is away or misbehaves; another attempt may work.
            asyncio.CancelledError: within a second, after everything that the job started is gone; if the engine hangs,
                what is left ends by its own clock and is removed later.
        """
        ...

    async def reap(self) -> int:
        """Remove what dead workers left behind; the number of things removed.

        Raises:
            ToolUnavailable: the engine is away.
        """
        ...

    async def close(self) -> None:
        """Give back connections and threads. Running jobs must have ended."""
        ...
