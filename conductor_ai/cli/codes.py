"""The exit codes of `conductor`. Documented in docs/reference/cli.md; a test keeps the two equal."""

from enum import IntEnum

from conductor_ai.contracts.status import Status
from conductor_ai.errors import ConductorError, ConfigurationError, InvalidRequest, ToolUnavailable, Unavailable


class ExitCode(IntEnum):
    """What a script learns from `conductor` without reading its output."""

    COMPLETED = 0
    """The session completed, or the command did what it should."""
    FAILED = 1
    """The session failed, a check found something wrong, or the server refused the request."""
    USAGE = 2
    """The command line, the request or the settings are wrong: the same again will not work."""
    CANCELLED = 3
    """The session was cancelled."""
    WAITS = 4
    """The session waits for a person, and nobody here decided."""
    UNREACHABLE = 5
    """No server or Docker engine answers, or the embedded stack could not start: the same again may work later."""
    INTERRUPTED = 130
    """Ctrl-C. A session that was started goes on."""


_ENDS = {Status.COMPLETED: ExitCode.COMPLETED, Status.FAILED: ExitCode.FAILED, Status.CANCELLED: ExitCode.CANCELLED}


def of_status(status: Status) -> ExitCode:
    """The code for a session that has ended.

    Raises:
        KeyError: it has not.
    """
    return _ENDS[status]


def of_error(error: ConductorError) -> ExitCode:
    """The code for an error that ends a command."""
    if isinstance(error, Unavailable | ToolUnavailable):
        return ExitCode.UNREACHABLE
    if isinstance(error, InvalidRequest | ConfigurationError):
        return ExitCode.USAGE
    return ExitCode.FAILED
