"""`conductor run` follows a session of the real API: by its stream, and what the model writes as it writes it."""

import asyncio

import pytest

from conductor_ai.cli.codes import ExitCode
from conductor_ai.cli.follow import Follower, Shown
from conductor_ai.cli.listening import Words
from conductor_ai.cli.progress import StepTaken
from conductor_ai.client import AsyncConductor
from conductor_ai.stores.access import Role
from tests.fixtures_api import Api
from tests.fixtures_cutting import cutting
from tests.fixtures_servers import wait_until
from tests.fixtures_socket import listening


class Recorder:
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.events: list[Shown] = []

    def show(self, event: Shown) -> None:
        self.events.append(event)

    @property
    def words(self) -> list[str]:
        """What the model was seen to write, and when it fell silent."""
        return [event.text for event in self.events if isinstance(event, Words)]

    @property
    def steps(self) -> list[int]:
        """Numbers of the steps that were shown."""
        return [event.step.step_number for event in self.events if isinstance(event, StepTaken)]


@pytest.mark.parametrize("cut", [False, True], ids=["direct", "cut every 200 ms"])
async def test_words_and_steps_as_they_come(api: Api, *, cut: bool) -> None:
    """Pieces of an answer are shown before it is there, each step once when it is, and the end; a stream that was heard is listened
    to, and the session is looked at when it says so."""
    session_id, shown = await api.start(), Recorder()
    async with (
        listening(api) as port,
        cutting(port) as proxy,
        AsyncConductor(proxy.url if cut else f"http://127.0.0.1:{port}", api.secrets[Role.OPERATOR]) as client,
    ):
        follower = Follower(client, shown, None)
        following = asyncio.create_task(follower.follow(session_id))
        for number in (1, 2, 3):

            async def seen(said: str = f"Piece {number}", number: int = number) -> bool:
                await api.deps.hot.delta(api.org, session_id, number, 1, said)
                return bool(shown.words) and said in shown.words[-1]

            async def taken(number: int = number) -> bool:
                return number in shown.steps

            await wait_until(seen, f"the words of answer {number}")
            assert number not in shown.steps
            await api.hand.step(
                session_id, text=f"Answer {number}.", ask=None if number == 3 else {"query": "SELECT 1"}
            )
            if number < 3:
                await wait_until(taken, f"step {number}")
        await api.hand.finish(session_id)
        ending = await asyncio.wait_for(following, 10)
    assert ending.code is ExitCode.COMPLETED
    assert shown.steps == [1, 2, 3]
    assert shown.words[-1] == ""
