"""A plain process without any isolation, for development where nothing better is at hand (CONDUCTOR_UNSAFE_SUBPROCESS)."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack

from activities.sandbox.base import Check, Language, LanguageUnavailable, SandboxJob, SandboxOutcome
from activities.sandbox.process import Spawn, kill_group, run_process
from activities.sandbox.program import ENVIRONMENT, launcher, transfer
from activities.sandbox.trial import try_languages


class UnsafeSubprocess:
    """Runs code as the worker's own user, with the worker's files and network. It is no sandbox."""

    name = "unsafe"

    def __init__(self, programs: Mapping[Language, str], path: str = "/usr/local/bin:/usr/bin:/bin") -> None:
        """`programs`: absolute path of the interpreter of each language that is there."""
        self._programs = dict(programs)
        self._path = path
        self._missing: Mapping[Language, str] = {}

    def describe(self) -> str:
        return " ".join(
            [
                "UNSAFE: a plain process without isolation, with all files and the network of the worker "
                "(CONDUCTOR_UNSAFE_SUBPROCESS=1).",
                *self._missing.values(),
            ]
        )

    async def check(self) -> Check:
        found = await try_languages(self)
        self._missing = found.missing
        return found

    async def run(self, job: SandboxJob, /) -> SandboxOutcome:
        program = self._programs.get(job.language)
        if program is None:
            raise LanguageUnavailable(f"{job.language} is not available: its interpreter is not installed.")
        with ExitStack() as stack:
            # What the code leaves behind may be anything: a directory without rights, a file that is gone again.
            directory = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="conductor-", ignore_cleanup_errors=True)
            )
            spawn = Spawn(
                argv=launcher(job.language, program, directory),
                environment=ENVIRONMENT | {"PATH": self._path, "HOME": directory, "TMPDIR": directory},
                directory=directory,
            )
            return await run_process(spawn, transfer(job), job.timeout_seconds, kill_group)

    async def reap(self) -> int:
        """Nothing: without isolation nobody knows what a dead worker's code has left."""
        return 0

    async def close(self) -> None:
        """Nothing is held."""
