"""Temporal: the client, its converter, and the few things that are asked of the server."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.runtime import OpenTelemetryConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from conductor_ai import names
from conductor_ai.contracts.base import Contract
from conductor_ai.contracts.control import ControlAnswer, ControlKind, MessageNotice
from conductor_ai.contracts.decisions import DecisionRequest, Verdict
from conductor_ai.contracts.session import SessionInput, SessionResult
from conductor_ai.errors import Code, ConfigurationError, Unavailable
from conductor_ai.settings import Settings
from conductor_ai.text import first_line
from conductor_ai.visible import unlinked

T = TypeVar("T")

RPC_SECONDS = timedelta(seconds=4)
"""Nobody waits over 5 s for an answer of the API."""

METRICS = timedelta(seconds=5)
"""How often the SDK's metrics go to the collector."""

_TYPES = {
    "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "Bool": IndexedValueType.INDEXED_VALUE_TYPE_BOOL,
    "Double": IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
}


def connect_config(settings: Settings) -> dict[str, Any]:
    """How a client connects, as keywords of `Client.connect`: the profile and variables of Temporal's envconfig, and what
    the settings say. A setting that was given wins; one that was not leaves a profile's value alone.

    Raises:
        ConfigurationError: Temporal's own configuration cannot be read.
    """
    try:
        config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError(
            "Temporal's own configuration (TEMPORAL_CONFIG_FILE, TEMPORAL_PROFILE, TEMPORAL_TLS_…) cannot be used: "
            f"{first_line(str(error))}"
        ) from error
    for name, keyword in (("temporal_address", "target_host"), ("temporal_namespace", "namespace")):
        if name in settings.model_fields_set or not config.get(keyword):
            config[keyword] = getattr(settings, name)
    if settings.temporal_api_key is not None:
        config["api_key"] = settings.temporal_api_key.get_secret_value()
        config.setdefault("tls", True)
    if settings.otlp_endpoint is not None:
        config["runtime"] = _reporting(settings.otlp_endpoint)
    return config


@cache
def _reporting(endpoint: str) -> Runtime:
    """The runtime that sends the SDK's metrics there: one for each process, as its exporter is."""
    url = f"{endpoint.rstrip('/')}/v1/metrics"
    return Runtime(
        telemetry=TelemetryConfig(metrics=OpenTelemetryConfig(url=url, http=True, metric_periodicity=METRICS))
    )


async def connect(settings: Settings, *, lazy: bool = False, seconds: float = 10) -> Client:
    """A client of the Temporal server that the settings name; TLS, API key and profiles come from Temporal's own variables.

    `lazy` clients connect when first used: an API starts while Temporal is away.

    Raises:
        Unavailable: the server does not answer.
    """
    config = connect_config(settings)
    try:
        return await asyncio.wait_for(
            Client.connect(**config, data_converter=pydantic_data_converter, lazy=lazy), seconds
        )
    except (RuntimeError, RPCError, TimeoutError) as error:
        raise Unavailable(
            f"Temporal does not answer at {config['target_host']}. Start it (`conductor dev` brings one), or set "
            "TEMPORAL_ADDRESS to where it listens.",
            code=Code.ENGINE_UNAVAILABLE,
        ) from error


async def register_search_attributes(client: Client) -> None:
    """See to it that the namespace knows our search attributes: a workflow that sets an unknown one hangs silently.

    Raises:
        ConfigurationError: they are missing and cannot be added, or have another type.
    """
    wanted = {key.name: _TYPES[_kind(key.indexed_value_type.name)] for key in names.SEARCH_ATTRIBUTES}
    by_hand = " ".join(
        f"--name {key.name} --type {_kind(key.indexed_value_type.name)}" for key in names.SEARCH_ATTRIBUTES
    )
    hint = f"Add them by hand: `temporal operator search-attribute create {by_hand}`."
    try:
        known = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
        present = dict(known.custom_attributes)
        if wrong := [name for name, kind in wanted.items() if name in present and present[name] != kind]:
            raise ConfigurationError(
                f"Temporal's namespace {client.namespace!r} has the search attribute {wrong[0]} with another type. Remove it, or "
                "use another namespace (TEMPORAL_NAMESPACE)."
            )
        missing = {name: kind for name, kind in wanted.items() if name not in present}
        if missing:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
            )
    except RPCError as error:
        if error.status == RPCStatusCode.ALREADY_EXISTS:
            return
        raise ConfigurationError(
            f"Temporal's namespace {client.namespace!r} lacks Conductor's search attributes and they could not be added "
            f"({error.status.name}). {hint}"
        ) from error


def _kind(name: str) -> str:
    return {"KEYWORD": "Keyword", "BOOL": "Bool", "DOUBLE": "Double"}[name]


