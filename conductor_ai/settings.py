"""The only reader of the environment. Every setting is one field here; docs/reference/settings.md is made from it."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from conductor_ai.errors import ConfigurationError
from conductor_ai.secret_files import SecretFiles


class Auth(StrEnum):
    """Whether callers of the API must show a key."""

    KEYS = "keys"
    OFF = "off"


class Pooler(StrEnum):
    """Whether a connection pooler stands between Conductor and Postgres."""

    AUTO = "auto"
    TRUE = "true"
    FALSE = "false"


class _DocumentedNames(EnvSettingsSource):
    """The environment, by the documented names alone.

    Fields can be given by their own names in Python. As variables those names are other programs': a shell's HOST, a
    platform's PORT, somebody's API_KEY must neither open the API nor be sent to it.
    """

    def _extract_field_info(
        self, field: FieldInfo, field_name: str, *given: object, **named: object
    ) -> list[tuple[str, str, bool]]:
        found = super()._extract_field_info(field, field_name, *given, **named)  # type: ignore[arg-type]
        return [item for item in found if item[0] == field.validation_alias]


class _DocumentedNamesInFile(_DocumentedNames, DotEnvSettingsSource):
    """`.env`, by the documented names alone."""


_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d{0,5})?")


def _readable(url: str) -> bool:
    """Whether the parts of a connection URL are found where they belong."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    _, login, hosts = parts.netloc.rpartition("@")
    rest = parts.path + parts.query.partition("=")[0] + parts.fragment
    return (
        bool(parts.scheme)
        and all(_HOST.fullmatch(host) for host in hosts.split(","))
        and (bool(login) or "@" not in rest)
    )


