"""The yardstick: a bare Temporal loop, one model and one tool activity a step, nothing stored anywhere else."""

from datetime import timedelta

from temporalio import activity, workflow

LIMIT = timedelta(seconds=60)
TEXT = ("I will call the echo tool once more and look at what it returns before I answer. " * 3)[:200]


@activity.defn
async def bare_model(step: int, steps: int) -> dict[str, object]:
    """Answers at once."""
    return {"text": TEXT, "final": step >= steps}


@activity.defn
async def bare_tool(step: int) -> str:
    """Answers at once."""
    return f"{step} {TEXT}"[:200]


@workflow.defn
class Bare:
    """The loop."""

    @workflow.run
    async def run(self, steps: int) -> int:
        """Runs all steps."""
        for step in range(1, steps + 1):
            reply = await workflow.execute_activity(bare_model, args=[step, steps], start_to_close_timeout=LIMIT)
            if reply["final"]:
                break
            await workflow.execute_activity(bare_tool, step, start_to_close_timeout=LIMIT)
        return steps
