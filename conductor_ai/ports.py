"""The activities as the workflow sees them: names and signatures. The bodies live in `activities/`.

A test compares each implementation with its port, so that the two cannot drift apart.
"""

from temporalio import activity

from conductor_ai.contracts.session import (
    CallRef,
    FinishInput,
    FinishOutcome,
    ModelInput,
    ModelOutcome,
    Prepared,
    PrepareInput,
    RecordInput,
    RecordOutcome,
    ReviseInput,
    ToolInput,
    ToolOutcome,
)

CALL_MODEL = "call_model"
PREPARE_CALL = "prepare_call"
REVISE_CALL = "revise_call"
RUN_TOOL = "run_tool"
RECORD = "record"
FINISH = "finish"


@activity.defn(name=CALL_MODEL)
async def call_model(request: ModelInput) -> ModelOutcome:
    """Ask the model once, or return what is journalled under this call number. Writes answer, calls and usage."""
    raise NotImplementedError


@activity.defn(name=PREPARE_CALL)
async def prepare_call(request: PrepareInput) -> Prepared:
    """Gate a call, look up its consequence, and put it before the people who decide."""
    raise NotImplementedError


@activity.defn(name=REVISE_CALL)
async def revise_call(request: ReviseInput) -> CallRef:
    """Give a call the arguments that a person wrote. It is put to the policy again, and asked again if that asks."""
    raise NotImplementedError


@activity.defn(name=RUN_TOOL)
async def run_tool(request: ToolInput) -> ToolOutcome:
    """Claim the call, run it once, store its result; or return what is stored."""
    raise NotImplementedError


@activity.defn(name=RECORD)
async def record(request: RecordInput) -> RecordOutcome:
    """Write changes that no model or tool activity writes: denied, expired, blocked, failed."""
    raise NotImplementedError


@activity.defn(name=FINISH)
async def finish(request: FinishInput) -> FinishOutcome:
    """Write the end. Its transaction picks the outcome; the workflow closes as it says."""
    raise NotImplementedError
