"""When to start a child again that has ended on its own. Pure."""

QUICK_SECONDS = 5.0
"""A child that lived shorter than this counts as broken rather than unlucky."""
FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0


def next_quick(quick: int, lived: float) -> int:
    """How many quick deaths in a row there are, after one more death at the age of `lived` seconds."""
    return quick + 1 if lived < QUICK_SECONDS else 0


def restart_delay(quick: int) -> float:
    """Seconds to wait: a tenth for a child that had lived, then double for each quick death in a row, to ten."""
    return float(min(FIRST_DELAY * 2 ** min(quick, 10), LONGEST_DELAY))


def describe_exit(code: int) -> str:
    """What a person should read for an exit code: negative is a signal."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
