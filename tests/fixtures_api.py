"""The REST API over HTTP, with real stores and a real Temporal; the worker's part is played step by step by the test."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from api.app import create_app
from api.deps import Deps, make_deps
from conductor_ai import names
from conductor_ai.contracts.control import BudgetRequest, ControlAnswer, MessageNotice, PauseRequest, ResumeRequest
from conductor_ai.contracts.decisions import DecisionRequest, Verdict
from conductor_ai.contracts.models import ModelReply, ProposedCall, Stop, Usage
from conductor_ai.contracts.session import Fence, FinishInput, SessionInput, Tally
from conductor_ai.contracts.status import CallState, StopReason
from conductor_ai.contracts.tools import Category, Consequence, Facts, ToolSpec
from conductor_ai.digest import arguments_sha256
from conductor_ai.settings import Settings
from conductor_ai.stores.access import Keys, Role
from conductor_ai.stores.attempts import Attempt
from conductor_ai.stores.call_journal import CallJournal
from conductor_ai.stores.ending import Ending
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.model_journal import ModelJournal
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.tools import PublishedTool, Tools
from conductor_ai.stores.transcript import StoredCall
from conductor_ai.stores.writing import Journal
from conductor_ai.temporal import Engine, connect
from tests.places import asking
from workflows.control import Control
from workflows.pending import Ledger, Waiting

HELLO = {"messages": [{"role": "user", "content": "Say hello."}]}


@workflow.defn(name=names.WORKFLOW)
class StandIn:
    """A workflow that takes decisions as the real one does, and otherwise only waits to be cancelled."""

    @workflow.init
    def __init__(self, session: SessionInput) -> None:
        self._ledger = Ledger(allow_signals=session.allow_signals)
        self._control = Control(limits=session.limits)

    @workflow.run
    async def run(self, _session: SessionInput) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def put(self, call_id: str, digest: str, seconds: float) -> None:
        """Wait for a decision about this call."""
        self._ledger.register(Waiting(call_id, "sql_query", digest, workflow.now() + timedelta(seconds=seconds)))

    @workflow.query
    def waits(self, call_id: str) -> bool:
        """Whether it does."""
        return (call_id, 1) in self._ledger.waiting

    @workflow.signal(name=names.DECIDE)
    def on_signal(self, request: DecisionRequest) -> None:
        """A decision by signal."""
        self._ledger.decide(request.model_copy(update={"via": "signal", "by": None}), workflow.now())

    @workflow.update(name=names.DECIDE)
    def on_update(self, request: DecisionRequest) -> Verdict:
        """A decision by update."""
        return self._ledger.decide(request, workflow.now())

    @workflow.update(name=names.PAUSE)
    def on_pause(self, request: PauseRequest) -> ControlAnswer:
        """A pause."""
        return self._control.ask_to_pause(request.reason, request.by or "")

    @workflow.update(name=names.RESUME)
    def on_resume(self, _request: ResumeRequest) -> ControlAnswer:
        """A resume."""
        return self._control.ask_to_resume(Tally())

    @workflow.update(name=names.SET_BUDGET)
    def on_set_budget(self, request: BudgetRequest) -> ControlAnswer:
        """New limits."""
        return self._control.set_limits(request, Tally())

    @workflow.update(name=names.MESSAGE)
    def on_message(self, notice: MessageNotice) -> ControlAnswer:
        """A message; this session is always at work."""
        return self._control.receive(notice, idle=False)

    @workflow.query
    def decided(self, call_id: str) -> str | None:
        """What counts for a call."""
        found = self._ledger.decision((call_id, 1))
        return None if found is None else found.decision


@dataclass
class Hand:
    """Writes what a worker would write, through the same journals."""

    deps: Deps
    journal: Journal
    client: Client
    calls: dict[str, int] = field(default_factory=dict)

    async def _run(self, session_id: str) -> str:
        return await self.deps.engine.current_run(session_id) or "no-run"

    async def step(self, session_id: str, *, text: str = "", ask: dict[str, Any] | None = None) -> StoredCall | None:
        """One answer of the model: text, or one call of sql_query with these arguments."""
        number = self.calls[session_id] = self.calls.get(session_id, 0) + 1
        fence, run_id = Fence(session_id=session_id, next_call_no=number), await self._run(session_id)
        call: StoredCall | None = None
        if ask is not None:
            digest = arguments_sha256("sql_query", ask)
            call = StoredCall(
                names.new_id("call"), f"toolu_{number}", "sql_query", ask, digest, Facts(writes=True), CallState.READY
            )
        proposed = () if call is None else (ProposedCall(provider_id=call.provider_id, tool=call.tool, arguments=ask),)
        await ModelJournal(self.journal).answered(
            fence,
            run_id,
            Attempt(number, number, 1, "demo", "ok", Usage(input=10, output=5), Decimal("0.25")),
            input_sha=names.new_id("sha"),
            reply=ModelReply(stop=Stop.TOOL_CALLS if call else Stop.END, text=text, calls=proposed),
            calls=() if call is None else (call,),
            started_at=datetime.now(UTC),
            latency_ms=3,
        )
        return call

    async def ask(
        self,
        session_id: str,
        *,
        seconds: float = 600,
        registered: bool = True,
        arguments: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A call that waits for a person. Returns the approval as the store has it."""
        call = await self.step(session_id, text="I want to look.", ask=arguments or {"query": "SELECT 1"})
        assert call is not None
        if registered:
            await self.client.get_workflow_handle(session_id).signal("put", args=[call.call_id, call.args_sha, seconds])
        prepared = await CallJournal(self.journal).ask(
            Fence(session_id=session_id, next_call_no=self.calls[session_id] + 1),
            await self._run(session_id),
            asking(
                call,
                Consequence(summary="Reads one row."),
                expires_at=datetime.now(UTC) + timedelta(seconds=seconds),
            ),
        )
        return {"id": prepared.approval_id, "call_id": call.call_id, "arguments_sha256": call.args_sha}

    async def finish(self, session_id: str, reason: StopReason = StopReason.FINAL_ANSWER) -> None:
        """The end."""
        await Ending(self.journal).finish(
            FinishInput(
                fence=Fence(session_id=session_id, next_call_no=self.calls.get(session_id, 0) + 1), stop_reason=reason
            ),
            await self._run(session_id),
        )


