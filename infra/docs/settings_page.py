"""`docs/reference/settings.md` and `.env.example`, both from `conductor_ai.settings`."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from conductor_ai.settings import Settings
from infra.docs.markdown import page, table
from infra.docs.source import field_docs, sections

PATH = "conductor_ai/settings.py"


@dataclass(frozen=True)
class Setting:
    """One setting as the documentation shows it."""

    variable: str
    section: str
    kind: str
    default: str
    """As it would be written in the environment; empty if there is none."""
    doc: str
    secret: bool


def settings() -> Iterator[Setting]:
    """Every setting in the order of the code."""
    docs, headings = field_docs(PATH, "Settings"), sections(PATH, "Settings")
    for name, field in Settings.model_fields.items():
        yield Setting(
            variable=field.alias or name,
            section=headings[name].partition(" (")[0],
            kind=_kind(field),
            default=_default(field.default),
            doc=docs.get(name, ""),
            secret=SecretStr in (field.annotation, *get_args(field.annotation)),
        )


def _default(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case tuple():
            return ",".join(str(item) for item in value)
        case Path():
            return value.as_posix()
        case _:
            return str(value)


def _kind(field: FieldInfo) -> str:
    types = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind not in (NoneType, Ellipsis)]
    kind: Any = types[0]
    if isinstance(field.default, tuple):
        return "list, separated by commas"
    if kind is SecretStr:
        return "secret"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f"`{item.value}`" for item in kind)
    words = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}[kind]
    bounds = [text for item in field.metadata if (text := _bound(item))]
    return ", ".join([words, *bounds])


def _bound(item: Any) -> str:
    match item:
        case Ge(ge=low):
            return f"at least {low:,}"
        case Gt(gt=low):
            return f"more than {low:,}"
        case Le(le=high):
            return f"at most {high:,}"
        case Lt(lt=high):
            return f"less than {high:,}"
    pattern = getattr(item, "pattern", None)
    if isinstance(pattern, str) and pattern.startswith("^(") and pattern.endswith(")$"):
        return "one of " + ", ".join(f"`{word}`" for word in pattern[2:-2].split("|"))
    return f"`{pattern}`" if isinstance(pattern, str) else ""


def _by_section() -> dict[str, list[Setting]]:
    found: dict[str, list[Setting]] = {}
    for setting in settings():
        found.setdefault(setting.section, []).append(setting)
    return found


def render() -> str:
    """The page."""
    parts = [
        "Conductor reads its settings from the environment and from a file `.env` in the working directory; the "
        "environment wins, and an empty value counts as not set. What neither of them sets is looked for in the directory "
        "`CONDUCTOR_SECRETS_DIR`, in a file named after the variable. `.env.example` lists them all. A value that cannot work "
        "stops the program with a sentence that names the variable, never its value.",
        "Temporal's own variables for TLS and profiles (`TEMPORAL_TLS`, `TEMPORAL_TLS_CLIENT_CERT_PATH`, `TEMPORAL_PROFILE`, …) "
        "are read by Temporal's client, from the environment alone. An address or namespace that is set here wins over a profile's.",
    ]
    for section, found in _by_section().items():
        rows = [
            (f"`{item.variable}`", item.kind, f"`{item.default}`" if item.default else "–", item.doc) for item in found
        ]
        parts.append(f"## {section}\n\n{table(('variable', 'value', 'default', 'meaning'), rows)}")
    return page("Settings", *parts)


COMPOSE = """
# docker compose alone (docker-compose.yml); `sh infra/docker/prepare.sh` makes passwords and files for keys in secrets/
#CONDUCTOR_IMAGE=conductor:local
#CONDUCTOR_SECRETS=./secrets
#CONDUCTOR_WORKERS=2
# Ports on 127.0.0.1
#CONDUCTOR_PUBLISH_PORT=8080
#TEMPORAL_UI_PUBLISH_PORT=8233
#GRAFANA_PUBLISH_PORT=3000
# Docker's socket, for the sandbox worker, and its group: stat -c %g /var/run/docker.sock
#DOCKER_SOCKET=/var/run/docker.sock
#DOCKER_GID=999
"""


def render_env() -> str:
    """`.env.example`: every setting, commented out, with its default."""
    lines = [
        "# Every setting of Conductor, with its default. Copy to .env and uncomment what you change.",
        "# Made by `python -m infra.docs.generate` from conductor_ai/settings.py.",
    ]
    for section, found in _by_section().items():
        lines += ["", f"## {section}"]
        for item in found:
            lines += [f"# {item.doc}", f"#{item.variable}={item.default}"]
    return "\n".join(lines) + "\n" + COMPOSE
