"""The server as the command line talks to it: the Python client, and what a person at a terminal can do about its errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conductor_ai import client
from conductor_ai.cli.find import Place
from conductor_ai.client import AsyncConductor
from conductor_ai.errors import (
    Code,
    ConductorError,
    ConfigurationError,
    Conflict,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from conductor_ai.visible import visible


class Refused(ConductorError):
    """The key is missing, wrong, or lacks the right."""

    code = Code.FORBIDDEN


@asynccontextmanager
async def talking(place: Place) -> AsyncIterator[AsyncConductor]:
    """A client of this server. What it raises leaves as an error of the command line.

    Raises:
        ConfigurationError: address or key cannot be one.
        Unavailable: no server, or not now. Refused: no right. InvalidRequest, NotFound, Conflict: the server says so.
    """
    try:
        conductor = AsyncConductor(place.url, place.key)
    except ValueError as error:
        raise ConfigurationError(f"{error} See CONDUCTOR_API_URL and CONDUCTOR_API_KEY.") from None
    async with conductor:
        try:
            yield conductor
        except client.ClientError as error:
            raise told(error) from error


def told(error: client.ClientError) -> ConductorError:
    """The error of the command line that an error of the client is: with the server's own sentence, and nothing that steers a terminal."""
    sentence = visible(error.message)
    code = next((code for code in Code if isinstance(error, client.ApiError) and code == error.code), None)
    match error:
        case client.ConnectionFailed():
            return Unavailable(
                f"{sentence} Start one with `conductor dev`, or set CONDUCTOR_API_URL and CONDUCTOR_API_KEY to one that runs."
            )
        case client.UnexpectedAnswer():
            return Unavailable(f"{sentence} Check CONDUCTOR_API_URL.")
        case client.Unauthenticated() | client.Forbidden():
            return Refused(sentence, code=code)
        case client.NotFound():
            return NotFound(sentence, code=code)
        case client.Conflict():
            return Conflict(sentence, code=code)
        case client.InvalidRequest():
            return InvalidRequest(sentence, code=code)
        case _:
            return Unavailable(sentence, code=code)
