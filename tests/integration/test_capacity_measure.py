"""The measurement behind the capacity model really runs."""

import pytest

from infra.capacity.measure import measure


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_small_measurement() -> None:
    """Every cost is found and plausible: a step has events, commits and bytes, a waiting session has rows."""
    found = await measure(steps=4, rounds=1, waiting=3)
    assert 4 <= found.events <= 20
    assert 100 < found.history_bytes < 10_000
    assert found.commits >= 1
    assert found.row_bytes > 0
    assert found.waiting_history_bytes > 500
    assert min(found.worker_ms, found.temporal_ms, found.postgres_ms, found.latency_ms) > 0
    assert found.cores > 0
