"""Commands by which people steer sessions: decisions that do more than yes and no, grants, pauses, budgets, messages."""

import json
from typing import Annotated

import typer

from conductor_ai.cli.options import ApprovalId, AsJson, Comment, DataDir, Limit, SessionId, end, settings_of

grants_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Lists and revokes remembered approvals.")

GrantId = Annotated[str, typer.Argument(metavar="GRANT", help="The grant's id, grant_….")]


def register(approvals: typer.Typer, sessions: typer.Typer) -> None:
    """Add the commands to their groups."""
    approvals.command("approve")(approve)
    approvals.command("edit")(edit)
    approvals.command("answer")(answer)
    sessions.command("pause")(pause)
    sessions.command("resume")(resume)
    sessions.command("budget")(budget)
    sessions.command("message")(message)


def approve(
    approval: ApprovalId,
    comment: Comment = None,
    remember: Annotated[bool, typer.Option("--remember", help="Approve the same call for the next hour, too.")] = False,
    free: Annotated[
        list[str] | None, typer.Option("--free", help="An argument that may differ; may be repeated.")
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="In all sessions, and not in this one alone.")
    ] = False,
    uses: Annotated[int | None, typer.Option("--uses", min=1, help="How many calls it approves at most.")] = None,
    seconds: Annotated[int, typer.Option("--for", min=1, help="Seconds that it holds.")] = 3600,
    data_dir: DataDir = None,
) -> None:
    """Shows a call and approves exactly that."""
    from conductor_ai.cli import approvals
    from conductor_ai.contracts.grants import Remember

    if not remember and (free or everywhere or uses is not None):
        raise typer.BadParameter("--free, --everywhere and --uses go with --remember.")
    wanted = None
    if remember:
        wanted = Remember(
            match="template" if free else "exact",
            free=tuple(free or ()),
            scope="org" if everywhere else "session",
            expires_in=seconds,
            uses=uses,
        )
    end(approvals.decide(settings_of(data_dir), approval, "approve", comment, remember=wanted))


def edit(
    approval: ApprovalId,
    arguments: Annotated[str, typer.Argument(help="All arguments as they are to be, as a JSON object.")],
    comment: Comment = None,
    data_dir: DataDir = None,
) -> None:
    """Gives a call other arguments; if the policy asks, another approval shows what they would do."""
    from conductor_ai.cli import approvals

    try:
        given = json.loads(arguments)
    except ValueError as error:
        raise typer.BadParameter(f"The arguments are no JSON: {error}.") from error
    if not isinstance(given, dict):
        raise typer.BadParameter("The arguments are no JSON object.")
    end(approvals.decide(settings_of(data_dir), approval, "edit", comment, arguments=given))


def answer(
    approval: ApprovalId,
    text: Annotated[str, typer.Argument(help="What the model is told in the tool's place.")],
    comment: Comment = None,
    data_dir: DataDir = None,
) -> None:
    """Answers in the tool's place; nothing runs."""
    from conductor_ai.cli import approvals

    end(approvals.decide(settings_of(data_dir), approval, "answer", comment, answer=text))


@grants_app.command("list")
def grants_list(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are used up, over or revoked.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Lists what is approved without asking."""
    from conductor_ai.cli import grants

    end(grants.list_grants(settings_of(data_dir), everything=everything, limit=limit, as_json=as_json))


@grants_app.command("revoke")
def grants_revoke(grant: GrantId, data_dir: DataDir = None) -> None:
    """Revokes a remembered approval: people are asked again."""
    from conductor_ai.cli import grants

    end(grants.revoke(settings_of(data_dir), grant))


def pause(
    session: SessionId,
    reason: Annotated[str | None, typer.Option("--reason", help="For the record.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Lets a session stand still before its next step."""
    from conductor_ai.cli import steering

    end(steering.pause(settings_of(data_dir), session, reason))


def resume(session: SessionId, data_dir: DataDir = None) -> None:
    """Lets a paused session go on."""
    from conductor_ai.cli import steering

    end(steering.resume(settings_of(data_dir), session))


def budget(
    session: SessionId,
    cost: Annotated[float | None, typer.Option("--cost", min=0, help="US dollars that it may spend.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=1, help="Tokens that it may use.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Changes what a session may spend; one that waits for it goes on."""
    if cost is None and tokens is None:
        raise typer.BadParameter("Name --cost, --tokens, or both.")
    from conductor_ai.cli import steering

    end(steering.budget(settings_of(data_dir), session, cost, tokens))


def message(
    session: SessionId,
    text: Annotated[str, typer.Argument(help="What the model is told.")],
    interrupt: Annotated[
        bool, typer.Option("--interrupt", help="Stop the answer under way and calls that wait for a person.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Writes to a session: the next turn of a chat, or a word to a run."""
    from conductor_ai.cli import steering

    end(steering.message(settings_of(data_dir), session, text, interrupt=interrupt))
