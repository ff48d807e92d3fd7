"""How the client follows a session: what it makes of bytes, and where it goes on when a connection breaks off."""

from collections.abc import Sequence

import pytest

from conductor_ai.client import ConnectionFailed, DeltaView, EventView, NotFound
from conductor_ai.client.steps import Answer, Emit, Lost, Open, Pause, Read, Reply, Request
from conductor_ai.client.streaming import Parser, followed
from tests.fixtures_cli import NOW, SESSION
from tests.unit.test_client_flows import Clock, options, refused

OPENED = Answer(200, {}, b"")
OVER = Answer(204, {}, b"")


def event(seq: int) -> bytes:
    """An event as the server sends it."""
    view = EventView(id=f"evt_{seq}", session_id=SESSION, seq=seq, type="tool.started", at=NOW, data={})
    return f"event: {view.type}\ndata: {view.model_dump_json()}\nid: {seq}\n\n".encode()


def delta(text: str) -> bytes:
    """A piece of an answer."""
    view = DeltaView(session_id=SESSION, call_no=1, attempt=1, offset=0, text=text)
    return f"event: delta\ndata: {view.model_dump_json()}\n\n".encode()


def play(
    replies: Sequence[Reply], *, clock: Clock | None = None, after: int = 0
) -> tuple[list[Request], list[int | str]]:
    """The requests that were opened, and what came: numbers of events, texts of pieces."""
    clock = clock or Clock()
    feed = followed(SESSION, after, deltas=True, options=options(clock))
    asked: list[Request] = []
    got: list[int | str] = []
    left, reply = list(replies), None
    while True:
        try:
            step = feed.send(reply)
        except StopIteration:
            assert not left, "not all replies were asked for"
            return asked, got
        reply = None
        match step:
            case Emit(item):
                got.append(item.seq if isinstance(item, EventView) else item.text)
            case Pause(seconds):
                clock.now += seconds
            case Open(request):
                asked.append(request)
                reply = left.pop(0)
            case Read():
                reply = left.pop(0)
            case other:
                raise AssertionError(other)


def test_messages_are_found_however_they_are_cut() -> None:
    """Byte by byte, with either line end, over two lines of data; comments and names without data are none."""
    raw = b": hello\nretry: 1000\n\nevent: a\r\ndata: 1\r\ndata: \xc3\xa4\r\n\r\nevent: nothing\n\ndata:2\n\n"
    parser = Parser()
    assert [found for byte in raw for found in parser.feed(bytes([byte]))] == [("a", "1\nä"), ("", "2")]
    assert list(Parser().feed(raw)) == [("a", "1\nä"), ("", "2")]


def test_it_goes_on_after_the_last_event() -> None:
    """A connection that is lost, one that ends, and one that is refused for now: no event twice, none left out."""
    asked, got = play(
        [
            *(OPENED, event(1) + delta("He"), event(2), Lost("ReadError")),
            *(OPENED, event(2) + event(3), None),
            refused(503, "store_unavailable", retry_after="1"),
            *(OPENED, event(4), None),
            OVER,
        ]
    )
    assert got == [1, "He", 2, 3, 4]
    assert [request.headers.get("Last-Event-ID") for request in asked] == [None, "2", "3", "3", "4"]
    assert {request.path for request in asked} == {f"/v1/agents/{SESSION}/stream"}


def test_half_a_message_is_none() -> None:
    """What was cut off in the middle comes whole from the next connection."""
    _, got = play([OPENED, event(1)[:-9], None, OPENED, event(1), None, OVER])
    assert got == [1]


def test_it_begins_where_it_is_told_to() -> None:
    """`after` is the last event that the caller has."""
    asked, got = play([OPENED, event(8), None, OVER], after=7)
    assert (asked[0].headers["Last-Event-ID"], got) == ("7", [8])


def test_patience_begins_anew_with_every_event() -> None:
    """Hours of reconnections are no failure as long as something comes; a server that stays away is one."""
    clock = Clock()
    long = [reply for seq in range(1, 200) for reply in (OPENED, event(seq), None)]
    _, got = play([*long, OVER], clock=clock)
    assert len(got) == 199
    with pytest.raises(ConnectionFailed):
        play([OPENED, event(1), *[Lost("ConnectError")] * 100], clock=clock)
    with pytest.raises(ConnectionFailed):
        play([reply for _ in range(100) for reply in (OPENED, None)], clock=clock)


def test_a_refusal_ends_it() -> None:
    """A session that is not there is not asked for again."""
    with pytest.raises(NotFound):
        play([refused(404, "not_found")])
