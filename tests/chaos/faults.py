"""Faults for worker processes, loaded through CONDUCTOR_TOOL_MODULES as any tool module is.

`CONDUCTOR_FAULT_FILE` names a file; while it exists, the next SQL query that has run kills its worker by SIGKILL, after
the commit and before anything is reported. The file is removed first, so that it happens once. It may be a directory of
such files instead: each is named after a word that the query must have in it, and holds the seconds that pass between
commit and kill, in which the worker goes on as it would.
"""

import os
import signal
import threading
from pathlib import Path

from activities.tools.base import Call
from activities.tools.sql_query import SqlArguments, SqlQuery
from conductor_ai.contracts.tools import ToolResult

_FILE = os.environ.get("CONDUCTOR_FAULT_FILE")  # noqa: TID251 - the switch of a test, no setting of the product
_run = SqlQuery.run


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _run_and_die(self: SqlQuery, arguments: SqlArguments, call: Call, /) -> ToolResult:
    result = await _run(self, arguments, call)
    if _FILE is not None and Path(_FILE).is_file():
        Path(_FILE).unlink()
        _kill()
    for file in Path(_FILE).glob("*") if _FILE is not None else ():
        if file.name in arguments.query:
            after = float(file.read_text())
            file.unlink()
            if not after:
                _kill()
            threading.Timer(after, _kill).start()
    return result


SqlQuery.run = _run_and_die  # type: ignore[method-assign]
