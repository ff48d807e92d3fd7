"""What the demo model answers where an `output_schema` wants a JSON value: the smallest one that common schemas allow."""

from typing import Any

from conductor_ai.contracts.base import Json, JsonObject

PLACEHOLDER = "[demo model] a placeholder"


def example(schema: JsonObject) -> Json:
    """A value for the schema. A script has no answers of its own: it says so wherever text is wanted.

    Patterns and combinations are beyond it; what it makes then does not fit and is refused like any model's mistake.
    """
    return _value(schema, schema)


def _value(schema: Any, root: JsonObject) -> Json:
    if not isinstance(schema, dict):
        return PLACEHOLDER
    if "$ref" in schema:
        found: Any = root
        for part in str(schema["$ref"]).split("/")[1:]:
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return _value(found, root)
    for known in ("const", "default"):
        if known in schema:
            return schema[known]  # type: ignore[no-any-return]
    if schema.get("enum"):
        return schema["enum"][0]  # type: ignore[no-any-return]
    for choice in ("anyOf", "oneOf"):
        if schema.get(choice):
            return _value(schema[choice][0], root)
    return _typed(schema, root)


def _typed(schema: dict[str, Any], root: JsonObject) -> Json:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            properties = schema.get("properties", {})
            return {name: _value(properties.get(name), root) for name in schema.get("required", properties)}
        case "array":
            return [_value(schema.get("items"), root) for _ in range(min(int(schema.get("minItems", 0)), 10))]
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            text = PLACEHOLDER[: int(schema.get("maxLength", len(PLACEHOLDER)))]
            return text.ljust(min(int(schema.get("minLength", 0)), 10_000), ".")


def _number(schema: dict[str, Any]) -> Json:
    step = schema.get("multipleOf", 1)
    if "minimum" in schema:
        return -(-schema["minimum"] // step) * step  # type: ignore[no-any-return]
    if "exclusiveMinimum" in schema:
        return (schema["exclusiveMinimum"] // step + 1) * step  # type: ignore[no-any-return]
    highest = schema.get("maximum", schema.get("exclusiveMaximum", step) - step)
    return min(0, highest // step * step)  # type: ignore[no-any-return]
