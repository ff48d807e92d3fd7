"""The documentation says what the code does: a test fails when something is undocumented, stale, dead or made up."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from activities.sandbox.off import OffSandbox
from conductor_ai import names
from conductor_ai.cli.app import app
from conductor_ai.errors import Code
from conductor_ai.settings import Settings
from conductor_ai.wiring.parts import registry_of
from infra.docs import events_page, names_page, routes_page, settings_page
from infra.docs.generate import PAGES, stale
from infra.docs.source import ROOT, class_docs, field_docs, written_events

REFERENCE = ROOT / "docs/reference"
PAGES_BY_HAND = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELLS = ("sh", "bash", "console")


def pages() -> list[Path]:
    """Every page of the documentation."""
    return [*(ROOT / name for name in PAGES_BY_HAND), *sorted((ROOT / "docs").rglob("*.md"))]


def text_of(name: str) -> str:
    """A page of the reference."""
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_no_generated_page_is_stale() -> None:
    """`python -m infra.docs.generate` would write nothing new."""
    assert stale() == [], "run: python -m infra.docs.generate"


def test_generated_pages_are_all_written() -> None:
    """The generator makes the seven pages of the reference and `.env.example`."""
    assert all((ROOT / path).exists() for path in PAGES)
    assert len(PAGES) == 8


def test_every_setting_is_documented() -> None:
    """Each field of Settings has a docstring, stands in settings.md and in .env.example."""
    page, example = text_of("settings.md"), (ROOT / ".env.example").read_text(encoding="utf-8")
    found = list(settings_page.settings())
    assert [item.variable for item in found] == [field.alias for field in Settings.model_fields.values()]
    for item in found:
        assert item.doc, f"{item.variable} has no docstring"
        assert f"| `{item.variable}` |" in page
        assert f"\n#{item.variable}={item.default}\n" in example


def test_defaults_are_read_back_as_they_are(tmp_path: Path) -> None:
    """`.env.example` with every line uncommented gives the settings that nothing at all gives."""
    env = tmp_path / ".env"
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    env.write_text("\n".join(line[1:] for line in lines if re.match(r"#[A-Z_]+=", line)), encoding="utf-8")
    from_example = Settings(_env_file=env)
    plain = Settings(_env_file=None)
    assert from_example.model_dump() == plain.model_dump()


@pytest.mark.parametrize("variable", ["DATABASE_URL", "CONDUCTOR_SQL_URL", "ANTHROPIC_API_KEY", "REDIS_URL"])
def test_secrets_are_marked_as_such(variable: str) -> None:
    """What must not be shown is called a secret."""
    assert next(item for item in settings_page.settings() if item.variable == variable).secret


def test_every_error_code_is_documented() -> None:
    """Each code has a meaning in the enum and a row in errors.md."""
    page, docs = text_of("errors.md"), field_docs("conductor_ai/errors.py", "Code")
    for code in Code:
        assert docs.get(code.name), f"{code} has no docstring"
        assert f"| `{code.value}` |" in page


def test_every_event_is_documented_and_written() -> None:
    """The types in the code and those with a meaning are the same, and each is on the page."""
    written = {event.type for event in written_events()}
    assert written == set(events_page.MEANINGS)
    assert all(f"| `{kind}` |" in text_of("events.md") for kind in written)
    assert len(written) >= 15


def test_events_are_found_in_every_form() -> None:
    """The reader of the source sees plain calls, conditional types and the one insert in SQL."""
    found = {event.type: event for event in written_events()}
    assert found["tool.gave_up"].fields == ("what", "call_id", "attempt", "next_at", "reason")
    assert found["session.created"].fields == ("model", "tools", "max_steps")
    assert found["session.started"].fields == ("run_id",)


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return routes_page.openapi()


def test_every_route_is_documented() -> None:
    """Each operation of the OpenAPI document, and each body, has a heading."""
    page = text_of("routes.md")
    operations = routes_page.operations(document())
    assert len(operations) >= 14
    for method, path, operation in operations:
        assert f"## `{method} {path}`" in page
        assert operation["summary"]
    for shape in document()["components"]["schemas"]:
        assert f"### {shape}\n" in page or shape in ("HTTPValidationError", "ValidationError")


def test_docstrings_of_shapes_reach_the_page() -> None:
    """What a class says under its field is in the table of its shape; a subclass has what its base says."""
    docs = class_docs(*routes_page.SHAPES)
    assert docs["SessionsQuery"]["cursor"] == docs["PageQuery"]["cursor"]
    assert docs["SessionView"]["version"] in text_of("routes.md")


async def test_every_tool_is_documented() -> None:
    """Each tool that a worker can have stands in tools.md and has a page of its own."""
    settings = Settings.model_validate({"sql_url": "postgresql://nobody@127.0.0.1:1/none", "sql_role": "nobody"})
    registry = registry_of(settings, OffSandbox("Not used."))
    page = text_of("tools.md")
    for tool in registry:
        assert f"## {tool.spec.name}\n" in page
        assert (REFERENCE / f"{tool.spec.name}.md").exists(), f"docs/reference/{tool.spec.name}.md is missing"
    await registry.close()


def test_every_search_attribute_is_documented() -> None:
    """Each search attribute has a meaning and a row."""
    page = text_of("search-attributes.md")
    for key in names.SEARCH_ATTRIBUTES:
        assert re.search(rf"\| `{key.name}` \| \w+ \| \S", page)


def test_every_redis_key_is_documented() -> None:
    """Every text in the code that begins like a key of ours is made in names.py, and every one made there is on the page."""
    page = text_of("search-attributes.md")
    for key, doc in names_page.redis_keys():
        assert f"| `{key}` |" in page
        assert doc
    made = [text for text in _texts_in(ROOT / "conductor_ai/names.py") if text.startswith("conductor:")]
    assert len(made) == len(names_page.redis_keys()), "a key in names.py is missing from infra/docs/names_page.py"
    for folder in ("conductor_ai", "api", "activities", "workflows"):
        for file in (ROOT / folder).rglob("*.py"):
            if file.name != "names.py":
                assert not [text for text in _texts_in(file) if re.match(r"conductor:[a-z{]", text)], file


def _texts_in(file: Path) -> list[str]:
    """Constants, and the beginnings of f-strings, in a file."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                found.append(text)
            case ast.Assign(value=ast.Constant(value=str(text))) | ast.AnnAssign(value=ast.Constant(value=str(text))):
                found.append(text)
            case _:
                pass
    return found


