"""`output_schema` of a request."""

from api.bodies import invalid
from conductor_ai.contracts.base import JsonObject
from conductor_ai.output_schema import problem_of


def checked_schema(schema: JsonObject | None) -> JsonObject | None:
    """The schema, if it is one that an answer can be put to.

    Raises:
        Refused: it is not; the pointer leads to the place.
    """
    problem = None if schema is None else problem_of(schema)
    if problem is not None:
        raise invalid([{"type": "output_schema", "loc": ("output_schema", *problem.path), "msg": problem.message}])
    return schema
