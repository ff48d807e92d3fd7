"""The activities are what the workflow believes them to be."""

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from temporalio import activity

from activities.model import ModelActivities
from activities.snapshot import SnapshotActivities
from activities.tool import ToolActivities
from conductor_ai import ports

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
