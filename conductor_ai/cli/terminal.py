"""Questions on a terminal that do not stop the event loop: the session is followed while the person thinks."""

import asyncio
import os

from rich.console import Console
from rich.text import Text

from conductor_ai.cli.deciding import Answer, Choice
from conductor_ai.contracts.views import ApprovalView
from conductor_ai.visible import visible

_WORDS = {
    "a": Answer.APPROVE,
    "approve": Answer.APPROVE,
    "y": Answer.APPROVE,
    "yes": Answer.APPROVE,
    "d": Answer.DENY,
    "deny": Answer.DENY,
    "n": Answer.DENY,
    "no": Answer.DENY,
    "q": Answer.QUIT,
    "quit": Answer.QUIT,
}


class Lines:
    """Reads lines of a terminal (or a pipe) by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = b""
        self._ended = False

    async def next(self) -> str | None:
        """The next line without its end; None when the input has ended."""
        while b"\n" not in self._kept:
            if self._ended:
                return None
            await self._readable()
            piece = os.read(self._descriptor, 4096)
            self._kept += piece
            if not piece:
                self._ended = True
                if self._kept:
                    self._kept += b"\n"
        line, _, self._kept = self._kept.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._descriptor)


class TerminalDecider:
    """Asks the person at the terminal. What the call is has been shown before."""

    def __init__(self, console: Console, descriptor: int) -> None:
        self._console = console
        self._lines = Lines(descriptor)

    async def choose(self, approval: ApprovalView) -> Choice:
        """One answer; the end of the input is `quit`. Anything unclear is asked again: silence never approves."""
        try:
            return await self._choose(approval)
        except asyncio.CancelledError:
            self._console.print()  # What comes next does not belong on the line of the question.
            raise

    async def _choose(self, approval: ApprovalView) -> Choice:
        while True:
            self._prompt(f"{visible(approval.tool)}: [a]pprove, [d]eny or [q]uit? ")
            line = await self._lines.next()
            if line is None:
                return Choice(Answer.QUIT)
            word, _, rest = line.strip().partition(" ")
            answer = _WORDS.get(word.lower())
            if answer is Answer.DENY:
                return Choice(answer, comment=rest.strip() or await self._why())
            if answer is not None and not rest.strip():
                return Choice(answer)
            self._console.print(Text("Answer a, d or q; `d REASON` tells the model why.", style="yellow"))

    async def _why(self) -> str | None:
        self._prompt("Why? The model is told (Enter for no reason): ")
        line = await self._lines.next()
        return line.strip() or None if line is not None else None

    def _prompt(self, text: str) -> None:
        self._console.print(Text(text, style="bold"), end="", soft_wrap=True)
        self._console.file.flush()
