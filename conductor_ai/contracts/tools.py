"""What a tool is told, what it answers, and what is known of a call before it runs."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from conductor_ai.contracts.base import Contract, Json, JsonObject, Payload


class Category(StrEnum):
    """The kind of a tool, as `GET /v1/tools?category=` filters it."""

    WEB = "web"
    CODE = "code"
    DATABASE = "database"
    OTHER = "other"


class Queue(StrEnum):
    """Which task queue runs a tool: only workers of `sandbox` reach Docker."""

    MAIN = "main"
    SANDBOX = "sandbox"


class SqlClass(StrEnum):
    """What a SQL statement does, as the gate reads it."""

    READ = "read"
    WRITE = "write"
    REFUSED = "refused"


class Facts(Payload):
    """What the approval policy may know of a call. Computed without side effects from validated arguments."""

    writes: bool = False
    """True if running the call can change something outside of Conductor."""
    host: str | None = None
    """The host that a URL names, lower case."""
    sql_class: SqlClass | None = None
    """For SQL: read, write or refused."""
    replayable: bool = False
    """True if a call whose outcome is unknown may simply be run again (reads; writes kept once by a ledger)."""


class ToolSpec(Contract):
    """One tool as `GET /v1/tools` shows it and as the model sees it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    description: str
    """What it does, for the model."""
    category: Category
    parameters: JsonObject
    """JSON Schema (draft 2020-12) of the arguments."""
    requires_approval: bool
    """True if the shipped policy asks a person for every call."""
    queue: Queue = Queue.MAIN
    note: str | None = None
    """What a person should know of this installation of the tool, for example which sandbox is in force."""


class ToolError(Payload):
    """A failure that the model can act on."""

    code: str
    """A stable word, for example `timeout`."""
    message: str
    """A sentence for the model."""


class ToolResult(Payload):
    """The answer of a tool. Untrusted data: it becomes a tool result for the model and nothing else."""

    ok: bool
    content: str
    """Text for the model, at most 32 KB in UTF-8 once it is sent; the store keeps the whole."""
    data: Json = None
    """The same in a form for programs; None where text says it all."""
    truncated: bool = False
    """True if something was cut out of `content` or `data`."""
    error: ToolError | None = None
    """Set exactly if `ok` is false."""
    ask_again: bool = False
    """True if nothing was done because the effect would not have been the approved one: people are asked once more."""


class Column(Payload):
    """One line of evidence that a person sees before deciding."""

    label: str
    value: str


class Consequence(Payload):
    """What a person who decides is shown beside the call itself."""

    summary: str
    """One sentence: what will happen."""
    risk: Literal["low", "medium", "high"] = "medium"
    evidence: tuple[Column, ...] = ()
    """Facts that were looked up: statement kind, tables, estimated rows …; or why they are not available."""
    data: Json = None
    """The same in a form for programs."""
    refused: ToolError | None = None
    """Set if the call can never run (the gate refuses it): nobody is asked, the model is told."""
