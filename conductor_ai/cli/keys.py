"""`conductor keys`: lists and revokes, in the database itself: whoever can reach that needs no key."""

import asyncio

from rich.text import Text

from conductor_ai import wiring
from conductor_ai.cli import wording
from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.screen import console
from conductor_ai.doctor import effective
from conductor_ai.settings import Settings
from conductor_ai.visible import visible


def list_keys(settings: Settings, *, org: str) -> ExitCode:
    """Prints the newest keys of an organisation, those that are revoked too. The keys themselves nobody has."""
    out = console()
    keys = asyncio.run(wiring.list_keys(effective(settings), org=org))
    if not keys:
        out.print(Text(f"The organisation {org} has no keys."))
    for key in keys:
        told = [key.id, f"{key.role.value:8}", wording.moment(key.created_at), visible(key.name)]
        if key.revoked_at is not None:
            told.append(f"revoked {wording.moment(key.revoked_at)}")
        out.print(Text("  ".join(told)))
    return ExitCode.COMPLETED


def revoke_key(settings: Settings, key_id: str, *, org: str) -> ExitCode:
    """Revokes a key; every API process refuses it within 60 seconds."""
    asyncio.run(wiring.revoke_key(effective(settings), key_id, org=org))
    console().print(Text(f"{key_id} is revoked. Every API process refuses it within 60 seconds."))
    return ExitCode.COMPLETED
