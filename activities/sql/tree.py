"""Small helpers on libpg_query's protobuf tree. Pure.

Every child is a `Node` with one field set; `inner` takes that wrapper off. Nothing here recurses deeper than protobuf's
own limit of 100 levels, beyond which a tree is refused when it is read.
"""

from collections.abc import Hashable, Iterator
from typing import Any

from postgast import pg_query_pb2 as pg

_PLACES = frozenset({"location", "stmt_location", "stmt_len", "name_location", "rexpr_list_start", "rexpr_list_end"})


def inner(node: Any) -> Any:
    """The concrete message inside of a `Node` wrapper; anything else as it is."""
    if type(node) is pg.Node:
        which = node.WhichOneof("node")
        return getattr(node, which) if which is not None else node
    return node


def children(message: Any) -> list[tuple[str, Any]]:
    """(field, concrete message) of every message right below this one, in order."""
    found: list[tuple[str, Any]] = []
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.is_repeated:
            name = field.name
            found += [(name, inner(item)) for item in value]
        else:
            found.append((field.name, inner(value)))
    return found


def descend(message: Any) -> Iterator[Any]:
    """This message and every one below it."""
    stack = [inner(message)]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(child for _, child in reversed(children(current)))


def key(message: Any) -> Hashable:
    """A value that is equal for equal trees, wherever they stand in the text."""
    message = inner(message)
    parts: list[Hashable] = [message.DESCRIPTOR.name]
    for field, value in message.ListFields():
        if field.name in _PLACES:
            continue
        if field.message_type is None:
            parts.append((field.name, tuple(value) if field.is_repeated else value))
        else:
            parts.append((field.name, tuple(key(item) for item in (value if field.is_repeated else (value,)))))
    return tuple(parts)


def strings(nodes: Any) -> tuple[str, ...]:
    """The texts of a list of String nodes; anything else in it counts as an empty text."""
    found = (inner(node) for node in nodes)
    return tuple(item.sval if isinstance(item, pg.String) else "" for item in found)


def column_path(reference: Any) -> tuple[str, ...]:
    """`a.b.*` as ("a", "b", "*")."""
    found = (inner(node) for node in reference.fields)
    return tuple(item.sval if isinstance(item, pg.String) else "*" for item in found)
