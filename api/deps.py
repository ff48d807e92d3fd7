"""What the routes need, in one frozen value."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.fanout import Fanout
from api.keys import KeyCache
from api.owners import Owners
from api.rates import Limiter
from api.reading import Reader
from api.rings import Rings
from conductor_ai.settings import Settings
from conductor_ai.stores.access import Keys, Ownership
from conductor_ai.stores.controlling import Controls
from conductor_ai.stores.deciding import Intentions
from conductor_ai.stores.erasing import Erasing
from conductor_ai.stores.events import Events
from conductor_ai.stores.grants import Grants
from conductor_ai.stores.hot import Hot, HotCopies
from conductor_ai.stores.idempotency import Answers
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.sessions import Sessions
from conductor_ai.stores.snapshots import Snapshots
from conductor_ai.stores.tools import Tools
from conductor_ai.stores.writing import Journal
from conductor_ai.temporal import Engine


@dataclass(frozen=True)
class Deps:
    """Stores, engine and settings of one API process."""

    settings: Settings
    database: Database
    engine: Engine
    hot: Hot
    keys: KeyCache
    answers: Answers
    sessions: Sessions
    intentions: Intentions
    controls: Controls
    grants: Grants
    snapshots: Snapshots
    tools: Tools
    copies: HotCopies
    rings: Rings
    reader: Reader
    events: Events
    owners: Owners
    limiter: Limiter
    erasing: Erasing
    fanout: Fanout


def make_deps(settings: Settings, database: Database, engine: Engine, hot: Hot) -> Deps:
    """Everything that the API needs, from four things that whoever starts it opens and closes."""
    snapshots, events, rings = Snapshots(database), Events(database), Rings(hot)
    copies = HotCopies(hot, snapshots)
    journal = Journal(database, engine.current_run, copies)
    return Deps(
        settings=settings,
        database=database,
        engine=engine,
        hot=hot,
        keys=KeyCache(Keys(database), settings.key_cache_seconds),
        answers=Answers(database),
        sessions=Sessions(journal),
        intentions=Intentions(database),
        controls=Controls(journal),
        grants=Grants(database),
        snapshots=snapshots,
        tools=Tools(database),
        copies=copies,
        rings=rings,
        reader=Reader(snapshots, hot, rings),
        events=events,
        owners=Owners(Ownership(database), hot),
        limiter=Limiter(hot, rate=settings.rate_limit, burst=settings.rate_burst),
        erasing=Erasing(database),
        fanout=Fanout(events, hot, rings, most=settings.streams_per_org),
    )


def deps_of(request: Request) -> Deps:
    """The dependencies of the app that the request came to."""
    deps: Deps = request.app.state.deps
    return deps


async def _injected(request: Request) -> Deps:
    # FastAPI would hand a plain function to a thread, which costs more than all that the request asks of it.
    return deps_of(request)


Needs = Annotated[Deps, Depends(_injected)]
