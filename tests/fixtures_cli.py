"""A small real server that speaks the part of the API which the command line uses, and builders of what it shows."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.status import ApprovalStatus, CallState, Phase, Status, StopReason
from conductor_ai.contracts.tools import Column
from conductor_ai.contracts.views import (
    ActionView,
    ApprovalView,
    ErrorView,
    ExecutionState,
    FirstAction,
    RetryView,
    SessionView,
    StepView,
    TimesView,
    Tokens,
)

SESSION = "sess_0123456789abcdef0123456789abcdef"
KEY = "ck_test"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ACCEPTED: JsonObject = {
    "session_id": SESSION,
    "status": "pending",
    "poll_url": f"/v1/agents/{SESSION}",
    "links": {"self": "x"},
    "created_at": NOW.isoformat(),
}
CANCELLED: JsonObject = {
    "session_id": SESSION,
    "status": "cancelled",
    "phase": "done",
    "message": "The session is cancelled.",
}


def action(
    call_id: str = "call_1",
    tool: str = "web_fetch",
    status: CallState = CallState.SUCCEEDED,
    arguments: JsonObject | None = None,
    observation: str | None = "a result",
) -> ActionView:
    """One call; an open one has no observation yet."""
    return ActionView(
        call_id=call_id,
        tool_name=tool,
        arguments=arguments or {},
        arguments_sha256="0" * 64,
        status=status,
        observation=observation if status.settled else None,
    )


def step(number: int, *actions: ActionView, thought: str | None = "I think.", final: str | None = None) -> StepView:
    """One step."""
    return StepView(
        step_number=number,
        thought=thought,
        action=FirstAction(tool_name=actions[0].tool_name, arguments=actions[0].arguments) if actions else None,
        actions=actions,
        observation=None,
        is_final=final is not None,
        final_answer=final,
        tokens=Tokens(input=10, output=5),
        cost_usd=0.0,
        latency_ms=1,
        attempts=1,
        started_at=NOW,
    )


def approval(
    call_id: str = "call_1",
    *,
    query: str = "SELECT 1",
    sha256: str = "a" * 64,
    status: ApprovalStatus = ApprovalStatus.PENDING,
) -> ApprovalView:
    """A query that waits for a person."""
    return ApprovalView(
        id=f"appr_of_{call_id}",
        session_id=SESSION,
        step=1,
        call_id=call_id,
        tool="sql_query",
        arguments={"query": query, "params": []},
        arguments_sha256=sha256,
        summary="Reads (SELECT): products.",
        risk="low",
        evidence=(Column(label="tables", value="products"),),
        thought="I look into the shop.",
        rule="shipped: every SQL query is asked",
        status=status,
        requested_at=NOW,
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        execution=ExecutionState(state="not_started"),
    )


def session(
    version: int,
    *steps: StepView,
    status: Status = Status.RUNNING,
    phase: Phase | None = None,
    pending: Sequence[ApprovalView] = (),
    answer: str | None = None,
    error: ErrorView | None = None,
    retry: RetryView | None = None,
    degraded: bool = False,
) -> SessionView:
    """A session as the API shows it."""
    reasons = {
        Status.COMPLETED: StopReason.FINAL_ANSWER,
        Status.FAILED: StopReason.ERROR,
        Status.CANCELLED: StopReason.CANCELLED,
    }
    return SessionView(
        session_id=SESSION,
        status=status,
        phase=phase or (Phase.DONE if status.ended else Phase.AWAITING_APPROVAL if pending else Phase.THINKING),
        waiting_for=None,
        model="demo",
        title=None,
        metadata={},
        tools=("web_fetch", "sql_query"),
        max_steps=10,
        step_count=len(steps),
        steps=steps,
        input_tokens=1234,
        output_tokens=56,
        total_cost_usd=0.0123,
        final_answer=answer,
        stop_reason=reasons.get(status),
        error=error,
        pending_approvals=tuple(pending),
        retry=retry,
        times=TimesView(created_at=NOW, started_at=NOW, ended_at=None, updated_at=NOW, deadline_at=None),
        version=version,
        warnings=(),
        degraded=degraded,
    )


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def problem(status: int, code: str, detail: str, errors: Sequence[dict[str, str]] = ()) -> Reply:
    """An error as the API tells it."""
    return Reply(status, {"status": status, "code": code, "detail": detail, "title": "", "errors": list(errors)})


class FakeConductor:
    """Serves one session, whose views come one after the other, and takes decisions about it.

    `views` are shown as time goes on: the first look gets the first, a long poll gets the first that is newer than what
    it has, and waits for `publish` when there is none, and any later look gets the last. `replies` are given before anything else, once each, to the path that they name.
    """

    def __init__(self, *views: SessionView) -> None:
        self.requests: list[Request] = []
        self.replies: list[tuple[str, Reply]] = []
        self.views = list(views)
        self.on_decision: Callable[[Literal["approve", "deny"]], None] = lambda _: None
        self.url = ""
        self._changed = threading.Condition()
        self._closing = False

    def publish(self, *views: SessionView) -> None:
        """Let the session change."""
        with self._changed:
            self.views += views
            self._changed.notify_all()

    def asked(self, method: str, path: str) -> list[Request]:
        """The requests of that kind so far."""
        return [each for each in self.requests if each.method == method and each.path == path]

    def answer(self, request: Request) -> Reply:
        """The answer to one request."""
        with self._changed:
            self.requests.append(request)
            for index, (path, reply) in enumerate(self.replies):
                if path == request.path:
                    del self.replies[index]
                    return reply
        match request.method, request.path:
            case "POST", "/v1/agents/run":
                return Reply(202, ACCEPTED)
            case "GET", path if path == f"/v1/agents/{SESSION}":
                return self._show(request)
            case "GET", "/v1/agents":
                return Reply(200, {"data": [self._summary()], "next_cursor": None, "has_more": False})
            case "POST", path if path == f"/v1/agents/{SESSION}/cancel":
                return Reply(200, CANCELLED)
            case "GET", "/v1/approvals":
                return Reply(200, {"data": self._pending(), "next_cursor": None, "has_more": False})
            case "POST", path if path.endswith("/decision"):
                shown = approval(path.split("/")[3].removeprefix("appr_of_"), status=ApprovalStatus.APPROVED)
                self.on_decision(request.body["decision"])
                return Reply(200, shown.model_dump(mode="json"))
            case "GET", path if path.startswith("/v1/approvals/"):
                found = [each for each in self._pending() if each["id"] == path.removeprefix("/v1/approvals/")]
                return Reply(200, found[0]) if found else problem(404, "not_found", "There is no such approval.")
        return problem(404, "not_found", "There is nothing with this address.")

    def _show(self, request: Request) -> Reply:
        since = int(request.query.get("since_version", -1))
        if since < 0:
            first = len([each for each in self.asked("GET", request.path) if "wait" not in each.query]) == 1
            return Reply(200, self.views[0 if first else -1].model_dump(mode="json"))
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self.views[-1].version > since, timeout=20)
            newer = [view for view in self.views if view.version > since]
        return Reply(200, newer[0].model_dump(mode="json")) if newer else Reply(304)

    def _pending(self) -> list[Any]:
        return [each.model_dump(mode="json") for each in self.views[-1].pending_approvals]

    def _summary(self) -> JsonObject:
        fields = {"session_id", "status", "phase", "model", "title", "metadata", "step_count", "total_cost_usd"}
        shown = self.views[-1].model_dump(mode="json", include=fields | {"stop_reason", "version"})
        return {**shown, "created_at": NOW.isoformat(), "ended_at": None}

    def close(self) -> None:
        """Ends every long poll."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()


@contextmanager
def serving(fake: FakeConductor) -> Iterator[FakeConductor]:
    """Serves it on a loopback port; `fake.url` says where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Tests are quiet."""

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = fake.answer(Request(self.command, parts.path, query, headers, json.loads(raw) if raw else None))
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            body = b"" if reply.status == 304 else body
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True  # The command has gone: it does not wait for an answer any more.

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        fake.close()
        server.shutdown()
        server.server_close()
        thread.join()
