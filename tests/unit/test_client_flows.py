"""The client's decisions, without a network: what is repeated and when, what an answer means, where a list ends."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

from api.problems import STATUSES
from conductor_ai.client import (
    ApiError,
    Conductor,
    Conflict,
    ConnectionFailed,
    EngineUnavailable,
    IdempotencyInFlight,
    InvalidRequest,
    NotFound,
    RateLimited,
    ServerError,
    StoreUnavailable,
    Unauthenticated,
    UnexpectedAnswer,
    WaitTimeout,
)
from conductor_ai.client.errors import CLASSES, Problem, of_problem
from conductor_ai.client.paging import every, paged
from conductor_ai.client.reading import reads
from conductor_ai.client.retrying import LONGEST_PAUSE, Options, answered, backoff
from conductor_ai.client.steps import Answer, Call, Emit, Feed, Flow, Lost, Pause, Reply, Request, Send, Step
from conductor_ai.client.waiting import waited
from conductor_ai.contracts.answers import Page, RunAccepted
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.contracts.views import ApprovalView, SessionView
from tests.fixtures_cli import SESSION, approval, session

T = TypeVar("T")

ACCEPTED = {
    "session_id": SESSION,
    "status": "pending",
    "poll_url": "/v1/agents/x",
    "links": {},
    "created_at": "2026-01-02T03:04:05Z",
}
START = Call(Request("POST", "/v1/agents/run", body={}), reads(RunAccepted))


class Clock:
    """Stands still but for the pauses that are played, and for what a server takes."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def options(clock: Clock, patience: float = 20.0, dice: Callable[[float, float], float] = max) -> Options:
    """Options without chance."""
    return Options("http://127.0.0.1:8080", {}, 10.0, patience, clock, dice)


def said(status: int, document: Any = None, **headers: str) -> Answer:
    """An answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, json.dumps(document).encode())


def refused(status: int, code: str, **headers: str) -> Answer:
    """A refusal as the API writes it."""
    return said(status, {"status": status, "code": code, "detail": "It cannot be."}, **headers)


def play(
    flow: Flow[T], clock: Clock, replies: Sequence[Reply], *, took: float = 0.0, sent: list[Send] | None = None
) -> tuple[list[Step], T]:
    """Give these replies to what is sent, each after `took` seconds. Returns all steps, and the result."""
    steps: list[Step] = []
    left, reply = list(replies), None
    while True:
        try:
            step = flow.send(reply)
        except StopIteration as end:
            assert not left, "not all replies were asked for"
            result: T = end.value
            return steps, result
        steps.append(step)
        if sent is not None and isinstance(step, Send):
            sent.append(step)
        if isinstance(step, Pause):
            clock.now, reply = clock.now + step.seconds, None
        else:
            clock.now, reply = clock.now + took, left.pop(0)


def pauses(steps: Sequence[Step]) -> list[float]:
    """How long it waited between attempts."""
    return [step.seconds for step in steps if isinstance(step, Pause)]


def test_one_key_through_all_attempts() -> None:
    """A POST whose answer was lost, and one that came too early, are the same request again: same body, same key."""
    clock = Clock()
    replies: list[Reply] = [Lost("ReadError"), refused(503, "engine_unavailable", retry_after="3"), said(202, ACCEPTED)]
    steps, started = play(answered(START, options(clock)), clock, replies)
    assert started.session_id == SESSION
    requests = [step.request for step in steps if isinstance(step, Send)]
    assert len(requests) == 3
    assert len({request.headers["Idempotency-Key"] for request in requests}) == 1
    assert pauses(steps) == [0.2, 3.0], "a Retry-After is the least that it waits"


def test_another_call_has_another_key() -> None:
    """A key is made for one call: calling again is another request."""
    keys = set()
    for _ in range(2):
        step = next(answered(START, options(Clock())))
        assert isinstance(step, Send)
        keys.add(step.request.headers["Idempotency-Key"])
    assert len(keys) == 2


def test_a_key_of_the_callers_own_is_kept() -> None:
    """The key that recognises a request of another process is the caller's."""
    with Conductor("http://127.0.0.1:9") as client:
        describe = type(client.sessions).run.describe
        step = next(describe(client.sessions, "Hello", idempotency_key="order-7"))
    assert isinstance(step, Send)
    assert step.request.headers["Idempotency-Key"] == "order-7"


def test_reading_carries_no_key() -> None:
    """What changes nothing needs none."""
    step = next(answered(Call(Request("GET", "/v1/tools"), reads(Page[ApprovalView])), options(Clock())))
    assert isinstance(step, Send)
    assert dict(step.request.headers) == {}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Lost("ConnectError"), ConnectionFailed),
        (refused(503, "store_unavailable"), StoreUnavailable),
        (refused(429, "too_many_of_tomorrow", retry_after="1"), RateLimited),
        (said(502, "<html>"), UnexpectedAnswer),
        (refused(409, "idempotency_in_flight", retry_after="1"), IdempotencyInFlight),
    ],
)
def test_what_may_pass_is_repeated_until_patience_ends(reply: Answer | Lost, kind: type[Exception]) -> None:
    """The last failure is what the caller gets; no attempt begins after the patience, and none is made without it."""
    clock = Clock()
    began = clock.now
    with pytest.raises(kind):
        play(answered(START, options(clock, patience=20)), clock, [reply] * 100)
    assert 10 < clock.now - began <= 20
    clock = Clock()
    with pytest.raises(kind):
        play(answered(START, options(clock, patience=0)), clock, [reply])