# Commands


def commands() -> dict[str, click.Command]:
    """Every command of `conductor` by its words."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        below = getattr(command, "commands", None)
        if below is None:
            yield " ".join(words), command
            return
        for name, item in below.items():
            yield from walk(item, (*words, name))

    return dict(walk(typer.main.get_command(app), ()))


def test_every_command_is_documented() -> None:
    """Each command of the command line stands in cli.md."""
    page = text_of("cli.md")
    assert [name for name in commands() if f"conductor {name}" not in page] == []


def shell_lines(page: Path) -> Iterator[str]:
    """Single commands in the fenced shell blocks of a page; what they print is no command."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in SHELLS:
            continue
        joined = block.replace("\\\n", " ")
        for line in joined.splitlines():
            if language == "console":
                if not line.startswith("$ "):
                    continue
                line = line[2:]
            yield from re.split(r"\s(?:&&|\|\||;|\|)\s", line)


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a here-document or a body over several lines: its first word is enough
        words = line.split()
    while words and re.fullmatch(r"[A-Z_a-z]+=.*", words[0], re.DOTALL):
        words = words[1:]
    return words


def _problem(words: list[str]) -> str | None:
    """Why a command cannot be run; None if it can, or is somebody else's."""
    match words:
        case ["conductor" | ".venv/bin/conductor", *rest]:
            return _conductor_problem(rest)
        case ["make", *rest]:
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            unknown = [word for word in rest if "=" not in word and word not in targets]
            return f"make has no target {unknown}" if unknown else None
        case ["python" | ".venv/bin/python", "-m", module, *_]:
            return None if importlib.util.find_spec(module) else f"there is no module {module}"
        case ["python" | ".venv/bin/python" | "sh", path, *_] if path.endswith((".py", ".sh")):
            return None if (ROOT / path).exists() else f"there is no file {path}"
        case ["curl", *rest]:
            return _curl_problem(rest)
        case _:
            return None


