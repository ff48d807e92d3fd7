"""The edge of the activities. What they raise is kept in Temporal's history, so only sentences of ours leave it.

An exception of a tool, a provider or the driver may carry secrets, rows or the conversation, in its text or in that of
its causes; Temporal would write down all of it.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

from temporalio.exceptions import ApplicationError

from conductor_ai.errors import Code, ConductorError, Fenced, NotFound

Owner = TypeVar("Owner")
Request = TypeVar("Request")
Outcome = TypeVar("Outcome")

log = logging.getLogger(__name__)


def sealed(
    body: Callable[[Owner, Request], Awaitable[Outcome]],
) -> Callable[[Owner, Request], Coroutine[Any, Any, Outcome]]:
    """Make every failure of an activity an `ApplicationError` with a stable type, a sentence of ours, and no cause.

    Final are those that no repetition can mend: this run may not write any more, or there is no such session.
    """

    @wraps(body)
    async def edge(self: Owner, request: Request) -> Outcome:
        try:
            return await body(self, request)
        except ApplicationError as error:
            raise error from None
        except ConductorError as error:
            final = isinstance(error, Fenced | NotFound)
            raise ApplicationError(error.message, type=error.code, non_retryable=final) from None
        except Exception as error:
            log.exception("an activity met a fault")
            raise ApplicationError(
                f"Conductor met a fault of its own ({type(error).__name__}); the log of the worker has more.",
                type=Code.INTERNAL,
            ) from None

    return edge
