"""Any endpoint that speaks OpenAI's chat completions: OpenRouter, Ollama, vLLM and others. On httpx, without an SDK."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx

from activities.providers import react
from activities.providers.base import Listener
from activities.providers.openai_reply import Collector, Incomplete
from activities.providers.openai_request import body, uses_react
from activities.retries import KNOWN_TYPES, Kind, failure, sort
from conductor_ai.catalog import find
from conductor_ai.contracts.models import ModelReply, ModelRequest, Stop
from conductor_ai.errors import ModelFailure
from conductor_ai.text import first_line

log = logging.getLogger(__name__)

NAME = "openai_compatible"
OPENROUTER_HOST = "openrouter.ai"
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 300.0
"""A local model may read a long prompt for minutes before its first word."""

LOGGED = 300
"""Characters of an error's text that are logged."""

LONGEST_ERROR = 64 * 1024
"""Bytes of an error body that are read."""


def is_openrouter(base_url: str) -> bool:
    """True only for OpenRouter's own address, by TLS and on the usual port."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        return False
    return url.scheme == "https" and url.host == OPENROUTER_HOST and url.port in (None, 443)


def key_for(base_url: str, own_key: str | None, openrouter_key: str | None) -> str | None:
    """Which key an address is sent: its own; OpenRouter's key goes to nobody else."""
    if own_key:
        return own_key
    return openrouter_key or None if is_openrouter(base_url) else None


class OpenAICompatibleProvider:
    """One endpoint. `api_key` is sent to `base_url` and nowhere else: redirects are not followed."""

    def __init__(self, base_url: str, api_key: str | None, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._openrouter = is_openrouter(base_url)
        self._title = "OpenRouter" if self._openrouter else "The OpenAI-compatible endpoint"
        self._api_key = api_key
        self._without_formats: set[str] = set()
        """Models that were refused with `response_format` and answered without it."""
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(silence_seconds, connect=CONNECT_SECONDS),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            follow_redirects=False,
        )

    @property
    def name(self) -> str:
        return NAME

    async def complete(self, request: ModelRequest, listener: Listener, /) -> ModelReply:
        """Stream one answer. Leaving early, by cancellation or error, closes the HTTP stream at once.

        Raises:
            ModelFailure: sorted by activities/retries.py.
            asyncio.CancelledError: the stream has been closed.
        """
        if self._openrouter and self._api_key is None:
            raise failure(Kind.NO_KEY, self._title)
        formats = request.model not in self._without_formats
        try:
            return await self._complete(request, listener, formats=formats)
        except ModelFailure as error:
            if error.kind != Kind.BAD_REQUEST or request.output_schema is None or request.tools or not formats:
                raise
        # Refused, so not billed. Servers that do not know response_format say so in words of their own.
        reply = await self._complete(request, listener, formats=False)
        self._without_formats.add(request.model)
        return reply

    async def _complete(self, request: ModelRequest, listener: Listener, *, formats: bool) -> ModelReply:
        model = find(request.model)
        in_react = uses_react(request, model)
        collector = Collector()
        try:
            sent = body(request, model, openrouter=self._openrouter, formats=formats)
            async with self._client.stream("POST", self._url, json=sent) as response:
                if response.status_code != 200:
                    raise await self._refused(response)
                async for chunk in _chunks(response):
                    if chunk.get("error"):
                        raise self._error(None, chunk["error"], {})
                    text = collector.take(chunk)
                    listener.usage(collector.usage)
                    # The JSON of ReAct is nothing for people; they hear the thought once it is whole.
                    if text and not in_react:
                        listener.delta(text)
            reply = collector.reply()
        except (Incomplete, httpx.HTTPError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._broken(error) from None
        return _read_react(reply, request, listener) if in_react else reply

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _refused(self, response: httpx.Response) -> ModelFailure:
        raw = b""
        async for piece in response.aiter_bytes():
            raw += piece
            if len(raw) > LONGEST_ERROR:
                break
        try:
            found = json.loads(raw)
        except ValueError:
            found = None
        headers = {name.lower(): value for name, value in response.headers.items()}
        return self._error(response.status_code, found.get("error") if isinstance(found, dict) else None, headers)

    def _error(self, status: int | None, error: Any, headers: dict[str, str]) -> ModelFailure:
        told: dict[str, Any] = error if isinstance(error, dict) else {"message": str(error or "")}
        code = told.get("code")
        if status is None and isinstance(code, int):
            status = code  # in mid-stream OpenRouter gives the status that it would have answered
        word = next((word for word in (code, told.get("type")) if word in KNOWN_TYPES), None)
        message = str(told.get("message") or "")
        return self._failed(sort(status, word, message), message, headers)

    def _broken(self, error: Exception) -> ModelFailure:
        match error:
            case httpx.TimeoutException():
                kind = Kind.TIMED_OUT
            case httpx.ConnectError() | httpx.UnsupportedProtocol():
                kind = Kind.NETWORK
            case _:
                kind = Kind.BROKEN_STREAM
        return self._failed(kind, f"{type(error).__name__}: {error}", {})

    def _failed(self, kind: Kind, text: str, headers: dict[str, str]) -> ModelFailure:
        # The text is for the operator's log; as a cause it would travel into Temporal's history with the failure.
        log.warning("A call to %s failed (%s): %s", self._title, kind.value, first_line(text, LOGGED))
        return failure(kind, self._title, headers)


def _read_react(reply: ModelReply, request: ModelRequest, listener: Listener) -> ModelReply:
    if reply.stop is not Stop.END:
        return reply
    said = sum(turn.role == "assistant" for turn in request.turns)
    read = react.reply(reply.text, reply.usage, f"react_{said}", structured=request.output_schema is not None)
    if read.stop is not Stop.MALFORMED:
        listener.delta(read.final_answer or read.text)
    return read.model_copy(update={"provider_model": reply.provider_model})


async def _chunks(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of an event stream; or the one object of a server that does not stream."""
    if response.headers.get("content-type", "").startswith("application/json"):
        yield _object(await response.aread())
        return
    async for line in response.aiter_lines():
        name, _, value = line.partition(":")
        if name != "data":
            continue  # comments keep the connection alive
        value = value.strip()
        if value == "[DONE]":
            return
        yield _object(value)


def _object(text: str | bytes) -> dict[str, Any]:
    value = json.loads(text)
    return value if isinstance(value, dict) else {}
