"""Does a WHERE pick rows, or does it hold for all of them alike? Pure.

Folding is three-valued and careful in one direction only: what might be true for every row without regard to it is no
condition. A parameter or a call without columns has a value, but not one that depends on the row. It knows nothing of
the data (`id > -1` counts as a condition): how many rows are meant is what the trial run tells the person.
"""

from collections.abc import Hashable, Iterable
from enum import Enum
from typing import Any

from postgast import pg_query_pb2 as pg

from activities.sql.tree import column_path, descend, inner, key, strings

LT, EQ, GT = 1, 2, 4
MAX_COMPARED_TERMS = 40
"""Terms of one OR that are compared with each other; nobody writes a longer one by accident that covers everything."""
_COMPARISONS = {"=": EQ, "<>": LT | GT, "<": LT, "<=": LT | EQ, ">": GT, ">=": GT | EQ}
_NEGATIVE = {"<>": "=", "!~~": "~~", "!~~*": "~~*", "!~": "~", "!~*": "~*"}
_ANY_TEXT = ("", ".*", "^.*$", "^", "$", ".*$", "^.*")
_SYMMETRIC = (pg.AEXPR_OP, pg.AEXPR_DISTINCT, pg.AEXPR_NOT_DISTINCT)
_LISTED = (pg.AEXPR_BETWEEN, pg.AEXPR_NOT_BETWEEN, pg.AEXPR_BETWEEN_SYM, pg.AEXPR_NOT_BETWEEN_SYM)


class Truth(Enum):
    """What an expression comes to."""

    TRUE = "true"
    FALSE = "false"
    """False or NULL: no row."""
    CONSTANT = "constant"
    """One value for all rows, which one is not known here; or true wherever it is not NULL."""
    VARIES = "varies"
    """Depends on the row."""


def picks_rows(where: Any, target: Iterable[str]) -> bool:
    """True if the condition depends on the rows of the target.

    Args:
        where: the WHERE as a node.
        target: names under which the target's columns can be qualified (its alias, else its name).
    """
    if fold(where) is not Truth.VARIES:
        return False
    names = set(target)
    paths = (column_path(item) for item in descend(where) if isinstance(item, pg.ColumnRef))
    return any((len(path) == 1 and path[0] != "*") or (len(path) > 1 and path[-2] in names) for path in paths)


def fold(node: Any) -> Truth:
    """Fold one expression."""
    item = inner(node)
    if isinstance(item, pg.BoolExpr):
        return _boolean(item)
    if isinstance(item, pg.A_Expr):
        return _expression(item)
    if isinstance(item, pg.A_Const):
        return _constant(item)
    if isinstance(item, pg.TypeCast):
        return fold(item.arg)
    if isinstance(item, pg.CollateClause):
        return fold(item.arg)
    if isinstance(item, pg.BooleanTest):
        return _boolean_test(item)
    if isinstance(item, pg.CoalesceExpr):
        return fold(item.args[0]) if item.args and fold(item.args[0]) is Truth.TRUE else _by_columns(item)
    if isinstance(item, pg.CaseExpr):
        return _case(item)
    return _by_columns(item)


def _by_columns(item: Any) -> Truth:
    """Anything else varies if it names a column (a `*` of a subquery is none)."""
    item = inner(item)
    if isinstance(item, (pg.A_Const, pg.ParamRef)):
        return Truth.CONSTANT
    if isinstance(item, pg.ColumnRef):
        return Truth.CONSTANT if column_path(item) == ("*",) else Truth.VARIES
    named = (column_path(part) for part in descend(item) if isinstance(part, pg.ColumnRef))
    return Truth.VARIES if any(path != ("*",) for path in named) else Truth.CONSTANT


def _constant(item: pg.A_Const) -> Truth:
    if item.isnull:
        return Truth.FALSE
    which = item.WhichOneof("val")
    if which == "boolval":
        return Truth.TRUE if item.boolval.boolval else Truth.FALSE
    if which == "sval":
        text = item.sval.sval.strip().lower()
        if text in ("t", "true", "y", "yes", "on", "1"):
            return Truth.TRUE
        if text in ("f", "false", "n", "no", "off", "0"):
            return Truth.FALSE
    return Truth.CONSTANT


def _boolean(item: pg.BoolExpr) -> Truth:
    if item.boolop == pg.NOT_EXPR:
        return _not(fold(item.args[0]))
    terms = _flat(item)
    folded = [fold(term) for term in terms]
    if item.boolop == pg.OR_EXPR:
        if Truth.TRUE in folded:
            return Truth.TRUE
        if Truth.CONSTANT in folded or _covers_everything(terms, negate=False):
            return Truth.CONSTANT
        return Truth.VARIES if Truth.VARIES in folded else Truth.FALSE
    if Truth.FALSE in folded or _covers_everything(terms, negate=True):
        return Truth.FALSE
    if Truth.VARIES in folded:
        return Truth.VARIES
    return Truth.CONSTANT if Truth.CONSTANT in folded else Truth.TRUE


