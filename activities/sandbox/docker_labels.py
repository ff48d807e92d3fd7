"""The labels and the name that every container of ours carries, and what they say about removing it.

A label is there from the making on and cannot be changed; a container that was made ahead learns its job later. So the
name of a container that has a job says everything that the labels of one made for that job say, and it counts more.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping, Set
from enum import StrEnum

from activities.sandbox.base import SandboxJob
from activities.sandbox.owner import Life, Owner
from activities.sandbox.program import LONGEST_STOP, hard_stop

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

_NAMED = (SESSION, CALL, RUN, ATTEMPT, DEADLINE)
"""What a name says, in this order, between its first word and its random end."""

_SAFE = re.compile(r"[A-Za-z0-9_-]{1,48}")


class Fate(StrEnum):
    """What the reaper does with a container, and why."""

    KEEP_MINE = "keep_mine"
    """This sandbox is running it right now, or keeps it ready."""
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
    """The labels of a container that is made for a job. `now` in seconds since 1970."""
    return {
        SANDBOX: "1",
        SESSION: job.session_id,
        CALL: job.call_id,
        RUN: job.run_id,
        ATTEMPT: str(job.attempt),
        DEADLINE: str(int(now) + hard_stop(job.timeout_seconds) + GRACE_SECONDS),
        OWNER: str(owner),
    }


def labels_ahead(owner: Owner, now: float, wait_seconds: int) -> dict[str, str]:
    """The labels of a container that is made ahead and waits this long for a job."""
    deadline = int(now) + wait_seconds + LONGEST_STOP + GRACE_SECONDS
    return {SANDBOX: "1", DEADLINE: str(deadline), OWNER: str(owner)}


def name_of(job: SandboxJob, now: float) -> str:
    """A name for the container of a job, which nothing else has."""
    said = labels(job, Owner("", 0, "", ""), now)
    return ".".join(["conductor", *(word(said[label]) for label in _NAMED), secrets.token_hex(4)])


def name_ahead() -> str:
    """A name for a container that has no job yet."""
    return f"conductor.ready.{secrets.token_hex(8)}"


def word(text: str) -> str:
    """The text itself if a name can hold it, else a digest of it."""
    return text if _SAFE.fullmatch(text) else f"x{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def known(name: str, of: Mapping[str, str]) -> dict[str, str]:
    """The labels of a container, and over them what its name says."""
    first, *said = name.split(".")
    if first != "conductor" or len(said) != len(_NAMED) + 1:
        return dict(of)
    return {**of, **dict(zip(_NAMED, said[:-1], strict=True))}


def is_predecessor(of: Mapping[str, str], job: SandboxJob) -> bool:
    """True for a container of the same call that this job replaces.

    A later attempt of the same run is not: then this job is the one that came too late.
    """
    if word(of.get(CALL, "")) != word(job.call_id):
        return False
    attempt = of.get(ATTEMPT, "")
    return word(of.get(RUN, "")) != word(job.run_id) or not attempt.isdigit() or int(attempt) <= job.attempt


def fate(of: Mapping[str, str], name: str, me: Owner, held: Set[str], now: float) -> Fate:
    """What becomes of a container of which this is known. `held`: names of what `me` runs or keeps ready."""
    if of.get(OWNER) == str(me):
        return Fate.KEEP_MINE if name in held else Fate.REMOVE_LOST
    deadline = of.get(DEADLINE, "")
    if deadline.isdigit() and int(deadline) < now:
        return Fate.REMOVE_EXPIRED
    owner = Owner.parse(of.get(OWNER, ""))
    if owner is not None and owner.life() is Life.DEAD:
        return Fate.REMOVE_ORPHAN
    return Fate.KEEP_OTHERS
