"""The commands and their options. What they do is imported when they run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from conductor_ai.cli import app_people
from conductor_ai.cli.options import ApprovalId, AsJson, Comment, DataDir, Limit, SessionId
from conductor_ai.cli.options import end as _end
from conductor_ai.cli.options import settings_of as _settings
from conductor_ai.errors import ConductorError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from conductor_ai.cli.codes import ExitCode
    from conductor_ai.cli.run import Journey


class Sentences(TyperGroup):
    """Ends a command that failed with one sentence and its exit code, never with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ConductorError as error:
            from conductor_ai.cli.codes import of_error

            say(error.message)
            raise typer.Exit(of_error(error)) from error


def say(*lines: str) -> None:
    """Lines on standard error, whatever the form of the output."""
    for line in lines:
        typer.echo(line, err=True)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"conductor {version('conductor-server')}")
        raise typer.Exit


app = typer.Typer(
    cls=Sentences,
    name="conductor",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Runs AI agents that survive crashes, wait for people, and can be inspected.",
)
sessions_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Lists, shows, explains and cancels sessions."
)
approvals_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Lists and decides calls that wait for a person."
)
keys_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Makes, lists and revokes API keys.")
app.add_typer(sessions_app, name="sessions")
app.add_typer(approvals_app, name="approvals")
app.add_typer(keys_app, name="keys")
sandbox_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Prepares, tries and cleans up the sandbox of code_run."
)
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(app_people.grants_app, name="grants")


