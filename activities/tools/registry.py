"""The tools of a worker: found, checked, and asked about by name."""

import importlib
import json
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from activities.tools.base import Arguments, FunctionTool, Tool
from conductor_ai.approvals import SHIPPED, Effect, Subject
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import ProposedCall
from conductor_ai.contracts.tools import Facts, Queue, ToolError, ToolResult, ToolSpec
from conductor_ai.digest import NotCanonicalError, arguments_sha256
from conductor_ai.errors import ConfigurationError
from conductor_ai.text import PREVIEW_BYTES, clean_json, shorten

DEFAULT_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Checked:
    """A proposed call after validation: either ready for the policy, or refused with what the model is told."""

    arguments: JsonObject
    """Validated, defaults filled in; as the model wrote them if refused."""
    sha256: str
    facts: Facts = field(default_factory=Facts)
    refused: ToolResult | None = None


class Registry:
    """Tools by name."""

    def __init__(self, tools: Iterable[Tool[Any]]) -> None:
        self._tools: dict[str, Tool[Any]] = {}
        for tool in tools:
            name = tool.spec.name
            if name in self._tools:
                raise ConfigurationError(f"Two tools are named {name!r}. Rename one of them.")
            self._tools[name] = tool

    def __iter__(self) -> Iterator[Tool[Any]]:
        return iter(self._tools.values())

    def get(self, name: str) -> Tool[Any] | None:
        """The tool of that name."""
        return self._tools.get(name)

    def specs(self, names: Iterable[str]) -> tuple[ToolSpec, ...]:
        """The specs of those tools that are here, as a model sees them."""
        found = (self._tools[name].spec for name in names if name in self._tools)
        return tuple(spec.model_copy(update={"note": None}) for spec in found)

    def check(self, proposed: ProposedCall, enabled: tuple[str, ...]) -> Checked:
        """Validate a call that a model proposed. Whatever is wrong with it becomes an observation, never an error."""
        written = clean_json(proposed.arguments if proposed.arguments is not None else {"raw": proposed.raw or ""})
        tool = self._tools.get(proposed.tool) if proposed.tool in enabled else None
        if tool is None:
            names = ", ".join(enabled) or "none"
            return _refuse(
                written, "unknown_tool", f"There is no tool named {proposed.tool!r} here. Available: {names}."
            )
        if proposed.arguments is None:
            return _refuse(
                written, "invalid_arguments", "The arguments were no JSON object. Send one that fits the schema."
            )
        try:
            arguments = _parse(tool, written)
            filled: JsonObject = arguments.model_dump(mode="json")
            sha256 = arguments_sha256(proposed.tool, filled)
        except ValidationError as error:
            return _refuse(written, "invalid_arguments", _explain(error))
        except NotCanonicalError as error:
            return _refuse(written, "invalid_arguments", str(error))
        return Checked(filled, sha256, tool.facts(arguments))

    def arguments(self, name: str, stored: JsonObject) -> tuple[Tool[Any], Arguments] | None:
        """A stored call's tool and arguments; None if they do not fit this version's schema any more."""
        tool = self._tools.get(name)
        if tool is None:
            return None
        try:
            return tool, _parse(tool, stored)
        except ValidationError:
            return None

    def timeout_seconds(self, name: str, stored: JsonObject) -> float:
        """The tool's own limit for a stored call."""
        found = self.arguments(name, stored)
        return DEFAULT_TIMEOUT_SECONDS if found is None else found[0].timeout(found[1]).total_seconds()

    def queue(self, name: str) -> Queue:
        """The queue that runs a tool."""
        tool = self._tools.get(name)
        return Queue.MAIN if tool is None else tool.spec.queue

    async def close(self) -> None:
        """Close all tools."""
        for tool in self._tools.values():
            await tool.close()


def _parse(tool: Tool[Any], value: JsonObject) -> Arguments:
    # JSON mode: strict models must still take what JSON can only write as text or as a list.
    return tool.arguments.model_validate_json(json.dumps(value))


def surplus(proposed: ProposedCall, most: int) -> Checked:
    """A call beyond the first `most` of one reply: the model is told, nothing is run."""
    return _refuse(
        clean_json(proposed.arguments or {}),
        "too_many_calls",
        f"Only the first {most} calls of a reply are run; this one was not. Propose it again in a later reply.",
    )


def _refuse(written: JsonObject, code: str, message: str) -> Checked:
    try:
        sha256 = arguments_sha256("", written)
    except NotCanonicalError:
        sha256 = ""
    return Checked(
        written, sha256, refused=ToolResult(ok=False, content=message, error=ToolError(code=code, message=message))
    )


def _explain(error: ValidationError) -> str:
    problems = "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'arguments'}: {item['msg']}" for item in error.errors()[:10]
    )
    return f"The arguments do not fit the tool's schema: {problems}. Nothing was run."


def preview(arguments: JsonObject) -> str:
    """The arguments as a person may read them, at most 2 KB: texts as they are, one after the other."""
    lines = [
        f"{name}: {value}" if isinstance(value, str) else f"{name}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in arguments.items()
    ]
    return shorten("\n".join(lines), PREVIEW_BYTES)


def discover(modules: Iterable[ModuleType]) -> list[Tool[Any]]:
    """All tools that modules define at their top level with `@tool`.

    Raises:
        ConfigurationError: a tool's spec promises another approval than the policy gives.
    """
    found: list[Tool[Any]] = [
        value for module in modules for value in vars(module).values() if isinstance(value, FunctionTool)
    ]
    for tool in found:
        asks = SHIPPED.rule(Subject(tool.spec.name, Facts(writes=True))).effect is Effect.ASK
        if tool.spec.requires_approval != asks:
            raise ConfigurationError(f"The tool {tool.spec.name!r} promises another approval than the policy gives.")
    return found


def built_in_modules() -> list[ModuleType]:
    """Every module in `activities.tools`: a tool is one file there."""
    package = importlib.import_module("activities.tools")
    return [importlib.import_module(f"activities.tools.{item.name}") for item in pkgutil.iter_modules(package.__path__)]


def named_modules(names: Iterable[str]) -> list[ModuleType]:
    """Modules that a setting names.

    Raises:
        ConfigurationError: one cannot be imported.
    """
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ImportError as error:
            raise ConfigurationError(
                f"The tool module {name!r} of CONDUCTOR_TOOL_MODULES cannot be imported: {error}. Install it, or check the name."
            ) from error
    return modules