def _not(truth: Truth) -> Truth:
    # NOT of NULL is NULL, but FALSE stands for both: the careful reading is that it may become true.
    return {Truth.TRUE: Truth.FALSE, Truth.FALSE: Truth.TRUE}.get(truth, truth)


def _flat(item: pg.BoolExpr) -> list[Any]:
    terms: list[Any] = []
    for argument in item.args:
        term = inner(argument)
        if isinstance(term, pg.BoolExpr) and term.boolop == item.boolop:
            terms.extend(_flat(term))
        else:
            terms.append(term)
    return terms


def _covers_everything(terms: list[Any], *, negate: bool) -> bool:
    """True if the terms, or their negations, joined by OR leave nothing out: `x = 1 OR x <> 1`, `a OR NOT a`."""
    if len(terms) > MAX_COMPARED_TERMS:
        return False
    covered: dict[Hashable, int] = {}
    for term in terms:
        subject, part = _part(term)
        covered[subject] = covered.get(subject, 0) | (part ^ (LT | EQ | GT) if negate else part)
    return LT | EQ | GT in covered.values()


def _part(term: Any) -> tuple[Hashable, int]:
    """What a term is about, and which part of the possibilities it takes in (yes = EQ, no = LT | GT)."""
    if isinstance(term, pg.BoolExpr) and term.boolop == pg.NOT_EXPR:
        subject, part = _part(inner(term.args[0]))
        return subject, part ^ (LT | EQ | GT)
    if isinstance(term, pg.NullTest):
        return ("null", key(term.arg)), EQ if term.nulltesttype == pg.IS_NULL else LT | GT
    if isinstance(term, pg.A_Expr):
        name = strings(term.name)[-1] if term.name else ""
        sides = (term.kind, key(term.lexpr), key(term.rexpr))
        if term.kind == pg.AEXPR_OP and name in _COMPARISONS:
            return ("compare", sides), _COMPARISONS[name]
        return (_NEGATIVE.get(name, name), sides), LT | GT if name in _NEGATIVE else EQ
    return key(term), EQ


def _same(left: Any, right: Any) -> bool:
    """Equal trees, or one column named with and without its table."""
    one, other = inner(left), inner(right)
    if isinstance(one, pg.ColumnRef) and isinstance(other, pg.ColumnRef):
        first, second = column_path(one), column_path(other)
        return first == second or (first[-1] == second[-1] and 1 in (len(first), len(second)))
    return type(one) is type(other) and key(one) == key(other)


def _expression(item: pg.A_Expr) -> Truth:
    name = strings(item.name)[-1] if item.name else ""
    right = inner(item.rexpr)
    if Truth.VARIES not in map(_by_columns, (item.lexpr, item.rexpr)):
        return _compare(item, name)
    if item.kind in _SYMMETRIC and item.HasField("lexpr") and _same(item.lexpr, item.rexpr):
        return Truth.CONSTANT
    return Truth.CONSTANT if _takes_everything(item, name, right) else Truth.VARIES


def _takes_everything(item: Any, name: str, right: Any) -> bool:
    """Lists that hold the column itself, and patterns that fit every text."""
    if isinstance(right, pg.List):
        listed = item.kind == pg.AEXPR_IN or item.kind in _LISTED
        return listed and any(_same(item.lexpr, option) for option in right.items)
    if not isinstance(right, pg.A_Const):
        return False
    text = right.sval.sval
    if item.kind in (pg.AEXPR_LIKE, pg.AEXPR_ILIKE):
        return text != "" and not text.strip("%")
    return item.kind == pg.AEXPR_OP and name in ("~", "~*") and text in _ANY_TEXT


def _compare(item: pg.A_Expr, name: str) -> Truth:
    """Two constants: decided where both are plain numbers or both texts and the operator is = or <>."""
    left, right = inner(item.lexpr), inner(item.rexpr)
    if item.kind == pg.AEXPR_OP and isinstance(left, pg.A_Const) and isinstance(right, pg.A_Const):
        if left.isnull or right.isnull:
            return Truth.FALSE
        if name in ("=", "<>") and left.WhichOneof("val") == right.WhichOneof("val"):
            return Truth.TRUE if (key(left) == key(right)) == (name == "=") else Truth.FALSE
    return Truth.CONSTANT


def _boolean_test(item: pg.BooleanTest) -> Truth:
    truth = fold(item.arg)
    if truth in (Truth.TRUE, Truth.FALSE):
        return Truth.CONSTANT
    return truth


def _case(item: pg.CaseExpr) -> Truth:
    branches = [inner(when) for when in item.args]
    results = [fold(when.result) for when in branches]
    results.append(fold(item.defresult) if item.HasField("defresult") else Truth.FALSE)
    if not item.HasField("arg") and branches and fold(branches[0].expr) is Truth.TRUE:
        return results[0]
    if all(result is Truth.TRUE for result in results):
        return Truth.TRUE
    return _by_columns(item)
