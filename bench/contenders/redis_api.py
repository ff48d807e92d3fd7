"""What a session's GET costs at least: FastAPI that answers with a document out of Redis. Not durable, not scoped, not versioned."""

import os

import redis.asyncio
import uvicorn
from fastapi import FastAPI, Response

app = FastAPI()
store = redis.asyncio.from_url(os.environ["REDIS_URL"])


@app.get("/agents/{session_id}")
async def one(session_id: str) -> Response:
    """The document."""
    return Response(await store.get(f"bench:{session_id}"), media_type="application/json")


@app.put("/agents/{session_id}")
async def put(session_id: str, document: dict) -> None:
    """Store one."""
    import json

    await store.set(f"bench:{session_id}", json.dumps(document))


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), log_level="warning", access_log=False)