class Settings(BaseSettings):
    """Where everything is and how much of it is allowed. Values come from the environment and from `.env`."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        populate_by_name=True,
        frozen=True,
        env_ignore_empty=True,
        dotenv_filtering="only_existing",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by name
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by name
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then `.env`, then the files of CONDUCTOR_SECRETS_DIR."""
        assert isinstance(dotenv_settings, DotEnvSettingsSource)
        return (
            init_settings,
            _DocumentedNames(settings_cls),
            _DocumentedNamesInFile(settings_cls, env_file=dotenv_settings.env_file),
            SecretFiles(settings_cls, alias="CONDUCTOR_SECRETS_DIR"),
        )

    # Models
    anthropic_api_key: SecretStr | None = Field(None, alias="ANTHROPIC_API_KEY")
    """Key for Claude models."""
    anthropic_base_url: str | None = Field(None, alias="ANTHROPIC_BASE_URL")
    """Another address for the Messages API (a gateway, or a local fake in tests)."""
    openrouter_api_key: SecretStr | None = Field(None, alias="OPENROUTER_API_KEY")
    """Key for the budget models of OpenRouter."""
    openai_base_url: str = Field("https://openrouter.ai/api/v1", alias="CONDUCTOR_OPENAI_BASE_URL")
    """Any OpenAI-compatible endpoint: OpenRouter, Ollama, vLLM."""
    openai_api_key: SecretStr | None = Field(None, alias="CONDUCTOR_OPENAI_API_KEY")
    """Key for that endpoint; without it OPENROUTER_API_KEY is sent, and only to OpenRouter's own address."""
    default_model: str | None = Field(None, alias="CONDUCTOR_DEFAULT_MODEL")
    """Model of sessions that name none. Unset: the newest Sonnet if there is a key, else the demo model."""

    # Stores
    database_url: SecretStr | None = Field(None, alias="DATABASE_URL")
    """Postgres for everything that Conductor keeps. SUPABASE_DB_URL is the same and wins."""
    supabase_db_url: SecretStr | None = Field(None, alias="SUPABASE_DB_URL")
    """Supabase's Postgres connection string (Project settings, Database, Connection string)."""
    supabase_url: str | None = Field(None, alias="SUPABASE_URL")
    """Not enough on its own: Conductor needs the connection string of the database."""
    supabase_service_key: SecretStr | None = Field(None, alias="SUPABASE_SERVICE_KEY")
    """Not enough on its own: Conductor needs the connection string of the database."""
    redis_url: SecretStr | None = Field(None, alias="REDIS_URL")
    """Redis for hot copies of snapshots and token deltas. Losing it costs latency, never an answer."""
    database_pool_size: int = Field(10, alias="CONDUCTOR_DATABASE_POOL_SIZE", ge=1, le=200)
    """Connections of one process to Postgres."""
    database_pooler: Pooler = Field(Pooler.AUTO, alias="CONDUCTOR_DATABASE_POOLER")
    """Whether a pooler in transaction mode (PgBouncer, Supavisor) stands before Postgres; `auto` finds out at the start."""

    # Temporal (its own names; TLS, API key and profiles are read by Temporal's envconfig)
    temporal_address: str = Field("127.0.0.1:7233", alias="TEMPORAL_ADDRESS")
    """Host and port of Temporal's frontend."""
    temporal_namespace: str = Field("default", alias="TEMPORAL_NAMESPACE")
    """Temporal's namespace."""
    temporal_ui_url: str | None = Field(None, alias="CONDUCTOR_TEMPORAL_UI_URL")
    """Where a person finds Temporal's UI; used for links only."""
    temporal_api_key: SecretStr | None = Field(None, alias="TEMPORAL_API_KEY")
    """Key for Temporal Cloud; it turns TLS on."""
    deployment_name: str = Field("conductor", alias="CONDUCTOR_DEPLOYMENT_NAME", pattern=r"^[A-Za-z0-9_-]{1,100}$")
    """Name of the worker deployment in Temporal; used with a build id only."""
    build_id: str | None = Field(None, alias="CONDUCTOR_BUILD_ID", pattern=r"^[A-Za-z0-9_.-]{1,100}$")
    """Version of this worker. With it sessions stay on the version that started them; without it every worker takes every session."""

    # API
    host: str = Field("127.0.0.1", alias="CONDUCTOR_HOST")
    """Address that the API listens on."""
    port: int = Field(8080, alias="CONDUCTOR_PORT", ge=0, le=65535)
    """Port that the API listens on."""
    auth: Auth = Field(Auth.KEYS, alias="CONDUCTOR_AUTH")
    """`keys`, or `off`: then the API refuses to listen on anything but loopback."""
    api_url: str | None = Field(None, alias="CONDUCTOR_API_URL")
    """Where the command line finds the API. Unset: the running `conductor dev`."""
    api_key: SecretStr | None = Field(None, alias="CONDUCTOR_API_KEY")
    """The key that the command line shows the API."""
    max_body_bytes: int = Field(1_000_000, alias="CONDUCTOR_MAX_BODY_BYTES", ge=1_000)
    """Largest request body."""
    max_steps_limit: int = Field(100, alias="CONDUCTOR_MAX_STEPS_LIMIT", ge=1, le=100_000)
    """Largest `max_steps` that a request may ask for."""

    key_cache_seconds: float = Field(45, alias="CONDUCTOR_KEY_CACHE_SECONDS", ge=0, le=45)
    """How long an API process believes a key without asking the database again, and so how long another process may still take a
    revoked one. While the database is away, keys that are believed can read copies."""
    rate_limit: float = Field(100, alias="CONDUCTOR_RATE_LIMIT", ge=0, le=1_000_000)
    """Requests a second that one API key may send in the long run; 0: as many as it likes."""
    rate_burst: int = Field(200, alias="CONDUCTOR_RATE_BURST", ge=1, le=1_000_000)
    """Requests that it may send at once after a pause."""
    sessions_per_org: int = Field(0, alias="CONDUCTOR_SESSIONS_PER_ORG", ge=0, le=10_000_000)
    """Sessions that one organisation may have open (not ended) at the same time; 0: as many as it likes."""
    streams_per_org: int = Field(500, alias="CONDUCTOR_STREAMS_PER_ORG", ge=1, le=100_000)
    """Event streams that one organisation may have open at one API process."""

    # Sessions
    approval_ttl_seconds: int = Field(86_400, alias="CONDUCTOR_APPROVAL_TTL_SECONDS", ge=1)
    """How long a person has to decide before a call expires."""
    approval_policy: Path | None = Field(None, alias="CONDUCTOR_APPROVAL_POLICY")
    """A TOML file with rules about which calls are allowed, asked or denied; they come before the shipped ones."""
    allow_signals: bool = Field(True, alias="CONDUCTOR_ALLOW_SIGNALS")
    """Whether decisions sent as a Temporal signal count (anybody with access to Temporal can send one)."""
    continue_as_new_steps: int = Field(100, alias="CONDUCTOR_CONTINUE_AS_NEW_STEPS", ge=1)
    """Steps after which the workflow starts a fresh history."""
    compact_at: float = Field(0.8, alias="CONDUCTOR_COMPACT_AT", ge=0, le=1)
    """Share of the model's context window at which a session's conversation is summarised. 0: never, not even when the
    provider says that it no longer fits."""
    model_max_attempts: int = Field(6, alias="CONDUCTOR_MODEL_MAX_ATTEMPTS", ge=1, le=100)
    """Attempts at one model call before the session fails."""

    # Worker
    worker_sandboxed: bool = Field(False, alias="CONDUCTOR_WORKER_SANDBOXED")
    """Run workflows in Temporal's Python sandbox (slower; the test suite runs both ways)."""
    worker_queues: Annotated[tuple[str, ...], NoDecode] = Field(("main", "sandbox"), alias="CONDUCTOR_WORKER_QUEUES")
    """Which queues this worker serves: `main`, `sandbox`, or both separated by a comma."""
    max_cached_workflows: int = Field(1000, alias="CONDUCTOR_MAX_CACHED_WORKFLOWS", ge=0)
    """Workflows that a worker keeps in memory; 0 replays every task (a test of determinism)."""
    tool_modules: Annotated[tuple[str, ...], NoDecode] = Field((), alias="CONDUCTOR_TOOL_MODULES")
    """Python modules with further tools made by `@tool`, separated by commas."""
    reconcile_seconds: float = Field(60, alias="CONDUCTOR_RECONCILE_SECONDS", gt=0)
    """How often a worker looks for sessions that Temporal ended, or never started, without us."""
    retention_days: float | None = Field(None, alias="CONDUCTOR_RETENTION_DAYS", gt=0, le=36_500)
    """Days after its end when a session is deleted, as by `DELETE /v1/agents/{session_id}`; unset: never."""

    # Tool: web_fetch
    web_ports: str = Field("80,443,8000-9000", alias="CONDUCTOR_WEB_PORTS")
    """Ports that web_fetch may ask for."""
    web_allow_hosts: Annotated[tuple[str, ...], NoDecode] = Field((), alias="CONDUCTOR_WEB_ALLOW_HOSTS")
    """If set, the only hosts that web_fetch may ask; a leading dot means every subdomain."""
    web_deny_hosts: Annotated[tuple[str, ...], NoDecode] = Field((), alias="CONDUCTOR_WEB_DENY_HOSTS")
    """Hosts that web_fetch never asks; a leading dot means every subdomain."""

    # Tool: code_run
    sandbox: str = Field("auto", alias="CONDUCTOR_SANDBOX", pattern="^(auto|docker|bubblewrap|off)$")
    """`docker`, `bubblewrap`, `off`, or `auto`: the first of these two that works."""
    docker_host: str | None = Field(None, alias="DOCKER_HOST")
    """Docker's own setting: where its engine listens."""
    sandbox_image_python: str = Field("python:3.11-slim", alias="CONDUCTOR_SANDBOX_IMAGE_PYTHON")
    """Image for Python code; never pulled during a call."""
    sandbox_image_node: str = Field("node:20-slim", alias="CONDUCTOR_SANDBOX_IMAGE_NODE")
    """Image for JavaScript; never pulled during a call."""
    sandbox_runtime: str | None = Field(None, alias="CONDUCTOR_SANDBOX_RUNTIME")
    """Docker runtime, for example `runsc`."""
    sandbox_concurrency: int = Field(4, alias="CONDUCTOR_SANDBOX_CONCURRENCY", ge=1, le=256)
    """Sandboxes of one worker at the same time."""
    sandbox_pool: int = Field(2, alias="CONDUCTOR_SANDBOX_POOL", ge=0, le=64)
    """Docker containers of each language that a worker keeps ready, each for one call; 0 makes each when it is called for."""
    unsafe_subprocess: bool = Field(False, alias="CONDUCTOR_UNSAFE_SUBPROCESS")
    """Run code in a plain process without any isolation. Refused unless the API listens on loopback."""

    # Tool: sql_query
    sql_url: SecretStr | None = Field(None, alias="CONDUCTOR_SQL_URL")
    """The database that sql_query works on, with a login of its own. Never the store's."""
    sql_role: str | None = Field(None, alias="CONDUCTOR_SQL_ROLE", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Role that the model's statements run under (SET LOCAL ROLE): it must not see the ledger."""
    sql_ledger: bool = Field(True, alias="CONDUCTOR_SQL_LEDGER")
    """Whether that database may hold the ledger that makes a write happen once."""
    sql_timeout_seconds: float = Field(30, alias="CONDUCTOR_SQL_TIMEOUT_SECONDS", gt=0, le=600)
    """Limit for one statement."""
    sql_row_tolerance: int = Field(0, alias="CONDUCTOR_SQL_ROW_TOLERANCE", ge=0)
    """Rows by which a write may exceed what was shown when it was approved."""
    sql_search_path: Annotated[tuple[str, ...], NoDecode] = Field(("public",), alias="CONDUCTOR_SQL_SEARCH_PATH")
    """Schemas in which statements find unqualified names, separated by commas; `pg_catalog` always comes first."""

    # Running it
    secrets_dir: Path | None = Field(None, alias="CONDUCTOR_SECRETS_DIR")
    """Directory whose files are named after settings and hold their values, as Docker and Kubernetes mount secrets; the environment wins."""

    otlp_endpoint: str | None = Field(None, alias="OTEL_EXPORTER_OTLP_ENDPOINT", pattern=r"^https?://[^\s@]+$")
    """OpenTelemetry collector that gets the metrics of Temporal's SDK, by OTLP over HTTP (for example http://127.0.0.1:4318)."""

    # Development
    task_queue: str = Field("conductor", alias="CONDUCTOR_TASK_QUEUE", pattern=r"^[A-Za-z0-9_.-]{1,100}$")
    """Temporal task queue of workflows, models and tools; `-sandbox` is appended for code_run."""
    data_dir: Path = Field(Path(".conductor"), alias="CONDUCTOR_DATA_DIR")
    """Where `conductor dev` keeps its data."""
    dev_page: str | None = Field(None, alias="CONDUCTOR_DEV_PAGE")
    """Set by `conductor dev` alone, and refused from anybody else: the one loopback address and port that web_fetch may
    also ask."""
    log_level: str = Field("INFO", alias="CONDUCTOR_LOG_LEVEL", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """Least severe level that is logged."""
    log_json: bool = Field(False, alias="CONDUCTOR_LOG_JSON")
    """One JSON object a line instead of text for people."""

    @field_validator(
        "worker_queues", "tool_modules", "web_allow_hosts", "web_deny_hosts", "sql_search_path", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("database_url", "supabase_db_url", "redis_url", "sql_url")
    @classmethod
    def _no_half_password(cls, value: SecretStr | None) -> SecretStr | None:
        # Refused here: drivers name the part of a URL that they cannot read, and that is mostly half of the password.
        if value is not None and not _readable(value.get_secret_value()):
            raise ValueError(
                "it cannot be read as a URL such as scheme://user:password@host:port/name. Write characters like / ? "
                "# @ in a password percent-encoded"
            )
        return value

    @model_validator(mode="after")
    def _possible(self) -> "Settings":
        if (self.supabase_url or self.supabase_service_key) and not (self.supabase_db_url or self.database_url):
            raise ConfigurationError(
                "SUPABASE_URL and SUPABASE_SERVICE_KEY alone do not reach the database. Set SUPABASE_DB_URL to the "
                "connection string that Supabase shows under Project settings, Database, Connection string."
            )
        if self.auth is Auth.OFF and not is_loopback(self.host):
            raise ConfigurationError(
                f"CONDUCTOR_AUTH=off with CONDUCTOR_HOST={self.host} would let anybody in. Set CONDUCTOR_AUTH=keys, or "
                "listen on 127.0.0.1."
            )
        if self.dev_page is not None and not is_loopback(self.host):
            raise ConfigurationError(
                f"CONDUCTOR_DEV_PAGE lets web_fetch ask an address of this machine, and is refused with CONDUCTOR_HOST="
                f"{self.host}. It belongs to `conductor dev` alone: unset it."
            )
        if self.unsafe_subprocess and not is_loopback(self.host):
            raise ConfigurationError(
                "CONDUCTOR_UNSAFE_SUBPROCESS=1 runs the model's code without isolation and is refused unless the API "
                "listens on loopback. Install Docker or bubblewrap, or set CONDUCTOR_HOST=127.0.0.1."
            )
        return self

    @property
    def store_behind_pooler(self) -> bool | None:
        """Whether a pooler stands before the store; None: to be found out."""
        return None if self.database_pooler is Pooler.AUTO else self.database_pooler is Pooler.TRUE

    @property
    def store_url(self) -> str:
        """The connection string of Conductor's own Postgres.

        Raises:
            ConfigurationError: none is set.
        """
        secret = self.supabase_db_url or self.database_url
        if secret is None:
            raise ConfigurationError(
                "No database is configured. Set DATABASE_URL (or SUPABASE_DB_URL) to a Postgres connection string, or "
                "use `conductor dev`, which brings its own."
            )
        return secret.get_secret_value()


def is_loopback(host: str) -> bool:
    """True for the addresses that only this machine reaches."""
    return host in ("127.0.0.1", "::1", "localhost")


def load() -> Settings:
    """The settings of this process.

    Raises:
        ConfigurationError: a value is not possible. The sentence names the variable and never its value: it may be a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in entry['loc'])}: {entry['msg']}"
            for entry in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise ConfigurationError(
            f"The settings cannot be used. {wrong}. Correct it in the environment or in .env."
        ) from None


def environment() -> dict[str, str]:
    """A copy of this process's own environment, for children that are to see the same."""
    return dict(os.environ)  # noqa: TID251 - this module is the one that may
