"""Whether the process lives and whether its dependencies do. Needs no key, tells nothing of anybody."""

import asyncio

import asyncpg
from fastapi import APIRouter

from api.deps import Deps, Needs
from api.patience import within
from api.problems import Refused, documented
from conductor_ai.contracts.answers import Alive, Check, Health, Readiness
from conductor_ai.errors import Code, Unavailable

router = APIRouter(tags=["health"])

CHECK_SECONDS = 4.0


@router.get("/livez", summary="Is the process alive?")
async def livez() -> Alive:
    """Yes, if this answers. Depends on nothing."""
    return Alive()


@router.get("/health", summary="Is the process healthy?")
async def health(deps: Needs) -> Health:
    """Always `healthy` if this answers; shows what the tools of this installation run on."""
    try:
        async with within(1.0):
            published = await deps.tools.published()
    except (Unavailable, asyncpg.PostgresError):
        return Health()
    return Health(
        tools={
            tool.spec.name: ". ".join(
                part for part in ("available" if tool.available else "not available", tool.spec.note) if part
            )
            for tool in published
        }
    )


async def _postgres(deps: Deps) -> Check:
    try:
        async with within(CHECK_SECONDS), deps.database.connection() as connection:
            await connection.fetchval("SELECT max(number) FROM conductor.migrations")
    except Unavailable as error:
        return Check(ok=False, detail=error.message)
    except asyncpg.PostgresError:
        return Check(ok=False, detail="The database answers, but its schema is not there. Run `conductor migrate`.")
    return Check(ok=True)


async def _temporal(deps: Deps) -> Check:
    why = await deps.engine.ping()
    return Check(ok=why is None, detail=why)


async def _redis(deps: Deps) -> Check:
    why = await deps.hot.ping()
    return Check(ok=why is None, detail=why)


@router.get("/readyz", summary="Can requests be served?", responses=documented(Code.ENGINE_UNAVAILABLE))
async def readyz(deps: Needs) -> Readiness:
    """200 if Postgres and Temporal answer; without Redis it is `degraded`. 503 with the same `checks` otherwise."""
    postgres, temporal, redis = await asyncio.gather(_postgres(deps), _temporal(deps), _redis(deps))
    checks = {"postgres": postgres, "temporal": temporal, "redis": redis}
    if not (postgres.ok and temporal.ok):
        raise Refused(
            "A dependency does not answer: reads may work, starts do not. `checks` says which.",
            code=Code.ENGINE_UNAVAILABLE if postgres.ok else Code.STORE_UNAVAILABLE,
            headers={"Retry-After": "2"},
            extra={"checks": {name: check.model_dump(mode="json") for name, check in checks.items()}},
        )
    return Readiness(status="ready" if redis.ok else "degraded", checks=checks)
