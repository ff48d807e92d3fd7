"""The tool `code_run` over a sandbox that answers as told: arguments, facts, and how outcomes become results."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from activities.sandbox.base import Check, Language, LanguageUnavailable, SandboxJob, SandboxOutcome
from activities.tools.base import Call, Tool
from activities.tools.code_run import CodeRun, CodeRunArguments, result_of
from conductor_ai.contracts.tools import Category, Facts, Queue
from conductor_ai.errors import ToolUnavailable

CALL = Call(org_id="o", session_id="sess_1", call_id="call_1", run_id="run_1", attempt=2)


class Scripted:
    """A sandbox that does not run anything."""

    name = "scripted"

    def __init__(self, answer: SandboxOutcome | Exception) -> None:
        self.answer = answer
        self.jobs: list[SandboxJob] = []
        self.closed = False

    def describe(self) -> str:
        return "A scripted sandbox."

    async def check(self) -> Check:
        return Check()

    async def run(self, job: SandboxJob, /) -> SandboxOutcome:
        self.jobs.append(job)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def reap(self) -> int:
        return 0

    async def close(self) -> None:
        self.closed = True


def an_outcome(**changes: object) -> SandboxOutcome:
    """A good outcome with some fields changed."""
    fields: dict[str, object] = {
        "stdout": "",
        "stderr": "",
        "stdout_truncated": False,
        "stderr_truncated": False,
        "exit_code": 0,
        "timed_out": False,
        "oom_killed": False,
        "duration_ms": 5,
    }
    return SandboxOutcome.model_validate(fields | changes)


def arguments(**changes: object) -> CodeRunArguments:
    """Valid arguments with some fields changed."""
    return CodeRunArguments.model_validate({"code": "print(1)", "language": "python"} | changes)


def test_it_is_a_tool() -> None:
    """It has everything that a tool has, runs on the sandbox queue, and says which sandbox is in force."""
    tool: Tool[CodeRunArguments] = CodeRun(Scripted(an_outcome()))
    assert isinstance(tool, Tool)
    spec = tool.spec
    assert (spec.name, spec.category, spec.queue) == ("code_run", Category.CODE, Queue.SANDBOX)
    assert not spec.requires_approval
    assert spec.note == "A scripted sandbox."
    assert tool.facts(arguments()) == Facts(writes=False, replayable=True)
    assert tool.timeout(arguments(timeout=7)) == timedelta(seconds=7)


def test_the_schema_names_limits() -> None:
    """The model reads the languages, the default and the maximum in the schema."""
    schema = CodeRun(Scripted(an_outcome())).spec.parameters
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert properties["timeout"] == {
        "default": 30,
        "description": "Seconds after which the program is killed.",
        "maximum": 60,
        "minimum": 1,
        "title": "Timeout",
        "type": "integer",
    }
    assert schema["required"] == ["code", "language"]
    assert schema["additionalProperties"] is False
    assert "javascript" in str(schema)


@pytest.mark.parametrize(
    "changes",
    [{"timeout": 0}, {"timeout": 61}, {"timeout": "5"}, {"language": "ruby"}, {"code": ""}, {"code": 1}, {"extra": 1}],
)
def test_arguments_are_strict(changes: dict[str, object]) -> None:
    """Anything outside of the schema is refused."""
    with pytest.raises(ValidationError):
        arguments(**changes)


def test_defaults() -> None:
    """30 seconds if nothing is said."""
    assert (arguments().timeout, arguments().language) == (30, Language.PYTHON)


async def test_the_job_carries_the_call() -> None:
    """Session, call, run and attempt reach the sandbox, which labels and replaces by them."""
    sandbox = Scripted(an_outcome(stdout="1\n"))
    result = await CodeRun(sandbox).run(arguments(timeout=5), CALL)
    assert (result.ok, result.content) == (True, "1\n")
    job = sandbox.jobs[0]
    assert (job.session_id, job.call_id, job.run_id, job.attempt) == ("sess_1", "call_1", "run_1", 2)
    assert (job.source, job.language, job.timeout_seconds) == ("print(1)", Language.PYTHON, 5)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"oom_killed": True}, None),
        ({"exit_code": 1}, "nonzero_exit"),
        ({"exit_code": 137}, "nonzero_exit"),
        ({"exit_code": 137, "oom_killed": True}, "out_of_memory"),
        ({"exit_code": 1, "oom_killed": True}, "out_of_memory"),
        ({"exit_code": None, "timed_out": True}, "timeout"),
        ({"exit_code": None, "timed_out": True, "oom_killed": True}, "timeout"),
    ],
)
def test_outcomes_become_results(changes: dict[str, object], code: str | None) -> None:
    """Exit, time and memory are told apart; whatever failed, what was printed is in the text."""
    result = result_of(an_outcome(stdout="printed\n", stderr="warned\n", **changes), arguments())
    assert result.ok == (code is None)
    assert (result.error.code if result.error else None) == code
    assert "printed\n" in result.content
    assert "warned\n" in result.content
    if result.error:
        assert result.content.startswith(result.error.message)


def test_a_plain_success_is_its_output_alone() -> None:
    """No decoration where there is nothing else to say."""
    assert result_of(an_outcome(stdout="42\n"), arguments()).content == "42\n"
    assert result_of(an_outcome(), arguments()).content == "(The program printed nothing.)"


def test_a_cut_and_a_killed_child_are_said() -> None:
    """What the text alone does not show is said in words."""
    result = result_of(an_outcome(stdout="a", stdout_truncated=True, oom_killed=True), arguments())
    assert result.ok
    assert result.truncated
    assert "stdout was longer than 64 KB" in result.content
    assert "killed for memory" in result.content


def test_data_holds_everything() -> None:
    """Programs get the fields apart."""
    assert result_of(an_outcome(stdout="a", exit_code=3), arguments()).data == {
        "language": "python",
        "stdout": "a",
        "stderr": "",
        "stdout_truncated": False,
        "stderr_truncated": False,
        "exit_code": 3,
        "timed_out": False,
        "oom_killed": False,
        "duration_ms": 5,
    }


async def test_a_missing_language_is_a_result() -> None:
    """The model can use the other language, so it is told."""
    tool = CodeRun(Scripted(LanguageUnavailable("javascript is not available: why.")))
    result = await tool.run(arguments(language="javascript"), CALL)
    assert result.error is not None
    assert (result.error.code, result.content) == ("language_unavailable", "javascript is not available: why.")


async def test_engine_trouble_is_a_failed_attempt() -> None:
    """It is no result: the activity may be tried again."""
    with pytest.raises(ToolUnavailable, match="away"):
        await CodeRun(Scripted(ToolUnavailable("away"))).run(arguments(), CALL)


async def test_what_a_person_sees_and_closing() -> None:
    """A policy that asks shows size, language, limit and the sandbox; closing the tool closes the sandbox."""
    sandbox = Scripted(an_outcome())
    tool = CodeRun(sandbox)
    shown = await tool.prepare(arguments(code="a\nb\n"), CALL)
    assert shown.summary == "Runs 2 lines of python for at most 30 s."
    assert shown.evidence[0].value == "A scripted sandbox."
    assert await tool.outcome(CALL) is None
    await tool.close()
    assert sandbox.closed
