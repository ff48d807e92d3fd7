"""How a method of a resource is written once and called in both ways.

A resource holds a transport. Its methods only describe: an `endpoint` one call, a `procedure` a flow of several, a `listing` a list
that comes in pages, a `streaming` method what comes as it happens. On a resource with a `SyncTransport` they return the result, on one with an `AsyncTransport` something to await; a
type checker knows which, with the parameters as they were written.
"""

from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from conductor_ai.client.paging import AsyncPages, Paged, Pages
from conductor_ai.client.retrying import answered
from conductor_ai.client.steps import Call, Feed, Flow
from conductor_ai.client.streaming import AsyncStream, Stream
from conductor_ai.client.transports import AsyncTransport, SyncTransport

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W", bound=SyncTransport | AsyncTransport)


class Resource(Generic[W]):
    """A part of the API: methods that share a transport."""

    def __init__(self, transport: W) -> None:
        self.transport = transport


class procedure(Generic[P, T]):  # noqa: N801 - read as a decorator
    """A method that is a flow of steps."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self.describe = describe

    @overload
    def __get__(self, at: None, owner: type) -> Self: ...
    @overload
    def __get__(self, at: Resource[SyncTransport], owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, at: Resource[AsyncTransport], owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, at: Any, owner: type) -> Any:
        if at is None:
            return self

        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            return at.transport.run(self.describe(at, *args, **kwargs))

        return update_wrapper(run, self.describe)


def endpoint(describe: Callable[Concatenate[Any, P], Call[T]]) -> procedure[P, T]:
    """A method that is one call."""

    def flow(at: Any, /, *args: P.args, **kwargs: P.kwargs) -> Flow[T]:
        return answered(describe(at, *args, **kwargs), at.transport.options)

    update_wrapper(flow, describe)
    return procedure(flow)


class streaming(Generic[P, T]):  # noqa: N801 - read as a decorator
    """A method whose results come one after the other, for as long as it takes."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Feed[T]]) -> None:
        self.describe = describe

    @overload
    def __get__(self, at: None, owner: type) -> Self: ...
    @overload
    def __get__(self, at: Resource[SyncTransport], owner: type) -> Callable[P, Stream[T]]: ...
    @overload
    def __get__(self, at: Resource[AsyncTransport], owner: type) -> Callable[P, AsyncStream[T]]: ...
    def __get__(self, at: Any, owner: type) -> Any:
        if at is None:
            return self

        def stream(*args: P.args, **kwargs: P.kwargs) -> Any:
            kind = Stream if isinstance(at.transport, SyncTransport) else AsyncStream
            return kind(at.transport, self.describe(at, *args, **kwargs))

        return update_wrapper(stream, self.describe)


class listing(Generic[P, T]):  # noqa: N801 - read as a decorator
    """A method that lists. Nothing is sent before the list is iterated over."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Paged[T]]) -> None:
        self.describe = describe

    @overload
    def __get__(self, at: None, owner: type) -> Self: ...
    @overload
    def __get__(self, at: Resource[SyncTransport], owner: type) -> Callable[P, Pages[T]]: ...
    @overload
    def __get__(self, at: Resource[AsyncTransport], owner: type) -> Callable[P, AsyncPages[T]]: ...
    def __get__(self, at: Any, owner: type) -> Any:
        if at is None:
            return self

        def pages(*args: P.args, **kwargs: P.kwargs) -> Any:
            kind = Pages if isinstance(at.transport, SyncTransport) else AsyncPages
            return kind(at.transport, self.describe(at, *args, **kwargs))

        return update_wrapper(pages, self.describe)
