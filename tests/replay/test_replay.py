"""Sessions that run today must go on under tomorrow's workflow code: their histories are replayed."""

from pathlib import Path
from typing import NoReturn

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from conductor_ai import names
from conductor_ai.contracts.session import SessionInput, SessionResult
from tests.gates import Changed
from tests.replay.shapes import SHAPES, Make
from workflows.session import Session

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))
SHAPE_NAMES = {
    "finished",
    "waiting",
    "cancelled",
    "failed",
    "expired",
    "continued-1",
    "continued-2",
    "beside",
    "gave-up",
    "compacted",
}


def runner(sandboxed: bool) -> WorkflowRunner:
    """As the worker's setting chooses it."""
    if not sandboxed:
        return UnsandboxedWorkflowRunner()
    restrictions = SandboxRestrictions.default.with_passthrough_modules("conductor_ai", "annotated_types")
    return SandboxedWorkflowRunner(restrictions=restrictions)


async def replay(history: WorkflowHistory, workflow_class: type = Session, *, sandboxed: bool = False) -> None:
    """Replay with the product's own converter.

    Raises:
        workflow.NondeterminismError: the code would do something else than what was done.
    """
    replayer = Replayer(
        workflows=[workflow_class], data_converter=pydantic_data_converter, workflow_runner=runner(sandboxed)
    )
    await replayer.replay_workflow(history)


def stored(path: Path) -> WorkflowHistory:
    """A kept history."""
    return WorkflowHistory.from_json(path.stem, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("sandboxed", [False, True], ids=["unsandboxed", "sandboxed"])
@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_kept_histories_replay(path: Path, sandboxed: bool) -> None:
    """Every history in the corpus replays with the present code, with and without the sandbox."""
    await replay(stored(path), sandboxed=sandboxed)


def test_every_shape_is_kept() -> None:
    """The corpus is complete, and holds no text of a session: only references."""
    assert {path.stem for path in HISTORIES} >= SHAPE_NAMES
    assert all(path.stat().st_size < 200_000 for path in HISTORIES)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_fresh_histories_replay(temporal: Client, store_url: str, shape: Make) -> None:
    """What the present code does now, it would do again."""
    for history in (await shape(temporal, store_url)).values():
        await replay(history)


@workflow.defn(name=names.WORKFLOW)
class NeverContinues(Session):
    """The session with another mistake: it forgot how it continued as new."""

    @workflow.init
    def __init__(self, session: SessionInput) -> None:
        super().__init__(session)

    @workflow.run
    async def run(self, session: SessionInput) -> SessionResult:
        """As before."""
        return await super().run(session)

    def _continue_as_new(self) -> NoReturn:
        raise AssertionError

    def _may_continue_as_new(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("name", "mistake"), [("finished", Changed), ("waiting", Changed), ("continued-1", NeverContinues)]
)
async def test_a_change_that_would_hang_sessions_is_caught(name: str, mistake: type) -> None:
    """The corpus is good for something: a workflow that was changed without care does not replay."""
    [path] = [path for path in HISTORIES if path.stem == name]
    with pytest.raises(workflow.NondeterminismError):
        await replay(stored(path), mistake)
