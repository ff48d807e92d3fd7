"""DBOS: one workflow a session, the model call and the tool call a step each, on Postgres."""

import asyncio
import os

from dbos import DBOS, SetWorkflowID

from bench.job import ASK, RESULT, answer, serve

DBOS(
    config={
        "name": "bench",
        "system_database_url": os.environ["BENCH_POSTGRES"],
        "log_level": "ERROR",
        "console_log_level": "ERROR",
        "run_admin_server": False,
        "sys_db_pool_size": 20,
    }
)


@DBOS.step()
async def model(name: str, number: int, steps: int, _said: list) -> dict:
    """The next reply."""
    return answer(name, number, steps)


@DBOS.step()
async def tool(_number: int) -> str:
    """The result of the call."""
    return RESULT


@DBOS.workflow()
async def loop(name: str, steps: int) -> str:
    """One session."""
    said = [ASK]
    for number in range(1, steps + 1):
        reply = await model(name, number, steps, said)
        said.append(reply["text"])
        if reply["final"]:
            break
        said.append(await tool(number))
    return said[-1]


class OnPostgres:
    """One process."""

    async def open(self):
        """Launch."""
        DBOS.launch()
        return []

    async def session(self, name, steps):
        """One workflow."""
        with SetWorkflowID(name):
            handle = await DBOS.start_workflow_async(loop, name, steps)
        await handle.get_result()

    async def close(self):
        """Stop."""
        DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(serve(OnPostgres()))