def _conductor_problem(rest: list[str]) -> str | None:
    if rest in (["--version"], ["--help"]):
        return None
    known = commands()
    name = next((" ".join(rest[:count]) for count in (2, 1) if " ".join(rest[:count]) in known), None)
    if name is None:
        return f"there is no command {' '.join(rest[:2])}"
    options = {option for parameter in known[name].params for option in parameter.opts} | {"--help"}
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in options]
    return f"conductor {name} has no option {unknown}" if unknown else None


def _curl_problem(rest: list[str]) -> str | None:
    address = next((word for word in rest if re.search(r"/(v1|health|livez|readyz|openapi|docs)", word)), None)
    if address is None:
        return None
    path = re.sub(r"^.*?(?=/(?:v1|health|livez|readyz|openapi|docs))", "", address).partition("?")[0]
    sends = any(word in ("-d", "--data", "--json") for word in rest) or "POST" in rest
    wanted = "POST" if sends else "GET"
    for method, template, _ in [
        *routes_page.operations(document()),
        ("GET", "/openapi.json", {}),
        ("GET", "/docs", {}),
    ]:
        pattern = re.sub(r"\{[a-z_]+\}", "[^/]+", template)
        if method == wanted and re.fullmatch(pattern, path):
            return None
    return f"there is no route {wanted} {path}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_that_is_shown_exists(page: Path) -> None:
    """Commands of ours in a page's shell blocks exist with these options, routes and files, and so do `conductor …` in the text."""
    problems = [found for line in shell_lines(page) if (found := _problem(_words(line))) is not None]
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for inline in re.findall(r"`conductor ([a-z][a-z -]*)[^`]*`", text):
        words = inline.split()
        if (found := _conductor_problem(words)) is not None and inline.strip() not in _groups():
            problems.append(found)
    assert problems == []


def _groups() -> set[str]:
    return {name.split()[0] for name in commands() if " " in name}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("conductor sing", "there is no command sing"),
        ("conductor dev --colour", "conductor dev has no option ['--colour']"),
        ("make coffee", "make has no target ['coffee']"),
        ("python -m infra.docs.nothing", "there is no module infra.docs.nothing"),
        ("sh infra/nothing.sh", "there is no file infra/nothing.sh"),
        ("curl -s $A/v1/nothing", "there is no route GET /v1/nothing"),
        ('curl $A/v1/agents/$S/cancel -d "{}"', None),
        ("CONDUCTOR_PORT=0 conductor sessions list --limit 3", None),
        ("make install VENV=/tmp/venv", None),
    ],
)
def test_made_up_commands_are_noticed(line: str, problem: str | None) -> None:
    """The check above can fail."""
    assert _problem(_words(line)) == problem


# Links


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_is_dead(page: Path) -> None:
    """Every relative link leads to a file, and its anchor to a heading."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


def test_every_page_can_be_found() -> None:
    """docs/index.md leads to every page below docs/."""
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    missing = [
        page.relative_to(ROOT / "docs").as_posix()
        for page in pages()
        if page.is_relative_to(ROOT / "docs") and page.name != "index.md"
    ]
    assert [path for path in missing if f"({path})" not in index] == []


def test_the_project_speaks_of_itself_alone() -> None:
    """No page has an absolute path of somebody's machine."""
    for page in pages():
        found = re.findall(r"(?<![\w.])/(?:home|root|work|Users)/[\w./-]+", page.read_text(encoding="utf-8"))
        assert found == [], page
