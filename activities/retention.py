"""Deletes sessions that have been over for longer than they are to be kept."""

import asyncio
import logging

from conductor_ai.errors import Unavailable
from conductor_ai.stores.erasing import EraseVerdict, Erasing
from conductor_ai.stores.hot import Hot

log = logging.getLogger(__name__)

BY = "CONDUCTOR_RETENTION_DAYS"
"""Who has deleted them, in the audit."""
AT_A_TIME = 500
ROUND_SECONDS = 30.0
"""What one round may take. What is left is for the next one, or for another worker."""


class Retention:
    """The retention of ended sessions."""

    def __init__(self, erasing: Erasing, hot: Hot, days: float) -> None:
        self._erasing = erasing
        self._hot = hot
        self._days = days

    async def round(self) -> int:
        """Delete what is due, one session after the other. Returns how many.

        Raises:
            Unavailable: Postgres or Redis is away. What was deleted by then is.
        """
        clock = asyncio.get_running_loop().time
        until, erased, some = clock() + ROUND_SECONDS, 0, True
        while some and (due := await self._erasing.ended_before(self._days, limit=AT_A_TIME)):
            some = False
            for org_id, session_id in due:
                if clock() > until:
                    return erased
                if await self._erase(org_id, session_id):
                    erased, some = erased + 1, True
        if erased:
            log.info("%d sessions were deleted, %g days after their end", erased, self._days)
        return erased

    async def _erase(self, org_id: str, session_id: str) -> bool:
        async def copies() -> bool:
            return await self._hot.erase(org_id, session_id)

        try:
            return await self._erasing.erase(org_id, session_id, by=BY, copies=copies) is EraseVerdict.ERASED
        except Unavailable:
            raise
        except Exception:
            log.exception("session %s cannot be deleted", session_id)  # and keeps no other from it
            return False
