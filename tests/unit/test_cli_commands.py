"""The other commands: sessions, approvals, the doctor's output, and what is promised about all of them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from conductor_ai.cli import find, hints
from conductor_ai.cli.app import app
from conductor_ai.cli.codes import ExitCode, of_error
from conductor_ai.cli.find import Origin, Place
from conductor_ai.cli.health import show_checks
from conductor_ai.contracts.status import CallState, Status
from conductor_ai.doctor import Check
from conductor_ai.embedded.guard import start_of
from conductor_ai.embedded.runtime import Runtime, write_runtime
from conductor_ai.errors import ConductorError, ConfigurationError, Conflict, InvalidRequest, NotFound, Unavailable
from conductor_ai.settings import Settings
from tests.fixtures_cli import KEY, SESSION, FakeConductor, action, approval, problem, serving, session, step

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference" / "cli.md"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` and no data directory of the checkout has a say here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeConductor]:
    """A server whose session waits for a person."""
    waiting = step(1, action(status=CallState.WAITING))
    with serving(FakeConductor(session(1, waiting, pending=[approval()]))) as server:
        yield server


def conductor(fake: FakeConductor | None, *arguments: str, **env: str) -> Result:
    """Runs the command, against a server if there is one."""
    known = {} if fake is None else {"CONDUCTOR_API_URL": fake.url, "CONDUCTOR_API_KEY": KEY}
    return CliRunner().invoke(app, arguments, env={**known, **env}, catch_exceptions=False)


def test_sessions_are_listed_and_shown(fake: FakeConductor) -> None:
    """A list for people, the same for programs, and one session with its steps and what it waits for."""
    listed = conductor(fake, "sessions", "list").stdout
    assert SESSION in listed
    assert "  1 step  " in listed
    assert json.loads(conductor(fake, "sessions", "list", "--json").stdout)["data"][0]["session_id"] == SESSION
    shown = conductor(fake, "sessions", "show", SESSION)
    assert "Step 1" in shown.stdout
    assert "  1 step · tokens" in shown.stdout
    assert 'Asked by the rule "' in shown.stdout
    assert "conductor approvals approve appr_of_call_1" in shown.stdout
    assert json.loads(conductor(fake, "sessions", "show", SESSION, "--json").stdout)["session_id"] == SESSION


def test_a_session_is_cancelled_with_its_reason(fake: FakeConductor) -> None:
    """The server's message is shown."""
    result = conductor(fake, "sessions", "cancel", SESSION, "--reason", "changed my mind")
    assert (result.exit_code, "cancelled" in result.stdout) == (0, True)
    assert fake.requests[0].body == {"reason": "changed my mind"}


@pytest.mark.parametrize(("word", "decision"), [("approve", "approve"), ("deny", "deny")])
def test_approvals_are_listed_shown_and_decided(fake: FakeConductor, word: str, decision: str) -> None:
    """Deciding shows the call first and names the digest of what it showed."""
    assert "appr_of_call_1" in conductor(fake, "approvals", "list").stdout
    assert json.loads(conductor(fake, "approvals", "show", "appr_of_call_1", "--json").stdout)["tool"] == "sql_query"
    result = conductor(fake, "approvals", word, "appr_of_call_1", "--comment", "fine")
    body = fake.asked("POST", "/v1/approvals/appr_of_call_1/decision")[0].body
    assert result.exit_code == 0
    assert "SELECT 1" in result.stdout
    assert body == {"decision": decision, "arguments_sha256": "a" * 64, "comment": "fine"}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("edit", "{}"), None),
        (("edit", '{"query": "SELECT 2"}'), {"decision": "edit", "arguments": {"query": "SELECT 2"}}),
        (("answer", "42"), {"decision": "answer", "answer": "42"}),
        (
            ("approve", "--remember", "--free", "params", "--uses", "3"),
            {
                "decision": "approve",
                "remember": {
                    "match": "template",
                    "free": ["params"],
                    "scope": "session",
                    "expires_in": 3600,
                    "uses": 3,
                },
            },
        ),
    ],
)
def test_decisions_that_do_more(
    fake: FakeConductor, arguments: tuple[str, ...], wanted: dict[str, object] | None
) -> None:
    """What comes with a decision is sent as it was given, for exactly the call that was shown."""
    word, *rest = arguments
    result = conductor(fake, "approvals", word, "appr_of_call_1", *rest)
    assert result.exit_code == 0
    body = fake.asked("POST", "/v1/approvals/appr_of_call_1/decision")[0].body
    expected = wanted or {"decision": "edit", "arguments": {}}
    assert body == {"arguments_sha256": "a" * 64, **expected}


