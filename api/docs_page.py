"""The OpenAPI document as a page for people: plain HTML, no script, nothing from elsewhere."""

import json
from html import escape
from typing import Any

from api.problems import STATUSES

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #8886; padding: .5rem 0 1rem; }
h2 { font-size: 1.1rem; } h2 code { font-size: 1.1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9rem; }
pre { background: #8882; padding: .75rem; overflow-x: auto; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top; }
summary { cursor: pointer; }
"""


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _parameters(operation: dict[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{escape(item['name'])}</code></td><td>{escape(item['in'])}"
        f"{', required' if item.get('required') else ''}</td><td>{escape(item.get('description', ''))}</td></tr>"
        for item in operation.get("parameters", ())
    ]
    return f"<table><tr><th>Parameter</th><th>In</th><th></th></tr>{''.join(rows)}</table>" if rows else ""


def _schema_name(content: dict[str, Any]) -> str | None:
    for media in content.values():
        reference = media.get("schema", {}).get("$ref")
        if reference:
            return str(reference).rpartition("/")[2]
    return None


def _link(name: str | None) -> str:
    return "" if name is None else f' <a href="#schema-{escape(name)}">{escape(name)}</a>'


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody")
    asked = f"<p>Body:{_link(_schema_name(body['content']))}</p>" if body else ""
    answers = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{escape(answer.get('description', ''))}</td>"
        f"<td>{_link(_schema_name(answer.get('content', {})))}</td></tr>"
        for status, answer in sorted(operation["responses"].items())
    )
    return (
        f"<section><h2><code>{escape(method.upper())} {escape(path)}</code> {escape(operation.get('summary', ''))}</h2>"
        f"<p>{escape(operation.get('description', ''))}</p>{_parameters(operation)}{asked}"
        f"<details><summary>Answers</summary><table>{answers}</table></details></section>"
    )


def render(document: dict[str, Any]) -> str:
    """The page."""
    operations = "".join(
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    errors = "".join(
        f'<tr id="{code.value}"><td><code>{code.value}</code></td><td>{status}</td><td>{escape(title)}</td></tr>'
        for code, (status, title) in STATUSES.items()
    )
    schemas = "".join(
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>'
        for name, schema in sorted(document["components"]["schemas"].items())
    )
    info = document["info"]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1>"
        f'<p>{escape(info.get("summary") or "")} For programs: <a href="/openapi.json">openapi.json</a>.</p>'
        f"{operations}<h1>Errors</h1><p>Every error is <code>application/problem+json</code>; programs look at "
        f"<code>code</code>.</p><table><tr><th>Code</th><th>Status</th><th>Meaning</th></tr>{errors}</table>"
        f"<h1>Schemas</h1>{schemas}</body></html>"
    )
