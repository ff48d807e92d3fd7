"""Which server a command talks to: the one that the settings name, else the running `conductor dev`, else one for this run."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from conductor_ai.embedded.runtime import Runtime, read_runtime
from conductor_ai.errors import ConductorError, Unavailable
from conductor_ai.settings import Settings, environment


class Origin(StrEnum):
    """Where a server was found."""

    SETTINGS = "settings"
    """CONDUCTOR_API_URL."""
    DEV = "dev"
    """A running `conductor dev`."""
    EMBEDDED = "embedded"
    """Started for this command; ends with it."""


@dataclass(frozen=True)
class Place:
    """A server, and how to reach it."""

    origin: Origin
    url: str
    key: str | None
    temporal_ui_url: str | None
    namespace: str
    data_dir: Path
    page_url: str | None = None
    """The demo page; None when the server is not of the embedded stack."""

    def workflow_url(self, session_id: str) -> str | None:
        """The session's workflow in Temporal's UI, as far as it is known where that is."""
        if self.temporal_ui_url is None:
            return None
        return f"{self.temporal_ui_url.rstrip('/')}/namespaces/{self.namespace}/workflows/{session_id}"


def running(settings: Settings) -> Place:
    """The server of the settings, or the running `conductor dev`.

    Raises:
        Unavailable: neither is there.
        ConfigurationError: the running one is another user's.
    """
    found = of_settings(settings) or of_dev(settings)
    if found is None:
        raise Unavailable(
            f"No Conductor server is known: CONDUCTOR_API_URL is not set, and no `conductor dev` runs on "
            f"{settings.data_dir.absolute()}. Start one with `conductor dev`, or set CONDUCTOR_API_URL and "
            "CONDUCTOR_API_KEY."
        )
    return found


def of_settings(settings: Settings) -> Place | None:
    """The server that CONDUCTOR_API_URL names, if it is set."""
    if settings.api_url is None:
        return None
    return Place(
        origin=Origin.SETTINGS,
        url=settings.api_url,
        key=settings.api_key.get_secret_value() if settings.api_key is not None else None,
        temporal_ui_url=settings.temporal_ui_url,
        namespace=settings.temporal_namespace,
        data_dir=settings.data_dir.absolute(),
    )


def of_dev(settings: Settings) -> Place | None:
    """The `conductor dev` that runs on the data directory, if one does."""
    runtime = read_runtime(settings.data_dir.absolute())
    return None if runtime is None else _of_runtime(runtime, Origin.DEV, settings)


@asynccontextmanager
async def own_stack(settings: Settings) -> AsyncIterator[Place]:
    """A stack of its own for the time of the block.

    Raises:
        Unavailable: it cannot start; the sentence says why.
    """
    from conductor_ai import wiring  # Late: it imports everything.

    async with AsyncExitStack() as exits:
        try:
            runtime = await exits.enter_async_context(
                wiring.stack(settings, environment(), data_dir=settings.data_dir.absolute())
            )
        except ConductorError as error:
            raise Unavailable(error.message, code=error.code) from error
        yield _of_runtime(runtime, Origin.EMBEDDED, settings)


def _of_runtime(runtime: Runtime, origin: Origin, settings: Settings) -> Place:
    return Place(
        origin=origin,
        url=runtime.api_url,
        key=runtime.api_key_file.read_text(encoding="utf-8").strip(),
        temporal_ui_url=runtime.temporal_ui_url,
        namespace=settings.temporal_namespace,
        data_dir=runtime.data_dir,
        page_url=runtime.page_url,
    )
