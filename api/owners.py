"""Who owns what, as a process remembers it."""

from collections import OrderedDict

from api.patience import STORE_SECONDS, within
from conductor_ai.errors import Unavailable
from conductor_ai.stores.access import Owned, Ownership
from conductor_ai.stores.hot import Hot

REMEMBERED = 50_000
"""Things that a process remembers the owner of."""


class Owners:
    """Who owns what. That never changes, so what was found once is remembered; what was not is asked for each time."""

    def __init__(self, ownership: Ownership, hot: Hot) -> None:
        self._ownership = ownership
        self._hot = hot
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def owns(self, org_id: str, kind: Owned, found_id: str) -> bool:
        """Whether this is the organisation's. While Postgres is away, its copy in Redis tells for a session.

        Raises:
            Unavailable: Postgres is away, and it is not known otherwise.
        """
        if (org_id, found_id) in self._known:
            self._known.move_to_end((org_id, found_id))
            return True
        try:
            async with within(STORE_SECONDS):
                owned = await self._ownership.owns(org_id, kind, found_id)
        except Unavailable:
            if kind is not Owned.SESSION or await self._hot.get(org_id, found_id) is None:
                raise
            owned = True
        if owned:
            self._known[org_id, found_id] = None
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return owned