@pytest.mark.parametrize(
    "arguments",
    [
        ("approvals", "edit", "appr_of_call_1", "{not json"),
        ("approvals", "edit", "appr_of_call_1", "[1]"),
        ("approvals", "approve", "appr_of_call_1", "--uses", "3"),
        ("sessions", "budget", SESSION),
    ],
)
def test_what_makes_no_sense_is_code_2(fake: FakeConductor, arguments: tuple[str, ...]) -> None:
    """Nothing is sent."""
    assert conductor(fake, *arguments).exit_code == 2
    assert fake.requests == []


def test_a_decision_that_was_made_otherwise_is_code_1(fake: FakeConductor) -> None:
    """409 is the server's sentence."""
    fake.replies.append(("/v1/approvals/appr_of_call_1/decision", problem(409, "already_decided", "It was denied.")))
    result = conductor(fake, "approvals", "approve", "appr_of_call_1")
    assert (result.exit_code, result.stderr) == (1, "It was denied.\n")


@pytest.mark.parametrize("arguments", [("sessions", "list"), ("sessions", "show", "x"), ("approvals", "list")])
def test_no_known_server_is_code_5(arguments: tuple[str, ...]) -> None:
    """Neither a setting nor a running `conductor dev`: the sentence says how to get one."""
    result = conductor(None, *arguments)
    assert result.exit_code == 5
    assert "conductor dev" in result.stderr


def test_wrong_filters_are_code_2(fake: FakeConductor) -> None:
    """Words from a closed set are checked before anything is asked."""
    assert conductor(fake, "sessions", "list", "--status", "done").exit_code == 2
    assert conductor(fake, "keys", "create", "--name", "x", "--role", "king").exit_code == 2
    assert not fake.requests


def runtime(folder: Path, url: str, start: int | None) -> Runtime:
    """The note of a stack whose supervisor is this process, if `start` is its start time."""
    (folder / "api-key").write_text("ck_dev\n", encoding="utf-8")
    return Runtime(
        data_dir=folder, supervisor_pid=os.getpid(), supervisor_start=start or 0, started_at=datetime.now(UTC),
        api_url=url, api_key_file=folder / "api-key", temporal_address="127.0.0.1:1", temporal_ui_url="http://127.0.0.1:2",
        database_url="postgresql://x", redis_url="redis://x", sql_url="postgresql://x", page_url="http://127.0.0.1:3/",
        log_dir=folder, pids={},
    )  # fmt: skip


def test_the_running_dev_is_found_with_its_key(fake: FakeConductor, tmp_path: Path) -> None:
    """Without CONDUCTOR_API_URL the note in the data directory says where the API is; a setting wins over it."""
    write_runtime(runtime(tmp_path, fake.url, start_of(os.getpid())))
    assert conductor(None, "sessions", "list", "--data-dir", str(tmp_path)).exit_code == 0
    assert fake.requests[0].headers["authorization"] == "Bearer ck_dev"
    named = Settings(data_dir=tmp_path, api_url="http://127.0.0.1:9")
    assert find.running(named).origin is Origin.SETTINGS


