"""How a model is asked for an answer that fits a schema: by a format that it is held to, or in words. Pure.

Whatever is sent, the answer is put to the session's own schema afterwards. So a format may be narrower than the schema
(closed objects) or wider (limits that no grammar holds), but never such that nothing could fit both.
"""

import json
from collections.abc import Mapping
from typing import Any

from activities.providers.schemas import KEPT, TOLD
from conductor_ai.contracts.base import JsonObject

IN_WORDS = """\
Give your final answer as exactly one JSON value that fits this JSON Schema (draft 2020-12), without a code fence and \
without any other text:
{schema}"""

_STRUCTURE = frozenset({"type", "properties", "required", "additionalProperties", "items", "anyOf", "oneOf", "$ref"})
_ASIDE = frozenset({"$schema", "$defs", "definitions", "$comment", "deprecated", "readOnly", "writeOnly"})


class _Incompatible(Exception):
    """The schema says something that a format cannot express."""


def in_words(system: str, schema: JsonObject | None) -> str:
    """The system prompt with the schema of the answer, if there is one."""
    if schema is None:
        return system
    told = IN_WORDS.format(schema=json.dumps(schema, ensure_ascii=False))
    return "\n\n".join(part for part in (system.strip(), told) if part)


def closed_format(schema: JsonObject) -> JsonObject | None:
    """The schema in the subset that providers hold a model to, references resolved and objects closed.

    None if it cannot be put so: then it is told in words.
    """
    try:
        return _convert(schema, schema)
    except _Incompatible:
        return None


def response_format(schema: JsonObject) -> JsonObject:
    """`response_format` of a chat completion. `strict` only where the API's own rules for it are met."""
    closed = closed_format(schema)
    strict = closed is not None and closed.get("type") == "object" and _all_required(closed)
    return {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": closed if strict else schema, "strict": strict},
    }


def _all_required(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(_all_required(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict) and set(properties) - set(schema.get("required") or ()):
        return False
    return all(_all_required(item) for item in schema.values())


def _convert(schema: Any, root: JsonObject) -> JsonObject:
    if not isinstance(schema, Mapping) or set(schema) - KEPT - TOLD - _STRUCTURE - _ASIDE:
        raise _Incompatible
    if "$ref" in schema:
        return _reference(schema, root)
    kinds = schema.get("type")
    if isinstance(kinds, list):
        rest = {key: value for key, value in schema.items() if key != "type"}
        return {"anyOf": [_convert({**rest, "type": kind}, root) for kind in kinds]}
    out: JsonObject = {key: value for key, value in schema.items() if key in KEPT}
    told = ", ".join(f"{key}: {value}" for key, value in schema.items() if key in TOLD)
    if told:
        out["description"] = f"{schema.get('description', '')} ({told})".strip()
    variants = schema.get("anyOf", schema.get("oneOf"))
    if variants is not None:
        if "properties" in schema or ("anyOf" in schema and "oneOf" in schema):
            raise _Incompatible  # closing both would leave nothing that fits
        out["anyOf"] = [_convert(variant, root) for variant in variants]
        out.pop("type", None)
    elif kinds == "object":
        out |= _object(schema, root)
    elif kinds == "array":
        out["items"] = _convert(schema.get("items"), root)
    elif "properties" in schema or (kinds is None and "enum" not in schema and "const" not in schema):
        raise _Incompatible  # "anything" has no grammar
    return out


def _object(schema: Mapping[str, Any], root: JsonObject) -> JsonObject:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    # Without the word, further members are allowed but not asked for; with it, they are meant.
    if schema.get("additionalProperties", False) is not False or set(required) - set(properties):
        raise _Incompatible
    return {
        "properties": {name: _convert(child, root) for name, child in properties.items()},
        "required": list(required),
        "additionalProperties": False,
    }


def _reference(schema: Mapping[str, Any], root: JsonObject) -> JsonObject:
    """What a reference leads to. `output_schema` is checked before: it leads somewhere, and not in circles."""
    found: Any = root
    for part in str(schema["$ref"]).split("/")[1:]:
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    if set(schema) - {"$ref", "description", "title", "default"} - _ASIDE:
        raise _Incompatible
    resolved = _convert(found, root)
    return {**resolved, **{key: value for key, value in schema.items() if key in KEPT}}
