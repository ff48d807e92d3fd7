"""The approval policy: first match wins, everything unknown is asked, and a file that is wrong is refused with its place."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.approvals import SHIPPED, Effect, Policy, Predicate, Rule, Subject
from conductor_ai.contracts.policy import OnExpiry
from conductor_ai.contracts.tools import Facts, SqlClass
from conductor_ai.errors import ConfigurationError
from conductor_ai.policy_file import load_policy

READ = Facts(sql_class=SqlClass.READ)
WRITE = Facts(sql_class=SqlClass.WRITE, writes=True)


@pytest.mark.parametrize(
    ("tool", "facts", "effect"),
    [
        ("web_fetch", Facts(host="example.com"), Effect.ALLOW),
        ("code_run", Facts(), Effect.ALLOW),
        ("sql_query", READ, Effect.ASK),
        ("sql_query", WRITE, Effect.ASK),
        ("sql_query", Facts(sql_class=SqlClass.REFUSED), Effect.DENY),
        ("send_mail", Facts(writes=True), Effect.ASK),
        ("anything", Facts(), Effect.ASK),
    ],
)
def test_shipped(tool: str, facts: Facts, effect: Effect) -> None:
    """What holds without a policy file."""
    assert SHIPPED.rule(Subject(tool, facts)).effect is effect


@pytest.mark.parametrize(
    ("rule", "subject", "matches"),
    [
        ({}, Subject("x"), True),
        ({"tools": ["a", "b"]}, Subject("b"), True),
        ({"tools": ["a", "b"]}, Subject("c"), False),
        ({"hosts": ["example.com"]}, Subject("w", Facts(host="example.com")), True),
        ({"hosts": ["example.com"]}, Subject("w", Facts(host="www.example.com")), False),
        ({"hosts": ["*.example.com"]}, Subject("w", Facts(host="a.b.example.com")), True),
        ({"hosts": ["*.example.com"]}, Subject("w", Facts(host="example.com")), False),
        ({"hosts": ["*.example.com"]}, Subject("w", Facts(host="evilexample.com")), False),
        ({"hosts": ["example.com"]}, Subject("w"), False),
        ({"sql_class": ["read"]}, Subject("s", READ), True),
        ({"sql_class": ["read"]}, Subject("s", WRITE), False),
        ({"writes": False}, Subject("s", WRITE), False),
        ({"models": ["demo"], "orgs": ["o"]}, Subject("s", model="demo", org_id="o"), True),
        ({"models": ["demo"], "orgs": ["o"]}, Subject("s", model="demo", org_id="p"), False),
        ({"cost_usd_at_least": "1.5"}, Subject("s", cost_usd=Decimal("1.5")), True),
        ({"cost_usd_at_least": "1.5"}, Subject("s", cost_usd=Decimal("1.49")), False),
        ({"arguments": {"n": {"max": 5}}}, Subject("s", arguments={"n": 5}), True),
        ({"arguments": {"n": {"max": 5}}}, Subject("s", arguments={"n": 6}), False),
        ({"arguments": {"n": {"max": 5}}}, Subject("s", arguments={"n": True}), False),
        ({"arguments": {"n": {"max": 5}}}, Subject("s", arguments={}), False),
    ],
)
def test_conditions(rule: dict[str, Any], subject: Subject, matches: bool) -> None:
    """Every condition that is given must hold; none is fulfilled by what is absent."""
    given = Rule.model_validate({"name": "r", "effect": "allow", **rule})
    assert given.matches(subject) is matches


@pytest.mark.parametrize(
    ("predicate", "value", "holds"),
    [
        ({"equals": 1}, 1, True),
        ({"equals": 1}, True, False),
        ({"equals": None}, None, True),
        ({"equals": None}, 0, False),
        ({"one_of": ["a", 2]}, 2, True),
        ({"one_of": ["a", 2]}, "2", False),
        ({"matches": "sel.*"}, "select 1", True),
        ({"matches": "sel"}, "select 1", False),
        ({"matches": ".*"}, 5, False),
        ({"matches": "(?s).*"}, "x" * 10_001, False),
        ({"min": 1, "max": 2}, 1.5, True),
        ({"min": 1}, "2", False),
    ],
)
def test_predicates(predicate: dict[str, Any], value: Any, holds: bool) -> None:
    """Types are kept apart, and a pattern must match the whole text."""
    assert Predicate.model_validate(predicate).holds(value) is holds


def test_the_first_rule_wins_and_the_gate_cannot_be_opened() -> None:
    """Order decides; a rule that allows everything still does not let a refused statement run."""
    policy = Policy(
        version="v1",
        rules=(
            Rule(name="not this", tools=("sql_query",), writes=True, effect=Effect.DENY),
            Rule(name="the rest", effect=Effect.ALLOW, on_expiry=OnExpiry.DENY),
        ),
    )
    assert policy.rule(Subject("sql_query", WRITE)).effect is Effect.DENY
    allowed = policy.rule(Subject("sql_query", READ))
    assert (allowed.effect, allowed.rule) == (Effect.ALLOW, "v1: the rest")
    assert policy.rule(Subject("sql_query", Facts(sql_class=SqlClass.REFUSED))).effect is Effect.DENY


def test_a_file_comes_before_what_is_shipped(tmp_path: Path) -> None:
    """The documented example is valid; its rules come first, and what they do not know is decided as shipped."""
    text = (Path(__file__).parents[2] / "docs/how-to/write-an-approval-policy.md").read_text()
    path = tmp_path / "policy.toml"
    path.write_text(text.split("```toml\n", 1)[1].split("```", 1)[0])
    policy = load_policy(path)
    read = Subject("sql_query", READ, {"query": "SELECT sku FROM products WHERE id = 1"})
    assert policy.rule(read).rule == "2026-11: reads of the catalogue"
    several = Subject("sql_query", READ, {"query": "SELECT 1 FROM products; DROP TABLE x"})
    assert policy.rule(several).effect is Effect.ASK
    write = policy.rule(Subject("sql_query", WRITE, {"query": "UPDATE x SET a = 1 WHERE b = 2"}))
    assert (write.effect, write.expires_in, write.on_expiry) == (Effect.ASK, 900, OnExpiry.DENY)
    assert policy.rule(Subject("code_run")).effect is Effect.ALLOW


@pytest.mark.parametrize(
    "text",
    [
        "rules = [",
        "version = 1",
        'version = "1"\n[[rules]]\nname = "x"',
        'version = "1"\n[[rules]]\nname = "x"\neffect = "maybe"',
        'version = "1"\n[[rules]]\nname = "x"\neffect = "allow"\ntool = "sql_query"',
        'version = "1"\n[[rules]]\nname = "x"\neffect = "allow"\narguments.q.matches = "("',
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str) -> None:
    """A worker does not start with a policy that says something else than its author thinks."""
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="approval policy"):
        load_policy(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """Also one that is not there: the shipped policy would be another than the one that was meant."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_policy(tmp_path / "absent.toml")