def test_the_note_of_a_dead_dev_is_not_believed(fake: FakeConductor, tmp_path: Path) -> None:
    """Whoever listens on a dead server's port now does not get its key."""
    write_runtime(runtime(tmp_path, fake.url, None))
    assert conductor(None, "sessions", "list", "--data-dir", str(tmp_path)).exit_code == 5
    assert not fake.requests


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("x"), ExitCode.UNREACHABLE),
        (ConfigurationError("x"), ExitCode.USAGE),
        (InvalidRequest("x"), ExitCode.USAGE),
        (NotFound("x"), ExitCode.FAILED),
        (Conflict("x"), ExitCode.FAILED),
        (ConductorError("x"), ExitCode.FAILED),
    ],
)
def test_each_error_has_its_code(error: ConductorError, code: ExitCode) -> None:
    """What may work later, what never will, and what was refused are told apart."""
    assert of_error(error) is code


def test_hints_for_a_stack_that_ends_with_the_run() -> None:
    """Somebody whose servers have just stopped is told to start them first, on the same data, quoted for a shell."""
    place = Place(Origin.EMBEDDED, "http://127.0.0.1:1", None, None, "default", Path("/data here"))
    said = hints.how_to_decide(place, session(1, pending=[approval()]), Path("/data here"))
    assert "conductor dev --data-dir '/data here'" in said[0]
    assert "  conductor approvals approve appr_of_call_1 --data-dir '/data here'" in said
    assert "goes on as soon as they run again" in hints.goes_on(place, SESSION, None)[0]


def test_a_session_that_ended_is_shown_without_hints() -> None:
    """Looking at a failed session is a success of the command."""
    with serving(FakeConductor(session(1, status=Status.FAILED))) as ended:
        result = conductor(ended, "sessions", "show", SESSION)
    assert result.exit_code == 0
    assert "Failed" in result.stdout
    assert "approvals" not in result.stdout


def test_findings_of_the_doctor_are_graded(capsys: pytest.CaptureFixture[str]) -> None:
    """A fault makes the code 1; advice alone does not."""
    assert (
        show_checks([Check("a", True, "Fine."), Check("b", True, "Works.", "Could be better.")]) is ExitCode.COMPLETED
    )
    assert show_checks([Check("c", False, "Broken\x1b[2J.", "Mend it.")]) is ExitCode.FAILED
    said = capsys.readouterr().out
    assert "✓ a: Fine." in said
    assert "! b: Works.\n    Could be better." in said
    assert "✗ c: Broken⟨U+001B⟩[2J.\n    Mend it.\n1 of 1 checks failed." in said


def test_the_doctor_tells_wrong_settings_as_a_finding() -> None:
    """The other checks need settings, so this one comes alone."""
    result = conductor(None, "doctor", CONDUCTOR_PORT="x")
    assert result.exit_code == 1
    assert "✗ settings" in result.stdout


HEAVY = ("pydantic", "httpx", "rich.console", "temporalio", "asyncpg", "fastapi", "anthropic", "redis", "docker")


def test_help_imports_nothing_heavy() -> None:
    """`conductor --help` answers at once because what commands need is imported when they run."""
    program = (
        "import sys\nfrom conductor_ai.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert "Runs AI agents" in done.stdout
    assert done.stderr.strip() == "[]"


def commands() -> list[str]:
    """Every command as it is typed, without its arguments."""
    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [name] if inner is None else [f"{name} {sub}" for sub in inner]
    return found


def test_every_command_option_and_exit_code_is_documented() -> None:
    """docs/reference/cli.md names them all, and no code that does not exist."""
    text = REFERENCE.read_text(encoding="utf-8")
    for name in commands():
        assert f"`conductor {name}" in text, f"{name} is not in docs/reference/cli.md"
        command = get_command(app)
        for word in name.split():
            command = command.commands[word]  # type: ignore[attr-defined]
        for option in (option for parameter in command.params for option in parameter.opts if option.startswith("--")):
            assert option in text, f"{name} {option} is not in docs/reference/cli.md"
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert documented == {int(code) for code in ExitCode}


def test_the_events_of_json_are_documented() -> None:
    """Each kind of line that `run --json` prints has its row."""
    source = (ROOT / "conductor_ai" / "cli" / "lines.py").read_text(encoding="utf-8")
    text = REFERENCE.read_text(encoding="utf-8")
    for event in set(re.findall(r'"event": "(\w+)"', source)):
        assert f"| `{event}` |" in text, f"the event {event} is not in docs/reference/cli.md"
