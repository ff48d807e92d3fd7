"""`output_schema`: what is taken as one, and what fits it."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.outputs import CUT, with_output
from activities.providers.demo_output import example
from activities.providers.output_formats import closed_format, response_format
from activities.providers.react import parse, reply
from conductor_ai.contracts.models import ModelReply, Stop, Usage
from conductor_ai.output_schema import DEEPEST, Fits, Misfits, problem_of, read

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def doubling(levels: int) -> dict[str, Any]:
    ref = [{"$ref": f"#/$defs/d{at}"} for at in range(levels + 1)]
    definitions: dict[str, Any] = {f"d{at}": {"allOf": [ref[at + 1], ref[at + 1]]} for at in range(levels)}
    return {"$defs": {**definitions, f"d{levels}": {"type": "string"}}, **ref[0]}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        PERSON,
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "array", "items": PERSON},
        {"$defs": {"p": PERSON}, "type": "array", "items": {"$ref": "#/$defs/p"}},
        {"anyOf": [{"type": "string", "pattern": "^(a+)+$"}, {"enum": [1, None, {"$ref": "data, not a reference"}]}]},
        {"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}},
        nested(DEEPEST - 1),
        doubling(5),
    ],
)
def test_taken(schema: dict[str, Any]) -> None:
    """Ordinary schemas, references within them, and members that are only named like keywords."""
    assert problem_of(schema) is None


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "strin"}, ("type",)),
        ({"properties": {"a": {"minimum": "x"}}}, ("properties", "a", "minimum")),
        ({"properties": {"a": 3}}, ("properties", "a")),
        ({"required": "a"}, ("required",)),
        ({"pattern": "("}, ("pattern",)),
        ({"pattern": "(?=a)"}, ("pattern",)),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, ("$schema",)),
        ({"items": {"$ref": "http://127.0.0.1/schema"}}, ("items", "$ref")),
        ({"$ref": "#/$defs/none"}, ("$ref",)),
        ({"$ref": "#/%24defs/a", "$defs": {"a": {}}}, ("$ref",)),
        ({"$ref": 3}, ("$ref",)),
        ({"properties": {"a": {"$ref": "#"}}}, ()),
        ({"$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}}, ("$defs", "n")),
        ({"$defs": {"a": {"$id": "http://x"}}}, ("$defs", "a", "$id")),
        ({"$dynamicRef": "#a"}, ("$dynamicRef",)),
        (doubling(12), ()),
        (nested(DEEPEST), ("items",) * 4),
        ({"description": "x" * 40_000}, ()),
        ({"$defs": {**{f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(500)}, "d500": {}}}, ("$defs", "d100")),
    ],
)
def test_refused(schema: dict[str, Any], path: tuple[str, ...]) -> None:
    """What is no schema, leads elsewhere, to itself, or becomes too large; with the place, and without repeating it."""
    problem = problem_of(schema)
    assert problem is not None
    assert problem.path == path
    assert "127.0.0.1" not in problem.message
    assert len(problem.message) < 150


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ada"}',
        ' \n{"name": "Ada"}\n',
        '```json\n{"name": "Ada"}\n```',
        'Here it is: {"name": "Ada"} as you wished.',
        '[demo model] {"name": "Ada"}',
        'Not {"nome": 1} but {"name": "Ada"}',
    ],
)
def test_an_answer_is_found(text: str) -> None:
    """Alone, in a fence, in a sentence, or after another object that does not fit."""
    assert read(text, PERSON) == Fits({"name": "Ada"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Ada", "There was no JSON"),
        ("", "There was no JSON"),
        ("[" * 100_000, "There was no JSON"),
        ('{"name": NaN}', "There was no JSON"),
        ('{"name": 1e999}', "There was no JSON"),
        ('{"person": {"name": "Ada"}}', "the whole"),
        ('{"name": "Ada", "age": -1}', "/age"),
        ('{"name": "Ada", "age": ' + "[" * 70 + "]" * 70 + "}", "nested deeper"),
        (json.dumps({"name": "x" * 5_000}), "/name"),
    ],
)
def test_an_answer_that_does_not_fit(text: str, problem: str) -> None:
    """The model is told where and what, in a line that is short; a part of an object is not taken for the whole."""
    found = read(text, PERSON)
    assert isinstance(found, Misfits)
    assert found.problems[0].startswith(problem) or problem in found.problems[0]
    assert all(len(line) <= 300 for line in found.problems)


def test_all_problems_of_a_small_answer_are_told() -> None:
    """One repair turn is enough for several mistakes."""
    found = read('{"name": 1, "age": "x"}', PERSON)
    assert isinstance(found, Misfits)
    assert sorted(line.partition(":")[0] for line in found.problems) == ["/age", "/name"]


def test_an_answer_that_fits_nothing_is_not_a_way_to_hold_up_a_worker() -> None:
    """60 KB against 700 alternatives took minutes when every problem was looked for."""
    schema: dict[str, Any] = {"items": {"anyOf": [{"type": "string", "const": str(at)} for at in range(700)]}}
    before = time.process_time()
    for text in (json.dumps([1] * 30_000), json.dumps([1] * 48)):
        assert isinstance(read(text, schema), Misfits)
    assert time.process_time() - before < 5


def test_text_is_safe_to_store() -> None:
    """An escaped U+0000 or lone surrogate in the value is replaced like in any text."""
    assert read('{"name": "a\\u0000\\ud800"}', PERSON) == Fits({"name": "a\ufffd\ufffd"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_any_value_fits_a_schema_without_wishes(value: Any) -> None:
    """What is read is the very value; `const` takes it and nothing else."""
    text = json.dumps(value)
    stored = json.loads(text.replace("\\u0000", "\\ufffd"))
    assert read(text, {}) == Fits(stored)
    assert isinstance(read(text, {"const": stored}), Fits)
    assert isinstance(read(text, {"not": {"const": stored}}), Misfits)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_nothing_can_be_made_of_a_schema_but_a_verdict(value: Any) -> None:
    """Whatever is sent as a schema is taken or refused, never an exception."""
    problem_of(value if isinstance(value, dict) else {"items": value, "properties": {"a": value}, "$ref": value})


# From a reply to a verdict


def test_replies_that_are_no_answer_stay_as_they_are() -> None:
    """A refusal, a pause, or a session without a schema."""
    for stop in (Stop.REFUSAL, Stop.PAUSE, Stop.MALFORMED, Stop.CONTEXT_EXCEEDED):
        said = ModelReply(stop=stop, text="no")
        assert with_output(said, PERSON) is said
    said = ModelReply(stop=Stop.END, text="no")
    assert with_output(said, None) is said


def test_an_answer_that_was_cut_is_asked_for_again() -> None:
    """Unless it was whole by then."""
    cut = with_output(ModelReply(stop=Stop.MAX_TOKENS, text='{"name": "A'), PERSON)
    assert (cut.stop, cut.problems) == (Stop.INVALID_OUTPUT, (CUT,))
    whole = with_output(ModelReply(stop=Stop.MAX_TOKENS, text='{"name": "A"}'), PERSON)
    assert (whole.stop, whole.output) == (Stop.END, {"name": "A"})


# How providers are asked


def test_a_format_is_closed_and_without_references() -> None:
    """What providers hold a model to: limits go to the description, `oneOf` becomes `anyOf`, a list of types too."""
    schema: dict[str, Any] = {
        "$defs": {"p": PERSON},
        "type": "object",
        "properties": {
            "who": {"$ref": "#/$defs/p"},
            "or": {"oneOf": [{"type": "null"}, {"type": ["string", "integer"]}]},
        },
        "required": ["who", "or"],
    }
    found = closed_format(schema)
    assert found is not None
    assert found["additionalProperties"] is False
    text = json.dumps(found)
    assert "$ref" not in text
    assert "oneOf" not in text
    assert '"maximum"' not in text
    assert "(maxLength: 20)" in text


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"allOf": [PERSON, {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}]},
        {"type": "object", "properties": {"a": {"not": {}}}},
        {"type": "array"},
        {"properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}]},
        {"type": "object", "required": ["a"]},
    ],
)
def test_what_no_format_expresses_is_told_in_words(schema: dict[str, Any]) -> None:
    """Better no format than one that nothing fits."""
    assert closed_format(schema) is None


def test_strict_only_where_everything_is_required() -> None:
    """The API's own rule for `strict`; without it the schema goes as it is."""
    loose = response_format(PERSON)
    assert loose["json_schema"] == {"name": "output", "schema": PERSON, "strict": False}
    strict = response_format({**PERSON, "required": ["name", "age"]})
    assert isinstance(strict["json_schema"], dict)
    assert strict["json_schema"]["strict"] is True


