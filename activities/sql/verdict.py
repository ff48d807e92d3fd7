"""What the gate says of a statement."""

from enum import StrEnum

from activities.sql.reasons import Reason
from conductor_ai.contracts.base import Contract
from conductor_ai.contracts.tools import SqlClass


class Kind(StrEnum):
    """The outermost statement."""

    SELECT = "SELECT"
    VALUES = "VALUES"
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    EXPLAIN = "EXPLAIN"
    SHOW = "SHOW"
    NONE = "NONE"
    """Refused before it was known."""


class Relation(Contract):
    """A table or view as the statement names it."""

    schema_name: str = ""
    """Empty if the statement names none."""
    name: str

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.name}" if self.schema_name else self.name


class FunctionName(Contract):
    """A function as the statement names it."""

    schema_name: str = ""
    name: str

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.name}" if self.schema_name else self.name


class Verdict(Contract):
    """Whether a statement may be put before a person at all, and what was read from it."""

    reason: Reason
    detail: str = ""
    """The word at fault, for example the function's name; or the parser's message."""
    sql_class: SqlClass
    kind: Kind = Kind.NONE
    text: str = ""
    """The one statement without what surrounds it (a closing semicolon, comments after it)."""
    tables: tuple[Relation, ...] = ()
    """Tables and views, in the order of appearance; names of WITH queries are left out."""
    targets: tuple[Relation, ...] = ()
    """Those that an INSERT, UPDATE or DELETE names as its target."""
    columns: tuple[str, ...] = ()
    """Names of columns (also `*`) as far as the text tells, without their table."""
    functions: tuple[FunctionName, ...] = ()
    operators: tuple[str, ...] = ()
    """Operators by symbol: a database can define its own."""
    types: tuple[str, ...] = ()
    """Types that the statement names, without schema: a database can define its own, with casts and checks."""
    parameters: int = 0
    """The highest $n."""
    writes_inside: bool = False
    """True if a WITH query writes: then the statement cannot become part of another."""
    returns_rows: bool = True
    """False for an INSERT, UPDATE or DELETE without RETURNING."""
    previewable: bool = True
    """False if a trial run would leave something behind (a sequence moved by name)."""

    @property
    def allowed(self) -> bool:
        """True if a person may be asked."""
        return self.reason is Reason.ALLOWED

    @property
    def sentence(self) -> str:
        """The reason in full, with the word at fault."""
        return f"{self.reason.sentence} ({self.detail})" if self.detail else self.reason.sentence


def refused(reason: Reason, detail: str = "", kind: Kind = Kind.NONE) -> Verdict:
    """The verdict of a statement that never runs."""
    return Verdict(reason=reason, detail=detail[:200], sql_class=SqlClass.REFUSED, kind=kind, returns_rows=False)
