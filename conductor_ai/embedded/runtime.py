"""`runtime.json`: where a running stack can be found."""

from pathlib import Path

from conductor_ai.contracts.base import Contract, UtcTime
from conductor_ai.embedded.cluster import write_private
from conductor_ai.embedded.guard import start_of
from conductor_ai.errors import ConfigurationError

FILE = "runtime.json"


class Runtime(Contract):
    """A stack that runs. Holds passwords: the file is readable for its owner alone."""

    data_dir: Path
    supervisor_pid: int
    supervisor_start: int
    """Start time of that process in clock ticks since boot: a later process with the same number is not it."""
    started_at: UtcTime
    api_url: str
    api_key_file: Path
    """A file of 0600 with the key of the local administrator."""
    temporal_address: str
    temporal_ui_url: str | None
    """None when Temporal is not ours and CONDUCTOR_TEMPORAL_UI_URL does not say."""
    database_url: str
    redis_url: str
    sql_url: str
    """What sql_query logs in with."""
    page_url: str
    log_dir: Path
    pids: dict[str, int]
    """Process ids by name: supervisor, guard, worker, api, page, and those of postgres, temporal, redis that are ours."""


def write_runtime(runtime: Runtime) -> None:
    """Replaces the file in one step."""
    write_private(runtime.data_dir / FILE, runtime.model_dump_json(indent=2) + "\n")


def remove_runtime(data_dir: Path) -> None:
    """Takes the file away."""
    (data_dir / FILE).unlink(missing_ok=True)


def read_runtime(data_dir: Path) -> Runtime | None:
    """The stack that runs on `data_dir`, or None: also when the file is that of a stack that was killed.

    Raises:
        ConfigurationError: the stack is another user's.
    """
    try:
        text = (data_dir / FILE).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise ConfigurationError(
            f"{data_dir / FILE} belongs to another user. Run the command as the user who started Conductor, or set "
            "CONDUCTOR_API_URL and CONDUCTOR_API_KEY."
        ) from error
    runtime = Runtime.model_validate_json(text)
    key = runtime.api_key_file
    # A note that came with a copied folder must not have another file of the user's sent somewhere as a key.
    own_key = key.parent.resolve() == data_dir.resolve() and not key.is_symlink()
    return runtime if own_key and start_of(runtime.supervisor_pid) == runtime.supervisor_start else None
