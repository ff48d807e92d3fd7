"""Questions on a terminal: a pipe stands for the keyboard."""

import asyncio
import io
import os
from collections.abc import Iterator
from typing import TextIO

import pytest
from rich.console import Console

from conductor_ai.cli.deciding import Answer, Choice
from conductor_ai.cli.terminal import Lines, TerminalDecider
from tests.fixtures_cli import approval


class Keyboard:
    """The two ends of a pipe."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()
        self._open = True

    def type(self, text: str) -> None:
        """Types it."""
        os.write(self._writing, text.encode())

    def hang_up(self) -> None:
        """Ends the input."""
        if self._open:
            os.close(self._writing)
            self._open = False

    def close(self) -> None:
        """Closes both ends."""
        self.hang_up()
        os.close(self.reading)


@pytest.fixture
def keyboard() -> Iterator[Keyboard]:
    """A keyboard on which nothing has been typed."""
    board = Keyboard()
    yield board
    board.close()


def on(keyboard: Keyboard, out: TextIO | None = None) -> TerminalDecider:
    """A decider that reads from it."""
    return TerminalDecider(Console(file=out or io.StringIO(), width=200), keyboard.reading)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("a\n", Choice(Answer.APPROVE)),
        (" YES \n", Choice(Answer.APPROVE)),
        ("q\n", Choice(Answer.QUIT)),
        ("d too dear\n", Choice(Answer.DENY, "too dear")),
        ("deny\nbecause of this\n", Choice(Answer.DENY, "because of this")),
        ("n\n\n", Choice(Answer.DENY)),
    ],
)
async def test_what_is_typed_is_understood(keyboard: Keyboard, typed: str, expected: Choice) -> None:
    """Letters and words, in any case; a denial may carry its reason or is asked for it."""
    keyboard.type(typed)
    assert await on(keyboard).choose(approval()) == expected


@pytest.mark.parametrize("unclear", ["", "approve please", "ja", "?", "aa", "approve\x00"])
async def test_what_is_unclear_never_approves(keyboard: Keyboard, unclear: str) -> None:
    """Enter alone, or anything that is not an answer, is asked again."""
    out = io.StringIO()
    keyboard.type(f"{unclear}\nq\n")
    assert await on(keyboard, out).choose(approval()) == Choice(Answer.QUIT)
    assert out.getvalue().count("[a]pprove") == 2


async def test_the_end_of_the_input_is_quit(keyboard: Keyboard) -> None:
    """A closed terminal decides nothing, and a denial without a reason is still one."""
    keyboard.hang_up()
    assert await on(keyboard).choose(approval()) == Choice(Answer.QUIT)


async def test_a_question_can_be_withdrawn_and_asked_again(keyboard: Keyboard) -> None:
    """Nothing typed is lost and no thread stays behind that eats the next line."""
    decider = on(keyboard)
    first = asyncio.create_task(decider.choose(approval()))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    keyboard.type("a\n")
    assert await asyncio.wait_for(decider.choose(approval()), 5) == Choice(Answer.APPROVE)


async def test_lines_come_one_by_one(keyboard: Keyboard) -> None:
    """Several lines in one piece, a line in several, and a last one without an end."""
    lines = Lines(keyboard.reading)
    keyboard.type("one\r\ntwo\nthr")
    assert [await lines.next(), await lines.next()] == ["one", "two"]
    keyboard.type("ee")
    keyboard.hang_up()
    assert [await lines.next(), await lines.next()] == ["three", None]