@dataclass
class Api:
    """A running API, one organisation of the test's own, and a key of every role."""

    http: httpx.AsyncClient
    deps: Deps
    hand: Hand
    org: str
    secrets: dict[Role, str] = field(repr=False)

    def as_(self, role: Role) -> dict[str, str]:
        """The header that shows a key of this role."""
        return {"Authorization": f"Bearer {self.secrets[role]}"}

    async def get(self, url: str, *, role: Role = Role.ADMIN, **options: Any) -> httpx.Response:
        """GET with a key."""
        headers = {**self.as_(role), **options.pop("headers", {})}
        return await self.http.get(url, headers=headers, **options)

    async def post(self, url: str, body: Any = None, *, role: Role = Role.ADMIN, **options: Any) -> httpx.Response:
        """POST with a key; `body` goes as JSON."""
        headers = {**self.as_(role), **options.pop("headers", {})}
        if body is not None:
            options["json"] = body
        return await self.http.post(url, headers=headers, **options)

    async def start(self, **more: Any) -> str:
        """Start a session. Returns its id."""
        answer = await self.post("/v1/agents/run", {**HELLO, **more})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["session_id"])

    async def decide(self, approval: dict[str, Any], decision: str = "approve", **more: Any) -> httpx.Response:
        """Decide about what `Hand.ask` returned."""
        options = {name: more.pop(name) for name in ("role", "headers") if name in more}
        body = {"decision": decision, "arguments_sha256": approval["arguments_sha256"], **more}
        return await self.post(f"/v1/approvals/{approval['id']}/decision", body, **options)

    async def other(self) -> "Api":
        """The same server as another organisation sees it."""
        org = names.new_id("org")
        return replace(self, org=org, secrets=await keys_of(self.deps, org))


