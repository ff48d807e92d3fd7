"""Claude, through the Messages API and the anthropic SDK."""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from activities.providers.anthropic_reply import Collector, Incomplete
from activities.providers.anthropic_request import body
from activities.providers.base import Listener
from activities.retries import Kind, failure, sort
from conductor_ai.catalog import find
from conductor_ai.contracts.models import ModelReply, ModelRequest
from conductor_ai.errors import ModelFailure
from conductor_ai.text import first_line

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

NAME = "anthropic"
TITLE = "Anthropic"
BASE_URL = "https://api.anthropic.com"
CONNECT_SECONDS = 10.0
LOGGED = 300
"""Characters of an error's text that are logged."""

SILENCE_SECONDS = 120.0
"""A stream that says nothing for this long is dead: the API sends pings while a model thinks."""


class AnthropicProvider:
    """One client for all calls of a worker. The SDK is imported by the first of them: that takes up to three seconds."""

    def __init__(
        self, api_key: str | None, base_url: str | None = None, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self._api_key = api_key
        self._base_url = base_url or BASE_URL
        self._silence = silence_seconds
        self._client: AsyncAnthropic | None = None
        self._opening = asyncio.Lock()

    @property
    def name(self) -> str:
        return NAME

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """Stream one answer. Leaving early, by cancellation or error, closes the HTTP stream at once.

        Raises:
            ModelFailure: sorted by activities/retries.py.
            asyncio.CancelledError: the stream has been closed.
        """
        client = await self._open()
        collector = Collector()
        try:
            stream = await client.messages.create(**body(request, find(request.model)), stream=True)
            async with stream:
                async for event in stream:
                    text = collector.take(event.to_dict(mode="json"))
                    listener.usage(collector.usage)
                    if text:
                        listener.delta(text)
            return collector.reply()
        except Exception as error:
            found = _sorted(error)
            if found is None:
                raise
            # Its text is for the operator's log; as a cause it would travel into Temporal's history with the failure.
            log.warning("A call to %s failed (%s): %s", TITLE, found.kind, first_line(str(error), LOGGED))
            raise found from None

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def _open(self) -> "AsyncAnthropic":
        if self._api_key is None:
            raise failure(Kind.NO_KEY, TITLE)
        async with self._opening:
            if self._client is None:
                self._client = await asyncio.to_thread(_client, self._api_key, self._base_url, self._silence)
            return self._client


def _client(api_key: str, base_url: str, silence: float) -> "AsyncAnthropic":
    import httpx2
    from anthropic import AsyncAnthropic

    timeout = httpx2.Timeout(silence, connect=CONNECT_SECONDS)
    return AsyncAnthropic(api_key=api_key, base_url=base_url, max_retries=0, timeout=timeout)


def _sorted(error: Exception) -> ModelFailure | None:
    """The failure that an exception means; None for a mistake of our own, which nobody should take for the network's."""
    import anthropic
    import httpx2

    match error:
        case Incomplete():
            return failure(Kind.BROKEN_STREAM, TITLE)
        case anthropic.APIStatusError():
            # In mid-stream the status is 200: the type alone tells, and the headers belong to the good beginning.
            kind = sort(error.status_code, error.type, _words(error))
            return failure(kind, TITLE, _headers(error.response.headers))
        case anthropic.APITimeoutError() | httpx2.TimeoutException():
            return failure(Kind.TIMED_OUT, TITLE)
        case anthropic.APIConnectionError():
            return failure(Kind.NETWORK, TITLE)
        case anthropic.APIError() | httpx2.HTTPError() | json.JSONDecodeError() | UnicodeDecodeError():
            return failure(Kind.BROKEN_STREAM, TITLE)
        case anthropic.CredentialsError():
            return failure(Kind.AUTHENTICATION, TITLE)
        case _:
            return None


def _words(error: Any) -> str:
    return str(error.api_message or error.message or "")


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
