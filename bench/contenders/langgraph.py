"""LangGraph with its Postgres saver and durability `sync`: each step is stored before the next one."""

import asyncio
import operator
import os
from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bench.job import ASK, RESULT, answer, serve


class State(TypedDict):
    """What is kept."""

    messages: Annotated[list, add_messages]
    name: str
    steps: int
    number: Annotated[int, operator.add]


async def model(state):
    """The next reply."""
    said = answer(state["name"], state["number"] + 1, state["steps"])
    calls = [] if said["final"] else [{"id": f"t{said['n']}", "name": "echo", "args": {"n": said["n"]}}]
    return {"messages": [AIMessage(said["text"], tool_calls=calls)], "number": 1}


async def tool(state):
    """The result of the call."""
    [call] = state["messages"][-1].tool_calls
    return {"messages": [ToolMessage(RESULT, tool_call_id=call["id"])]}


class OnPostgres:
    """One process."""

    async def open(self):
        """Make the graph and the saver's tables."""
        graph = StateGraph(State)
        graph.add_node("model", model)
        graph.add_node("tool", tool)
        graph.add_edge(START, "model")
        graph.add_conditional_edges(
            "model", lambda state: "tool" if state["messages"][-1].tool_calls else END, ["tool", END]
        )
        graph.add_edge("tool", "model")
        self._pool = AsyncConnectionPool(
            os.environ["BENCH_POSTGRES"],
            min_size=1,
            max_size=20,
            open=False,
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
        )
        await self._pool.open()
        await AsyncPostgresSaver(self._pool).setup()
        # A saver holds a lock of its own: sessions of one saver would wait for each other.
        self._graphs = [graph.compile(checkpointer=AsyncPostgresSaver(self._pool)) for _ in range(20)]
        self._next = 0
        return []

    async def session(self, name, steps):
        """One thread of the graph."""
        self._next += 1
        await self._graphs[self._next % len(self._graphs)].ainvoke(
            {"messages": [HumanMessage(ASK)], "name": name, "steps": steps, "number": 0},
            {"configurable": {"thread_id": name}, "recursion_limit": 5 * steps + 10},
            durability="sync",
        )

    async def close(self):
        """Close the pool."""
        await self._pool.close()


if __name__ == "__main__":
    asyncio.run(serve(OnPostgres()))
