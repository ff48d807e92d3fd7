"""What only the source text knows: docstrings under fields, section comments, and which events are written."""

import ast
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""


def tree_of(path: str) -> ast.Module:
    """The syntax tree of a file of the checkout."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def _documented(body: list[ast.stmt]) -> dict[str, str]:
    found: dict[str, str] = {}
    for statement, after in pairwise(body):
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                pass
            case _:
                continue
        match after:
            case ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
            case _:
                pass
    return found


def field_docs(path: str, class_name: str | None = None) -> dict[str, str]:
    """The docstring under each field of a class, or under each name of a module."""
    tree = tree_of(path)
    if class_name is None:
        return _documented(tree.body)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name]
    return _documented(classes[0].body)


def class_docs(*paths: str) -> dict[str, dict[str, str]]:
    """The docstrings under the fields of every class in these files, those of its bases included."""
    classes = [node for path in paths for node in tree_of(path).body if isinstance(node, ast.ClassDef)]
    found: dict[str, dict[str, str]] = {}
    for node in classes:  # a base stands before what is made of it
        inherited = [found.get(base.id, {}) for base in node.bases if isinstance(base, ast.Name)]
        found[node.name] = {name: text for docs in inherited for name, text in docs.items()} | _documented(node.body)
    return found


def sections(path: str, class_name: str) -> dict[str, str]:
    """For each annotated field of a class, the comment line (`    # …`) that begins its section."""
    found: dict[str, str] = {}
    section, inside = "", False
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        if line.startswith("class "):
            inside = line.startswith(f"class {class_name}(")
        if not inside:
            continue
        if comment := re.fullmatch(r"    # (.+)", line):
            section = comment[1]
        elif field := re.match(r"    ([a-z_]+): ", line):
            found[field[1]] = section
    return found


@dataclass(frozen=True)
class WrittenEvent:
    """One place in the code that appends an event."""

    type: str
    fields: tuple[str, ...]
    """Names of the body's members, as far as the code spells them out there."""
    path: str


def written_events(folder: str = "conductor_ai/stores") -> list[WrittenEvent]:
    """Every event that the stores append: calls of `.event(…)`, and types inside SQL that inserts into the table."""
    found: list[WrittenEvent] = []
    for file in sorted((ROOT / folder).glob("*.py")):
        path = file.relative_to(ROOT).as_posix()
        functions = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        named, seen = _constants(tree_of(path)), set[int]()
        for function in reversed(functions):  # inner ones first: their names are their own
            for node in ast.walk(function):
                if not isinstance(node, ast.Call) or id(node) in seen:
                    continue
                seen.add(id(node))
                found += [WrittenEvent(kind, fields, path) for kind, fields in _events_of(node, function, named)]
    return found


def _constants(module: ast.Module) -> dict[str, ast.Constant]:
    """Texts that a module gives a name."""
    return {
        target.id: value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(value := node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _events_of(call: ast.Call, function: ast.AST, named: dict[str, ast.Constant]) -> list[tuple[str, tuple[str, ...]]]:
    args = [named.get(arg.id, arg) if isinstance(arg, ast.Name) else arg for arg in call.args]
    match ast.Call(func=call.func, args=args, keywords=[]):
        case ast.Call(func=ast.Attribute(attr="event"), args=[kind, body, *_]):
            return [(name, _members(body, function)) for name in _texts(kind)]
        case ast.Call(args=[ast.Constant(value=str(sql)), *rest]) if "INSERT INTO conductor.events" in sql:
            fields = next((_members(item, function) for item in rest if isinstance(item, ast.Dict)), ())
            return [(name, fields) for name in re.findall(r"'([a-z_]+\.[a-z_]+)'", sql)]
        case _:
            return []


def _texts(node: ast.expr) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp(body=body, orelse=orelse):
            return _texts(body) + _texts(orelse)
        case _:
            return []


def _members(node: ast.expr, function: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        for other in ast.walk(function):
            match other:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict() as value) if name == node.id:
                    node = value
                    break
                case _:
                    pass
    if not isinstance(node, ast.Dict):
        return ()
    return tuple(str(key.value) for key in node.keys if isinstance(key, ast.Constant))
