"""A sequence that only grows, for conversations of many thousand turns."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar, overload

T = TypeVar("T")


class Growing(Sequence[T]):
    """Like a tuple, but the same with more at its end costs what is added, not what is there.

    A tuple that is made anew for each step has to be filled, walked through by the garbage collector and emptied each time, which
    is most of what a step of a session with 10,000 turns would cost.
    """

    __slots__ = ("_items", "_length")

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = list(items)
        self._length = len(self._items)

    def and_then(self, more: Sequence[T]) -> "Growing[T]":
        """The same with more. This one stays as it is."""
        grown: Growing[T] = Growing()
        # The list is shared with the one that grew out of this one first; whoever comes second needs its own.
        grown._items = self._items if len(self._items) == self._length else self._items[: self._length]
        grown._items.extend(more)
        grown._length = self._length + len(more)
        return grown

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return islice(self._items, self._length)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self._items[at] for at in range(*index.indices(self._length))]
        return self._items[range(self._length)[index]]

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_equal, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Growing({list(self)!r})"


def _equal(one: object, other: object) -> bool:
    return one == other
