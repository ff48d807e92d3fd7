"""The approval policy: which call needs whom. Pure; evaluated when a call is proposed, and again before it acts.

A policy is a list of rules. The first one that matches decides. Two things no rule can change: a statement that the SQL
gate refuses never runs, and a call that no rule knows is asked.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import Field, field_validator

from conductor_ai.contracts.base import Contract, Json, JsonObject
from conductor_ai.contracts.policy import EXPIRY_MAX_SECONDS, EXPIRY_MIN_SECONDS, Effect, OnExpiry, Ruling
from conductor_ai.contracts.tools import Facts, SqlClass

__all__ = ["SHIPPED", "Effect", "OnExpiry", "Policy", "Predicate", "Rule", "Ruling", "Subject"]

MATCHED_CHARACTERS = 10_000
"""A longer text matches no pattern: what a model wrote must not keep a worker busy."""


@dataclass(frozen=True)
class Subject:
    """What a policy may know of a call."""

    tool: str
    facts: Facts = field(default_factory=Facts)
    arguments: JsonObject = field(default_factory=dict)
    """Validated, defaults filled in."""
    model: str = ""
    org_id: str = ""
    cost_usd: Decimal = Decimal(0)
    """Spent by the session so far."""


class Predicate(Contract):
    """A condition on one argument. All parts that are given must hold; an argument that is absent fulfils none."""

    equals: Json = None
    one_of: tuple[Json, ...] = ()
    matches: str | None = None
    """A regular expression that the whole text must match."""
    min: float | None = None
    max: float | None = None

    @field_validator("matches")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"is no regular expression: {error}") from error
        return value

    def holds(self, value: Any) -> bool:
        """Whether the argument fulfils it."""
        if "equals" in self.model_fields_set and not _same(value, self.equals):
            return False
        if self.one_of and not any(_same(value, item) for item in self.one_of):
            return False
        if self.matches is not None and not (
            isinstance(value, str) and len(value) <= MATCHED_CHARACTERS and re.fullmatch(self.matches, value)
        ):
            return False
        if self.min is None and self.max is None:
            return True
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


def _same(left: Any, right: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return type(left) is type(right) and left == right


class Rule(Contract):
    """Matches a call if every condition that is given does."""

    name: str = Field(min_length=1, max_length=200)
    effect: Effect
    tools: tuple[str, ...] = ()
    """Names; empty means any."""
    arguments: dict[str, Predicate] = Field(default_factory=dict)
    """Conditions on arguments by name."""
    sql_class: tuple[SqlClass, ...] = ()
    hosts: tuple[str, ...] = ()
    """`example.com` is that host alone, `*.example.com` every host below it."""
    models: tuple[str, ...] = ()
    orgs: tuple[str, ...] = ()
    writes: bool | None = None
    cost_usd_at_least: Decimal | None = None
    """Matches once the session has spent so much."""
    expires_in: int | None = Field(None, ge=EXPIRY_MIN_SECONDS, le=EXPIRY_MAX_SECONDS)
    on_expiry: OnExpiry | None = None

    def matches(self, subject: Subject) -> bool:
        """Whether the rule speaks about this call."""
        facts = subject.facts
        return (
            (not self.tools or subject.tool in self.tools)
            and (not self.sql_class or facts.sql_class in self.sql_class)
            and (not self.hosts or any(_host(pattern, facts.host) for pattern in self.hosts))
            and (not self.models or subject.model in self.models)
            and (not self.orgs or subject.org_id in self.orgs)
            and (self.writes is None or facts.writes is self.writes)
            and (self.cost_usd_at_least is None or subject.cost_usd >= self.cost_usd_at_least)
            and all(
                name in subject.arguments and predicate.holds(subject.arguments[name])
                for name, predicate in self.arguments.items()
            )
        )


def _host(pattern: str, host: str | None) -> bool:
    if host is None:
        return False
    pattern = pattern.lower()
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


class Policy(Contract):
    """Rules in order, with a version that every decision is recorded with."""

    version: str = Field(min_length=1, max_length=64)
    rules: tuple[Rule, ...] = ()

    def rule(self, subject: Subject) -> Ruling:
        """Decide about one call. The first rule that matches wins; anything unknown is asked."""
        if subject.facts.sql_class is SqlClass.REFUSED:
            return Ruling(effect=Effect.DENY, rule="fixed: statements that the SQL gate refuses never run")
        for rule in self.rules:
            if rule.matches(subject):
                return Ruling(
                    effect=rule.effect,
                    rule=f"{self.version}: {rule.name}",
                    expires_in=rule.expires_in,
                    on_expiry=rule.on_expiry,
                )
        return Ruling(effect=Effect.ASK, rule=f"{self.version}: any other tool is asked")


SHIPPED = Policy(
    version="shipped",
    rules=(
        # Held by the egress check and by the sandbox.
        Rule(name="web_fetch is allowed", tools=("web_fetch",), effect=Effect.ALLOW),
        Rule(name="code_run is allowed", tools=("code_run",), effect=Effect.ALLOW),
        # Reads included: what a query shows can matter as much as what a write changes.
        Rule(name="every SQL query is asked", tools=("sql_query",), effect=Effect.ASK),
    ),
)
"""The policy without a policy file, and what follows after the rules of one."""
