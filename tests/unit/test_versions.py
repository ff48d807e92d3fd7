"""Versions for many readers at once: nobody gets an answer that is older than their question, and few statements are sent."""

import asyncio
from collections.abc import Collection
from typing import cast

import pytest

from api.documents import Document, Documents
from api.versions import AT_ONCE, MANY, Versions
from conductor_ai.errors import Unavailable
from conductor_ai.stores.snapshots import Snapshots


class Postgres:
    """Answers each statement when told to, with the version at the statement's begin."""

    def __init__(self) -> None:
        self.version = 1
        self.away = False
        self.sent: list[tuple[set[tuple[str, str]], asyncio.Event]] = []

    async def versions(self, which: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """One statement."""
        version, go_on = self.version, asyncio.Event()
        self.sent.append((set(which), go_on))
        await go_on.wait()
        if self.away:
            raise Unavailable("The database cannot be reached right now.")
        return {place: version for place in which if place[1] != "none"}


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_answer_is_older_than_its_question() -> None:
    """A question that comes while a statement is under way waits for the next one: that one may have begun too early."""
    postgres = Postgres()
    versions = Versions(cast("Snapshots", postgres))
    early = [asyncio.create_task(versions.of("org", "a")) for _ in range(AT_ONCE)]
    await settled()
    postgres.version = 2
    late = asyncio.create_task(versions.of("org", "a"))
    await settled()
    assert len(postgres.sent) <= AT_ONCE
    while not late.done():
        for _, go_on in postgres.sent:
            go_on.set()
        await settled()
    assert await asyncio.gather(*early) == [1] * AT_ONCE
    assert await late == 2


async def test_a_storm_sends_few_statements() -> None:
    """A thousand questions of as many readers about six sessions and one that is not there: three statements."""
    postgres = Postgres()
    versions = Versions(cast("Snapshots", postgres))
    asking = [asyncio.create_task(versions.of("org", place)) for place in ("a", "b")]
    await settled()
    asking += [
        asyncio.create_task(versions.of("org", ("a", "b", "c", "d", "e", "f", "none")[at % 7])) for at in range(1000)
    ]
    await settled()
    while not all(task.done() for task in asking):
        for _, go_on in postgres.sent:
            go_on.set()
        await settled()
    assert len(postgres.sent) == AT_ONCE + 1
    assert {task.result() for task in asking} == {1, None}


async def test_statements_are_bounded() -> None:
    """More questions than one statement carries are answered by several."""
    postgres = Postgres()
    versions = Versions(cast("Snapshots", postgres))
    asking = [asyncio.create_task(versions.of("org", f"s{at}")) for at in range(MANY + 10)]
    while not all(task.done() for task in asking):
        for _, go_on in postgres.sent:
            go_on.set()
        await settled()
    assert max(len(which) for which, _ in postgres.sent) <= MANY
    assert {task.result() for task in asking} == {1}


async def test_who_gives_up_takes_nothing_from_others() -> None:
    """One of two readers of the same session goes away; the other is answered. So is the next one after a failure."""
    postgres = Postgres()
    versions = Versions(cast("Snapshots", postgres))
    first = [asyncio.create_task(versions.of("org", "a")) for _ in range(2)]
    await settled()
    first[0].cancel()
    postgres.away = True
    for _, go_on in postgres.sent:
        go_on.set()
    with pytest.raises(Unavailable):
        await first[1]
    postgres.away = False
    again = asyncio.create_task(versions.of("org", "a"))
    await settled()
    postgres.sent[-1][1].set()
    assert await again == 1


async def test_statements_that_hang_hold_up_nobody_else() -> None:
    """The connections that were idle are dead, which shows after seconds only. Later questions are asked over others meanwhile."""
    postgres = Postgres()
    versions = Versions(cast("Snapshots", postgres))
    hanging = [asyncio.create_task(versions.of("org", f"s{at}")) for at in range(AT_ONCE)]
    await settled()
    later = asyncio.create_task(versions.of("org", "a"))

    async def sent() -> None:
        while len(postgres.sent) == AT_ONCE:
            await asyncio.sleep(0)

    await asyncio.wait_for(sent(), 3)
    postgres.sent[-1][1].set()
    assert await asyncio.wait_for(later, 3) == 1
    assert not any(task.done() for task in hanging)
    for _, go_on in postgres.sent:
        go_on.set()
    assert await asyncio.gather(*hanging) == [1] * AT_ONCE


def test_documents_are_bounded() -> None:
    """The oldest go first, none that is too large or degraded is kept, and only the version that was asked for is given."""
    documents = Documents(most_bytes=1000)
    for name in "abc":
        documents.put(("org", name), Document(1, b"x" * 400))
    assert [documents.get(("org", name), 1) is not None for name in "abc"] == [False, True, True]
    assert documents.get(("org", "b"), 2) is None
    documents.put(("org", "b"), Document(2, b"y", degraded=True))
    assert documents.get(("org", "b"), 2) is None
    for _ in range(3):
        documents.put(("org", "d"), Document(3, b"z" * 500))
    assert documents.get(("org", "c"), 1) is not None
    assert documents.get(("org", "d"), 3) is not None
    documents.put(("org", "e"), Document(1, b"x" * 1_000_001))
    assert documents.get(("org", "e"), 1) is None


def test_documents_go_by_themselves() -> None:
    """After a minute nothing is left of a document, whether anybody asks for it or for another one."""
    now = [0.0]
    documents = Documents(clock=lambda: now[0])
    documents.put(("org", "a"), Document(1, b"x"))
    now[0] = 30.0
    documents.put(("org", "b"), Document(1, b"x"))
    now[0] = 59.9
    assert documents.get(("org", "a"), 1) is not None
    now[0] = 60.0
    assert documents.get(("org", "b"), 1) is not None
    assert list(documents._kept) == [("org", "b")]
    now[0] = 90.0
    assert documents.get(("org", "a"), 1) is None
    assert (documents._kept, documents._bytes) == ({}, 0)
