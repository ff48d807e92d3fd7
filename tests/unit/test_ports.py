"""The activities are what the workflow believes them to be."""

import inspect
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import BaseModel, ValidationError
from temporalio import activity
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.model import ModelActivities
from activities.snapshot import SnapshotActivities
from activities.tool import ToolActivities
from conductor_ai import ports
from conductor_ai.contracts.base import Payload
from conductor_ai.contracts.control import ControlAnswer, MessageNotice, PauseRequest, ResumeRequest
from conductor_ai.contracts.decisions import DecisionRequest, Verdict
from conductor_ai.contracts.models import ModelReply, Stop
from conductor_ai.contracts.session import (
    CallRef,
    Carried,
    FinishOutcome,
    ModelInput,
    ModelOutcome,
    SessionInput,
    SessionResult,
)
from conductor_ai.contracts.tools import Consequence, Facts, ToolResult

IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    ports.CALL_MODEL: ModelActivities.call_model,
    ports.PREPARE_CALL: ToolActivities.prepare_call,
    ports.REVISE_CALL: ToolActivities.revise_call,
    ports.RUN_TOOL: ToolActivities.run_tool,
    ports.RECORD: SnapshotActivities.record,
    ports.FINISH: SnapshotActivities.finish,
}
PORTS: dict[str, Callable[..., Any]] = {
    str(activity._Definition.must_from_callable(value).name): value
    for value in vars(ports).values()
    if callable(value) and activity._Definition.from_callable(value) is not None
}


def test_every_port_has_an_implementation() -> None:
    """No port is without an implementation, and none is implemented that the workflow does not know."""
    assert PORTS.keys() == IMPLEMENTATIONS.keys()


@pytest.mark.parametrize("name", sorted(IMPLEMENTATIONS))
def test_signatures_agree(name: str) -> None:
    """Name, one contract in, one contract out: the same on both sides."""
    port, ours = PORTS[name], IMPLEMENTATIONS[name]
    assert activity._Definition.must_from_callable(ours).name == name
    assert get_type_hints(ours) == get_type_hints(port)
    assert list(inspect.signature(ours).parameters)[1:] == list(inspect.signature(port).parameters)


@pytest.mark.parametrize("name", sorted(PORTS))
async def test_ports_have_no_bodies(name: str) -> None:
    """A port that is called by mistake says so."""
    with pytest.raises(NotImplementedError):
        await PORTS[name](None)


def crossing(model: Any, seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """Every model that a type holds, however deep."""
    if isinstance(model, type) and issubclass(model, BaseModel) and model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            crossing(field.annotation, seen)
    for part in get_args(model):
        crossing(part, seen)
    return seen


def all_that_crosses() -> set[type[BaseModel]]:
    """What workflow, activities and API hand to each other, and what the journals keep."""
    seen: set[type[BaseModel]] = set()
    for port in PORTS.values():
        for part in get_type_hints(port).values():
            crossing(part, seen)
    for kept in (SessionInput, SessionResult, Carried, ModelReply, ToolResult, Consequence, Verdict, ControlAnswer):
        crossing(kept, seen)
    return seen


def test_neighbouring_versions_understand_each_other() -> None:
    """A field that only a newer version knows is left out and refuses nothing, in everything that crosses Temporal or is kept."""
    found = all_that_crosses()
    assert {ModelInput, ModelOutcome, FinishOutcome, Facts} <= found
    assert not [model.__name__ for model in found if not issubclass(model, Payload)]
    told = ModelOutcome(stop=Stop.END, calls=(CallRef(call_id="call_1", tool="web_fetch"),)).model_dump(mode="json")
    told["calls"][0]["of_tomorrow"] = told["of_tomorrow"] = {"a": 1}
    [payload] = pydantic_data_converter.payload_converter.to_payloads([told])
    [read] = pydantic_data_converter.payload_converter.from_payloads([payload], [ModelOutcome])
    assert read == ModelOutcome(stop=Stop.END, calls=(CallRef(call_id="call_1", tool="web_fetch"),))


@pytest.mark.parametrize("typed", [DecisionRequest, PauseRequest, ResumeRequest, MessageNotice])
def test_what_people_type_is_refused_if_it_is_not_understood(typed: type[BaseModel]) -> None:
    """In Temporal's UI a misspelt field must not become a decision without it."""
    with pytest.raises(ValidationError, match="extra_forbidden"):
        typed.model_validate({"comnent": "no"})
