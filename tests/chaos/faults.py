"""Faults for worker processes, loaded through CONDUCTOR_TOOL_MODULES as any tool module is.

`CONDUCTOR_FAULT_FILE` names a file; while it exists, the next SQL query that has run kills its worker by SIGKILL, after
the commit and before anything is reported. The file is removed first, so that it happens once.
"""

import os
import signal
from pathlib import Path

from activities.tools.base import Call
from activities.tools.sql_query import SqlQuery
from conductor_ai.contracts.tools import ToolResult

_FILE = os.environ.get("CONDUCTOR_FAULT_FILE")  # noqa: TID251 - the switch of a test, no setting of the product
_run = SqlQuery.run


async def _run_and_die(self: SqlQuery, arguments: object, call: Call, /) -> ToolResult:
    result = await _run(self, arguments, call)  # type: ignore[arg-type]
    if _FILE is not None and Path(_FILE).exists():
        Path(_FILE).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return result


SqlQuery.run = _run_and_die  # type: ignore[method-assign]