class Engine:
    """What the API, the activities and the reconciler ask of Temporal."""

    def __init__(self, client: Client, task_queue: str = names.TASK_QUEUE) -> None:
        self.client = client
        self.task_queue = task_queue

    async def start(self, session: SessionInput) -> None:
        """Start the workflow of a session; the same session again is no error.

        Raises:
            Unavailable: it is not known whether the start was accepted.
        """
        try:
            await self.client.start_workflow(
                names.WORKFLOW,
                session,
                **self._start_options(session),
                result_type=SessionResult,
                rpc_timeout=RPC_SECONDS,
            )
        except WorkflowAlreadyStartedError:
            return
        except (RPCError, RuntimeError) as error:
            raise _away("The session could not be started") from error

    def _start_options(self, session: SessionInput) -> dict[str, Any]:
        attributes = TypedSearchAttributes(
            [
                SearchAttributePair(names.ORG, session.org_id),
                SearchAttributePair(names.STATUS, "pending"),
                SearchAttributePair(names.MODEL, session.model),
                SearchAttributePair(names.NEEDS_APPROVAL, False),
                SearchAttributePair(names.COST_USD, 0.0),
            ]
        )
        return {
            "id": session.session_id,
            "task_queue": self.task_queue,
            "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
            "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
            "search_attributes": attributes,
            "static_summary": unlinked(first_line(session.title)) or "an agent session",
            "priority": names.priority(session.org_id),
        }

    async def message(
        self, session: SessionInput, notice: MessageNotice, *, seconds: float = 3
    ) -> ControlAnswer | None:
        """Bring a message to a workflow that Temporal may not have yet: started by the same request if so.

        None: no worker answered in time.

        Raises:
            Unavailable: Temporal is away.
        """
        start: WithStartWorkflowOperation[Any, SessionResult] = WithStartWorkflowOperation(
            names.WORKFLOW, session, **self._start_options(session)
        )
        closed = ControlAnswer(kind=ControlKind.CLOSED)
        return await self._answered(
            self.client.execute_update_with_start_workflow(
                names.MESSAGE,
                notice,
                start_workflow_operation=start,
                result_type=ControlAnswer,
                rpc_timeout=timedelta(seconds=seconds),
            ),
            closed,
        )

    async def cancel(self, session_id: str) -> None:
        """Ask for a cancel. A closed or unknown workflow is no error: the row tells the truth.

        Raises:
            Unavailable: Temporal is away.
        """
        try:
            await self.client.get_workflow_handle(session_id).cancel(rpc_timeout=RPC_SECONDS)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise _away("The cancel is stored, but Temporal could not be told yet") from error
        except RuntimeError as error:
            raise _away("The cancel is stored, but Temporal could not be told yet") from error

    async def decide(self, session_id: str, request: DecisionRequest, *, seconds: float = 3) -> Verdict | None:
        """Bring a decision to the workflow. None: no worker answered in time; send it as a signal.

        Raises:
            Unavailable: Temporal is away.
        """
        return await self._update(session_id, names.DECIDE, request, Verdict, request.decision_id, seconds)

    async def control(
        self, session_id: str, name: str, request: Contract, *, seconds: float = 3
    ) -> ControlAnswer | None:
        """Bring a pause, resume, budget or message to the workflow. None: no worker answered in time.

        Each time as an update of its own: the workflow knows what it has heard before, and what of that has been taken back.

        Raises:
            Unavailable: Temporal is away.
        """
        closed = ControlAnswer(kind=ControlKind.CLOSED)
        return await self._update(session_id, name, request, ControlAnswer, None, seconds, closed)

    async def _update(
        self,
        session_id: str,
        name: str,
        request: Contract,
        answer: type[T],
        update_id: str | None,
        seconds: float,
        closed: T | None = None,
    ) -> T | None:
        handle = self.client.get_workflow_handle(session_id)
        return await self._answered(
            handle.execute_update(
                name, request, id=update_id, result_type=answer, rpc_timeout=timedelta(seconds=seconds)
            ),
            closed,
        )

    @staticmethod
    async def _answered(asked: Awaitable[T], closed: T | None) -> T | None:
        try:
            return await asked
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            return None
        except WorkflowAlreadyStartedError:
            return closed
        except WorkflowUpdateFailedError:
            return None  # after a reset the server may answer an old update id with an error of its own
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return closed
            if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
                return None
            raise _away("It could not be delivered") from error
        except RuntimeError as error:
            raise _away("It could not be delivered") from error

    async def signal_decision(self, session_id: str, request: DecisionRequest) -> bool:
        """Leave a decision with Temporal for whichever worker comes. False: the workflow is closed.

        Raises:
            Unavailable: Temporal is away.
        """
        return await self.signal(session_id, names.DECIDE, request)

    async def signal(self, session_id: str, name: str, request: Contract) -> bool:
        """Leave something with Temporal for whichever worker comes. False: the workflow is closed.

        Raises:
            Unavailable: Temporal is away.
        """
        try:
            await self.client.get_workflow_handle(session_id).signal(name, request, rpc_timeout=RPC_SECONDS)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise _away("It could not be delivered") from error
        except RuntimeError as error:
            raise _away("It could not be delivered") from error
        return True

    async def current_run(self, session_id: str) -> str | None:
        """The run that Temporal calls the current one; None if it knows no such workflow.

        Raises:
            Unavailable: Temporal is away.
        """
        found = await self.state(session_id)
        return None if found is None else found[0]

    async def state(self, session_id: str) -> tuple[str, WorkflowExecutionStatus | None] | None:
        """The current run and its status (asked without a run id: a reset leaves its old run TERMINATED).

        Raises:
            Unavailable: Temporal is away.
        """
        try:
            described = await self.client.get_workflow_handle(session_id).describe(rpc_timeout=RPC_SECONDS)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise _away("The session's workflow could not be looked up") from error
        except RuntimeError as error:
            raise _away("The session's workflow could not be looked up") from error
        return described.run_id or "", described.status

    async def ping(self) -> str | None:
        """None if Temporal answers, else a sentence that says why not."""
        try:
            await asyncio.wait_for(self.client.service_client.check_health(timeout=timedelta(seconds=2)), 3)
        except (RPCError, RuntimeError, TimeoutError) as error:
            return f"Temporal does not answer ({type(error).__name__})."
        return None


def _away(what: str) -> Unavailable:
    return Unavailable(f"{what}: Temporal does not answer. Try again in a moment.", code=Code.ENGINE_UNAVAILABLE)
