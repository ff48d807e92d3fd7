"""The page of results: every target with its figure, met or not. Written by `make bench`, never by hand."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABELS = {
    "bare": "a bare Temporal loop",
    "conductor": "**Conductor**, by REST, with both stores",
    "pydantic_ai": "pydantic-ai on Temporal",
    "openai_agents": "OpenAI Agents on Temporal",
    "langgraph": "LangGraph, Postgres saver, `sync`",
    "dbos": "DBOS",
}

Run = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """One promise about speed."""

    what: str
    wanted: str
    figure: Callable[[Run], float | None]
    met: Callable[[float], bool]
    unit: str = ""
    digits: int = 2
    why: str = ""
    """Said when it is not met."""


def _get(run: Run, *path: str) -> Any:
    found: Any = run
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _over(run: Run, part: str, other: str) -> float | None:
    ours, theirs = _get(run, part, "conductor", "steps_s"), _get(run, part, other, "steps_s")
    return ours / theirs if ours and theirs else None


def _quotient(run: Run, above: tuple[str, ...], below: tuple[str, ...], factor: float = 1) -> float | None:
    first, second = _get(run, *above), _get(run, *below)
    return first / second * factor if first is not None and second else None


def _bare_steps(run: Run) -> float | None:
    wait, rate = _get(run, "decided", "p50"), _get(run, "one", "bare", "steps_s")
    return wait * rate / 1000 if wait and rate else None


TWO_CORES = (
    "Every process of the run shares two cores of a virtual machine, whose own speed differs from run to run; a wait for a core is in each "
    "late figure."
)
TWO_COMMITS = "Two commits and the JSON of a step's rows are left; see below what they cost."
NO_FASTER_THAN_BARE = (
    "A bare loop, which stores nothing and answers nobody, is itself less than 1.8 times as fast on this server. Conductor keeps step "
    "with it, and ends where it ends; see below what would be left to take."
)

TARGETS = (
    Target(
        "steps a second, one session, against bare",
        "at least 0.9 (goal 1.3)",
        lambda r: _get(r, "one", "conductor", "ratio"),
        lambda v: v >= 0.9,
        why=TWO_COMMITS,
    ),
    Target(
        "steps a second, 50 at once, against bare",
        "at least 0.9 (goal 1.3)",
        lambda r: _get(r, "fifty", "conductor", "ratio"),
        lambda v: v >= 0.9,
        why=TWO_COMMITS,
    ),
    Target(
        "one session, against pydantic-ai on Temporal",
        "at least 1.8",
        lambda r: _over(r, "one", "pydantic_ai"),
        lambda v: v >= 1.8,
        why=NO_FASTER_THAN_BARE,
    ),
    Target(
        "one session, against OpenAI Agents on Temporal",
        "at least 1.8",
        lambda r: _over(r, "one", "openai_agents"),
        lambda v: v >= 1.8,
        why=NO_FASTER_THAN_BARE,
    ),
    Target(
        "500 steps, against LangGraph (sync, Postgres)",
        "at least 0.8",
        lambda r: _over(r, "long", "langgraph"),
        lambda v: v >= 0.8,
        why="LangGraph is a library in the caller's process: no server, no worker, no queue between it and Postgres.",
    ),
    Target(
        "10 steps, against LangGraph (sync, Postgres)",
        "said openly",
        lambda r: _over(r, "one", "langgraph"),
        lambda _: True,
    ),
    Target(
        "history a step at 500 steps, against 50 steps",
        "at most 1.1",
        lambda r: _quotient(r, ("history_500", "history_bytes_step"), ("history_50", "history_bytes_step")),
        lambda v: v <= 1.1,
        why="Each run of the workflow carries the session's input and the decisions once more.",
    ),
    Target(
        "history a step at 500 steps",
        "under 2 KB",
        lambda r: _get(r, "history_500", "history_bytes_step"),
        lambda v: v < 2000,
        " bytes",
        0,
        "Each reference to a call is in the history with facts, digest and preview.",
    ),
    Target(
        "last 100 steps of the longest session, against its first 100 (median step)",
        "at most 1.15",
        lambda r: _quotient(r, ("longest", "last_100_median_ms"), ("longest", "first_100_median_ms")),
        lambda v: v <= 1.15,
        why="Two minutes and 5,000 steps lie between the two. Measured apart, by process (18.6 ms a step at its 100th to 500th, 20.5 ms at its 4,300th to 4,650th): "
        "1.4 ms more processor time in Temporal's development server, whose database has grown meanwhile by whatever ran on it, 0.8 ms in the worker, whose "
        "conversation has, and 0.2 ms in Postgres. The history of each run of the workflow stays as short as the first one's.",
    ),
    Target(
        "`GET` with one poller, p99",
        "under 5 ms",
        lambda r: _get(r, "polls", "p99"),
        lambda v: v < 5,
        " ms",
        why=TWO_CORES,
    ),
    Target(
        "the same with every worker stopped, p99",
        "under 5 ms",
        lambda r: _get(r, "polls_without_worker", "p99"),
        lambda v: v < 5,
        " ms",
        why=TWO_CORES,
    ),
    Target(
        "polls a second, against FastAPI and Redis alone",
        "at least 1",
        lambda r: _quotient(r, ("polls", "per_second"), ("redis_polls", "per_second")),
        lambda v: v >= 1,
        why="Each poll also checks who asks and what for, and asks Postgres for the session's version before it answers with what it has; the contender does "
        "neither. One API process serves them here; more processes serve more.",
    ),
    Target(
        "a step visible to a long poll after the model's answer, p99",
        "within 50 ms",
        lambda r: _get(r, "visible", "p99"),
        lambda v: v <= 50,
        " ms",
        0,
        TWO_CORES,
    ),
    Target(
        "start by REST to first model call, against bare (median)",
        "at most 1.5",
        lambda r: _quotient(r, ("one", "conductor", "first_ms"), ("one", "bare", "first_ms")),
        lambda v: v <= 1.5,
        why="The session is a row in Postgres before Temporal is asked, and its run claims that row before it may pay for an answer: two commits, and a "
        "request over HTTP, that bare does not have. So no session is lost, and none runs twice.",
    ),
    Target(
        "decision to start of the tool, in bare steps (median)",
        "at most 3",
        _bare_steps,
        lambda v: v <= 3,
        why=TWO_CORES,
    ),
    Target(
        "cancel acknowledged, p99",
        "under 100 ms",
        lambda r: _get(r, "cancelled", "p99"),
        lambda v: v < 100,
        " ms",
        0,
        TWO_CORES,
    ),
    Target(
        "memory of the worker for a session that waits",
        "at most 60 KB",
        lambda r: _get(r, "waiting", "worker_kb_each"),
        lambda v: v <= 60,
        " KB",
        0,
        "Half of it a bare workflow that waits after one step costs, too (below): what Temporal's core and SDK hold. On top come the session's "
        "input, its state and the details that Temporal's UI shows. CONDUCTOR_MAX_CACHED_WORKFLOWS bounds all of it: what is not in memory is replayed, from a "
        "history that stays short.",
    ),
    Target(
        "processor of the worker while all wait",
        "at most 3 % of a core",
        lambda r: _get(r, "waiting", "worker_idle_percent"),
        lambda v: v <= 3,
        " %",
        1,
        TWO_CORES,
    ),
    Target(
        "one of them goes on after its decision, p99",
        "under 250 ms",
        lambda r: _get(r, "waiting", "wake_ms", "p99"),
        lambda v: v < 250,
        " ms",
        0,
        TWO_CORES,
    ),
)


def _middle(runs: Iterable[Run], figure: Callable[[Run], float | None]) -> float | None:
    values = [value for run in runs if (value := figure(run)) is not None]
    return statistics.median(values) if values else None


def _targets(runs: list[Run]) -> list[str]:
    lines = ["| what | wanted | median | each run | met |", "|---|---|---|---|---|"]
    whys = []
    for target in TARGETS:
        value = _middle(runs, target.figure)
        if value is None:
            lines.append(f"| {target.what} | {target.wanted} | not measured | | |")
            continue
        met = target.met(value)
        note = ""
        if not met and target.why:
            if target.why not in whys:
                whys.append(target.why)
            note = f" ({whys.index(target.why) + 1})"
        shown = f"{value:.{target.digits}f}{target.unit}"
        each = ", ".join(f"{one:.{target.digits}f}" for run in runs if (one := target.figure(run)) is not None)
        lines.append(f"| {target.what} | {target.wanted} | {shown} | {each} | {'yes' if met else 'no'}{note} |")
    steps = runs[-1]["machine"]["history_steps"]
    numbered = [f"{number}. {why}" for number, why in enumerate(whys, 1)]
    return [*(line.replace("500 steps", f"{steps} steps") for line in lines), "", *numbered]


def _rates(runs: list[Run], part: str) -> list[str]:
    lines = [
        "| | steps/s | against bare | all rounds | CPU a step | of it Temporal | Postgres | WAL a step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, label in LABELS.items():
        if not any(_get(run, part, name) for run in runs):
            continue

        def of(*path: str, name: str = name) -> float:
            return _middle(runs, lambda one: _get(one, part, name, *path)) or 0

        spread = sorted(rate for run in runs for rate in _get(run, part, name, "spread") or ())
        lines.append(
            f"| {label} | {of('steps_s'):.1f} | {of('ratio'):.2f} | {spread[0]:.0f} to {spread[-1]:.0f} | {of('cpu_ms'):.1f} ms "
            f"| {of('cpu_parts', 'temporal'):.1f} ms | {of('cpu_parts', 'postgres'):.1f} ms | {of('wal_bytes') / 1000:.1f} KB |"
        )
    return lines


def _plain(runs: list[Run]) -> list[str]:
    """Figures without a target."""
    rows = (
        ("longest session", ("longest", "steps"), "steps", 0),
        ("its first 100 steps, its last 100 (median step)", ("longest", "first_100_median_ms"), "ms", 1),
        ("", ("longest", "last_100_median_ms"), "ms", 1),
        ("processor time of the worker for these", ("longest", "first_100_cpu_ms"), "ms", 1),
        ("", ("longest", "last_100_cpu_ms"), "ms", 1),
        ("history a step at 50 steps", ("history_50", "history_bytes_step"), "bytes", 0),
        ("events a step of the weighed session", ("history_500", "history_events_step"), "", 2),
        ("start by REST to first model call", ("one", "conductor", "first_ms"), "ms", 1),
        ("the same, bare", ("one", "bare", "first_ms"), "ms", 1),
        ("decision to start of the tool, median", ("decided", "p50"), "ms", 1),
        ("cancel acknowledged, median", ("cancelled", "p50"), "ms", 1),
        ("`GET`, median", ("polls", "p50"), "ms", 2),
        ("`GET`, 16 pollers", ("polls", "per_second"), "a second", 0),
        ("FastAPI and Redis alone, 16 pollers", ("redis_polls", "per_second"), "a second", 0),
        ("a step visible to a long poll, median", ("visible", "p50"), "ms", 1),
        ("memory of a bare workflow that waits after one step", ("bare_waiting", "worker_kb_each"), "KB", 0),
        ("sessions that wait", ("waiting", "count"), "", 0),
        ("all of them accepted after", ("waiting", "accepted_s"), "s", 1),
        ("all of them waiting after", ("waiting", "all_waiting_s"), "s", 1),
        ("memory of Temporal's dev server for each", ("waiting", "temporal_kb_each"), "KB", 0),
        ("rows and indexes in Postgres for each", ("waiting", "database_kb_each"), "KB", 0),
        ("one goes on after its decision, median", ("waiting", "wake_ms", "p50"), "ms", 1),
    )
    lines = ["| | measured |", "|---|---|"]
    for label, path, unit, digits in rows:
        value = _middle(runs, lambda run, path=path: _get(run, *path))  # type: ignore[misc]
        if value is not None:
            lines.append(f"| {label} | {value:.{digits}f} {unit} |".replace(" |", " |"))
    return lines


def write(runs: list[Run], path: Path) -> None:
    """Write the page from these runs; figures are the medians of the runs' medians."""
    machine = runs[-1]["machine"]
    load = max(run["machine"]["load_before"] for run in runs)
    quiet = load < 1.5 * (machine["cores"] or 1)
    state = (
        f"The machine was otherwise quiet (load at most {load:.1f} before a run)."
        if quiet
        else f"**The machine was busy with other work** (load up to {load:.0f} on {machine['cores']} cores): absolute figures and late "
        "percentiles are worse than they would be on a quiet one, and ratios of neighbours in the same round are what holds."
    )
    times = "once" if len(runs) == 1 else f"{len(runs)} times"
    text = [
        "# Benchmarks",
        "",
        "Written by `make bench` from its own results; how it measures is in `bench/README.md`.",
        "",
        f"Run {times}, last at {machine['at']}: {machine['cores']} cores shared by all servers, workers and callers, Python "
        f"{machine['python']}, {machine['rounds']} interleaved rounds a run ({machine['crowd_rounds']} with 50 sessions at once and with 500 steps), each figure the median. {state}",
        "",
        "Servers, the same for everybody and in the same run: Temporal's dev server with SQLite in WAL mode, `synchronous=full`, and "
        "`history.transferProcessorMaxPollRPS=2000` (as shipped it dispatches 20 tasks a second, which makes each step 100 ms for all that run on "
        "Temporal); Postgres with `fsync` and `synchronous_commit` on; Redis. Workflows are not sandboxed, as Conductor runs them. Conductor's API and a "
        "worker that runs no code are on uvloop, as shipped; the others on asyncio's own loop, as they come.",
        "",
        "The job: sessions whose model answers at once and asks for one trivial call a step. A model that takes 2 s makes all of these "
        "figures 1 % of a step; what counts then is processor, memory and how long sessions stay as quick as they were.",
        "",
        "## Targets",
        "",
        *_targets(runs),
        "",
        "## One session at a time, 10 steps",
        "",
        *_rates(runs, "one"),
        "",
        f"## 50 sessions at once, {machine['crowd_steps']} steps",
        "",
        *_rates(runs, "fifty"),
        "",
        "CPU is that of the contender's processes, for Conductor the API's, the worker's and the caller's, and of the three servers. Only Conductor's row has "
        "a REST API, two stores, snapshots, claims, a journal of costs and an audit trail of events in it; the others store what their engine stores.",
        "",
        "## Other figures",
        "",
        *_plain(runs),
        "",
        "## Where the floor is",
        "",
        "A step of a bare loop is two activities and two workflow tasks: twelve events in Temporal's history and six writes of its store. A step of Conductor "
        "is one activity and one workflow task, six events, because the activity that asks the model also runs short calls that only read "
        "([0026](decisions/0026-calls-beside-the-answer.md)); against that stand two transactions in Postgres, one that holds answer and claim and one that holds "
        "the result. They cannot be one: the claim must be on disk before the call begins, and the answer before anything else, because it is paid. Calls that "
        "wait for people, write, or run in a sandbox take two or three activities as before. A run's end costs no activity of its own: it is written with the final "
        "answer ([0037](decisions/0037-the-answer-ends-the-run.md)).",
        "",
        "So a step of ours and a bare one take about as long: half of the engine's work, and eleven round trips to Postgres in its place "
        "([0036](decisions/0036-few-round-trips.md)). What is left to take is in those: five for the answer, five for the result, one to read.",
        "",
        "Tried and not taken: the snapshot in an activity of its own (0.6 of bare), tools as local activities (as quick, but a second execution of one "
        "leaves no trace, and a cancel reaches it late), one transaction for both (the rules above), writes as functions in Postgres (the rules in a second "
        "language), several steps in one activity (a step would have no line in Temporal's UI, and a retry would repeat more than one answer).",
        "",
    ]
    path.write_text("\n".join(text), encoding="utf-8")
