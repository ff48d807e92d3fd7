"""The sandbox of a worker that has none: it says so."""

from activities.sandbox.base import Check, SandboxJob, SandboxOutcome
from conductor_ai.errors import ToolUnavailable


class OffSandbox:
    """Runs nothing. It lets a worker validate calls that another worker runs."""

    name = "off"

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def describe(self) -> str:
        """Why nothing runs here."""
        return self._reason

    async def check(self) -> Check:
        """Nothing runs."""
        return Check.failed(self._reason)

    async def run(self, _job: SandboxJob, /) -> SandboxOutcome:
        """Refuse the job."""
        raise ToolUnavailable(self._reason)

    async def reap(self) -> int:
        """Nothing was ever started."""
        return 0

    async def close(self) -> None:
        """Nothing is held."""
