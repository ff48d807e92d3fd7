"""`output_schema`: which schemas are taken, and whether an answer fits one. Pure.

A schema comes from outside and what it is put to comes from a model, so neither may cost more than it looks like:
patterns run in linear time, nothing is fetched, and a schema can neither refer to itself nor double itself by references.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from conductor_ai.contracts.base import Json, JsonObject
from conductor_ai.text import clean_json, first_line

DRAFT = "https://json-schema.org/draft/2020-12/schema"
MOST_CHARACTERS = 32_000
"""Of the schema as JSON without white space."""
DEEPEST = 32
"""Objects and lists within each other, in a schema."""
DEEPEST_OUTPUT = 64
"""The same in an answer: what stores it fails at some hundreds."""
MOST_EXPANDED = 2_000
"""Subschemas, each counted as often as references lead to it: that is what one value may be checked against."""

LONGEST_CHAIN = 100
"""Subschemas within each other, references followed."""

PROBLEMS_SHOWN = 8
PROBLEM_CHARACTERS = 300
SMALL = 100_000
"""Values in an answer times characters of the schema, up to which all problems are looked for. Beyond, the first is told:
the list of all, each with what every alternative of the schema finds wrong, took minutes for an answer of 60 KB."""
MOST_CANDIDATES = 50
"""Places in an answer at which JSON is looked for."""

_REFUSED = ("$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$vocabulary")
_ONE = (
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAP = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_PATTERNS = RegexOptions(size_limit=1_000_000, dfa_size_limit=4_000_000)

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class SchemaProblem:
    """Why a schema is not taken."""

    path: Path
    """Names and positions that lead to the place, from the schema's root."""
    message: str


@dataclass(frozen=True)
class Fits:
    """The value of an answer that fits."""

    value: Json


@dataclass(frozen=True)
class Misfits:
    """Why an answer does not fit, in words that the model can act on."""

    problems: tuple[str, ...]


class _NotTakenError(Exception):
    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.problem = SchemaProblem(path, message)


# Which schemas are taken


def problem_of(schema: JsonObject) -> SchemaProblem | None:
    """Why this is no schema that a session can be given; None if it is one. Repeats nothing of it."""
    try:
        _require(schema)
    except _NotTakenError as error:
        return error.problem
    except ValidationError as error:
        return SchemaProblem(tuple(error.instance_path), _sentence(error))
    return None


def _require(schema: JsonObject) -> None:
    _bounded(schema, (), 0)
    if len(_compact(schema)) > MOST_CHARACTERS:
        raise _NotTakenError((), f"The schema has more than {MOST_CHARACTERS} characters.")
    if schema.get("$schema", DRAFT) not in (DRAFT, f"{DRAFT}#"):
        raise _NotTakenError(("$schema",), "Only JSON Schema draft 2020-12 is taken. Leave $schema out.")
    _Expansion(schema).weigh()
    _compiled(schema)


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _bounded(value: Json, path: Path, depth: int) -> None:
    if not isinstance(value, dict | list):
        return
    if depth >= DEEPEST:
        raise _NotTakenError(path[:4], f"The schema is nested deeper than {DEEPEST}.")
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        _bounded(item, (*path, key), depth + 1)


def _sentence(error: ValidationError) -> str:
    match error.kind.name:
        case "$ref" | "referencing":
            return "A $ref leads nowhere: only references within the schema are taken, as #/$defs/NAME."
        case "format":
            return "A pattern must be a regular expression without look-around and back-references."
        case _:
            return "This is not what JSON Schema (draft 2020-12) takes in this place."


def _compiled(schema: JsonObject) -> Draft202012Validator:
    return Draft202012Validator(schema, offline=True, validate_formats=False, pattern_options=_PATTERNS)


