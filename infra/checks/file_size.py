"""Files are small because they hold one noun. 300 lines are a sign, 500 the gate; exceptions are listed here and only shrink."""

import subprocess
import sys
from pathlib import Path

GATE = 500
EXCEPTIONS: dict[str, int] = {}
"""Path to the most lines it may have."""


def main() -> int:
    """Return 1 if a file is too long, or an exception is no longer needed."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"],  # noqa: S607 - git is wherever the user has it
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    lengths = {name: len(Path(name).read_text(encoding="utf-8").splitlines()) for name in listed if Path(name).exists()}
    bad = [
        f"{name} has {lines} lines; at most {EXCEPTIONS.get(name, GATE)}: split it by its nouns."
        for name, lines in lengths.items()
        if lines > EXCEPTIONS.get(name, GATE)
    ]
    bad += [f"{name} no longer needs its exception." for name in EXCEPTIONS if lengths.get(name, 0) <= GATE]
    for line in bad:
        print(line, file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
