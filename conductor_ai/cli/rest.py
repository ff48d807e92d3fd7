"""The REST API as the command line uses it. Errors become the exceptions of `conductor_ai.errors`, with the server's own sentence."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, Field, ValidationError

from conductor_ai.contracts.base import Contract, Json, JsonObject
from conductor_ai.contracts.decisions import DecisionKind
from conductor_ai.contracts.explain import Explanation
from conductor_ai.contracts.status import Status
from conductor_ai.contracts.views import ApprovalView, SessionSummary, SessionView
from conductor_ai.errors import (
    Code,
    ConductorError,
    ConfigurationError,
    Conflict,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from conductor_ai.settings import is_loopback
from conductor_ai.visible import visible

ANSWER_SECONDS = 10.0
"""The API promises an answer within 5 s, long polls apart."""
LONG_POLL_SECONDS = 30
_LATER = frozenset({429, 502, 503, 504})
"""Answers that a patient caller does not take for the last word."""
_LONGEST_PAUSE = 5.0

ModelT = TypeVar("ModelT", bound=BaseModel)


class Refused(ConductorError):
    """The key is missing, wrong, or lacks the right."""

    code = Code.FORBIDDEN


class Started(Contract):
    """The answer to a start."""

    session_id: str
    status: Status
    links: JsonObject = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Cancelled(Contract):
    """The answer to a cancel."""

    session_id: str
    status: Status
    message: str


class Tool(Contract):
    """A tool as the server lists it."""

    name: str
    description: str
    available: bool = True
    note: str | None = None
    """What a person should know of it, for example why it is not available."""


class Sessions(Contract):
    """One page of a list."""

    data: tuple[SessionSummary, ...]
    next_cursor: str | None = None
    has_more: bool = False


class Approvals(Contract):
    """One page of a list."""

    data: tuple[ApprovalView, ...]
    next_cursor: str | None = None
    has_more: bool = False


class Tools(Contract):
    """All tools."""

    tools: tuple[Tool, ...]


class Rest:
    """One server. An async context manager that holds the connections."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError("CONDUCTOR_API_URL is not an address like http://127.0.0.1:8080. Correct it.")
        headers = {"Accept": "application/json"}
        if key is not None:
            if not (key.isascii() and key.isprintable()):
                raise ConfigurationError("CONDUCTOR_API_KEY has characters that no key has. Copy it once more.")
            headers["Authorization"] = f"Bearer {key}"
        # A proxy of the environment has no business between a command and a server of the same machine.
        self._client = httpx.AsyncClient(
            base_url=self.url, headers=headers, trust_env=not is_loopback(parts.hostname), timeout=ANSWER_SECONDS
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def start(self, body: JsonObject, *, patience: float = 20.0) -> Started:
        """Start a session. Repeated for up to `patience` seconds while the server cannot take it; it starts once.

        Raises:
            InvalidRequest: the body is not possible. Refused: no right. Unavailable: no server, or not now.
        """
        return self._read(Started, await self._send("POST", "/v1/agents/run", body=body, patience=patience))

    async def session(
        self, session_id: str, *, since: int | None = None, steps_after: int = 0, patience: float = 0.0
    ) -> SessionView | None:
        """A session, with its steps after number `steps_after`.

        With `since` (a version) the server answers when there is a newer one; None: there was none for a while.

        Raises:
            NotFound: there is none. Refused, Unavailable.
        """
        query: dict[str, str | int] = {"steps_after": steps_after} if steps_after else {}
        seconds = ANSWER_SECONDS
        if since is not None:
            query |= {"wait": LONG_POLL_SECONDS, "since_version": since}
            seconds += LONG_POLL_SECONDS
        path = f"/v1/agents/{quote(session_id, safe='')}"
        response = await self._send("GET", path, query=query, patience=patience, seconds=seconds)
        return None if response.status_code == HTTPStatus.NOT_MODIFIED else self._read(SessionView, response)

    async def explain(self, session_id: str) -> Explanation:
        """Why a session does not move.

        Raises:
            NotFound: there is none. Refused, Unavailable.
        """
        return self._read(Explanation, await self._send("GET", f"/v1/agents/{quote(session_id, safe='')}/explain"))

    async def sessions(self, *, status: Status | None = None, limit: int = 20, cursor: str | None = None) -> Sessions:
        """Sessions, newest first."""
        query: dict[str, str | int] = {"limit": limit}
        if status is not None:
            query["status"] = status.value
        if cursor is not None:
            query["cursor"] = cursor
        return self._read(Sessions, await self._send("GET", "/v1/agents", query=query))

    async def cancel(self, session_id: str, reason: str | None) -> Cancelled:
        """Cancel a session; the same again is no error.

        Raises:
            NotFound, Conflict: it has ended otherwise.
        """
        path = f"/v1/agents/{quote(session_id, safe='')}/cancel"
        body: JsonObject = {"reason": reason} if reason else {}
        return self._read(Cancelled, await self._send("POST", path, body=body))

    async def approvals(
        self, *, status: str | None = "pending", limit: int = 50, cursor: str | None = None
    ) -> Approvals:
        """Approvals of all sessions, newest first; `status` None for all."""
        query: dict[str, str | int] = {"limit": limit}
        if status is not None:
            query["status"] = status
        if cursor is not None:
            query["cursor"] = cursor
        return self._read(Approvals, await self._send("GET", "/v1/approvals", query=query))

    async def approval(self, approval_id: str) -> ApprovalView:
        """One approval.

        Raises:
            NotFound.
        """
        return self._read(ApprovalView, await self._send("GET", f"/v1/approvals/{quote(approval_id, safe='')}"))

    async def decide(
        self, approval: ApprovalView, decision: DecisionKind, comment: str | None, *, patience: float = 20.0
    ) -> Literal["decided", "on_its_way"]:
        """Decide about exactly what `approval` showed. `on_its_way`: no worker has taken it yet.

        Raises:
            Conflict: decided otherwise, expired, closed, or the call is not the one that was seen.
            NotFound, Refused, Unavailable.
        """
        body: JsonObject = {"decision": decision, "arguments_sha256": approval.arguments_sha256}
        if comment:
            body["comment"] = comment
        path = f"/v1/approvals/{quote(approval.id, safe='')}/decision"
        response = await self._send("POST", path, body=body, patience=patience)
        return "on_its_way" if response.status_code == HTTPStatus.ACCEPTED else "decided"

    async def tools(self) -> tuple[Tool, ...]:
        """The tools that the workers have."""
        return self._read(Tools, await self._send("GET", "/v1/tools", patience=20)).tools

    async def _send(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: JsonObject | None = None,
        patience: float = 0.0,
        seconds: float = ANSWER_SECONDS,
    ) -> httpx.Response:
        """One request, repeated while the server is away. A POST carries one key, so that repeating it does nothing twice.

        Returns:
            An answer of 2xx or 304.
        """
        headers = {"Idempotency-Key": secrets.token_hex(16)} if method == "POST" else {}
        until = time.monotonic() + patience
        pause = 0.2
        while True:
            try:
                response = await self._client.request(
                    method, path, params=query, json=body, headers=headers, timeout=seconds
                )
            except httpx.TransportError as error:
                failure: ConductorError = Unavailable(
                    f"No Conductor server answers at {self.url} ({type(error).__name__}). Start one with `conductor "
                    "dev`, or set CONDUCTOR_API_URL and CONDUCTOR_API_KEY to one that runs."
                )
                again = pause
            else:
                if response.is_success or response.status_code == HTTPStatus.NOT_MODIFIED:
                    return response
                failure = self._problem(response)
                if response.status_code not in _LATER:
                    raise failure
                again = max(pause, _retry_after(response))
            if time.monotonic() + again > until:
                raise failure
            await asyncio.sleep(again)
            pause = min(pause * 2, 2.0)

    def _problem(self, response: httpx.Response) -> ConductorError:
        """The error that an answer of 3xx, 4xx or 5xx stands for, in the server's own words (RFC 9457)."""
        status = response.status_code
        said = _json(response)
        detail = said.get("detail") if isinstance(said, dict) else None
        if not isinstance(detail, str) or not detail:
            return Unavailable(
                f"{self.url} answered {status} in a form that is not Conductor's. Check CONDUCTOR_API_URL: it should "
                "lead to the API itself."
            )
        sentence = visible(" ".join([detail, *_pointed(said, detail)]))
        code = _code(said)
        match status:
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                return Refused(sentence, code=code)
            case HTTPStatus.NOT_FOUND:
                return NotFound(sentence, code=code)
            case HTTPStatus.CONFLICT | HTTPStatus.GONE | HTTPStatus.PRECONDITION_FAILED:
                return Conflict(sentence, code=code)
            case _ if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                return Unavailable(sentence, code=code)
            case _:
                return InvalidRequest(sentence, code=code)

    def _read(self, model: type[ModelT], response: httpx.Response) -> ModelT:
        try:
            # A newer server may say more than this version knows of.
            return model.model_validate_json(response.content, extra="ignore")
        except ValidationError as error:
            raise Unavailable(
                f"{self.url} answered {response.status_code} in a form that this version of Conductor does not know. "
                "Check CONDUCTOR_API_URL, and that server and command are of the same version."
            ) from error


def _json(response: httpx.Response) -> Json:
    try:
        value: Json = response.json()
    except ValueError:
        return None
    return value


def _code(said: Json) -> Code | None:
    value = said.get("code") if isinstance(said, dict) else None
    return next((code for code in Code if code == value), None)


def _pointed(said: Any, detail: str) -> list[str]:
    """The fields at fault, each as `/pointer: message`; those that only repeat `detail` are left out."""
    errors = said.get("errors")
    entries = [entry for entry in errors if isinstance(entry, dict)] if isinstance(errors, list) else []
    return [
        f"{entry.get('pointer', '')}: {entry.get('message', '')}"
        for entry in entries[:5]
        if entry.get("message") != detail
    ]


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_PAUSE) if text.isdigit() else 0.0
