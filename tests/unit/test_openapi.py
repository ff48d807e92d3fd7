"""The OpenAPI document: what it shows is what the routes answer, and what it says leads somewhere."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from api.examples import EXAMPLES
from api.openapi import LINKS
from infra.docs.routes_page import openapi, operations

JSON = "application/json"
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of the API."""
    return openapi()


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    """Each JSON body of a request or an answer is shown, and each refusal with every code that it may have."""
    missing = []
    for method, path, operation in operations(document):
        bodies = {status: answer.get("content", {}) for status, answer in operation["responses"].items()}
        bodies["request"] = operation.get("requestBody", {}).get("content", {})
        for name, content in bodies.items():
            for kind in (JSON, PROBLEM):
                media = content.get(kind)
                if media is not None and not ({"example", "examples"} & media.keys()):
                    missing.append(f"{method} {path} {name}")
    assert missing == []


def test_examples_are_used(document: dict[str, Any]) -> None:
    """Each example is of a shape that the document has: a renamed model would leave its example behind."""
    assert [name for name in EXAMPLES if name not in document["components"]["schemas"]] == []


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    """A program that is generated from the document gets a method for each route, with a name a person would give."""
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    assert all(name.isidentifier() and "v1" not in name for name in names)


def test_links_lead_to_operations_that_take_them(document: dict[str, Any]) -> None:
    """Each link names an operation that has the parameter, and a place in the example of its answer."""
    by_id = {operation["operationId"]: operation for _, _, operation in operations(document)}
    for source, (status, parameter, value, targets) in LINKS.items():
        answer = by_id[source]["responses"][status]
        found: Any = answer["content"][JSON]["example"]
        for part in value.partition("#/")[2].split("/"):
            found = found[int(part)] if isinstance(found, list) else found[part]
        TypeAdapter(str).validate_python(found)
        for target in targets:
            assert parameter in [item["name"] for item in by_id[target]["parameters"]]
            assert answer["links"][target]["operationId"] == target


def test_parameters_are_text(document: dict[str, Any]) -> None:
    """No parameter is said to take null, which text cannot be."""
    schemas = [item["schema"] for _, _, operation in operations(document) for item in operation.get("parameters", ())]
    assert [schema for schema in schemas if {"type": "null"} in schema.get("anyOf", ())] == []
