"""Processor time that means the same on a fast machine, a slow one, and one whose neighbours are busy."""

import gc
import time
from collections.abc import Callable

# What the yardstick takes on the machine in whose milliseconds the limits are written.
_YARDSTICK_MS = 1.7
_NUMBERS = ["1", "22", "333"] * 6_000


def _spent(work: Callable[[], object]) -> float:
    before = time.thread_time()
    work()
    return time.thread_time() - before


def usual_ms(work: Callable[[], object], rounds: int = 3) -> float:
    """Milliseconds of processor time that `work` takes on a usual machine: the best of some rounds against a yardstick.

    The yardstick runs between the rounds, so a machine at half its speed counts half. Python's collector is off meanwhile:
    what it takes grows with what the tests before have left behind, not with the work.
    """
    took, yard = [], []
    gc.disable()
    try:
        for _ in range(rounds):
            yard.append(_spent(lambda: sum(map(int, _NUMBERS))))
            took.append(_spent(work))
            yard.append(_spent(lambda: sum(map(int, _NUMBERS))))
    finally:
        gc.enable()
    return min(took) / min(yard) * _YARDSTICK_MS
