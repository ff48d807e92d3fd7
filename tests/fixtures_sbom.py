"""What a CycloneDX 1.6 document must be, as far as infra/docker/sbom.py uses the format.

No package of the environment brings CycloneDX's own schema; it was applied by hand. This one is the part of it that our documents
touch, made stricter: what is named nowhere here is refused, so a new field needs a look into the specification.
"""

from collections import Counter
from typing import Any

import jsonschema_rs

COMPONENT = {
    "type": "object",
    "required": ["type", "bom-ref", "name", "version", "purl"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["library", "platform"]},
        "bom-ref": {"type": "string", "minLength": 1},
        "name": {"type": "string", "minLength": 1},
        "version": {"type": "string", "minLength": 1, "maxLength": 1024},
        "purl": {"type": "string", "pattern": "^pkg:(pypi|deb/debian|generic)/[^@/ ]+@[^@/ ]+$"},
        "licenses": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["expression"],
                "additionalProperties": False,
                "properties": {"expression": {"type": "string", "minLength": 1}},
            },
        },
    },
}
DOCUMENT = {
    "type": "object",
    "required": ["bomFormat", "specVersion", "version", "metadata", "components"],
    "additionalProperties": False,
    "properties": {
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.6"},
        "version": {"type": "integer", "minimum": 1},
        "metadata": {
            "type": "object",
            "required": ["component"],
            "additionalProperties": False,
            "properties": {
                "component": {
                    "type": "object",
                    "required": ["type", "name"],
                    "additionalProperties": False,
                    "properties": {
                        "type": {"const": "container"},
                        "bom-ref": {"type": "string", "minLength": 1},
                        "name": {"type": "string", "minLength": 1},
                    },
                }
            },
        },
        "components": {"type": "array", "minItems": 1, "items": COMPONENT},
    },
}


def is_cyclonedx(document: dict[str, Any]) -> None:
    """Fail unless it is such a document, and every reference in it is unique, which no schema can say."""
    errors = [f"{error.instance_path}: {error.message}" for error in jsonschema_rs.iter_errors(DOCUMENT, document)]
    assert errors == []
    refs = Counter(part["bom-ref"] for part in [document["metadata"]["component"], *document["components"]])
    assert [ref for ref, count in refs.items() if count > 1] == []
