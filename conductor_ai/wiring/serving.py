"""The API process."""

from conductor_ai.settings import Settings
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.telemetry import configure_logging
from conductor_ai.temporal import Engine, connect


async def run_api(settings: Settings) -> None:
    """Run the API until SIGTERM or SIGINT."""
    import uvicorn

    from api.app import create_app
    from api.connections import Impatient
    from api.deps import make_deps
    from api.leaving import Leaving

    configure_logging(settings)
    database = Database(settings.store_url, size=settings.database_pool_size, pooler=settings.store_behind_pooler)
    hot = Hot(settings.redis_url.get_secret_value() if settings.redis_url else None)
    engine = Engine(await connect(settings, lazy=True), settings.task_queue)
    deps = make_deps(settings, database, engine, hot)
    server = Leaving(
        uvicorn.Config(
            create_app(deps),
            host=settings.host,
            port=settings.port,
            http=Impatient,
            ws="none",
            log_config=None,
            timeout_graceful_shutdown=8,
            server_header=False,
        ),
        deps.fanout.close,
    )
    try:
        await server.serve()
    finally:
        await hot.close()
        await database.close()
