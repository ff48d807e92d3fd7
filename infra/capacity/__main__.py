"""`python -m infra.capacity`: what a load needs. `python -m infra.capacity measure`: what a step costs on this machine."""

import argparse
import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from infra.capacity.hotspots import report
from infra.capacity.model import Load, from_json, needs, throughput
from infra.capacity.page import costs_table, needs_table

MEASURED = Path(__file__).with_name("measured.json")


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(prog="python -m infra.capacity", description=__doc__)
    parser.add_argument("action", nargs="?", default="needs", choices=("needs", "measure", "check", "hotspots", "page"))
    parser.add_argument("--steps", type=float, default=10_000, help="a second")
    parser.add_argument("--waiting", type=int, default=1_000_000, help="sessions that wait for a person")
    parser.add_argument("--wait-hours", type=float, default=8)
    parser.add_argument("--step-seconds", type=float, default=5)
    parser.add_argument("--streams", type=int, default=50_000, help="clients that follow a session's events")
    parser.add_argument("--polls", type=float, default=2_000, help="reads a second")
    parser.add_argument("--retention-days", type=float, default=30)
    given = parser.parse_args()
    if given.action == "measure":
        from infra.capacity.measure import measure

        found = asyncio.run(measure())
        rounded = {
            name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(found).items()
        }
        MEASURED.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {MEASURED.name}")
    cost = from_json(json.loads(MEASURED.read_text(encoding="utf-8")))
    if given.action in ("measure", "check"):
        for count, seen in ((1, cost.one_at_a_time), (5, cost.few_at_once), (20, cost.many_at_once)):
            said = throughput(cost, count)
            print(f"{count} at once: measured {seen:.1f} steps/s, the model says {said:.1f} ({said / seen:.2f})")
    elif given.action == "hotspots":
        print(report())
    elif given.action == "page":
        print("\n\n".join((costs_table(cost), needs_table(cost), report())))
    else:
        load = Load(
            steps=given.steps, waiting=given.waiting, wait_hours=given.wait_hours, step_seconds=given.step_seconds,
            streams=given.streams, polls=given.polls, retention_days=given.retention_days,
        )  # fmt: skip
        for name, value in asdict(needs(load, cost)).items():
            print(f"{name.replace('_', ' '):24} {value:>14,{'.1f' if isinstance(value, float) else ''}}")


if __name__ == "__main__":
    main()