class _Expansion:
    """Counts the subschemas that a value may be checked against, references followed."""

    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._weights: dict[Path, int] = {}
        self._inside: set[Path] = set()

    def weigh(self) -> None:
        """Weigh the whole schema, definitions included.

        Raises:
            _NotTakenError: a reference leads out of it or back to itself, or it becomes too large.
        """
        if self._weigh(self._root, ()) > MOST_EXPANDED:
            raise _NotTakenError((), f"With its references the schema has more than {MOST_EXPANDED} parts.")

    def _weigh(self, schema: Any, path: Path) -> int:
        if not isinstance(schema, dict):
            return 1
        if path in self._weights:
            return self._weights[path]
        if path in self._inside:
            raise _NotTakenError(path, "A schema that refers to itself is not taken.")
        if len(self._inside) > LONGEST_CHAIN:
            raise _NotTakenError(path, f"More than {LONGEST_CHAIN} parts lead to each other here.")
        self._inside.add(path)
        for name in _REFUSED:
            if name in schema:
                raise _NotTakenError((*path, name), f"{name} is not taken. Use $defs, and $ref as #/$defs/NAME.")
        weight = 1 + sum(self._weigh(child, (*path, *at)) for at, child in _children(schema))
        if "$ref" in schema:
            weight += self._weigh(*self._target(schema["$ref"], (*path, "$ref")))
        self._inside.discard(path)
        self._weights[path] = weight
        return weight

    def _target(self, reference: Any, at: Path) -> tuple[Any, Path]:
        parts = [] if "%" in str(reference) else str(reference).split("/")
        found: Any = self._root
        path: Path = ()
        for part in parts[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                parts = []
                break
            found, path = found[name], (*path, name)
        if parts[:1] != ["#"]:
            raise _NotTakenError(at, "Only references within the schema are taken, as #/$defs/NAME.")
        return found, path


def _children(schema: JsonObject) -> Iterator[tuple[Path, Any]]:
    for name in _ONE:
        if name in schema:
            yield (name,), schema[name]
    for name in _LIST:
        for index, child in enumerate(_listed(schema.get(name))):
            yield (name, index), child
    for name in _MAP:
        children = schema.get(name)
        if isinstance(children, dict):
            yield from (((name, key), child) for key, child in children.items())


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


# Whether an answer fits


def read(text: str, schema: JsonObject) -> Fits | Misfits:
    """The JSON value of an answer, if it fits.

    The whole text is taken as JSON; otherwise the first JSON within it that fits, for models that put a fence or a
    sentence around it.
    """
    text_of_schema = _compact(schema)
    validator = _validator(text_of_schema)
    whole = _parsed(text)
    candidates = [whole] if whole is not None else list(_within(text))
    if not candidates:
        return Misfits(("There was no JSON in the answer.",))
    problems: tuple[str, ...] = ()
    for found in candidates:
        problems = _problems(found.value, validator, len(text_of_schema))
        if not problems:
            return found
    return Misfits(problems)


@lru_cache(maxsize=64)
def _validator(schema: str) -> Draft202012Validator:
    return _compiled(json.loads(schema))


def _problems(value: Json, validator: Draft202012Validator, weight: int) -> tuple[str, ...]:
    size = _size(value)
    if size is None:
        return (f"The answer is nested deeper than {DEEPEST_OUTPUT}.",)
    try:
        validator.validate(value)
    except ValidationError as first:
        errors: Iterator[ValidationError] = iter((first,))
        if size * weight <= SMALL:
            errors = islice(validator.iter_errors(value), PROBLEMS_SHOWN)
        return tuple(first_line(f"{_pointer(error)}: {error.message}", PROBLEM_CHARACTERS) for error in errors)
    return ()


def _pointer(error: ValidationError) -> str:
    return "".join(f"/{part}" for part in error.instance_path) or "the whole"


def _parsed(text: str) -> Fits | None:
    try:
        return Fits(clean_json(_DECODER.decode(text.strip())))
    except (ValueError, RecursionError):
        return None


def _within(text: str) -> Iterator[Fits]:
    """Objects and lists in a text, from outside in: what is inside of one that was found is not looked at."""
    at = 0
    for _ in range(MOST_CANDIDATES):
        starts = [found for found in (text.find("{", at), text.find("[", at)) if found >= 0]
        if not starts:
            return
        at = min(starts)
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        yield Fits(clean_json(value))


def _size(value: Json) -> int | None:
    """How many values a value has within it; None if it is nested too deep."""
    level: list[Json] = [value]
    size = 0
    for _ in range(DEEPEST_OUTPUT):
        size += len(level)
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return None if level else size


def _constant(_: str) -> Any:
    raise ValueError("not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large a number")
    return number


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_finite)
