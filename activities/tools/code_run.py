"""The tool `code_run`: runs a piece of Python or JavaScript in a sandbox and tells what it printed."""

from datetime import timedelta

from pydantic import Field

from activities.sandbox.base import OUTPUT_LIMIT, Language, LanguageUnavailable, Sandbox, SandboxJob, SandboxOutcome
from activities.tools.base import Arguments, Call, NotExecuted, spec_of
from conductor_ai.contracts.tools import Category, Column, Consequence, Facts, Queue, ToolError, ToolResult, ToolSpec

MAX_CODE = 1_048_576
"""Characters of code in one call."""

DESCRIPTION = (
    "Runs a program and returns its standard output, standard error and exit code. The program runs alone in a "
    "sandbox: no network, no files from outside, nothing is kept between calls. It may write files under /tmp (16 MB) and has "
    "about 128 MB of memory. Count on the language's standard library alone. Print what you want to know."
)


class CodeRunArguments(Arguments):
    """What `code_run` takes."""

    code: str = Field(min_length=1, max_length=MAX_CODE, description="The whole program.")
    language: Language = Field(
        # Strict models take no text for an enum; the model sends text.
        strict=False,
        description="python, or javascript (Node.js, a CommonJS script: use require).",
    )
    timeout: int = Field(30, ge=1, le=60, description="Seconds after which the program is killed.")


class CodeRun:
    """Runs code in the sandbox that this worker has."""

    arguments: type[Arguments] = CodeRunArguments

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    @property
    def spec(self) -> ToolSpec:
        return spec_of(
            "code_run",
            DESCRIPTION,
            Category.CODE,
            CodeRunArguments,
            requires_approval=False,
            queue=Queue.SANDBOX,
            note=self._sandbox.describe(),
        )

    def facts(self, _arguments: CodeRunArguments, /) -> Facts:
        """Nothing leaves a sandbox, so running it twice does no harm."""
        return Facts(writes=False, replayable=True)

    def timeout(self, arguments: CodeRunArguments, /) -> timedelta:
        return timedelta(seconds=arguments.timeout)

    async def prepare(self, arguments: CodeRunArguments, _call: Call, /) -> Consequence:
        return Consequence(
            summary=f"Runs {len(arguments.code.splitlines())} lines of {arguments.language} for at most "
            f"{arguments.timeout} s.",
            risk="low",
            evidence=(Column(label="Sandbox", value=self._sandbox.describe()),),
        )

    async def run(self, arguments: CodeRunArguments, call: Call, /) -> ToolResult:
        job = SandboxJob(
            language=arguments.language,
            source=arguments.code,
            timeout_seconds=arguments.timeout,
            session_id=call.session_id,
            call_id=call.call_id,
            run_id=call.run_id,
            attempt=call.attempt,
        )
        try:
            outcome = await self._sandbox.run(job)
        except LanguageUnavailable as error:
            return ToolResult(
                ok=False, content=error.message, error=ToolError(code="language_unavailable", message=error.message)
            )
        return result_of(outcome, arguments)

    async def outcome(self, _call: Call, /) -> ToolResult | NotExecuted | None:
        """Cannot be known, and need not: the call may be run again."""
        return None

    async def close(self) -> None:
        await self._sandbox.close()


def result_of(outcome: SandboxOutcome, arguments: CodeRunArguments) -> ToolResult:
    """The outcome of a run as the model is told it."""
    error = _error(outcome, arguments)
    return ToolResult(
        ok=error is None,
        content=_content(outcome, error),
        data={
            "language": arguments.language.value,
            **outcome.model_dump(mode="json"),
        },
        truncated=outcome.stdout_truncated or outcome.stderr_truncated,
        error=error,
    )


def _error(outcome: SandboxOutcome, arguments: CodeRunArguments) -> ToolError | None:
    if outcome.timed_out:
        return ToolError(
            code="timeout",
            message=f"The program was killed after {arguments.timeout} s. What it had printed until then is kept.",
        )
    if outcome.exit_code == 0:
        return None
    if outcome.oom_killed:
        return ToolError(
            code="out_of_memory",
            message="The program was killed because it used more memory than the sandbox has (128 MB).",
        )
    return ToolError(code="nonzero_exit", message=f"The program ended with exit code {outcome.exit_code}.")


def _content(outcome: SandboxOutcome, error: ToolError | None) -> str:
    """What is said of the run first, then each stream under its name; a plain success is its output alone."""
    notes = [] if error is None else [error.message]
    if error is None and outcome.oom_killed:
        notes.append("A process that the program started was killed for memory (128 MB in all).")
    for name, cut in (("stdout", outcome.stdout_truncated), ("stderr", outcome.stderr_truncated)):
        if cut:
            notes.append(f"{name} was longer than {OUTPUT_LIMIT // 1024} KB: its middle is missing.")
    if not notes and not outcome.stderr:
        return outcome.stdout or "(The program printed nothing.)"
    parts = ["\n".join(notes)] if notes else []
    parts += [
        f"--- {name} ---\n{text}" for name, text in (("stdout", outcome.stdout), ("stderr", outcome.stderr)) if text
    ]
    return "\n".join(parts)
