"""Names that more than one process must agree on: queues, handlers, search attributes, Redis keys, ids."""

import hashlib
import secrets
from typing import Final

from temporalio.common import Priority, SearchAttributeKey

TASK_QUEUE: Final = "conductor"
"""The default queue of workflows, model calls and tools. One queue for all three, so that eager dispatch works."""

WORKFLOW: Final = "Session"
"""The type of the workflow. Its id is the session's id."""
DECIDE: Final = "decide"
"""The name of both the signal and the update that bring a decision."""
PAUSE: Final = "pause"
"""Both a signal and an update: stand still before the next step."""
RESUME: Final = "resume"
"""Both a signal and an update: go on."""
SET_BUDGET: Final = "set_budget"
"""The update that changes a session's limits."""
MESSAGE: Final = "message"
"""Both a signal and an update: a message is in the store; read it."""
STATE: Final = "state"
"""The query that shows what the workflow itself believes; for debugging, never for the API."""

ORG = SearchAttributeKey.for_keyword("ConductorOrg")
"""The organisation. Set at the start."""
STATUS = SearchAttributeKey.for_keyword("ConductorStatus")
"""`pending`, `running`, `completed`, `failed` or `cancelled`."""
MODEL = SearchAttributeKey.for_keyword("ConductorModel")
"""The model's id. Set at the start."""
NEEDS_APPROVAL = SearchAttributeKey.for_bool("ConductorNeedsApproval")
"""True while at least one call waits for a person."""
COST_USD = SearchAttributeKey.for_float("ConductorCostUsd")
"""US dollars spent so far, as of the last change of another attribute."""
SEARCH_ATTRIBUTES = (ORG, STATUS, MODEL, NEEDS_APPROVAL, COST_USD)

HOT_TTL_SECONDS: Final = 3600
"""Every Redis key lives at most this long after its last write."""
DELTAS_MAX: Final = 2000
"""Token deltas kept for one session."""


def sandbox_queue(task_queue: str) -> str:
    """The queue of the workers that may reach Docker, beside `task_queue`."""
    return f"{task_queue}-sandbox"


def priority(org_id: str, *, first: bool = False) -> Priority:
    """How the tasks of an organisation's sessions queue: fairly among organisations.

    `first`: before all models and tools that wait. For what takes milliseconds and lets people, or a session's end, go on.
    """
    return Priority(priority_key=2 if first else 3, fairness_key=org_id[:64])


def snapshot_key(org_id: str, session_id: str) -> str:
    """The hot copy of a session: a hash of `version` and `document`."""
    return f"conductor:{org_id}:snapshot:{session_id}"


def deltas_key(org_id: str, session_id: str) -> str:
    """The stream of a session's token deltas."""
    return f"conductor:{org_id}:deltas:{session_id}"


def rate_key(org_id: str, key_id: str) -> str:
    """The tokens of an API key: how many requests it may send. A hash of `tokens` and `at`; lives until it would be full."""
    return f"conductor:{org_id}:rate:{key_id}"


RING_CHANNEL: Final = "conductor:ring"
"""Publishes `org_id session_id version` after each commit. A ring says only: look into Postgres."""


def new_id(prefix: str) -> str:
    """An id with 128 random bits, for example `sess_…`. Never derived from anything: ids must not collide or leak."""
    return f"{prefix}_{secrets.token_hex(16)}"


def event_id(session_id: str, seq: int) -> str:
    """The id of a session's event. Derived, because an event has its place already; as hard to guess as the session's id."""
    return f"evt_{hashlib.sha256(f'{session_id}/{seq}'.encode()).hexdigest()[:32]}"
