"""Lists that come in pages."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from conductor_ai.client.reading import parsed
from conductor_ai.client.retrying import Options, answered
from conductor_ai.client.steps import Call, Emit, Feed, Request
from conductor_ai.client.transports import AsyncTransport, SyncTransport
from conductor_ai.contracts.answers import Page

T = TypeVar("T")


@dataclass(frozen=True)
class Paged(Generic[T]):
    """A list: its first page, and how the next is found."""

    first: Call[Page[T]]
    parameter: str = "cursor"
    """Of the query, which takes a page's `next_cursor`."""

    def after(self, page: Page[T]) -> Call[Page[T]] | None:
        """The page after this one; None after the last."""
        if not page.has_more or page.next_cursor is None:
            return None
        request = self.first.request
        return replace(self.first, request=replace(request, query={**request.query, self.parameter: page.next_cursor}))


def paged(kind: type[Page[T]], request: Request) -> Paged[T]:
    """The list that begins with this request."""
    return Paged(Call(request, lambda answer: parsed(kind, answer.content)))


def every(paged: Paged[T], options: Options) -> Feed[T]:
    """All entries, page after page; a page is fetched when its first entry is wanted."""
    call: Call[Page[T]] | None = paged.first
    while call is not None:
        page = yield from answered(call, options)
        for item in page.data:
            yield Emit(item)
        call = paged.after(page)


class Pages(Generic[T]):
    """Iterates over all entries, and fetches page after page on the way. `page()` is one page alone."""

    def __init__(self, transport: SyncTransport, paged: Paged[T]) -> None:
        self._transport = transport
        self._paged = paged

    def __iter__(self) -> Iterator[T]:
        return self._transport.iterate(every(self._paged, self._transport.options))

    def page(self) -> Page[T]:
        """The first page: its `next_cursor` is the `cursor` of the next."""
        return self._transport.run(answered(self._paged.first, self._transport.options))


class AsyncPages(Generic[T]):
    """The same with `async for` and `await`."""

    def __init__(self, transport: AsyncTransport, paged: Paged[T]) -> None:
        self._transport = transport
        self._paged = paged

    def __aiter__(self) -> AsyncIterator[T]:
        return self._transport.iterate(every(self._paged, self._transport.options))

    async def page(self) -> Page[T]:
        """The first page: its `next_cursor` is the `cursor` of the next."""
        return await self._transport.run(answered(self._paged.first, self._transport.options))
