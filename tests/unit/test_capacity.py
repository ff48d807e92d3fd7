"""The capacity model and its simulation: arithmetic that can be checked by hand, and a page that says what they say."""

import json
from dataclasses import replace

import pytest

from infra.capacity.__main__ import MEASURED
from infra.capacity.hotspots import ROUTE, report, stations
from infra.capacity.model import Assumed, Load, Measured, from_json, needs, throughput
from infra.capacity.page import costs_table, needs_table
from infra.capacity.simulate import Station, simulate
from infra.docs.source import ROOT

COST: Measured = from_json(json.loads(MEASURED.read_text(encoding="utf-8")))
ROUND = replace(
    COST, worker_ms=10, temporal_ms=20, postgres_ms=10, latency_ms=50, events=12, history_bytes=2_000, commits=3, row_bytes=4_000,
    cores=2,
)  # fmt: skip
"""Costs that are easy to reckon with."""


def test_by_hand() -> None:
    """1,000 steps a second of 12 events: 6,000 writes; at 3 ms each and half busy 36 shards, so 64; 4,000 tasks, 8 partitions."""
    found = needs(Load(steps=1_000, waiting=0), ROUND)
    assert found.temporal_writes == 6_000
    assert found.shards == 64
    assert found.partitions == 8
    assert found.worker_cores == 20
    assert found.commits == 3_000
    assert found.rows_gb_a_day == pytest.approx(345.6)
    assert found.rows_tb_kept == pytest.approx(10.368)


def test_waiting_costs_by_waking() -> None:
    """A million sessions that wait eight hours wake 35 times a second; without steps that is all the work there is."""
    found = needs(Load(steps=0, waiting=1_000_000), ROUND)
    assert found.wakes == pytest.approx(34.7, abs=0.1)
    assert found.workers == 2
    assert found.waiting_gb == pytest.approx((COST.waiting_row_bytes + COST.waiting_history_bytes) / 1_000)
    assert found.reconcile_hours == pytest.approx(1_000_000 / (2 * 200) / 60)


def test_throughput_lies_between_its_bounds() -> None:
    """One session is bounded by its latency, many by the cores, and more never give less."""
    rates = [throughput(ROUND, count) for count in (1, 2, 5, 20, 200)]
    assert rates[0] == pytest.approx(20)
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(2 / 0.040, rel=0.01)


@pytest.mark.parametrize(("count", "seen"), [(1, COST.one_at_a_time), (5, COST.few_at_once), (20, COST.many_at_once)])
def test_the_model_reproduces_the_measurement(count: int, seen: float) -> None:
    """From one session's latency and the CPU of a step it says what 5 and 20 at once did, within a third."""
    assert throughput(COST, count) == pytest.approx(seen, rel=0.34)


def test_the_simulation_agrees_with_arithmetic_where_one_thing_is_full() -> None:
    """One server of 10 ms does 100 visits a second, however many are asked for, and is found to be what is full."""
    found = simulate(
        ("one", "two"), (Station("one", 1, 10), Station("two", 50, 1)), steps=1_000, sessions=100, seconds=10
    )
    assert found.done == pytest.approx(100, rel=0.1)
    assert found.hot == "one"
    assert found.busiest["one"] == pytest.approx(1, abs=0.01)


def test_an_unhurried_server_adds_nothing() -> None:
    """Far below its limits a step takes what its visits take."""
    found = simulate(("one",) * 4, (Station("one", 1_000, 5),), steps=100, sessions=1_000, seconds=20)
    assert found.p50_ms == pytest.approx(18.4, rel=0.1), "the median of four exponential visits"
    assert found.done == pytest.approx(100, rel=0.1)


def test_sessions_stay_on_their_shard_and_one_busy_session_fills_it() -> None:
    """More shards do not help a single session: all its writes go to one."""
    found = simulate(
        ROUTE, stations(shards=512, partitions=8, workers=16, primaries=1), steps=500, sessions=1, seconds=4
    )
    assert found.done < 1_000 / (ROUTE.count("shard") * Assumed().shard_write_ms)
    assert found.hot == "shard"


def test_the_page_says_what_the_program_says() -> None:
    """Costs, needs and hot spots of docs/scaling.md are those of `python -m infra.capacity page`."""
    page = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    for table in (costs_table(COST), needs_table(COST), report()):
        assert table in page
