"""`fallback_models` of a request."""

from collections.abc import Sequence
from datetime import date

from conductor_ai import catalog
from conductor_ai.contracts.catalog import Model
from conductor_ai.errors import InvalidRequest


def fallback_models(asked: Sequence[str] | None, first: Model, today: date) -> tuple[Model, ...]:
    """The models to go on with, in order.

    Raises:
        InvalidRequest: one is unknown, retired, or named before; the pointer says which.
    """
    found: list[Model] = []
    for index, name in enumerate(asked or ()):
        pointer = f"/fallback_models/{index}"
        try:
            model = catalog.resolve(name, today)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, code=error.code, pointer=pointer) from None
        if model.id in {first.id, *(each.id for each in found)}:
            raise InvalidRequest("This model is tried already; name another one, or leave it out.", pointer=pointer)
        found.append(model)
    return tuple(found)
