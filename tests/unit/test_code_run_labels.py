"""What the labels of a container say about removing it, and which sandbox the settings choose."""

import asyncio
import os
import re
import subprocess
import sys
import time

import pytest

from activities.sandbox.base import Check, Language, SandboxJob
from activities.sandbox.docker_labels import (
    CALL,
    DEADLINE,
    OWNER,
    Fate,
    fate,
    is_predecessor,
    known,
    labels,
    labels_ahead,
    name_ahead,
    name_of,
)
from activities.sandbox.owner import Life, Owner
from activities.sandbox.select import Unavailable, choose
from activities.sandbox.tasks import Background, finish
from conductor_ai.errors import ToolUnavailable

NOW = 1_800_000_000.0
JOB = SandboxJob(
    language=Language.PYTHON, source="", timeout_seconds=30, session_id="s", call_id="c", run_id="r", attempt=2
)


def test_the_deadline_is_after_everything_else() -> None:
    """Timeout, hard stop and grace are over before anybody may remove a container of a living worker."""
    assert int(labels(JOB, Owner.myself(), NOW)[DEADLINE]) == NOW + 30 + 5 + 30


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"conductor.attempt": "1"}, True),
        ({"conductor.attempt": "3"}, False),
        ({"conductor.attempt": "3", "conductor.run": "another"}, True),
        ({"conductor.attempt": "?"}, True),
        ({CALL: "another"}, False),
    ],
)
def test_predecessors(changes: dict[str, str], expected: bool) -> None:
    """The same or an earlier attempt, or any of another run, is replaced; a later attempt is not."""
    assert is_predecessor(labels(JOB, Owner.myself(), NOW) | changes, JOB) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"attempt": 1}, False),
        ({"attempt": 3}, True),
        ({"run_id": "another"}, True),
        ({"call_id": "d"}, False),
    ],
)
@pytest.mark.parametrize("call_id", ["call_0f", "a.b/c d\n", "x" * 200])
def test_a_name_says_what_labels_would(call_id: str, changes: dict[str, object], expected: bool) -> None:
    """A container that was made ahead is known by its name alone, whatever characters the ids have."""
    job = JOB.model_copy(update={"call_id": call_id})
    name = name_of(job, NOW)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,250}", name)
    said = known(name, labels_ahead(Owner.myself(), NOW - 300, 660))
    assert said[DEADLINE] == labels(job, Owner.myself(), NOW)[DEADLINE]
    assert is_predecessor(said, job.model_copy(update=changes)) is expected
    assert is_predecessor(labels(job, Owner.myself(), NOW), job.model_copy(update=changes)) is expected


@pytest.mark.parametrize("name", ["conductor.ready.0a1b", "conductor", "", "other.s.c.r.1.9.x", "a.b.c.d.e.f.g.h"])
def test_other_names_say_nothing(name: str) -> None:
    """Neither a container without a job nor one of somebody else is taken for a call's."""
    of = labels_ahead(Owner.myself(), NOW, 660)
    assert known(name, of) == of
    assert not is_predecessor(known(name, of), JOB)
    assert known(name_ahead(), of) == of


def test_what_is_made_ahead_expires_after_the_longest_job() -> None:
    """A worker on another machine may still give it the longest job at its last moment."""
    assert int(labels_ahead(Owner.myself(), NOW, 660)[DEADLINE]) == NOW + 660 + 60 + 5 + 30


def a_dead_owner() -> Owner:
    """An owner on this machine whose process has ended."""
    code = "from activities.sandbox.owner import Owner; print(Owner.myself())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    owner = Owner.parse(said.strip())
    assert owner is not None
    return owner


def test_fates() -> None:
    """Each reason to keep and each reason to remove, side by side."""
    me, other, dead = Owner.myself(), Owner.myself(), a_dead_owner()
    elsewhere = Owner("another/machine", os.getpid(), "1", "x")

    def of(owner: Owner, age: float = 0) -> dict[str, str]:
        return labels(JOB, owner, NOW - age)

    assert fate(of(me), "n", me, {"n"}, NOW) is Fate.KEEP_MINE
    assert fate(of(me, 1000), "n", me, {"n"}, NOW) is Fate.KEEP_MINE
    assert fate(of(me), "n", me, set(), NOW) is Fate.REMOVE_LOST
    assert fate(of(other), "n", me, set(), NOW) is Fate.KEEP_OTHERS
    assert fate(of(other, 66), "n", me, set(), NOW) is Fate.REMOVE_EXPIRED
    assert fate(of(dead), "n", me, set(), NOW) is Fate.REMOVE_ORPHAN
    assert fate(of(elsewhere), "n", me, set(), NOW) is Fate.KEEP_OTHERS
    assert fate(of(elsewhere, 64), "n", me, set(), NOW) is Fate.KEEP_OTHERS
    assert fate(of(elsewhere, 66), "n", me, set(), NOW) is Fate.REMOVE_EXPIRED
    assert fate({OWNER: "what", DEADLINE: "never"}, "n", me, set(), NOW) is Fate.KEEP_OTHERS


def test_a_pid_alone_is_no_proof_of_life() -> None:
    """Another process that got the pid of a dead worker is not taken for it."""
    me = Owner.myself()
    assert me.life() is Life.ALIVE
    assert Owner(me.machine, me.pid, str(int(me.started) - 1), me.nonce).life() is Life.DEAD
    assert Owner("x", me.pid, me.started, me.nonce).life() is Life.ELSEWHERE
    assert Owner.parse(str(me)) == me


async def test_off_is_off() -> None:
    """`off` is kept, also with the permission for a plain process."""
    chosen = await choose("off", images={}, unsafe_subprocess=True)
    assert isinstance(chosen, Unavailable)
    assert "switched off" in chosen.reason


async def test_an_unknown_choice_is_an_error() -> None:
    """A word that is none of the four does not choose anything."""
    with pytest.raises(ValueError, match="firecracker"):
        await choose("firecracker", images={})


async def test_docker_that_is_away_is_said() -> None:
    """Asked for Docker alone, nothing else is tried: the reason and the remedy come back."""
    chosen = await choose("docker", images={}, docker_host="unix:///nonexistent/docker.sock", unsafe_subprocess=True)
    assert isinstance(chosen, Unavailable)
    assert "does not answer" in chosen.reason
    assert "Install Docker or bubblewrap" in chosen.reason


def test_a_check_lists_what_is_missing() -> None:
    """One missing language leaves the sandbox available; both do not, and a common reason is said once."""
    assert Check().available
    assert Check({Language.JAVASCRIPT: "no node."}).available
    assert not Check.failed("away.").available
    assert Check.failed("away.").reason == "away."


async def test_work_is_finished_under_repeated_cancel() -> None:
    """`finish` outlasts any number of cancels and raises them afterwards."""
    gate, done = asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append(True)

    task = asyncio.ensure_future(finish(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_work_in_the_background_is_waited_for_with_patience(caplog: pytest.LogCaptureFixture) -> None:
    """A cancel waits for the work as long as was said, then the work goes on alone; its failure is in the log."""
    gate, done = asyncio.Event(), []
    background = Background("The removal of a thing")

    async def work() -> None:
        await gate.wait()
        done.append(True)
        raise ToolUnavailable("The engine is away.")

    task = asyncio.ensure_future(background.finish(work(), 0.2))
    await asyncio.sleep(0)
    begun = time.monotonic()
    task.cancel()
    await asyncio.wait([task], timeout=0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 0.15 < time.monotonic() - begun < 1
    assert done == []
    gate.set()
    await background.close()
    assert done == [True]
    assert "The removal of a thing failed: The engine is away." in caplog.text
