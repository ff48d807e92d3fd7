"""`docs/reference/search-attributes.md`: what Conductor is called by in Temporal and in Redis."""

import inspect
from collections.abc import Callable

from conductor_ai import names
from infra.docs.markdown import page, table
from infra.docs.source import field_docs

PATH = "conductor_ai/names.py"
KEYS: tuple[Callable[[str, str], str], ...] = (names.snapshot_key, names.deltas_key, names.rate_key)
"""Every kind of Redis key."""


def redis_keys() -> list[tuple[str, str]]:
    """Patterns of all keys and channels, each with its meaning."""
    channel = field_docs(PATH)["RING_CHANNEL"]
    return [
        *((key("<org_id>", "<session_id>"), inspect.getdoc(key) or "") for key in KEYS),
        (names.RING_CHANNEL, f"A channel, not a key. {channel}"),
    ]


def render() -> str:
    """The page."""
    docs = field_docs(PATH)
    variables = {
        value.name: docs.get(name, "") for name, value in vars(names).items() if value in names.SEARCH_ATTRIBUTES
    }
    attributes = [
        (f"`{key.name}`", key.indexed_value_type.name.capitalize(), variables[key.name])
        for key in names.SEARCH_ATTRIBUTES
    ]
    handlers = [
        (f"`{names.WORKFLOW}`", "workflow", docs["WORKFLOW"]),
        (f"`{names.DECIDE}`", "signal and update", docs["DECIDE"]),
        (f"`{names.PAUSE}`", "signal and update", docs["PAUSE"]),
        (f"`{names.RESUME}`", "signal and update", docs["RESUME"]),
        (f"`{names.SET_BUDGET}`", "update", docs["SET_BUDGET"]),
        (f"`{names.MESSAGE}`", "signal and update", docs["MESSAGE"]),
        (f"`{names.STATE}`", "query", docs["STATE"]),
        (f"`{names.TASK_QUEUE}`", "task queue", docs["TASK_QUEUE"]),
        (
            f"`{names.sandbox_queue(names.TASK_QUEUE)}`",
            "task queue",
            inspect.getdoc(names.sandbox_queue) or "",
        ),
    ]
    return page(
        "Names in Temporal and Redis",
        "## Search attributes\n\n"
        "A worker registers them in its namespace when it starts, and refuses to start if it cannot. Find what waits for a "
        "person with the query `ConductorNeedsApproval = true`.\n\n"
        + table(("attribute", "type", "meaning"), attributes),
        "## Workflow, handlers and queues\n\n" + table(("name", "kind", "meaning"), handlers),
        "## Redis\n\n"
        f"Every key lives at most {names.HOT_TTL_SECONDS:,} seconds after its last write; a stream of deltas keeps about "
        f"{names.DELTAS_MAX:,} entries. Deleting any of it, or all, costs latency and loses nothing.\n\n"
        + table(("key", "meaning"), [(f"`{key}`", doc) for key, doc in redis_keys()]),
    )
