"""A sequence that grows is a tuple to whoever reads it, and what grew out of it does not change it."""

from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.growing import Growing

NUMBERS = st.lists(st.integers(), max_size=5)


@given(st.lists(st.tuples(st.integers(0, 3), NUMBERS), max_size=12))
def test_every_branch_stays_as_it_was(growths: list[tuple[int, list[int]]]) -> None:
    """Grown in any order, also twice from the same one: each is what a tuple grown like that would be."""
    real: list[Growing[int]] = [Growing()]
    model: list[tuple[int, ...]] = [()]
    for back, more in growths:
        at = max(0, len(real) - 1 - back)
        real.append(real[at].and_then(more))
        model.append((*model[at], *more))
    for one, other in zip(real, model, strict=True):
        assert (tuple(one), len(one), list(one[1:])) == (other, len(other), list(other[1:]))
        assert one == other
        assert [one[n] for n in range(-len(other), len(other))] == [*other, *other]


def test_growing_costs_what_is_added() -> None:
    """The newest of ten thousand shares all items with the one before: nothing is copied."""
    one = Growing(range(10_000))
    assert one.and_then([1])._items is one._items
    assert one.and_then([2])._items is not one._items


def test_what_is_not_there_is_not_found() -> None:
    """Beyond its own end there is nothing, even if another one has grown further."""
    one = Growing([1, 2])
    one.and_then([3])
    for index in (2, -3):
        try:
            found = one[index]
        except IndexError:
            continue
        raise AssertionError(found)
