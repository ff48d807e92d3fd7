"""Around every request: its id, the limit of its body, and what happens when something goes wrong that nobody foresaw."""

import logging
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import FieldError, Refused, problem
from conductor_ai.errors import Code, ConductorError
from conductor_ai.names import new_id

log = logging.getLogger(__name__)

_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,127}")
MAX_QUERY_BYTES = 4096
"""Of a query string. A cursor has some hundred; thousands of parameters that nobody knows take seconds to refuse."""
MAX_PATH_BYTES = 2048
"""Of a path. The longest that leads anywhere has some hundred."""
_SINGLE = ("Authorization", "X-API-Key", "X-Org-ID", "Idempotency-Key", "Content-Type")
"""Headers that say who asks, and for what. Given twice, two readers of the same request may believe different ones."""
_DEFAULT_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def request_id_of(scope: Scope) -> str:
    """The id of the request that this scope belongs to."""
    return str(scope["state"]["request_id"])


def _check_query(query: bytes) -> None:
    if len(query) > MAX_QUERY_BYTES:
        raise Refused(f"The query string has more than {MAX_QUERY_BYTES} bytes.", code=Code.INVALID_REQUEST, status=414)


def _check_path(path: bytes) -> None:
    if len(path) > MAX_PATH_BYTES:
        raise Refused(f"The path has more than {MAX_PATH_BYTES} bytes.", code=Code.INVALID_REQUEST, status=414)


def _check_single(headers: Headers) -> None:
    for name in _SINGLE:
        if len(set(headers.getlist(name))) > 1:
            message = f"The header {name} is given more than once, each time with another value. Send one."
            errors = [FieldError(f"/header/{name}", message)]
            raise Refused(message, code=Code.INVALID_REQUEST, status=400, errors=errors)


class Envelope:
    """Gives each request an id and each response its headers; no error leaves it but as a problem document."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                out = MutableHeaders(scope=message)
                out["X-Request-ID"] = request_id
                for name, value in _DEFAULT_HEADERS.items():
                    out.setdefault(name, value)
            await send(message)

        try:
            _check_path(scope.get("raw_path") or b"")
            _check_query(scope["query_string"])
            _check_single(headers)
            self._check_length(headers)
            await self._app(scope, self._counted(receive), answer)
        except ConductorError as error:
            await problem(error, request_id)(scope, receive, answer)
        except Exception:
            log.exception("unhandled error in request %s (%s)", request_id, scope["method"])
            if started:
                raise
            await problem(ConductorError(""), request_id)(scope, receive, answer)

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length")
        if length is None:
            return
        if (
            "transfer-encoding" in headers
        ):  # A proxy before us may read another end of the body, and another next request.
            raise Refused(
                "The request says in two ways where its body ends. Send Content-Length or Transfer-Encoding.",
                code=Code.INVALID_REQUEST,
                status=400,
                headers={"Connection": "close"},
            )
        if not (length.isascii() and length.isdigit()):
            raise Refused("Content-Length is no number.", code=Code.INVALID_REQUEST, status=400)
        if len(length) > 18 or int(length) > self._max_body_bytes:
            raise self._too_large()

    def _counted(self, receive: Receive) -> Receive:
        """`receive`, which counts: a body without a length, or with a false one, meets the limit too."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._max_body_bytes:
                    raise self._too_large()
            return message

        return counted

    def _too_large(self) -> Refused:
        return Refused(
            f"The body has more than the {self._max_body_bytes} bytes that this server takes. Send less, or raise "
            "CONDUCTOR_MAX_BODY_BYTES.",
            code=Code.BODY_TOO_LARGE,
            headers={"Connection": "close"},
        )
