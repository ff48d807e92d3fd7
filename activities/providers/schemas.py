"""Tool schemas in the subset of JSON Schema that providers can hold a model to while it writes (`strict`)."""

from collections.abc import Mapping
from typing import Any

from conductor_ai.contracts.base import JsonObject

KEPT = frozenset({"type", "description", "title", "default", "enum", "const"})
TOLD = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minItems",
        "maxItems",
        "uniqueItems",
        "examples",
    }
)
"""Limits that no grammar holds: the model reads them in the description, and our own validation checks them anyway."""

STRUCTURE = frozenset({"properties", "required", "additionalProperties", "items", "anyOf", "$ref", "$defs"})

MOST_STRICT_TOOLS = 20
MOST_OPTIONAL = 24
MOST_UNIONS = 16
"""The Messages API's limits for one request, all strict tools together."""


class _Incompatible(Exception):
    """The schema says something that the subset cannot express."""


def strict_schema(schema: JsonObject) -> JsonObject | None:
    """The schema in the strict subset, references resolved; None if it cannot be put so without changing its meaning."""
    try:
        if schema.get("type") != "object":
            return None
        return _convert(schema, schema.get("$defs") or {}, ())
    except _Incompatible:
        return None


def weight(schema: Any) -> tuple[int, int]:
    """How many optional properties and how many unions a converted schema has."""
    optional = unions = 0
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            optional += len(set(properties) - set(schema.get("required") or ()))
        unions += "anyOf" in schema
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for child in children:
        more_optional, more_unions = weight(child)
        optional, unions = optional + more_optional, unions + more_unions
    return optional, unions


def _convert(schema: Any, definitions: Any, inside: tuple[str, ...]) -> JsonObject:
    if not isinstance(schema, Mapping) or set(schema) - KEPT - TOLD - STRUCTURE:
        raise _Incompatible
    if "$ref" in schema:
        return _reference(schema, definitions, inside)
    out: JsonObject = {key: value for key, value in schema.items() if key in KEPT}
    told = ", ".join(f"{key}: {value}" for key, value in schema.items() if key in TOLD)
    if told:
        out["description"] = f"{schema.get('description', '')} ({told})".strip()
    if "anyOf" in schema:
        out["anyOf"] = [_convert(variant, definitions, inside) for variant in schema["anyOf"]]
    elif schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            raise _Incompatible
        properties = schema.get("properties", {})
        out["properties"] = {name: _convert(child, definitions, inside) for name, child in properties.items()}
        out["required"] = list(schema.get("required", ()))
        out["additionalProperties"] = False
    elif schema.get("type") == "array":
        out["items"] = _convert(schema.get("items"), definitions, inside)
    elif "type" not in schema and "enum" not in schema and "const" not in schema:
        raise _Incompatible  # "anything" has no grammar
    return out


def _reference(schema: Mapping[str, Any], definitions: Any, inside: tuple[str, ...]) -> JsonObject:
    name = str(schema["$ref"]).removeprefix("#/$defs/")
    if name in inside or name not in definitions:
        raise _Incompatible  # recursive, or from elsewhere
    resolved = _convert(definitions[name], definitions, (*inside, name))
    return {**resolved, **{key: value for key, value in schema.items() if key in KEPT}}
