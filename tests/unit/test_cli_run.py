"""`conductor run` against a small real server: what it sends, prints and exits with."""

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from conductor_ai.cli.app import app
from conductor_ai.contracts.status import CallState, Status
from conductor_ai.contracts.views import ErrorView
from tests.fixtures_cli import KEY, SESSION, FakeConductor, action, approval, problem, serving, session, step
from tests.fixtures_servers import wait_until

WAITING = step(1, action(tool="sql_query", status=CallState.WAITING, arguments={"query": "SELECT 1"}))
DONE = session(
    9, step(1, action()), step(2, thought="It is 42.", final="It is 42."), status=Status.COMPLETED, answer="It is 42."
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` and no data directory of the checkout has a say here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeConductor]:
    """A server whose session completes."""
    with serving(FakeConductor(session(1), DONE)) as server:
        yield server


def conductor(fake: FakeConductor, *arguments: str, **env: str) -> Result:
    """Runs the command against the server."""
    known = {"CONDUCTOR_API_URL": fake.url, "CONDUCTOR_API_KEY": KEY, "CONDUCTOR_TEMPORAL_UI_URL": "http://ui.test/"}
    return CliRunner().invoke(app, arguments, env={**known, **env}, catch_exceptions=False)


def lines(result: Result) -> list[dict[str, object]]:
    """The objects that `--json` printed."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_completed_session_is_shown_with_all_that_was_promised(fake: FakeConductor) -> None:
    """Steps, answer, tokens, cost and the link to the workflow; the answer is shown once; the code is 0."""
    result = conductor(fake, "run", "What is it?")
    assert result.exit_code == 0
    assert result.stdout.count("It is 42.") == 1
    for part in ("Step 1", "web_fetch succeeded", "1,234 in, 56 out", "$0.0123"):
        assert part in result.stdout
    assert f"http://ui.test/namespaces/default/workflows/{SESSION}" in result.stdout


def test_options_become_the_request(fake: FakeConductor) -> None:
    """Only what the command line says is sent; the rest is left to the server."""
    conductor(
        fake,
        "run",
        "Go.",
        "--model",
        "demo",
        "--tool",
        "web_fetch",
        "--tool",
        "code_run",
        "--max-steps",
        "3",
        "--system",
        "Be brief.",
    )
    conductor(fake, "run", "Go.", "--no-tools")
    conductor(fake, "run", "Go.")
    message = [{"role": "user", "content": "Go."}]
    assert [each.body for each in fake.asked("POST", "/v1/agents/run")] == [
        {"messages": message, "model": "demo", "tools": ["web_fetch", "code_run"], "max_steps": 3, "system_prompt": "Be brief."},
        {"messages": message, "tools": []},
        {"messages": message},
    ]  # fmt: skip


def test_json_is_one_object_a_line(fake: FakeConductor) -> None:
    """Each step comes whole when it is done; the end says the exit code; nothing else is on standard output."""
    result = conductor(fake, "run", "Go.", "--json")
    events = lines(result)
    assert [each["event"] for each in events] == ["session", "step", "step", "end"]
    assert events[0]["session_id"] == SESSION
    assert (events[-1]["exit_code"], events[-1]["final_answer"], result.exit_code) == (0, "It is 42.", 0)


@pytest.mark.parametrize(("status", "code"), [(Status.FAILED, 1), (Status.CANCELLED, 3)])
def test_other_ends_have_their_codes(status: Status, code: int) -> None:
    """A failure is shown with its reason and whether it may work later."""
    end = session(2, status=status, error=ErrorView(code="model_unavailable", message="It was away.", retryable=True))
    with serving(FakeConductor(session(1), end)) as fake:
        result = conductor(fake, "run", "Go.")
    assert result.exit_code == code
    assert "model_unavailable: It was away. The same may work later." in result.stdout


def test_without_a_terminal_an_approval_stays_pending() -> None:
    """The code is 4, and standard error says what to type; nothing was decided."""
    with serving(FakeConductor(session(1, WAITING, pending=[approval()]))) as fake:
        result = conductor(fake, "run", "Go.")
        as_json = conductor(fake, "run", "Go.", "--json")
    assert (result.exit_code, as_json.exit_code) == (4, 4)
    assert "conductor approvals approve appr_of_call_1" in result.stderr
    assert "conductor approvals deny appr_of_call_1" in as_json.stderr
    assert [each["event"] for each in lines(as_json)] == ["session", "approval", "end"]
    assert not [each for each in fake.requests if each.path.endswith("/decision")]


def test_yes_approves() -> None:
    """`--yes` says that it decided, and the session completes."""
    with serving(FakeConductor(session(1, WAITING, pending=[approval()]))) as fake:
        fake.on_decision = lambda _: fake.publish(DONE)
        result = conductor(fake, "run", "Go.", "--yes")
    assert result.exit_code == 0
    assert "Approved (--yes)" in result.stdout


def test_nothing_of_an_approval_is_hidden_or_shortened() -> None:
    """Characters that hide or move text are written out, and a long statement is shown to its last word."""
    query = "SELECT '" + "x" * 3000 + "' AS the_last_word\u202e--\x1b[8m"
    with serving(FakeConductor(session(1, WAITING, pending=[approval(query=query)]))) as fake:
        result = conductor(fake, "run", "Go.")
    assert "AS the_last_word⟨U+202E⟩--⟨U+001B⟩[8m" in result.stdout
    assert "x" * 3000 in result.stdout
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout


def test_results_cannot_steer_the_terminal() -> None:
    """Observations, thoughts and answers are text from outside."""
    end = session(
        2,
        step(1, action(observation="\x1b]0;owned\x07"), thought="[red]\x9b2J"),
        status=Status.COMPLETED,
        answer="\x1b[2J",
    )
    with serving(FakeConductor(session(1), end)) as fake:
        result = conductor(fake, "run", "Go.")
    assert not {"\x1b", "\x07", "\x9b"} & set(result.stdout)
    assert "[red]⟨U+009B⟩2J" in result.stdout


def test_a_refused_request_is_a_sentence(fake: FakeConductor) -> None:
    """422 is wrong usage: the server's words, code 2, no traceback."""
    fake.replies.append(("/v1/agents/run", problem(422, "unknown_model", "There is no such model.")))
    result = conductor(fake, "run", "Go.", "--model", "nonsense")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "There is no such model.\n")


def test_a_wrong_key_is_a_sentence(fake: FakeConductor) -> None:
    """401 is code 1."""
    fake.replies.append(("/v1/agents/run", problem(401, "unauthenticated", "The key is not known.")))
    result = conductor(fake, "run", "Go.")
    assert (result.exit_code, result.stderr) == (1, "The key is not known.\n")


def test_a_server_that_is_gone_leaves_a_session_that_goes_on(fake: FakeConductor) -> None:
    """What fails after the start is told together with what becomes of the session."""
    fake.replies.append((f"/v1/agents/{SESSION}", problem(500, "internal", "An unexpected error occurred.")))
    result = conductor(fake, "run", "Go.")
    assert result.exit_code == 5
    assert "An unexpected error occurred." in result.stderr
    assert f"conductor sessions show {SESSION}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (("run",), {}, "Missing argument"),
        (("run", "x", "--tool", "a", "--no-tools"), {}, "exclude each other"),
        (("run", "x", "--max-steps", "0"), {}, "max-steps"),
        (("demo", "--ask"), {}, "terminal"),
        (("nonsense",), {}, "nonsense"),
        (("run", "x"), {"CONDUCTOR_API_URL": "nowhere"}, "CONDUCTOR_API_URL"),
        (("run", "x"), {"CONDUCTOR_PORT": "secret-value"}, "CONDUCTOR_PORT"),
        (("run", "x"), {"CONDUCTOR_AUTH": "off", "CONDUCTOR_HOST": "192.0.2.1"}, "CONDUCTOR_AUTH"),
    ],
)
def test_wrong_usage_is_code_2(fake: FakeConductor, arguments: tuple[str, ...], env: dict[str, str], said: str) -> None:
    """Options and settings that cannot work are told in a sentence that names them, never their values; nothing is sent."""
    result = conductor(fake, *arguments, **env)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert "secret-value" not in result.stderr
    assert not fake.requests


COMMAND = (sys.executable, "-m", "conductor_ai.cli", "run", "Go.")


def environment(fake: FakeConductor) -> dict[str, str]:
    """The environment of a command that runs as a process of its own."""
    root = str(Path(__file__).parents[2])
    return {
        "CONDUCTOR_API_URL": fake.url,
        "CONDUCTOR_API_KEY": KEY,
        "PYTHONPATH": root,
        "PATH": "/usr/bin:/bin",
        "TERM": "dumb",
    }


async def test_ctrl_c_says_that_the_session_goes_on() -> None:
    """The code is 130, and standard error says how to look at the session and how to cancel it."""
    with serving(FakeConductor(session(1))) as fake:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, env=environment(fake), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )

        async def followed() -> bool:
            return any("wait" in each.query for each in fake.requests)

        await wait_until(followed, "the command follows the session", 30)
        process.send_signal(signal.SIGINT)
        _, stderr = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 130
    assert f"conductor sessions show {SESSION}" in stderr.decode()
    assert f"conductor sessions cancel {SESSION}" in stderr.decode()
    assert "Traceback" not in stderr.decode()


async def test_on_a_terminal_the_person_is_asked() -> None:
    """What is typed on a real terminal decides; the answer comes after it."""
    ours, theirs = pty.openpty()
    heard = b""
    try:
        with serving(FakeConductor(session(1, WAITING, pending=[approval()]))) as fake:
            fake.on_decision = lambda _: fake.publish(DONE)
            process = await asyncio.create_subprocess_exec(
                *COMMAND, env=environment(fake), stdin=theirs, stdout=theirs, stderr=theirs
            )
            os.set_blocking(ours, False)

            async def asked() -> bool:
                nonlocal heard
                with suppress(BlockingIOError):
                    heard += os.read(ours, 65_536)
                return b"[q]uit?" in heard

            async def ended() -> bool:
                await asked()  # A terminal that nobody reads holds up whoever writes to it.
                return process.returncode is not None

            await wait_until(asked, "the question", 30)
            os.write(ours, b"d too early\n")
            await wait_until(ended, "the end of the command", 30)
            assert process.returncode == 0
            decision = fake.asked("POST", "/v1/approvals/appr_of_call_1/decision")[0]
    finally:
        os.close(theirs)
        os.close(ours)
    assert decision.body["decision"] == "deny"
    assert decision.body["comment"] == "too early"
    assert b"SELECT 1" in heard
