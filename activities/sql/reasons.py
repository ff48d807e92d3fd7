"""Why the gate decided as it did: a closed set, each with a sentence for the model and the person."""

from enum import StrEnum


class Reason(StrEnum):
    """The gate's verdict in one word; `sentence` says it in full."""

    ALLOWED = "allowed"
    EMPTY = "empty"
    NUL = "nul"
    NOT_UNICODE = "not_unicode"
    TOO_LONG = "too_long"
    TOO_COMPLEX = "too_complex"
    SYNTAX = "syntax"
    NOT_ONE_STATEMENT = "not_one_statement"
    STATEMENT_KIND = "statement_kind"
    NODE_KIND = "node_kind"
    NO_WHERE = "no_where"
    CONSTANT_WHERE = "constant_where"
    INTO = "into"
    LOCKING = "locking"
    MERGE = "merge"
    EXPLAIN_RUNS_WRITE = "explain_runs_write"
    LEDGER = "ledger"
    SYSTEM_TABLE = "system_table"
    SECRETS = "secrets"
    FUNCTION_RUNS_SQL = "function_runs_sql"
    FUNCTION_FILES = "function_files"
    FUNCTION_LARGE_OBJECTS = "function_large_objects"
    FUNCTION_SESSIONS = "function_sessions"
    FUNCTION_LOCKS = "function_locks"
    FUNCTION_SLEEPS = "function_sleeps"
    FUNCTION_NOTIFIES = "function_notifies"
    FUNCTION_NETWORK = "function_network"
    FUNCTION_SETTINGS = "function_settings"
    FUNCTION_SERVER = "function_server"
    FUNCTION_VOLATILE = "function_volatile"

    @property
    def sentence(self) -> str:
        """What the word means, and what to do."""
        return SENTENCES[self]


SENTENCES: dict[Reason, str] = {
    Reason.ALLOWED: "The statement may run once a person has approved it.",
    Reason.EMPTY: "There is no statement. Send exactly one.",
    Reason.NUL: "The text holds a NUL character, where a parser stops reading. Remove it.",
    Reason.NOT_UNICODE: "The text holds half of a surrogate pair, which no database takes. Send valid Unicode.",
    Reason.TOO_LONG: "The statement is longer than 64 KB. Pass long values as parameters, or split it.",
    Reason.TOO_COMPLEX: (
        "The statement is too large or too deeply nested to be checked. Split it, or pass many values as one array "
        "parameter (unnest($1::int[]))."
    ),
    Reason.SYNTAX: "The statement is not valid PostgreSQL.",
    Reason.NOT_ONE_STATEMENT: "There is more than one statement. Send exactly one for each call.",
    Reason.STATEMENT_KIND: "Only SELECT, VALUES, INSERT, UPDATE, DELETE, EXPLAIN of these, and SHOW are allowed.",
    Reason.NODE_KIND: "The statement uses a construct that is not on the list of allowed ones.",
    Reason.NO_WHERE: "An UPDATE or DELETE needs a WHERE. Name the rows that it means.",
    Reason.CONSTANT_WHERE: (
        "The WHERE of an UPDATE or DELETE may hold for every row alike (a constant, a parameter alone, or a condition "
        "that is always true). Name the rows that it means by a column of the table."
    ),
    Reason.INTO: "SELECT INTO creates a table. Leave out INTO.",
    Reason.LOCKING: "FOR UPDATE and FOR SHARE hold locks that nothing here needs. Leave the clause out.",
    Reason.MERGE: "MERGE is not allowed. Use INSERT ... ON CONFLICT, UPDATE or DELETE.",
    Reason.EXPLAIN_RUNS_WRITE: "EXPLAIN ANALYZE of a write would run it. Leave out ANALYZE.",
    Reason.LEDGER: "The schema conductor_ledger keeps what has been executed and is not for queries.",
    Reason.SYSTEM_TABLE: "System tables are only read: an UPDATE of pg_settings, for one, is a SET in disguise.",
    Reason.SECRETS: (
        "Settings with a dot in their name belong to applications and may be secrets, and so may what the tables of "
        "roles keep. Ask for a built-in setting, written as a literal."
    ),
    Reason.FUNCTION_RUNS_SQL: "The function runs SQL text or builds queries of its own, which nobody has checked.",
    Reason.FUNCTION_FILES: "The function reads or writes the server's files.",
    Reason.FUNCTION_LARGE_OBJECTS: "The function works on large objects, outside of tables and transactions' limits.",
    Reason.FUNCTION_SESSIONS: "The function looks into, cancels or ends database sessions.",
    Reason.FUNCTION_LOCKS: "The function takes or shows locks.",
    Reason.FUNCTION_SLEEPS: "The function only waits.",
    Reason.FUNCTION_NOTIFIES: "The function sends or shows notifications.",
    Reason.FUNCTION_NETWORK: "The function opens network connections.",
    Reason.FUNCTION_SETTINGS: "The function changes settings of the session, among them the role.",
    Reason.FUNCTION_SERVER: "The function administers or inspects the server itself.",
    Reason.FUNCTION_VOLATILE: (
        "The function is volatile: what it does is not in the statement. Only stable and immutable functions and a "
        "short list of harmless ones may be called."
    ),
}
