"""Nobody waits over 5 s for a dependency that is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conductor_ai.errors import Code, Unavailable

ANSWER_SECONDS = 4.6
"""Most time that one request spends on its dependencies, waiting that the caller asked for aside."""
STORE_SECONDS = 3.0
"""Most time that a read spends on Postgres before it looks for a copy."""

ENGINE_SECONDS = 3.5
"""Most time that one request spends on Temporal: its client tries again on its own, past the limit that it is given."""


@asynccontextmanager
async def within(seconds: float = ANSWER_SECONDS, code: Code = Code.STORE_UNAVAILABLE) -> AsyncIterator[None]:
    """Give up after `seconds`: each dependency has limits of its own, this one holds for their sum.

    Raises:
        Unavailable: it took too long. What was written is safe to repeat.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Unavailable("A dependency answers too slowly right now. Try again in a moment.", code=code) from error