@app.callback()
def conductor(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before a command."""


@app.command()
def run(
    task: Annotated[str, typer.Argument(help="What the agent should do.")],
    model: Annotated[str | None, typer.Option("--model", help="A model's id; without it the server's default.")] = None,
    tool: Annotated[list[str] | None, typer.Option("--tool", help="A tool to allow; may be repeated.")] = None,
    no_tools: Annotated[bool, typer.Option("--no-tools", help="Allow no tool at all.")] = False,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="Most steps; 10 without it.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="A system prompt.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Approve every call without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line; never ask.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Runs an agent session and shows its steps as they happen.

    Uses the server at CONDUCTOR_API_URL, else the running `conductor dev`, else starts everything for the time of the run.
    """
    if tool and no_tools:
        raise typer.BadParameter("--tool and --no-tools exclude each other.")
    from conductor_ai.cli.run import Journey, RunOptions
    from conductor_ai.cli.run import run as run_session

    tools = () if no_tools else tuple(tool) if tool else None
    options = RunOptions(task, model, tools, max_steps, system, yes, as_json, data_dir)
    journey = Journey()
    _follow(run_session(_settings(data_dir), options, journey), journey, data_dir)


@app.command()
def demo(
    ask: Annotated[bool, typer.Option("--ask", help="Ask you about each call, instead of deciding itself.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Shows an approval and a denial with the demo model.

    It uses all three tools, and needs no key and no network.
    """
    from conductor_ai.cli.demo import demo as run_demo
    from conductor_ai.cli.run import Journey, at_terminal

    if ask and not at_terminal():
        raise typer.BadParameter("--ask needs a terminal to ask on.")
    journey = Journey()
    _follow(run_demo(_settings(data_dir), ask=ask, data_dir=data_dir, journey=journey), journey, data_dir)


@app.command()
def dev(
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Port of the API (CONDUCTOR_PORT; 8080); 0 takes a free one."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Runs the whole stack on this machine until Ctrl-C.

    That is Temporal with its UI, Postgres, Redis, worker and API.
    """
    from conductor_ai.cli import serve

    settings = _settings(data_dir)
    raise typer.Exit(serve.dev(settings, port=port, data_dir=settings.data_dir))


@app.command()
def worker() -> None:
    """Runs a worker until SIGTERM or Ctrl-C."""
    from conductor_ai.cli import serve

    raise typer.Exit(serve.worker(_settings()))


@app.command()
def api() -> None:
    """Runs the REST API until SIGTERM or Ctrl-C."""
    from conductor_ai.cli import serve

    raise typer.Exit(serve.api(_settings()))


@app.command()
def migrate() -> None:
    """Brings the database to this version's schema. Safe to repeat, also at the same time."""
    from conductor_ai.cli import serve

    raise typer.Exit(serve.migrate(_settings()))


@app.command()
def doctor(data_dir: DataDir = None) -> None:
    """Checks what sessions need, and says what to do.

    Changes nothing.
    """
    from conductor_ai.cli import serve

    raise typer.Exit(serve.doctor(data_dir))


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Option("--name", help="Whose key it is; decisions are recorded under it.")],
    role: Annotated[str, typer.Option("--role", help="viewer, operator, approver or admin.")] = "operator",
    org: Annotated[str, typer.Option("--org", help="The organisation that the key opens.")] = "default",
) -> None:
    """Makes an API key in the database and prints it, once."""
    from conductor_ai.cli import serve
    from conductor_ai.stores.access import Role

    if role not in {known.value for known in Role}:
        raise typer.BadParameter("--role is one of viewer, operator, approver, admin.")
    raise typer.Exit(serve.make_key(_settings(), org=org, name=name, role=Role(role)))


@keys_app.command("list")
def keys_list(
    org: Annotated[str, typer.Option("--org", help="The organisation whose keys to list.")] = "default",
) -> None:
    """Lists an organisation's API keys, revoked ones too; the keys themselves are not kept."""
    from conductor_ai.cli import keys

    raise typer.Exit(keys.list_keys(_settings(), org=org))


@keys_app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, key_….")],
    org: Annotated[str, typer.Option("--org", help="The organisation whose key it is.")] = "default",
) -> None:
    """Revokes an API key for good; every API process refuses it within 60 seconds."""
    from conductor_ai.cli import keys

    raise typer.Exit(keys.revoke_key(_settings(), key, org=org))


@sandbox_app.command("prepare")
def sandbox_prepare(
    base_python: Annotated[
        str | None, typer.Option("--base-python", help="Build the Python image on this one instead of pulling it.")
    ] = None,
    base_node: Annotated[
        str | None, typer.Option("--base-node", help="Build the JavaScript image on this one instead of pulling it.")
    ] = None,
    data: Annotated[bool, typer.Option("--data", help="With --base-python: add numpy and pandas.")] = False,
) -> None:
    """Pulls the images that code_run needs, or builds them.

    An image that is built gets the name in CONDUCTOR_SANDBOX_IMAGE_PYTHON or CONDUCTOR_SANDBOX_IMAGE_NODE.
    """
    if data and base_python is None:
        raise typer.BadParameter("--data needs --base-python: the image is built.")
    from conductor_ai.cli import sandbox

    raise typer.Exit(sandbox.prepare(_settings(), base_python=base_python, base_node=base_node, data=data))


@sandbox_app.command("check")
def sandbox_check() -> None:
    """Tries the sandbox that a worker here would use, and each of its limits.

    Changes nothing.
    """
    from conductor_ai.cli import sandbox

    raise typer.Exit(sandbox.check(_settings()))


@sandbox_app.command("reap")
def sandbox_reap() -> None:
    """Removes containers whose worker is dead or whose deadline has passed.

    Every worker does so at its start and every 30 seconds.
    """
    from conductor_ai.cli import sandbox

    raise typer.Exit(sandbox.reap(_settings()))


@sessions_app.command("list")
def sessions_list(
    status: Annotated[
        str | None, typer.Option("--status", help="pending, running, completed, failed or cancelled.")
    ] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Lists the newest sessions."""
    from conductor_ai.cli import sessions
    from conductor_ai.contracts.status import Status

    if status is not None and status not in {known.value for known in Status}:
        raise typer.BadParameter("--status is one of pending, running, completed, failed, cancelled.")
    wanted = Status(status) if status is not None else None
    _end(sessions.list_sessions(_settings(data_dir), status=wanted, limit=limit, as_json=as_json))


@sessions_app.command("show")
def sessions_show(session: SessionId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Shows a session with all its steps."""
    from conductor_ai.cli import sessions

    _end(sessions.show_session(_settings(data_dir), session, as_json=as_json, data_dir=data_dir))


@sessions_app.command("explain")
def sessions_explain(session: SessionId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Says why a session does not move, and who has to act."""
    from conductor_ai.cli import explain

    _end(explain.explain_session(_settings(data_dir), session, as_json=as_json))


@sessions_app.command("cancel")
def sessions_cancel(
    session: SessionId,
    reason: Annotated[str | None, typer.Option("--reason", help="For the record.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Cancels a session; the same again does nothing."""
    from conductor_ai.cli import sessions

    _end(sessions.cancel_session(_settings(data_dir), session, reason))


@approvals_app.command("list")
def approvals_list(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are decided or over.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Lists the calls that wait for a person."""
    from conductor_ai.cli import approvals

    _end(approvals.list_approvals(_settings(data_dir), everything=everything, limit=limit, as_json=as_json))


@approvals_app.command("show")
def approvals_show(approval: ApprovalId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Shows a call with all that is known of its consequence."""
    from conductor_ai.cli import approvals

    _end(approvals.show_one(_settings(data_dir), approval, as_json=as_json))


@approvals_app.command("deny")
def approvals_deny(approval: ApprovalId, comment: Comment = None, data_dir: DataDir = None) -> None:
    """Shows a call and denies it; the comment tells the model why."""
    from conductor_ai.cli import approvals

    _end(approvals.decide(_settings(data_dir), approval, "deny", comment))


app_people.register(approvals_app, sessions_app)


def _follow(work: "Coroutine[Any, Any, ExitCode]", journey: "Journey", data_dir: Path | None) -> None:
    """Follows a session and exits with its code; whatever stops that, the person is told what becomes of the session."""
    import asyncio

    from conductor_ai.cli.codes import ExitCode, of_error

    try:
        code = asyncio.run(work)
    except KeyboardInterrupt as error:
        say("", *(journey.goes_on(data_dir) or ["Interrupted before a session was started."]))
        raise typer.Exit(ExitCode.INTERRUPTED) from error
    except ConductorError as error:
        say(error.message, *journey.goes_on(data_dir))
        raise typer.Exit(of_error(error)) from error
    say(*journey.said)
    raise typer.Exit(code)


def main() -> None:
    """The entry point of the command `conductor`."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # A terminal that cannot show a sign shows another; the command goes on.
    app()
