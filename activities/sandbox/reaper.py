"""Removes what dead workers left behind, when a worker starts and every half minute."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from activities.sandbox.base import Sandbox
from conductor_ai.errors import ToolUnavailable

EVERY_SECONDS = 30.0

_log = logging.getLogger(__name__)


@asynccontextmanager
async def reaping(sandbox: Sandbox, every_seconds: float = EVERY_SECONDS) -> AsyncIterator[None]:
    """Reap now and then regularly, for as long as the block runs."""
    task = asyncio.ensure_future(_reap_forever(sandbox, every_seconds))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _reap_forever(sandbox: Sandbox, every_seconds: float) -> None:
    while True:
        try:
            removed = await sandbox.reap()
        except ToolUnavailable as error:
            # The next round tries again; until then every container still ends by its own clock.
            _log.warning("Left-over sandboxes could not be looked for: %s", error.message)
        else:
            if removed:
                _log.info("Removed %d left-over sandboxes.", removed)
        await asyncio.sleep(every_seconds)