async def keys_of(deps: Deps, org: str) -> dict[Role, str]:
    """A key of every role."""
    keys = Keys(deps.database)
    return {role: (await keys.create(org, f"{role.value} of {org[:8]}", role))[1] for role in Role}


def spec(name: str, category: Category = Category.OTHER, note: str | None = None) -> ToolSpec:
    """A tool as a worker would publish it."""
    return ToolSpec(
        name=name,
        description=f"What {name} does.",
        category=category,
        parameters={"type": "object", "properties": {"query": {"type": "string"}}},
        requires_approval=name == "sql_query",
        note=note,
    )


PUBLISHED = (
    PublishedTool(spec("web_fetch", Category.WEB), available=True),
    PublishedTool(spec("sql_query", Category.DATABASE), available=True),
    PublishedTool(spec("code_run", Category.CODE, "Install Docker or bubblewrap."), available=False),
)


async def nowhere() -> Engine:
    """An engine whose Temporal does not exist."""
    return Engine(await connect(Settings.model_validate({"temporal_address": "127.0.0.1:9"}), lazy=True))


@asynccontextmanager
async def serving(
    database: Database, engine: Engine, hot: Hot, *, with_keys: bool = True, **settings: Any
) -> AsyncIterator[Api]:
    """The API in this process, its background work running; opened for one test or for many."""
    configured = Settings.model_validate({"auth": "keys", **settings})
    deps = make_deps(configured, database, engine, hot)
    app = create_app(deps)
    org = names.new_id("org")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080") as http,
    ):
        journal = Journal(database, engine.current_run, deps.copies)
        secrets = await keys_of(deps, org) if with_keys else {}
        yield Api(http, deps, Hand(deps, journal, engine.client), org, secrets)


@pytest.fixture(scope="module")
async def standing_in(temporal: Client) -> AsyncIterator[Engine]:
    """An engine whose task queue is served by the stand-in workflow; one for a module."""
    queue = names.new_id("queue")
    async with Worker(temporal, task_queue=queue, workflows=[StandIn], workflow_runner=UnsandboxedWorkflowRunner()):
        yield Engine(temporal, queue)


@pytest.fixture
async def hot(redis_url: str) -> AsyncIterator[Hot]:
    """The shared Redis."""
    copies = Hot(redis_url)
    yield copies
    await copies.close()


@pytest.fixture
async def api(database: Database, standing_in: Engine, hot: Hot) -> AsyncIterator[Api]:
    """The API with every dependency there and the usual tools published."""
    await Tools(database).publish("main", PUBLISHED)
    async with serving(database, standing_in, hot) as running:
        yield running


def is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is a whole problem document with this status and code. Returns it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == code, body
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    for name in ("type", "title", "detail", "instance"):
        assert isinstance(body[name], str)
        assert body[name]
    assert isinstance(body["errors"], list)
    return body


async def routes(api: Api) -> list[tuple[str, str]]:
    """Every method and path of the documentation under /v1."""
    paths = (await api.http.get("/openapi.json")).json()["paths"]
    return [(method.upper(), path) for path, ways in paths.items() if path.startswith("/v1/") for method in ways]


async def example_body(api: Api, method: str, path: str) -> str:
    """The documented example of a route's body, as JSON; empty if it takes none."""
    document = (await api.http.get("/openapi.json")).json()
    taken = document["paths"][path][method.lower()].get("requestBody")
    if taken is None:
        return ""
    name = taken["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
    return json.dumps(document["components"]["schemas"][name].get("examples", [{}])[0])
