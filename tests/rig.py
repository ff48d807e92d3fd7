"""A worker, its stores and a real Temporal server for one test: start sessions, decide, cancel, look."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle

from activities.providers.base import Factory, Provider
from activities.tools.base import Tool
from activities.tools.registry import Registry
from conductor_ai import wiring
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.decisions import Decision, DecisionRequest, Verdict, VerdictKind
from conductor_ai.contracts.models import ModelReply, ProposedCall, Stop, Usage
from conductor_ai.contracts.session import SessionInput
from conductor_ai.contracts.views import ApprovalView, SessionView
from conductor_ai.digest import content_sha256
from conductor_ai.names import DECIDE, new_id
from conductor_ai.settings import Settings
from conductor_ai.stores.deciding import Intentions
from conductor_ai.stores.sessions import Message, NewSession, Sessions
from conductor_ai.stores.snapshots import Snapshots
from conductor_ai.stores.writing import Journal
from conductor_ai.temporal import Engine
from conductor_ai.testing import ScriptedProvider
from tests.fixtures_servers import wait_until

ORG = "org_test"


def calls(*proposed: tuple[str, dict[str, Any]], text: str = "") -> ModelReply:
    """A reply that wants tools called."""
    return ModelReply(
        stop=Stop.TOOL_CALLS,
        text=text or "I need to look something up.",
        calls=tuple(
            ProposedCall(provider_id=f"toolu_{i}", tool=tool, arguments=arguments)
            for i, (tool, arguments) in enumerate(proposed)
        ),
        usage=Usage(input=100, output=20),
    )


def answer(text: str = "Done.") -> ModelReply:
    """A final answer."""
    return ModelReply(stop=Stop.END, text=text, usage=Usage(input=50, output=10))


@dataclass
class Rig:
    """What a test holds."""

    client: Client
    settings: Settings
    parts: wiring.WorkerParts
    provider: Provider
    sessions: Sessions
    intentions: Intentions
    snapshots: Snapshots
    engine: Engine
    started: list[str] = field(default_factory=list)

    async def start(self, text: str = "Do it.", *, title: str = "", **options: Any) -> str:
        """Start a session as the API does. Returns its id."""
        session_id = new_id("sess")
        names = tuple(tool.spec.name for tool in self.parts.registry)
        deadline = options.pop("deadline_seconds", None)
        output_schema = options.pop("output_schema", None)
        given = SessionInput.model_validate(
            {
                "session_id": session_id,
                "org_id": ORG,
                "model": "demo",
                "tools": names,
                "max_steps": 10,
                "title": title or text,
                "deadline_at": None if deadline is None else datetime.now(UTC) + timedelta(seconds=deadline),
                **options,
            }
        )
        new = NewSession(given, (Message("user", text),), title=title or text, output_schema=output_schema)
        await self.sessions.create(new, None)
        await self.engine.start(given)
        await self.sessions.mark_started(session_id)
        self.started.append(session_id)
        return session_id

    def handle(self, session_id: str) -> WorkflowHandle[Any, Any]:
        """The workflow of a session."""
        return self.client.get_workflow_handle(session_id)

    async def view(self, session_id: str) -> SessionView:
        """The session as the API shows it, built from the rows."""
        found = await self.snapshots.build(ORG, session_id)
        assert found is not None
        return found

    async def ended(self, session_id: str, *, seconds: float = 20) -> SessionView:
        """Wait for the end of the session and of its workflow. Returns the session."""

        async def over() -> bool:
            if not (await self.view(session_id)).status.ended:
                return False
            state = await self.engine.state(session_id)
            return state is not None and state[1] is not None and state[1].name != "RUNNING"

        await wait_until(over, f"the end of {session_id}", seconds)
        return await self.view(session_id)

    async def pending(self, session_id: str, count: int = 1, *, seconds: float = 20) -> tuple[ApprovalView, ...]:
        """Wait until that many calls wait for a decision."""

        async def waits() -> bool:
            return len((await self.view(session_id)).pending_approvals) >= count

        await wait_until(waits, f"{count} pending approvals", seconds)
        return (await self.view(session_id)).pending_approvals

    async def decide(self, approval: ApprovalView, decision: str, **more: Any) -> Verdict:
        """Decide as the API does: by update."""
        payload: JsonObject = {name: more.pop(name) for name in ("arguments", "answer", "remember") if name in more}
        request = DecisionRequest.model_validate(
            {
                "call_id": approval.call_id,
                "decision": decision,
                "arguments_sha256": approval.arguments_sha256,
                "round": approval.round,
                "content_sha256": content_sha256(payload),
                "decision_id": new_id("dec"),
                "by": "a person",
                "via": "api",
                **more,
            }
        )
        intention = Decision.model_validate(
            {**request.model_dump(), "by": request.by or "", "verified": True, "via": "api", "at": datetime.now(UTC)}
        )
        if (request.call_id, request.arguments_sha256) == (approval.call_id, approval.arguments_sha256):
            await self.intentions.intend(ORG, intention, payload or None)
        verdict = await self.engine.decide(approval.session_id, request, seconds=10)
        if verdict is not None and verdict.kind is not VerdictKind.ACCEPTED:
            await self.intentions.withdraw(intention)
        assert verdict is not None
        return verdict

    async def signal(self, approval: ApprovalView, decision: str) -> None:
        """Decide as a person does in Temporal's UI."""
        body = {"call_id": approval.call_id, "decision": decision, "arguments_sha256": approval.arguments_sha256}
        await self.handle(approval.session_id).signal(DECIDE, body)


@asynccontextmanager
async def rig(
    client: Client,
    store_url: str,
    task_queue: str,
    *,
    replies: Iterable[ModelReply | Exception] = (),
    tools: Iterable[Tool[Any]] = (),
    provider: Provider | None = None,
    factories: Mapping[str, Factory] | None = None,
    run: bool = True,
    redis_url: str | None = None,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """A worker in this process, by default without a cache: every workflow task replays the whole history."""
    chosen = provider or ScriptedProvider(replies)
    if factories is None:
        factories = dict.fromkeys(("demo", "anthropic", "openai_compatible"), lambda: chosen)
    configured = Settings.model_validate(
        {
            "database_url": store_url,
            "task_queue": task_queue,
            "max_cached_workflows": 0,
            "redis_url": redis_url,
            "reconcile_seconds": 0.2,
            **settings,
        }
    )
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(
            wiring.worker_parts(configured, client, registry=Registry(tools), factories=factories)
        )
        if run:
            for worker in wiring.workers(configured, parts):
                await stack.enter_async_context(worker)
        engine = Engine(client, task_queue)
        yield Rig(
            client=client,
            settings=configured,
            parts=parts,
            provider=chosen,
            sessions=Sessions(Journal(parts.database, engine.current_run)),
            intentions=Intentions(parts.database),
            snapshots=parts.snapshots,
            engine=engine,
        )
