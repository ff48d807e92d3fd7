"""Reading a session: the version from Postgres first, then a copy from Redis that is not older, else from the rows."""

import asyncio
from collections.abc import Callable, Collection

from api.documents import Document, Documents
from api.ids import is_id
from api.patience import STORE_SECONDS, within
from api.rings import Rings
from api.versions import Versions
from conductor_ai.contracts.status import Phase
from conductor_ai.contracts.views import SessionView
from conductor_ai.errors import NotFound, Unavailable
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.snapshots import Snapshots


class Reader:
    """Reads sessions of one organisation at a time."""

    def __init__(self, snapshots: Snapshots, hot: Hot, rings: Rings) -> None:
        self._snapshots = snapshots
        self._hot = hot
        self._rings = rings
        self._versions = Versions(snapshots)
        self._documents = Documents()
        self._filling: set[asyncio.Task[None]] = set()

    async def version(self, org_id: str, session_id: str) -> int:
        """The session's present version.

        Raises:
            NotFound: this organisation has no such session.
            Unavailable: Postgres is away.
        """
        if not is_id("sess", session_id):
            raise NotFound("There is no such session.")
        async with within(STORE_SECONDS):
            version = await self._versions.of(org_id, session_id)
        if version is None:
            self._documents.drop((org_id, session_id))
            raise NotFound("There is no such session.")
        return version

    async def document(self, org_id: str, session_id: str, *, at_least: int = 0) -> Document:
        """The session as JSON: what `read` gives, which is not made again as long as the version stays.

        Raises:
            NotFound, Unavailable: as `read`.
        """
        try:
            version = await self.version(org_id, session_id)
            if (kept := self._documents.get((org_id, session_id), version)) is not None:
                return kept
            view = await self._present(org_id, session_id, version)
        except Unavailable as error:
            view = await self._copy(org_id, session_id, at_least, error)
        document = Document.of(view)
        self._documents.put((org_id, session_id), document)
        return document

    def forget(self, org_id: str, session_id: str) -> None:
        """Keep nothing of a session that is deleted."""
        self._documents.drop((org_id, session_id))

    async def read(self, org_id: str, session_id: str, *, at_least: int = 0) -> SessionView:
        """The session as it is. While Postgres is away: its copy, marked `degraded`, if that is `at_least` so new.

        Raises:
            NotFound: this organisation has no such session.
            Unavailable: Postgres is away and there is no copy, or one older than what the caller has seen.
        """
        try:
            return await self._present(org_id, session_id, await self.version(org_id, session_id))
        except Unavailable as error:
            return await self._copy(org_id, session_id, at_least, error)

    async def _present(self, org_id: str, session_id: str, version: int) -> SessionView:
        copy = await self._hot.get(org_id, session_id)
        if copy is not None and copy.version >= version:
            return copy
        async with within(STORE_SECONDS):
            view = await self._snapshots.build(org_id, session_id)
        if view is None:
            raise NotFound("There is no such session.")
        self._fill(org_id, view)
        return view

    async def _copy(self, org_id: str, session_id: str, at_least: int, away: Unavailable) -> SessionView:
        copy = await self._hot.get(org_id, session_id)
        if copy is None or copy.version < at_least:
            raise away
        return copy.model_copy(update={"degraded": True})

    async def follow(
        self,
        org_id: str,
        session_id: str,
        *,
        seconds: float,
        until: Callable[[SessionView], bool],
        at_least: int = 0,
        passing: Collection[Phase] = (),
    ) -> SessionView:
        """The session once `until` holds, or as it is after `seconds`, or at once while Postgres is away.

        `passing`: phases in which `until` cannot hold. In these the session is not read, whatever changes in it.

        Raises:
            NotFound: this organisation has no such session.
            Unavailable: as `read`.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        with self._rings.listening(session_id) as bell:
            view = await self.read(org_id, session_id, at_least=at_least)
            while not until(view) and not view.degraded and (left := deadline - clock()) > 0:
                await bell.wait(left)
                try:
                    version, phase = await self._mark(org_id, session_id)
                    changed = version != view.version and phase not in passing
                except Unavailable:
                    changed = True  # whether a copy helps is decided where reads are
                if changed:
                    view = await self.read(org_id, session_id, at_least=max(at_least, view.version))
        return view

    async def _mark(self, org_id: str, session_id: str) -> tuple[int, Phase]:
        async with within(STORE_SECONDS):
            mark = await self._snapshots.mark(org_id, session_id)
        if mark is None:
            raise NotFound("There is no such session.")
        return mark

    def _fill(self, org_id: str, view: SessionView) -> None:
        """Leave a copy for the next reader, without keeping this one waiting."""
        task = asyncio.create_task(self._hot.put(org_id, view))
        self._filling.add(task)
        task.add_done_callback(self._filling.discard)

    async def close(self) -> None:
        """Finish what is under way."""
        await asyncio.gather(*self._filling, return_exceptions=True)
