"""The one ladder from an exception to what the model is told. Never a connection string, never the server's files."""

import asyncpg

from activities.sql.connection import AnswerTooLarge
from activities.sql.limits import RoleUnusable
from activities.sql.parameters import BadParameter
from activities.sql.shaping import CannotShape
from activities.sql.statement import TookTooLong
from activities.sql.verdict import Verdict
from conductor_ai.contracts.tools import ToolError, ToolResult

MAX_MESSAGE = 2_000
FAILURES = (
    asyncpg.PostgresError,
    BadParameter,
    CannotShape,
    AnswerTooLarge,
    RoleUnusable,
    TookTooLong,
    asyncpg.InternalClientError,
)
"""What running a statement may raise besides lost connections."""


def failure(code: str, message: str) -> ToolResult:
    """A failed call with its code and sentence."""
    return ToolResult(ok=False, content=message, error=ToolError(code=code, message=message))


def refusal(verdict: Verdict) -> ToolResult:
    """The gate's refusal."""
    return failure("sql_refused", verdict.sentence)


UNKNOWN = (
    "The connection was lost while the write was being committed, and this database keeps no ledger: whether it "
    "happened is not known. Look at the data before you decide to write again."
)


def failed(error: BaseException, timeout_seconds: float) -> ToolResult:
    """What became of a statement that raised. It had no effect: its transaction was rolled back."""
    if isinstance(error, (asyncpg.QueryCanceledError, TookTooLong)):
        return failure(
            "timeout", f"The statement took longer than {timeout_seconds:g} s and was stopped. Nothing was changed."
        )
    if isinstance(error, asyncpg.LockNotAvailableError):
        return failure("timeout", "Another transaction holds a lock on these rows. Nothing was changed; try later.")
    if isinstance(error, AnswerTooLarge):
        return failure("sql_error", "The answer was too large and the connection was cut. Nothing was changed.")
    if isinstance(error, RoleUnusable):
        return failure(
            "not_configured",
            "The role that statements run under cannot be used, so nothing was run. Set CONDUCTOR_SQL_ROLE to a role "
            "that the login is a member of; `conductor doctor` says what is wrong.",
        )
    if isinstance(error, asyncpg.InternalClientError):
        return failure("sql_error", "A parameter or column has a type without a text form (anyarray). Cast it to text.")
    if isinstance(error, (BadParameter, CannotShape)):
        return failure("sql_error", str(error))
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return failure(
            "sql_refused", "The statement tried to write where the gate saw only reading. Nothing was changed."
        )
    if isinstance(error, asyncpg.PostgresError):
        details = error.as_dict()
        parts = [str(details.get(name)) for name in ("message", "detail", "hint") if details.get(name)]
        text = " ".join(part[:MAX_MESSAGE].rstrip(".") + "." for part in parts)
        return failure("sql_error", f"{text} ({error.sqlstate})")
    return failure("sql_error", "The statement failed. Nothing was changed.")