@pytest.mark.parametrize(
    "reply",
    [refused(422, "unknown_model"), refused(409, "session_ended"), refused(500, "internal"), said(302), said(404)],
)
def test_what_cannot_pass_is_not_repeated(reply: Answer) -> None:
    """A refusal is an answer."""
    clock = Clock()
    with pytest.raises((ApiError, UnexpectedAnswer)):
        play(answered(START, options(clock)), clock, [reply])


def test_a_wait_beyond_patience_is_not_begun() -> None:
    """A server that wants more time than the caller has is not waited for."""
    clock = Clock()
    with pytest.raises(EngineUnavailable) as caught:
        play(answered(START, options(clock)), clock, [refused(503, "engine_unavailable", retry_after="3600")])
    assert caught.value.problem.retry_after == 3600
    assert clock.now == 1000


def test_pauses_grow_to_a_limit_and_are_shaken() -> None:
    """Each is between half and all of one that doubles; a hundred clients do not come back at the same moment."""
    low, high = backoff(options(Clock(), dice=min)), backoff(options(Clock(), dice=max))
    assert [next(high) for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE, LONGEST_PAUSE]
    assert [next(low) for _ in range(3)] == [0.1, 0.2, 0.4]
    real = Options("http://127.0.0.1:9", {}, 1, 1)
    assert len({next(backoff(real)) for _ in range(20)}) > 1


def test_every_code_of_the_server_has_a_class_of_its_own() -> None:
    """Whoever wants to react to one code can catch one class, and it is where its status says."""
    families = {
        401: Unauthenticated,
        404: NotFound,
        409: Conflict,
        412: Conflict,
        422: InvalidRequest,
        503: ServerError,
    }
    for code, (status, _) in STATUSES.items():
        error = of_problem(Problem(status, code.value, "It cannot be."))
        assert type(error).code_of_class == code.value, f"{code} has no class in conductor_ai/client/errors.py"
        assert isinstance(error, families.get(status, ApiError)), code


def test_the_tree_is_drawn_as_it_is() -> None:
    """The drawing at the top of the module names each class below its base, with its code."""
    from conductor_ai.client import errors

    drawn: dict[int, str] = {}
    lines = [line for line in (errors.__doc__ or "").splitlines() if "──" in line]
    for line in lines:
        name, depth = line.split("── ")[1].split()[0], line.index("──") // 4
        drawn[depth] = name
        kind = getattr(errors, name)
        if depth > 1:
            assert kind.__bases__[0].__name__ == drawn[depth - 1], name
        if getattr(kind, "code_of_class", None) is not None:
            assert kind.code_of_class in line, name
    names = {line.split("── ")[1].split()[0] for line in lines}
    assert {kind.__name__ for kind in CLASSES.values()} <= names


def test_an_error_of_tomorrow_is_of_its_family() -> None:
    """An unknown code is sorted by its status, and kept."""
    error = of_problem(Problem(409, "invented_tomorrow", "It cannot be."))
    assert type(error) is Conflict
    assert error.code == "invented_tomorrow"


def test_an_error_says_where_and_under_which_id() -> None:
    """The message is the server's sentence and the fields at fault; the text has code and request id too."""
    document = {
        "status": 422,
        "code": "invalid_request",
        "detail": "Not valid.",
        "errors": [{"pointer": "/max_steps", "message": "Too many."}, {"pointer": "", "message": "Not valid."}],
    }
    with pytest.raises(InvalidRequest) as caught:
        play(answered(START, options(Clock())), Clock(), [said(422, document, x_request_id="req_1")])
    assert caught.value.message == "Not valid. /max_steps: Too many."
    assert str(caught.value) == "Not valid. /max_steps: Too many. (422 invalid_request, request req_1)"
    assert [error.pointer for error in caught.value.problem.errors] == ["/max_steps", ""]


def test_a_newer_server_may_say_more() -> None:
    """Unknown members are passed over at every depth; a word that is not understood is an error that names its place."""
    document = session(1, pending=[approval()]).model_dump(mode="json")
    document["news"] = document["pending_approvals"][0]["news"] = document["pending_approvals"][0]["execution"]["x"] = 1
    assert reads(SessionView)(said(200, document)).pending_approvals[0].tool == "sql_query"
    document["phase"] = "levitating"
    with pytest.raises(UnexpectedAnswer, match=r"SessionView, at phase: enum") as caught:
        reads(SessionView)(said(200, document))
    assert "levitating" not in str(caught.value)


