"""Text to parse tree, in bounded time whatever the text. Pure.

The bounds come first because the scanner below the parser is not linear: a run of n operator characters costs n
squared (30,000 times `/*` takes seconds), and 64 KB can hold 64,000 tokens whose tree takes a tenth of a second.
"""

import re
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from postgast import PgQueryError, parse, scan
from postgast import pg_query_pb2 as pg

from activities.sql.reasons import Reason

MAX_BYTES = 64 * 1024
MAX_TOKENS = 4_000
"""Words and signs. A statement of fewer bytes than this is not counted."""
MAX_BYTES_OF_A_VIEW = 2 * 1024 * 1024
"""The text of a view comes from the target's owner, in which a thousand columns are no attack."""
MAX_OPERATOR_COST = 4_000_000
"""Sum of the squares of the lengths of operator runs: 2,000 characters in a row, about 10 ms."""

_OPERATORS = re.compile(r"[~!@#^&|`?+\-*/%<>=]{64,}")


@dataclass(frozen=True)
class Refusal:
    """Why there is no tree."""

    reason: Reason
    detail: str = ""


def read(statement: str, *, of_view: bool = False) -> pg.RawStmt | Refusal:
    """The one statement in the text, or the reason why there is none."""
    if "\0" in statement:
        return Refusal(Reason.NUL)
    try:
        encoded = statement.encode()
    except UnicodeEncodeError:
        return Refusal(Reason.NOT_UNICODE)
    if len(encoded) > (MAX_BYTES_OF_A_VIEW if of_view else MAX_BYTES):
        return Refusal(Reason.TOO_LONG, f"{len(encoded)} bytes")
    if sum(len(run) ** 2 for run in _OPERATORS.findall(statement)) > MAX_OPERATOR_COST:
        return Refusal(Reason.TOO_COMPLEX, "a very long run of operator characters")
    try:
        if not of_view and len(encoded) > MAX_TOKENS and len(scan(statement).tokens) > MAX_TOKENS:
            return Refusal(Reason.TOO_COMPLEX, f"more than {MAX_TOKENS} words and signs")
        tree = parse(statement)
    except PgQueryError as error:
        exhausted = "memory exhausted" in error.message or "stack depth" in error.message
        return Refusal(Reason.TOO_COMPLEX) if exhausted else Refusal(Reason.SYNTAX, error.message)
    except DecodeError:
        return Refusal(Reason.TOO_COMPLEX, "nested too deeply")
    except (UnicodeDecodeError, RecursionError, MemoryError):
        return Refusal(Reason.SYNTAX)
    if not tree.stmts:
        return Refusal(Reason.EMPTY)
    if len(tree.stmts) > 1:
        return Refusal(Reason.NOT_ONE_STATEMENT, f"{len(tree.stmts)} statements")
    return tree.stmts[0]


def text_of(statement: str, raw: pg.RawStmt) -> str:
    """The text of that statement alone, without the semicolon that ends it."""
    encoded = statement.encode()
    end = raw.stmt_location + raw.stmt_len if raw.stmt_len else len(encoded)
    return encoded[raw.stmt_location : end].decode().strip()
