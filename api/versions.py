"""The versions of sessions, asked of Postgres for many readers at once."""

import asyncio

from conductor_ai.stores.snapshots import Snapshots

AT_ONCE = 2
"""Statements that are under way at the same time. More would bring no answer sooner, and each would carry fewer questions."""
SLOW_SECONDS = 0.5
"""A statement that takes longer is not waited for: its connection may be dead, as all that were idle may be."""
MANY = 500
"""Questions that one statement carries at most."""

Place = tuple[str, str]
"""An organisation's id and a session's."""
Answer = asyncio.Future[int | None]


class Versions:
    """Whoever asks while statements are under way is answered by the next one, which begins after the question. So no answer is
    older than its question, and a storm of polls sends Postgres a fraction of the statements.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._asked: dict[Place, Answer] = {}
        self._under_way: dict[asyncio.Task[None], bool] = {}
        """Statements without their answer, and whether they are slow."""

    async def of(self, org_id: str, session_id: str) -> int | None:
        """The session's version, not older than this question; None if this organisation has no such session.

        Raises:
            Unavailable: Postgres is away.
        """
        place = (org_id, session_id)
        answer = self._asked.get(place)
        if answer is None:
            answer = self._asked[place] = asyncio.get_running_loop().create_future()
        self._ask()
        # Others may wait for the same answer: who gives up does not take it from them.
        return await asyncio.shield(answer)

    def _ask(self) -> None:
        if not self._asked or sum(not slow for slow in self._under_way.values()) >= AT_ONCE:
            return
        asked = {place: self._asked.pop(place) for place in list(self._asked)[:MANY]}
        task = asyncio.create_task(self._answer(asked))
        self._under_way[task] = False
        slow = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._slow, task)

        def answered(task: asyncio.Task[None]) -> None:
            slow.cancel()
            del self._under_way[task]
            self._ask()

        task.add_done_callback(answered)

    def _slow(self, task: asyncio.Task[None]) -> None:
        self._under_way[task] = True
        self._ask()

    async def _answer(self, asked: dict[Place, Answer]) -> None:
        try:
            found = await self._snapshots.versions(asked)
        except BaseException as error:
            for answer in asked.values():
                answer.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                answer.exception()  # perhaps nobody waits for it any more
            if not isinstance(error, Exception):
                raise
        else:
            for place, answer in asked.items():
                answer.set_result(found.get(place))