def test_react_gives_the_value_itself() -> None:
    """A final answer may be an object where a schema is wanted, and only there."""
    text = json.dumps({"thought": "t", "is_final": True, "final_answer": {"name": "Ada"}})
    assert reply(text, Usage(), "r").stop is Stop.MALFORMED
    said = with_output(reply(text, Usage(), "r", structured=True), PERSON)
    assert (said.stop, said.output, said.text) == (Stop.END, {"name": "Ada"}, "t")
    assert not hasattr(parse('{"thought": "t", "is_final": true}', structured=False), "final_answer")


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        {"type": "array", "items": {"type": "number", "minimum": 2.5, "multipleOf": 0.5}, "minItems": 2},
        {"enum": ["a", "b"]},
        {"$defs": {"x": {"const": 7}}, "$ref": "#/$defs/x"},
        {"anyOf": [{"type": "null"}, {"type": "string"}]},
        {"type": "string", "minLength": 40},
        {"type": "integer", "exclusiveMinimum": 4},
        {"type": "integer", "maximum": -4},
        {"type": ["boolean", "null"]},
        {},
    ],
)
def test_the_demo_model_fills_common_schemas(schema: dict[str, Any]) -> None:
    """Its placeholder fits."""
    assert isinstance(read(json.dumps(example(schema)), schema), Fits)
