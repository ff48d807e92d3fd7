"""The approval policy: which call needs whom. Pure; evaluated by the workflow and again by the activity that acts."""

from enum import StrEnum

from conductor_ai.contracts.base import Contract
from conductor_ai.contracts.tools import Facts, SqlClass


class Effect(StrEnum):
    """What a rule says."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class Ruling(Contract):
    """The answer of the policy, and the rule that gave it."""

    effect: Effect
    rule: str


def rule(tool: str, facts: Facts) -> Ruling:
    """Decide about one call. The first rule that matches wins; anything unknown is asked.

    `web_fetch` and `code_run` are held by the egress check and the sandbox. SQL is asked for every query, reads
    included: what a query shows can matter as much as what a write changes. A statement that the gate refuses is
    not put to anybody: it can never run.
    """
    match tool:
        case "web_fetch" | "code_run":
            return Ruling(effect=Effect.ALLOW, rule=f"shipped: {tool} is allowed")
        case "sql_query" if facts.sql_class is SqlClass.REFUSED:
            return Ruling(effect=Effect.DENY, rule="shipped: statements that the SQL gate refuses never run")
        case "sql_query":
            return Ruling(effect=Effect.ASK, rule="shipped: every SQL query is asked")
        case _:
            return Ruling(effect=Effect.ASK, rule="shipped: any other tool is asked")
