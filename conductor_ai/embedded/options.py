"""What the caller gives to start the stack."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from conductor_ai.embedded.runtime import Runtime
from conductor_ai.settings import Settings


@dataclass(frozen=True)
class DevOptions:
    """The stack knows neither workflows nor the API nor the schema: it is told how to start and prepare them."""

    settings: Settings
    environ: Mapping[str, str]
    """The user's environment; worker and API get it, with the addresses of the stack put in."""
    migrate: Callable[[str], Awaitable[None]]
    """Brings the database at this URL to the current schema."""
    ensure_key: Callable[[str, str | None], Awaitable[str]]
    """Given the database's URL and the key kept from last time (if any): a key that works, the same if it still does."""
    worker_command: tuple[str, ...]
    """An absolute path first: nothing is looked up on PATH."""
    api_command: tuple[str, ...]
    """Likewise. Listens on CONDUCTOR_HOST and CONDUCTOR_PORT and answers GET /livez."""
    echo: Callable[[str], None]
    """Shows one line to the person who started it."""
    worker_ready: Callable[[Runtime], Awaitable[bool]] | None = None
    """Asked until it says yes before the stack counts as ready; without it a living worker is enough."""
    api_port: int | None = None
    """Instead of CONDUCTOR_PORT; 0 takes a free one."""
    worker_grace: float = 30.0
    """Seconds for the worker to finish what it does."""
    api_grace: float = 10.0
    """Seconds for the API to finish its requests."""
    ready_seconds: float = 60.0
    """How long worker and API may take to be ready."""
