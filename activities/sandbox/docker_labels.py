"""The labels that every container of ours carries, and what they say about removing it."""

from collections.abc import Mapping, Set
from enum import StrEnum

from activities.sandbox.base import SandboxJob
from activities.sandbox.owner import Life, Owner
from activities.sandbox.program import hard_stop

SANDBOX = "conductor.sandbox"
SESSION = "conductor.session"
CALL = "conductor.call"
RUN = "conductor.run"
ATTEMPT = "conductor.attempt"
DEADLINE = "conductor.deadline"
"""Seconds since 1970 after which anybody may remove the container."""
OWNER = "conductor.owner"

GRACE_SECONDS = 30
"""For creating, starting, reading the outcome and removing, on a slow day."""


class Fate(StrEnum):
    """What the reaper does with a container, and why."""

    KEEP_MINE = "keep_mine"
    """This sandbox is running it right now."""
    KEEP_OTHERS = "keep_others"
    """Another worker may be running it."""
    REMOVE_LOST = "remove_lost"
    """This sandbox made it and does not know it any more: a call to the engine timed out."""
    REMOVE_ORPHAN = "remove_orphan"
    """The worker that made it is dead."""
    REMOVE_EXPIRED = "remove_expired"
    """Its deadline has passed, wherever its worker is."""

    @property
    def remove(self) -> bool:
        """True for the fates that end it."""
        return self in (Fate.REMOVE_LOST, Fate.REMOVE_ORPHAN, Fate.REMOVE_EXPIRED)


def labels(job: SandboxJob, owner: Owner, now: float) -> dict[str, str]:
    """The labels of a new container. `now` in seconds since 1970."""
    return {
        SANDBOX: "1",
        SESSION: job.session_id,
        CALL: job.call_id,
        RUN: job.run_id,
        ATTEMPT: str(job.attempt),
        DEADLINE: str(int(now) + hard_stop(job.timeout_seconds) + GRACE_SECONDS),
        OWNER: str(owner),
    }


def is_predecessor(of: Mapping[str, str], job: SandboxJob) -> bool:
    """True for a container of the same call that this job replaces.

    A later attempt of the same run is not: then this job is the one that came too late.
    """
    if of.get(CALL) != job.call_id:
        return False
    attempt = of.get(ATTEMPT, "")
    return of.get(RUN) != job.run_id or not attempt.isdigit() or int(attempt) <= job.attempt


def fate(of: Mapping[str, str], name: str, me: Owner, running: Set[str], now: float) -> Fate:
    """What becomes of a container with these labels. `running`: names of what `me` is running."""
    if of.get(OWNER) == str(me):
        return Fate.KEEP_MINE if name in running else Fate.REMOVE_LOST
    deadline = of.get(DEADLINE, "")
    if deadline.isdigit() and int(deadline) < now:
        return Fate.REMOVE_EXPIRED
    owner = Owner.parse(of.get(OWNER, ""))
    if owner is not None and owner.life() is Life.DEAD:
        return Fate.REMOVE_ORPHAN
    return Fate.KEEP_OTHERS
