"""What all who watch a session share: plain state, so every order of events and deltas is a few lines."""

from datetime import UTC, datetime

from api import feeds
from api.feeds import WINDOW, Feed, Preview
from conductor_ai.contracts.events import DeltaView, EventView
from conductor_ai.names import event_id
from conductor_ai.stores.events import EventPage
from conductor_ai.stores.hot import Delta

SESSION = "sess_" + "1" * 32


def page(first: int, *types: str, ended: bool = False, call_no: int = 1) -> EventPage:
    """Events in a row from this number on, as of the last of them."""
    events = tuple(
        EventView(
            id=event_id(SESSION, seq),
            session_id=SESSION,
            seq=seq,
            type=kind,
            at=datetime.now(UTC),
            data={"call_no": call_no} if kind == "model.answered" else {},
        )
        for seq, kind in enumerate(types, first)
    )
    return EventPage(events, first + len(types) - 1, ended, 0, False)


def feed_at(version: int = 0, *, answered: int = 0) -> Feed:
    """A feed that begins after this event."""
    return Feed("org", SESSION, EventPage((), version, False, answered, False))


class Redis:
    """Makes pieces in the order of the stream."""

    def __init__(self) -> None:
        self._at = 0

    def piece(self, call_no: int, attempt: int, text: str) -> Delta:
        """The next piece."""
        self._at += 1
        return Delta((self._at, 0), call_no, attempt, text)


def told(preview: Preview, feed: Feed, position: int) -> tuple[int, int, int, str] | None:
    """What a watcher at this position is told next."""
    line = preview.next(feed, position)
    if line is None:
        return None
    found = DeltaView.model_validate_json(line.data)
    return found.call_no, found.attempt, found.offset, found.text


def test_the_window_answers_or_says_that_it_cannot() -> None:
    """Who is near the end gets the rest from memory, in order; who is further behind is sent to Postgres, never a gap."""
    feed = feed_at(10)
    assert feed.since(10) == []
    assert feed.since(9) is None
    feed.publish(page(11, *["x"] * 5))
    assert [line.seq for line in feed.since(12) or ()] == [13, 14, 15]
    assert [line.seq for line in feed.since(10) or ()] == [11, 12, 13, 14, 15]
    assert feed.since(9) is None
    assert feed.since(99) == []
    feed.publish(page(16, *["x"] * (2 * WINDOW)))
    assert feed.since(feed.last - WINDOW - 1) is None
    assert len(feed.since(feed.last - WINDOW) or ()) == WINDOW


def test_the_end_is_known_when_all_is_read() -> None:
    """A page of an ended session that is not its last does not end the feed."""
    feed = feed_at(0)
    first = page(1, "x", "x")
    feed.publish(EventPage(first.events, 3, True, 0, True))
    assert not feed.ended
    feed.publish(page(3, "session.ended", ended=True))
    assert feed.ended


def test_pieces_come_together() -> None:
    """A slow watcher gets in one message what a quick one got in three: nothing is kept for either."""
    feed, stream = feed_at(), Redis()
    quick, slow = Preview(), Preview()
    for text in ("Hel", "lo", "!"):
        feed.hear([stream.piece(1, 1, text)])
        assert told(quick, feed, 0) == (1, 1, {"Hel": 0, "lo": 3, "!": 5}[text], text)
        assert told(quick, feed, 0) is None
    assert told(slow, feed, 0) == (1, 1, 0, "Hello!")


def test_a_dead_attempt_says_nothing_more() -> None:
    """The next attempt begins at 0; what the one before still sends, and what is heard twice, is dropped."""
    feed, stream, preview = feed_at(), Redis(), Preview()
    first = stream.piece(1, 1, "Hel")
    feed.hear([first])
    assert told(preview, feed, 0) == (1, 1, 0, "Hel")
    second = stream.piece(1, 2, "Hello")
    feed.hear([first, second, second, stream.piece(1, 1, "lo")])
    assert told(preview, feed, 0) == (1, 2, 0, "Hello")
    assert told(preview, feed, 0) is None


def test_a_preview_comes_before_the_answer_or_not_at_all() -> None:
    """Who has not been given `model.answered` yet still gets the rest of the reply; who has, or will only later see what
    came before it, does not."""
    feed, stream = feed_at(5), Redis()
    feed.hear([stream.piece(1, 1, "Hello")])
    assert told(Preview(), feed, 4) is None, "first the events that came before the reply"
    assert told(Preview(), feed, 5) == (1, 1, 0, "Hello")
    feed.publish(page(6, "model.attempt", "model.answered"))
    assert told(Preview(), feed, 6) == (1, 1, 0, "Hello")
    assert told(Preview(), feed, 7) is None
    feed.hear([stream.piece(1, 1, "late"), stream.piece(1, 2, "late")])
    assert told(Preview(), feed, 6) == (1, 1, 0, "Hello")
    feed.hear([stream.piece(2, 1, "Next")])
    assert told(Preview(), feed, 7) == (2, 1, 0, "Next")


def test_old_replies_in_redis_are_not_news() -> None:
    """A stream that opens in the middle of a session hears of the calls that have no answer yet, and of no other."""
    feed, stream = feed_at(20, answered=3), Redis()
    feed.hear([stream.piece(2, 1, "old"), stream.piece(3, 1, "old"), stream.piece(4, 1, "new")])
    assert told(Preview(), feed, 20) == (4, 1, 0, "new")


def test_after_a_reset_numbers_begin_again() -> None:
    """A run that took over may use a call's number again: its reply is shown, the one of the run before is not."""
    feed, stream, preview = feed_at(), Redis(), Preview()
    feed.publish(page(1, "model.answered", call_no=3))
    feed.hear([stream.piece(4, 2, "of the old run")])
    assert told(preview, feed, 1) == (4, 2, 0, "of the old run")
    feed.publish(page(2, "session.claimed"))
    assert told(preview, feed, 2) is None
    feed.hear([stream.piece(2, 1, "again")])
    assert told(preview, feed, 2) == (2, 1, 0, "again")


def test_a_reply_without_end_is_cut() -> None:
    """What is kept of one reply is bounded, whatever Redis brings."""
    feed, stream = feed_at(), Redis()
    for _ in range(5):
        feed.hear([stream.piece(1, 1, "x" * (feeds.REPLY_MAX // 2))])
    found = feed.reply(0)
    assert found is not None
    assert len(found[1]) == feeds.REPLY_MAX
