"""Which parts of the stack are ours, and what worker and API are told of them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from conductor_ai.embedded.shop import AGENT
from conductor_ai.settings import Settings, is_loopback


@dataclass(frozen=True)
class Addresses:
    """Where everything is."""

    database_url: str
    redis_url: str
    temporal_address: str
    temporal_ui_url: str | None
    sql_url: str
    sql_is_shop: bool
    """Whether sql_query works on the demo shop, whose roles are known."""
    page: str
    """Host and port of the demo page."""
    api_host: str
    api_port: int


def given_store(settings: Settings) -> str | None:
    """The store that the user has set, if any: then it is used instead of the embedded Postgres."""
    secret = settings.supabase_db_url or settings.database_url
    return secret.get_secret_value() if secret is not None else None


def given_redis(settings: Settings) -> str | None:
    """The Redis that the user has set, if any."""
    return settings.redis_url.get_secret_value() if settings.redis_url is not None else None


def given_temporal(settings: Settings) -> str | None:
    """The Temporal that the user has set, if any; the default address is nobody's wish."""
    return settings.temporal_address if "temporal_address" in settings.model_fields_set else None


def given_sql(settings: Settings) -> str | None:
    """The database that the user has set for sql_query, if any."""
    return settings.sql_url.get_secret_value() if settings.sql_url is not None else None


def child_environment(
    environ: Mapping[str, str], settings: Settings, addresses: Addresses, *, data_dir: str
) -> dict[str, str]:
    """The environment of worker and API: the user's own, plus where everything is.

    With an embedded Temporal the user's other TEMPORAL_ variables (a cloud's API key, TLS, a profile) are left out:
    they belong to another server, and a key must not be sent to this one.
    """
    embedded = given_temporal(settings) is None
    passed = {name: value for name, value in environ.items() if not (embedded and name.startswith("TEMPORAL_"))}
    passed |= {
        "DATABASE_URL": addresses.database_url,
        "REDIS_URL": addresses.redis_url,
        "TEMPORAL_ADDRESS": addresses.temporal_address,
        "TEMPORAL_NAMESPACE": settings.temporal_namespace,
        "CONDUCTOR_SQL_URL": addresses.sql_url,
        "CONDUCTOR_HOST": addresses.api_host,
        "CONDUCTOR_PORT": str(addresses.api_port),
        "CONDUCTOR_DATA_DIR": data_dir,
    }
    passed.pop("CONDUCTOR_DEV_PAGE", None)
    if is_loopback(addresses.api_host):  # Whoever comes from elsewhere has no business with this machine's own page.
        passed["CONDUCTOR_DEV_PAGE"] = addresses.page
    if embedded:
        passed["TEMPORAL_CONFIG_FILE"] = "/dev/null"
    if addresses.sql_is_shop:
        passed["CONDUCTOR_SQL_ROLE"] = AGENT
    if addresses.temporal_ui_url is not None:
        passed["CONDUCTOR_TEMPORAL_UI_URL"] = addresses.temporal_ui_url
    return passed
