"""`docs/reference/client.md`: every method of the Python client, from its source."""

import ast
import inspect
import re
from pathlib import Path

from conductor_ai.client import Conductor, errors
from conductor_ai.client.endpoint import Resource
from infra.docs.markdown import page, table
from infra.docs.source import ROOT, tree_of

_RESULTS = {"Call": "{}", "Flow": "{}", "Paged": "Pages[{}]", "Feed": "Stream[{}]"}
"""What a method returns, by what its description returns."""


def resources() -> dict[str, ast.ClassDef]:
    """The parts of a client by name, as they are written."""
    with Conductor("http://127.0.0.1:8080") as client:
        parts = {name: type(part) for name, part in vars(client).items() if isinstance(part, Resource)}
    found = {}
    for name, kind in parts.items():
        file = Path(inspect.getfile(kind)).relative_to(ROOT).as_posix()
        [found[name]] = [node for node in tree_of(file).body if getattr(node, "name", "") == kind.__name__]
    return {name: node for name, node in found.items() if isinstance(node, ast.ClassDef)}


def methods(resource: ast.ClassDef) -> list[ast.FunctionDef]:
    """The methods of a part."""
    return [node for node in resource.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def _signature(method: ast.FunctionDef) -> str:
    match method.returns:
        case ast.Subscript(value=ast.Name(id=kind), slice=item) if kind in _RESULTS:
            result = _RESULTS[kind].format(ast.unparse(item))
        case other:
            raise AssertionError(f"{method.name} describes neither a call nor a flow nor a list: {other}")
    arguments = ast.unparse(method.args).removeprefix("self").removeprefix(", ")
    arguments = re.sub(r"(: [^=,]+(?:\[[^\]]*\][^=,]*)?)=", r"\1 = ", arguments)
    one = f"{method.name}({arguments}) -> {result}"
    if len(one) <= 100:
        return one
    parts = re.split(r", (?![^\[]*\])", arguments)
    return "\n".join([f"{method.name}(", *(f"    {part}," for part in parts), f") -> {result}"])


def _text(docstring: str) -> str:
    """A docstring as Markdown: `Args:` becomes a list, `Raises:` and `Returns:` a paragraph."""
    done: list[str] = []
    for block in inspect.cleandoc(docstring).split("\n\n"):
        head, _, rest = block.partition("\n")
        if head not in ("Args:", "Raises:", "Returns:"):
            done.append(" ".join(block.split()))
            continue
        entries: list[str] = []
        for line in rest.splitlines():
            if line.startswith("        "):
                entries[-1] += f" {line.strip()}"
            else:
                entries.append(line.strip())
        if head == "Args:":
            done.append("\n".join(re.sub(r"^(\w+):", r"- `\1`:", entry) for entry in entries))
        else:
            done.append(f"{head} {' '.join(entries)}")
    return "\n\n".join(done)


def render() -> str:
    """The page."""
    parts = [
        "How it is used: [the Python client](../how-to/use-the-python-client.md). The methods are those of `Conductor`; on an "
        "`AsyncConductor` they are awaited, `Pages` are iterated over with `async for`, and a `Stream` likewise. The shapes that they return "
        "are [those of the API](routes.md#shapes).",
    ]
    for name, resource in resources().items():
        parts.append(f"## client.{name}\n\n{_text(ast.get_docstring(resource) or '')}")
        for method in methods(resource):
            signature = f"```python\n{_signature(method)}\n```"
            parts.append(f"### {name}.{method.name}\n\n{signature}\n\n{_text(ast.get_docstring(method) or '')}")
    tree = inspect.cleandoc(errors.__doc__ or "").split("\n\n")
    codes = [(f"`{code}`", f"`{kind.__name__}`", kind.__doc__ or "") for code, kind in sorted(errors.CLASSES.items())]
    parts += [f"## Errors\n\n```text\n{inspect.cleandoc(tree[1])}\n```", tree[2]]
    parts.append(table(("code", "class", "meaning"), codes))
    return page("The Python client", *parts)
