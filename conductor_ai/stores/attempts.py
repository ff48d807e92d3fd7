"""What attempts at model calls used: one row for each, whatever became of it, and the sums on the session's row."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from conductor_ai.contracts.models import Usage
from conductor_ai.stores.writing import Writer


@dataclass(frozen=True)
class Attempt:
    """What one attempt at a model call used, whatever became of it."""

    call_no: int
    step: int
    attempt: int
    model: str
    outcome: str
    usage: Usage
    cost_usd: Decimal


PAID = """
    paid AS (
      INSERT INTO conductor.model_attempts AS a (session_id, call_no, run_id, attempt, step, model, outcome,
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd)
      SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 WHERE $13 ON CONFLICT DO NOTHING RETURNING a.*
    )"""
"""Part of a `WITH`: the row of an attempt, unless it is there ($13: whether there is one)."""
SPENT = """
    output_tokens = s.output_tokens + coalesce(paid.output_tokens, 0),
    input_tokens = s.input_tokens + coalesce(paid.input_tokens + paid.cache_read_tokens + paid.cache_write_tokens, 0),
    cache_read_tokens = s.cache_read_tokens + coalesce(paid.cache_read_tokens, 0),
    cache_write_tokens = s.cache_write_tokens + coalesce(paid.cache_write_tokens, 0),
    cost_usd = s.cost_usd + coalesce(paid.cost_usd, 0)"""

_ATTEMPTED = f"""
    WITH {PAID}
    UPDATE conductor.sessions s SET {SPENT} FROM paid WHERE s.id = paid.session_id RETURNING true
"""


def values_of(session_id: str, run_id: str, attempt: Attempt) -> tuple[Any, ...]:
    """What `PAID` takes as $1 to $12."""
    usage = attempt.usage
    return (
        session_id,
        attempt.call_no,
        run_id,
        attempt.attempt,
        attempt.step,
        attempt.model,
        attempt.outcome,
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
        attempt.cost_usd,
    )


async def paid(writer: Writer, run_id: str, attempt: Attempt) -> bool:
    """Store what an attempt used. False: it was stored before, and nothing is changed."""
    inserted = await writer.connection.fetchval(_ATTEMPTED, *values_of(writer.session_id, run_id, attempt), True)
    if inserted:
        say_paid(writer, run_id, attempt)
    return bool(inserted)


def say_paid(writer: Writer, run_id: str, attempt: Attempt) -> None:
    """Append the event of an attempt that was stored."""
    usage = attempt.usage
    writer.event(
        "model.attempt",
        {
            "call_no": attempt.call_no,
            "attempt": attempt.attempt,
            "outcome": attempt.outcome,
            "tokens": usage.model_dump(mode="json", exclude={"reported_cost_usd"}),
            "cost_usd": str(attempt.cost_usd),
        },
        dedupe=f"attempt:{attempt.call_no}:{run_id}:{attempt.attempt}",
    )