def test_a_list_goes_on_where_its_page_ended() -> None:
    """The cursor is the last page's, the filters stay, and the end is not asked for again."""
    one, two = approval("call_1"), approval("call_2")
    feed = every(paged(Page[ApprovalView], Request("GET", "/v1/approvals", {"status": "pending"})), options(Clock()))
    first = said(200, {"data": [one.model_dump(mode="json")], "next_cursor": "c1", "has_more": True})
    last = said(200, {"data": [two.model_dump(mode="json")], "next_cursor": None, "has_more": False})
    asked, got = gather(feed, [first, last])
    assert [item.id for item in got] == [one.id, two.id]
    assert asked == [{"status": "pending"}, {"status": "pending", "cursor": "c1"}]


def gather(feed: Feed[T], replies: Sequence[Reply]) -> tuple[list[dict[str, str]], list[T]]:
    """The queries of a feed, and what it emits."""
    asked: list[dict[str, str]] = []
    got: list[T] = []
    left, reply = list(replies), None
    while True:
        try:
            step = feed.send(reply)
        except StopIteration:
            assert not left
            return asked, got
        if isinstance(step, Emit):
            got.append(step.item)
            reply = None
        else:
            assert isinstance(step, Send)
            asked.append(dict(step.request.query))
            reply = left.pop(0)


def view(version: int, **more: Any) -> Answer:
    """A session as the API shows it."""
    return Answer(200, {}, session(version, **more).model_dump_json().encode())


def test_waiting_ends_where_a_person_is_needed() -> None:
    """It long-polls from the version that it has, over 304s, and returns at the approval, or at the end if that is wanted."""
    clock = Clock()
    replies = [view(1), Answer(304, {}, b""), view(4, pending=[approval()])]
    steps, found = play(waited(SESSION, "attention", None, options(clock)), clock, replies, took=2)
    assert found.version == 4
    assert [dict(step.request.query) for step in steps if isinstance(step, Send)] == [
        {},
        {"wait": "30.0", "since_version": "1"},
        {"wait": "30.0", "since_version": "1"},
    ]
    assert [step.request.wait for step in steps if isinstance(step, Send)] == [0, 30, 30]
    replies = [view(4, pending=[approval()]), view(9, status=Status.COMPLETED)]
    _, found = play(waited(SESSION, "ended", None, options(clock)), clock, replies)
    assert found.status is Status.COMPLETED


@pytest.mark.parametrize("phase", [Phase.AWAITING_APPROVAL, Phase.AWAITING_INPUT, Phase.PAUSED])
def test_waiting_knows_what_only_people_move(phase: Phase) -> None:
    """All three phases are a person's."""
    _, found = play(waited(SESSION, "attention", 5, options(Clock())), Clock(), [view(1, phase=phase)])
    assert found.phase is phase


def test_waiting_ends_in_time() -> None:
    """The last poll asks for no more than what is left; the error holds the session as it was."""
    clock = Clock()
    sent: list[Send] = []

    with pytest.raises(WaitTimeout) as caught:
        play(waited(SESSION, "ended", 5, options(clock)), clock, [view(1), view(2)], took=4, sent=sent)
    assert caught.value.session.version == 2
    assert [dict(send.request.query) for send in sent] == [{}, {"wait": "1.0", "since_version": "1"}]


def test_a_server_that_does_not_wait_is_not_hammered() -> None:
    """An answer that comes at once without news is followed by a pause."""
    clock = Clock()
    replies = [view(1), view(1, degraded=True), view(1, degraded=True), view(2, status=Status.COMPLETED)]
    steps, _ = play(waited(SESSION, "ended", None, options(clock)), clock, replies)
    assert pauses(steps) == [1.0, 1.0]


def test_ids_cannot_leave_their_place_in_the_path() -> None:
    """An id with a slash or dots stays one segment."""
    with Conductor("http://127.0.0.1:9") as client:
        step = next(type(client.sessions).cancel.describe(client.sessions, "../api-keys?x="))
    assert isinstance(step, Send)
    assert step.request.path == "/v1/agents/..%2Fapi-keys%3Fx%3D/cancel"


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://127.0.0.1", "http://", "", "http://me:secret@127.0.0.1"])
def test_an_address_that_is_none(url: str) -> None:
    """A wrong address is told before anything is sent, and is not repeated."""
    with pytest.raises(ValueError, match="address") as caught:
        Conductor(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["ck_secret\n", "ck_sécret", ""])
def test_a_key_that_is_none_is_not_repeated(key: str) -> None:
    """A key with a line end would break the header; the message does not show it."""
    with pytest.raises(ValueError, match="API key") as caught:
        Conductor("http://127.0.0.1:9", key)
    assert "ck_" not in str(caught.value)


def test_nothing_shows_the_key() -> None:
    """Neither the client nor what it is made of, nor an error and its whole chain."""
    with Conductor("http://127.0.0.1:9/", "ck_secret_of_mine", patience=0) as client:
        shown = [repr(client), repr(client.transport), repr(vars(client)), repr(client.sessions)]
        with pytest.raises(ConnectionFailed, match=r"http://127\.0\.0\.1:9 \(ConnectError\)") as caught:
            client.sessions.get(SESSION)
    error: BaseException | None = caught.value
    while error is not None:
        shown += [repr(error), str(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    assert repr(client) == "Conductor('http://127.0.0.1:9')"
    assert not [text for text in shown if "ck_secret" in text]
